/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as the table of `gantry route test`: cases that say what they expect, or a sentence. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "route_cases.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *copy = xstrndup((const char *)data, size);
	const struct strbuf text = {copy, strlen(copy), size + 1};
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct route_case *cases = NULL;
	struct err e = ERR_NULL;
	size_t n = 0;

	if (route_cases_read(&a, "file", &text, &cases, &n, &e) < 0) {
		FUZZ_ASSERT(e.code == GRPC_INVALID_ARGUMENT && e.msg[0]);
		return 0;
	}
	FUZZ_ASSERT(n > 0 && n <= ROUTE_CASES_MAX);
	for (size_t i = 0; i < n; i++) {
		FUZZ_ASSERT(!cases[i].expect != !cases[i].refused);
		FUZZ_ASSERT(cases[i].line > 0);
		for (size_t k = 0; k < cases[i].n_labels; k++)
			FUZZ_ASSERT(cases[i].labels[k].key && cases[i].labels[k].value);
	}
	return 0;
}
