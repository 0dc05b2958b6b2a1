/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images of this node as the daemon knows them.  The files are the worker's
 * (docs/decisions/0004); here are their records in memory, and the calls that run a worker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/map.h"
#include "config/config.h"
#include "image/record.h"
#include "image/reference.h"
#include "loop/co.h"

struct ipc_out;
struct image_store;

struct image {
	struct image_record record;
	bool pinned;
	bool removing;		 /* not to be found any more */
	uint64_t seq;		 /* of the change that made the record, in the store's order */
	struct list in_order;	 /* by time of arrival */
	struct strbuf list_item; /* ListImages' item as bytes; empty: to be made */
};

/* Reads all records; blocking, for the start.  A damaged record is logged and moved aside;
 * an image that lacks a layer is there as a damaged one. */
int image_store_open(struct loop *l, const struct config *c, const char *worker_path,
		     struct image_store **ret, struct err *e);
/* Another configuration is in force; borrowed, as that of image_store_open(), until the next one. */
void image_store_set_config(struct image_store *s, const struct config *c);
struct image_store *image_store_close(struct image_store *s);

/* struct image.in_order */
struct list *image_list(struct image_store *s);

/*
 * By id, "sha256:" id, a prefix of at least 8 digits of an id, tag or digest reference
 * (short forms too).  NOT_FOUND, INVALID_ARGUMENT.  borrowed: until the caller waits
 */
int image_find(struct image_store *s, const char *ref, struct image **ret, struct err *e);
/* Also one that is damaged: for what containers still have of it. */
int image_find_any(struct image_store *s, const char *ref, struct image **ret, struct err *e);
/* Found so by a verification, or without all of its layers: it is not used until it has been pulled
 * or loaded again. */
static inline bool image_damaged(const struct image *im)
{
	return !str_empty(im->record.damaged);
}

/* What PullImage's AuthConfig says; strings may be NULL. */
struct image_auth {
	const char *username, *password, *auth, *server_address, *identity_token, *registry_token;
};

struct image_progress {
	/* a layer; "waiting" (another pull makes it), "fetching", "unpacking", "done", "exists" */
	const char *layer, *state;
	uint64_t done, total;		   /* bytes */
	const char *image_id, *image_name; /* an image that is there now */
};
/* May wait; < 0 is remembered and given back by the operation. */
typedef int image_progress_fn(void *arg, const struct image_progress *p, struct err *e);

/* What pulls have done since the store was opened. borrowed */
struct image_pulls {
	uint64_t done, failed, cancelled;
	uint64_t bytes; /* of layers that were fetched, compressed */
	struct histogram took;
	unsigned running, waiting; /* now; waiting for others' to end */
};
void image_store_pulls(const struct image_store *s, struct image_pulls *ret);

/*
 * Coroutine functions.  Two pulls of one image with the same credentials are one; the work
 * is given up when nobody waits for it any more.  ret_id has room for ID_SIZE.
 */
int image_pull(struct image_store *s, const char *ref, const struct image_auth *auth,
	       image_progress_fn *fn, void *arg, char *ret_id, struct err *e);
int image_load(struct image_store *s, const char *path, image_progress_fn *fn, void *arg,
	       struct err *e);
/* The tar of a root file system becomes an image; the last progress is that. */
struct image_import {
	const char *path; /* absolute */
	char *const *tags, *const *changes;
	size_t n_tags, n_changes;
	const char *message; /* "": one of ours */
};
int image_import(struct image_store *s, const struct image_import *im, image_progress_fn *fn,
		 void *arg, struct err *e);
/*
 * An archive of images: fn gets its bytes in order, and how many all of them are (0: not known
 * yet).  It may wait, which holds up who makes them; < 0 ends it.  An image by a tag has that tag in
 * it, by anything else all of its own.  DATA_LOSS where one is found to be damaged, which is then
 * marked; FAILED_PRECONDITION for layers that were unpacked without a recipe.
 */
typedef int image_bytes_fn(void *arg, const void *p, size_t n, uint64_t total, struct err *e);
int image_save(struct image_store *s, char *const *refs, size_t n, image_bytes_fn *fn, void *arg,
	       struct err *e);
/*
 * Gives the image more tags, in canonical form in *ret_tags, which other images lose; durable.
 * ret_id has room for ID_SIZE.  NOT_FOUND, INVALID_ARGUMENT, RESOURCE_EXHAUSTED.
 */
int image_tag(struct image_store *s, const char *source, char *const *targets, size_t n,
	      char *ret_id, struct strv *ret_tags, struct err *e);
/* All its tags, and the layers that no other image has. What is not there is success. */
int image_remove(struct image_store *s, const char *ref, struct err *e);

/* A question to a worker about files of the node (ipc/worker.h), begun; and its CONTENT, of at most
 * `max` bytes, appended.  Finishes `o`. */
void image_worker_question(struct image_store *s, struct ipc_out *o, uint16_t type);
int image_worker_answer(struct image_store *s, struct ipc_out *o, size_t max, struct strbuf *ret,
			struct err *e);

/* A file's content, read by a worker: for files that the loop must not wait for. */
int image_worker_read(struct image_store *s, const char *path, size_t max, struct strbuf *ret,
		      struct err *e);

/*
 * Looks at everything that is recorded of the images (none named: of all), by what was unpacked;
 * a damaged one is marked.  fn: id, the image (NULL: gone), "good", "damaged", "unknown" or
 * "gone", and what is wrong.
 */
typedef int image_verdict_fn(void *arg, const char *id, const struct image *im, const char *state,
			     const char *problem, struct err *e);
int image_verify(struct image_store *s, char *const *refs, size_t n, image_progress_fn *progress,
		 image_verdict_fn *fn, void *arg, struct err *e);

/*
 * Removes what is not in `used`, the ids of the images that containers have: damaged images, and
 * those that have no tag or, with `all`, any that is not pinned; layers and temporary files that
 * nobody has.  fn hears of each image before.  `dry`: nothing is removed.  *ret: what was freed.
 */
struct image_usage;
typedef void image_prune_fn(void *arg, const struct image *im);
int image_prune(struct image_store *s, const struct strv *used, bool all, bool dry,
		image_prune_fn *fn, void *arg, struct image_usage *ret, struct err *e);

/* Removes what an ended worker left half-made, damaged images that are not in `used`, and the
 * writable layers with these ids, which belong to no container. */
int image_sweep(struct image_store *s, const struct strv *ids, const struct strv *used,
		struct err *e);

/* Space of the store and of writable layers, measured by a worker in the background. */
struct image_usage {
	uint64_t bytes, inodes;
	int64_t measured_at; /* wall ns, 0: not yet */
};
void image_store_usage(const struct image_store *s, struct image_usage *ret);

/* Walks directories below <root>/containers in a worker; for each: fn(arg, id, usage). */
typedef void image_walk_fn(void *arg, const char *id, const struct image_usage *u);
int image_measure(struct image_store *s, image_walk_fn *fn, void *arg, struct err *e);
