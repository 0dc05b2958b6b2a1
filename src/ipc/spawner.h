/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs started by an event loop.  On cgroup v1, and v2 without CLONE_INTO_CGROUP, fork(2) waits
 * while another process is moved between cgroups (cgroup_threadgroup_rwsem): 20 ms, and 100 and more
 * on a busy node.  So a small process waits instead of the loop.  What it starts is its parent's child
 * (CLONE_PARENT), reaped and signalled as any other.
 */
#pragma once

#include "base/spawn.h"
#include "loop/loop.h"

/*
 * Forks the process, which ends with the caller.  For the beginning of a program: it keeps a copy of
 * the memory that there is.  Where it cannot be, or has died, spawner_start() forks by itself.
 */
void spawner_open(void);
/* Ends it. Idempotent. */
void spawner_close(void);

/*
 * spawn_start() from a coroutine, which waits meanwhile, also when it is cancelled: what has been
 * started is always known.  Of `s` file, argv, fds, n_fds, setsid and death_signal count, and no_wait is
 * implied: a program that cannot be executed ends with 127.
 */
int spawner_start(struct loop *l, const struct spawn *s, pid_t *ret_pid, int *ret_pidfd,
		  struct err *e);
