/* SPDX-License-Identifier: Apache-2.0 */
/* Any document: what it needs has a place each, and more of it never needs less. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "route/needs.h"

#define TEXT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct needs_facts facts[] = {{0}, {.cgroup_v2 = true, .privileged = true}};
	_cleanup_jv_ jv *config = NULL;

	if (jv_parse((const char *)data, size, TEXT_MAX, "fuzz", &config, NULL) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
		struct needs n = NEEDS_NULL, twice;

		needs_add_config(&n, config, &facts[i]);
		FUZZ_ASSERT(n.bits && !(n.bits & ~RCAP_ALL));
		for (unsigned k = 0; k < RCAP_COUNT; k++) {
			strbuf_reset(&b);
			needs_origin_print(&n, k, &b);
			FUZZ_ASSERT((b.len > 0) == !!(n.bits & RCAP_BIT(k)));
		}
		twice = n;
		needs_add_config(&twice, config, &facts[i]);
		FUZZ_ASSERT(twice.bits == n.bits);
		needs_print(&n, n.bits, &b);
		FUZZ_ASSERT(str_is_utf8(b.s, b.len));
	}
	return 0;
}
