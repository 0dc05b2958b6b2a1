/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI hooks by directories, version 1.0.0 of oci-hooks(5): each .json file has a hook, the stages
 * that it is for, and when it is.
 *
 * Patterns are POSIX extended regular expressions that also know \d, \w, \s, (?:...) and a (?i) at
 * their begin.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "edits.h"
#include "wire/json.h"

/* What hooks are chosen by. */
struct hooks_subject {
	struct strv keys, values; /* annotations */
	const char *command;	  /* the first word of the container's */
	bool has_binds;		  /* the request has mounts */
};

/* INVALID_ARGUMENT "WHAT: ..." for a document that is no hook. */
int hooks_check(const jv *doc, const char *what, struct err *e);
/* Of a document that has passed hooks_check(). */
bool hooks_match(const jv *doc, const struct hooks_subject *s);

/* Reads the directories and adds, in the order of the files' names, the hooks that match.  A file
 * hides those of its name in earlier directories.  One that is of no use is told in the log. */
int hooks_collect(const struct strv *dirs, const struct hooks_subject *s, struct edits *to,
		  struct err *e);
