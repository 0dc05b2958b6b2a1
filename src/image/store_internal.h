/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the index of images share: see store.h. */
#pragma once

#include "image/health.h"
#include "image/store.h"
#include "ipc/ipc.h"

struct image_store {
	struct loop *loop;
	const struct config *config;
	const char *worker_path;
	struct map by_id, by_name; /* names: tags and digests, canonical */
	struct list images;
	struct map pulls; /* struct pull by key */
	unsigned running;
	struct image_pulls done; /* its last two are not kept up */
	struct list slot_waiters;
	struct image_usage usage;
	struct image_health health;
	bool sweeping; /* after a worker that died */
};

void image_drop(struct image_store *s, struct image *im);

/* A request to a worker, begun. */
void image_request(struct image_store *s, struct ipc_out *o, uint16_t type);
/* One worker from its request to its end.  Finishes `o`.  Where it dies, the index is brought to
 * what is on the disk before this returns. */
int image_worker_run(struct image_store *s, struct ipc_out *o,
		     void (*on_progress)(void *, const struct image_progress *), void *arg,
		     struct ipc_in *ret, struct err *e);
/* What a worker's reply says about records. */
int image_take_records(struct image_store *s, const struct ipc_in *in, struct err *e);
/* A sweep after which the index has what the disk has. */
int image_resync(struct image_store *s, struct err *e);
/* Names that can be given to images, in canonical form, each once. INVALID_ARGUMENT */
int image_canonical_tags(char *const *names, size_t n, struct strv *ret, struct err *e);
