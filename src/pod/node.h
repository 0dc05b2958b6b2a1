/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's world: directories, index, images, runtimes, and everything that a past
 * daemon left running.
 */
#pragma once

#include "pod/pod.h"

/*
 * Blocking, before the loop runs: makes the directories (root 0700, state 0711 and a private
 * mount of itself), opens the index and the image store, finds the helper programs, looks at
 * the host (cgroups, capabilities, security modules).
 */
int node_open(struct loop *l, const struct config *c, struct node **ret, struct err *e);
struct node *node_close(struct node *n);

/*
 * From a coroutine, once: loads the index, connects to the monitor of every pod and takes
 * over what happened meanwhile, tears down what is half-made or belongs to no pod, and
 * starts the probes of the runtimes (node->probed is set when they are done).
 */
int node_recover(struct node *n, struct err *e);

/*
 * The runtime for a handler: the configured one of that name, or for "" the first of
 * default_runtimes that is available.  Waits for the probes.  INVALID_ARGUMENT for a name
 * that is not configured, FAILED_PRECONDITION with the probe's reason for one that does
 * not work here.
 */
int node_runtime_choose(struct node *n, const char *handler, struct node_runtime **ret,
			struct err *e);

/* Folds the index's log in a process of its own when it has grown. */
void node_fold_index(struct node *n);
