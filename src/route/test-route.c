/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of runtimes: a table of cases, each with what must come out. */
#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"
#include "image/reference.h"
#include "route/route.h"
#include "runtime/caps.h"

static const char configuration[] =
	"runtimes:\n"
	"  crun: {path: crun}\n"
	"  runc: {path: runc}\n"
	"  youki: {path: youki}\n"
	"  sysbox: {isolation: userns}\n"
	"  runsc: {isolation: kernel, unit: pod}\n"
	"  kata: {isolation: vm, unit: pod}\n"
	"  qemu: {isolation: vm}\n"
	"  auto: {path: crun, routes: true}\n"
	"  secure: {path: runsc, isolation: kernel, unit: pod, routes: true}\n"
	"default_runtimes: [crun, runc]\n"
	"routes:\n"
	"  - {name: system, match: {image: \"lxc/*\"}, runtimes: [youki]}\n"
	"  - {name: databases, match: {image: [\"db-*\", \"~quay\\\\.io/(pg|my)-.*\"]},\n"
	"     runtimes: [runsc, kata, crun]}\n"
	"  - {name: machines, match: {image: \"vm-*\"}, runtimes: [kata, runsc], allow_weaker: "
	"true}\n"
	"  - {name: tagged, match: {image: \"tagged:v1*\"}, runtimes: [youki]}\n"
	"  - {name: digest, match: {image: \"pinned@sha256:*\"}, runtimes: [youki]}\n"
	"  - {name: big, match: {image: \"big\", namespace: prod}, runtimes: [qemu]}\n"
	"  - {name: helper, match: {container: \"istio-*\"}, runtimes: [runc]}\n"
	"  - {name: ns, match: {namespace: \"tenant-*\"}, runtimes: [runsc, kata]}\n"
	"  - {name: pod, match: {pod: [\"web-?\", \"~job-[0-9]+\"]}, runtimes: [runc, crun]}\n"
	"  - {name: labels, match: {labels: {tier: [back, db], zone: \"*\"}}, runtimes: [youki]}\n"
	"  - {name: notes, match: {annotations: {runtime: youki}}, runtimes: [youki],\n"
	"     trust_annotations: true}\n"
	"  - {name: root, match: {privileged: true, namespace: kube-system}, runtimes: [runc]}\n"
	"  - {name: users, match: {user_namespace: true, namespace: users},\n"
	"     runtimes: [sysbox, crun]}\n"
	"  - {name: plain-first, match: {namespace: mixed}, runtimes: [crun, runsc, runc]}\n"
	"  - {name: routed, match: {handler: auto, namespace: routed}, runtimes: [runc]}\n"
	"  - {name: unnamed, match: {handler: \"\", namespace: both}, runtimes: [youki]}\n"
	"  - {name: weak, match: {namespace: weak}, runtimes: [crun]}\n"
	"  - {name: weak-said, match: {namespace: said}, runtimes: [crun], allow_weaker: true}\n";

#define D "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct row {
	const char *about;
	/* of the pod; image or container: the choice is for a container */
	const char *handler, *ns, *pod, *labels, *annotations;
	const char *image, *container;
	bool privileged, userns;
	/* what the pod is bound to, firmly but for a '?' at the end */
	const char *bound;
	const char *down;	   /* runtimes that are not available */
	const char *aside, *fails; /* set aside; that fail for this request */
	uint64_t needs;		   /* crun lacks them */
	/* the runtime; or words of the refusal */
	const char *want, *refused;
	const char *rule; /* NULL: none */
	enum route_by by;
	bool fallback, weaker;
} rows[] = {
	/* no rule fits: what it was before there were rules */
	{"a pod without anything", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"the next of default_runtimes", .down = "crun", .want = "runc", .by = ROUTE_BY_DEFAULT,
	 .fallback = true},
	{"none of them", .down = "crun,runc",
	 .refused = "no runtime can be used: crun: not available: is down; runc: not available"},
	{"one that lacks something", .needs = RCAP_BIT(RCAP_TERMINAL), .want = "runc",
	 .by = ROUTE_BY_DEFAULT, .fallback = true},
	{"one set aside", .aside = "crun", .want = "runc", .by = ROUTE_BY_DEFAULT,
	 .fallback = true},
	{"one that failed", .fails = "crun", .want = "runc", .by = ROUTE_BY_DEFAULT,
	 .fallback = true},
	{"all failed", .fails = "crun,runc", .refused = "crun: failed: no luck; runc: failed"},
	{"all set aside", .aside = "crun,runc", .refused = "crun: set aside: too often"},
	/* handlers */
	{"a handler", .handler = "runc", .want = "runc", .by = ROUTE_BY_HANDLER},
	{"a handler that is not there", .handler = "nope",
	 .refused = "runtime_handler: no runtime \"nope\" is configured"},
	{"a handler that does not work", .handler = "runc", .down = "runc",
	 .refused = "runtime_handler: \"runc\" cannot be used: not available: is down"},
	{"a handler that lacks something", .handler = "crun", .needs = RCAP_BIT(RCAP_TERMINAL),
	 .refused = "\"crun\" cannot be used: lacks terminals"},
	{"a handler that is set aside", .handler = "crun", .aside = "crun",
	 .refused = "\"crun\" cannot be used: set aside"},
	{"no image rule overrules a handler", .handler = "crun", .image = "db-x", .want = "crun",
	 .by = ROUTE_BY_HANDLER},
	{"nor one by namespace", .handler = "crun", .ns = "tenant-a", .want = "crun",
	 .by = ROUTE_BY_HANDLER},
	{"but where it routes", .handler = "auto", .image = "db-x", .want = "runsc",
	 .rule = "databases"},
	{"a handler that routes, no rule", .handler = "auto", .want = "auto",
	 .by = ROUTE_BY_HANDLER},
	{"such a handler that is down", .handler = "auto", .down = "auto",
	 .refused = "\"auto\" cannot be used"},
	{"such a handler that is down, with a rule", .handler = "auto", .down = "auto",
	 .ns = "routed", .want = "runc", .rule = "routed"},
	{"a rule for one handler", .handler = "auto", .ns = "routed", .want = "runc",
	 .rule = "routed"},
	{"is not for others", .ns = "routed", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"a rule for pods without handler", .ns = "both", .want = "youki", .rule = "unnamed"},
	{"is not for those with one", .handler = "auto", .ns = "both", .want = "auto",
	 .by = ROUTE_BY_HANDLER},
	{"a handler's isolation is asked for", .handler = "secure", .ns = "weak",
	 .refused = "crun: isolation plain is weaker than kernel, which was asked for"},
	{"but where the rule says otherwise", .handler = "secure", .ns = "said", .want = "crun",
	 .rule = "weak-said", .weaker = true},
	{"more of it is good", .handler = "auto", .ns = "tenant-a", .want = "runsc", .rule = "ns"},
	/* images */
	{"an organisation", .image = "lxc/alpine", .want = "youki", .rule = "system"},
	{"its tag is no matter", .image = "lxc/alpine:3.20", .want = "youki", .rule = "system"},
	{"its digest neither", .image = "lxc/alpine@" D, .want = "youki", .rule = "system"},
	{"written in full", .image = "docker.io/lxc/alpine:1", .want = "youki", .rule = "system"},
	{"by the other name of that registry", .image = "index.docker.io/lxc/alpine",
	 .want = "youki", .rule = "system"},
	{"one level is one level", .image = "lxc/a/b", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"of another registry", .image = "quay.io/lxc/alpine", .want = "crun",
	 .by = ROUTE_BY_DEFAULT},
	{"a beginning", .image = "db-postgres:16", .want = "runsc", .rule = "databases"},
	{"in the middle is no beginning", .image = "mydb-postgres", .want = "crun",
	 .by = ROUTE_BY_DEFAULT},
	{"an organisation of that name", .image = "db-x/app", .want = "crun",
	 .by = ROUTE_BY_DEFAULT},
	{"an expression", .image = "quay.io/pg-main:1", .want = "runsc", .rule = "databases"},
	{"fits as a whole", .image = "quay.io/evil/pg-main", .want = "crun",
	 .by = ROUTE_BY_DEFAULT},
	{"a tag", .image = "tagged:v1.2", .want = "youki", .rule = "tagged"},
	{"another tag", .image = "tagged:v2", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"no tag is latest", .image = "tagged", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"a tag with a digest", .image = "tagged:v1@" D, .want = "youki", .rule = "tagged"},
	{"a digest alone has no tag", .image = "tagged@" D, .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"a digest", .image = "pinned@" D, .want = "youki", .rule = "digest"},
	{"no digest", .image = "pinned:1", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"image and namespace", .image = "big", .ns = "prod", .want = "qemu", .rule = "big"},
	{"only one of them", .image = "big", .ns = "test", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"no image is known", .container = "a", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"the first rule wins", .image = "lxc/a", .ns = "tenant-a", .want = "youki",
	 .rule = "system"},
	/* fallback and isolation */
	{"as strong", .image = "db-x", .down = "runsc", .want = "kata", .rule = "databases",
	 .fallback = true},
	{"weaker", .image = "db-x", .down = "runsc,kata",
	 .refused = "rule \"databases\" can be used: runsc: not available: is down; kata: not "
		    "available: is down; crun: isolation plain is weaker than kernel"},
	{"weaker where the rule says so", .image = "vm-x", .down = "kata", .want = "runsc",
	 .rule = "machines", .fallback = true, .weaker = true},
	{"what was asked for is the first's", .ns = "mixed", .down = "crun,runsc", .want = "runc",
	 .rule = "plain-first", .fallback = true},
	{"stronger is no fallback that must be allowed", .ns = "mixed", .down = "crun",
	 .want = "runsc", .rule = "plain-first", .fallback = true},
	{"no default after a rule", .image = "lxc/x", .down = "youki",
	 .refused = "rule \"system\" can be used: youki: not available"},
	/* other conditions */
	{"a namespace", .ns = "tenant-a", .want = "runsc", .rule = "ns"},
	{"a pod's name", .pod = "web-1", .want = "runc", .rule = "pod"},
	{"another pattern of it", .pod = "job-12", .want = "runc", .rule = "pod"},
	{"neither", .pod = "web-12", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"a container's name", .container = "istio-proxy", .want = "runc", .rule = "helper"},
	{"labels", .labels = "tier=db,zone=", .want = "youki", .rule = "labels"},
	{"all of them", .labels = "tier=db", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"their values", .labels = "tier=front,zone=a", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"annotations are no labels", .annotations = "tier=db,zone=a", .want = "crun",
	 .by = ROUTE_BY_DEFAULT},
	{"an annotation that is trusted", .annotations = "runtime=youki", .want = "youki",
	 .rule = "notes"},
	{"privileged", .ns = "kube-system", .privileged = true, .want = "runc", .rule = "root"},
	{"not privileged", .ns = "kube-system", .want = "crun", .by = ROUTE_BY_DEFAULT},
	{"a user namespace", .ns = "users", .userns = true, .want = "sysbox", .rule = "users"},
	{"a user namespace, weaker", .ns = "users", .userns = true, .down = "sysbox",
	 .refused = "crun: isolation plain is weaker than userns"},
	/* pods that are bound */
	{"its own", .container = "a", .bound = "runc", .want = "runc", .by = ROUTE_BY_POD},
	{"its own lacks something", .container = "a", .bound = "crun",
	 .needs = RCAP_BIT(RCAP_TERMINAL), .want = "runc", .by = ROUTE_BY_POD, .fallback = true},
	{"another of the same kind by a rule", .image = "lxc/x", .bound = "crun", .want = "youki",
	 .rule = "system"},
	{"a sidecar goes where the pod is", .image = "other", .bound = "runsc", .want = "runsc",
	 .by = ROUTE_BY_POD},
	{"and nowhere else", .image = "other", .bound = "runsc", .down = "runsc",
	 .refused = "crun: cannot join the pod, which is bound to runsc (isolation kernel, for "
		    "whole pods)"},
	{"a contradiction", .image = "db-x", .bound = "crun",
	 .refused = "runsc: cannot join the pod, which is bound to crun (isolation plain)"},
	{"the other way", .image = "lxc/x", .bound = "runsc",
	 .refused = "youki: cannot join the pod, which is bound to runsc"},
	{"no contradiction", .image = "db-x", .bound = "runsc", .want = "runsc",
	 .rule = "databases"},
	{"the same runtime by another's rule", .image = "db-x", .bound = "kata", .want = "kata",
	 .rule = "databases", .fallback = true},
	{"the same isolation is not the same pod", .image = "big", .ns = "prod", .bound = "kata",
	 .refused = "qemu: cannot join the pod, which is bound to kata"},
	{"a runtime that is gone", .container = "a", .bound = "old", .want = "crun",
	 .by = ROUTE_BY_POD, .fallback = true},
	{"the first container promotes an empty pod", .image = "db-x", .bound = "crun?",
	 .want = "runsc", .rule = "databases"},
	{"never to less", .image = "lxc/x", .bound = "runsc?",
	 .refused = "youki: isolation plain is weaker than kernel"},
	{"an empty pod keeps its own", .container = "a", .bound = "runc?", .want = "runc",
	 .by = ROUTE_BY_POD},
	{"a handler that routes, in a bound pod", .handler = "auto", .image = "other",
	 .bound = "runsc", .want = "runsc", .by = ROUTE_BY_POD},
	{"a handler that does not, in its pod", .handler = "runsc", .image = "lxc/x",
	 .bound = "runsc", .want = "runsc", .by = ROUTE_BY_HANDLER},
};

/* --- how a row becomes a request --- */

static bool listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = str_or_empty(list); *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == n && !strncmp(p, name, n))
			return true;
	return false;
}

/* "k=v,k=v" */
static size_t pairs(struct arena *a, const char *s, struct route_pair ret[8])
{
	size_t n = 0;

	for (const char *p = str_or_empty(s); *p; p += strcspn(p, ","), p += *p == ',') {
		size_t k = strcspn(p, "="), all = strcspn(p, ",");

		ret[n++] = (struct route_pair){arena_strndup(a, p, k),
					       arena_strndup(a, p + k + 1, all - k - 1)};
	}
	return n;
}

static const struct config_runtime *bind(const struct config *c, struct arena *a, const char *s,
					 struct route_binding *ret)
{
	size_t n = strcspn(s, "?");
	const struct config_runtime *rt;

	*ret = (struct route_binding){.runtime = arena_strndup(a, s, n), .firm = !s[n]};
	rt = config_runtime_find(c, ret->runtime);
	if (rt) {
		ret->isolation = rt->isolation;
		ret->unit = rt->unit;
	}
	return rt;
}

struct request {
	struct arena arena;
	struct reference image;
	struct route_pair labels[8], annotations[8];
	struct route_binding bound;
	struct runtime_caps caps;
	struct route_state states[CONFIG_RUNTIMES_MAX];
	struct route_facts f;
};

static void make(const struct config *c, const struct row *w, struct request *q)
{
	q->caps.has = RCAP_ALL & ~w->needs;
	q->f = (struct route_facts){
		.container = w->image || w->container,
		.handler = w->handler,
		.namespace = w->ns ? w->ns : "default",
		.pod = w->pod ? w->pod : "p",
		.container_name = w->container ? w->container : "c",
		.privileged = w->privileged,
		.user_namespace = w->userns,
		.needs = w->needs,
		.labels = q->labels,
		.annotations = q->annotations,
		.n_labels = pairs(&q->arena, w->labels, q->labels),
		.n_annotations = pairs(&q->arena, w->annotations, q->annotations),
	};
	if (w->image) {
		CHECK_INT(reference_parse(w->image, &q->image, NULL), 0);
		q->f.image = &q->image;
	}
	if (w->bound) {
		bind(c, &q->arena, w->bound, &q->bound);
		q->f.bound = &q->bound;
	}
	for (size_t i = 0; i < c->n_runtimes; i++) {
		const char *name = c->runtimes[i].name;

		q->states[i] = (struct route_state){
			.available = !listed(w->down, name),
			.reason = "is down",
			.caps = streq(name, "crun") ? &q->caps : NULL,
			.set_aside = listed(w->aside, name) ? "too often" : NULL,
			.failed = listed(w->fails, name) ? "no luck" : NULL,
		};
	}
}

static bool good(const struct config *c, const struct row *w, int r, const struct route_choice *ch,
		 const struct err *e)
{
	if (w->refused)
		return r < 0 && strstr(e->msg, w->refused);
	if (r < 0 || !streq(c->runtimes[ch->runtime].name, w->want))
		return false;
	if (!streq(ch->rule ? ch->rule->name : "", str_or_empty(w->rule)))
		return false;
	return ch->by == (w->rule ? ROUTE_BY_RULE : w->by) && ch->fallback == w->fallback &&
	       ch->weaker == w->weaker;
}

static void check_account(const struct row *w, const struct route_account *a, int r,
			  const struct err *e)
{
	size_t chosen = 0;

	for (size_t i = 0; i < a->n_candidates; i++) {
		chosen += a->candidates[i].chosen;
		if (a->candidates[i].chosen)
			CHECK_STR(a->candidates[i].runtime, w->want);
		CHECK(!a->candidates[i].chosen || !a->candidates[i].dropped);
	}
	CHECK_INT(chosen, r == 0);
	CHECK(a->summary && *a->summary);
	if (r < 0)
		CHECK_STR(a->summary, e->msg);
	for (size_t i = 0; i < a->n_rules; i++)
		CHECK_INT(a->rules[i].fits, i + 1 == a->n_rules && a->rule);
}

static void test_table(void)
{
	struct strbuf text = STRBUF_NULL;
	struct config_flags flags = {0};
	struct err e = ERR_NULL;
	struct config c;
	struct route *route;

	strbuf_adds(&text, configuration);
	if (config_load_text(&flags, &text, &c, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	route = route_new(&c);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct request q = {0};
		struct route_choice choice = {0}, again = {0};
		struct route_account account;
		int r;

		make(&c, &rows[i], &q);
		e = ERR_NULL;
		r = route_choose(route, &q.f, q.states, &choice, &e);
		if (!good(&c, &rows[i], r, &choice, &e)) {
			fprintf(stderr, "%s: %s\n", rows[i].about,
				r < 0 ? e.msg : c.runtimes[choice.runtime].name);
			CHECK(!"as the table has it");
		}
		CHECK_INT(route_explain(route, &q.f, q.states, &q.arena, &account, &again, &e), r);
		CHECK(!memcmp(&choice, &again, sizeof(choice)));
		if (r == 0 || account.n_candidates)
			check_account(&rows[i], &account, r, &e);
		reference_fini(&q.image);
		arena_fini(&q.arena);
	}
	CHECK(ARRAY_SIZE(rows) >= 60);
	route_free(route);
	config_fini(&c);
	strbuf_fini(&text);
}

static void test_handlers(void)
{
	struct config_flags flags = {0};
	struct strbuf text = STRBUF_NULL;
	struct err e = ERR_NULL;
	struct config c;
	struct route *route;

	strbuf_adds(&text, configuration);
	CHECK_INT(config_load_text(&flags, &text, &c, &e), 0);
	route = route_new(&c);
	CHECK_INT(route_check_handler(route, NULL, &e), 0);
	CHECK_INT(route_check_handler(route, "", &e), 0);
	CHECK_INT(route_check_handler(route, "runsc", &e), 0);
	CHECK_INT(route_check_handler(route, "Runsc", &e), -EINVAL);
	CHECK_INT(e.code, GRPC_INVALID_ARGUMENT);
	CHECK(!route_free(route));
	CHECK(!route_free(NULL));
	config_fini(&c);
	strbuf_fini(&text);
}

int main(void)
{
	TEST(table);
	TEST(handlers);
	return test_done();
}
