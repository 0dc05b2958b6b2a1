/* SPDX-License-Identifier: Apache-2.0 */
/* What gRPC server and client share: an nghttp2 session on a socket.  Private to src/wire. */
#pragma once

#include <nghttp2/nghttp2.h>
#include <stdbool.h>

#include "base/str.h"

#define HTTP2_WINDOW (1 << 20)	       /* receive window of a stream */
#define HTTP2_HEADERS_MAX 16384	       /* bytes of one header list, 32 per field included */
#define HTTP2_SETTINGS_MAX 1000	       /* frames a second: each is looked up for every stream */
#define HTTP2_OUTBOUND_FRAMES_MAX 4096 /* queued above this: the peer is read no further */

struct http2_pipe {
	int fd; /* owned, non-blocking */
	nghttp2_session *session;
	struct strbuf out; /* serialised, from `off` on not yet written */
	size_t off;
};

#define HTTP2_PIPE_NULL ((struct http2_pipe){.fd = -EBADF})

/* One header; the strings must live until the call it is passed to returns. */
#define HTTP2_NV(n, v, vlen)                                                                       \
	{                                                                                          \
		(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), (vlen),           \
			NGHTTP2_NV_FLAG_NONE                                                       \
	}

/* Writes what the session has to say. 0: all is out; -EAGAIN: the socket is full, or others
 * should have their turn: wait until it is writable; -errno. */
int http2_pipe_flush(struct http2_pipe *p);
/* Reads once and feeds the session. Bytes, -EAGAIN, -EPIPE at the end, -EPROTO, -errno. */
int http2_pipe_read(struct http2_pipe *p);
/* True when reads came back full: more is likely there. */
bool http2_read_was_full(int n);
/* The session wants nothing any more, and all is written. */
bool http2_pipe_over(const struct http2_pipe *p);
/* The peer makes us queue faster than it reads: read no more from it for now. */
bool http2_pipe_clogged(const struct http2_pipe *p);
void http2_pipe_fini(struct http2_pipe *p);
