/* SPDX-License-Identifier: Apache-2.0 */
/* Images that a container has as volumes (CRI, Mount.image). */
#pragma once

#include "ipc/ipc.h"
#include "pod/pod.h"

struct volume {
	const Runtime__V1__Mount *mount; /* borrowed from the container's configuration */
	const char *name;		 /* as the request has it; borrowed as well */
	struct strv layers;		 /* topmost first */
};

/* What of a container's creation is about them. */
struct volumes {
	struct volume *v; /* owned */
	size_t n;
};

/*
 * Finds the images that the container's mounts name, and notes their ids in c->volumes: from here
 * on they are not removed (container_uses_image()).  NOT_FOUND.
 */
int volumes_find(struct container *c, struct volumes *ret, struct err *e);
void volumes_fini(struct volumes *v);

/* The binds of MON_CREATE, those of images with their layers. */
void volumes_put_binds(const struct volumes *v, const struct spec_binds *binds, struct ipc_out *o);

/* Its own image, or one that it mounts; `id` without "sha256:". */
bool container_uses_image(const struct container *c, const char *id);
/* Ids of all images that it uses, without "sha256:", added where they are not in `to`. */
void container_images_used(const struct container *c, struct strv *to);
