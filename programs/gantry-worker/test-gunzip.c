/* SPDX-License-Identifier: Apache-2.0 */
/* Built once for each library that is there. */
#include <errno.h>

#include "base/mem.h"
#include "base/test.h"
#include "gunzip.h"

/* printf hello | gzip -n; printf ', world' | gzip -n */
static const uint8_t hello[] = {0x1f, 0x8b, 0x08, 0,	0,    0,    0,	  0, 0,
				0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0, 0x86,
				0xa6, 0x10, 0x36, 0x05, 0,    0,    0};
static const uint8_t world[] = {0x1f, 0x8b, 0x08, 0,	0,    0,    0,	  0,	0,
				0x03, 0xd3, 0x51, 0x28, 0xcf, 0x2f, 0xca, 0x49, 0x01,
				0,    0xfe, 0x6f, 0x88, 0x6e, 0x07, 0,	  0,	0};

/* Both members, with so much input and room at once. */
static int unpack(const uint8_t *p, size_t n, size_t step, size_t room, char *ret, size_t *ret_left)
{
	struct gunzip *g = gunzip_new();
	uint8_t *to = (uint8_t *)ret;
	int r = 0;

	gunzip_begin(g);
	for (unsigned turns = 0; r == 0 && turns < 1000; turns++) {
		size_t some = MIN(n, step), before = some, space = room;

		r = gunzip_some(g, &p, &some, &to, &space);
		n -= before - some;
	}
	*to = '\0';
	*ret_left = n;
	gunzip_free(g);
	return r;
}

static void test_member(void)
{
	static const size_t steps[] = {1, 2, 7, 1000};
	uint8_t both[sizeof(hello) + sizeof(world)];

	memcpy(both, hello, sizeof(hello));
	memcpy(both + sizeof(hello), world, sizeof(world));
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(steps); k++) {
			char text[64];
			size_t left;

			CHECK_INT(unpack(both, sizeof(both), steps[i], MIN(steps[k], 8u), text,
					 &left),
				  1);
			CHECK_STR(text, "hello");
			CHECK_INT(left, sizeof(world)); /* the next member is not touched */
			CHECK_INT(unpack(world, sizeof(world), steps[i], MIN(steps[k], 8u), text,
					 &left),
				  1);
			CHECK_STR(text, ", world");
			CHECK_INT(left, 0);
		}
	}
}

static void test_again(void)
{
	struct gunzip *g = gunzip_new();

	for (int i = 0; i < 3; i++) {
		const uint8_t *p = hello;
		uint8_t out[64], *to = out;
		size_t n = sizeof(hello), room = sizeof(out);

		gunzip_begin(g);
		CHECK_INT(gunzip_some(g, &p, &n, &to, &room), 1);
		CHECK(to == out + 5 && memcmp(out, "hello", 5) == 0);
	}
	gunzip_free(g);
}

static void test_damaged(void)
{
	char text[64];
	size_t left;

	for (size_t i = 0; i < sizeof(hello); i++) {
		uint8_t bad[sizeof(hello)];

		if (i >= 3 && i < 10) /* flags, time and system */
			continue;
		memcpy(bad, hello, sizeof(bad));
		bad[i] ^= 0x55;
		CHECK(unpack(bad, sizeof(bad), sizeof(bad), 32, text, &left) != 1);
	}
	for (size_t n = 0; n < sizeof(hello); n++)
		CHECK_INT(unpack(hello, n, sizeof(hello), 32, text, &left), 0);
}

/* What a fuzzer found: ISA-L stops at an error, and says that it took one byte more than there was. */
static const uint8_t beyond[] = {
	0x1f, 0x8b, 0x08, 0x00, 0xc3, 0x7f, 0x05, 0x6b, 0x02, 0xff, 0xed, 0x96, 0xbd, 0x0a,
	0xc2, 0x30, 0x14, 0x85, 0x33, 0xfb, 0x14, 0x79, 0x82, 0x9b, 0xff, 0xde, 0x49, 0x10,
	0x5c, 0x2a, 0x38, 0x08, 0x4e, 0x8e, 0xd1, 0x56, 0x2b, 0xe8, 0xd2, 0x56, 0x8d, 0x6f,
	0x6f, 0xe8, 0x22, 0xfe, 0x20, 0x38, 0x24, 0x14, 0x92, 0x6f, 0xb9, 0x21, 0x04, 0xee,
	0x70, 0x72, 0xcf, 0x3d, 0x15, 0x23, 0xc1, 0xe1, 0x1e, 0x34, 0x66, 0xa8, 0x9e, 0xf7,
	0x3a, 0x9c, 0x85, 0x36, 0x52, 0x23, 0x70, 0x3d, 0xdc, 0x17, 0x52, 0x49, 0x42, 0x0d,
	0x89, 0xc0, 0xa5, 0xeb, 0x6d, 0xeb, 0x5b, 0x92, 0x34, 0x01, 0x06, 0x6c, 0xb6, 0x30,
	0x33, 0x00, 0x30, 0x31, 0x34, 0x34, 0x36, 0x30, 0x00, 0x20, 0x30, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9f, 0x23, 0xed, 0x33,
	0xfd, 0x7f, 0x00, 0x00, 0x69, 0x76, 0xfd, 0x00, 0x00, 0x14, 0x00, 0x00,
};

static void test_taken_beyond_the_end(void)
{
	struct gunzip *g = gunzip_new();
	const uint8_t *p = beyond;
	uint8_t out[4096], *to = out;
	size_t n = sizeof(beyond), room = sizeof(out);

	gunzip_begin(g);
	CHECK_INT(gunzip_some(g, &p, &n, &to, &room), -EBADMSG);
	CHECK(p == beyond && n == sizeof(beyond) && to == out && room == sizeof(out));
	gunzip_free(g);
}

int main(void)
{
	TEST(member);
	TEST(again);
	TEST(damaged);
	TEST(taken_beyond_the_end);
	return test_done();
}
