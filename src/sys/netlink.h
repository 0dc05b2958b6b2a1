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
/*
 * A bridge, up; -EEXIST where the name is taken.  It has the address `mac` (6 bytes) for good:
 * one of its own would change with its ports, and pods would talk to the wrong one for a while.
 */
int nl_add_bridge(struct nl *nl, const char *name, uint32_t mtu, const uint8_t mac[6],
		  struct err *e);
/* A pair: `name` here, up and a port of the bridge with index `master`; `peer` in the namespace
 * behind peer_netns_fd, down. mtu 0: the default. */
int nl_add_veth(struct nl *nl, const char *name, int master, const char *peer, int peer_netns_fd,
		uint32_t mtu, struct err *e);
/* Lets a bridge's port talk to itself. */
int nl_set_hairpin(struct nl *nl, int index, struct err *e);
/* Limits what leaves by the interface to so many bits a second (a token bucket). */
int nl_set_rate(struct nl *nl, int index, uint64_t bits, struct err *e);
/* Removes it; what is not there is success. */
int nl_delete(struct nl *nl, const char *name, struct err *e);
/* An address with prefix length; family AF_INET or AF_INET6; one that is there is success. */
int nl_add_address(struct nl *nl, int index, int family, const void *addr, unsigned prefix,
		   struct err *e);
/* The default route by way of `gateway`. */
int nl_add_default_route(struct nl *nl, int family, const void *gateway, int index, struct err *e);

#define NL_LINKS_MAX 64 /* more interfaces of one namespace are passed over */
struct nl_link {
	char name[16], kind[16]; /* kind: "bridge", "veth"; "" hardware and lo */
	int index, master;	 /* master: of the bridge it is a port of, 0 none */
	bool up;
	uint32_t mtu;
	uint64_t rx_bytes, rx_errors, tx_bytes, tx_errors;
	uint64_t rx_packets, rx_dropped, tx_packets, tx_dropped;
};
/* One interface; -ENODEV. */
int nl_get_link(struct nl *nl, const char *name, struct nl_link *ret);
/* All interfaces with their counters; returns how many, at most `max`. */
int nl_links(struct nl *nl, struct nl_link *links, unsigned max, struct err *e);

#define NL_ADDRESSES_MAX 1024 /* more addresses of one namespace are passed over */
struct nl_address {
	int index, family; /* AF_INET, AF_INET6 */
	unsigned prefix;
	uint8_t addr[16];
};
/* All addresses; returns how many, at most `max`. */
int nl_addresses(struct nl *nl, struct nl_address *to, unsigned max, struct err *e);
/* Takes an address away, as nl_addresses() gave it; one that is not there is success. */
int nl_delete_address(struct nl *nl, const struct nl_address *a, struct err *e);
/* The smallest MTU of the interfaces with a default route; 0: there is none. */
uint32_t nl_default_mtu(struct nl *nl);

/* Whether there is an nftables table "inet NAME": by a socket of its own.  True too where the
 * kernel does not say. */
bool nl_nft_table_exists(const char *name);

/* Forgets tracked connections over UDP to a port: their packets would go on the way they went
 * before that port was given to somebody, or to whom had it.  As well as it goes. */
void nl_conntrack_forget_udp(uint16_t port);
