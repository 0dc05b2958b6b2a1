/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers being made: each is unpacked by a process of its own, which reads its blob from a
 * pipe (or a file), decompresses, hashes both sides and writes, in one pass.  The processes
 * run side by side; one whose layer depends on what lies below it waits until that is there.
 * They have no network and see nothing of the daemon.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "store.h"

#define LAYER_PIPE_BYTES (1 << 20)

struct layer {
	struct new_layer out;
	const char *diff_id; /* borrowed; NULL: of an artifact's blob nobody knows it */
	const char *file;    /* the blob is not unpacked, it becomes this file; NULL; borrowed */
	const char *digest;  /* of the blob, NULL: not checked (diff_id is); borrowed */
	uint64_t size;	     /* of the blob */

	/* the state */
	enum layer_state {
		LAYER_HERE, /* the store has it */
		LAYER_WANTED,
		LAYER_RUNNING,
		LAYER_DONE,
	} state;
	bool wrong_blob; /* it failed, and its blob is not what `digest` says */

	/* private */
	bool wants_lower;
	pid_t pid;
	int talk, data;
	uint8_t *held; /* what the pipe had no room for */
	size_t held_len, held_pos;
	bool at_end;
};

struct layer_set {
	struct store *store;
	struct layer *v; /* lowest first */
	size_t n;
	bool apart; /* none depends on those below it */
};

/* Names the layers by their chain ids, and finds those that the store has. */
void layer_set_init(struct layer_set *s, struct store *store, const struct strv *diff_ids);
struct manifest;
/* The same for the blobs of an artifact, which is borrowed, by their digests and files. */
void layer_set_init_artifact(struct layer_set *s, struct store *store, const struct manifest *m);
/* Ends what runs and removes what it left. Idempotent. */
void layer_set_fini(struct layer_set *s);

/* Starts the i-th; `fd`: read from there (until the set's end, borrowed), or -1: the blob is
 * fed.  Lower ones must have been started before. */
int layer_start(struct layer_set *s, size_t i, int fd, struct err *e);
/* Ends it, as if it had not been started. */
void layer_stop(struct layer_set *s, size_t i);

/* Bytes of the blob: n, 0: no room now (see layer_set_poll()), -EPIPE: it does not read any more (see layer_serve()). */
ssize_t layer_feed(struct layer *l, const void *p, size_t n);
/* That was all. */
void layer_feed_end(struct layer *l);

/* What to wait for: at most two entries for each that runs. */
unsigned layer_set_poll(const struct layer_set *s, struct pollfd *fds);
/* After poll(): moves everything on.  *ret_failed: the one that failed, with `e`. */
int layer_set_serve(struct layer_set *s, size_t *ret_failed, struct err *e);
/* Both, for layers that are not fed: waits until something has happened, and serves it. */
int layer_set_wait(struct layer_set *s, struct err *e);
