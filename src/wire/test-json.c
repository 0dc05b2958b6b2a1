/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/test.h"
#include "wire/json.h"

static int parse(const char *s, jv **ret, struct err *e)
{
	return jv_parse(s, strlen(s), 4096, "test", ret, e);
}

static void test_read(void)
{
	_cleanup_jv_ jv *v = NULL;
	struct jv_iter it = JV_ITER_INIT;
	int n = 0;

	CHECK_INT(parse("{\"a\":{\"b\":[1,\"x\",true]},\"n\":-7,\"s\":\"q\\u0000r\",\"z\":null} \n",
			&v, NULL),
		  0);
	CHECK_INT(jv_len(jv_get(v, "a.b")), 3);
	CHECK_STR(jv_as_string(jv_at(jv_get(v, "a.b"), 1)), "x");
	CHECK_INT(jv_int(v, "n", 0), -7);
	CHECK_INT(jv_int(v, "a", 5), 5);
	CHECK_INT(jv_int(v, "a.b.c", 5), 5);
	CHECK(!jv_as_string(jv_get(v, "s"))); /* a NUL would cut it silently */
	CHECK_STR(jv_string(v, "z", "none"), "none");
	while (jv_next(v, &it))
		n++;
	CHECK_INT(n, 4);
}

static void test_refused(void)
{
	static const char *const bad[] = {
		"",
		" ",
		"{",
		"[",
		"{} x",
		"[1,]",
		"[,1]",
		"[1,,2]",
		"{,}",
		"{\"a\":1,}",
		"{'a':1}",
		"{a:1}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\" 1}",
		"[1 2]",
		"nul",
		"nulL",
		"TRUE",
		"truex",
		"01",
		"-01",
		"-",
		"+1",
		"1.",
		".5",
		"1e",
		"1e+",
		"0x10",
		"NaN",
		"Infinity",
		"-Infinity",
		"1-2",
		"/*c*/1",
		"[1]]",
		"\"\xff\"",
		"\"a\tb\"",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\u12g4\"",
		"\"a",
		"\"a\\",
		"\xef\xbb\xbf{}",
		"\v1",
		"[}",
		"{\"a\":1]",
		"\"\xed\xa0\x80\"",
	};
	struct err e = ERR_NULL;
	char deep[400];
	jv *v = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (parse(bad[i], &v, &e) != -EINVAL) {
			fprintf(stderr, "accepted: %s\n", bad[i]);
			CHECK(!"refused");
		}
		CHECK(str_has_prefix(e.msg, "test: no valid JSON at byte"));
	}
	CHECK_INT(jv_parse("[1]\0", 4, 4096, "NUL", &v, &e), -EINVAL);
	CHECK_INT(jv_parse("\"a\0b\"", 5, 4096, "NUL", &v, &e), -EINVAL);
	CHECK_INT(jv_parse("[]", 2, 1, "long", &v, &e), -EINVAL);
	memset(deep, '[', 200);
	memset(deep + 200, ']', 200);
	CHECK_INT(jv_parse(deep, 400, 4096, "deep", &v, &e), -EINVAL);
	CHECK_STR(e.msg, "deep: no valid JSON at byte 64: nested too deep");
	CHECK_INT(jv_parse(deep + 136, 128, 4096, "deep", &v, &e), 0);
	jv_free(v);
}

static void test_accepted(void)
{
	static const char *const good[] = {
		" 0 ",
		"-0",
		"12.50E+3",
		"1e-5",
		"true",
		"false",
		"null",
		"\"\"",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\"",
		"\"\x7f\xf0\x9f\x98\x80\"",
		"[]",
		"{ }",
		"[[],{},[ [ ] ]]",
		"\r\n\t{\"\":[1,{\"a\":null}]}\n",
		"\"\\ud800\"",
		"1e999",
		"99999999999999999999999",
		"{\"a\":1,\"a\":2}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct err e = ERR_NULL;
		jv *v = NULL;

		CHECK_INT(parse(good[i], &v, &e), 0);
		CHECK_STR(e.msg, "");
		jv_free(v);
	}
}

static void test_write(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, back = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_string(&w, "s", "a\"b\\c\n\x01\xff\xc3\xa9");
	jw_key_array(&w, "l");
	jw_int(&w, -1);
	jw_uint(&w, UINT64_MAX);
	jw_object_begin(&w);
	jw_object_end(&w);
	jw_string(&w, NULL);
	jw_array_end(&w);
	jw_key_bool(&w, "t", true);
	jw_object_end(&w);
	CHECK_STR(b.s, "{\"s\":\"a\\\"b\\\\c\\n\\u0001\xef\xbf\xbd\xc3\xa9\",\"l\":[-1,"
		       "18446744073709551615,{},null],\"t\":true}");
	CHECK_INT(parse(b.s, &v, NULL), 0);
	jv_print(v, &back);
	CHECK_STR(back.s, b.s);
}

int main(void)
{
	TEST(read);
	TEST(refused);
	TEST(accepted);
	TEST(write);
	return test_done();
}
