/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI artifacts (image-spec, manifest.md, Guidelines for Artifact Usage): manifests whose blobs
 * are files, not layers of a root file system.
 *
 * Each blob is a layer of its own in the store, a directory with that file in it, and depends on
 * none of the others: so blobs are fetched, kept, shared, checked and removed as layers are, and
 * the artifact is mounted as an image is.  The file is named by the blob's title, or by the
 * digits of its digest.  A blob that its publisher calls an archive to be unpacked (tar without
 * a title; ORAS' annotation of directories) is unpacked as a layer.
 *
 * The artifact's id is the digest of its manifest: many have the same, empty configuration.
 */
#pragma once

#include "base/err.h"
#include "contents.h"
#include "stream.h"
#include "worker.h"

#define ARTIFACT_TITLE_MAX 255		       /* bytes: NAME_MAX */
#define ARTIFACT_BYTES_MAX (UINT64_C(1) << 40) /* of all blobs of one */

/* Titles are names of files, no two the same; sizes are possible.  INVALID_ARGUMENT. */
int artifact_check(const struct manifest *m, struct err *e);
/* The file that the blob becomes, NULL: it is unpacked.  borrowed from the descriptor */
const char *artifact_file(const struct descriptor *d);
/* The name of its layer's directory, which follows from digest and file; room for 33. */
void artifact_layer_name(const struct descriptor *d, char ret[33]);
/* The layers of the manifest are those that the record has, topmost first. */
bool artifact_layers_same(const struct manifest *m, const struct strv *names);

/* The whole stream becomes the file `name` in the empty directory. */
int artifact_write(int dirfd, const char *name, struct stream *s, struct contents *contents,
		   uint64_t *ret_bytes, struct err *e);
