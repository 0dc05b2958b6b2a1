/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who of several workers makes a layer, so that it is fetched once.
 *
 * A claim is a lock on one byte of the store's lock file, far behind its content, at a place that
 * follows from the layer's name (fcntl(2), open file description locks): nothing has to be swept,
 * for the kernel ends the claims of a worker with it.  That somebody waits for a layer is a lock
 * at another place, which tells its maker to put it into the store before its own image is whole.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define CLAIMS_LOOK_MS 50     /* between two looks at a layer that another makes */
#define CLAIMS_WAIT_MAX_S 300 /* then it is fetched in any case */

struct claims {
	int fd; /* owned */
};

int claims_open(int root_fd, struct claims *ret, struct err *e);
void claims_close(struct claims *c); /* all of them end */

/* True where it is this worker's now; also where there can be no claims. */
bool claims_take(const struct claims *c, const char *layer);
void claims_give(const struct claims *c, const char *layer);
/* This worker waits for it, or not any more. */
void claims_want(const struct claims *c, const char *layer, bool want);
/* Another waits for it. */
bool claims_wanted(const struct claims *c, const char *layer);
