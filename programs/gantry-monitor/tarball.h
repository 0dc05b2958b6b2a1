/* SPDX-License-Identifier: Apache-2.0 */
/* Writing tar archives of directories (POSIX.1-2017, pax). Blocking: for jobs. */
#pragma once

#include "base/err.h"
#include "base/str.h"

#define TARBALL_DEPTH_MAX 256 /* directories in each other; what is deeper is an error */

/*
 * Writes everything below `dir` to the descriptor, with names relative to it, owners, times and
 * extended attributes (not overlay's own); sockets are left out.  What an overlay's layer takes away
 * (device 0/0) is added to `gone` by its name, and of a directory that hides those below it is said so
 * (".wh..wh..opq"); NULL: there is nothing like it.
 */
int tarball_write(int fd, const char *dir, struct strv *gone, struct err *e);
