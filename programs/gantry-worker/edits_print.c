/* SPDX-License-Identifier: Apache-2.0 */
/* Edits as one JSON object: see edits.h. */
#include "edits.h"

#include "base/mem.h"
#include "dropins.h"

static const char *const stages[EDITS_STAGES] = {
	"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};

struct jw edits_next(struct strbuf *list)
{
	if (list->len)
		strbuf_addc(list, ',');
	return JW_INIT(list);
}

int edits_stage(const char *name)
{
	for (int i = 0; i < EDITS_STAGES; i++)
		if (streq(stages[i], name))
			return i;
	return -1;
}

void edits_put_strings(struct jw *w, const char *key, const jv *list)
{
	if (!jv_len(list))
		return;
	jw_key_array(w, key);
	for (size_t i = 0; i < jv_len(list); i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		field_text(jv_at(list, i), &b);
		jw_string(w, str_or_empty(b.s));
	}
	jw_array_end(w);
}

void edits_add_hook(struct edits *to, int stage, const jv *v)
{
	struct jw w;

	if (stage < 0 || stage >= EDITS_STAGES)
		return;
	w = edits_next(&to->hooks[stage]);
	jw_object_begin(&w);
	jw_key_string(&w, "path", jv_string(v, "path", ""));
	edits_put_strings(&w, "args", jv_get(v, "args"));
	edits_put_strings(&w, "env", jv_get(v, "env"));
	if (jv_get(v, "timeout"))
		jw_key_int(&w, "timeout", jv_int(v, "timeout", 0));
	jw_object_end(&w);
}

static void put(struct strbuf *to, const char *key, const struct strbuf *values, char open,
		char close)
{
	if (values->len)
		strbuf_addf(to, "%s\"%s\":%c%s%c", to->s[to->len - 1] == '{' ? "" : ",", key, open,
			    values->s, close);
}

static void put_hooks(const struct edits *v, struct strbuf *to)
{
	_cleanup_strbuf_ struct strbuf all = STRBUF_NULL;

	strbuf_addc(&all, '{');
	for (int i = 0; i < EDITS_STAGES; i++)
		put(&all, stages[i], &v->hooks[i], '[', ']');
	if (all.len > 1)
		strbuf_addf(to, "%s\"hooks\":%s}", to->s[to->len - 1] == '{' ? "" : ",", all.s);
}

int edits_print(const struct edits *v, struct strbuf *to, struct err *e)
{
	_cleanup_strbuf_ struct strbuf all = STRBUF_NULL;

	strbuf_addc(&all, '{');
	put(&all, "env", &v->env, '[', ']');
	put(&all, "devices", &v->devices, '[', ']');
	put(&all, "mounts", &v->mounts, '[', ']');
	put(&all, "gids", &v->gids, '[', ']');
	put(&all, "netDevices", &v->net_devices, '{', '}');
	put(&all, "intelRdt", &v->intel_rdt, ' ', ' ');
	put_hooks(v, &all);
	strbuf_addc(&all, '}');
	if (all.len > EDITS_MAX)
		return err_set(e, -E2BIG, GRPC_RESOURCE_EXHAUSTED,
			       "CDI devices and hooks add %zu bytes to the container, at most %u "
			       "are possible",
			       all.len, EDITS_MAX);
	strbuf_add(to, all.s, all.len);
	return 0;
}

void edits_fini(struct edits *v)
{
	strbuf_fini(&v->env);
	strbuf_fini(&v->devices);
	strbuf_fini(&v->mounts);
	strbuf_fini(&v->gids);
	strbuf_fini(&v->net_devices);
	strbuf_fini(&v->intel_rdt);
	for (int i = 0; i < EDITS_STAGES; i++)
		strbuf_fini(&v->hooks[i]);
}
