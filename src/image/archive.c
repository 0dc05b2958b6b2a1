/* SPDX-License-Identifier: Apache-2.0 */
/* Images from archives and into them: see store.h. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "image/store_internal.h"
#include "ipc/worker.h"

#define PIPE_BYTES (1 << 20)
#define PIECE (64u << 10) /* bytes that are passed on at once */

/* --- load and import --- */

/* One worker; the images that came of it. Finishes `o`. */
static int run_and_tell(struct image_store *s, struct ipc_out *o, image_progress_fn *fn, void *arg,
			struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_field f;
	size_t pos = 0;
	int r = image_worker_run(s, o, NULL, NULL, &in, e);

	if (r == 0)
		r = image_take_records(s, &in, e);
	while (r == 0 && fn && ipc_next(&in, &pos, &f)) {
		const char *id = f.tag == WORKER_TAG_IMAGE_ID ? ipc_field_str(&f) : NULL;
		struct image *im = id ? map_get(&s->by_id, id) : NULL;
		struct image_progress p = {0};

		if (!im)
			continue;
		p.image_id = id;
		p.image_name = im->record.tags.n ? im->record.tags.v[im->record.tags.n - 1] : "";
		r = fn(arg, &p, e);
	}
	return r;
}

static int begin_from_file(struct image_store *s, struct ipc_out *o, uint16_t type,
			   const char *path, struct err *e)
{
	if (*path != '/')
		return err_invalid(e, "path: \"%s\" is not absolute", path);
	image_request(s, o, type);
	ipc_put_str(o, WORKER_TAG_PATH, path);
	return 0;
}

int image_load(struct image_store *s, const char *path, image_progress_fn *fn, void *arg,
	       struct err *e)
{
	struct ipc_out o;
	int r = begin_from_file(s, &o, WORKER_LOAD, path, e);

	if (r < 0)
		return r;
	ipc_put_u64(&o, WORKER_TAG_PARALLEL, s->config->image.parallel_layers);
	return run_and_tell(s, &o, fn, arg, e);
}

int image_import(struct image_store *s, const struct image_import *im, image_progress_fn *fn,
		 void *arg, struct err *e)
{
	_cleanup_strv_ struct strv tags = STRV_NULL;
	struct ipc_out o;
	int r = image_canonical_tags(im->tags, im->n_tags, &tags, e);

	if (r == 0)
		r = begin_from_file(s, &o, WORKER_IMPORT, im->path, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < tags.n; i++)
		ipc_put_str(&o, WORKER_TAG_REFERENCE, tags.v[i]);
	for (size_t i = 0; i < im->n_changes; i++)
		ipc_put_str(&o, WORKER_TAG_CHANGE, im->changes[i]);
	ipc_put_str(&o, WORKER_TAG_TEXT, im->message);
	return run_and_tell(s, &o, fn, arg, e);
}

/* --- save --- */

/* What is asked for of one image; those that are named twice are one. */
struct wanted {
	char id[ID_SIZE];
	struct strv tags;
};

/* A worker that writes into a pipe, in a coroutine of its own; what comes out is passed on by the
 * caller. */
struct saving {
	struct image_store *store;
	struct ipc_out request;
	struct ipc_in in;
	struct co *caller, *co;
	struct co_event done;
	struct loop_io io;
	int fd; /* to read from */
	struct err e;
	int result;
	uint64_t total;
};

static struct wanted *want(struct wanted **v, size_t *n, const char *id)
{
	for (size_t i = 0; i < *n; i++)
		if (streq((*v)[i].id, id))
			return &(*v)[i];
	*v = xrealloc(*v, (*n + 1) * sizeof(**v));
	(*v)[*n] = (struct wanted){0};
	memcpy((*v)[*n].id, id, ID_SIZE);
	return &(*v)[(*n)++];
}

static int find_wanted(struct image_store *s, const char *text, struct wanted **v, size_t *n,
		       struct err *e)
{
	_cleanup_reference_ struct reference ref = REFERENCE_NULL;
	struct wanted *w;
	struct image *im;
	int r = image_find(s, text, &im, e);

	if (r < 0)
		return r;
	w = want(v, n, im->record.id);
	if (reference_parse(text, &ref, NULL) == 0 && strv_contains(&im->record.tags, ref.text)) {
		if (!strv_contains(&w->tags, ref.text))
			strv_add(&w->tags, ref.text);
		return 0;
	}
	for (size_t i = 0; i < im->record.tags.n; i++)
		if (!strv_contains(&w->tags, im->record.tags.v[i]))
			strv_add(&w->tags, im->record.tags.v[i]);
	return 0;
}

static int put_images(struct image_store *s, char *const *refs, size_t n, struct ipc_out *o,
		      struct err *e)
{
	struct wanted *v = NULL;
	size_t n_v = 0;
	int r = 0;

	if (n == 0 || n > IMAGE_NAMES_MAX)
		return err_invalid(e, "images: %zu, expected 1 to %d", n, IMAGE_NAMES_MAX);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = find_wanted(s, refs[i], &v, &n_v, e);
	for (size_t i = 0; i < n_v; i++) {
		struct ipc_out sub;

		ipc_out_init(&sub, 0, 0);
		ipc_put_str(&sub, WORKER_TAG_IMAGE_ID, v[i].id);
		for (size_t k = 0; k < v[i].tags.n; k++)
			ipc_put_str(&sub, WORKER_TAG_REFERENCE, v[i].tags.v[k]);
		ipc_put_nested(o, WORKER_TAG_IMAGE, &sub);
		strv_fini(&v[i].tags);
	}
	free(v);
	return r;
}

static void on_save_progress(void *arg, const struct image_progress *p)
{
	struct saving *v = arg;

	v->total = p->total;
}

static void save_run(void *arg)
{
	struct saving *v = arg;

	v->result = image_worker_run(v->store, &v->request, on_save_progress, v, &v->in, &v->e);
	co_event_set(&v->done);
	co_wake(v->caller);
}

static void on_readable(struct loop_io *io, uint32_t events)
{
	(void)events;
	loop_io_del(io); /* until the caller waits again */
	co_wake(container_of(io, struct saving, io)->caller);
}

static int wait_for_more(struct saving *v, struct err *e)
{
	int r = loop_io_add(v->store->loop, &v->io, v->fd, EPOLLIN, on_readable);

	if (r < 0)
		return err_errno(e, r, "wait for the archive");
	r = co_wait();
	loop_io_del(&v->io);
	if (r < 0)
		err_set(e, r, r == -ETIMEDOUT ? GRPC_DEADLINE_EXCEEDED : GRPC_CANCELLED,
			"saving was cancelled");
	return r;
}

/* Until the worker has closed its end. */
static int pass_on(struct saving *v, image_bytes_fn *fn, void *arg, struct err *e)
{
	_cleanup_free_ char *buf = xmalloc(PIECE);
	int r = 0;

	while (r == 0) {
		ssize_t n = read(v->fd, buf, PIECE);

		if (n == 0)
			return 0;
		if (n > 0) {
			r = fn(arg, buf, (size_t)n, v->total, e);
		} else if (errno == EAGAIN) {
			r = wait_for_more(v, e);
		} else if (errno != EINTR) {
			r = err_errno(e, -errno, "read the archive");
		}
	}
	return r;
}

/* Its end of the pipe goes with the request. */
static int open_pipe(struct saving *v, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "make a pipe");
	ipc_put_fd(&v->request, p[1]);
	v->fd = p[0];
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	fcntl(p[0], F_SETPIPE_SZ, PIPE_BYTES); /* fewer turns; without it goes too */
	return 0;
}

/* The worker has ended or has nobody to write to: it ends. */
static int save_end(struct saving *v, int r, struct err *e)
{
	v->fd = fd_close(v->fd);
	if (r < 0 && !v->done.set)
		co_cancel(v->co, -ECANCELED);
	co_shield(true); /* it is on this stack */
	co_event_wait(&v->done, USEC_FOREVER);
	co_shield(false);
	if (r == 0 && v->result < 0) {
		*e = v->e;
		r = v->result;
	}
	return r;
}

/* What was found to be damaged. */
static int tell_damage(struct saving *v, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(&v->in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);
		const char *id, *state;

		if (f.tag != WORKER_TAG_RESULT)
			continue;
		id = str_or_empty(ipc_get_str(&sub, WORKER_TAG_IMAGE_ID));
		state = str_or_empty(ipc_get_str(&sub, WORKER_TAG_STATE));
		if (!streq(state, "damaged"))
			return err_set(e, -EAGAIN, GRPC_ABORTED,
				       "image %s was removed or replaced meanwhile", id);
		return err_set(e, -EBADMSG, GRPC_DATA_LOSS,
			       "image %s is damaged and has to be pulled anew: %s", id,
			       str_or_empty(ipc_get_str(&sub, WORKER_TAG_TEXT)));
	}
	return 0;
}

int image_save(struct image_store *s, char *const *refs, size_t n, image_bytes_fn *fn, void *arg,
	       struct err *e)
{
	struct saving v = {.store = s, .in = IPC_IN_NULL, .caller = co_self(), .fd = -EBADF};
	int r;

	image_request(s, &v.request, WORKER_SAVE);
	r = put_images(s, refs, n, &v.request, e);
	if (r == 0)
		r = open_pipe(&v, e);
	if (r < 0) {
		fd_close(v.fd);
		ipc_out_fini(&v.request);
		return r;
	}
	co_event_init(&v.done);
	v.co = co_start(s->loop, save_run, &v);
	r = pass_on(&v, fn, arg, e);
	r = save_end(&v, r, e);
	if (v.result == 0) { /* also where nobody waits for it any more */
		int k = image_take_records(s, &v.in, r < 0 ? NULL : e);

		r = r < 0 ? r : k;
	}
	if (r == 0)
		r = tell_damage(&v, e);
	ipc_in_fini(&v.in);
	return r;
}
