/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime command line (crun, runc, and what is compatible), and the probe.
 * Blocking: for jobs of the monitor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct runtime {
	const char *path;    /* absolute, or a name for PATH */
	struct strv args;    /* put before the command */
	const char *root;    /* --root */
	bool systemd_cgroup; /* --systemd-cgroup */
	uint64_t timeout_us; /* of one call */
	int cancel_fd;	     /* readable: give up; -1 */
};

/*
 * One call: RUNTIME [args] --root R --log L --log-format json [--systemd-cgroup] ARGV...
 * `fds` are standard input, output and error of the call (-1: /dev/null), which `create`
 * passes on to the container.  `log` is a file that the runtime's messages go to.  A failure
 * carries the runtime's own words.
 */
int runtime_call(const struct runtime *rt, const char *const *argv, const int fds[3],
		 const char *log, const char *cwd, struct err *e);

/* `delete --force`; a container that the runtime does not know is success. */
int runtime_delete(const struct runtime *rt, const char *id, const char *log, struct err *e);

/* The absolute path of a program: itself, or found in PATH. NULL where there is none. owned */
char *runtime_find(const char *name);

/*
 * Whether the runtime works on this host: finds it, asks its version, and runs a container
 * of one static program (`init`, an absolute path) under `dir` (made, and removed again).
 * *ret_version is owned and set also where the rest fails; NULL where there is not even that.
 */
int runtime_probe(const struct runtime *rt, const char *init, const char *dir,
		  const char *cgroups_path, char **ret_version, struct err *e);
