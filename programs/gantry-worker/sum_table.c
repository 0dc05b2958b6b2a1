/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-64 by a table, where there is no ISA-L: see contents.h. */
#include "contents.h"

#define POLYNOMIAL UINT64_C(0xc96c5795d7870f42) /* of ECMA-182, reflected */

static uint64_t table[256];

static void fill(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t v = i;

		for (unsigned bit = 0; bit < 8; bit++)
			v = v & 1 ? v >> 1 ^ POLYNOMIAL : v >> 1;
		table[i] = v;
	}
}

uint64_t content_sum(uint64_t sum, const void *p, size_t n)
{
	const uint8_t *b = p;

	if (!table[1])
		fill();
	sum = ~sum;
	for (size_t i = 0; i < n; i++)
		sum = table[(uint8_t)(sum ^ b[i])] ^ sum >> 8;
	return ~sum;
}
