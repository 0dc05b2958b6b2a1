/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of an image looked at as the one tree that overlayfs makes of them
 * (Documentation/filesystems/overlayfs.rst), without mounting it.  Nothing is ever followed
 * out of the layers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define LAYERS_LINKS_MAX 40  /* symbolic links followed in one name, as the kernel has it */
#define LAYERS_PATH_MAX 8192 /* bytes of a name with its links put in */

struct layers {
	const int *fds; /* directories, topmost first */
	size_t n;
};

/* A canonical name (no links, no "..") in one layer. A descriptor, owned, or -errno. */
int layer_open(int dirfd, const char *path, int flags);

/* What a canonical name stands for: an O_PATH descriptor (owned) in *ret_fd, or -ENOENT. */
int layers_find(const struct layers *l, const char *path, struct stat *ret_st, int *ret_fd);
/* Any name, links followed as a process whose root the tree is would follow them. */
int layers_resolve(const struct layers *l, const char *path, struct stat *ret_st, int *ret_fd);
