/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC client on a unix socket: blocking, one thread, for commands, tests and benchmarks.
 *
 * One connection carries one call after the other, or several streams read in turn.  A
 * reply that the peer makes larger than GRPC_MESSAGE_MAX is RESOURCE_EXHAUSTED.  Errors
 * carry the peer's code and message as they came; what fails on this side (no socket, time
 * over, connection lost) has the code that other gRPC clients use for it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct grpc_client; /* a connection */
struct grpc_stream; /* a call that is being read */

/*
 * Connects to the socket at `path`; where nobody listens: UNAVAILABLE at once, with -ENOENT,
 * -ECONNREFUSED or -EACCES.  owned: grpc_client_free()
 */
int grpc_client_connect(const char *path, struct grpc_client **ret, struct err *e);
/* The same for a connected socket, which is taken over (also on failure). */
int grpc_client_attach(int fd, struct grpc_client **ret, struct err *e);
/* Closes the connection, and with it every stream, whose handles must be closed before. */
struct grpc_client *grpc_client_free(struct grpc_client *c);
DEFINE_CLEANUP(struct grpc_client *, grpc_client_free);

/* While `fd` is readable, calls that wait end with CANCELLED, -ECANCELED, and the server is
 * told.  -1: none.  borrowed */
void grpc_client_set_cancel_fd(struct grpc_client *c, int fd);

/*
 * One request, one reply.  `method` is the path ("/runtime.v1.RuntimeService/Version").
 * `timeout_us` goes to the server as the call's deadline and ends the call here too
 * (DEADLINE_EXCEEDED); USEC_FOREVER: none.  The reply's bytes replace what is in `ret`.
 */
int grpc_client_call(struct grpc_client *c, const char *method, const void *request, size_t n,
		     uint64_t timeout_us, struct strbuf *ret, struct err *e);

/* One request, a stream of replies.  owned: grpc_client_stream_close() */
int grpc_client_stream_open(struct grpc_client *c, const char *method, const void *request,
			    size_t n, uint64_t timeout_us, struct grpc_stream **ret, struct err *e);
/* The next message replaces what is in `ret`: 1.  The stream ended well: 0.  Or -errno. */
int grpc_client_stream_next(struct grpc_stream *s, struct strbuf *ret, struct err *e);
/* Readable where grpc_client_stream_next() may have something to do; for poll(2). borrowed */
int grpc_client_fd(const struct grpc_client *c);
/* Ends it; a call still open is cancelled at the server. */
struct grpc_stream *grpc_client_stream_close(struct grpc_stream *s);
DEFINE_CLEANUP(struct grpc_stream *, grpc_client_stream_close);

#define _cleanup_grpc_client_ _cleanup_(grpc_client_freep)
#define _cleanup_grpc_stream_ _cleanup_(grpc_client_stream_closep)
