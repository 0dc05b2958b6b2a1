/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "runtime/caps.h"

static void test_names(void)
{
	enum runtime_cap found;

	for (unsigned i = 0; i < RCAP_COUNT; i++) {
		CHECK(!str_empty(runtime_cap_name(i)) && !str_empty(runtime_cap_text(i)));
		CHECK(runtime_cap_find(runtime_cap_name(i), &found) && found == i);
	}
	CHECK(!runtime_cap_find("", &found));
	CHECK(!runtime_cap_find("user namespaces", &found));
	CHECK(RCAP_ALL >> (RCAP_COUNT - 1) == 1);
}

static void test_reasons(void)
{
	_cleanup_runtime_caps_ struct runtime_caps c = RUNTIME_CAPS_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const uint64_t two = RCAP_BIT(RCAP_USERNS) | RCAP_BIT(RCAP_TERMINAL);

	CHECK(runtime_caps_missing(&c, two) == two);
	runtime_caps_grant(&c, RCAP_USERNS);
	runtime_caps_grant(&c, RCAP_EXEC);
	CHECK(runtime_caps_missing(&c, two) == RCAP_BIT(RCAP_TERMINAL));
	CHECK_STR(runtime_caps_why(&c, RCAP_USERNS), "");
	CHECK_STR(runtime_caps_why(&c, RCAP_TERMINAL), "it is not known to have it");
	runtime_caps_lack(&c, two, "version %d has none", 3);
	runtime_caps_lack(&c, RCAP_BIT(RCAP_USERNS), "a later reason");
	CHECK(runtime_caps_missing(&c, two) == two);
	runtime_caps_explain(&c, two, &b);
	CHECK_STR(b.s, "user namespaces: version 3 has none; terminals: version 3 has none");
	strbuf_reset(&b);
	runtime_caps_list(two, &b);
	CHECK_STR(b.s, "user namespaces, terminals");
	runtime_caps_grant(&c, RCAP_TERMINAL);
	CHECK_STR(runtime_caps_why(&c, RCAP_TERMINAL), "");
}

static void test_json(void)
{
	_cleanup_runtime_caps_ struct runtime_caps a = RUNTIME_CAPS_NULL, b = RUNTIME_CAPS_NULL;
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	struct jw w = JW_INIT(&text);
	_cleanup_jv_ jv *v = NULL, *other = NULL;
	static const char newer[] = "{\"has\":[\"exec\",\"x-rays\",5],\"lacks\":{\"x\":\"y\"}}";

	runtime_caps_grant(&a, RCAP_PAUSE);
	runtime_caps_lack(&a, RCAP_BIT(RCAP_USERNS), "a \"reason\"\n");
	runtime_caps_print(&a, &w);
	CHECK_INT(jv_parse(text.s, text.len, SIZE_MAX, "caps", &v, NULL), 0);
	CHECK_INT(runtime_caps_read(v, &b, NULL), 0);
	CHECK(a.has == b.has);
	CHECK_STR(runtime_caps_why(&b, RCAP_USERNS), "a \"reason\"\n");
	CHECK(!b.why[RCAP_EXEC]);
	runtime_caps_fini(&b);
	CHECK_INT(jv_parse(newer, strlen(newer), SIZE_MAX, "caps", &other, NULL), 0);
	CHECK_INT(runtime_caps_read(other, &b, NULL), 0);
	CHECK(b.has == RCAP_BIT(RCAP_EXEC));
	CHECK_INT(runtime_caps_read(jv_get(other, "has"), &a, NULL), -EINVAL);
	CHECK_INT(runtime_caps_read(NULL, &a, NULL), -EINVAL);
}

int main(void)
{
	TEST(names);
	TEST(reasons);
	TEST(json);
	return test_done();
}
