/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams over one connection, whichever protocol carries them: SPDY (spdy.h), or the channels of
 * WebSocket messages (channels.h).  A session (exec.h, forward.h) uses them through this header.
 *
 * A stream belongs to its mux.  It is over when both sides have ended, or it was reset; it is freed
 * at the end of the turn, and the user hears of that (closed).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"

#define MUX_STREAMS_MAX 512	 /* of a connection; more are refused */
#define MUX_WINDOW_MAX INT32_MAX /* bytes: the room of a protocol, or peer, without windows */

enum chan_kind {
	CHAN_UNKNOWN = 0,
	CHAN_ERROR,
	CHAN_STDIN,
	CHAN_STDOUT,
	CHAN_STDERR,
	CHAN_RESIZE,
	CHAN_DATA,
};

#define CHAN_REQUEST_MAX 64 /* bytes of a port-forward's request id, NUL included */

struct chan {
	struct list link;
	struct mux *mux;
	uint32_t id;
	enum chan_kind kind;
	uint16_t port;			/* port-forward: 0 none */
	char request[CHAN_REQUEST_MAX]; /* port-forward: "" none */
	void *owner;			/* the user's; NULL: what comes is dropped */
	bool in_ended;			/* the client sends no more */
	bool out_ended;			/* nor do we */
	bool dead;
	uint64_t sent;	  /* bytes, against the peer's window */
	uint64_t granted; /* by window updates */
	uint32_t taken;	  /* bytes that were consumed and not yet told */
	uint64_t came;	  /* bytes, against our window */
	uint64_t told;	  /* that we gave by window updates */
};

struct mux;
struct mux_user {
	/* A new stream: 0, or -errno: it is refused. */
	int (*open)(struct mux *m, struct chan *c);
	void (*data)(struct mux *m, struct chan *c, const uint8_t *p, size_t n);
	void (*end)(struct mux *m, struct chan *c);    /* the client sends no more on it */
	void (*closed)(struct mux *m, struct chan *c); /* it is about to be freed */
	void (*room)(struct mux *m);		       /* a window has opened */
	/* The client has said that it is leaving, and no stream is open. */
	void (*leave)(struct mux *m);
};

struct mux_ops {
	void (*send)(struct chan *c, const uint8_t *p, size_t n, bool fin);
	void (*reset)(struct chan *c);
	void (*taken)(struct chan *c); /* c->taken has grown */
	size_t (*window)(const struct chan *c);
	void (*finish)(struct mux *m);
};

struct mux {
	const struct mux_ops *ops;
	const struct mux_user *user;
	void *session; /* the user's */
	struct loop *loop;
	/* Where frames go: a header and what comes after it. */
	void (*put)(struct mux *m, const void *head, size_t n_head, const void *p, size_t n);
	size_t (*room)(struct mux *m); /* of the connection */
	void *out;		       /* put's */
	struct list chans, dead;
	unsigned n_chans; /* those that are dead, too */
	bool leaving, finished;
	uint64_t active_at; /* when a stream carried something last, clock_mono_us() */
	struct loop_defer reaper;
};

void mux_init(struct mux *m, const struct mux_ops *ops, struct loop *loop);
/* Frees the streams, without a word to the user. */
void mux_fini(struct mux *m);

/* --- for the user --- */

/* Bytes that may be sent on it now. Where that is too little, room() comes, or the link's on_room. */
size_t mux_room(struct chan *c);
/* At most mux_room(). `fin`: it is our last word on this stream. */
void mux_send(struct chan *c, const void *p, size_t n, bool fin);
/* Ends both directions. */
void mux_reset(struct chan *c);
/* Bytes that data() brought have found their way. */
void mux_taken(struct chan *c, size_t n);
/* Says goodbye to the client: no frame goes out any more. */
void mux_finish(struct mux *m);

/* --- for protocols --- */

struct chan *mux_add(struct mux *m, uint32_t id);
struct chan *mux_find(struct mux *m, uint32_t id);
/* Bytes of the client, to the user. */
void mux_data(struct chan *c, const uint8_t *p, size_t n);
/* The client's last word on the stream. */
void mux_in_end(struct chan *c);
/* It is over, and nothing more is said of it. */
void mux_drop(struct chan *c);
/* Frees what is over now; without a loop that is up to the caller. */
void mux_reap(struct mux *m);
