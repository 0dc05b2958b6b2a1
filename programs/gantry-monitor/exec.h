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
 * something of it may run: exec_start_failed().
 */
int exec_start(struct job_context *j, const int fds[3], int *ret_master, pid_t *ret, struct err *e);
/*
 * Kills the command and everything that came of it (tree.h).  In a sandbox (sandbox.c) that is the
 * command alone: what it has started there goes on, as nobody outside can tell it from others.
 */
void exec_kill(struct job_context *j);
/* The command has ended: what is kept for killing it goes. */
void exec_over(const struct job_context *j);
/* Kills what is left of a start that failed with `r`, and returns that; where it did because the
 * container has ended, `e` says so (FAILED_PRECONDITION). */
int exec_start_failed(struct job_context *j, int r, struct err *e);
