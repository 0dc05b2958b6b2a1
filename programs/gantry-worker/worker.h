/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the worker share. */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "image/record.h"
#include "image/reference.h"
#include "ipc/ipc.h"
#include "ipc/worker.h"

#define MANIFEST_MAX (4u << 20) /* bytes of a manifest or index, as registries have it */
#define CONFIG_MAX (8u << 20)	/* bytes of an image's configuration */

/* --- main.c --- */

/* True when the daemon has gone or wants the work given up. */
bool worker_cancelled(void);
int worker_check(struct err *e); /* CANCELLED where it is so */
/* Tells the daemon how far a layer is; at most ten times a second for each. */
void worker_progress(const char *layer, const char *state, uint64_t done, uint64_t total);

int do_pull(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_load(const struct ipc_in *in, struct ipc_out *reply, struct err *e);

/* --- digest.c --- */

/* "sha256:..." of bytes; `ret` has room for 72. */
void digest_of(const void *p, size_t n, char ret[72]);
int digest_check(const void *p, size_t n, const char *want, const char *what, struct err *e);
/* Chain ids (OCI image-spec, config.md, Layer ChainID). */
void chain_next(const char *parent, const char *diff_id, char ret[72]);
/* The name of a layer's directory: the first 32 digits of its chain id. */
void chain_name(const char *chain_id, char ret[33]);

/* --- oci.c: documents of images --- */

struct descriptor {
	char *media_type, *digest;
	uint64_t size;
};

struct manifest {
	struct descriptor config;
	struct descriptor *layers; /* lowest first */
	size_t n_layers;
};

/* An image manifest of OCI or Docker schema 2, or INVALID_ARGUMENT. */
int manifest_parse(const char *text, size_t n, struct manifest *ret, struct err *e);
void manifest_fini(struct manifest *m);
/* If the document is an index: the digest of the manifest for this machine in *ret (owned),
 * NOT_FOUND where there is none. NULL in *ret: it is no index. */
int index_choose(const char *text, size_t n, char **ret, struct err *e);

struct image_info {
	struct image_config config;
	struct strv diff_ids;
};
int config_parse(const char *text, size_t n, struct image_info *ret, struct err *e);
void image_info_fini(struct image_info *i);

/* --- store.c: the directory --- */

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

/* Unpacks a blob on top of layers (`chain`: names, lowest first) into the temporary directory
 * under `name`.  The diff id is checked. */
int store_unpack(struct store *s, int fd, uint64_t max, const char *diff_id, const struct strv *chain,
		 const char *name, uint64_t *ret_bytes, struct err *e);

struct new_layer {
	char name[33];
	uint64_t bytes;
	bool unpacked; /* it is in the temporary directory */
};

/*
 * Makes the layers and the image of them last: everything is on the disk when it returns.
 * `names` become tags and digests of the image, taken from others.  The records that changed
 * and the number of the change are put into `reply`.  With no `info`, only the layers.
 * -ESTALE: a layer that was there has been removed meanwhile; start again.
 */
int store_commit(struct store *s, const struct new_layer *layers, size_t n,
		 const struct image_info *info, const char *config, size_t config_len,
		 const struct strv *tags, const struct strv *digests, struct ipc_out *reply,
		 struct err *e);

int do_remove(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_measure(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_sweep(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
