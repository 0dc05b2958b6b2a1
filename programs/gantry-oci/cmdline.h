/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of an OCI runtime, as runc has it, with the options that crun, youki and runsc
 * have besides.  It is only looked at: the runtime gets it as it came.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* What gantry-oci does with a command. */
enum verb_kind {
	VERB_NONE,     /* there is no command: options alone */
	VERB_MAKE,     /* makes a container: the runtime is chosen and remembered */
	VERB_OWNED,    /* of a container that is there: its runtime is asked */
	VERB_DELETE,   /* the same, and what was remembered goes */
	VERB_LIST,     /* asks all runtimes */
	VERB_FEATURES, /* asks all runtimes */
	VERB_PLAIN,    /* of no container: the first runtime is asked */
	VERB_HELP,
	VERB_COMPLETION,
	VERB_COMPLETE, /* what completion scripts call */
};

struct oci_option {
	char c;		     /* 0: none */
	const char *name;    /* long name */
	const char *metavar; /* NULL: a flag */
	const char *help;
};

struct oci_verb {
	const char *name;
	enum verb_kind kind;
	const char *operands;
	const char *summary;
	const struct oci_option *options; /* ends with a NULL name */
};

extern const struct oci_verb oci_verbs[]; /* ends with a NULL name */
extern const struct oci_option oci_globals[];

/* All strings are borrowed from argv. */
struct cmdline {
	const struct oci_verb *verb; /* NULL: options alone */
	const char *root, *log, *log_format;
	bool systemd_cgroup, help, version;
	const char *config; /* gantry's configuration: --config before the command */
	const char *id;	    /* the first operand; NULL: none */
	const char *bundle;
	const char *format;
	bool detach, keep, quiet;
	bool many; /* a pattern of ids (--regex of crun), not one */
	/* What the runtime is given after its name: everything but what is gantry's own. */
	const char **pass; /* owned, NULL-terminated */
	size_t n_pass;
};

/* INVALID_ARGUMENT for what cannot be told apart: a command that is none, an option without its
 * value.  Options that are not known are the runtime's business. */
int cmdline_parse(int argc, char **argv, struct cmdline *ret, struct err *e);
void cmdline_fini(struct cmdline *c);
#define _cleanup_cmdline_ __attribute__((cleanup(cmdline_fini)))
