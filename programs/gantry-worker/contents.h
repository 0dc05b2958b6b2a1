/* SPDX-License-Identifier: Apache-2.0 */
/* What was written into the files of a layer: a checksum for each inode, as its bytes go by. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Open addressing by inode; 0 is empty. */
struct contents {
	struct content {
		uint64_t ino, sum;
	} * v;
	size_t cap, n;
};

/* CRC-64 (ECMA-182, reflected) of what came so far and these bytes; begins with 0. */
uint64_t content_sum(uint64_t sum, const void *p, size_t n);
/* The file's, whatever was noted before. */
void contents_note(struct contents *c, uint64_t ino, uint64_t sum);
bool contents_get(const struct contents *c, uint64_t ino, uint64_t *ret);
void contents_fini(struct contents *c);
