/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry that speaks the OCI distribution protocol (distribution-spec 1.1, pull), with
 * anonymous, Basic and Bearer access (distribution, token authentication).
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "hosts.h"

struct registry;

/* Strings may be NULL. borrowed for the registry's life */
struct registry_auth {
	const char *username, *password, *auth, *server, *identity_token, *registry_token;
};

/* For the repository `path` of the registry `host` (both as in the reference). */
int registry_open(const char *hosts_dir, const char *host, const char *path,
		  const struct registry_auth *auth, struct registry **ret, struct err *e);
struct registry *registry_close(struct registry *r);

/* A manifest or index by tag or digest, of at most MANIFEST_MAX bytes; its digest in
 * ret_digest (room for 72). With a digest asked for it is checked. */
int registry_manifest(struct registry *r, const char *what, struct strbuf *ret, char *ret_digest,
		      struct err *e);
/* A small blob, checked. */
int registry_blob(struct registry *r, const char *digest, size_t max, struct strbuf *ret,
		  struct err *e);

/* Blobs into files, several at once. */
struct fetch {
	const char *digest;
	uint64_t size;
	int fd;	   /* to be written from offset 0 */
	void *arg; /* the caller's */
	/* private */
	uint64_t done;
	void *state;
	bool finished;
};
/* Calls done(arg of the call, fetch) for each that has arrived and been checked, in any order;
 * it may take long, and < 0 ends all. */
typedef int fetch_fn(void *arg, struct fetch *f, struct err *e);
int registry_fetch(struct registry *r, struct fetch *v, size_t n, unsigned parallel, fetch_fn *fn,
		   void *arg, struct err *e);
