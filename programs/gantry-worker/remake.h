/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tar, made again by its recipe (recipe.h) out of the files in its directory.  Whatever
 * came to the files since is found: the tar has to have the layer's digest in the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What a recipe says, read to its end. */
struct remake_scan {
	uint64_t size;	 /* of the tar */
	bool kept;	 /* it keeps what files had that were replaced */
	char digest[72]; /* of the recipe itself */
};
int remake_scan(int recipe_fd, struct remake_scan *ret, struct err *e); /* DATA_LOSS */

struct remake {
	int recipe_fd, layer_fd; /* borrowed */
	int tmp_fd; /* a directory for what the recipe itself keeps of files; borrowed */
	const char *diff_id;
	const struct remake_scan *scan;
	int (*out)(void *arg, const void *p, size_t n, struct err *e);
	void *arg;
	char *problem; /* result: what is wrong with the layer, owned; NULL: nothing */
};
/* -EBADMSG with a problem, or < 0 of out(). */
int remake_tar(struct remake *m, struct err *e);
