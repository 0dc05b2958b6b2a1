/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a container is: one small file per container, ".gantry-oci.ID" in the directory of --root,
 * beside what the runtimes keep there.  It is written before the runtime makes the container, and
 * replaced atomically, so a call that is killed leaves either none or a whole one.  It is not synced:
 * it has to outlive processes, and no container outlives the machine's power.
 *
 * The runtime stands in it with its path and arguments: a container can be managed also when the
 * configuration does not know its runtime any more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define RECORD_PREFIX ".gantry-oci."
#define RECORD_MAX (64u << 10) /* bytes of one */

struct record {
	char *runtime;	  /* its name in the configuration */
	char *path;	  /* of its program, absolute */
	struct strv args; /* put before the command */
	bool pod_unit;	  /* the runtime's unit is the pod: the others of it must be there too */
	char *isolation;  /* of the runtime, by its name in the configuration */
	char *why;	  /* it was chosen; for people */
	/* Who made it, a process (its id, and its start in clock ticks since the boot): until that has
	 * ended the runtime need not know the container. */
	int64_t pid;
	uint64_t started;
};
#define RECORD_NULL ((struct record){0})

void record_fini(struct record *r);
#define _cleanup_record_ __attribute__((cleanup(record_fini)))

/* Whether the id can be that of a container: a file name that is no record's.  INVALID_ARGUMENT */
int record_check_id(const char *id, struct err *e);

/* Reads one.  NOT_FOUND: there is none, or it is no record (a crash of the machine cut it off). */
int record_read(const char *root, const char *id, struct record *ret, struct err *e);
/* Of bytes: INVALID_ARGUMENT. */
int record_parse(const char *text, size_t n, struct record *ret, struct err *e);

/* Writes one in this process' name, and the directory where it is missing. */
int record_write(const char *root, const char *id, const struct record *r, struct err *e);
/* Removes it where it is still that one (NULL: whichever). */
void record_remove(const char *root, const char *id, const struct record *was);

/* Whether its maker still runs, so that the container may yet come to be. */
bool record_maker_runs(const struct record *r);

/* The ids that there are records of, appended. */
void record_list(const char *root, struct strv *ret);
