/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit tests: a plain program beside the code.  Exit status 0 passed, 1 failed, 77 skipped.
 *
 *	int main(void) { TEST(strings); TEST(maps); return test_done(); }
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_failed, test_ran;

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);         \
			test_failed++;                                                             \
		}                                                                                  \
	} while (0)
#define CHECK_INT(a, b)                                                                            \
	do {                                                                                       \
		long long _a = (long long)(a), _b = (long long)(b);                                \
		if (_a != _b) {                                                                    \
			fprintf(stderr, "%s:%d: failed: %s is %lld, not %lld\n", __FILE__,         \
				__LINE__, #a, _a, _b);                                             \
			test_failed++;                                                             \
		}                                                                                  \
	} while (0)
#define CHECK_STR(a, b)                                                                            \
	do {                                                                                       \
		const char *_a = (a), *_b = (b);                                                   \
		if (!_a || !_b || strcmp(_a, _b) != 0) {                                           \
			fprintf(stderr, "%s:%d: failed: %s is \"%s\", not \"%s\"\n", __FILE__,     \
				__LINE__, #a, _a ? _a : "(null)", _b ? _b : "(null)");             \
			test_failed++;                                                             \
		}                                                                                  \
	} while (0)

#define TEST(name)                                                                                 \
	do {                                                                                       \
		test_##name();                                                                     \
		test_ran++;                                                                        \
	} while (0)
#define TEST_SKIP(why)                                                                             \
	do {                                                                                       \
		fprintf(stderr, "skipped: %s\n", (why));                                           \
		exit(77);                                                                          \
	} while (0)

static inline int test_done(void)
{
	fprintf(stderr, "%d tests, %d failed checks\n", test_ran, test_failed);
	return test_failed ? 1 : 0;
}
