/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a pattern (up to the first zero byte), and any bytes as the name. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "config/pattern.h"

static void check(const char *text, bool image, const char *s, size_t n)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct pattern_signature sig = {0};
	struct err e = ERR_NULL;
	struct pattern p;

	if (pattern_compile(&a, text, image, &p, &e) < 0) {
		FUZZ_ASSERT(e.code == GRPC_INVALID_ARGUMENT && e.msg[0]);
		return;
	}
	FUZZ_ASSERT(p.prefix_len + p.n <= PATTERN_PROGRAM_MAX);
	FUZZ_ASSERT(pattern_cost(&p) <= PATTERN_PROGRAM_MAX + 1);
	pattern_sign(&sig, s, n);
	for (size_t also = 0; also <= n && n <= PATTERN_SUBJECT_MAX; also += 1 + n / 4)
		FUZZ_ASSERT(pattern_match_either(&p, s, n, also) ==
			    (pattern_match(&p, s, n) || pattern_match(&p, s, also)));
	if (pattern_match(&p, s, n)) {
		FUZZ_ASSERT(n <= PATTERN_SUBJECT_MAX && pattern_may_fit(&p.required, &sig));
		FUZZ_ASSERT(!memcmp(s, p.prefix, p.prefix_len));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n = strnlen((const char *)data, size), skip = n + (n < size);
	_cleanup_free_ char *text = xstrndup((const char *)data, n);

	check(text, false, (const char *)data + skip, size - skip);
	check(text, true, (const char *)data + skip, size - skip);
	return 0;
}
