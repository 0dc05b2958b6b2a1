/* SPDX-License-Identifier: Apache-2.0 */
/* Tags, sweeping, pruning, verifying and measuring the store: see store.h. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "image/store_internal.h"
#include "ipc/worker.h"

/* --- tags --- */

int image_canonical_tags(char *const *names, size_t n, struct strv *ret, struct err *e)
{
	if (n > IMAGE_NAMES_MAX)
		return err_invalid(e, "tags: %zu, at most %d at once", n, IMAGE_NAMES_MAX);
	for (size_t i = 0; i < n; i++) {
		_cleanup_reference_ struct reference ref = REFERENCE_NULL;
		int r = reference_parse(names[i], &ref, e);

		if (r < 0)
			return r;
		if (ref.digest)
			return err_invalid(e, "\"%s\": a tag cannot be given with a digest",
					   names[i]);
		if (!strv_contains(ret, ref.text))
			strv_add(ret, ref.text);
	}
	return 0;
}

int image_tag(struct image_store *s, const char *source, char *const *targets, size_t n,
	      char *ret_id, struct strv *ret_tags, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	_cleanup_strv_ struct strv tags = STRV_NULL;
	struct image *im;
	struct ipc_out o;
	int r = n ? image_canonical_tags(targets, n, &tags, e)
		  : err_invalid(e, "targets: there are none");

	if (r == 0)
		r = image_find(s, source, &im, e);
	if (r < 0)
		return r;
	memcpy(ret_id, im->record.id, ID_SIZE);
	image_request(s, &o, WORKER_NAME);
	ipc_put_str(&o, WORKER_TAG_IMAGE_ID, ret_id);
	for (size_t i = 0; i < tags.n; i++)
		ipc_put_str(&o, WORKER_TAG_REFERENCE, tags.v[i]);
	co_shield(true); /* short, and what is on the disk must be known here */
	r = image_worker_run(s, &o, NULL, NULL, &in, e);
	co_shield(false);
	if (r == 0)
		r = image_take_records(s, &in, e);
	if (r < 0)
		return r;
	*ret_tags = tags;
	tags = STRV_NULL;
	return 0;
}

/* --- sweeping --- */

/* What the records on the disk do not say any more. */
static void drop_others(struct image_store *s, const struct ipc_in *in)
{
	uint64_t seq = ipc_get_u64(in, WORKER_TAG_SEQ, 0);
	struct image *im, *next;
	struct map there = MAP_NULL;
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f))
		if (f.tag == WORKER_TAG_IMAGE_ID && ipc_field_str(&f))
			map_put(&there, ipc_field_str(&f), s);
	list_for_each_safe (im, next, &s->images, in_order)
		if (im->seq <= seq && !map_get(&there, im->record.id))
			image_drop(s, im);
	map_fini(&there);
}

/* Finishes `o`. */
static int sweep(struct image_store *s, struct ipc_out *o, struct ipc_in *in, struct err *e)
{
	int r;

	co_shield(true); /* what is on the disk must be known here */
	r = image_worker_run(s, o, NULL, NULL, in, e);
	co_shield(false);
	return r < 0 ? r : image_take_records(s, in, e);
}

int image_resync(struct image_store *s, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out o;
	int r;

	image_request(s, &o, WORKER_SWEEP);
	ipc_put_u64(&o, WORKER_TAG_ANEW, 1);
	r = sweep(s, &o, &in, e);
	if (r == 0)
		drop_others(s, &in);
	return r;
}

static void put_used(struct ipc_out *o, const struct strv *used)
{
	for (size_t i = 0; i < used->n; i++)
		ipc_put_str(o, WORKER_TAG_USED, used->v[i]);
	ipc_put_u64(o, WORKER_TAG_USED_KNOWN, 1);
}

int image_sweep(struct image_store *s, const struct strv *ids, const struct strv *used,
		struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct image *im;
	struct ipc_out o;

	image_request(s, &o, WORKER_SWEEP);
	put_used(&o, used);
	for (size_t i = 0; i < ids->n; i++)
		ipc_put_str(&o, WORKER_TAG_NAME, ids->v[i]);
	list_for_each (im, &s->images, in_order)
		if (image_damaged(im) && !strv_contains(used, im->record.id))
			ipc_put_str(&o, WORKER_TAG_IMAGE_ID, im->record.id);
	return sweep(s, &o, &in, e);
}

/* --- pruning --- */

static bool to_be_pruned(const struct image *im, const struct strv *used, bool all)
{
	if (im->removing || strv_contains(used, im->record.id))
		return false;
	return image_damaged(im) || (!im->pinned && (all || im->record.tags.n == 0));
}

/* What was not removed in the end is to be found again. */
static void keep_again(struct image_store *s, const struct strv *ids)
{
	for (size_t i = 0; i < ids->n; i++) {
		struct image *im = map_get(&s->by_id, ids->v[i]);

		if (im)
			im->removing = false;
	}
}

int image_prune(struct image_store *s, const struct strv *used, bool all, bool dry,
		image_prune_fn *fn, void *arg, struct image_usage *ret, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	_cleanup_strv_ struct strv ids = STRV_NULL;
	struct image *im;
	struct ipc_out o;
	int r;

	image_request(s, &o, WORKER_SWEEP);
	ipc_put_u64(&o, WORKER_TAG_DRY, dry);
	put_used(&o, used);
	list_for_each (im, &s->images, in_order) {
		if (!to_be_pruned(im, used, all))
			continue;
		ipc_put_str(&o, WORKER_TAG_IMAGE_ID, im->record.id);
		strv_add(&ids, im->record.id);
		fn(arg, im);
		im->removing = !dry;
	}
	r = sweep(s, &o, &in, e);
	if (!dry)
		keep_again(s, &ids);
	if (r == 0)
		*ret = (struct image_usage){
			.bytes = ipc_get_u64(&in, WORKER_TAG_BYTES, 0),
			.inodes = ipc_get_u64(&in, WORKER_TAG_INODES, 0),
			.measured_at = clock_wall_ns(),
		};
	return r;
}

/* --- verifying --- */

/* A verification under way, in a coroutine of its own: what it says is told by the caller. */
struct verification {
	struct image_store *store;
	struct ipc_out request;
	struct ipc_in in;
	struct co *caller, *co;
	struct co_event done;
	struct err e;
	int result;
	char *name, *state; /* the newest progress that was not told yet; NULL: none. owned */
	uint64_t at, total;
};

static int name_images(struct image_store *s, char *const *refs, size_t n, struct ipc_out *o,
		       struct err *e)
{
	_cleanup_strv_ struct strv ids = STRV_NULL;
	struct image *im;

	if (n > IMAGE_NAMES_MAX)
		return err_invalid(e, "images: %zu, at most %d at once", n, IMAGE_NAMES_MAX);
	for (size_t i = 0; i < n; i++) {
		int r = image_find_any(s, refs[i], &im, e);

		if (r < 0)
			return r;
		if (!strv_contains(&ids, im->record.id))
			strv_add(&ids, im->record.id);
	}
	if (n == 0)
		list_for_each (im, &s->images, in_order)
			if (!im->removing)
				strv_add(&ids, im->record.id);
	for (size_t i = 0; i < ids.n; i++)
		ipc_put_str(o, WORKER_TAG_IMAGE_ID, ids.v[i]);
	return 0;
}

static void on_verify_progress(void *arg, const struct image_progress *p)
{
	struct verification *v = arg;

	free(v->name);
	free(v->state);
	v->name = xstrdup(str_or_empty(p->layer));
	v->state = xstrdup(str_or_empty(p->state));
	v->at = p->done;
	v->total = p->total;
	co_wake(v->caller);
}

static void verify_run(void *arg)
{
	struct verification *v = arg;

	v->result = image_worker_run(v->store, &v->request, on_verify_progress, v, &v->in, &v->e);
	co_event_set(&v->done);
	co_wake(v->caller);
}

static int tell_progress(struct verification *v, image_progress_fn *fn, void *arg, struct err *e)
{
	_cleanup_free_ char *name = TAKE_PTR(v->name), *state = TAKE_PTR(v->state);
	struct image_progress p = {.layer = name, .state = state, .done = v->at, .total = v->total};

	return fn(arg, &p, e);
}

static int verify_wait(struct verification *v, image_progress_fn *fn, void *arg, struct err *e)
{
	int r = 0;

	while (r == 0 && !(v->done.set && !v->name)) {
		if (v->name)
			r = tell_progress(v, fn, arg, e);
		else if ((r = co_wait()) < 0)
			err_set(e, r, r == -ETIMEDOUT ? GRPC_DEADLINE_EXCEEDED : GRPC_CANCELLED,
				"the verification was cancelled");
	}
	if (r == 0) {
		if (v->result < 0)
			*e = v->e;
		return v->result;
	}
	if (!v->done.set)
		co_cancel(v->co, -ECANCELED);
	co_shield(true); /* it is on this stack */
	co_event_wait(&v->done, USEC_FOREVER);
	co_shield(false);
	return r;
}

static int tell_results(struct image_store *s, const struct ipc_in *in, image_verdict_fn *fn,
			void *arg, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && ipc_next(in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);
		const char *id, *state, *text;
		struct image *im;

		if (f.tag != WORKER_TAG_RESULT)
			continue;
		id = str_or_empty(ipc_get_str(&sub, WORKER_TAG_IMAGE_ID));
		state = str_or_empty(ipc_get_str(&sub, WORKER_TAG_STATE));
		text = str_or_empty(ipc_get_str(&sub, WORKER_TAG_TEXT));
		im = map_get(&s->by_id, id);
		if (im && streq(state, "damaged") && !image_damaged(im)) {
			free(im->record.damaged); /* its record could not be written to */
			im->record.damaged = xstrdup(text);
		}
		r = fn(arg, id, im, state, text, e);
	}
	return r;
}

int image_verify(struct image_store *s, char *const *refs, size_t n, image_progress_fn *progress,
		 image_verdict_fn *fn, void *arg, struct err *e)
{
	struct verification v = {.store = s, .in = IPC_IN_NULL, .caller = co_self()};
	int r;

	image_request(s, &v.request, WORKER_VERIFY);
	r = name_images(s, refs, n, &v.request, e);
	if (r < 0) {
		ipc_out_fini(&v.request);
		return r;
	}
	co_event_init(&v.done);
	v.co = co_start(s->loop, verify_run, &v);
	r = verify_wait(&v, progress, arg, e);
	if (v.result == 0) { /* also where nobody waits for it any more */
		int k = image_take_records(s, &v.in, r < 0 ? NULL : e);

		r = r < 0 ? r : k;
	}
	if (r == 0)
		r = tell_results(s, &v.in, fn, arg, e);
	ipc_in_fini(&v.in);
	free(v.name);
	free(v.state);
	return r;
}

/* --- space --- */

void image_store_usage(const struct image_store *s, struct image_usage *ret)
{
	*ret = s->usage;
}

int image_measure(struct image_store *s, image_walk_fn *fn, void *arg, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_field f;
	struct ipc_out o;
	size_t pos = 0;
	int r;

	image_request(s, &o, WORKER_MEASURE);
	r = image_worker_run(s, &o, NULL, NULL, &in, e);
	if (r < 0)
		return r;
	s->usage = (struct image_usage){
		.bytes = ipc_get_u64(&in, WORKER_TAG_BYTES, 0),
		.inodes = ipc_get_u64(&in, WORKER_TAG_INODES, 0),
		.measured_at = clock_wall_ns(),
	};
	while (ipc_next(&in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);
		struct image_usage u = {.measured_at = s->usage.measured_at};

		if (f.tag != WORKER_TAG_USAGE || !ipc_get_str(&sub, WORKER_TAG_NAME))
			continue;
		u.bytes = ipc_get_u64(&sub, WORKER_TAG_BYTES, 0);
		u.inodes = ipc_get_u64(&sub, WORKER_TAG_INODES, 0);
		fn(arg, ipc_get_str(&sub, WORKER_TAG_NAME), &u);
	}
	return 0;
}
