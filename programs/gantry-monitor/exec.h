/* SPDX-License-Identifier: Apache-2.0 */
/* Commands in a running container: what the jobs that run them share. */
#pragma once

#include "mon.h"

/*
 * Closes what the monitor has open: a command may run for long, and its job would keep a container's
 * input, the daemon's connection and the sockets of other jobs from ending.
 */
void exec_isolate(const struct job_context *j);
/*
 * Starts the request's CONFIG (process.json) in the job's container, detached; this process is
 * a subreaper, which it falls to.  `fds` become its standard streams.  With `ret_master` it gets a
 * terminal, whose master is the result (owned), and `fds` are the runtime's alone.  On failure
 * something of it may run: exec_kill_left().
 */
int exec_start(struct job_context *j, const int fds[3], int *ret_master, pid_t *ret, struct err *e);
/* SIGKILL to a process and all below it. */
void exec_kill_tree(pid_t pid);
/* The same for all below this process, which waits for their end: a runtime that was ended in the
 * middle may have left the command behind. */
void exec_kill_left(void);
