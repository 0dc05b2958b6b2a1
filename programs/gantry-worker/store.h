/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store's directory (docs/decisions/0004).
 *
 *	<root>/lock		held while records change; holds the number of the last change
 *	<root>/layers/NAME	a layer's files; NAME.json its record: without one it is half-made;
 *				NAME.sums its list of checksums (sums.h), NAME.recipe how its tar
 *				is made again (recipe.h); NAME.json.damaged the record of one that failed them; NAME.old-XXXXXXXX the files of
 *				such a one that was made anew, for containers that have them
 *	<root>/images/HEX.json	an image; HEX.config its configuration as it came,
 *				or an artifact's manifest: what HEX is the digest of
 *	<root>/tmp/RANDOM	what one worker is making, locked by it while it lives
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "image/record.h"
#include "ipc/ipc.h"
#include "measure.h"

struct image_info;

struct store {
	char *root;
	int root_fd, layers_fd, images_fd, tmp_fd;
	char tmp_name[40]; /* of this worker's directory below <root>/tmp, which it holds locked */
};

int store_open(const char *root, struct store *ret, struct err *e);
/* Removes this worker's temporary directory and all in it. */
void store_close(struct store *s);
/* A file without a name, on the store's file system. */
int store_temporary(struct store *s, struct err *e);

bool store_has_layer(const struct store *s, const char *name);
/* This worker has made it, for another image; it will be committed with that. */
bool store_has_made(const struct store *s, const char *name);
/* A layer that the store has, or that this worker has made: an O_PATH descriptor, owned. */
int store_open_layer(const struct store *s, const char *name);
/* An empty layer of this worker's; owned in *ret_fd. */
int store_make_layer(struct store *s, const char *name, int *ret_fd, struct err *e);
/* An empty file of it, NAME.SUFFIX, to be written: a descriptor, owned. */
int store_make_file(struct store *s, const char *name, const char *suffix, struct err *e);
void store_drop_file(struct store *s, const char *name, const char *suffix);
/* Removes all of it again. Idempotent. */
void store_drop_layer(struct store *s, const char *name);

struct layer_record {
	uint64_t size; /* bytes of its files */
	struct measure used;
	char sums[72]; /* "": made before there were lists */
	char recipe[72];
	/* Where that is "": it would have been too large, or there were none at the time. */
	bool recipe_unknown;
};
int store_read_layer(const struct store *s, const char *name, struct layer_record *ret);
/* Fills config.passwd and config.group from the layers that the record names. */
void store_read_accounts(const struct store *s, struct image_record *rec);

struct new_layer {
	char name[33];
	uint64_t bytes; /* of its files */
	struct measure used;
	char sums[72];	 /* digest of its list of checksums (sums.h) */
	char recipe[72]; /* of its recipe (recipe.h); "": it has none */
	bool unpacked;	 /* this worker has made it */
};

struct new_image {
	const struct new_layer *layers; /* lowest first */
	size_t n_layers;
	const struct image_info *info;	   /* NULL: the layers only */
	const struct strbuf *config;	   /* as it came; of an artifact its manifest */
	const char *artifact;		   /* its type; NULL: it is an image */
	const char *checkpoint;		   /* of the container of that name; NULL: it is none */
	const struct strv *tags, *digests; /* become its names, taken from others */
};

/*
 * Makes layers and images last: everything is on the disk when it returns.  The records that
 * changed and the number of the change are put into `reply`.
 * -ESTALE: a layer that was there has been removed meanwhile; start again.
 */
int store_commit(struct store *s, const struct new_image *v, size_t n, struct ipc_out *reply,
		 struct err *e);

/* --- records --- */

/* The store's lock, and the number of the change that is made under it. */
struct store_change {
	int lock;
	uint64_t seq;
};
int store_change_begin(struct store *s, struct store_change *c, struct err *e);
void store_change_end(struct store_change *c);

/* A file of <root>/images. -ENOENT; -EINVAL for what is no record. */
int store_read_record(const struct store *s, const char *file, struct image_record *ret);
/* On the disk when it returns, and put into `reply`. Under the lock. */
int store_write_record(struct store *s, const struct image_record *rec, struct ipc_out *reply,
		       struct err *e);
typedef int store_record_fn(struct store *s, void *arg, struct image_record *rec, struct err *e);
/* All that can be read, damaged files are passed over. */
int store_each_record(struct store *s, store_record_fn *fn, void *arg, struct err *e);
/* Takes the names out of `v`; false: none was in it. */
bool store_take_names(struct strv *v, const struct strv *names);
/* Adds those that `to` does not have, IMAGE_NAMES_MAX in all. */
void store_add_names(struct strv *to, const struct strv *names);
/* Takes the tags from all images but `id`. Under the lock. */
int store_untag_others(struct store *s, const char *id, const struct strv *tags,
		       struct ipc_out *reply, struct err *e);
