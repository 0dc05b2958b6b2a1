/* SPDX-License-Identifier: Apache-2.0 */
/* Any text: what is accepted can be walked, printed and read again as the same. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "wire/json.h"
#include "wire/json_check.h"

#define TEXT_MAX 65536

static void walk(const jv *v, unsigned depth)
{
	struct jv_iter it = JV_ITER_INIT;
	const char *s = jv_as_string(v);

	FUZZ_ASSERT(depth <= JSON_DEPTH_MAX);
	FUZZ_ASSERT(!s || str_is_utf8(s, strlen(s)));
	for (size_t i = 0; i < jv_len(v); i++)
		walk(jv_at(v, i), depth + 1);
	while (jv_next(v, &it)) {
		jv_int(v, it.key, 0);
		jv_string(v, it.key, NULL);
		jv_bool(v, it.key, false);
		walk(it.value, depth + 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf once = STRBUF_NULL, twice = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL, *again = NULL;
	struct jw w = JW_INIT(&once);
	struct err e = ERR_NULL;

	if (jv_parse((const char *)data, size, TEXT_MAX, "fuzz", &v, &e) < 0) {
		FUZZ_ASSERT(e.msg[0]);
	} else {
		walk(v, 0);
		jv_print(v, &once);
		FUZZ_ASSERT(jv_parse(once.s, once.len, SIZE_MAX, "fuzz", &again, NULL) == 0);
		jv_print(again, &twice);
		FUZZ_ASSERT(streq(once.s, twice.s));
		strbuf_reset(&once);
	}
	jw_string_n(&w, (const char *)data, size); /* any bytes make a string */
	jv_free(again);
	again = NULL;
	FUZZ_ASSERT(jv_parse(once.s, once.len, SIZE_MAX, "fuzz", &again, NULL) == 0);
	return 0;
}
