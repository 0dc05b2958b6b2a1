/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decision costs with so many rules of a kind (1000), of which the last one fits:
 * bench-routes [RULES [ROUNDS]] prints "KIND MICROSECONDS" for each round.
 */
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/reference.h"
#include "route/route.h"

#define DECISIONS 200 /* of a round */

static const struct {
	const char *kind;
	const char *match; /* of rule %d */
	const char *last;  /* of the last one */
} kinds[] = {
	{"globs", "image: \"team-%d/app-*\"", "image: \"shop/*-main\""},
	{"hosts", "image: \"registry-%d.example.com/**/db-*:*\"",
	 "image: \"**/database-main:16.*\""},
	{"expressions", "image: \"~quay\\\\.io/team-%d/[a-z]+(-[0-9]+)?\"",
	 "image: \"~.*/shop/data[a-z]+-main\""},
	/* nothing in them tells them apart before they are run */
	{"bare", "image: \"~[a-z.]+/.*[0-9][a-z]+\"", "image: \"~.*main\""},
	{"namespaces", "namespace: \"tenant-%d\"", "namespace: \"production\""},
	{"prefixes", "namespace: \"tenant-%d-*\"", "namespace: \"prod*\""},
	{"labels", "labels: {\"app.kubernetes.io/name\": \"service-%d\"}",
	 "labels: {\"app.kubernetes.io/name\": \"data*\"}"},
	{"mixed", "image: \"team-%d/app-*\", namespace: \"tenant-*\", labels: {tier: back}",
	 "image: \"shop/*\", namespace: \"prod*\", labels: {tier: data}"},
};

static void load(size_t kind, int rules, struct config *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct config_flags flags = {0};
	struct err e = ERR_NULL;

	strbuf_adds(&b, "routes:\n");
	for (int i = 0; i < rules; i++) {
		strbuf_addf(&b, "  - {name: r%d, runtimes: [crun, runc], match: {", i);
		strbuf_addf(&b, i + 1 < rules ? kinds[kind].match : kinds[kind].last, i);
		strbuf_adds(&b, "}}\n");
	}
	if (config_load_text(&flags, &b, ret, &e) < 0) {
		fprintf(stderr, "bench-routes: %s\n", e.msg);
		exit(1);
	}
}

/* Of this thread, nanoseconds. */
static uint64_t clock_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double measure(const struct route *route, const struct route_facts *f,
		      const struct route_state *states, bool explained)
{
	uint64_t begin = clock_cpu();

	for (int i = 0; i < DECISIONS; i++) {
		_cleanup_arena_ struct arena a = ARENA_NULL;
		struct route_account account;
		struct route_choice choice;
		struct err e = ERR_NULL;
		int r = explained ? route_explain(route, f, states, &a, &account, &choice, &e)
				  : route_choose(route, f, states, &choice, &e);

		if (r < 0 || choice.by != ROUTE_BY_RULE) {
			fprintf(stderr, "bench-routes: the last rule was not taken\n");
			exit(1);
		}
	}
	return (double)(clock_cpu() - begin) / 1000 / DECISIONS;
}

int main(int argc, char **argv)
{
	static const struct route_pair labels[] = {
		{"app.kubernetes.io/instance", "main"},
		{"app.kubernetes.io/name", "database"},
		{"pod-template-hash", "5d4f8c7b9"},
		{"tier", "data"},
		{"version", "16"},
	};
	int rules = argc > 1 ? atoi(argv[1]) : 1000, rounds = argc > 2 ? atoi(argv[2]) : 11;
	struct route_state states[2] = {{.available = true}, {.available = true}};
	struct reference image = REFERENCE_NULL;
	struct err e = ERR_NULL;
	struct route_facts f = {
		.container = true,
		.image = &image,
		.namespace = "production",
		.pod = "database-0",
		.container_name = "database",
		.labels = labels,
		.n_labels = ARRAY_SIZE(labels),
	};

	if (rules < 1 || rounds < 1 || reference_parse("shop/database-main:16.2", &image, &e) < 0)
		return 2;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct config c;
		struct route *route;

		load(k, rules, &c);
		route = route_new(&c);
		for (int i = 0; i < rounds; i++) {
			printf("%s %.3f\n", kinds[k].kind, measure(route, &f, states, false));
			if (k == 0)
				printf("explained %.3f\n", measure(route, &f, states, true));
		}
		route_free(route);
		config_fini(&c);
	}
	reference_fini(&image);
	return 0;
}
