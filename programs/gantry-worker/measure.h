/* SPDX-License-Identifier: Apache-2.0 */
/* The space that a tree takes: blocks, and inodes; what has several names counts once. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define MEASURE_DEPTH_MAX 1000 /* of a tree that containers made */

struct measure {
	uint64_t bytes, inodes;
};

/* Adds what is below the directory, it included. */
void measure_dir(int dirfd, struct measure *to);
void measure_tree(int at, const char *name, struct measure *to);

/* One by one: inodes with several names that have been counted; open addressing, 0 is empty. */
struct measure_seen {
	uint64_t *v;
	size_t cap, n;
};
void measure_add(const struct stat *st, struct measure_seen *seen, struct measure *to);
void measure_seen_fini(struct measure_seen *seen);
