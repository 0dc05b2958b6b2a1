/* SPDX-License-Identifier: Apache-2.0 */
/* CRI: what the runtime is and how it is. */
#include "base/clock.h"
#include "base/mem.h"
#include "config/config.h"
#include "cri/cri.h"
#include "pod/choose.h"
#include "pod/node.h"
#include "pod/runtimes.h"
#include "wire/json.h"

static int version(struct cri_call *c, const void *request, void *response, struct err *e)
{
	Runtime__V1__VersionResponse *r = response;

	r->version = arena_strdup(c->arena, "0.1.0"); /* of the kubelet's own API, always this */
	r->runtime_name = arena_strdup(c->arena, "gantry");
	r->runtime_version = arena_strdup(c->arena, GANTRY_VERSION);
	r->runtime_api_version = arena_strdup(c->arena, "v1");
	return 0;
}

static Runtime__V1__RuntimeCondition *condition(struct arena *a, const char *type, bool ok,
						const char *reason, const char *message)
{
	Runtime__V1__RuntimeCondition *m = arena_alloc(a, sizeof(*m));

	runtime__v1__runtime_condition__init(m);
	m->type = arena_strdup(a, type);
	m->status = ok;
	if (!ok) {
		m->reason = arena_strdup(a, reason);
		m->message = arena_strdup(a, message);
	}
	return m;
}

/* None of those that pods get by default may be asked now: each has failed too often. */
static bool all_set_aside(const struct node *n, struct strbuf *why)
{
	for (size_t i = 0; n->config->default_runtimes[i]; i++) {
		const struct node_runtime *rt =
			node_runtime_named(n, n->config->default_runtimes[i]);
		const char *aside = rt && rt->available ? node_runtime_set_aside(rt) : NULL;

		if (rt && rt->available && !aside)
			return false;
		if (aside)
			strbuf_addf(why, "%s%s is set aside: %s", why->len ? "; " : "",
				    rt->config->name, aside);
	}
	return why->len > 0;
}

/* Ready when the default handler has a runtime that works; says what is wrong with each. */
static Runtime__V1__RuntimeCondition *runtime_ready(struct cri_call *c)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_NULL;
	struct node_runtime *rt;
	struct err e = ERR_NULL;

	if (!node_runtimes_known(c->node))
		return condition(c->arena, "RuntimeReady", false, "Probing",
				 "the runtimes are being probed");
	if (all_set_aside(c->node, &why))
		return condition(c->arena, "RuntimeReady", false, "RuntimesSetAside", why.s);
	if (node_runtime_peek(c->node, "", NODE_NEEDS_NOTHING, &rt, &e) == 0)
		return condition(c->arena, "RuntimeReady", true, "", "");
	return condition(c->arena, "RuntimeReady", false, "NoRuntimeAvailable", e.msg);
}

static void add_handler(struct cri_call *c, Runtime__V1__StatusResponse *r, const char *name)
{
	Runtime__V1__RuntimeHandler *h = arena_alloc(c->arena, sizeof(*h));

	runtime__v1__runtime_handler__init(h);
	h->name = arena_strdup(c->arena, name);
	h->features = arena_alloc(c->arena, sizeof(*h->features));
	runtime__v1__runtime_handler_features__init(h->features);
	h->features->recursive_read_only_mounts =
		c->node->has_rro && node_runtime_can(c->node, name, NODE_NEEDS_RRO);
	h->features->user_namespaces = node_runtime_can(c->node, name, NODE_NEEDS_USERNS);
	r->runtime_handlers[r->n_runtime_handlers++] = h;
}

static void handlers(struct cri_call *c, Runtime__V1__StatusResponse *r)
{
	const struct node *n = c->node;

	r->runtime_handlers =
		arena_calloc(c->arena, n->n_runtimes + 1, sizeof(*r->runtime_handlers));
	add_handler(c, r, "");
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (n->runtimes[i]->available)
			add_handler(c, r, n->runtimes[i]->config->name);
}

static void put_capabilities(const struct node_runtime *rt, struct jw *w)
{
	const struct runtime_caps *c = &rt->caps;

	/* What has no value is there. */
	if (!(c->has & RCAP_BIT(RCAP_USERNS)))
		jw_key_string(w, "userNamespaces", runtime_caps_why(c, RCAP_USERNS));
	if (!(c->has & RCAP_BIT(RCAP_CHECKPOINT)))
		jw_key_string(w, "checkpoints", runtime_caps_why(c, RCAP_CHECKPOINT));
	if (!str_empty(rt->note))
		jw_key_string(w, "features", rt->note);
	jw_key(w, "capabilities");
	runtime_caps_print(c, w);
}

/* One that is set aside, or was and is being tried again. */
static void put_breaker(const struct node_runtime *rt, struct jw *w)
{
	if (rt->breaker.state == BREAKER_CLOSED)
		return;
	jw_key_object(w, "setAside");
	jw_key_string(w, "state", breaker_state_name(rt->breaker.state));
	jw_key_string(w, "reason", rt->breaker.why);
	jw_key_uint(w, "restSeconds", rt->breaker.rest / USEC_PER_SEC);
	jw_object_end(w);
}

/* `crictl info`: the configuration in short and every runtime with its health. */
static void info(struct cri_call *c, Runtime__V1__StatusResponse *r)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const struct node *n = c->node;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_string(&w, "rootDir", n->config->root);
	jw_key_string(&w, "stateDir", n->config->state);
	jw_key_string(&w, "cgroupDriver", n->cgroup_systemd ? "systemd" : "cgroupfs");
	jw_key_string(&w, "network", n->network.kind);
	jw_key(&w, "runtimes");
	jw_array_begin(&w);
	for (size_t i = 0; i < n->n_runtimes; i++) {
		const struct node_runtime *rt = n->runtimes[i];

		jw_object_begin(&w);
		jw_key_string(&w, "name", rt->config->name);
		jw_key_string(&w, "path", rt->config->path);
		jw_key_string(&w, "version", str_or_empty(rt->version));
		jw_key_bool(&w, "available", rt->available);
		if (!rt->available)
			jw_key_string(&w, "reason",
				      rt->probed ? str_or_empty(rt->reason) : "not probed yet");
		if (rt->available)
			put_capabilities(rt, &w);
		put_breaker(rt, &w);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_object_end(&w);
	cri_info(c->arena, "config", b.s, &r->info, &r->n_info);
}

static int status(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__StatusRequest *q = request;
	Runtime__V1__StatusResponse *r = response;
	Runtime__V1__RuntimeStatus *s = arena_alloc(c->arena, sizeof(*s));
	const char *why;
	bool net;

	node_runtimes_await(c->node); /* what they can do is asked for once by some */
	net = node_network_ready(c->node, &why);
	runtime__v1__runtime_status__init(s);
	s->conditions = arena_calloc(c->arena, 2, sizeof(*s->conditions));
	s->conditions[s->n_conditions++] = runtime_ready(c);
	s->conditions[s->n_conditions++] = condition(c->arena, "NetworkReady", net,
						     "NetworkPluginNotReady", str_or_empty(why));
	r->status = s;
	handlers(c, r);
	r->features = arena_alloc(c->arena, sizeof(*r->features));
	runtime__v1__runtime_features__init(r->features);
	r->features->supplemental_groups_policy = true;
	r->features->mount_options = true;
	r->features->user_namespaces_host_network =
		node_runtime_can(c->node, "", NODE_NEEDS_USERNS_HOST);
	if (q->verbose)
		info(c, r);
	return 0;
}

static int runtime_config(struct cri_call *c, const void *request, void *response, struct err *e)
{
	Runtime__V1__RuntimeConfigResponse *r = response;

	r->linux = arena_alloc(c->arena, sizeof(*r->linux));
	runtime__v1__linux_runtime_configuration__init(r->linux);
	r->linux->cgroup_driver = c->node->cgroup_systemd ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD
							  : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
	return 0;
}

/* The kubelet tells the node's pod range: pods made from now on get their addresses from it, by
 * the built-in bridge and by CNI plugins that declare the capability ipRanges. */
static int update_runtime_config(struct cri_call *c, const void *request, void *response,
				 struct err *e)
{
	const Runtime__V1__UpdateRuntimeConfigRequest *q = request;
	const Runtime__V1__NetworkConfig *net;

	if (!q->runtime_config)
		return err_invalid(e, "runtime_config: must be given");
	net = q->runtime_config->network_config;
	return net ? node_network_set_pod_cidr(c->node, net->pod_cidr, e) : 0;
}

const struct cri_method cri_methods_runtime[] = {
	CRI_METHOD("Version", version, version, true),
	CRI_METHOD("Status", status, status, true),
	CRI_METHOD("RuntimeConfig", runtime_config, runtime_config, true),
	CRI_METHOD("UpdateRuntimeConfig", update_runtime_config, update_runtime_config, false),
	{0},
};
