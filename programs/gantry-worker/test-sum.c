/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of contents is the same one whatever makes it. */
#include "base/test.h"
#include "contents.h"

static void test_known(void)
{
	CHECK(content_sum(0, "123456789", 9) == UINT64_C(0x995dc9bbdf1939fa)); /* CRC-64/XZ */
	CHECK(content_sum(0, "", 0) == 0);
}

static void test_in_parts(void)
{
	uint8_t b[5000];
	uint64_t whole, sum = 0;

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(i * 7 + i / 251);
	whole = content_sum(0, b, sizeof(b));
	for (size_t i = 0, n = 1; i < sizeof(b); i += n, n = n * 3 % 401)
		sum = content_sum(sum, b + i, n < sizeof(b) - i ? n : sizeof(b) - i);
	CHECK(sum == whole);
}

int main(void)
{
	TEST(known);
	TEST(in_parts);
	return test_done();
}
