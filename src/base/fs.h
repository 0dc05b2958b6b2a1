/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: whole reads with a bound, atomic writes, trees.
 *
 * Every path that an image, a bundle or a container can influence goes through
 * fs_open_in_root(), which resolves it with openat2(RESOLVE_IN_ROOT): symbolic links
 * cannot leave the root, magic links are refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/str.h"

/*
 * Reads a whole file of at most `max` bytes (-EFBIG above) and appends it to `ret`.
 * dirfd as for openat(2).  Works for files of /proc and /sys, whose size is 0.
 */
int fs_read(int dirfd, const char *path, size_t max, struct strbuf *ret);
/* The same for an open descriptor, from its current offset. */
int fs_read_fd(int fd, size_t max, struct strbuf *ret);

/* One write(2) to an existing file: for cgroup and sysctl files. */
int fs_write(int dirfd, const char *path, const void *p, size_t n);
int fs_write_str(int dirfd, const char *path, const char *s);

/* Writes all bytes, retrying short writes and EINTR. */
int fs_write_all(int fd, const void *p, size_t n);

/*
 * Replaces `path` atomically: a temporary file "PATH.tmp-..." beside it, rename.  With `durable` the
 * file and its directory are synced before it returns.
 */
int fs_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode,
		    bool durable);

/* mkdir -p. An existing directory is success. */
int fs_mkdir_p(int dirfd, const char *path, mode_t mode);

/*
 * Removes a tree, staying on its file system and never following links.  What is not
 * there is success: idempotent.  A mount point below gives -EXDEV and is left alone.  A tree
 * may be deeper than descriptors and paths reach.  What is put into it meanwhile goes too, within
 * reason: -ENOTEMPTY after FS_REMOVE_ROUNDS.
 */
int fs_remove_tree(int dirfd, const char *path);

/*
 * Opens `path` inside the root that `rootfd` is, as a process chrooted there would see
 * it (openat2(2), RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS).  Returns a descriptor,
 * owned, or -errno.
 */
int fs_open_in_root(int rootfd, const char *path, int flags, mode_t mode);

/* True when it is there (link not followed). */
bool fs_exists(int dirfd, const char *path);
/* readlink into an owned string. */
int fs_readlink(int dirfd, const char *path, char **ret);
