/* SPDX-License-Identifier: Apache-2.0 */
/* What cri.c and prometheus.c share. */
#pragma once

#include "base/histogram.h"
#include "cri/cri.h"

#define CRI_CODES 17 /* enum grpc_code */

/* A method, and what has become of its calls. */
struct cri_entry {
	const struct cri_method *method;
	struct histogram took; /* not of streams that last as long as the client listens */
	uint64_t codes[CRI_CODES];
	unsigned in_flight;
};

struct cri {
	struct node *node;
	struct grpc_server *grpc;
	struct cri_events *events;
	struct cri_entry *entries; /* all methods there are */
	size_t n_entries;
	int64_t started_at; /* wall ns */
	struct map methods; /* path -> struct cri_entry */
};
