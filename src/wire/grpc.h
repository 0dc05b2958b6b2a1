/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC server on a unix socket (grpc/doc/PROTOCOL-HTTP2.md), on nghttp2.
 *
 * Each call runs in a coroutine of its own, which starts when the whole request is there.
 * A deadline (grpc-timeout) answers DEADLINE_EXCEEDED and cancels the coroutine; so does a
 * client that goes away or resets the stream.  What a handler sends after that is dropped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

#define GRPC_MESSAGE_MAX (16u << 20) /* bytes of one message in either direction (kubelet's) */
#define GRPC_HELD_MAX (256ull << 20) /* bytes of all requests and replies in memory */
#define GRPC_CONNECTIONS_MAX 512     /* at more, the one that was idle longest is closed */
#define GRPC_STREAMS_MAX 1024	     /* calls at once on one connection */
#define GRPC_CALLS_MAX 8192	     /* on all connections, those that have only begun too */
/*
 * Above three quarters of a limit that all share (GRPC_CALLS_MAX, max_requests, GRPC_HELD_MAX),
 * only a connection that has less than this of it gets more.
 */
#define GRPC_SHARE_CALLS 64
#define GRPC_SHARE_REQUESTS 16
#define GRPC_SHARE_HELD (1ull << 20)
#define GRPC_STALE_US (2 * 1000000ull) /* a call that does not move: its connection makes room */

struct grpc_server;
struct grpc_call;

/* Runs in a coroutine; ends with grpc_call_reply() or grpc_call_finish(). */
typedef void grpc_handler_fn(struct grpc_call *c, const void *method);
/* What the path of a call stands for; NULL: UNIMPLEMENTED. */
typedef const void *grpc_lookup_fn(void *arg, const char *path);

struct grpc_server_config {
	grpc_lookup_fn *lookup;
	grpc_handler_fn *handler;
	void *arg; /* for lookup, and grpc_call_server_arg() */
	/* In flight on all connections, replies that wait for their client included; further
	 * ones: RESOURCE_EXHAUSTED. */
	uint32_t max_requests;
};

/* Serves on a listening, non-blocking socket, which it takes over. */
int grpc_server_new(struct loop *l, const struct grpc_server_config *cfg, int listen_fd,
		    struct grpc_server **ret, struct err *e);
/* GOAWAY: no new calls; fn(arg) once those in flight have ended and their replies are sent, from
 * the loop.  A client that reads no reply is waited for without a limit. */
void grpc_server_drain(struct grpc_server *s, void (*fn)(void *arg), void *arg);
/* Closes all connections. Coroutines still running are cancelled, and end while the loop runs or
 * never. */
struct grpc_server *grpc_server_free(struct grpc_server *s);

const uint8_t *grpc_call_request(const struct grpc_call *c, size_t *ret_len); /* borrowed */
struct arena *grpc_call_arena(struct grpc_call *c); /* lives as long as the coroutine */
void *grpc_call_server_arg(const struct grpc_call *c);

/* One message of a streamed reply; waits while the client does not read. -ECANCELED when it
 * is gone. */
int grpc_call_send(struct grpc_call *c, const void *p, size_t n, struct err *e);
/* The one message of a unary reply, and success; RESOURCE_EXHAUSTED for one that is too large.
 * Takes the buffer's content over. */
void grpc_call_reply(struct grpc_call *c, struct strbuf *message);
/* Ends the call with a status. */
void grpc_call_finish(struct grpc_call *c, enum grpc_code code, const char *message);

/* --- pieces of the protocol, pure --- */

#define GRPC_PREFIX 5 /* compressed flag, length in network order */
void grpc_put_prefix(uint8_t p[GRPC_PREFIX], uint32_t len);
uint32_t grpc_get_length(const uint8_t p[GRPC_PREFIX]);
/* "5010m" to microseconds; false for anything that is no TimeoutValue TimeoutUnit. */
bool grpc_parse_timeout(const char *s, size_t n, uint64_t *ret_us);
#define GRPC_TIMEOUT_LEN 10 /* buffer for grpc_format_timeout(), NUL included */
/* The finest form that holds it, rounded up. Returns `buf`. */
char *grpc_format_timeout(uint64_t us, char buf[GRPC_TIMEOUT_LEN]);
/* Percent-encoding of grpc-message, and back. Appended. */
void grpc_encode_message(const char *s, struct strbuf *to);
void grpc_decode_message(const char *s, size_t n, struct strbuf *to);
