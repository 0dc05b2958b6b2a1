/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's own credentials for registries, out of a file (docker_config.h) and out of the
 * programs that it names.
 *
 * A worker may start no program and reads what registries send.  So a process beside it, made
 * before it was confined, reads the file and runs the programs, when the worker asks for a
 * registry: only for those that this pull may ask.  What a program prints is handed over as it
 * is, and first looked at by the worker.
 */
#pragma once

#include "base/err.h"
#include "docker_config.h"
#include "hosts.h"
#include "http.h"
#include "ipc/ipc.h"

#define CREDENTIALS_HELPER_S 15		   /* seconds that a helper may take */
#define CREDENTIALS_OUTPUT_MAX (64u << 10) /* bytes of what it prints */
#define CREDENTIALS_MESSAGE_MAX 200	   /* bytes of its output in an error */

/* For a pull, before the worker is confined. Without a file nothing is started. */
int credentials_start(const struct ipc_in *request, struct err *e);
/* Ends it, and what it runs. Idempotent. */
void credentials_end(void);
/* For the repository `path` of `host`; transfers go on meanwhile. -ENOENT: there are none. */
int credentials_get(struct http *h, const char *host, const char *path, struct credentials *ret,
		    struct err *e);
