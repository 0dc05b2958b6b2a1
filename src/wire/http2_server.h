/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the gRPC server: connections (http2_server.c) and calls (http2_call.c).  Private.
 *
 * Who frees what.  A call has two lives, its stream and its coroutine, and is freed when
 * both are over.  The server lives until grpc_server_free() was called and the last call is
 * gone.
 */
#pragma once

#include "base/list.h"
#include "loop/co.h"
#include "wire/grpc.h"
#include "wire/http2.h"

struct grpc_server {
	struct loop *loop;
	struct grpc_server_config cfg;
	struct loop_io listen;
	int listen_fd;
	struct loop_timer accept_timer; /* out of descriptors: look again later */
	struct list conns;
	unsigned n_conns;
	unsigned n_calls;   /* call objects */
	unsigned n_running; /* coroutines */
	size_t request_bytes, reply_bytes;
	bool draining, freed;
	struct loop_timer drain_timer;
	struct loop_defer drained_defer;
	void (*drained)(void *arg);
	void *drained_arg;
};

struct conn {
	struct grpc_server *server;
	struct list link;
	struct http2_pipe pipe;
	struct loop_io io;
	struct loop_defer flush;
	struct list calls;
	struct list noted; /* calls that a callback of nghttp2 has noted something about */
	struct ucred peer;
};

struct grpc_call {
	struct list link;
	struct list note;
	struct conn *conn; /* NULL: the stream is over */
	struct grpc_server *server;
	struct co *co; /* NULL: not started or ended */
	const void *method;
	struct ucred peer;
	int32_t stream;

	/* the request */
	char path[GRPC_PATH_MAX + 1];
	size_t header_bytes;
	uint8_t prefix[GRPC_PREFIX];
	size_t n_prefix;
	uint8_t *rx; /* grows towards rx_want as bytes come */
	size_t rx_len, rx_cap, rx_want;
	uint64_t deadline; /* absolute; USEC_FOREVER */
	struct loop_timer timer;
	enum grpc_code refuse; /* with refuse_why: an answer that needs no handler */
	const char *refuse_why;
	bool is_post, is_grpc, has_path, encoded;
	bool request_done, started, closed;

	/* the answer */
	struct arena arena;
	uint8_t tx_prefix[GRPC_PREFIX]; /* of a unary reply; streams have it in tx */
	size_t tx_prefix_left;
	struct strbuf tx;
	size_t tx_off;
	enum grpc_code code;
	char *message; /* of the status; owned */
	bool headers_sent, finished, deferred;
};

/* A new stream has begun; NULL where there are too many. */
struct grpc_call *call_new(struct conn *k, int32_t stream);
/* One header of the request. */
void call_header(struct grpc_call *c, const uint8_t *name, size_t n, const uint8_t *value,
		 size_t vn);
/* Bytes of the request's body. */
void call_data(struct grpc_call *c, const uint8_t *p, size_t n);
/* The whole request is there: starts the coroutine, or answers. */
void call_start(struct grpc_call *c);
/* The stream is over: the coroutine is told, or the call is freed. */
void call_detach(struct grpc_call *c);

/* Sends at the end of the loop's turn. */
void conn_flush_later(struct conn *k);
/* Whether a drain is complete now, whether a freed server can go. */
void server_check(struct grpc_server *s);
