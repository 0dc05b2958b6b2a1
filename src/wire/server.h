/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two halves of the gRPC server share: server.c (connections) and call.c (calls).
 * Private to src/wire; for everybody else: grpc.h.
 */
#pragma once

#include "base/list.h"
#include "loop/co.h"
#include "wire/grpc.h"
#include "wire/http2.h"

#define GRPC_PATH_MAX 256 /* bytes of a method's path, NUL included */

struct grpc_server {
	struct loop *loop;
	struct grpc_server_config cfg;
	struct loop_io listen;
	int listen_fd;
	struct list conns; /* the one that was silent longest first */
	unsigned n_conns;
	uint32_t n_running; /* coroutines */
	uint32_t n_calls;   /* given to a handler, and not read to the end by the client */
	uint32_t n_open;    /* struct grpc_call */
	uint64_t held;	    /* bytes of requests and replies in memory */
	uint64_t last_read, trim_until;
	size_t freed_bytes; /* about so many bytes since memory was given back */
	bool draining, freed;
	struct loop_timer drain_timer, accept_timer, relief_timer, trim_timer;
	void (*drained)(void *arg);
	void *drained_arg;
};

struct grpc_conn {
	struct grpc_server *server;
	struct list link;
	struct loop_io io;
	struct http2_pipe pipe;
	struct list calls;
	uint32_t n_open, n_calls; /* of the server's, those that are ours */
	uint64_t held;
	bool proven;	   /* it has had an answer */
	bool heavy;	   /* it has had many calls or frames at once */
	unsigned settings; /* frames since then */
	uint64_t settings_since;
	struct loop_defer flush;
	struct loop_timer again;
};

/* A call has two lives, its stream and its coroutine, and is freed when both are over. */
struct grpc_call {
	struct list link;
	struct grpc_conn *conn; /* NULL: the stream is over */
	struct grpc_server *server;
	int32_t stream;
	const void *method;
	struct co *co; /* NULL: not started or ended */
	struct arena arena;
	struct strbuf rx;
	uint8_t head[GRPC_PREFIX]; /* the prefix of the message that is `tx`, where it is apart */
	size_t head_left;	   /* its last bytes, not yet sent */
	struct strbuf tx;
	size_t tx_off;
	uint64_t held, most; /* our part of server->held, now and at its largest */
	struct loop_timer timer;
	uint64_t deadline;   /* clock_mono_us() */
	uint64_t moved;	     /* when its request grew, or its reply shrank */
	size_t header_bytes; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts them */
	char path[GRPC_PATH_MAX];
	/* An answer that needs no handler. */
	const char *refuse_why;
	enum grpc_code refuse;
	const char *http_status; /* static */
	/* The status at the end. */
	enum grpc_code code;
	char *message; /* owned */
	bool is_post, is_grpc, te_trailers, foreign_encoding;
	bool request_done, closed; /* as nghttp2 said */
	bool started, headers_sent, finished, deferred;
};

/* --- call.c --- */
struct grpc_call *grpc_call_new(struct grpc_conn *k, int32_t stream);
/* The whole request is there: finds its handler and runs it, or answers. */
void grpc_call_start(struct grpc_call *c);
/* The stream is over: the coroutine is told, or the call is freed. */
void grpc_call_detach(struct grpc_call *c);
void grpc_call_put_header(struct grpc_call *c, const uint8_t *name, size_t n, const uint8_t *v,
			  size_t vn);
void grpc_call_put_data(struct grpc_call *c, const uint8_t *p, size_t n);

/* It waits for its client: for the rest of its request, or to have its reply read. */
bool grpc_call_waits(const struct grpc_call *c);

/* --- server.c --- */
/* Of `max` that all share `used` are in use, of which the connection has `own`: may it have more?
 * Where it is getting tight, connections that do not move will be closed. */
bool grpc_server_room(struct grpc_server *s, uint64_t used, uint64_t max, uint64_t own,
		      uint64_t share);
/* So much memory was freed, in small pieces: the system may have it back. */
void grpc_server_freed(struct grpc_server *s, size_t bytes);
/* Sends what there is at the end of the loop's turn. */
void grpc_conn_flush_later(struct grpc_conn *k);
/* After a call or a connection ended: is that the end of a server that drains or was freed? */
void grpc_server_check(struct grpc_server *s);
