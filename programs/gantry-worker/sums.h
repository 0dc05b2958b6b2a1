/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of checksums of a layer, layers/NAME.sums (docs/decisions/0010): made when the layer
 * is, checked by `gantry image verify`.  It begins with a line of its own, then for each
 * name in the layer, directory by directory in the order of their bytes:
 *
 *	KIND CONTENT META PATH NUL
 *
 * KIND: 'f' a file whose bytes are summed as they are, 's' one that is summed without its
 * blocks of zeros, '-' anything else.  META: of type, mode, owner, size, time, device, link and
 * extended attributes.  Both are 16 hexadecimal digits (contents.h).
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "contents.h"
#include "measure.h"

#define SUMS_DEPTH_MAX 256 /* directories in directories; what is deeper is not in the list */

/* Writes the list of the layer to `fd`, and measures it.  ret_digest: "sha256:..." of the list,
 * room for 72. */
int sums_write(int dirfd, const struct contents *c, int fd, struct measure *used, char *ret_digest,
	       struct err *e);

struct sums_check {
	int dirfd, list_fd;
	const char *digest;					  /* of the list */
	int (*went_on)(void *arg, uint64_t bytes, struct err *e); /* bytes read so far */
	void *arg;
	/* results */
	char *problem;	   /* the first, owned; NULL: none */
	uint64_t problems; /* all of them */
};
/* < 0 is of went_on(); whatever is wrong with the layer is a problem. */
int sums_check(struct sums_check *c, struct err *e);
