/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"
#include "config/pattern.h"

#include <regex.h>

/* Random numbers that are the same in each run (xorshift). */
static uint64_t seed = 88172645463325252ULL;
static unsigned rnd(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 33) % below;
}

static bool fits(const char *pattern, bool image, const char *s)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct pattern_signature sig = {0};
	struct err e = ERR_NULL;
	struct pattern p;
	bool yes;

	if (pattern_compile(&a, pattern, image, &p, &e) < 0) {
		fprintf(stderr, "%s: %s\n", pattern, e.msg);
		CHECK(!"compiles");
		return false;
	}
	yes = pattern_match(&p, s, strlen(s));
	pattern_sign(&sig, s, strlen(s));
	CHECK(!yes || pattern_may_fit(&p.required, &sig));
	return yes;
}

static void test_globs(void)
{
	static const struct {
		const char *pattern, *s;
		bool fits;
	} cases[] = {
		{"*", "", true},
		{"*", "a/b", true},
		{"?", "", false},
		{"?", "/", true},
		{"a", "a", true},
		{"a", "ab", false},
		{"a", "", false},
		{"a*", "a", true},
		{"a*c", "abc", true},
		{"a*c", "abcd", false},
		{"*a*b*c*", "xxaxxbxxcxx", true},
		{"*a*b*c*", "xxaxxcxxbxx", false},
		{"team-[ab]", "team-b", true},
		{"team-[!ab]", "team-b", false},
		{"team-[!ab]", "team-c", true},
		{"[]x]", "]", true},
		{"[a-]", "-", true},
		{"[[:digit:]-]", "7", true},
		{"[[:digit:]-]", "x", false},
		{"\\*", "*", true},
		{"\\*", "x", false},
		{"prod-*", "prod-", true},
		{"prod-*", "preprod-1", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (fits(cases[i].pattern, false, cases[i].s) != cases[i].fits) {
			fprintf(stderr, "glob %s on \"%s\"\n", cases[i].pattern, cases[i].s);
			CHECK(!"as expected");
		}
}

static void test_images(void)
{
	static const struct {
		const char *pattern, *s;
		bool fits;
		enum pattern_about about;
	} cases[] = {
		{"lxc/*", "docker.io/lxc/alpine", true, PATTERN_NAME},
		{"lxc/*", "docker.io/lxc/a/b", false, PATTERN_NAME},
		{"lxc/**", "docker.io/lxc/a/b", true, PATTERN_NAME},
		{"lxc/*", "quay.io/lxc/alpine", false, PATTERN_NAME},
		{"db-*", "docker.io/library/db-x", true, PATTERN_NAME},
		{"db-*", "docker.io/evil/db-x", false, PATTERN_NAME},
		{"db-*", "docker.io/library/mydb-x", false, PATTERN_NAME},
		{"db-*:1.*", "docker.io/library/db-x:1.2", true, PATTERN_NAME_TAG},
		{"db-*:1.*", "docker.io/library/db-x:2", false, PATTERN_NAME_TAG},
		{"docker.io/busybox", "docker.io/library/busybox", true, PATTERN_NAME},
		{"index.docker.io/busybox", "docker.io/library/busybox", true, PATTERN_NAME},
		{"docker.io/**", "docker.io/a/b", true, PATTERN_NAME},
		{"*.example.com/**", "r.example.com/a/b", true, PATTERN_NAME},
		{"*.example.com/**", "docker.io/a.example.com/b", false, PATTERN_NAME},
		{"localhost:5000/x", "localhost:5000/x", true, PATTERN_NAME},
		{"localhost/x:1", "localhost/x:1", true, PATTERN_NAME_TAG},
		{"**/db-*", "h:1/o/p/db-x", true, PATTERN_NAME},
		{"**/db-*", "h:1/o/db-x/p", false, PATTERN_NAME},
		{"*", "quay.io/a/b", true, PATTERN_NAME},
		{"**", "quay.io/a/b", true, PATTERN_NAME},
		{"**:latest", "quay.io/a/b:latest", true, PATTERN_NAME_TAG},
		{"a?c", "docker.io/library/a/c", false, PATTERN_NAME},
		{"a[!x]c", "docker.io/library/a/c", false, PATTERN_NAME},
		{"a[[:alpha:]]", "docker.io/library/ab", true, PATTERN_NAME},
		{"x@sha256:*", "docker.io/library/x@sha256:12", true, PATTERN_TEXT},
		{"~docker\\.io/.*/db-[0-9]+", "docker.io/a/db-12", true, PATTERN_NAME_OR_TEXT},
		{"~docker\\.io/.*/db-[0-9]+", "docker.io/a/db-12x", false, PATTERN_NAME_OR_TEXT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = ARENA_NULL;
		struct pattern p;

		CHECK_INT(pattern_compile(&a, cases[i].pattern, true, &p, NULL), 0);
		CHECK_INT(p.about, cases[i].about);
		if (fits(cases[i].pattern, true, cases[i].s) != cases[i].fits) {
			fprintf(stderr, "image %s on \"%s\"\n", cases[i].pattern, cases[i].s);
			CHECK(!"as expected");
		}
	}
}

static void test_regexes(void)
{
	static const struct {
		const char *pattern, *s;
		bool fits;
	} cases[] = {
		{"~a", "a", true},
		{"~a", "ab", false},
		{"~^a$", "a", true},
		{"~a\\$", "a$", true},
		{"~a|bc|d", "bc", true},
		{"~a|bc|d", "d", true},
		{"~a|bc|d", "b", false},
		{"~(a|bc)*", "abcbca", true},
		{"~(a|bc)*", "abcb", false},
		{"~(a*)*b", "aaab", true},
		{"~(a*)+", "", true},
		{"~x{3}", "xxx", true},
		{"~x{3}", "xx", false},
		{"~x{2,3}", "xxxx", false},
		{"~x{2,}", "xxxxx", true},
		{"~(ab){0,2}c", "ababc", true},
		{"~(ab){0,2}c", "abababc", false},
		{"~v[0-9]+(\\.[0-9]+)?", "v1.22", true},
		{"~v[0-9]+(\\.[0-9]+)?", "v1.", false},
		{"~[^/]+/x", "a/b/x", false},
		{"~.*", "\xc3\xa4", true},
		{"~((((a))))", "a", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (fits(cases[i].pattern, false, cases[i].s) != cases[i].fits) {
			fprintf(stderr, "regex %s on \"%s\"\n", cases[i].pattern, cases[i].s);
			CHECK(!"as expected");
		}
}

static void test_errors(void)
{
	static const struct {
		const char *pattern, *message;
	} cases[] = {
		{"", "must not be empty"},
		{"[", "a [ without its ]"},
		{"[z-a]", "ends before it begins"},
		{"[\\d]", "\\ in []"},
		{"[\xc3\xa4]", "only ASCII"},
		{"[[:word:]]", "[: is the beginning"},
		{"x\\", "nothing follows"},
		{"*/x", "may be a host or an organisation"},
		{"~", "empty"},
		{"~a||b", "empty"},
		{"~()", "empty"},
		{"~(a", "a ( without its )"},
		{"~a)", "a ) without its ("},
		{"~*a", "nothing is before"},
		{"~a**", "nothing is before"},
		{"~a{2", "{ must begin"},
		{"~a{0}", "{ must begin"},
		{"~a{3,2}", "{ must begin"},
		{"~a{1,999}", "{ must begin"},
		{"~a^b", "as a whole"},
		{"~^a|b$", "put the alternatives into"},
		{"~\\d+", "no meaning after"},
		{"~(a)\\1", "no meaning after"},
		{"~((a{200}){200}){200}", "repeat"},
		{"~(((a{0,99}){0,99}){0,99}){0,99}", "repeats too much"},
		{"~((((((((((((((((((a))))))))))))))))))", "too many ("},
	};
	_cleanup_free_ char *longer = xmalloc(PATTERN_MAX + 2);
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct err e = ERR_NULL;
	struct pattern p;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		e = ERR_NULL;
		CHECK_INT(pattern_compile(&a, cases[i].pattern, true, &p, &e), -EINVAL);
		if (!strstr(e.msg, cases[i].message)) {
			fprintf(stderr, "%s: %s\n", cases[i].pattern, e.msg);
			CHECK(!"the message");
		}
	}
	memset(longer, 'a', PATTERN_MAX + 1);
	longer[PATTERN_MAX + 1] = '\0';
	CHECK_INT(pattern_compile(&a, longer, false, &p, &e), -EINVAL);
	longer[PATTERN_MAX] = '\0';
	CHECK_INT(pattern_compile(&a, longer, false, &p, &e), 0);
	CHECK(pattern_match(&p, longer, PATTERN_MAX));
}

/* --- any expression fits what the C library's does --- */

static void random_regex(struct strbuf *b, unsigned depth)
{
	static const char *const atoms[] = {"a",    "b",    "c",   ".",
					    "[ab]", "[^a]", "\\.", "[[:alpha:]]"};
	static const char *const repeats[] = {"*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}"};
	unsigned n = 1 + rnd(4);

	for (unsigned i = 0; i < n; i++) {
		if (depth && rnd(4) == 0) {
			strbuf_addc(b, '(');
			random_regex(b, depth - 1);
			if (rnd(2)) {
				strbuf_addc(b, '|');
				random_regex(b, depth - 1);
			}
			strbuf_addc(b, ')');
		} else {
			strbuf_adds(b, atoms[rnd(ARRAY_SIZE(atoms))]);
		}
		if (rnd(3) == 0)
			strbuf_adds(b, repeats[rnd(ARRAY_SIZE(repeats))]);
	}
}

static void compare(const char *regex)
{
	_cleanup_free_ char *ours = xasprintf("~%s", regex), *theirs = xasprintf("^(%s)$", regex);
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct pattern p;
	regex_t re;

	if (pattern_compile(&a, ours, false, &p, NULL) < 0)
		return; /* too long */
	CHECK_INT(regcomp(&re, theirs, REG_EXTENDED | REG_NOSUB), 0);
	for (int k = 0; k < 20; k++) {
		struct pattern_signature sig = {0};
		char s[16];
		size_t n = rnd(12);
		bool want, got;

		for (size_t i = 0; i < n; i++)
			s[i] = "aabbcd./"[rnd(8)];
		s[n] = '\0';
		want = regexec(&re, s, 0, NULL, 0) == 0;
		got = pattern_match(&p, s, n);
		pattern_sign(&sig, s, n);
		for (size_t i = 0; i <= n; i++)
			CHECK_INT(pattern_match_either(&p, s, n, i),
				  got || pattern_match(&p, s, i));
		if (want != got || (got && !pattern_may_fit(&p.required, &sig))) {
			fprintf(stderr, "%s on \"%s\": %d, not %d\n", ours, s, got, want);
			CHECK(!"the same");
		}
	}
	regfree(&re);
}

static void test_as_the_library(void)
{
	for (int i = 0; i < 3000; i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		random_regex(&b, 2);
		compare(b.s);
	}
}

/* What makes other engines take exponential time or memory. */
static void test_hostile(void)
{
	static const char *const patterns[] = {"~(a*)*b",
					       "~(a|a)*b",
					       "~(a|aa)+b",
					       "~(.*)(.*)(.*)(.*)x",
					       "~(a|b)*a(a|b){60}c",
					       "*a*a*a*a*a*a*a*a*a*b"};
	char s[PATTERN_SUBJECT_MAX + 2];

	memset(s, 'a', sizeof(s));
	s[PATTERN_SUBJECT_MAX] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
		CHECK(!fits(patterns[i], false, s));
	CHECK(fits("~a*", false, s));
	s[PATTERN_SUBJECT_MAX] = 'a';
	s[PATTERN_SUBJECT_MAX + 1] = '\0';
	CHECK(!fits("~a*", false, s));
}

int main(void)
{
	TEST(globs);
	TEST(images);
	TEST(regexes);
	TEST(errors);
	TEST(as_the_library);
	TEST(hostile);
	return test_done();
}
