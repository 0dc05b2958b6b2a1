/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting programs: the one place that does.  vfork-style (CLONE_VM | CLONE_VFORK), so
 * the price does not grow with the caller's memory, and with a pidfd, so nothing depends
 * on SIGCHLD.  An event loop must not wait for the child to be scheduled and its program to
 * be read from a disk: it asks for a plain fork (no_wait).  The child gets exactly the
 * descriptors that are named here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define SPAWN_FDS_MAX 8

struct spawn {
	const char *file; /* absolute path; or NULL: exec_fd */
	int exec_fd;	  /* used when file is NULL (fexecve) */
	const char *const *argv;
	const char *const *envp; /* NULL: the caller's environment */
	const char *cwd;	 /* NULL: the caller's */
	/* fds[i] becomes descriptor i of the child; -1: /dev/null for 0..2, closed above.
	 * All others of the caller are close-on-exec by house rule. */
	int fds[SPAWN_FDS_MAX];
	unsigned n_fds;	  /* at least 3 */
	bool setsid;	  /* new session */
	int cgroup_fd;	  /* cgroup v2 directory to be born in (CLONE_INTO_CGROUP), or -1 */
	int death_signal; /* PR_SET_PDEATHSIG, 0: none */
	/* Returns at once; a failed exec is a line on the child's standard error and status 127. */
	bool no_wait;
	bool for_parent; /* with no_wait: it becomes the caller's parent's child (CLONE_PARENT) */
	int cancel_fd;	 /* spawn_run(), spawn_await(): readable means give up; -1 none */
};

#define SPAWN_INIT                                                                                 \
	((struct spawn){                                                                           \
		.exec_fd = -1, .fds = {-1, -1, -1}, .n_fds = 3, .cgroup_fd = -1, .cancel_fd = -1})

/*
 * Starts the program.  On success ret_pid and ret_pidfd (owned, may be NULL) are set.
 * A failed exec is reported here, with the program's name.  Signals: all unblocked and
 * default in the child.
 */
int spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e);

/* Waits for a child.  *ret_status is 0..255, or 128+n when a signal ended it. */
int spawn_wait(pid_t pid, int *ret_status);

/* What spawn_run() leaves. */
struct spawn_result {
	int status;	   /* as spawn_wait() */
	bool timed_out;	   /* it was killed (SIGKILL to its process group) at the timeout */
	bool cancelled;	   /* the same for cancel_fd */
	bool truncated;	   /* it printed more than max_output to one stream, the rest was dropped */
	struct strbuf out; /* standard output */
	struct strbuf err; /* standard error */
};
void spawn_result_fini(struct spawn_result *r);

/*
 * Blocking: runs the program in a process group of its own with `input` (may be NULL) on
 * its standard input, gathers both outputs up to `max_output` bytes each, kills the group
 * after `timeout_us` (USEC_FOREVER: never), and waits for it to end.  s->fds[0..2] are
 * ignored.  A grandchild that keeps the pipes open does not hold it up: once the child is
 * gone, what is in the pipes is read and that is all.
 * Never call it on the daemon's loop.
 */
int spawn_run(const struct spawn *s, const void *input, size_t input_len, unsigned long timeout_us,
	      size_t max_output, struct spawn_result *ret, struct err *e);

/*
 * Blocking: starts the program with s->fds as they are, in a process group of its own, and
 * waits for it to end, as spawn_run() does; the outputs of `ret` stay empty.
 */
int spawn_await(const struct spawn *s, unsigned long timeout_us, struct spawn_result *ret,
		struct err *e);

/* pidfd_send_signal(2), pidfd_open(2): -errno. */
int spawn_pidfd_signal(int pidfd, int sig);
int spawn_pidfd_open(pid_t pid);
