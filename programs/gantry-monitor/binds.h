/* SPDX-License-Identifier: Apache-2.0 */
/* A container's ready-made mounts, in its create job: see binds.c. */
#pragma once

#include "mon.h"
#include "snapshot/snapshot.h"

struct binds {
	const char *dir;		 /* the bundle */
	const struct ipc_in *create;	 /* MON_CREATE, whose BINDs are wanted */
	int userns_fd;			 /* of the pod, -1: none */
	const struct snapshot *snapshot; /* of the container: whence images are, and their map */
	unsigned n;			 /* mounted so far */
	unsigned n_volumes;		 /* ... of the root's own */
};

/* In a mount namespace of the caller's own, with the writable layer prepared. Changes the working
 * directory. */
int binds_mount(struct binds *k, struct err *e);
/* Makes the VOLUMEs in the root, which is mounted, as directories of the pod's root; and mounts them
 * once more, where MON_CREATE says so. */
int binds_make_volumes(struct binds *k, const char *rootfs, struct err *e);
void binds_unmount(struct binds *k);
