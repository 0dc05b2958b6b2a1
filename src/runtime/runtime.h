/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime command line (crun, runc, and what is compatible), and the probe.
 * Blocking: for jobs of the monitor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct runtime {
	const char *path;    /* absolute, or a name for PATH */
	struct strv args;    /* put before the command */
	const char *root;    /* --root */
	bool systemd_cgroup; /* --systemd-cgroup */
	uint64_t timeout_us; /* of one call */
	int cancel_fd;	     /* readable: give up; -1 */
};

/*
 * One call: RUNTIME [args] --root R --log L --log-format json [--systemd-cgroup] ARGV...
 * `fds` are standard input, output and error of the call (-1: /dev/null), which `create`
 * passes on to the container.  `log` is a file that the runtime's messages go to.  A failure
 * carries the runtime's own words, and where it is not the container's one of the numbers in blame.h;
 * -ETIMEDOUT, -ECANCELED.
 */
int runtime_call(const struct runtime *rt, const char *const *argv, const int fds[3],
		 const char *log, const char *cwd, struct err *e);

/* A sealed copy of a runtime's program (sealed.h) that calls of that one use, instead of making one
 * each: a descriptor, borrowed for good.  -EBADF where there is none. */
void runtime_share(int fd);
int runtime_shared(void);

/*
 * What a process that is given no input reads: an empty file in memory, owned.  Not /dev/null: a
 * runtime gives the standard streams to the container's user (crun before 1.24 does so also with
 * devices), and that is the host's.
 */
int runtime_no_input(struct err *e);

/* The last message of a log that a call has left, owned; NULL where there is none. */
char *runtime_last_message(const char *log);

/* `delete --force`; a container that the runtime does not know is success. */
int runtime_delete(const struct runtime *rt, const char *id, const char *log, struct err *e);

/* Removes what it keeps of the container, without asking it. */
int runtime_forget(const struct runtime *rt, const char *id, struct err *e);

/* The absolute path of a program: itself, or found in PATH. NULL where there is none. owned */
char *runtime_find(const char *name);

/* Whether it can make checkpoints here: it has the command, and `criu check` finds that the kernel does
 * what CRIU needs. FAILED_PRECONDITION with what is in the way. */
int runtime_checkpoint_check(const struct runtime *rt, struct err *e);

/* A container of one static program, "/init" in its root. */
struct runtime_trial {
	const char *dir;  /* the bundle; "rootfs" is in it */
	const char *init; /* bound there, an absolute path; NULL: it is there */
	const char *cgroups_path;
	/* Of a user namespace that is joined: its path, and linux.uidMappings as JSON; or NULL. */
	const char *userns, *mappings;
	bool host_network;
	bool seccomp; /* it has a filter, and looks whether that holds (trial.h) */
};
/* Whether the runtime can run it on this host; nothing of it is left but the bundle.  The caller becomes
 * a subreaper. */
int runtime_try(const struct runtime *rt, const struct runtime_trial *t, struct err *e);
