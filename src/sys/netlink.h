/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network interfaces by rtnetlink(7).  A socket belongs to the network namespace it was
 * opened in, whatever its owner does later.  Blocking, bounded; not for the daemon's loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct nl {
	int fd;
	uint32_t seq;
};
#define NL_NULL ((struct nl){.fd = -EBADF})

/* Opens a socket in the calling thread's network namespace. */
int nl_open(struct nl *nl, struct err *e);
void nl_close(struct nl *nl);
#define _cleanup_nl_ __attribute__((cleanup(nl_close)))

/* Index of an interface; -ENODEV. */
int nl_index(struct nl *nl, const char *name);
/* Brings it up (or down). */
int nl_set_up(struct nl *nl, int index, bool up, struct err *e);
/* A bridge; -EEXIST where the name is taken. */
int nl_add_bridge(struct nl *nl, const char *name, uint32_t mtu, struct err *e);
/* A pair: `name` here, `peer` in the namespace behind peer_netns_fd. mtu 0: the default. */
int nl_add_veth(struct nl *nl, const char *name, const char *peer, int peer_netns_fd, uint32_t mtu,
		struct err *e);
/* Makes it a port of the bridge with that index; hairpin lets a port talk to itself. */
int nl_set_master(struct nl *nl, int index, int master, bool hairpin, struct err *e);
/* Removes it; what is not there is success. */
int nl_delete(struct nl *nl, const char *name, struct err *e);
/* An address with prefix length; family AF_INET or AF_INET6; one that is there is success. */
int nl_add_address(struct nl *nl, int index, int family, const void *addr, unsigned prefix,
		   struct err *e);
/* The default route by way of `gateway`. */
int nl_add_default_route(struct nl *nl, int family, const void *gateway, int index, struct err *e);

#define NL_LINKS_MAX 64 /* more interfaces of one namespace are passed over */
struct nl_link {
	char name[16];
	int index;
	bool up;
	uint32_t mtu;
	uint64_t rx_bytes, rx_errors, tx_bytes, tx_errors;
};
/* All interfaces with their counters; returns how many, at most `max`. */
int nl_links(struct nl *nl, struct nl_link *links, unsigned max, struct err *e);
