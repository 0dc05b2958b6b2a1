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
	int (*gc)(const struct network_config *c, const struct strv *live, struct err *e);
};

extern const struct network_ops network_cni, network_bridge;

/* A netlink socket inside the namespace behind the descriptor. */
int network_open_inside(int netns_fd, struct nl *ret, struct err *e);

/* Host ports of the built-in bridge. `ips`: the pod's addresses, space-separated. */
int hostport_add(const struct network_config *c, const struct network_pod *p, const char *ips,
		 struct err *e);
int hostport_remove(const struct network_config *c, const char *pod_id, struct err *e);
int hostport_gc(const struct network_config *c, const struct strv *live, struct err *e);
/* The nft table with its chains, once a boot, under the bridge's lock: 1 when it was made
 * now and the rest is to be done, 0 when all has been (hostport_mark_ready()). */
int hostport_ensure_table(const struct network_config *c, struct err *e);
int hostport_mark_ready(const struct network_config *c, struct err *e);

/* flock on <state>/<name>; the descriptor is the lock. */
int network_lock(const struct network_config *c, const char *name, int *ret_fd, struct err *e);

/* cni.c's pure half (cni_conf.c): configuration lists. */
#define CNI_CONF_MAX (1u << 20)	  /* bytes of a configuration file */
#define CNI_PLUGINS_MAX 32	  /* in one list */
#define CNI_RESULT_MAX (1u << 20) /* bytes that a plugin may print */
