/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry that speaks the OCI distribution protocol (distribution-spec 1.1, pull): each
 * thing that is wanted is a transfer, which asks the hosts in order, tries again where that
 * may help, goes on where it broke off, and gets access where it is asked for.
 *
 * A mirror has one try, and a short time to bring something.  One that is dead, slow or wrong
 * is from then on asked last: in this pull, and while the daemon remembers, in others.
 */
#pragma once

#include <stdint.h>

#include "auth.h"
#include "base/err.h"
#include "base/str.h"
#include "hosts.h"
#include "http.h"

#define REGISTRY_TRIES 5	    /* of one request at the registry, none of which gets further */
#define REGISTRY_RETRY_MS 500	    /* before the first, doubled for each */
#define REGISTRY_RETRY_AFTER_MAX 60 /* seconds of Retry-After that are waited */
#define REGISTRY_PROGRESS_MIN (64u << 10) /* bytes after which a try is the first again */
#define REGISTRY_MIRROR_MIN (16u << 10)	  /* bytes that a mirror has to bring in its time */

struct registry;

/* For the repository `path` of the registry `host` (both as in the reference). */
int registry_open(const char *hosts_dir, const char *host, const char *path,
		  const struct auth_config *auth, unsigned stall_s, unsigned mirror_wait_s,
		  struct registry **ret, struct err *e);
/* The mirror with this URL failed not long ago: it is asked last. */
void registry_is_ill(struct registry *r, const char *url);
struct registry *registry_close(struct registry *r);
struct http *registry_http(struct registry *r);

/* A manifest or index by tag or digest, of at most MANIFEST_MAX bytes; its digest in
 * ret_digest (room for 72). What was asked for by digest is checked; `size`: bytes that it
 * must have, or UINT64_MAX. */
int registry_manifest(struct registry *r, const char *what, uint64_t size, struct strbuf *ret,
		      char *ret_digest, struct err *e);
/* A small blob of `size` bytes, checked. */
int registry_blob(struct registry *r, const char *digest, uint64_t size, struct strbuf *ret,
		  struct err *e);

/* --- transfers --- */

struct transfer {
	/* the caller's */
	const char *kind, *what; /* "blobs", digest; "manifests", tag or digest. borrowed */
	uint64_t size;		 /* bytes that it has; more is an error */
	bool size_is_limit;	 /* it may have less */
	/* HTTP_PAUSE, n, or 0 to fail with `e` set */
	size_t (*take)(void *arg, const char *p, size_t n, struct err *e);
	/* What came so far is void: it begins anew. */
	int (*anew)(void *arg, struct err *e);
	void *arg;

	/* the state */
	enum transfer_state {
		TRANSFER_IDLE,
		TRANSFER_RUNNING,
		TRANSFER_WAITING, /* to try again */
		TRANSFER_ARRIVED,
		TRANSFER_FAILED, /* e */
	} state;
	uint64_t done; /* bytes taken */
	struct err e;

	/* private */
	struct registry *registry;
	struct http_request request;
	size_t host;
	unsigned tries, generation;
	bool asked, was_ill;
	uint64_t skip, done_before, not_before;
	uint64_t came, mark, mark_at; /* bytes; at the begin of the time of a mirror */
	bool tried[HOSTS_MAX + 2];
	struct err origin_e; /* what the registry itself said */
	struct strbuf said;  /* by hosts that could not give it */
};

void transfer_start(struct registry *r, struct transfer *t);
/* After http_perform(): sees what became of it. */
void transfer_advance(struct transfer *t);
/* Milliseconds until it has to be advanced again whatever happens; at most `most`. */
int transfer_timeout(const struct transfer *t, int most);
/* It arrived, but is not what was asked for: another host may have the right one. */
void transfer_reject(struct transfer *t, const struct err *why);
void transfer_fini(struct transfer *t);
