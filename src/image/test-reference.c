/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/test.h"
#include "image/record.h"
#include "image/reference.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_good(void)
{
	static const struct {
		const char *in, *text, *host, *path;
	} cases[] = {
		{"busybox", "docker.io/library/busybox:latest", "docker.io", "library/busybox"},
		{"index.docker.io/x", "docker.io/library/x:latest", "docker.io", "library/x"},
		{"a/b:1", "docker.io/a/b:1", "docker.io", "a/b"},
		{"localhost/b", "localhost/b:latest", "localhost", "b"},
		{"h:5000/x:T_1.2-3", "h:5000/x:T_1.2-3", "h:5000", "x"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000", "x"},
		{"q.io/a/b__c/d--e.f@sha256:" HEX, "q.io/a/b__c/d--e.f@sha256:" HEX, "q.io",
		 "a/b__c/d--e.f"},
		{"q.io/a:1@sha256:" HEX, "q.io/a:1@sha256:" HEX, "q.io", "a"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_reference_ struct reference r = REFERENCE_NULL;
		struct err e = ERR_NULL;

		CHECK_INT(reference_parse(cases[i].in, &r, &e), 0);
		CHECK_STR(r.text, cases[i].text);
		CHECK_STR(r.host, cases[i].host);
		CHECK_STR(r.path, cases[i].path);
	}
}

static void test_bad(void)
{
	static const char *const cases[] = {
		"",
		"UPPER",
		"a//b",
		"/a",
		"a/",
		"a:",
		"a:b:c/",
		"a@sha256:12",
		"a:-x",
		"a__"
		"_b",
		"a..b",
		"../etc",
		"http://a/b",
		"a b",
		"h:port/x",
		"a@md5:" HEX,
		"-h.io/x",
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reference r = REFERENCE_NULL;
		struct err e = ERR_NULL;

		CHECK_INT(reference_parse(cases[i], &r, &e), -EINVAL);
		CHECK_INT(e.code, GRPC_INVALID_ARGUMENT);
	}
}

static void test_record(void)
{
	struct strbuf one = STRBUF_NULL, two = STRBUF_NULL;
	struct image_record r = {.id = xstrdup(HEX), .size = 7, .pulled_at = 9}, back;
	struct err e = ERR_NULL;

	strv_add(&r.tags, "a:b");
	strv_add(&r.layers, "0123456789abcdef0123456789abcdef");
	strv_add(&r.config.env, "A=\"b\"");
	image_record_print(&r, &one);
	CHECK_INT(image_record_parse(one.s, one.len, &back, &e), 0);
	image_record_print(&back, &two);
	CHECK_STR(one.s, two.s);
	image_record_fini(&back);
	image_record_fini(&r);
	strbuf_fini(&two);
	strbuf_reset(&one);
	strbuf_adds(&one, "{\"id\":\"" HEX "\",\"layers\":[\"../../etc\"]}");
	CHECK_INT(image_record_parse(one.s, one.len, &back, &e), -EINVAL);
	strbuf_fini(&one);
}

int main(void)
{
	TEST(good);
	TEST(bad);
	TEST(record);
	return test_done();
}
