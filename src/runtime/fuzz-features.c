/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runtime says of itself: the first line is its `--version`, the rest its `features`.  Each
 * capability is there or has a reason that can be printed and read again.
 */
#include "base/fuzz.h"
#include "base/mem.h"
#include "runtime/report.h"

static void check_json(const struct runtime_caps *c)
{
	_cleanup_runtime_caps_ struct runtime_caps again = RUNTIME_CAPS_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;
	struct jw w = JW_INIT(&b);

	runtime_caps_print(c, &w);
	FUZZ_ASSERT(jv_parse(b.s, b.len, SIZE_MAX, "caps", &v, NULL) == 0);
	FUZZ_ASSERT(runtime_caps_read(v, &again, NULL) == 0);
	FUZZ_ASSERT(again.has == c->has);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct runtime_host host = {.seccomp = true, .seccomp_actions = "log"};
	_cleanup_runtime_caps_ struct runtime_caps c = RUNTIME_CAPS_NULL,
						   foreign = RUNTIME_CAPS_NULL;
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	size_t n = strcspn(text, "\n");
	const char *doc = text + n + (text[n] == '\n');
	_cleanup_free_ char *version = xstrndup(text, n);
	_cleanup_runtime_report_ struct runtime_report report = RUNTIME_REPORT_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;
	uint64_t sure = runtime_caps_known(version, NULL, &c), before = c.has;

	FUZZ_ASSERT(!(sure & ~RCAP_ALL));
	if (runtime_caps_features(doc, strlen(doc), sure, &c, NULL) < 0)
		FUZZ_ASSERT(c.has == before);
	runtime_caps_host(&host, &c);
	FUZZ_ASSERT(!(c.has & ~RCAP_ALL) && !(c.has & RCAP_BIT(RCAP_APPARMOR)));
	for (unsigned i = 0; i < RCAP_COUNT; i++)
		FUZZ_ASSERT(!!(c.has & RCAP_BIT(i)) == !*runtime_caps_why(&c, i));
	runtime_caps_explain(&c, RCAP_ALL, &b);
	check_json(&c);
	if (jv_parse(doc, strlen(doc), RUNTIME_FEATURES_MAX, "fuzz", &v, NULL) == 0)
		runtime_caps_read(v, &foreign, NULL);
	runtime_report_read(doc, strlen(doc), &report, NULL);
	return 0;
}
