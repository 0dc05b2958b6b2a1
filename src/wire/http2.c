/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An nghttp2 session on a socket: see http2.h.
 *
 * nghttp2 never touches the descriptor.  Output is gathered into one buffer, so that the
 * frames of a reply (headers, data, trailers) leave in one write.  All sending happens in
 * http2_pipe_flush(), which must not be called from inside a callback of nghttp2: others
 * got use-after-free from that.
 *
 * The functions named *2 of newer nghttp2 are avoided: Debian 12's has only the old ones.
 */
#include "wire/http2.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/mem.h"

#define READ_STEP 16384	    /* small frames for many streams take milliseconds to be looked at */
#define GATHER_STEP 65536   /* gathered bytes that are worth a write */
#define FLUSH_MAX (1 << 20) /* written at once: others want their turn */
#define OUT_KEEP 16384	    /* a larger buffer is not kept while there is nothing to write */

static int gather(struct http2_pipe *p)
{
	while (p->out.len - p->off < GATHER_STEP) {
		const uint8_t *bytes;
		ssize_t n = nghttp2_session_mem_send(p->session, &bytes);

		if (n < 0)
			return -EPROTO;
		if (n == 0)
			break;
		strbuf_add(&p->out, bytes, (size_t)n);
	}
	return 0;
}

int http2_pipe_flush(struct http2_pipe *p)
{
	for (size_t written = 0;;) {
		ssize_t n;

		if (gather(p) < 0)
			return -EPROTO;
		if (p->off == p->out.len)
			break;
		if (written > FLUSH_MAX)
			return -EAGAIN;
		n = send(p->fd, p->out.s + p->off, p->out.len - p->off,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p->off += (size_t)n;
		written += (size_t)n;
		if (p->off == p->out.len) {
			strbuf_reset(&p->out);
			p->off = 0;
		} else if (p->off >= GATHER_STEP) {
			/* A peer that reads in small bites must not make the buffer grow. */
			p->out.len -= p->off;
			memmove(p->out.s, p->out.s + p->off, p->out.len);
			p->off = 0;
		}
	}
	if (p->out.cap > OUT_KEEP)
		strbuf_fini(&p->out);
	return 0;
}

int http2_pipe_read(struct http2_pipe *p)
{
	static uint8_t buf[READ_STEP];
	ssize_t n;

	do
		n = recv(p->fd, buf, sizeof(buf), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -EPIPE;
	if (nghttp2_session_mem_recv(p->session, buf, (size_t)n) != n)
		return -EPROTO;
	return (int)n;
}

bool http2_read_was_full(int n)
{
	return n == READ_STEP;
}

bool http2_pipe_over(const struct http2_pipe *p)
{
	return p->off == p->out.len && !nghttp2_session_want_read(p->session) &&
	       !nghttp2_session_want_write(p->session);
}

bool http2_pipe_clogged(const struct http2_pipe *p)
{
	return nghttp2_session_get_outbound_queue_size(p->session) > HTTP2_OUTBOUND_FRAMES_MAX;
}

void http2_pipe_fini(struct http2_pipe *p)
{
	nghttp2_session_del(p->session);
	p->session = NULL;
	p->fd = fd_close(p->fd);
	strbuf_fini(&p->out);
	p->off = 0;
}
