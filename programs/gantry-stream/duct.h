/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the client's streams and descriptors: of a container's standard streams, a terminal, a
 * connection to a pod's port.
 *
 * Into a descriptor: what it does not take at once waits here.  When too much waits, the client is
 * read no further: it may be one that knows no windows (spdy.h).  Only its input waits for that;
 * output goes on, so that a command that wants its output read first does not lock up.
 *
 * Out of a descriptor: it is read while the client's connection and the stream have room.  Those
 * that found none get on in the order in which they came.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "link.h"
#include "mux.h"

#define DUCT_READ_MAX 32768		 /* bytes of one read */
#define DUCT_IN_MAX (256 * 1024)	 /* bytes that wait for one descriptor */
#define DUCTS_IN_MAX (4 * 1024 * 1024)	 /* for all of a connection */
#define DUCT_DRAIN_MAX (2 * 1024 * 1024) /* more than a pipe or a socket holds: see duct_drain() */

struct duct;
struct duct_user {
	/* Nothing more comes out of it: 0, or -errno. It is to be told to the client. */
	void (*out_end)(struct duct *d, int reason);
	/* All that the client sent has gone in, or -errno: nobody takes it. */
	void (*in_end)(struct duct *d, int reason);
};

/* All of one client. */
struct ducts {
	struct link *client;
	struct loop *loop;
	const struct duct_user *user;
	struct list waiting; /* private from here */
	size_t in_all;
	unsigned n_full;
};

struct duct {
	struct ducts *all;
	int fd;		    /* owned; -EBADF: not there yet, or not any more */
	struct chan *from;  /* whose bytes go in; NULL: none, or it is over */
	struct chan *to;    /* where bytes go that come out; NULL: they are thrown away */
	bool writes, reads; /* what the descriptor is for */
	struct loop_io io;  /* private from here */
	struct list waiting;
	struct strbuf in;
	size_t off;
	bool in_ending, in_over, out_over, full, draining;
	size_t drain_left;
};

void ducts_init(struct ducts *all, struct loop *loop, struct link *client,
		const struct duct_user *user);
/* There is room again at the client, or in a window. */
void ducts_room(struct ducts *all);

void duct_init(struct duct *d, struct ducts *all);
/* Closes it without a word to the user. Idempotent. */
void duct_close(struct duct *d);
/* Takes the descriptor over: what waits goes in, what comes out is sent. */
int duct_open(struct duct *d, int fd, bool reads, bool writes);
/* The client's bytes. */
void duct_feed(struct duct *d, const uint8_t *p, size_t n);
/* The client has ended: the descriptor's way in is closed when all has gone in. */
void duct_end(struct duct *d);
/*
 * Whoever writes to it has gone: what is in the descriptor is sent, and then out_end comes, without
 * an end of the stream, which others may hold up.  They do not keep it going for ever either: no
 * more is read than a descriptor holds.
 */
void duct_drain(struct duct *d);
/* The stream is over at the client's side. */
void duct_forget(struct duct *d, const struct chan *c);
