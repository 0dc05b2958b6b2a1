/* SPDX-License-Identifier: Apache-2.0 */
/* What files on the node add to a container: see spec.h. */
#include "base/mem.h"
#include "spec/resources.h"

/* --- devices --- */

static void put_device(struct spec_device *v, size_t *n, const struct spec_device *d)
{
	for (size_t i = 0; i < *n; i++)
		if (spec_same_path(v[i].path, d->path)) {
			v[i] = *d;
			return;
		}
	v[(*n)++] = *d;
}

void spec_edits_devices(const jv *edits, const struct spec_user *u, struct arena *a,
			struct spec_device **v, size_t *n)
{
	const jv *list = jv_get(edits, "devices");
	struct spec_device *all;

	if (!jv_len(list))
		return;
	all = arena_calloc(a, *n + jv_len(list), sizeof(*all));
	if (*n)
		memcpy(all, *v, *n * sizeof(*all));
	for (size_t i = 0; i < jv_len(list); i++) {
		const jv *d = jv_at(list, i);
		const char *p = jv_string(d, "permissions", "");
		const struct spec_device one = {
			.path = arena_strdup(a, jv_string(d, "path", "")),
			.type = *jv_string(d, "type", "c"),
			.major = jv_int(d, "major", 0),
			.minor = jv_int(d, "minor", 0),
			.mode = (uint32_t)jv_int(d, "fileMode", SPEC_DEVICE_MODE),
			.uid = (uint32_t)jv_int(d, "uid", u->uid), /* the user's, else */
			.gid = (uint32_t)jv_int(d, "gid", u->gid),
			.permissions = arena_strdup(a, streq(p, "none") ? "" : p),
		};

		put_device(all, n, &one);
	}
	*v = all;
}

/* --- the process --- */

int spec_edits_groups(const jv *edits, struct spec_user *u, struct err *e)
{
	const jv *list = jv_get(edits, "gids");

	if (!jv_len(list))
		return 0;
	if (u->n_groups + jv_len(list) > SPEC_GROUPS_MAX)
		return err_invalid(e, "the container has more than %d groups", SPEC_GROUPS_MAX);
	u->groups = xrealloc(u->groups, (u->n_groups + jv_len(list)) * sizeof(*u->groups));
	for (size_t i = 0; i < jv_len(list); i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
		uint64_t gid;

		jv_print(jv_at(list, i), &b);
		if (str_to_u64(b.s, &gid) && gid < UINT32_MAX)
			u->groups[u->n_groups++] = (uint32_t)gid;
	}
	return 0;
}

static void put_member(const jv *edits, const char *key, struct jw *w)
{
	const jv *v = jv_get(edits, key);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (!v)
		return;
	jv_print(v, &b);
	jw_key(w, key);
	jw_raw(w, b.s);
}

void spec_edits_print_exec(const jv *edits, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	if (!jv_get(edits, "env") && !jv_get(edits, "gids"))
		return;
	jw_object_begin(&w);
	put_member(edits, "env", &w);
	put_member(edits, "gids", &w);
	jw_object_end(&w);
}

/* --- members that are as OCI has them --- */

void spec_edits_print(const struct spec_container *s, struct jw *w)
{
	put_member(s->edits, "hooks", w);
}

void spec_edits_print_linux(const struct spec_container *s, struct jw *w)
{
	put_member(s->edits, "intelRdt", w);
	put_member(s->edits, "netDevices", w);
}
