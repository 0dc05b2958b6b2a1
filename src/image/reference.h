/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references: "busybox", "quay.io/a/b:1.2", "host:5000/x@sha256:...".
 *
 * The grammar is that of the OCI distribution specification (pulling manifests) with the
 * short forms that people know: no host is docker.io, no organisation there is library/,
 * neither tag nor digest is :latest.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define REFERENCE_MAX 1024 /* bytes of a reference */

struct reference {
	char *name;   /* host and repository: "docker.io/library/busybox" */
	char *host;   /* "docker.io", "localhost:5000" */
	char *path;   /* repository at the host: "library/busybox" */
	char *tag;    /* NULL: none */
	char *digest; /* "sha256:..."; NULL: none */
	char *text;   /* the whole in its canonical form */
};

/* INVALID_ARGUMENT says what is wrong with it. */
int reference_parse(const char *s, struct reference *ret, struct err *e);
void reference_fini(struct reference *r);
#define _cleanup_reference_ __attribute__((cleanup(reference_fini)))
#define REFERENCE_NULL ((struct reference){0})

/* "sha256:" and 64 lower-case hexadecimal digits. */
bool digest_valid(const char *s);
