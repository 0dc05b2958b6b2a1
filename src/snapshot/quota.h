/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Project quotas (quotactl(2), PRJQUOTA), by which a file system itself keeps count of what a tree
 * takes: ext4 with the features quota and project, and XFS, mounted with `prjquota`.
 */
#pragma once

#include <stdint.h>

/* Project ids that are ours; people give theirs out from 1 upwards. */
#define QUOTA_PROJECT_FIRST UINT32_C(0x40000000)
#define QUOTA_PROJECTS UINT32_C(0x40000000)
#define QUOTA_TRIES 16 /* ids looked at until one is free */

/*
 * Makes a new directory a project of its own; what will be made in it belongs to it.  `name`
 * says which of the ids is tried first.  Where the file system keeps no such count, or has none
 * free, or the directory has a project, nothing is done: that is no error.
 */
void quota_begin(int dirfd, const char *name);

/* What the project of the directory takes, it included.  -ENODATA: it is none of ours; -errno: the
 * file system does not keep count, or not any more. */
int quota_usage(int dirfd, uint64_t *ret_bytes, uint64_t *ret_inodes);
