/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pod's network: by CNI plugins, or by the built-in bridge where no CNI configuration is
 * there when the pod is set up.  Blocking: for jobs of the monitor.  Everything made belongs to
 * a pod id; teardown needs no more than that, is idempotent, and works when the namespace is
 * gone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct network_config {
	bool cni_only;	      /* no built-in bridge where conf_dir holds no configuration */
	const char *instance; /* names the nft table */
	const char *state;    /* directory of its own, may go with a reboot: addresses, locks */
	const char *cache;    /* directory of its own, survives a reboot: what CNI ADD was given */
	const char *pods;     /* <pods>/ID is there exactly while a pod is */
	const char *pins; /* "DIR/PREFIX": pins of network namespaces are PREFIX and 16 digits */
	struct strv bin_dirs;
	const char *conf_dir;
	uint64_t timeout_us;		  /* of one plugin */
	const char *bridge, *ipv4, *ipv6; /* interface name and pools, "" none */
	const char *pod_cidr; /* what the kubelet gives this node, "A" or "A,B", "" none: the pools
			       * of the bridge instead of ipv4 and ipv6; CNI capability ipRanges */
	uint32_t mtu;
	bool masquerade;
	void *doc; /* private: what network_config_parse() borrows from */
};

/* The configuration as JSON, appended; and back. */
void network_config_print(const struct network_config *c, struct strbuf *to);
int network_config_parse(const char *json, struct network_config *ret, struct err *e);
void network_config_fini(struct network_config *c);

/* Who the network is for. Strings may be NULL. */
struct network_pod {
	const char *id, *name, *namespace_, *uid;
	const char *netns;	   /* path of the pin */
	int netns_fd;		   /* open, or -1: gone */
	const char *port_mappings; /* JSON: [{"hostPort","containerPort","protocol","hostIP"}] */
	const char *bandwidth;	   /* JSON: CNI capability "bandwidth" */
	const char *dns;	   /* JSON: CNI capability "dns" */
	const char *capabilities;  /* JSON: an object of further CNI capabilities */
	int cancel_fd;		   /* readable: give up (spawn.h), or -1 */
};

/* Addresses of the pod, space-separated, primary first; appended to ret_ips.  A failure has
 * been undone when this returns. */
int network_setup(const struct network_config *c, const struct network_pod *p,
		  struct strbuf *ret_ips, struct err *e);
int network_teardown(const struct network_config *c, const struct network_pod *p, struct err *e);
/* CNI CHECK; the built-in bridge: interface and addresses are there. */
int network_check(const struct network_config *c, const struct network_pod *p, struct err *e);
/* Whether pods can be given a network now: the configuration is good, plugins are there
 * (and say so: CNI STATUS).  ret_kind, set in any case: "cni" or "bridge", static. */
int network_status(const struct network_config *c, const char **ret_kind, struct err *e);
/* Frees what belongs to pods that are not there any more (CNI DEL and GC, addresses and ports
 * of the built-in bridge, pins). Pods may be made and removed meanwhile. */
int network_gc(const struct network_config *c, struct err *e);

/* One network or two of different families with a comma between, each with room for pods. */
int network_pod_cidr_check(const char *pod_cidr, struct err *e);

/* `lo` up in the namespace behind the descriptor. */
int network_loopback_up(int netns_fd, struct err *e);

/* True where conf_dir holds a network configuration (a *.conflist, *.conf or *.json). */
bool network_conf_present(const char *conf_dir);
