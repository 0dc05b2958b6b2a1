/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups, version 1 (one hierarchy a controller), version 2, and both drivers' names.
 *
 * A cgroup is named by its path below the root of the hierarchies ("/gantry/POD/CTR").  What
 * a runtime is told (cgroupsPath) is that path with cgroupfs, and "slice:prefix:name" with
 * systemd.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CGROUP_CONTROLLERS_MAX 16

/* The hierarchies of this host. */
struct cgroup_host {
	bool v2;     /* unified: limits are written there */
	char *mount; /* v2: /sys/fs/cgroup */
	unsigned n;  /* v1 hierarchies */
	struct cgroup_hierarchy {
		char *mount;
		char *controllers; /* "cpu,cpuacct"; "name=systemd" */
	} v1[CGROUP_CONTROLLERS_MAX];
	const char *memory, *cpuacct, *pids, *cpu; /* v1 mounts, NULL where absent; borrowed */
	const char *psi; /* where pressure is told (also a hybrid host's v2 tree); borrowed, NULL */
	bool swap;	 /* swap is accounted */
	bool hugetlb;	 /* limits of huge pages can be set, where runtimes look for them */
};

/* Reads /proc/self/mountinfo. Blocking, at start. */
int cgroup_host_init(struct cgroup_host *h, struct err *e);
void cgroup_host_fini(struct cgroup_host *h);

/*
 * The path below the hierarchy's root for what a runtime was told: itself with cgroupfs,
 * the expanded slice with systemd ("a-b.slice:gantry:ID" is /a.slice/a-b.slice/gantry-ID.scope).
 * INVALID_ARGUMENT for a malformed one.  owned
 */
int cgroup_path_of(const char *cgroups_path, bool systemd, char **ret, struct err *e);
/* What to tell the runtime for a container below `parent` (the kubelet's cgroup_parent or
 * ours), in the driver's form. owned */
char *cgroup_name_for(const char *parent, const char *id, bool systemd);
/* "a-b.slice" to "/a.slice/a-b.slice"; INVALID_ARGUMENT where it is no slice. owned */
int cgroup_expand_slice(const char *slice, char **ret, struct err *e);

/* SIGKILL to every process in it and below. 0 also when it is not there. */
int cgroup_kill(const struct cgroup_host *h, const char *path);
/*
 * Calls for each process that is in it or below when it is listed: by its number here, as far as
 * it has one.  Returns for how many `fn` said true; 0 also where the cgroup is not there.
 */
typedef bool cgroup_process_fn(pid_t pid, void *arg);
int cgroup_each_process(const struct cgroup_host *h, const char *path, cgroup_process_fn *fn,
			void *arg);
/* Removes it and all below, in every hierarchy; kills nothing. -EBUSY while populated. */
int cgroup_remove(const struct cgroup_host *h, const char *path);
/*
 * Until then keeps joins of cgroups on this host from waiting for a grace period each
 * (cgroup_warm.c). Blocking, for a process that does nothing else. -EOPNOTSUPP on v2.
 */
int cgroup_keep_warm(const struct cgroup_host *h, uint64_t until_us);
/* How many processes were killed for want of memory in it (and below). 0 where unknown. */
uint64_t cgroup_oom_kills(const struct cgroup_host *h, const char *path);
/*
 * v2: a descriptor (owned) that polls as EPOLLPRI when there is news of memory in the cgroup
 * since it was last read (cgroup-v2.rst, memory.events); -EOPNOTSUPP on v1, -errno.
 */
int cgroup_open_events(const struct cgroup_host *h, const char *path);
/* Reads it; -ENODEV once the cgroup is gone (it polls as ready for ever then). */
int cgroup_read_events(int fd, uint64_t *ret_oom_kills);
/* The path of a process's memory cgroup (v1) or cgroup (v2). owned */
int cgroup_of_process(const struct cgroup_host *h, pid_t pid, char **ret);

/* Where the files of a controller's cgroups are, v2: all; NULL: nowhere. borrowed */
const char *cgroup_mount_of(const struct cgroup_host *h, const char *controller);

#define CGROUP_ABSENT UINT64_MAX /* a value that this host or cgroup does not have */

/* Pressure stall information of one resource (kernel: accounting/psi). */
struct cgroup_psi {
	bool known;
	struct cgroup_psi_line {
		double avg10, avg60, avg300; /* per cent */
		uint64_t total_us;
	} some, full;
};

struct cgroup_stats {
	uint64_t cpu_ns;
	uint64_t memory_usage, memory_limit, memory_rss, memory_inactive_file;
	uint64_t page_faults, major_page_faults;
	uint64_t swap_usage, swap_limit;
	struct cgroup_psi cpu_psi, memory_psi, io_psi;
};
/*
 * The files of one cgroup that figures come from, kept open from the first read on: to open one
 * costs ten times what a read does, and waits while others make and remove cgroups (they hold
 * kernfs' lock, and may be off the processor meanwhile).  So a process that may not wait has
 * them opened by another.  All zero: none is open.  Each holds 5 KiB of the kernel.
 */
#define CGROUP_FILES_MAX 10
struct cgroup_files {
	int fd[CGROUP_FILES_MAX]; /* 0: not opened yet, below: why it cannot be */
};
/* Which: sets of bits. */
#define CGROUP_FILES_CONTAINER UINT64_C(0x1ff)
#define CGROUP_FILES_POD UINT64_C(0x3ff) /* and how many processes there are */
#define CGROUP_FILES_PRESSURE UINT64_C(0x1c0)
void cgroup_files_close(struct cgroup_files *f);       /* and ready to be used for another cgroup */
bool cgroup_files_known(const struct cgroup_files *f); /* they were opened, or found absent */
bool cgroup_files_room(void); /* this process may keep those of another cgroup open */
/* Opens those of `wanted` that there are, in order, into `ret` (owned); returns which. */
uint64_t cgroup_files_open(const struct cgroup_host *h, const char *path, uint64_t wanted,
			   int ret[CGROUP_FILES_MAX]);
/* Takes over what another process has opened; those of `wanted` that are not in `have` are
 * absent.  -EPROTO where it is another number of descriptors. */
int cgroup_files_take(struct cgroup_files *f, uint64_t wanted, uint64_t have, int *fds,
		      unsigned n_fds);
/* The pressure in a cgroup alone; not known where the kernel does not tell. `kept` may be NULL. */
void cgroup_psi_read(const struct cgroup_host *h, const char *path, struct cgroup_files *kept,
		     struct cgroup_stats *ret);
/* -ENOENT when the cgroup is gone. No allocation; a handful of short reads. `kept` may be NULL. */
int cgroup_stats_read(const struct cgroup_host *h, const char *path, struct cgroup_files *kept,
		      struct cgroup_stats *ret);
/* How many processes are in it and below; CGROUP_ABSENT. `kept` may be NULL. */
uint64_t cgroup_processes(const struct cgroup_host *h, const char *path, struct cgroup_files *kept);
/* The value of "key N" in a flat keyed file's text; CGROUP_ABSENT. */
uint64_t cgroup_keyed(const char *text, const char *key);
