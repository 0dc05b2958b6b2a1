/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tar (OCI image-spec, layer.md) as a directory; what its whiteouts take away of the
 * layers below it says in the snapshotter's way.
 *
 * Names are resolved as inside the container that will see them: what the layer itself does
 * not have is looked for in the layers below, so that a link or a directory of a lower layer
 * is not hidden by a plain directory.  Nothing is ever followed out of the layer.
 */
#pragma once

#include "base/err.h"
#include "contents.h"
#include "layers.h"
#include "recipe.h"
#include "stream.h"

#define UNPACK_ENTRIES_MAX (4u << 20)	       /* of one layer */
#define UNPACK_BYTES_MAX (UINT64_C(256) << 30) /* of one layer, unpacked */

struct unpack {
	int dirfd;		 /* an empty directory, the layer to be */
	bool (*cancelled)(void); /* asked now and then */
	/* The layers below, asked for once and only where something depends on them, so that
	 * layers can be unpacked side by side. It may wait. */
	int (*lower)(void *arg, struct layers *ret, struct err *e);
	void *arg;
	/* How the tar is made again, which is told what goes into which file; NULL: nobody asks.
	 * The stream's tap is the caller's to set. borrowed */
	struct recipe_writer *recipe;
	const struct strv *gone; /* names that are removed besides whiteouts'; NULL: none */
	uint64_t bytes;		 /* result: bytes of its files */
	/* result: checksums of its files, but of sparse ones; owned by the caller */
	struct contents contents;
};

int unpack_layer(struct unpack *u, struct stream *s, struct err *e);
