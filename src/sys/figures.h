/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of one container for its metrics: all that the kernel counts in its cgroup, and what its
 * processes have open.  Dozens of files and a walk of /proc: for a process that may wait.
 *
 * Each is handed to a function with its number.  The numbers are said from monitors to daemons of
 * other versions: they keep their meaning for ever.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "sys/cgroup.h"

enum figure {
	FIGURE_CPU_USAGE_NS = 1,
	FIGURE_CPU_USER_NS = 2,
	FIGURE_CPU_SYSTEM_NS = 3,
	FIGURE_CFS_PERIODS = 4,
	FIGURE_CFS_THROTTLED_PERIODS = 5,
	FIGURE_CFS_THROTTLED_NS = 6,
	FIGURE_MEMORY_USAGE = 10, /* bytes, as all of memory below */
	FIGURE_MEMORY_WORKING_SET = 11,
	FIGURE_MEMORY_MAX_USAGE = 12,
	FIGURE_MEMORY_RSS = 13,
	FIGURE_MEMORY_CACHE = 14,
	FIGURE_MEMORY_MAPPED_FILE = 15,
	FIGURE_MEMORY_KERNEL = 16,
	FIGURE_MEMORY_SWAP = 17,
	FIGURE_MEMORY_FAILCNT = 18,  /* how often the limit was met */
	FIGURE_MEMORY_FAILURES = 19, /* page faults; labels: kind, scope */
	FIGURE_MEMORY_ACTIVE_FILE = 20,
	FIGURE_MEMORY_INACTIVE_FILE = 21,
	FIGURE_OOM_KILLS = 22,
	FIGURE_IO_BYTES = 30,	   /* labels: device, major, minor, operation */
	FIGURE_IO_READ_BYTES = 31, /* label: device; below too */
	FIGURE_IO_READS = 32,
	FIGURE_IO_WRITE_BYTES = 33,
	FIGURE_IO_WRITES = 34,
	FIGURE_FS_LIMIT = 40,
	FIGURE_FS_INODES = 41,
	FIGURE_FS_INODES_FREE = 42,
	FIGURE_FS_DEVICE = 43,	   /* its label only */
	FIGURE_HUGETLB_USAGE = 50, /* label: page size */
	FIGURE_HUGETLB_MAX_USAGE = 51,
	FIGURE_PSI_CPU_WAITING_US = 60,
	FIGURE_PSI_CPU_STALLED_US = 61,
	FIGURE_PSI_MEMORY_WAITING_US = 62,
	FIGURE_PSI_MEMORY_STALLED_US = 63,
	FIGURE_PSI_IO_WAITING_US = 64,
	FIGURE_PSI_IO_STALLED_US = 65,
	FIGURE_PROCESSES = 70,
	FIGURE_THREADS = 71,
	FIGURE_THREADS_MAX = 72, /* 0: no limit */
	FIGURE_DESCRIPTORS = 73,
	FIGURE_SOCKETS = 74,
	FIGURE_ULIMIT_SOFT = 75, /* label: ulimit */
};

#define FIGURES_PROCESSES_MAX 4096     /* of a container whose descriptors are counted */
#define FIGURES_DESCRIPTORS_MAX 262144 /* of them all; what is beyond is not counted */
#define FIGURES_DEPTH_MAX 16	       /* of cgroups below the container's */

/* `labels`: values with tabs between them, "" none; valid during the call. */
typedef void figures_fn(void *arg, enum figure what, const char *labels, uint64_t value);

/* Of the container's cgroup; what this host does not count is left out, not zero. */
void figures_of_cgroup(const struct cgroup_host *h, const char *path, figures_fn *fn, void *arg);
/* Of the processes in it and below, and of `first`, its first process (0: none). */
void figures_of_processes(const struct cgroup_host *h, const char *path, pid_t first,
			  figures_fn *fn, void *arg);
/* Of the file system, or the project quota, that holds the directory. */
void figures_of_fs(const char *dir, figures_fn *fn, void *arg);
