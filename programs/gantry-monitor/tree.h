/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All processes that came of a command in a container, wherever they went: the children of its
 * children, those that made sessions, PID namespaces or parents of their own, and those whose
 * parents have gone.  docs/decisions/0013 says how they are known.
 */
#pragma once

#include <stdint.h>

#include "base/clock.h"

struct monitor;
struct container;

/* How commands of one pod are told from each other, and from everything else there. */
struct tree {
	uint64_t mark;	/* timer slack in ns; 0: there can be none */
	uint64_t since; /* ticks since the boot: no process of it began before */
};

/* For the command of that number, which will be started by a child of this process. */
struct tree tree_new(uint64_t number);
/* Gives the mark to this process, and so to whatever it starts from now on. */
void tree_mark(struct tree *t);

/*
 * SIGKILL to everything of it in the container, and to all below this process (a subreaper);
 * waits until they are gone, at most TREE_KILL_MAX.  Blocking: for jobs.  Without a mark, `m` and
 * `c` may be NULL.
 */
#define TREE_KILL_MAX (2 * USEC_PER_SEC)
void tree_kill(const struct tree *t, const struct monitor *m, const struct container *c);
