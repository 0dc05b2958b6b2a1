/* SPDX-License-Identifier: Apache-2.0 */
/* The index of images and the calls that run a worker: see store.h. */
#include "image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "image/health.h"
#include "ipc/ipc.h"
#include "ipc/spawner.h"
#include "ipc/worker.h"
#include "image/store_internal.h"

#define ID_PREFIX_MIN 8 /* digits that may stand for an id */
#define PULLS_MAX 256	/* waiting and under way */

/* --- the index --- */

static void forget_names(struct image_store *s, struct image *im)
{
	for (size_t i = 0; i < im->record.tags.n; i++)
		if (map_get(&s->by_name, im->record.tags.v[i]) == im)
			map_remove(&s->by_name, im->record.tags.v[i]);
	for (size_t i = 0; i < im->record.digests.n; i++)
		if (map_get(&s->by_name, im->record.digests.v[i]) == im)
			map_remove(&s->by_name, im->record.digests.v[i]);
}

void image_drop(struct image_store *s, struct image *im)
{
	forget_names(s, im);
	map_remove(&s->by_id, im->record.id);
	list_remove(&im->in_order);
	image_record_fini(&im->record);
	strbuf_fini(&im->list_item);
	free(im);
}

static bool pinned(const struct image_store *s, const struct image *im)
{
	for (size_t i = 0; s->config->image.pinned[i]; i++) {
		_cleanup_reference_ struct reference r = REFERENCE_NULL;

		if (reference_parse(s->config->image.pinned[i], &r, NULL) == 0 &&
		    (strv_contains(&im->record.tags, r.text) ||
		     strv_contains(&im->record.digests, r.text)))
			return true;
	}
	return false;
}

/* A tag is of one image, the one that took it last: a crash may have left it in another's record. */
static void take_tag(struct image_store *s, const char *tag, const struct image *from)
{
	struct image *im = map_get(&s->by_name, tag);
	struct strv *v;
	size_t n = 0;

	if (!im || im == from)
		return;
	map_remove(&s->by_name, tag); /* its key is about to go */
	v = &im->record.tags;
	for (size_t i = 0; i < v->n; i++) {
		if (streq(v->v[i], tag))
			free(v->v[i]);
		else
			v->v[n++] = v->v[i];
	}
	v->n = n;
	v->v[n] = NULL;
	strbuf_fini(&im->list_item);
}

/* Takes the record over.  Answers may come in another order than the changes were made. */
static void put(struct image_store *s, struct image_record *r, uint64_t seq)
{
	struct image *im = map_get(&s->by_id, r->id);
	bool removing = im && im->removing && im->record.pulled_at == r->pulled_at;

	if (im && im->seq > seq) {
		image_record_fini(r);
		return;
	}
	if (im) {
		forget_names(s, im);
		map_remove(&s->by_id, im->record.id);
		image_record_fini(&im->record);
		strbuf_fini(&im->list_item);
	} else {
		im = xcalloc(1, sizeof(*im));
		list_append(&s->images, &im->in_order);
	}
	im->record = *r;
	im->seq = seq;
	im->removing = removing; /* until it is pulled anew */
	im->pinned = pinned(s, im);
	map_put(&s->by_id, im->record.id, im);
	for (size_t i = 0; i < im->record.tags.n; i++) {
		take_tag(s, im->record.tags.v[i], im);
		map_put(&s->by_name, im->record.tags.v[i], im);
	}
	for (size_t i = 0; i < im->record.digests.n; i++)
		map_put(&s->by_name, im->record.digests.v[i], im);
}

struct list *image_list(struct image_store *s)
{
	return &s->images;
}

static struct image *find_prefix(struct image_store *s, const char *hex)
{
	size_t n = strlen(hex);
	struct image *im, *found = NULL;

	if (n < ID_PREFIX_MIN || strspn(hex, "0123456789abcdef") != n)
		return NULL;
	list_for_each (im, &s->images, in_order) {
		if (strncmp(im->record.id, hex, n) != 0)
			continue;
		if (found)
			return NULL;
		found = im;
	}
	return found;
}

int image_find_any(struct image_store *s, const char *ref, struct image **ret, struct err *e)
{
	_cleanup_reference_ struct reference r = REFERENCE_NULL;
	const char *hex = str_has_prefix(str_or_empty(ref), "sha256:") ? ref + 7 : ref;
	int res;

	if (str_empty(ref))
		return err_invalid(e, "image: must not be empty");
	*ret = map_get(&s->by_id, hex);
	if (*ret && !(*ret)->removing)
		return 0;
	*ret = NULL;
	res = hex == ref ? reference_parse(ref, &r, e) : -EINVAL;
	if (res == 0)
		*ret = map_get(&s->by_name, r.text);
	if (!*ret && r.digest && r.tag) { /* name:tag@digest: the digest decides */
		_cleanup_free_ char *by_digest = xasprintf("%s@%s", r.name, r.digest);

		*ret = map_get(&s->by_name, by_digest);
	}
	if (!*ret)
		*ret = find_prefix(s, hex);
	if (*ret && !(*ret)->removing)
		return 0;
	*ret = NULL;
	if (res < 0 && hex == ref)
		return res;
	return err_not_found(e, "image \"%s\" is not on this node", ref);
}

int image_find(struct image_store *s, const char *ref, struct image **ret, struct err *e)
{
	int r = image_find_any(s, ref, ret, e);

	if (r == 0 && image_damaged(*ret)) {
		r = err_not_found(e, "image \"%s\" is damaged and has to be pulled anew: %s", ref,
				  (*ret)->record.damaged);
		*ret = NULL;
	}
	return r;
}

/* --- start --- */

/* A disk that has lost what was synced: such an image can be pulled again, not used. */
static int check_layers(const struct image_store *s, const struct image_record *rec, struct err *e)
{
	for (size_t i = 0; i < rec->layers.n; i++) {
		_cleanup_free_ char *dir =
			xasprintf("%s/layers/%s", s->config->root, rec->layers.v[i]);
		_cleanup_free_ char *record = xasprintf("%s.json", dir);

		if (!fs_exists(AT_FDCWD, dir) || !fs_exists(AT_FDCWD, record))
			return err_not_found(e, "its layer %s is not there", rec->layers.v[i]);
	}
	return 0;
}

static void load_record(struct image_store *s, int dirfd, const char *name, struct image_record **v,
			size_t *n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct image_record rec;
	struct err e = ERR_NULL;
	int r = fs_read(dirfd, name, IMAGE_RECORD_MAX, &b);

	if (r < 0)
		r = err_errno(&e, r, "read it");
	else
		r = image_record_parse(str_or_empty(b.s), b.len, &rec, &e);
	if (r == 0 && strncmp(rec.id, name, ID_LEN) != 0) {
		r = err_invalid(&e, "it is of another image, %s", rec.id);
		image_record_fini(&rec);
	}
	if (r == 0 && str_empty(rec.damaged) && check_layers(s, &rec, &e) < 0) {
		log_error("image %s is not used: %s", rec.id, e.msg);
		free(rec.damaged);
		rec.damaged = xstrdup(e.msg);
	}
	if (r < 0) {
		_cleanup_free_ char *aside = xasprintf("%s.damaged", name);

		log_error("image record %s/images/%s is set aside: %s", s->config->root, name,
			  e.msg);
		renameat(dirfd, name, dirfd, aside);
		return;
	}
	if (*n % 64 == 0)
		*v = xrealloc(*v, (*n + 64) * sizeof(**v));
	(*v)[(*n)++] = rec;
}

static int by_time(const void *a, const void *b)
{
	const struct image_record *x = a, *y = b;

	if (x->tagged_at != y->tagged_at)
		return x->tagged_at < y->tagged_at ? -1 : 1;
	return strcmp(x->id, y->id);
}

static int load_records(struct image_store *s, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/images", s->config->root);
	_cleanup_free_ struct image_record *v = NULL;
	DIR *d = opendir(path);
	struct dirent *de;
	size_t n = 0;

	if (!d)
		return err_errno(e, -errno, "open %s", path);
	while ((de = readdir(d)))
		if (str_has_suffix(de->d_name, ".json") && strlen(de->d_name) == ID_LEN + 5)
			load_record(s, dirfd(d), de->d_name, &v, &n);
	closedir(d);
	if (n)
		qsort(v, n, sizeof(*v), by_time);
	for (size_t i = 0; i < n; i++)
		put(s, &v[i], 0);
	return 0;
}

int image_store_open(struct loop *l, const struct config *c, const char *worker_path,
		     struct image_store **ret, struct err *e)
{
	struct image_store *s = xcalloc(1, sizeof(*s));
	int r;

	s->loop = l;
	s->config = c;
	s->worker_path = worker_path;
	list_init(&s->images);
	list_init(&s->slot_waiters);
	r = load_records(s, e);
	if (r < 0)
		image_store_close(s);
	else
		*ret = s;
	return r;
}

struct image_store *image_store_close(struct image_store *s)
{
	if (!s)
		return NULL;
	while (!list_empty(&s->images))
		image_drop(s, list_first(&s->images, struct image, in_order));
	map_fini(&s->by_id);
	map_fini(&s->by_name);
	map_fini(&s->pulls);
	image_health_fini(&s->health);
	free(s);
	return NULL;
}

/* --- a worker --- */

struct worker {
	struct image_store *store;
	struct ipc_conn conn;
	struct loop_child child;
	struct co_event ended;
	void (*on_progress)(void *arg, const struct image_progress *p);
	void *arg;
};

static void on_worker_message(struct ipc_conn *conn, struct ipc_in *in)
{
	struct worker *w = container_of(conn, struct worker, conn);
	struct image_progress p = {
		.layer = ipc_get_str(in, WORKER_TAG_NAME),
		.state = ipc_get_str(in, WORKER_TAG_STATE),
		.done = ipc_get_u64(in, WORKER_TAG_DONE, 0),
		.total = ipc_get_u64(in, WORKER_TAG_TOTAL, 0),
	};

	if (in->type == WORKER_EVENT_PROGRESS && w->on_progress)
		w->on_progress(w->arg, &p);
	else if (in->type == WORKER_EVENT_HOST)
		image_health_take(&w->store->health, in, clock_mono_us());
}

static void on_worker_gone(struct ipc_conn *conn, int reason)
{
	(void)conn;
	(void)reason; /* the call has failed by now */
}

static void on_worker_end(struct loop_child *c, int status)
{
	struct worker *w = container_of(c, struct worker, child);

	(void)status;
	co_event_set(&w->ended);
}

static int worker_start(struct image_store *s, struct worker *w, struct err *e)
{
	const char *argv[] = {"gantry-worker", NULL};
	struct spawn sp = SPAWN_INIT;
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF, pidfd = -EBADF;
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, -errno, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	sp.file = s->worker_path;
	sp.argv = argv;
	sp.fds[2] = STDERR_FILENO;
	sp.fds[3] = theirs;
	sp.n_fds = 4;
	sp.setsid = true;
	r = spawner_start(s->loop, &sp, &pid, &pidfd, e);
	if (r < 0)
		return r;
	co_event_init(&w->ended);
	loop_child_add(s->loop, &w->child, pid, TAKE_FD(pidfd), on_worker_end);
	return ipc_conn_open(&w->conn, s->loop, TAKE_FD(ours), on_worker_message, on_worker_gone);
}

/* One worker from its request to its end.  Finishes `o`. */
int image_worker_run(struct image_store *s, struct ipc_out *o,
		     void (*on_progress)(void *, const struct image_progress *), void *arg,
		     struct ipc_in *ret, struct err *e)
{
	struct worker w = {.store = s, .on_progress = on_progress, .arg = arg};
	struct err late = ERR_NULL;
	bool died;
	int r = worker_start(s, &w, e);

	if (r < 0) {
		ipc_out_fini(o);
		return r;
	}
	FAULT_POINT("daemon.worker.started");
	r = ipc_call(&w.conn, o, ret, e);
	FAULT_POINT("daemon.worker.answered");
	died = r == -ECONNRESET;
	ipc_conn_close(&w.conn);
	if (died)
		err_set(e, r, GRPC_INTERNAL, "gantry-worker ended without an answer");
	co_shield(true); /* it reads the end of the connection and goes */
	co_event_wait(&w.ended, USEC_FOREVER);
	loop_child_del(&w.child);
	if (died && !s->sweeping) { /* what it left half-made has nobody now */
		s->sweeping = true;
		if (image_resync(s, &late) < 0)
			log_warn("sweep the image store: %s", late.msg);
		s->sweeping = false;
	}
	co_shield(false);
	return r;
}

void image_request(struct image_store *s, struct ipc_out *o, uint16_t type)
{
	ipc_out_init(o, type, 0);
	ipc_put_str(o, WORKER_TAG_ROOT, s->config->root);
	ipc_put_str(o, WORKER_TAG_SNAPSHOTTER, s->config->image.snapshotter);
}

/* What a worker's reply says about records. */
int image_take_records(struct image_store *s, const struct ipc_in *in, struct err *e)
{
	uint64_t seq = ipc_get_u64(in, WORKER_TAG_SEQ, 0);
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f)) {
		struct image_record rec;
		struct image *im;

		if (f.tag == WORKER_TAG_REMOVED && ipc_field_str(&f)) {
			im = map_get(&s->by_id, ipc_field_str(&f));
			if (im && im->seq <= seq)
				image_drop(s, im);
		} else if (f.tag == WORKER_TAG_RECORD) {
			int r = image_record_parse(f.p, f.n, &rec, e);

			if (r < 0)
				return err_wrap(e, "gantry-worker's answer");
			put(s, &rec, seq);
		}
	}
	return 0;
}

/* --- pull --- */

/* One pull that any number of callers wait for. */
struct pull {
	struct image_store *store;
	char *key, *ref;
	unsigned waiters;
	struct co *co;
	struct co_event done;
	struct ipc_out request;
	struct list listeners; /* struct listener */
	char id[ID_SIZE];
	struct err e;
	int result;
	bool over;
};

struct listener {
	struct list link;
	struct co *co;
	struct strv layers; /* "layer\nstate\ndone\ntotal", the newest of each layer */
};

static void pull_unref(struct pull *p)
{
	if (--p->waiters > 0)
		return;
	if (!p->over) {
		if (map_get(&p->store->pulls, p->key) == p)
			map_remove(&p->store->pulls, p->key);
		if (p->co)
			co_cancel(p->co, -ECANCELED); /* frees it at its end */
		return;
	}
	free(p->key);
	free(p->ref);
	free(p);
}

static void queue_progress(struct listener *l, const struct image_progress *p)
{
	_cleanup_free_ char *text =
		xasprintf("%s\n%s\n%llu\n%llu", str_or_empty(p->layer), str_or_empty(p->state),
			  (unsigned long long)p->done, (unsigned long long)p->total);
	size_t n = strcspn(text, "\n") + 1;

	for (size_t i = 0; i < l->layers.n; i++) {
		if (strncmp(l->layers.v[i], text, n) == 0) { /* only the newest counts */
			free(l->layers.v[i]);
			l->layers.v[i] = xstrdup(text);
			return;
		}
	}
	strv_add(&l->layers, text);
}

static void on_pull_progress(void *arg, const struct image_progress *p)
{
	struct pull *pull = arg;
	struct listener *l;

	if (streq(str_or_empty(p->state), "done"))
		pull->store->done.bytes += p->total;
	list_for_each (l, &pull->listeners, link) {
		queue_progress(l, p);
		co_wake(l->co);
	}
}

struct slot_waiter {
	struct list link;
	struct co *co;
	bool granted;
};

static int slot_take(struct image_store *s)
{
	struct slot_waiter w = {.co = co_self()};
	int r = 0;

	if (s->running < s->config->image.parallel_pulls) {
		s->running++;
		return 0;
	}
	list_append(&s->slot_waiters, &w.link);
	while (!w.granted && r == 0)
		r = co_wait();
	if (w.granted)
		return 0;
	list_remove(&w.link);
	return r;
}

static void slots_grant(struct image_store *s)
{
	while (s->running < s->config->image.parallel_pulls && !list_empty(&s->slot_waiters)) {
		struct slot_waiter *w = list_first(&s->slot_waiters, struct slot_waiter, link);

		list_remove(&w->link);
		w->granted = true;
		s->running++;
		co_wake(w->co);
	}
}

static void slot_give(struct image_store *s)
{
	s->running--;
	slots_grant(s);
}

void image_store_set_config(struct image_store *s, const struct config *c)
{
	struct image *im;

	s->config = c;
	list_for_each (im, &s->images, in_order) {
		bool was = im->pinned;

		im->pinned = pinned(s, im);
		if (im->pinned != was)
			strbuf_fini(&im->list_item);
	}
	slots_grant(s);
}

static void count_pull(struct image_store *s, int r, const struct err *e, uint64_t began)
{
	if (r == 0)
		s->done.done++;
	else if (e->code == GRPC_CANCELLED)
		s->done.cancelled++;
	else
		s->done.failed++;
	histogram_add(&s->done.took, clock_mono_us() - began);
}

void image_store_pulls(const struct image_store *s, struct image_pulls *ret)
{
	*ret = s->done;
	ret->running = s->running;
	ret->waiting = s->pulls.n > s->running ? (unsigned)(s->pulls.n - s->running) : 0;
}

static void pull_run(void *arg)
{
	struct pull *p = arg;
	uint64_t began = clock_mono_us();
	struct image_store *s = p->store;
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct listener *l;
	int r = slot_take(s);

	if (r < 0) {
		ipc_out_fini(&p->request);
		err_set(&p->e, r, GRPC_CANCELLED, "the pull was cancelled");
	} else {
		image_health_put(&s->health, &p->request, clock_mono_us());
		r = image_worker_run(s, &p->request, on_pull_progress, p, &in, &p->e);
		slot_give(s);
	}
	if (r == 0)
		r = image_take_records(s, &in, &p->e);
	if (r == 0)
		snprintf(p->id, sizeof(p->id), "%s",
			 str_or_empty(ipc_get_str(&in, WORKER_TAG_IMAGE_ID)));
	count_pull(s, r, &p->e, began);
	p->result = r;
	p->over = true;
	p->co = NULL;
	if (map_get(&s->pulls, p->key) == p)
		map_remove(&s->pulls, p->key);
	co_event_set(&p->done);
	list_for_each (l, &p->listeners, link)
		co_wake(l->co);
	p->waiters++;
	pull_unref(p);
}

static struct pull *pull_start(struct image_store *s, const char *key, const char *ref,
			       const struct image_auth *a)
{
	struct pull *p = xcalloc(1, sizeof(*p));

	p->store = s;
	p->key = xstrdup(key);
	p->ref = xstrdup(ref);
	list_init(&p->listeners);
	co_event_init(&p->done);
	image_request(s, &p->request, WORKER_PULL);
	ipc_put_str(&p->request, WORKER_TAG_HOSTS_DIR, s->config->image.hosts_dir);
	ipc_put_str(&p->request, WORKER_TAG_AUTH_FILE, s->config->image.auth_file);
	ipc_put_u64(&p->request, WORKER_TAG_PARALLEL, s->config->image.parallel_layers);
	ipc_put_u64(&p->request, WORKER_TAG_STALL,
		    s->config->image.stall_timeout_us / USEC_PER_SEC);
	ipc_put_u64(&p->request, WORKER_TAG_MIRROR_WAIT,
		    s->config->image.mirror_wait_us / USEC_PER_SEC);
	ipc_put_u64(&p->request, WORKER_TAG_LIMIT, s->config->image.pull_timeout_us / USEC_PER_SEC);
	ipc_put_str(&p->request, WORKER_TAG_REFERENCE, ref);
	if (a) {
		ipc_put_str(&p->request, WORKER_TAG_USERNAME, a->username);
		ipc_put_str(&p->request, WORKER_TAG_PASSWORD, a->password);
		ipc_put_str(&p->request, WORKER_TAG_AUTH, a->auth);
		ipc_put_str(&p->request, WORKER_TAG_SERVER, a->server_address);
		ipc_put_str(&p->request, WORKER_TAG_IDENTITY_TOKEN, a->identity_token);
		ipc_put_str(&p->request, WORKER_TAG_REGISTRY_TOKEN, a->registry_token);
	}
	map_put(&s->pulls, p->key, p);
	p->waiters = 1; /* the caller */
	p->co = co_start(s->loop, pull_run, p);
	if (p->over)
		p->co = NULL;
	return p;
}

static int report(struct listener *l, image_progress_fn *fn, void *arg, struct err *e)
{
	while (l->layers.n > 0) {
		_cleanup_free_ char *text = l->layers.v[0];
		char *save = NULL;
		struct image_progress p = {0};
		const char *n;
		int r;

		memmove(l->layers.v, l->layers.v + 1, l->layers.n * sizeof(*l->layers.v));
		l->layers.n--;
		p.layer = strtok_r(text, "\n", &save);
		p.state = strtok_r(NULL, "\n", &save);
		n = strtok_r(NULL, "\n", &save);
		str_to_u64(str_or_empty(n), &p.done);
		n = strtok_r(NULL, "\n", &save);
		str_to_u64(str_or_empty(n), &p.total);
		r = fn ? fn(arg, &p, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int pull_wait(struct pull *p, image_progress_fn *fn, void *arg, struct err *e)
{
	struct listener l = {.co = co_self()};
	int r = 0;

	if (!fn) {
		r = co_event_wait(&p->done, USEC_FOREVER);
	} else {
		list_append(&p->listeners, &l.link);
		do {
			r = report(&l, fn, arg, e);
			if (r == 0 && !p->done.set)
				r = co_wait();
		} while (r == 0 && !(p->done.set && l.layers.n == 0));
		list_remove(&l.link);
		strv_fini(&l.layers);
	}
	if (r < 0)
		return err_set(e, r, r == -ETIMEDOUT ? GRPC_DEADLINE_EXCEEDED : GRPC_CANCELLED,
			       "the pull of %s was cancelled", p->ref);
	if (p->result < 0)
		*e = p->e;
	return p->result;
}

/* Credentials are part of the key: nobody gets an image by another's. */
static char *pull_key(const char *ref, const struct image_auth *a)
{
	static const struct image_auth none;

	a = a ? a : &none;
	return xasprintf("%s\n%s\n%s\n%s\n%s\n%s\n%s", ref, str_or_empty(a->username),
			 str_or_empty(a->password), str_or_empty(a->auth),
			 str_or_empty(a->server_address), str_or_empty(a->identity_token),
			 str_or_empty(a->registry_token));
}

int image_pull(struct image_store *s, const char *ref, const struct image_auth *auth,
	       image_progress_fn *fn, void *arg, char *ret_id, struct err *e)
{
	_cleanup_reference_ struct reference rf = REFERENCE_NULL;
	_cleanup_free_ char *key = NULL;
	struct pull *p;
	int r = reference_parse(ref, &rf, e);

	if (r < 0)
		return r;
	key = pull_key(rf.text, auth);
	p = map_get(&s->pulls, key);
	if (p) {
		p->waiters++;
	} else {
		if (s->pulls.n >= PULLS_MAX)
			return err_set(e, -EBUSY, GRPC_RESOURCE_EXHAUSTED,
				       "%d pulls are waiting or under way already", PULLS_MAX);
		p = pull_start(s, key, rf.text, auth);
	}
	r = pull_wait(p, fn, arg, e);
	if (r == 0)
		memcpy(ret_id, p->id, ID_SIZE);
	pull_unref(p);
	return r;
}

/* --- the others --- */

int image_remove(struct image_store *s, const char *ref, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	char id[ID_SIZE];
	struct image *im;
	struct ipc_out o;
	int r = image_find_any(s, ref, &im, e);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	image_request(s, &o, WORKER_REMOVE);
	ipc_put_str(&o, WORKER_TAG_IMAGE_ID, im->record.id);
	im->removing = true;
	memcpy(id, im->record.id, ID_SIZE);
	co_shield(true); /* short, and half-removed is no state to be in */
	r = image_worker_run(s, &o, NULL, NULL, &in, e);
	co_shield(false);
	if (r == 0)
		return image_take_records(s, &in, e);
	im = map_get(&s->by_id, id);
	if (im)
		im->removing = false;
	return r;
}

void image_worker_question(struct image_store *s, struct ipc_out *o, uint16_t type)
{
	image_request(s, o, type);
}

int image_worker_answer(struct image_store *s, struct ipc_out *o, size_t max, struct strbuf *ret,
			struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	const void *p;
	size_t n;
	int r = image_worker_run(s, o, NULL, NULL, &in, e);

	if (r == 0 && ipc_get_bytes(&in, WORKER_TAG_CONTENT, &p, &n) && n <= max)
		strbuf_add(ret, p, n);
	return r;
}

int image_worker_read(struct image_store *s, const char *path, size_t max, struct strbuf *ret,
		      struct err *e)
{
	struct ipc_out o;

	image_request(s, &o, WORKER_READ);
	ipc_put_str(&o, WORKER_TAG_PATH, path);
	ipc_put_u64(&o, WORKER_TAG_MAX, max);
	return image_worker_answer(s, &o, max, ret, e);
}
