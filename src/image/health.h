/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors that failed: what the daemon remembers of them between pulls, which are processes of
 * their own.  Such a mirror is still asked, but after all others.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ipc/ipc.h"

#define IMAGE_HEALTH_MAX 64	 /* mirrors; above it the one that was first to be forgotten goes */
#define IMAGE_HEALTH_SECONDS 300 /* that a failure is remembered */

struct image_health {
	struct {
		char *url;
		uint64_t until; /* monotonic us */
	} v[IMAGE_HEALTH_MAX];
	size_t n;
};

void image_health_fini(struct image_health *h);
/* WORKER_EVENT_HOST of a worker at `now` (monotonic us). */
void image_health_take(struct image_health *h, const struct ipc_in *event, uint64_t now);
/* WORKER_TAG_ILL for each that is remembered; forgets those whose time is over. */
void image_health_put(struct image_health *h, struct ipc_out *request, uint64_t now);
