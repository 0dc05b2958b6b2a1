/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry-oci: the OCI runtime command line, in front of all runtimes of the node.  What its files
 * share.
 *
 * Most calls are: find the container's record, become its runtime (execve(2)).  What a runtime is
 * given, and what it answers with (streams, descriptors, signals, exit status), is never touched.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "cmdline.h"
#include "config/config.h"
#include "record.h"

#define EXIT_FAILED 1
#define EXIT_EXEC_FAILED 255 /* of exec, as runc has it: smaller ones are the command's */

#define ASK_TIMEOUT (10 * USEC_PER_SEC) /* of a runtime that is asked something */
#define ASK_OUTPUT_MAX (16u << 20)	/* bytes of its answer */

struct oci {
	struct cmdline line;
	const char *root; /* where the records are */
	struct arena arena;
	struct config config;
	bool configured; /* config is read */
};

/* A runtime's program on this machine. */
struct program {
	const char *name; /* in the configuration */
	const char *path; /* absolute */
	const char *const *args;
	bool pod_unit;
	const char *isolation, *why; /* as in the record; NULL: not known */
};

/* --- main.c --- */

/* Says why as runtimes do: on standard error, and in the file of --log; gives the exit status. */
int oci_fail(const struct oci *o, const struct err *e);
/* Reads the configuration, once. */
int oci_configure(struct oci *o, struct err *e);
/* Where records are when there is no --root.  static */
const char *oci_default_root(void);
/* What goes to standard output. */
void oci_print(const struct strbuf *b);

/* --- program.c --- */

/* Of the configuration's runtimes those that are installed; the order is that of `default_runtimes`,
 * then that of `runtimes`.  In o->arena. */
size_t program_list(struct oci *o, struct program **ret);
struct program program_of_record(struct oci *o, const struct record *r);
bool program_same(const struct program *a, const struct program *b);

/* Becomes the program, with the command line that gantry-oci was given.  Returns only where it
 * cannot be executed. */
int program_become(const struct oci *o, const struct program *p, struct err *e);

/*
 * Runs the program with the same command line, descriptors and terminal, and waits for it: signals
 * go on to it, and it does not outlive this process.  Gives its wait status.
 */
int program_relay(const struct oci *o, const struct program *p, int *ret_status, struct err *e);
/* Ends as a process with that wait status did. */
int program_end_as(int wait_status);

/*
 * Asks it: NAME [args] [--root R] [--systemd-cgroup] ARGV...; `ret` (NULL: nobody wants it) is what it
 * prints, appended.  Gives its exit status, < 0 where it has none (it did not start, or not end).
 */
int program_ask(const struct oci *o, const struct program *p, const char *const *argv,
		struct strbuf *ret);
/* Whether it has such a container (`state`): 1, 0; < 0 where it cannot be asked. */
int program_has(const struct oci *o, const struct program *p, const char *id);

/* --- owner.c --- */

/* The runtime of a container, by its record, else by asking all (then there is a record again).
 * NOT_FOUND where no runtime knows it. */
int owner_find(struct oci *o, const char *id, struct program *ret, struct err *e);
/* Removes records of containers that are no more. */
void owner_sweep(struct oci *o);
/* After a call that may have been the container's end: its record goes with it.  Gives the exit
 * status, for that wait status. */
int owner_ended(struct oci *o, const struct program *p, const char *id, const struct record *was,
		int status);
int owner_command(struct oci *o); /* VERB_OWNED, VERB_PLAIN */
int owner_delete(struct oci *o);  /* VERB_DELETE */

/* --- make.c --- */

int make_command(struct oci *o); /* VERB_MAKE */

/* --- choose.c --- */

/* The runtime for a new container of the bundle. FAILED_PRECONDITION, INVALID_ARGUMENT with why
 * there is none. */
int choose(struct oci *o, struct program *ret, struct err *e);

/* --- reports.c --- */

struct runtime_report;
struct needs_facts;
/* The host as bundles do not say it. */
void reports_host(const struct oci *o, struct needs_facts *ret);
/*
 * What is known of a runtime: as the daemon has found out, or as an earlier call has, or asked and
 * tried now, and kept for the next.  Filled always; a problem says why it cannot be used.
 */
void reports_get(struct oci *o, const struct config_runtime *c, struct runtime_report *ret);

/* --- join.c --- */

int join_list(struct oci *o);
int join_features(struct oci *o);

/* --- help.c --- */

int help_verb(struct oci *o); /* of the command, else of all */
int help_version(void);
int help_completion(struct oci *o);
int help_complete(int argc, char **argv);
