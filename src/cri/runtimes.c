/* SPDX-License-Identifier: Apache-2.0 */
/* Runtimes as `gantry runtimes` shows them: see proto/gantry.proto. */
#include "base/mem.h"
#include "cri/cri.h"
#include "gantry.pb-c.h"
#include "pod/choose.h"
#include "pod/node.h"
#include "pod/runtimes.h"

/* Messages borrow from the node: nothing is waited for until they are sent. */
static char *text(const char *s)
{
	return (char *)(uintptr_t)str_or_empty(s);
}

static uint32_t default_place(const struct node *n, const char *name)
{
	const char *const *v = n->config->default_runtimes;

	for (uint32_t i = 0; v[i]; i++)
		if (streq(v[i], name))
			return i + 1;
	return 0;
}

static void put_health(const struct node_runtime *rt, Gantry__V1__RuntimeInfo *m)
{
	const char *aside = rt->available ? node_runtime_set_aside(rt) : NULL;

	m->health = text(!rt->probed	  ? "unknown"
			 : !rt->available ? "unavailable"
			 : aside	  ? "set aside"
					  : "available");
	m->reason = text(aside ? aside : rt->reason);
}

static void put_capabilities(const struct runtime_caps *c, struct arena *a,
			     Gantry__V1__RuntimeInfo *m)
{
	m->capabilities = arena_calloc(a, RCAP_COUNT, sizeof(*m->capabilities));
	m->lacks = arena_calloc(a, RCAP_COUNT, sizeof(*m->lacks));
	for (unsigned i = 0; i < RCAP_COUNT; i++) {
		Gantry__V1__RuntimeLack *lack;

		if (c->has & RCAP_BIT(i)) {
			m->capabilities[m->n_capabilities++] = text(runtime_cap_name(i));
			continue;
		}
		lack = arena_alloc(a, sizeof(*lack));
		gantry__v1__runtime_lack__init(lack);
		lack->name = text(runtime_cap_name(i));
		lack->reason = text(runtime_caps_why(c, i));
		m->lacks[m->n_lacks++] = lack;
	}
}

static Gantry__V1__RuntimeInfo *describe(const struct node *n, const struct node_runtime *rt,
					 struct arena *a)
{
	Gantry__V1__RuntimeInfo *m = arena_alloc(a, sizeof(*m));
	const struct config_runtime *c = rt->config;

	gantry__v1__runtime_info__init(m);
	m->name = text(c->name);
	m->path = text(c->path);
	m->program = text(rt->path);
	m->args = (char **)(uintptr_t)c->args;
	while (c->args[m->n_args])
		m->n_args++;
	m->version = text(rt->version);
	m->isolation = text(config_isolation_name(c->isolation));
	m->unit = text(c->unit == CONFIG_UNIT_POD ? "pod" : "container");
	m->default_place = default_place(n, c->name);
	put_health(rt, m);
	m->features_problem = text(rt->note);
	m->probed_at = rt->looked_at;
	if (rt->available)
		put_capabilities(&rt->caps, a, m);
	return m;
}

static int check_names(const struct node *n, const Gantry__V1__RuntimesRequest *q, struct err *e)
{
	for (size_t i = 0; i < q->n_names; i++)
		if (!node_runtime_named(n, q->names[i]))
			return err_not_found(e, "no runtime \"%s\" is configured", q->names[i]);
	return 0;
}

static bool wanted(const Gantry__V1__RuntimesRequest *q, const char *name)
{
	for (size_t i = 0; i < q->n_names; i++)
		if (streq(q->names[i], name))
			return true;
	return !q->n_names;
}

static int runtimes(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__RuntimesRequest *q = request;
	Gantry__V1__RuntimesResponse m = GANTRY__V1__RUNTIMES_RESPONSE__INIT;
	struct node *n = c->node;
	int r = check_names(n, q, e);

	if (r == 0 && q->probe)
		r = node_probe_await(n, e);
	if (r < 0)
		return r;
	node_runtimes_await(n);
	m.runtimes = arena_calloc(c->arena, n->n_runtimes, sizeof(*m.runtimes));
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (wanted(q, n->runtimes[i]->config->name))
			m.runtimes[m.n_runtimes++] = describe(n, n->runtimes[i], c->arena);
	return cri_send(c, &m.base, e);
}

const struct cri_method cri_methods_runtimes[] = {
	{.path = "/gantry.v1.Gantry/Runtimes",
	 .request = &gantry__v1__runtimes_request__descriptor,
	 .response = &gantry__v1__runtimes_response__descriptor,
	 .stream_fn = runtimes,
	 .quiet = true},
	{0},
};
