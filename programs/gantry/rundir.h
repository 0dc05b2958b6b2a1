/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where `gantry run` keeps the logs of its pods: <root>/logs/LEAF, root being the daemon's.
 *
 * The pod names its LEAF (32 hexadecimal digits) in an annotation and owns the directory:
 * who removes the pod with gantry removes it too, and each `run` removes those whose pod has
 * gone in another way.
 */
#pragma once

#include "cli.h"

#define RUNDIR_ANNOTATION "io.gantry.run"
#define RUNDIR_LEAF 32

struct rundir {
	char leaf[RUNDIR_LEAF + 1];
	const char *path; /* in cli->arena */
	int lock_fd;	  /* held until the pod is there */
};

/* Sweeps, and makes a new one. */
int rundir_make(struct cli *cli, struct rundir *ret, struct err *e);
/* The pod that names it is there. */
void rundir_done(struct rundir *d);
/* The leaf that the pod names; NULL: none, or no valid one. borrowed */
const char *rundir_of_pod(const Runtime__V1__PodSandbox *p);
/* Removes it with the logs in it; NULL and what is not there are fine. */
void rundir_remove(struct cli *cli, const char *leaf);
