/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that vendors and administrators drop into directories: specifications of CDI devices, OCI
 * hooks.  Bounded in number and size; a file that is of no use is told, and passed over.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/json.h"

#define DROPINS_FILES_MAX 256	      /* of all directories that are read together */
#define DROPINS_FILE_MAX (1u << 20)   /* bytes of one */
#define DROPINS_BYTES_MAX (16u << 20) /* of all of them */

struct dropin {
	char *path;	  /* owned */
	const char *name; /* its last part */
	size_t dir;	  /* number of its directory */
};

struct dropins {
	struct dropin *v; /* by directory, then by name; owned */
	size_t n;
	size_t bytes; /* read so far */
};

/* Finds the files in these directories whose names end in .json or (`yaml`) .yaml.  A directory that
 * is not there is empty.  RESOURCE_EXHAUSTED for too many. */
int dropins_find(const struct strv *dirs, bool yaml, struct dropins *ret, struct err *e);
void dropins_fini(struct dropins *d);

/* The document in one of them, by its name YAML or JSON; an object. owned.  INVALID_ARGUMENT and the
 * error of reading it name the file. */
int dropins_read(struct dropins *d, const struct dropin *f, jv **ret, struct err *e);
/* The same for a text.  `path` decides what it is, and is what errors begin with. */
int dropins_parse(const char *text, size_t n, const char *path, jv **ret, struct err *e);

/* --- what an object may have --- */

enum field_kind {
	FIELD_STRING,  /* without NUL */
	FIELD_STRINGS, /* a list of them */
	FIELD_NAME,    /* a string, or a whole number that stands for its digits (YAML) */
	FIELD_NAMES,
	FIELD_NUMBER, /* a whole one, not negative */
	FIELD_NUMBERS,
	FIELD_BOOL,
	FIELD_WORDS, /* an object whose values are names */
	FIELD_OBJECT,
	FIELD_OBJECTS, /* a list of objects */
};

struct field {
	const char *name;
	enum field_kind kind;
	bool required; /* and not empty */
};

#define FIELD_LIST_MAX 4096 /* entries of one list */
#define FIELD_NUMBER_MAX UINT32_MAX

/* The object has what it has to, and (`strict`) nothing that is not known. INVALID_ARGUMENT "WHERE: KEY:
 * ..." */
int fields_check(const jv *v, const struct field *fields, size_t n, bool strict, const char *where,
		 struct err *e);
/* A string, or the digits of a number, appended; false for anything else. */
bool field_text(const jv *v, struct strbuf *to);
