/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verifying images: the configuration against the image's id, the record against the
 * configuration, each layer against its list of checksums.  The long part, reading the layers, is
 * done without the store's lock; what was changed meanwhile is not judged.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "artifact.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/map.h"
#include "base/mem.h"
#include "store.h"
#include "sums.h"
#include "verify.h"
#include "worker.h"

#define PROGRESS_EVERY (100 * USEC_PER_MS)

enum verdict { GOOD, UNKNOWN, DAMAGED, GONE };

/* A layer; those of several images are looked at once. */
struct seen_layer {
	char name[33];
	enum verdict verdict;
	char *problem;	    /* owned; of a damaged one */
	struct stat record; /* as it was before; st_ino 0: there was none */
};

struct seen_image {
	char id[ID_SIZE];
	enum verdict verdict;
	char *problem;
	struct strv layers;
	bool recorded; /* its record says so */
};

struct verifying {
	struct store store;
	struct map layers; /* struct seen_layer */
	struct seen_image *images;
	size_t n_images;
	struct ipc_out *reply;
	/* of the layer that is being read */
	const char *name;
	uint64_t size, told_at;
};

/* --- a layer --- */

static int went_on(void *arg, uint64_t bytes, struct err *e)
{
	struct verifying *v = arg;
	uint64_t now = clock_mono_us();

	if (now - v->told_at < PROGRESS_EVERY)
		return 0;
	v->told_at = now;
	worker_progress(v->name, "verifying", MIN(bytes, v->size), v->size);
	return worker_check(e);
}

static int open_file(const struct verifying *v, const char *name, const char *suffix)
{
	char file[64];

	snprintf(file, sizeof(file), "%s.%s", name, suffix);
	return openat(v->store.layers_fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

/* What is wrong with the recipe; NULL: nothing. owned */
static char *check_recipe(const struct verifying *v, const char *name,
			  const struct layer_record *rec)
{
	_cleanup_close_ int fd = -EBADF;
	char got[72];
	int r;

	if (!*rec->recipe)
		return NULL;
	fd = open_file(v, name, "recipe");
	if (fd < 0)
		return xasprintf("its recipe cannot be opened: %s", strerror(errno));
	r = digest_of_file(fd, got);
	if (r < 0)
		return xasprintf("its recipe cannot be read: %s", strerror(-r));
	return streq(got, rec->recipe) ? NULL : xstrdup("its recipe is not what was recorded");
}

static char *check_sums(struct verifying *v, const char *name, const struct layer_record *rec,
			int *ret_stop, struct err *e)
{
	_cleanup_close_ int dirfd = -EBADF, list = -EBADF;
	struct sums_check c = {.digest = rec->sums, .went_on = went_on, .arg = v};

	dirfd = openat(v->store.layers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	list = open_file(v, name, "sums");
	if (dirfd < 0 || list < 0)
		return xasprintf("its %s cannot be opened: %s",
				 dirfd < 0 ? "directory" : "list of checksums", strerror(errno));
	c.dirfd = dirfd;
	c.list_fd = list;
	*ret_stop = sums_check(&c, e);
	if (*ret_stop == 0 && c.problems > 1) {
		char *all = xasprintf("%s, and %llu more", c.problem,
				      (unsigned long long)(c.problems - 1));

		free(c.problem);
		return all;
	}
	return c.problem;
}

static int read_layer(struct verifying *v, struct seen_layer *l, const struct layer_record *rec,
		      struct err *e)
{
	int stop = 0;

	l->problem = check_sums(v, l->name, rec, &stop, e);
	if (stop == 0 && !l->problem)
		l->problem = check_recipe(v, l->name, rec);
	if (l->problem)
		l->verdict = DAMAGED;
	return stop;
}

static int look_at_layer(struct verifying *v, const char *name, struct seen_layer **ret,
			 struct err *e)
{
	struct seen_layer *l = map_get(&v->layers, name);
	struct layer_record rec = {0};
	char file[64];
	int r = 0;

	*ret = l;
	if (l)
		return 0;
	*ret = l = xcalloc(1, sizeof(*l));
	snprintf(l->name, sizeof(l->name), "%s", name);
	map_put(&v->layers, l->name, l);
	snprintf(file, sizeof(file), "%s.json", name);
	if (fstatat(v->store.layers_fd, file, &l->record, AT_SYMLINK_NOFOLLOW) < 0 ||
	    store_read_layer(&v->store, name, &rec) < 0) {
		l->verdict = DAMAGED;
		l->problem = xstrdup("its record is not there, or is none");
	} else if (!*rec.sums) {
		l->verdict = UNKNOWN;
	} else {
		v->name = l->name;
		v->size = rec.size;
		r = read_layer(v, l, &rec, e);
		worker_progress(l->name, l->verdict == GOOD ? "good" : "damaged", rec.size,
				rec.size);
	}
	return r < 0 ? r : worker_check(e);
}

/* --- an image --- */

static bool same(const struct strv *a, const struct strv *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!streq(a->v[i], b->v[i]))
			return false;
	return true;
}

static bool config_same(const struct image_config *a, const struct image_config *b)
{
	return same(&a->entrypoint, &b->entrypoint) && same(&a->cmd, &b->cmd) &&
	       same(&a->env, &b->env) && same(&a->volumes, &b->volumes) &&
	       streq(a->user, b->user) && streq(a->working_dir, b->working_dir) &&
	       streq(a->stop_signal, b->stop_signal);
}

/* The layers that the configuration names, topmost first as the record has them. */
static bool layers_same(const struct strv *names, const struct strv *diff_ids)
{
	char id[72] = "", parent[72], name[33];

	if (names->n != diff_ids->n)
		return false;
	for (size_t i = 0; i < diff_ids->n; i++) {
		memcpy(parent, id, sizeof(parent));
		chain_next(parent, diff_ids->v[i], id);
		chain_name(id, name);
		if (!streq(names->v[names->n - 1 - i], name))
			return false;
	}
	return true;
}

/* An artifact has its manifest where images have their configuration. */
static char *check_artifact(const struct image_record *rec, const struct strbuf *manifest)
{
	struct err e = ERR_NULL;
	struct manifest m;
	char *ret = NULL;

	if (manifest_parse(str_or_empty(manifest->s), manifest->len, &m, &e) < 0)
		return xstrdup(e.msg);
	if (!streq(str_or_empty(m.artifact), rec->artifact))
		ret = xstrdup("its record has another type than its manifest");
	else if (!artifact_layers_same(&m, &rec->layers))
		ret = xstrdup("its record names other blobs than its manifest");
	manifest_fini(&m);
	return ret;
}

/* As verify_image(), with the configuration as it may be wrong. */
static char *check_config(const struct image_record *rec, const struct strbuf *config,
			  struct image_info *ret)
{
	const char *problem = NULL;
	struct err e = ERR_NULL;
	char digest[72];

	digest_of(str_or_empty(config->s), config->len, digest);
	if (!streq(digest + strlen("sha256:"), rec->id))
		return xasprintf("its configuration has the digest %s", digest);
	*ret = (struct image_info){0};
	if (*rec->artifact)
		return check_artifact(rec, config);
	if (config_parse(str_or_empty(config->s), config->len, ret, &e) < 0)
		return xstrdup(e.msg);
	if (!layers_same(&rec->layers, &ret->diff_ids))
		problem = "its record names other layers than its configuration";
	else if (!config_same(&rec->config, &ret->config))
		problem = "its record says something else than its configuration";
	if (!problem)
		return NULL;
	image_info_fini(ret);
	return xstrdup(problem);
}

char *verify_image(const struct store *s, const struct image_record *rec, struct strbuf *ret_config,
		   struct image_info *ret)
{
	char file[ID_SIZE + 16];
	int r;

	snprintf(file, sizeof(file), "%s.config", rec->id);
	r = fs_read(s->images_fd, file, CONFIG_MAX, ret_config);
	return r < 0 ? xasprintf("its configuration cannot be read: %s", strerror(-r))
		     : check_config(rec, ret_config, ret);
}

/* What is wrong with configuration and record; NULL: nothing. owned */
static char *check_record(struct verifying *v, const struct image_record *rec)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct image_info info;
	char *problem = verify_image(&v->store, rec, &b, &info);

	if (!problem)
		image_info_fini(&info);
	return problem;
}

static char *check_accounts(struct verifying *v, const struct image_record *rec)
{
	struct image_record again = {.layers = rec->layers};
	bool good;

	store_read_accounts(&v->store, &again);
	good = streq(again.config.passwd, rec->config.passwd) &&
	       streq(again.config.group, rec->config.group);
	free(again.config.passwd);
	free(again.config.group);
	return good ? NULL
		    : xstrdup("its record has other accounts than /etc/passwd and /etc/group "
			      "in it");
}

static int look_at_layers(struct verifying *v, struct seen_image *im, struct err *e)
{
	int r = 0;

	for (size_t i = im->layers.n; r == 0 && i-- > 0;) {
		struct seen_layer *l;

		r = look_at_layer(v, im->layers.v[i], &l, e);
		if (r < 0)
			break;
		if (l->verdict == DAMAGED && im->verdict != DAMAGED)
			im->problem = xasprintf("layer %s: %s", l->name, l->problem);
		im->verdict = MAX(im->verdict, l->verdict);
	}
	return r;
}

static int look_at_image(struct verifying *v, struct seen_image *im, struct err *e)
{
	struct image_record rec;
	char file[ID_SIZE + 8];
	int r;

	snprintf(file, sizeof(file), "%s.json", im->id);
	r = store_read_record(&v->store, file, &rec);
	if (r == -ENOENT) {
		im->verdict = GONE;
		return 0;
	}
	if (r < 0) {
		im->verdict = DAMAGED;
		im->problem = xasprintf("its record cannot be read: %s", strerror(-r));
		im->recorded = true; /* gantryd sets it aside */
		return 0;
	}
	if ((im->problem = check_record(v, &rec))) {
		im->verdict = DAMAGED;
	} else {
		store_add_names(&im->layers, &rec.layers);
		r = look_at_layers(v, im, e);
		if (r == 0 && im->verdict <= UNKNOWN && (im->problem = check_accounts(v, &rec)))
			im->verdict = DAMAGED;
	}
	if (r == 0 && im->verdict == DAMAGED && !str_empty(rec.damaged)) {
		free(im->problem); /* what was found first says more */
		im->problem = xstrdup(rec.damaged);
		im->recorded = true;
	}
	image_record_fini(&rec);
	return r;
}

/* --- what comes of it, under the lock --- */

/* Removed or made anew since: what was read says nothing of what is there now. */
static bool layer_changed(const struct verifying *v, const struct seen_layer *l)
{
	char file[64];
	struct stat st = {0};

	snprintf(file, sizeof(file), "%s.json", l->name);
	if (fstatat(v->store.layers_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st.st_ino = 0;
	return st.st_ino != l->record.st_ino || st.st_ctim.tv_sec != l->record.st_ctim.tv_sec ||
	       st.st_ctim.tv_nsec != l->record.st_ctim.tv_nsec;
}

static void forget_changed(struct verifying *v)
{
	struct seen_layer *l;
	size_t pos = 0;

	while ((l = map_next(&v->layers, &pos)))
		if (l->verdict == DAMAGED && layer_changed(v, l))
			l->verdict = GONE;
}

static struct seen_image *find_image(const struct verifying *v, const char *id)
{
	for (size_t i = 0; i < v->n_images; i++)
		if (streq(v->images[i].id, id))
			return &v->images[i];
	return NULL;
}

/* NULL: nothing is wrong with it. owned */
static char *find_damage(struct verifying *v, const struct seen_image *im,
			 const struct image_record *rec)
{
	for (size_t i = rec->layers.n; i-- > 0;) {
		const struct seen_layer *l = map_get(&v->layers, rec->layers.v[i]);

		if (l && l->verdict == DAMAGED)
			return xasprintf("layer %s: %s", l->name, l->problem);
	}
	if (!im || im->verdict != DAMAGED)
		return NULL;
	/* Short to do again: it may have been pulled meanwhile. */
	return im->layers.n ? check_accounts(v, rec) : check_record(v, rec);
}

/* Every image that has a damaged layer, also those that nobody asked for; one that is whole again,
 * as what was damaged has been pulled with another, loses the mark. */
static int mark_image(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	struct verifying *v = arg;
	struct seen_image *im = find_image(v, rec->id);
	bool marked = !str_empty(rec->damaged);
	char *why = NULL;
	int r;

	if (!marked)
		why = find_damage(v, im, rec);
	if (marked ? !im || im->verdict != GOOD : !why)
		return 0;
	free(rec->damaged);
	rec->damaged = why ? why : xstrdup("");
	r = store_write_record(s, rec, v->reply, e);
	FAULT_POINT("worker.verify.image");
	if (im)
		im->recorded = true;
	return r;
}

/* Without its record it is nobody's: the next pull makes it anew. */
static int mark_layers(struct verifying *v, struct err *e)
{
	int fd = v->store.layers_fd;
	struct seen_layer *l;
	size_t pos = 0;

	while ((l = map_next(&v->layers, &pos))) {
		char from[64], to[64];

		if (l->verdict != DAMAGED)
			continue;
		snprintf(from, sizeof(from), "%s.json", l->name);
		snprintf(to, sizeof(to), "%s.json.damaged", l->name);
		if (renameat(fd, from, fd, to) < 0 && errno != ENOENT)
			return err_errno(e, -errno, "mark the layer %s as damaged", l->name);
		FAULT_POINT("worker.verify.layer");
	}
	return fsync(fd) < 0 ? err_errno(e, -errno, "sync %s/layers", v->store.root) : 0;
}

static void tell(struct verifying *v)
{
	static const char *const words[] = {"good", "unknown", "damaged", "gone"};

	for (size_t i = 0; i < v->n_images; i++) {
		const struct seen_image *im = &v->images[i];
		/* what was found was changed before it could be recorded */
		enum verdict is = im->verdict == DAMAGED && !im->recorded ? GONE : im->verdict;
		struct ipc_out o;

		ipc_out_init(&o, 0, 0);
		ipc_put_str(&o, WORKER_TAG_IMAGE_ID, im->id);
		ipc_put_str(&o, WORKER_TAG_STATE, words[is]);
		ipc_put_str(&o, WORKER_TAG_TEXT, im->problem);
		ipc_put_nested(v->reply, WORKER_TAG_RESULT, &o);
	}
}

static int conclude(struct verifying *v, struct err *e)
{
	struct store_change c;
	int r = store_change_begin(&v->store, &c, e);

	if (r < 0)
		return r;
	forget_changed(v);
	/* The layers first: an image is never found good again by a layer that is not. */
	r = mark_layers(v, e);
	if (r == 0)
		r = store_each_record(&v->store, mark_image, v, e);
	ipc_put_u64(v->reply, WORKER_TAG_SEQ, c.seq);
	store_change_end(&c);
	if (r == 0)
		tell(v);
	return r;
}

static int read_request(struct verifying *v, const struct ipc_in *in, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f)) {
		const char *id = f.tag == WORKER_TAG_IMAGE_ID ? ipc_field_str(&f) : NULL;

		if (f.tag != WORKER_TAG_IMAGE_ID)
			continue;
		if (!id || !id_valid(id))
			return err_invalid(e, "image id: \"%s\"", str_or_empty(id));
		v->images = xrealloc(v->images, (v->n_images + 1) * sizeof(*v->images));
		v->images[v->n_images] = (struct seen_image){0};
		memcpy(v->images[v->n_images++].id, id, ID_SIZE);
	}
	return 0;
}

static void verifying_fini(struct verifying *v)
{
	struct seen_layer *l;
	size_t pos = 0;

	while ((l = map_next(&v->layers, &pos))) {
		free(l->problem);
		free(l);
	}
	map_fini(&v->layers);
	for (size_t i = 0; i < v->n_images; i++) {
		free(v->images[i].problem);
		strv_fini(&v->images[i].layers);
	}
	free(v->images);
}

int verify_found(struct store *s, const struct damage *d, struct ipc_out *reply, struct err *e)
{
	struct verifying v = {.store = *s, .reply = reply, .n_images = 1};
	struct seen_layer *l;
	int r;

	v.images = xcalloc(1, sizeof(*v.images));
	memcpy(v.images->id, d->image, ID_SIZE);
	v.images->verdict = DAMAGED;
	v.images->problem =
		d->layer ? xasprintf("layer %s: %s", d->layer, d->problem) : xstrdup(d->problem);
	if (d->layer) {
		l = xcalloc(1, sizeof(*l));
		snprintf(l->name, sizeof(l->name), "%s", d->layer);
		l->verdict = DAMAGED;
		l->problem = xstrdup(d->problem);
		l->record = d->record;
		map_put(&v.layers, l->name, l);
	}
	r = conclude(&v, e);
	verifying_fini(&v);
	return r;
}

int do_verify(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct verifying v = {.reply = reply};
	int r = read_request(&v, in, e);

	if (r == 0)
		r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &v.store, e);
	if (r == 0) {
		for (size_t i = 0; r == 0 && i < v.n_images; i++)
			r = look_at_image(&v, &v.images[i], e);
		if (r == 0)
			r = conclude(&v, e);
		store_close(&v.store);
	}
	verifying_fini(&v);
	return r;
}
