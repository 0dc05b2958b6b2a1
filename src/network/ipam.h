/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of the built-in bridge.  One file an address in use, named by it, holding the
 * pod's id: made by O_EXCL, so two pods never get the same, and whoever finds the file knows
 * the owner.
 */
#pragma once

#include <netinet/in.h>

#include "base/err.h"
#include "base/str.h"

struct ipam_pool {
	int family; /* AF_INET, AF_INET6 */
	unsigned prefix;
	uint8_t net[16];     /* network address */
	uint8_t gateway[16]; /* its first host */
	uint64_t hosts;	     /* that can be given out, at most 2^32 */
};

/* "10.88.0.0/16"; INVALID_ARGUMENT for what is no network with room for a gateway and a pod. */
int ipam_parse(const char *cidr, struct ipam_pool *ret, struct err *e);
/* An unused address of the pool for the pod, or the one it has.  RESOURCE_EXHAUSTED. */
int ipam_take(const char *dir, const struct ipam_pool *pool, const char *pod_id, uint8_t ret[16],
	      struct err *e);
/* Frees all addresses of the pod, in all pools. */
int ipam_release(const char *dir, const char *pod_id, struct err *e);
/* Frees those of pods that are not in `live`. */
int ipam_gc(const char *dir, const struct strv *live, struct err *e);
