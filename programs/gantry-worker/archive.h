/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive, compressed or not, or a directory in its place, by the names of its members: for
 * archives in which what says what is inside may stand at the end.  Hostile input.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "base/str.h"
#include "store.h"

#define ARCHIVE_MEMBERS_MAX 65536

struct archive {
	int fd; /* the tar, or the directory */
	bool is_dir;
	struct map members;
};

/* Reads all of it; a compressed one is unpacked into a file of the store's first.  archive_close()
 * after failures too.  Errors begin with the path. */
int archive_open(struct store *st, const char *path, struct archive *ret, struct err *e);
void archive_close(struct archive *a);
/* A descriptor at the member's beginning, of its own offset; owned.  -ENOENT: not there.  Links are
 * followed within the archive. */
int member_open(struct archive *a, const char *path, uint64_t *ret_size, struct err *e);
/* Appends its bytes, at most `max`. INVALID_ARGUMENT for more. */
int member_read(struct archive *a, const char *path, size_t max, struct strbuf *ret, struct err *e);
bool member_there(struct archive *a, const char *path);
/* Names of the files below `prefix` ("dir/"), links not, added to `to` without it; of tars alone. */
void archive_list(const struct archive *a, const char *prefix, struct strv *to);
