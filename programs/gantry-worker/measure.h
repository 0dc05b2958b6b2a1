/* SPDX-License-Identifier: Apache-2.0 */
/* The space that a tree takes: blocks, and inodes; what has several names counts once. */
#pragma once

#include <stdint.h>

#define MEASURE_DEPTH_MAX 1000 /* of a tree that containers made */

struct measure {
	uint64_t bytes, inodes;
};

/* Adds what is below the directory, it included. */
void measure_dir(int dirfd, struct measure *to);
void measure_tree(int at, const char *name, struct measure *to);
