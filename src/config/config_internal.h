/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, for what reads, prints, compares and keeps them. Private to config/. */
#pragma once

#include "base/str.h"
#include "config/config.h"

enum config_kind {
	STRING,
	PATH,	   /* absolute */
	LEVEL,	   /* enum log_level */
	DRIVER,	   /* enum config_cgroup_driver */
	ISOLATION, /* enum config_isolation */
	UNIT,	   /* enum config_unit */
	BOOLEAN,
	NUMBER32,   /* uint32_t */
	NUMBER64,   /* int64_t */
	BYTES,	    /* uint64_t; 16KiB, 1MiB, ... */
	SECONDS,    /* uint64_t microseconds; whole seconds in the file */
	ULIMITS,    /* STRINGS that config_ulimit_parse() takes */
	FACILITIES, /* STRINGS that config_facility_good() takes */
	STRINGS,    /* NULL-terminated vector */
	PATHS,
};

struct config_key {
	const char *name; /* "section.key", or "key" */
	enum config_kind kind;
	size_t offset;
	int64_t min, max; /* numbers, sizes, seconds */
	bool may_be_empty;
	bool fixed; /* only a start of the daemon can change it */
	const char *about;
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;
extern const struct config_key config_runtime_keys[]; /* of each entry of `runtimes` */
extern const size_t config_n_runtime_keys;

/* Where the setting is in the struct that its key is of. */
void *config_member(const void *base, const struct config_key *k);
/* Its value as in the file; appended. */
void config_print_value(struct strbuf *to, const void *base, const struct config_key *k);
