/* SPDX-License-Identifier: Apache-2.0 */
/* Runtimes as objects: see runtimes.h. */
#include "pod/runtimes.h"

#include "base/mem.h"
#include "wire/json.h"

#define SETTINGS_MAX (256u << 10) /* bytes of a row's settings */

struct node_runtime *node_runtime_ref(struct node_runtime *rt)
{
	rt->refs++;
	return rt;
}

struct node_runtime *node_runtime_unref(struct node_runtime *rt)
{
	if (!rt || --rt->refs > 0)
		return NULL;
	list_remove(&rt->link);
	loop_timer_clear(&rt->rest);
	config_unref(rt->of);
	arena_fini(&rt->own);
	free(rt->version);
	free(rt->reason);
	free(rt->path);
	free(rt->note);
	runtime_caps_fini(&rt->caps);
	free(rt);
	return NULL;
}

struct node_runtime *node_runtime_named(const struct node *n, const char *name)
{
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (streq(n->runtimes[i]->config->name, name))
			return n->runtimes[i];
	return NULL;
}

static struct node_runtime *new_runtime(struct node *n)
{
	struct node_runtime *rt = xcalloc(1, sizeof(*rt));

	rt->refs = 1;
	rt->node = n;
	co_event_init(&rt->probe_ended);
	list_append(&n->runtimes_known, &rt->link);
	return rt;
}

/* --- of the configuration --- */

static void take_settings(struct node_runtime *rt, const struct config *c,
			  const struct config_runtime *settings)
{
	const struct config *old = rt->of;

	rt->of = config_ref(c);
	rt->config = settings;
	config_unref(old);
}

void node_runtimes_configure(struct node *n)
{
	const struct config *c = n->config;
	struct node_runtime **v = xcalloc(c->n_runtimes, sizeof(struct node_runtime *));

	for (size_t i = 0; i < c->n_runtimes; i++) {
		struct node_runtime *old = node_runtime_named(n, c->runtimes[i].name);

		v[i] = old && config_runtime_equal(old->config, &c->runtimes[i])
			       ? node_runtime_ref(old)
			       : new_runtime(n);
	}
	node_runtimes_drop(n);
	for (size_t i = 0; i < c->n_runtimes; i++)
		take_settings(v[i], c, &c->runtimes[i]);
	n->runtimes = v;
	n->n_runtimes = c->n_runtimes;
}

void node_runtimes_drop(struct node *n)
{
	for (size_t i = 0; i < n->n_runtimes; i++)
		node_runtime_unref(n->runtimes[i]);
	free(n->runtimes);
	n->runtimes = NULL;
	n->n_runtimes = 0;
}

/* --- of rows --- */

void node_runtime_print(const struct node_runtime *rt, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "path", rt->config->path);
	jw_key_array(&w, "args");
	for (size_t i = 0; rt->config->args[i]; i++)
		jw_string(&w, rt->config->args[i]);
	jw_array_end(&w);
	jw_key_int(&w, "isolation", rt->config->isolation);
	jw_key_int(&w, "unit", rt->config->unit);
	jw_object_end(&w);
}

static bool same_call(const struct config_runtime *a, const struct config_runtime *b)
{
	size_t i = 0;

	if (!streq(a->name, b->name) || !streq(a->path, b->path))
		return false;
	while (a->args[i] && b->args[i] && streq(a->args[i], b->args[i]))
		i++;
	return !a->args[i] && !b->args[i];
}

static const char *const none[] = {NULL};

/* `doc` as settings, in `a`. */
static struct config_runtime *read_settings(const char *name, const jv *doc, struct arena *a)
{
	struct config_runtime *c = arena_alloc(a, sizeof(*c));
	const jv *args = jv_get(doc, "args");
	size_t n = jv_len(args);
	const char **v = arena_calloc(a, n + 1, sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i] = arena_strdup(a, str_or_empty(jv_as_string(jv_at(args, i))));
	*c = (struct config_runtime){
		.name = arena_strdup(a, name),
		.path = arena_strdup(a, jv_string(doc, "path", "")),
		.args = v,
		.needs = none,
		.isolation =
			(enum config_isolation)jv_int(doc, "isolation", CONFIG_ISOLATION_PLAIN),
		.unit = (enum config_unit)jv_int(doc, "unit", CONFIG_UNIT_CONTAINER),
		.pod_annotations = none,
		.container_annotations = none,
	};
	return c;
}

struct node_runtime *node_runtime_restore(struct node *n, const char *name, const char *json)
{
	struct node_runtime *rt = node_runtime_named(n, name);
	struct arena a = ARENA_NULL;
	_cleanup_jv_ jv *doc = NULL;
	struct config_runtime *c;

	if (str_empty(json) || jv_parse(json, strlen(json), SETTINGS_MAX, "row", &doc, NULL) < 0)
		return rt ? node_runtime_ref(rt) : NULL;
	c = read_settings(name, doc, &a);
	if (rt && same_call(rt->config, c)) {
		arena_fini(&a);
		return node_runtime_ref(rt);
	}
	list_for_each (rt, &n->runtimes_known, link)
		if (same_call(rt->config, c)) {
			arena_fini(&a);
			return node_runtime_ref(rt);
		}
	rt = new_runtime(n);
	rt->own = a;
	rt->config = c;
	return rt;
}
