/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's root file system: read-only layers and one writable on top.  Blocking: for
 * jobs of the monitor, and for workers, which make the layers.  Other kinds (btrfs, ZFS) join as
 * further tables of operations.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/str.h"

/* For a container in a user namespace: docs/decisions/0008. */
struct snapshot_map {
	int userns; /* its mapping is that of the layers */
	uid_t uid;  /* what its root is outside: the writable layer's owner */
	gid_t gid;
	const char *attach; /* an empty directory whose mounts do not propagate */
};

struct snapshot {
	const char *layers_dir;		/* <root>/layers */
	const struct strv *layers;	/* names below it, topmost first */
	const char *writable;		/* <root>/containers/ID: ours to make and remove */
	const struct snapshot_map *map; /* NULL: ids are as they are */
};

struct snapshot_ops {
	const char *name;
	/* Makes the writable layer. */
	int (*prepare)(const struct snapshot *s, struct err *e);
	/* Mounts layers and writable layer at `target`, in the caller's mount namespace.
	 * Changes the working directory. */
	int (*mount)(const struct snapshot *s, const char *target, struct err *e);
	/* Mounts the layers alone at `target`, as one tree that nobody can write: an image as a
	 * volume of the container that `writable` is of, which has been prepared. As mount(). */
	int (*view)(const struct snapshot *s, const char *target, struct err *e);
	/* Removes the writable layer. Idempotent. */
	int (*remove)(const struct snapshot *s, struct err *e);
	/* What the writable layer takes, where that can be had without walking it: by an open
	 * directory <root>/containers/ID.  -errno: it has to be walked, below `written`. */
	int (*usage)(int writable_fd, uint64_t *ret_bytes, uint64_t *ret_inodes);
	const char *written; /* the directory in a writable layer with the container's files */

	/* How a directory of a layer says what it takes away of the layers below; -errno. */
	int (*hide)(int dirfd, const char *name); /* what is called so, which is not in it */
	int (*hide_all)(int dirfd);		  /* all that they have in this directory */
	bool (*hides)(const struct stat *st);	  /* an entry that only says so of its name */
	bool (*hides_all)(int dirfd);		  /* O_PATH is enough */
	const char *own_xattrs;			  /* what its own attributes' names begin with */
};

extern const struct snapshot_ops snapshot_overlay;

/* The one that this process works with: overlay, until another was chosen.  The name is the
 * configuration's, NULL: none was said. INVALID_ARGUMENT */
extern const struct snapshot_ops *snapshotter;
int snapshot_choose(const char *name, struct err *e);
