/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of a container's checkpoint: config.dump and spec.dump as CRI-O, containerd and podman
 * write them (github.com/checkpoint-restore/checkpointctl, lib/metadata.go), and the head of CRIU's
 * images (github.com/checkpoint-restore/criu, magic.h, core.proto).  Hostile input.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define CHECKPOINT_DOCUMENT_MAX (8u << 20) /* bytes of config.dump, spec.dump, deleted.files */
#define CHECKPOINT_MOUNTS_MAX 4096
#define CHECKPOINT_BINDS_BYTES                                                                     \
	(256u << 10)		       /* of the paths that things of the host were mounted on */
#define CHECKPOINT_DELETED_MAX 1000000 /* names in deleted.files */
#define CHECKPOINT_IMAGE_HEAD 64       /* bytes of an image that are looked at */

/*
 * What a container that is made of it has to have, as JSON, appended: "name"; "images", the base image
 * by its digests or ids, and "names", by other names; "terminal"; "ownPids", "userns"; "binds", where
 * something of the host was mounted.  INVALID_ARGUMENT names the document.
 */
int checkpoint_describe(const char *config, size_t n_config, const char *spec, size_t n_spec,
			struct strbuf *to, struct err *e);

/* deleted.files: names relative to the root, added. */
int checkpoint_deleted(const char *text, size_t n, struct strv *to, struct err *e);

/* The head of inventory.img is one. */
int checkpoint_check_inventory(const void *p, size_t n, struct err *e);
/* The head of a core-N.img is one, and of a process of this machine's architecture. */
int checkpoint_check_core(const void *p, size_t n, const char *host_arch, struct err *e);
