/* SPDX-License-Identifier: Apache-2.0 */
/* What files on the node add to a container: CDI devices, OCI hooks. Private to pod/. */
#pragma once

#include "pod/pod.h"
#include "wire/json.h"

/*
 * Has a worker read the files and returns what they add, as spec.h has it; NULL: nothing. owned.
 * Waits.  NOT_FOUND for a CDI device that no file describes.
 */
int edits_collect(const struct container *c, const struct image_config *image, jv **ret,
		  struct err *e);
