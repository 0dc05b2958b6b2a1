/* SPDX-License-Identifier: Apache-2.0 */
/* Which runtime a new container gets: the engine (route/route.h) with what the bundle says. */
#include "base/mem.h"
#include "bundle.h"
#include "oci.h"
#include "route/route.h"
#include "runtime/report.h"

struct choice {
	struct oci *o;
	struct bundle bundle;
	struct route_binding bound;
	struct route *route;
	struct runtime_report *reports; /* of config.runtimes, in its order */
	struct route_state *states;
	bool *looked; /* at that one */
};

static enum config_isolation isolation_of(const char *name)
{
	enum config_isolation i = CONFIG_ISOLATION_VM;

	while (i > CONFIG_ISOLATION_PLAIN && !streq(config_isolation_name(i), name))
		i--;
	return i;
}

/* The pod whose container it is, by the record of its sandbox. */
static void bind_pod(struct choice *c)
{
	const char *id = c->bundle.sandbox_id;
	_cleanup_record_ struct record r = RECORD_NULL;

	if (!id || record_check_id(id, NULL) < 0 || record_read(c->o->root, id, &r, NULL) < 0)
		return;
	c->bound = (struct route_binding){
		.runtime = arena_strdup(&c->o->arena, r.runtime),
		.isolation = isolation_of(r.isolation),
		.unit = r.pod_unit ? CONFIG_UNIT_POD : CONFIG_UNIT_CONTAINER,
		.firm = true,
	};
	c->bundle.facts.bound = &c->bound;
}

/* A handler that a caller has of its own (CRI-O's names), or crun, need not be one of ours. */
static void settle_handler(struct choice *c)
{
	struct route_facts *f = &c->bundle.facts;

	if (f->handler && !c->bundle.own_handler && !config_runtime_find(&c->o->config, f->handler))
		f->handler = NULL;
}

static bool is_crun(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	return str_has_prefix(base, "crun") || str_has_prefix(base, "krun");
}

/* What is not known yet of a candidate; false: it was looked at before. */
static bool look(struct choice *c, size_t i)
{
	const struct config_runtime *rt = &c->o->config.runtimes[i];
	struct route_state *s = &c->states[i];
	struct runtime_report *r = &c->reports[i];

	if (c->looked[i])
		return false;
	c->looked[i] = true;
	reports_get(c->o, rt, r);
	s->available = !*r->problem;
	s->reason = r->problem;
	s->caps = &r->caps;
	if (c->bundle.run_handler && !is_crun(rt->path) &&
	    !streq(str_or_empty(c->bundle.facts.handler), rt->name))
		s->failed = "run.oci.handler is for crun";
	return true;
}

/*
 * Runtimes count as good until they are looked at: only those are that the choice depends on.  Each
 * round looks at one more.
 */
static int decide(struct choice *c, struct route_choice *ret, struct err *e)
{
	size_t n = c->o->config.n_runtimes;
	int r;

	for (size_t i = 0; i <= n; i++) {
		r = route_choose(c->route, &c->bundle.facts, c->states, ret, e);
		if (r < 0 || !look(c, ret->runtime))
			return r;
	}
	return r;
}

static void take(struct oci *o, const struct choice *c, const struct route_choice *chosen,
		 struct program *ret)
{
	const struct config_runtime *rt = &o->config.runtimes[chosen->runtime];
	const char *by = route_by_name(chosen->by);

	*ret = (struct program){
		.name = rt->name,
		.path = arena_strdup(&o->arena, c->reports[chosen->runtime].path),
		.args = rt->args,
		.pod_unit = rt->unit == CONFIG_UNIT_POD,
		.isolation = config_isolation_name(rt->isolation),
		.why = chosen->rule ? arena_printf(&o->arena, "%s %s%s", by, chosen->rule->name,
						   chosen->fallback ? ", fallback" : "")
				    : arena_printf(&o->arena, "%s%s", by,
						   chosen->fallback ? ", fallback" : ""),
	};
}

int choose(struct oci *o, struct program *ret, struct err *e)
{
	size_t n = o->config.n_runtimes;
	struct choice c = {.o = o,
			   .reports = arena_calloc(&o->arena, n, sizeof(*c.reports)),
			   .states = arena_calloc(&o->arena, n, sizeof(*c.states)),
			   .looked = arena_calloc(&o->arena, n, sizeof(*c.looked))};
	struct needs_facts host;
	struct route_choice chosen;
	int r;

	reports_host(o, &host);
	r = bundle_read(o->line.bundle, &host, &c.bundle, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		c.states[i].available = true;
	if (streq(o->line.verb->name, "restore"))
		needs_add(&c.bundle.needs, RCAP_RESTORE, "the command");
	c.bundle.facts.needs = c.bundle.needs.bits;
	settle_handler(&c);
	bind_pod(&c);
	c.route = route_new(&o->config);
	r = decide(&c, &chosen, e);
	if (r == 0)
		take(o, &c, &chosen, ret);
	route_free(c.route);
	for (size_t i = 0; i < n; i++)
		runtime_report_fini(&c.reports[i]);
	bundle_fini(&c.bundle);
	return r;
}
