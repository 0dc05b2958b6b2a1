/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI hooks of a container, which its runtime runs in the calls of a job (runtime-spec, config.md,
 * "POSIX-platform Hooks"): what they print, and what they leave where they fail.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* In the bundle: where crun puts what hooks print (annotations of config.json; spec/annotations.c). */
#define HOOKS_OUTPUT "hooks.log"
#define HOOKS_WORDS_MAX 400 /* bytes of that in an error: the last ones */

struct hooks {
	bool any;	 /* the container has some */
	char *first;	 /* the programs of the first few, for messages */
	const char *dir; /* the bundle */
};

/*
 * Before a call of the runtime, in the job that makes it: from now on what hooks start, and let go of,
 * falls to this process.  `dir` is the container's bundle, with its config.json; borrowed.
 */
void hooks_begin(struct hooks *h, const char *dir);

/*
 * After it.  `r` is what came of the call, and is given back.  Of one that has failed nothing that
 * hooks have started goes on; the error says what they have printed, where it does not yet, and which
 * hooks there are where the call did not end.  Afterwards `h` is empty.
 */
int hooks_end(struct hooks *h, int r, struct err *e);

/*
 * Before the removal: of a container that never came to be (its process was not recorded), since its monitor was killed while it was made: a hook that ran by
 * then runs on, and nobody is its parent.  It is where the runtime was, in the bundle; so is what it
 * started, where that has not gone elsewhere.  Ends them.
 */
void hooks_end_unmade(const struct hooks *h);

/*
 * After a deletion, which no hook can hinder: failures of poststop hooks, as the runtime's log has
 * them, are told in the daemon's log.
 */
void hooks_end_deleted(struct hooks *h, const char *id, const char *log, int r);
