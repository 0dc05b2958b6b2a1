/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/test.h"
#include "config/config.h"
#include "config/pattern.h"

#include <fcntl.h>

#define RUNTIMES                                                                                   \
	"runtimes:\n  crun: {path: crun}\n  auto: {routes: true}\n  runsc: {isolation: kernel}\n"  \
	"default_runtimes: [crun]\n"

static int load(const char *text, struct config *c, struct err *e)
{
	char path[] = "/tmp/gantry-rules-XXXXXX";
	struct config_flags f = {.file = path};
	int fd = mkstemp(path), r;

	CHECK_INT(fs_write_all(fd, text, strlen(text)), 0);
	close(fd);
	r = config_load(&f, c, e);
	unlink(path);
	return r;
}

static const char good[] =
	/* before the runtimes that it names */
	"routes:\n"
	"  - name: databases\n"
	"    match:\n"
	"      handler: [\"\", auto]\n"
	"      image: [\"db-*\", \"~quay\\\\.io/(pg|my)-.*\"]\n"
	"      namespace: prod-*\n"
	"      pod: [a, b]\n"
	"      container: c\n"
	"      labels: {tier: back, \"x/y\": [a, b*]}\n"
	"      annotations: {k: \"*\"}\n"
	"      privileged: false\n"
	"      user_namespace: true\n"
	"    runtimes: [runsc, crun]\n"
	"    allow_weaker: true\n"
	"    trust_annotations: true\n"
	"  - {name: rest, match: {namespace: \"*\"}, runtimes: crun}\n" RUNTIMES;

static void test_all_of_it(void)
{
	struct err e = ERR_NULL;
	struct config c;
	const struct config_rule *r;

	CHECK_INT(load(good, &c, &e), 0);
	CHECK_INT(c.n_rules, 2);
	r = c.rules;
	CHECK_STR(r->name, "databases");
	CHECK_INT(r->line, 2);
	CHECK_STR(r->handlers[0], "");
	CHECK_STR(r->handlers[1], "auto");
	CHECK_INT(r->n_images, 2);
	CHECK_STR(r->images[0].text, "db-*");
	CHECK_INT(r->images[1].about, PATTERN_NAME_OR_TEXT);
	CHECK_INT(r->n_namespaces, 1);
	CHECK_INT(r->n_pods, 2);
	CHECK_INT(r->n_containers, 1);
	CHECK_INT(r->n_labels, 2);
	CHECK_STR(r->labels[1].key, "x/y");
	CHECK_INT(r->labels[1].n, 2);
	CHECK_INT(r->n_annotations, 1);
	CHECK_INT(r->privileged, CONFIG_MATCH_FALSE);
	CHECK_INT(r->user_namespace, CONFIG_MATCH_TRUE);
	CHECK_STR(r->runtimes[0], "runsc");
	CHECK(!r->runtimes[2] && r->allow_weaker && r->trust_annotations);
	CHECK_STR(c.rules[1].runtimes[0], "crun");
	CHECK(!c.rules[1].handlers && !c.rules[1].allow_weaker);
	CHECK_INT(c.rules[1].privileged, CONFIG_MATCH_ANY);
	config_fini(&c);
	/* the default runtimes can be named, too */
	CHECK_INT(load("routes: [{name: a, match: {pod: b}, runtimes: [runc]}]\n", &c, &e), 0);
	CHECK_INT(c.n_runtimes, 2);
	config_fini(&c);
	CHECK_INT(load("routes:\n", &c, &e), 0);
	config_fini(&c);
	CHECK_INT(load("routes: []\n", &c, &e), 0);
	CHECK_INT(c.n_rules, 0);
	config_fini(&c);
}

/* What is printed can be read, and says the same. */
static void test_dump(void)
{
	struct strbuf one = STRBUF_NULL, two = STRBUF_NULL;
	struct err e = ERR_NULL;
	struct config c;

	CHECK_INT(load(good, &c, &e), 0);
	config_dump(&c, &one);
	config_fini(&c);
	CHECK(strstr(one.s, "databases"));
	CHECK_INT(load(one.s, &c, &e), 0);
	config_dump(&c, &two);
	CHECK_STR(one.s, two.s);
	config_fini(&c);
	strbuf_fini(&one);
	strbuf_fini(&two);
}

#define RULE(match, rest) RUNTIMES "routes:\n  - name: a\n    match: " match "\n    " rest "\n"

static void test_errors(void)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"routes: 5\n", ":1: routes: found \"5\", expected a list"},
		{"routes: {a: b}\n", "expected a list"},
		{"routes: [a]\n", ":1: routes: found \"a\", expected a mapping"},
		{"routes:\nroutes: []\nroutes: []\n", "only once"},
		{"routes:\n  - name: a\n    runtimes: [crun]\n",
		 ":2: routes: found \"a mapping\", expected a rule with name, match and runtimes"},
		{"routes:\n  - match: {pod: a}\n    runtimes: [crun]\n", "a rule with name"},
		{"routes:\n  - name: a\n    match: {pod: a}\n", "a rule with name"},
		{"routes:\n  - name: a b\n", "letters, digits"},
		{"routes:\n  - name: \"\"\n", "letters, digits"},
		{"routes:\n  - {name: a, match: {pod: x}, runtimes: crun}\n"
		 "  - {name: a, match: {pod: x}, runtimes: crun}\n",
		 ":3: routes: name: found \"a\", expected a name that is not there twice"},
		{"routes:\n  - {name: a, name: b}\n", "each key only once"},
		{"routes:\n  - {name: a, mach: {pod: x}}\n",
		 ":2: routes: found \"mach\", expected name, match, runtimes"},
		{RULE("{}", "runtimes: [crun]"), "at least one condition"},
		{RULE("", "runtimes: [crun]"), ":8: routes: match: found \"\", expected at least"},
		{RULE("{imag: x}", "runtimes: [crun]"), "found \"imag\", expected handler, image"},
		{RULE("{pod: x, pod: y}", "runtimes: [crun]"), "each condition only once"},
		{RULE("{pod: []}", "runtimes: [crun]"), "one value, or a list of 1 to 64"},
		{RULE("{pod: {a: b}}", "runtimes: [crun]"), "one value, or a list of 1 to 64"},
		{RULE("{pod: [[a]]}", "runtimes: [crun]"), "expected a pattern"},
		{RULE("{image: \"~(a\"}", "runtimes: [crun]"),
		 ":8: routes: match: image: \"~(a\": a ( without its )"},
		{RULE("\n      image:\n        - ok\n        - \"[\"", "runtimes: [crun]"),
		 ":11: routes: match: image: \"[\": a [ without its ]"},
		{RULE("{labels: x}", "runtimes: [crun]"), "a mapping of 1 to 64 keys"},
		{RULE("{labels: {}}", "runtimes: [crun]"), "a mapping of 1 to 64 keys"},
		{RULE("{labels: {a: b, a: c}}", "runtimes: [crun]"), "each key only once"},
		{RULE("{labels: {\"\": b}}", "runtimes: [crun]"), "expected a key"},
		{RULE("{annotations: {a: b}}", "runtimes: [crun]"), "trust_annotations: true"},
		{RULE("{privileged: yes}", "runtimes: [crun]"), "true or false"},
		{RULE("{user_namespace: 1}", "runtimes: [crun]"), "true or false"},
		{RULE("{handler: crun}", "runtimes: [crun]"),
		 ":8: routes: match: handler: found \"crun\", expected a handler that says"},
		{RULE("{handler: nope}", "runtimes: [crun]"), "the name of one of the runtimes"},
		{RULE("{pod: x}", "runtimes: [nope]"),
		 ":9: routes: runtimes: found \"nope\", expected the name of one of the runtimes"},
		{RULE("{pod: x}", "runtimes: [\"\"]"), "the name of one of the runtimes"},
		{RULE("{pod: x}", "runtimes: [crun, crun]"), "each name only once"},
		{RULE("{pod: x}", "runtimes: []"), "one value, or a list of 1 to 64"},
		{RULE("{pod: x}", "allow_weaker: maybe"), "true or false"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = ERR_NULL;
		struct config c;

		CHECK_INT(load(cases[i].text, &c, &e), -EINVAL);
		CHECK_INT(e.code, GRPC_INVALID_ARGUMENT);
		if (!strstr(e.msg, cases[i].message)) {
			fprintf(stderr, "%s\nis: %s\nnot: %s\n", cases[i].text, e.msg,
				cases[i].message);
			CHECK(!"the message");
		}
	}
}

/* As many as may be, and one more. */
static void test_limits(void)
{
	struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	struct config c;

	strbuf_adds(&b, "routes:\n");
	for (int i = 0; i < CONFIG_RULES_MAX; i++)
		strbuf_addf(&b, " - {name: r%d, match: {pod: p%d}, runtimes: crun}\n", i, i);
	CHECK_INT(load(b.s, &c, &e), 0);
	CHECK_INT(c.n_rules, CONFIG_RULES_MAX);
	config_fini(&c);
	strbuf_adds(&b, " - {name: x, match: {pod: x}, runtimes: crun}\n");
	CHECK_INT(load(b.s, &c, &e), -EINVAL);
	CHECK(strstr(e.msg, "at most 4096 rules"));
	strbuf_reset(&b);
	strbuf_adds(&b, "routes:\n - {name: x, match: {pod: [");
	for (int i = 0; i <= CONFIG_RULE_PATTERNS_MAX; i++)
		strbuf_adds(&b, "a,");
	strbuf_adds(&b, "]}, runtimes: crun}\n");
	CHECK_INT(load(b.s, &c, &e), -EINVAL);
	strbuf_reset(&b);
	strbuf_adds(&b, "routes:\n");
	for (int i = 0; i < 50; i++)
		strbuf_addf(&b, " - {name: r%d, match: {pod: \"~(ab|cd){80}\"}, runtimes: crun}\n",
			    i);
	CHECK_INT(load(b.s, &c, &e), -EINVAL);
	CHECK(strstr(e.msg, "too costly to match"));
	strbuf_reset(&b);
	strbuf_adds(&b, "runtimes:\n");
	for (int i = 0; i <= CONFIG_RUNTIMES_MAX; i++)
		strbuf_addf(&b, "  r%d: {path: crun}\n", i);
	CHECK_INT(load(b.s, &c, &e), -EINVAL);
	CHECK(strstr(e.msg, "no more than 64 runtimes"));
	strbuf_fini(&b);
}

int main(void)
{
	TEST(all_of_it);
	TEST(dump);
	TEST(errors);
	TEST(limits);
	return test_done();
}
