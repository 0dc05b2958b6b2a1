/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any configuration, any request: the choice is a candidate that satisfies every need and isolates no
 * less than was asked for, or a clear refusal where there is none.  What is right is worked out here a
 * second time, slowly.  test-route-any [SEED [CONFIGURATIONS]]
 */
#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"
#include "config/pattern.h"
#include "image/reference.h"
#include "route/route.h"
#include "runtime/caps.h"

#define CONFIGURATIONS 500
#define REQUESTS 60 /* for each */
#define RUNTIMES 7
#define NEEDS 4 /* different ones */

/* --- numbers (xorshift) --- */

static uint64_t seed = 88172645463325252ULL;

static unsigned rnd(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 33) % below;
}

static bool one_in(unsigned n)
{
	return rnd(n) == 0;
}

/* --- configurations --- */

static const char *const words[] = {"db", "web", "db-1", "web-2", "prod"};
/* patterns whose meaning is plain to see: see fits() */
static const char *const patterns[] = {"db", "web", "db-*", "web-*", "*", "prod", "*-1"};

static const char *word(void)
{
	return words[rnd(ARRAY_SIZE(words))];
}

static void add_patterns(struct strbuf *b, const char *key)
{
	unsigned n = 1 + rnd(2);

	strbuf_addf(b, "%s: [", key);
	for (unsigned i = 0; i < n; i++)
		strbuf_addf(b, "\"%s\",", patterns[rnd(ARRAY_SIZE(patterns))]);
	strbuf_adds(b, "], ");
}

static void add_runtimes(struct strbuf *b, bool *routes)
{
	static const char *const isolations[] = {"plain", "plain", "userns", "kernel", "vm"};

	strbuf_adds(b, "runtimes:\n");
	for (int i = 0; i < RUNTIMES; i++) {
		routes[i] = one_in(2);
		strbuf_addf(b, "  r%d: {isolation: %s, unit: %s, routes: %s}\n", i,
			    isolations[rnd(ARRAY_SIZE(isolations))],
			    one_in(3) ? "pod" : "container", routes[i] ? "true" : "false");
	}
}

static void add_list(struct strbuf *b)
{
	unsigned n = 1 + rnd(3), first = rnd(RUNTIMES);

	strbuf_adds(b, "[");
	for (unsigned i = 0; i < n; i++)
		strbuf_addf(b, "r%u,", (first + 2 * i) % RUNTIMES);
	strbuf_adds(b, "]");
}

static void add_rule(struct strbuf *b, unsigned i, const bool *routes)
{
	unsigned h = rnd(RUNTIMES);

	strbuf_addf(b, "  - {name: rule%u, match: {", i);
	if (one_in(2))
		add_patterns(b, "image");
	if (one_in(3))
		add_patterns(b, "namespace");
	if (one_in(4))
		add_patterns(b, "pod");
	if (one_in(4))
		add_patterns(b, "container");
	if (one_in(4)) {
		strbuf_adds(b, "labels: {");
		add_patterns(b, "a");
		strbuf_adds(b, "}, ");
	}
	if (one_in(5))
		strbuf_addf(b, "privileged: %s, ", one_in(2) ? "true" : "false");
	if (one_in(6))
		strbuf_addf(b, "user_namespace: %s, ", one_in(2) ? "true" : "false");
	if (one_in(4) && routes[h])
		strbuf_addf(b, "handler: [r%u%s], ", h, one_in(2) ? ", \"\"" : "");
	if (b->s[b->len - 1] == '{')
		strbuf_adds(b, "namespace: \"*\"");
	strbuf_adds(b, "}, runtimes: ");
	add_list(b);
	strbuf_addf(b, ", allow_weaker: %s}\n", one_in(4) ? "true" : "false");
}

static void make_config(struct config *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct config_flags flags = {0};
	struct err e = ERR_NULL;
	unsigned n = rnd(8);
	bool routes[RUNTIMES];

	add_runtimes(&b, routes);
	strbuf_adds(&b, "default_runtimes: ");
	add_list(&b);
	strbuf_adds(&b, n ? "\nroutes:\n" : "\n");
	for (unsigned i = 0; i < n; i++)
		add_rule(&b, i, routes);
	if (config_load_text(&flags, &b, ret, &e) < 0) {
		fprintf(stderr, "%s\n%s\n", b.s, e.msg);
		exit(1);
	}
}

/* --- requests --- */

struct request {
	struct route_facts f;
	struct reference image;
	char text[64], handler[8], bound_name[8];
	struct route_pair label;
	struct route_binding bound;
	struct runtime_caps caps[RUNTIMES];
	struct route_state states[RUNTIMES];
};

static void make_bound(const struct config *c, struct request *q)
{
	unsigned i = rnd(RUNTIMES + 1);

	snprintf(q->bound_name, sizeof(q->bound_name), "r%u", i);
	q->bound = (struct route_binding){
		.runtime = q->bound_name,
		.isolation =
			i < RUNTIMES ? c->runtimes[i].isolation : (enum config_isolation)rnd(4),
		.unit = i < RUNTIMES ? c->runtimes[i].unit : (enum config_unit)rnd(2),
		.firm = one_in(2),
	};
	q->f.bound = &q->bound;
}

static void make_request(const struct config *c, struct request *q)
{
	q->f = (struct route_facts){
		.container = !one_in(3),
		.namespace = word(),
		.pod = word(),
		.container_name = word(),
		.privileged = one_in(3),
		.user_namespace = one_in(3),
		.needs = rnd(1 << NEEDS) & rnd(1 << NEEDS),
		.handler = q->handler,
		.labels = &q->label,
		.n_labels = rnd(2),
	};
	q->label = (struct route_pair){"a", word()};
	if (one_in(2))
		snprintf(q->handler, sizeof(q->handler), "r%u", rnd(RUNTIMES + 1));
	if (!one_in(4)) {
		snprintf(q->text, sizeof(q->text), "%s:1", word());
		CHECK_INT(reference_parse(q->text, &q->image, NULL), 0);
		q->f.image = &q->image;
	}
	if (q->f.container && !one_in(3))
		make_bound(c, q);
	for (int i = 0; i < RUNTIMES; i++) {
		q->caps[i].has = rnd(1 << NEEDS) | rnd(1 << NEEDS);
		q->states[i] = (struct route_state){
			.available = !one_in(4),
			.reason = "down",
			.caps = one_in(3) ? NULL : &q->caps[i],
			.set_aside = one_in(8) ? "aside" : NULL,
			.failed = one_in(8) ? "failed" : NULL,
		};
	}
}

/* --- what is right, a second time --- */

static bool fits(const struct pattern *p, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++) {
		const char *t = p[i].text, *star = strchr(t, '*');

		if (!star ? streq(t, s)
			  : !strncmp(t, s, (size_t)(star - t)) && str_has_suffix(s, star + 1))
			return true;
	}
	return n == 0;
}

/* The word that an image's reference was made of. */
static bool rule_holds(const struct config_rule *r, const struct request *q)
{
	char image[64] = "";

	if (q->f.image)
		snprintf(image, sizeof(image), "%.*s", (int)strcspn(q->text, ":"), q->text);
	if ((r->n_images || r->n_containers) && !q->f.container)
		return false;
	if (r->n_images && (!q->f.image || !fits(r->images, r->n_images, image)))
		return false;
	if (r->handlers) {
		bool among = false;

		for (size_t i = 0; r->handlers[i]; i++)
			among |= streq(r->handlers[i], q->handler);
		if (!among)
			return false;
	}
	if (r->n_labels &&
	    (!q->f.n_labels || !fits(r->labels->patterns, r->labels->n, q->label.value)))
		return false;
	if (r->privileged && (r->privileged == CONFIG_MATCH_TRUE) != q->f.privileged)
		return false;
	if (r->user_namespace && (r->user_namespace == CONFIG_MATCH_TRUE) != q->f.user_namespace)
		return false;
	return fits(r->namespaces, r->n_namespaces, q->f.namespace) &&
	       fits(r->pods, r->n_pods, q->f.pod) &&
	       fits(r->containers, r->n_containers, q->f.container_name);
}

/* Nothing but the isolation speaks against it. */
static bool usable(const struct config *c, const struct request *q, size_t i)
{
	const struct route_state *s = &q->states[i];
	const struct config_runtime *rt = &c->runtimes[i];

	if (!s->available || s->set_aside || s->failed ||
	    (s->caps && (q->f.needs & s->caps->has) != q->f.needs))
		return false;
	if (!q->f.bound || !q->bound.firm || streq(q->bound.runtime, rt->name))
		return true;
	return rt->isolation == q->bound.isolation && rt->unit == CONFIG_UNIT_CONTAINER &&
	       q->bound.unit == CONFIG_UNIT_CONTAINER;
}

struct expectation {
	size_t list[RUNTIMES + 1], n; /* SIZE_MAX: one that is not configured */
	const struct config_rule *rule;
	enum config_isolation asked;
};

static size_t number(const char *name)
{
	size_t i = (size_t)(name[1] - '0');

	return i < RUNTIMES ? i : SIZE_MAX;
}

static void expect(const struct config *c, const struct request *q, struct expectation *x)
{
	size_t h = *q->handler ? number(q->handler) : SIZE_MAX;
	bool rules = !*q->handler || c->runtimes[h].routes;
	const char *const *names = c->default_runtimes;

	*x = (struct expectation){0};
	for (size_t i = 0; rules && !x->rule && i < c->n_rules; i++)
		if (rule_holds(&c->rules[i], q))
			x->rule = &c->rules[i];
	if (x->rule)
		names = x->rule->runtimes;
	else if (q->f.bound && rules)
		x->list[x->n++] = number(q->bound.runtime);
	for (size_t i = 0; (x->rule || h == SIZE_MAX) && names[i]; i++)
		x->list[x->n++] = number(names[i]);
	if (!x->rule && h != SIZE_MAX)
		x->list[x->n++] = h;
	if (x->list[0] != SIZE_MAX)
		x->asked = c->runtimes[x->list[0]].isolation;
	if (h != SIZE_MAX)
		x->asked = MAX(x->asked, c->runtimes[h].isolation);
	if (q->f.bound)
		x->asked = MAX(x->asked, q->bound.isolation);
}

static size_t best(const struct config *c, const struct request *q, const struct expectation *x)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->list[i] != SIZE_MAX && usable(c, q, x->list[i]) &&
		    ((x->rule && x->rule->allow_weaker) ||
		     c->runtimes[x->list[i]].isolation >= x->asked))
			return x->list[i];
	return SIZE_MAX;
}

/* --- */

static struct counts {
	unsigned chosen, refused, unknown, by_rule, fallback, weaker, in_bound;
} seen;

static void check_chosen(const struct config *c, const struct request *q,
			 const struct route_choice *ch, const struct expectation *x)
{
	const struct config_runtime *rt = &c->runtimes[ch->runtime];

	CHECK_INT(ch->runtime, best(c, q, x));
	CHECK(usable(c, q, ch->runtime));
	CHECK(ch->rule == x->rule);
	CHECK_INT(ch->asked, x->asked);
	CHECK_INT(ch->weaker, rt->isolation < x->asked);
	CHECK(!ch->weaker || x->rule->allow_weaker);
	CHECK_INT(ch->fallback, ch->runtime != x->list[0]);
	seen.chosen++;
	seen.by_rule += ch->by == ROUTE_BY_RULE;
	seen.fallback += ch->fallback;
	seen.weaker += ch->weaker;
	seen.in_bound += q->f.bound && q->bound.firm;
}

static void check_refused(const struct config *c, const struct request *q, const struct err *e)
{
	struct expectation x;

	if (*q->handler && number(q->handler) == SIZE_MAX) {
		CHECK_INT(e->code, GRPC_INVALID_ARGUMENT);
		CHECK(strstr(e->msg, q->handler));
		seen.unknown++;
		return;
	}
	expect(c, q, &x);
	CHECK_INT(e->code, GRPC_FAILED_PRECONDITION);
	CHECK_INT(best(c, q, &x), SIZE_MAX);
	for (size_t i = 0; i < x.n; i++) /* it says why of each */
		CHECK(x.list[i] == SIZE_MAX || strstr(e->msg, c->runtimes[x.list[i]].name));
	if (x.rule)
		CHECK(strstr(e->msg, x.rule->name));
	seen.refused++;
}

static void check_request(const struct config *c, const struct route *route, struct request *q)
{
	struct route_choice choice = {0}, again = {0};
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct route_account account;
	struct expectation x;
	struct err e = ERR_NULL;
	int failed = test_failed, r = route_choose(route, &q->f, q->states, &choice, &e);

	if (r == 0) {
		expect(c, q, &x);
		check_chosen(c, q, &choice, &x);
	} else {
		check_refused(c, q, &e);
	}
	CHECK_INT(route_explain(route, &q->f, q->states, &a, &account, &again, &e), r);
	CHECK(!memcmp(&choice, &again, sizeof(choice)));
	if (failed != test_failed) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		config_dump(c, &b);
		fprintf(stderr, "%s\n%s\n", strstr(b.s, "runtimes:"), account.summary);
		exit(1);
	}
}

static void test_any(unsigned configurations)
{
	for (unsigned i = 0; i < configurations; i++) {
		struct route *route;
		struct config c;

		make_config(&c);
		route = route_new(&c);
		for (int k = 0; k < REQUESTS; k++) {
			struct request q = {0};

			make_request(&c, &q);
			check_request(&c, route, &q);
			reference_fini(&q.image);
		}
		route_free(route);
		config_fini(&c);
	}
	/* each kind of answer was among them */
	CHECK(seen.chosen && seen.refused && seen.unknown && seen.by_rule && seen.fallback &&
	      seen.weaker && seen.in_bound);
	fprintf(stderr,
		"%u chosen (%u by rules, %u not the first, %u weaker, %u in bound pods), "
		"%u refused\n",
		seen.chosen, seen.by_rule, seen.fallback, seen.weaker, seen.in_bound, seen.refused);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		seed += strtoull(argv[1], NULL, 10);
	test_any(argc > 2 ? (unsigned)atoi(argv[2]) : CONFIGURATIONS);
	test_ran++;
	return test_done();
}
