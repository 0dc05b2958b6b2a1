/* SPDX-License-Identifier: Apache-2.0 */
/* The two kinds of network, and what they share. */
#pragma once

#include "network/network.h"
#include "sys/netlink.h"

struct network_ops {
	int (*setup)(const struct network_config *c, const struct network_pod *p,
		     struct strbuf *ret_ips, struct err *e);
	int (*teardown)(const struct network_config *c, const struct network_pod *p, struct err *e);
	int (*check)(const struct network_config *c, const struct network_pod *p, struct err *e);
	int (*status)(const struct network_config *c, struct err *e);
	int (*gc)(const struct network_config *c, struct err *e);
};

extern const struct network_ops network_cni, network_bridge;

/* A netlink socket inside the namespace behind the descriptor. */
int network_open_inside(int netns_fd, struct nl *ret, struct err *e);
/* The same; calls `inside` there first. */
int network_enter(int netns_fd, int (*inside)(struct err *e), struct nl *ret, struct err *e);

/* --- host ports of the built-in bridge, and its nft table --- */

/* Whether nft is there. FAILED_PRECONDITION. */
int hostport_available(struct err *e);
/* The nft table with its chains, the bridge's pools and all host ports that are reserved:
 * whatever of it is missing.  Under the bridge's lock. */
int hostport_make_table(const struct network_config *c, struct err *e);
/* Takes the pod's host ports. ALREADY_EXISTS naming the port and the pod that has it. */
int hostport_reserve(const struct network_config *c, const struct network_pod *p, struct err *e);
/* Makes those reserved work. `ips`: the pod's addresses, space-separated. */
int hostport_publish(const struct network_config *c, const struct network_pod *p, const char *ips,
		     struct err *e);
/* Ends and frees them.  `ips`: what the pod has, "" not known. */
int hostport_remove(const struct network_config *c, const char *pod_id, const char *ips,
		    struct err *e);
/* Frees those of pods that are gone. */
int hostport_gc(const struct network_config *c, struct err *e);

/*
 * flock on <state>/<name>; the descriptor is the lock.  Waits NETWORK_LOCK_US at most
 * (UNAVAILABLE), or until cancel_fd (-1: none) is readable (CANCELLED).
 */
#define NETWORK_LOCK_US UINT64_C(120000000)
#define NETWORK_GC_LOCK "gc.lock" /* shared: a pod is set up or torn down; exclusive: GC */
int network_lock(const struct network_config *c, const char *name, bool exclusive, int cancel_fd,
		 int *ret_fd, struct err *e);

/* False once the pod's directory has gone. */
bool network_pod_is_live(const struct network_config *c, const char *pod_id);
/* A CNI ADD was begun for the pod and its DEL is not done. */
bool network_cni_has(const struct network_config *c, const char *pod_id);
