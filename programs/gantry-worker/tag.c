/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: given to an image and taken from others; what a crash left of that. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/id.h"
#include "base/map.h"
#include "base/mem.h"
#include "store.h"
#include "worker.h"

static int read_request(const struct ipc_in *in, struct strv *tags, const char **ret_id,
			struct err *e)
{
	struct ipc_field f;
	size_t pos = 0;

	*ret_id = ipc_get_str(in, WORKER_TAG_IMAGE_ID);
	if (!*ret_id || !id_valid(*ret_id))
		return err_invalid(e, "image id: \"%s\"", str_or_empty(*ret_id));
	while (ipc_next(in, &pos, &f))
		if (f.tag == WORKER_TAG_REFERENCE && ipc_field_str(&f))
			strv_add(tags, ipc_field_str(&f));
	return 0;
}

/* Written before the tags are taken from others: whatever happens in between, each tag has an
 * image. */
static int give(struct store *s, const char *id, const struct strv *tags, struct ipc_out *reply,
		struct err *e)
{
	struct image_record rec;
	char file[ID_SIZE + 8];
	int r;

	snprintf(file, sizeof(file), "%s.json", id);
	r = store_read_record(s, file, &rec);
	if (r == -ENOENT)
		return err_not_found(e, "image %s was removed meanwhile", id);
	if (r < 0)
		return err_errno(e, r, "read the record of image %s", id);
	store_take_names(&rec.tags, tags);
	if (rec.tags.n + tags->n > IMAGE_NAMES_MAX) {
		image_record_fini(&rec);
		return err_set(e, -ENOSPC, GRPC_RESOURCE_EXHAUSTED,
			       "image %s would have more than %d tags", id, IMAGE_NAMES_MAX);
	}
	store_add_names(&rec.tags, tags);
	rec.tagged_at = clock_wall_ns();
	r = store_write_record(s, &rec, reply, e);
	FAULT_POINT("worker.name.recorded");
	if (r == 0)
		r = store_untag_others(s, id, tags, reply, e);
	FAULT_POINT("worker.name.taken");
	image_record_fini(&rec);
	return r;
}

int do_name(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	_cleanup_strv_ struct strv tags = STRV_NULL;
	struct store_change c;
	struct store s;
	const char *id;
	int r = read_request(in, &tags, &id, e);

	if (r == 0)
		r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &s, e);
	if (r < 0)
		return r;
	r = store_change_begin(&s, &c, e);
	if (r == 0) {
		r = give(&s, id, &tags, reply, e);
		ipc_put_u64(reply, WORKER_TAG_SEQ, c.seq);
		store_change_end(&c);
	}
	store_close(&s);
	return r;
}

/* --- after a crash --- */

/* A tag and who has it. */
struct owner {
	char *tag, *id;
	int64_t at;
};

struct settling {
	struct map owners;    /* struct owner by tag */
	struct strv disputed; /* tags that two have */
	struct ipc_out *reply;
};

static int note_tags(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	struct settling *k = arg;

	(void)s;
	(void)e;
	for (size_t i = 0; i < rec->tags.n; i++) {
		struct owner *o = map_get(&k->owners, rec->tags.v[i]);

		if (!o) {
			o = xcalloc(1, sizeof(*o));
			o->tag = xstrdup(rec->tags.v[i]);
			map_put(&k->owners, o->tag, o);
		} else if (!strv_contains(&k->disputed, o->tag)) {
			strv_add(&k->disputed, o->tag);
		}
		if (!o->id || rec->tagged_at > o->at) {
			free(o->id);
			o->id = xstrdup(rec->id);
			o->at = rec->tagged_at;
		}
	}
	return 0;
}

/* Both sides of a dispute are written: the daemon may know of neither. */
static int settle(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	struct settling *k = arg;
	struct strv lost = STRV_NULL;
	bool any = false;
	int r = 0;

	for (size_t i = 0; i < rec->tags.n; i++) {
		const struct owner *o = map_get(&k->owners, rec->tags.v[i]);

		if (!o || !strv_contains(&k->disputed, o->tag))
			continue;
		any = true;
		if (!streq(o->id, rec->id))
			strv_add(&lost, o->tag);
	}
	if (any) {
		store_take_names(&rec->tags, &lost);
		r = store_write_record(s, rec, k->reply, e);
	}
	strv_fini(&lost);
	return r;
}

int settle_tags(struct store *s, struct ipc_out *reply, struct err *e)
{
	struct settling k = {.reply = reply};
	struct owner *o;
	size_t pos = 0;
	int r = store_each_record(s, note_tags, &k, e);

	if (r == 0 && k.disputed.n)
		r = store_each_record(s, settle, &k, e);
	while ((o = map_next(&k.owners, &pos))) {
		free(o->tag);
		free(o->id);
		free(o);
	}
	map_fini(&k.owners);
	strv_fini(&k.disputed);
	return r;
}
