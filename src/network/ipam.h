/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of the built-in bridge.  One symbolic link an address in use, named by it, with the
 * pod's id as its target: it is made with its owner in one system call, by one pod only, and
 * whoever finds it knows the owner.  No lock, and nothing half-made after a kill.
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
	uint64_t hosts;	     /* the last offset that could be given out and is not (broadcast) */
};

/* "10.88.0.0/16"; INVALID_ARGUMENT for what is no network with room for a gateway and a pod. */
int ipam_parse(const char *cidr, struct ipam_pool *ret, struct err *e);
/* True where the networks A/PREFIX and B/PREFIX of one family share an address. */
bool ipam_overlap(const uint8_t *a, unsigned a_prefix, const uint8_t *b, unsigned b_prefix);
/* An unused address of the pool for the pod, or one that it has.  Addresses are given out one
 * after the other, so that one just freed is not the next.  RESOURCE_EXHAUSTED. */
int ipam_take(const char *dir, const struct ipam_pool *pool, const char *pod_id, uint8_t ret[16],
	      struct err *e);
/* The addresses of a pod as text, IPv4 first, space-separated; appended. */
int ipam_find(const char *dir, const char *pod_id, struct strbuf *ret, struct err *e);
/* Frees all addresses of the pod, in all pools. */
int ipam_release(const char *dir, const char *pod_id, struct err *e);
/* Frees those of pods of which dead() says so. */
typedef bool ipam_dead_fn(const char *pod_id, const void *arg);
int ipam_gc(const char *dir, ipam_dead_fn *dead, const void *arg, struct err *e);
