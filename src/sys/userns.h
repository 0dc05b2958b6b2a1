/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User namespaces (user_namespaces(7)) and mounts whose ids are mapped (mount_setattr(2)).
 * Blocking: for jobs of the monitor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* One range of ids: `container` to `container + length - 1` inside are `host`... outside. */
struct userns_map {
	uint32_t container, host, length;
};

#define USERNS_MAP_TEXT 40 /* bytes of "4294967295 4294967295 4294967295" and its NUL */
void userns_map_print(const struct userns_map *m, char ret[USERNS_MAP_TEXT]);
/* Of a text of that form; false for anything else. */
bool userns_map_parse(const char *s, struct userns_map *ret);

/* Descriptors of namespaces, owned; -EBADF: none. */
struct userns_made {
	int user, net, ipc, uts;
};
#define USERNS_MADE_NULL ((struct userns_made){-EBADF, -EBADF, -EBADF, -EBADF})
void userns_made_fini(struct userns_made *m);

/*
 * Makes a user namespace, and of CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS in `flags` those that
 * belong to it.  `inside` (may be NULL) runs in a child in all of them, as their root, before
 * they are given out; what it returns is not looked at.
 */
int userns_make(const struct userns_map *uids, const struct userns_map *gids, int flags,
		void (*inside)(void *arg), void *arg, struct userns_made *ret, struct err *e);

/* Enters it in a child of the caller and becomes root there; -errno.  There is no way back. */
int userns_enter(int fd);

struct idmap {
	int userns;	     /* whose mapping, -1: none */
	bool recursive;	     /* mounts below are taken along */
	uint64_t set, clear; /* MOUNT_ATTR_*, of the topmost mount */
	bool deep;	     /* ... of those below too */
};
/*
 * A copy of the mount at `path` (a directory or file) that is in no namespace yet, with the ids
 * mapped: what is 0 on the disk is the namespace's root.  Of mounts below it, where one cannot
 * map ids, none is mapped: their files are nobody's inside.  Returns a descriptor, owned.
 */
int idmap_clone(const char *path, const struct idmap *how, struct err *e);
/* Puts it at `target`, which is there. */
int idmap_attach(int fd, const char *target, struct err *e);
