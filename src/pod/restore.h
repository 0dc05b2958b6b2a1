/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers that are made of a checkpoint: config.image.image is the path of an archive that
 * CheckpointContainer wrote (here, or by CRI-O or containerd), or an image that holds what is in one.
 *
 * Private to pod/.
 */
#pragma once

#include "pod/pod.h"
#include "wire/json.h"

struct restore {
	bool wanted;	    /* it is a checkpoint */
	char *path;	    /* of the archive; NULL: it is an image */
	struct strv layers; /* of the image, topmost first */
	jv *about;	    /* what the worker says of it (programs/gantry-worker/checkpoint.h) */
};

/*
 * The image that the container's root is made of: the one that config.image.image names, or the one
 * that the container ran which the checkpoint is of.  May wait.  NOT_FOUND; UNIMPLEMENTED where no
 * checkpoint can be restored; FAILED_PRECONDITION where it does not fit this node, or images are not to
 * be taken for checkpoints here; INVALID_ARGUMENT for what is none.  borrowed
 */
int restore_find_image(struct container *c, struct restore *ret, struct image **ret_image,
		       struct err *e);
/* Whether what the container is to have (`spec`: spec_container_outline()) goes with what was checkpointed.
 * FAILED_PRECONDITION */
int restore_check(const struct restore *r, const struct container *c, const struct strbuf *spec,
		  struct err *e);
/* Puts it into the writable layer, which is there, above these layers. May wait. */
int restore_fill(const struct restore *r, struct container *c, const struct strv *lower,
		 struct err *e);
void restore_fini(struct restore *r);
