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
#define CONFIG_MAX IMAGE_CONFIG_MAX
#define INDEX_DEPTH_MAX 4	 /* indexes in indexes */
#define CONFIG_STRINGS_MAX 65536 /* of one list of a configuration */

#define WORKER_DAEMON_FD 3 /* the connection to the daemon */

/* --- main.c --- */

/* True when the daemon has gone or wants the work given up. */
bool worker_cancelled(void);
/* CANCELLED where it is so, DEADLINE_EXCEEDED where it takes too long. */
int worker_check(struct err *e);
/* In a process that the worker made: it has no daemon any more. */
void worker_detach(void);
/* Tells the daemon what happens to a layer and how far it is. */
void worker_progress(const char *layer, const char *state, uint64_t done, uint64_t total);
/* Tells the daemon that a mirror failed, or (NULL) that one that had is well again. */
void worker_tell_host(const char *url, const char *why);
/* worker_check() is DEADLINE_EXCEEDED so many seconds after the first call; 0: never. */
void worker_set_limit(uint64_t seconds);

int do_pull(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_load(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_import(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_edits(const struct ipc_in *in, struct ipc_out *reply, struct err *e); /* edits.c */
int do_save(struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_checkpoint(const struct ipc_in *in, struct ipc_out *reply, struct err *e); /* restore.c */
int do_restore(const struct ipc_in *in, struct ipc_out *reply, struct err *e);

/* --- digest.c --- */

/* "sha256:..." of bytes; `ret` has room for 72. */
void digest_of(const void *p, size_t n, char ret[72]);
int digest_of_file(int fd, char ret[72]); /* from its offset on; -errno */
int digest_check(const void *p, size_t n, const char *want, const char *what, struct err *e);
/* Chain ids (OCI image-spec, config.md, Layer ChainID). */
void chain_next(const char *parent, const char *diff_id, char ret[72]);
/* The name of a layer's directory: the first 32 digits of its chain id. */
void chain_name(const char *chain_id, char ret[33]);

/* --- oci.c: documents of images --- */

struct descriptor {
	char *media_type, *digest;
	char *title; /* its annotation; NULL: none */
	bool unpack; /* ORAS' annotation: it is a directory, as an archive */
	uint64_t size;
};

struct manifest {
	struct descriptor config;
	struct descriptor *layers; /* lowest first */
	size_t n_layers;
	char *artifact;	  /* its type, where it is no image; NULL */
	char *checkpoint; /* name of the container that it holds the checkpoint of; NULL: none */
};

/* An image manifest of OCI or Docker schema 2, of an image or an artifact (artifact.h), or
 * INVALID_ARGUMENT. */
int manifest_parse(const char *text, size_t n, struct manifest *ret, struct err *e);
void manifest_fini(struct manifest *m);
void descriptor_fini(struct descriptor *d);
/* If the document is an index: the manifest (or further index) for this machine in *ret,
 * NOT_FOUND where there is none. No digest in *ret: it is no index. */
int index_choose(const char *text, size_t n, struct descriptor *ret, struct err *e);

/* The architecture of this machine, as images have it (GOARCH). static */
const char *host_arch(void);

struct image_info {
	struct image_config config;
	struct strv diff_ids;
};
int config_parse(const char *text, size_t n, struct image_info *ret, struct err *e);
void image_info_fini(struct image_info *i);

/* --- store.c, sweep.c --- */

int do_measure(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_remove(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
int do_sweep(const struct ipc_in *in, struct ipc_out *reply, struct err *e);

/* --- tag.c --- */

int do_name(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
struct store;
/* What a crash left: a tag that two images have becomes the one's that took it last.  The records
 * of both are put into `reply`. Under the lock. */
int settle_tags(struct store *s, struct ipc_out *reply, struct err *e);

/* --- verify.c --- */

int do_verify(const struct ipc_in *in, struct ipc_out *reply, struct err *e);
