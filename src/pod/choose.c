/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a runtime: see choose.h. */
#include "pod/choose.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pod/node.h"
#include "pod/runtimes.h"
#include "wire/grpc.h"
#include "wire/json.h"

/* --- set aside --- */

static struct breaker_limits limits_of(const struct node *n)
{
	const struct config *c = n->config;

	return (struct breaker_limits){c->breaker.failures, c->breaker.rest_us,
				       MAX(c->breaker.rest_us, c->breaker.rest_max_us)};
}

static void on_rest(struct loop_timer *t)
{
	struct node_runtime *rt = container_of(t, struct node_runtime, rest);
	struct node *n = rt->node;

	/* One that the configuration has no more is asked by nobody. */
	if (node_runtime_named(n, rt->config->name) == rt &&
	    breaker_wants_probe(&rt->breaker, clock_mono_us()))
		node_probe_one(n, rt);
}

/* Once for each time that it is set aside. */
static void begin_rest(struct node *n, struct node_runtime *rt)
{
	const struct breaker *b = &rt->breaker;

	if (b->state != BREAKER_OPEN || rt->rest.loop)
		return;
	log_warn("runtime %s is set aside for %llu s, it keeps failing: %s", rt->config->name,
		 (unsigned long long)(b->rest / USEC_PER_SEC), b->why);
	loop_timer_set(n->loop, &rt->rest, b->until, on_rest);
}

void node_runtime_worked(struct node_runtime *rt)
{
	bool was = rt->breaker.state != BREAKER_CLOSED;

	breaker_success(&rt->breaker);
	if (was && rt->breaker.state == BREAKER_CLOSED)
		log_info("runtime %s works again", rt->config->name);
}

void node_runtime_failed(struct node *n, struct node_runtime *rt, enum runtime_blame blame,
			 const char *why)
{
	const struct breaker_limits l = limits_of(n);

	if (blame != RUNTIME_BLAME_RUNTIME) {
		breaker_nothing(&rt->breaker);
		return;
	}
	breaker_failure(&rt->breaker, &l, clock_mono_us(), why);
	begin_rest(n, rt);
}

void node_runtime_probed(struct node *n, struct node_runtime *rt)
{
	const struct breaker_limits l = limits_of(n);

	breaker_probed(&rt->breaker, &l, clock_mono_us(), rt->available, str_or_empty(rt->reason));
	begin_rest(n, rt);
}

const char *node_runtime_set_aside(const struct node_runtime *rt)
{
	if (breaker_allows(&rt->breaker, clock_mono_us()))
		return NULL;
	return *rt->breaker.why ? rt->breaker.why : "it keeps failing";
}

/* --- what the engine is told --- */

void choice_init(struct choice *k, struct node *n, const Runtime__V1__PodSandboxConfig *config,
		 const char *handler, const struct container *c)
{
	*k = (struct choice){.node = n, .config = config, .handler = handler, .container = c};
}

static void forget_choice(struct choice *k)
{
	k->rt = node_runtime_unref(k->rt);
	free(k->rule);
	k->rule = NULL;
}

void choice_fini(struct choice *k)
{
	forget_choice(k);
	free(k->labels);
	free(k->annotations);
	reference_fini(&k->reference);
	for (size_t i = 0; i < k->n_failed; i++) {
		free(k->failed[i].runtime);
		free(k->failed[i].why);
	}
}

void pod_binding(const struct pod *p, const struct container *c, struct route_binding *ret)
{
	const struct container *o;

	*ret = (struct route_binding){p->runtime_name, p->isolation, p->unit, false};
	list_for_each (o, &p->containers, in_pod) {
		const struct config_runtime *rt = o != c && o->runtime ? o->runtime->config : NULL;

		if (!rt)
			continue;
		ret->firm = true;
		/* Of those that it could have, the pod's own goes first. */
		if (rt->isolation != p->isolation || rt->unit != p->unit ||
		    rt->unit == CONFIG_UNIT_POD)
			*ret = (struct route_binding){rt->name, rt->isolation, rt->unit, true};
		return;
	}
}

static const Runtime__V1__NamespaceOption *namespaces(const Runtime__V1__PodSandboxConfig *c)
{
	return c->linux && c->linux->security_context
		       ? c->linux->security_context->namespace_options
		       : NULL;
}

static uint64_t needs_of_pod(const struct choice *k)
{
	const Runtime__V1__NamespaceOption *ns = namespaces(k->config);
	const struct needs_facts f = {.cgroup_v2 = k->node->host.cgroup_v2,
				      .cgroup_systemd = k->node->cgroup_systemd};
	const struct needs_pod p = {
		.userns = spec_userns_of(k->config) != NULL,
		.host_network = ns && ns->network == RUNTIME__V1__NAMESPACE_MODE__NODE,
		.host_pid = ns && ns->pid == RUNTIME__V1__NAMESPACE_MODE__NODE,
		.host_ipc = ns && ns->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE,
		.shared_pid = !ns || ns->pid == RUNTIME__V1__NAMESPACE_MODE__POD,
	};
	struct needs n = NEEDS_NULL;

	needs_add_pod(&n, &p, &f);
	return n.bits;
}

static bool privileged(const struct choice *k)
{
	const Runtime__V1__ContainerConfig *c = k->container ? k->container->config : NULL;

	if (c)
		return c->linux && c->linux->security_context &&
		       c->linux->security_context->privileged;
	return k->config->linux && k->config->linux->security_context &&
	       k->config->linux->security_context->privileged;
}

/* What only rules look at. */
static void describe(struct choice *k)
{
	const Runtime__V1__PodSandboxConfig *c = k->config;

	if (k->described)
		return;
	k->described = true;
	k->labels = xcalloc(c->n_labels + 1, sizeof(*k->labels));
	k->annotations = xcalloc(c->n_annotations + 1, sizeof(*k->annotations));
	for (size_t i = 0; i < c->n_labels; i++)
		k->labels[i] = (struct route_pair){c->labels[i]->key, c->labels[i]->value};
	for (size_t i = 0; i < c->n_annotations; i++)
		k->annotations[i] =
			(struct route_pair){c->annotations[i]->key, c->annotations[i]->value};
	if (k->image)
		(void)reference_parse(k->image, &k->reference, NULL);
}

static void fill_facts(struct choice *k, struct route_binding *b, struct route_facts *ret)
{
	const Runtime__V1__PodSandboxConfig *c = k->config;

	if (k->node->config->n_rules)
		describe(k);
	if (k->container)
		pod_binding(k->container->pod, k->container, b);
	*ret = (struct route_facts){
		.container = k->container != NULL,
		.handler = k->handler,
		.image = k->reference.text ? &k->reference : NULL,
		.namespace = c->metadata->namespace_,
		.pod = c->metadata->name,
		.container_name = k->container ? k->container->config->metadata->name : NULL,
		.labels = k->labels,
		.n_labels = k->described ? c->n_labels : 0,
		.annotations = k->annotations,
		.n_annotations = k->described ? c->n_annotations : 0,
		.privileged = privileged(k),
		.user_namespace = spec_userns_of(c) != NULL,
		.needs = k->needs | needs_of_pod(k),
		.bound = k->container ? b : NULL,
	};
}

static const char *failed_with(const struct choice *k, const char *runtime)
{
	for (size_t i = 0; i < k->n_failed; i++)
		if (streq(k->failed[i].runtime, runtime))
			return k->failed[i].why;
	return NULL;
}

static void fill_states(const struct choice *k, struct route_state *v)
{
	for (size_t i = 0; i < k->node->n_runtimes; i++) {
		const struct node_runtime *rt = k->node->runtimes[i];

		v[i] = (struct route_state){
			.available = rt->available,
			.reason = rt->probed ? rt->reason : "it is being probed",
			.caps = rt->probed ? &rt->caps : NULL,
			.set_aside = node_runtime_set_aside(rt),
			.failed = failed_with(k, rt->config->name),
		};
	}
}

/* --- the choice --- */

static int choose(struct choice *k, struct err *e)
{
	struct route_state states[CONFIG_RUNTIMES_MAX];
	struct route_choice choice;
	struct route_binding bound;
	struct route_facts facts;
	int r;

	forget_choice(k);
	fill_facts(k, &bound, &facts);
	fill_states(k, states);
	r = route_choose(k->node->route, &facts, states, &choice, e);
	if (r < 0)
		return r;
	k->rt = node_runtime_ref(k->node->runtimes[choice.runtime]);
	k->by = choice.by;
	k->rule = choice.rule ? xstrdup(choice.rule->name) : NULL;
	k->fallback = choice.fallback;
	k->weaker = choice.weaker;
	return 0;
}

static int check_handler(const struct choice *k, struct err *e)
{
	int r = route_check_handler(k->node->route, k->handler, e);

	if (r < 0 && k->container)
		return err_precondition(
			e, "runtime \"%s\" of pod sandbox %s is not configured any more",
			k->handler, k->container->pod->id);
	return r;
}

static int wait_probed(struct node *n, struct err *e)
{
	int r = co_event_wait(&n->probed, USEC_FOREVER);

	return r < 0 ? err_set(e, r, GRPC_CANCELLED,
			       "cancelled while the runtimes were being probed")
		     : 0;
}

int choice_next(struct choice *k, struct err *e)
{
	struct node *n = k->node;
	int r = check_handler(k, e);

	if (r == 0 && !node_runtimes_known(n))
		r = wait_probed(n, e);
	if (r < 0)
		return r;
	r = choose(k, e);
	if (r < 0) /* what does not work now may work soon: installed, say */
		node_probe_again(n);
	if (r < 0 && !n->probed.set) {
		r = wait_probed(n, e);
		if (r == 0)
			r = choose(k, e);
	}
	if (r < 0)
		n->route_refused++;
	return r;
}

void choice_begin(struct choice *k)
{
	breaker_begin(&k->rt->breaker, clock_mono_us());
}

void choice_works(struct choice *k)
{
	*(k->fallback ? &k->rt->decided_fallback : &k->rt->decided) += 1;
	node_runtime_worked(k->rt);
}

void choice_abandon(struct choice *k)
{
	breaker_nothing(&k->rt->breaker);
}

bool choice_failed(struct choice *k, const struct err *why)
{
	enum runtime_blame blame = runtime_blame_of_errno(why->errnum);

	node_runtime_failed(k->node, k->rt, blame, why->msg);
	if (blame == RUNTIME_BLAME_CONTAINER)
		return false;
	k->rt->decided_failed++;
	if (k->n_failed == CHOICE_FAILED_MAX)
		return false;
	k->failed[k->n_failed++] =
		(struct choice_failure){xstrdup(k->rt->config->name), xstrdup(why->msg)};
	return true;
}

/* --- what is told of it --- */

/* Why those before it were not taken: looked at once more, with words. */
static void account(struct choice *k, struct arena *a, struct route_account *ret)
{
	struct route_state states[CONFIG_RUNTIMES_MAX];
	struct route_choice choice;
	struct route_binding bound;
	struct route_facts facts;
	struct err e = ERR_NULL;

	fill_facts(k, &bound, &facts);
	fill_states(k, states);
	(void)route_explain(k->node->route, &facts, states, a, ret, &choice, &e);
}

char *choice_print(struct choice *k)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct route_account acc = {0};
	struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_string(&w, "by", route_by_name(k->by));
	if (k->rule)
		jw_key_string(&w, "rule", k->rule);
	if (k->weaker)
		jw_key_bool(&w, "weaker", true);
	if (k->fallback) {
		account(k, &a, &acc);
		jw_key_array(&w, "insteadOf");
		for (size_t i = 0; i < acc.n_candidates && !acc.candidates[i].chosen; i++) {
			jw_object_begin(&w);
			jw_key_string(&w, "runtime", acc.candidates[i].runtime);
			jw_key_string(&w, "reason", str_or_empty(acc.candidates[i].dropped));
			jw_object_end(&w);
		}
		jw_array_end(&w);
	}
	jw_object_end(&w);
	return strbuf_take(&b);
}

void choice_describe(struct choice *k, struct strbuf *to)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct route_account acc = {0};

	strbuf_addf(to, "%s, by %s", k->rt->config->name, route_by_name(k->by));
	if (k->rule)
		strbuf_addf(to, " \"%s\"", k->rule);
	if (k->weaker)
		strbuf_adds(to, ", weaker than asked for as the rule allows");
	if (!k->fallback)
		return;
	account(k, &a, &acc);
	for (size_t i = 0; i < acc.n_candidates && !acc.candidates[i].chosen; i++)
		strbuf_addf(to, "; not %s: %s", acc.candidates[i].runtime,
			    str_or_empty(acc.candidates[i].dropped));
}
