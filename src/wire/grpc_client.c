/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC client: see grpc_client.h.  nghttp2 never touches the socket: pump() does. */
#include "wire/grpc_client.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/list.h"
#include "wire/grpc.h"
#include "wire/http2.h"

#define WINDOW (16 << 20)		/* receive window of a stream and of the connection */
#define RX_STEP 65536			/* bytes the caller has read that are worth a move */
#define STREAM_MESSAGES_MAX (64u << 20) /* bytes that wait to be read by the caller */

struct grpc_client {
	struct http2_pipe pipe;
	int cancel_fd;
	bool lost;
};

struct grpc_stream {
	struct grpc_client *client;
	int32_t id;
	struct strbuf tx; /* the request with its prefix */
	size_t tx_off;
	struct strbuf rx; /* messages that came, with their prefixes */
	size_t rx_off;
	uint64_t deadline;
	bool over, has_status, too_large;
	int http_status;
	uint32_t reset;
	enum grpc_code code;
	struct strbuf message;
};

/* --- nghttp2's callbacks --- */

static struct grpc_stream *stream_of(nghttp2_session *s, int32_t id)
{
	return nghttp2_session_get_stream_user_data(s, id);
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n,
		       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct grpc_stream *s = source->ptr;
	size_t k = MIN(n, s->tx.len - s->tx_off);

	memcpy(buf, s->tx.s + s->tx_off, k);
	s->tx_off += k;
	if (s->tx_off == s->tx.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)k;
}

static bool is(const uint8_t *p, size_t n, const char *s)
{
	return n == strlen(s) && memcmp(p, s, n) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name,
		     size_t name_len, const uint8_t *v, size_t n, uint8_t flags, void *arg)
{
	struct grpc_stream *s = stream_of(session, f->hd.stream_id);

	if (!s)
		return 0;
	if (is(name, name_len, ":status")) {
		s->http_status = atoi((const char *)v);
	} else if (is(name, name_len, "grpc-status")) {
		s->has_status = true;
		s->code = (enum grpc_code)atoi((const char *)v);
	} else if (is(name, name_len, "grpc-message")) {
		strbuf_reset(&s->message);
		grpc_decode_message((const char *)v, MIN(n, (size_t)8192), &s->message);
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *arg)
{
	struct grpc_stream *s = stream_of(session, id);

	if (!s || s->too_large)
		return 0;
	if (s->rx.len - s->rx_off + n > STREAM_MESSAGES_MAX) {
		s->too_large = true;
		return 0;
	}
	strbuf_add(&s->rx, p, n);
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct grpc_stream *s = stream_of(session, id);

	if (s) {
		s->over = true;
		s->reset = code;
	}
	return 0;
}

/* --- connection --- */

static int make_session(struct grpc_client *c, struct err *e)
{
	nghttp2_session_callbacks *cb;
	nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
					     {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
	int r;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		abort();
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	r = nghttp2_session_client_new(&c->pipe.session, cb, c);
	nghttp2_session_callbacks_del(cb);
	if (r == 0)
		r = nghttp2_submit_settings(c->pipe.session, NGHTTP2_FLAG_NONE, settings,
					    ARRAY_SIZE(settings));
	if (r == 0)
		r = nghttp2_session_set_local_window_size(c->pipe.session, NGHTTP2_FLAG_NONE, 0,
							  WINDOW);
	return r == 0 ? 0 : err_set(e, -EIO, GRPC_INTERNAL, "HTTP/2: %s", nghttp2_strerror(r));
}

int grpc_client_attach(int fd, struct grpc_client **ret, struct err *e)
{
	struct grpc_client *c = xcalloc(1, sizeof(*c));
	int r;

	c->pipe.fd = fd;
	c->cancel_fd = -1;
	r = make_session(c, e);
	if (r < 0)
		grpc_client_free(c);
	else
		*ret = c;
	return r;
}

int grpc_client_connect(const char *path, struct grpc_client **ret, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_invalid(e, "the socket's path %s is too long", path);
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, -errno, "make a socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int r = -errno;

		return err_set(e, r, GRPC_UNAVAILABLE, "connect to %s: %s", path, strerror(-r));
	}
	return grpc_client_attach(TAKE_FD(fd), ret, e);
}

struct grpc_client *grpc_client_free(struct grpc_client *c)
{
	if (!c)
		return NULL;
	http2_pipe_fini(&c->pipe);
	free(c);
	return NULL;
}

void grpc_client_set_cancel_fd(struct grpc_client *c, int fd)
{
	c->cancel_fd = fd;
}

int grpc_client_fd(const struct grpc_client *c)
{
	return c->pipe.fd;
}

static int lost(struct grpc_client *c, struct err *e)
{
	c->lost = true;
	return err_set(e, -ECONNRESET, GRPC_UNAVAILABLE, "the connection to the daemon was lost");
}

/* Moves bytes once: 0, or < 0 where the connection, the time or the caller's patience ends. */
static int pump(struct grpc_client *c, uint64_t deadline, struct err *e)
{
	struct pollfd p[2] = {{.fd = c->pipe.fd, .events = POLLIN},
			      {.fd = c->cancel_fd, .events = POLLIN}};
	uint64_t now = clock_mono_us();
	int ms = -1, r;

	if (c->lost)
		return lost(c, e);
	r = http2_pipe_flush(&c->pipe);
	if (r < 0 && r != -EAGAIN && r != -EPIPE) /* what the server said last may be unread */
		return lost(c, e);
	if (r == -EAGAIN)
		p[0].events |= POLLOUT;
	if (now >= deadline)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "the daemon did not answer in time");
	if (deadline != USEC_FOREVER)
		ms = (int)MIN((deadline - now) / 1000 + 1, UINT64_C(1) << 30);
	r = poll(p, c->cancel_fd >= 0 ? 2 : 1, ms);
	if (r < 0)
		return errno == EINTR ? 0 : lost(c, e);
	if (c->cancel_fd >= 0 && p[1].revents)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	if (p[0].revents & (POLLIN | POLLHUP | POLLERR)) {
		r = http2_pipe_read(&c->pipe);
		if (r < 0 && r != -EAGAIN)
			return lost(c, e);
	}
	return 0;
}

/* --- calls --- */

#define NV(name, value) (nghttp2_nv) HTTP2_NV(name, value, strlen(value))

int grpc_client_stream_open(struct grpc_client *c, const char *method, const void *request,
			    size_t n, uint64_t timeout_us, struct grpc_stream **ret, struct err *e)
{
	struct grpc_stream *s = xcalloc(1, sizeof(*s));
	nghttp2_data_provider provider = {.source.ptr = s, .read_callback = on_read};
	char timeout[GRPC_TIMEOUT_LEN];
	uint8_t prefix[GRPC_PREFIX];
	nghttp2_nv nv[8];
	size_t k = 0;

	nv[k++] = NV(":method", "POST");
	nv[k++] = NV(":scheme", "http");
	nv[k++] = NV(":path", method);
	nv[k++] = NV(":authority", "localhost");
	nv[k++] = NV("content-type", "application/grpc");
	nv[k++] = NV("user-agent", "gantry/" GANTRY_VERSION);
	nv[k++] = NV("te", "trailers");
	s->deadline = USEC_FOREVER;
	if (timeout_us != USEC_FOREVER) {
		nv[k++] = NV("grpc-timeout", grpc_format_timeout(timeout_us, timeout));
		s->deadline = clock_mono_us() + timeout_us;
	}
	grpc_put_prefix(prefix, (uint32_t)n);
	strbuf_add(&s->tx, prefix, sizeof(prefix));
	strbuf_add(&s->tx, request, n);
	s->client = c;
	s->id = nghttp2_submit_request(c->pipe.session, NULL, nv, k, &provider, s);
	if (s->id < 0) {
		int id = s->id;

		s->id = 0;
		grpc_client_stream_close(s);
		return err_set(e, -EIO, GRPC_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror(id));
	}
	*ret = s;
	return 0;
}

/* A whole message is there: 1 with its place. */
static int take_message(struct grpc_stream *s, struct strbuf *ret, struct err *e)
{
	size_t there = s->rx.len - s->rx_off;
	const uint8_t *p;
	uint32_t len;

	if (s->too_large)
		return err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			       "the daemon's answer is too large");
	if (there < GRPC_PREFIX)
		return 0;
	p = (const uint8_t *)s->rx.s + s->rx_off;
	len = grpc_get_length(p);
	if (*p != 0 || len > GRPC_MESSAGE_MAX)
		return err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			       "the daemon's answer is compressed or larger than %u MiB",
			       GRPC_MESSAGE_MAX >> 20);
	if (there < GRPC_PREFIX + (size_t)len)
		return 0;
	strbuf_reset(ret);
	strbuf_add(ret, p + GRPC_PREFIX, len);
	s->rx_off += GRPC_PREFIX + len;
	if (s->rx_off == s->rx.len || s->rx_off > RX_STEP) {
		s->rx.len -= s->rx_off;
		memmove(s->rx.s, s->rx.s + s->rx_off, s->rx.len);
		s->rx_off = 0;
	}
	return 1;
}

static int final_status(struct grpc_stream *s, struct err *e)
{
	if (!s->has_status)
		return err_set(e, -EPROTO, GRPC_UNAVAILABLE,
			       s->http_status && s->http_status != 200
				       ? "the daemon answered with HTTP status %d"
				       : "the daemon ended the call without a status (%d)",
			       s->http_status ? s->http_status : (int)s->reset);
	if (s->code == GRPC_OK)
		return s->rx.len == s->rx_off ? 0
					      : err_set(e, -EPROTO, GRPC_INTERNAL,
							"the daemon's answer ends in the middle");
	return err_set(e, -EREMOTEIO, s->code, "%s", str_or_empty(s->message.s));
}

int grpc_client_stream_next(struct grpc_stream *s, struct strbuf *ret, struct err *e)
{
	for (;;) {
		int r = take_message(s, ret, e);

		if (r != 0)
			return r;
		if (s->over)
			return final_status(s, e);
		r = pump(s->client, s->deadline, e);
		if (r < 0)
			return r;
	}
}

struct grpc_stream *grpc_client_stream_close(struct grpc_stream *s)
{
	if (!s)
		return NULL;
	if (s->id > 0 && !s->over) {
		nghttp2_session_set_stream_user_data(s->client->pipe.session, s->id, NULL);
		nghttp2_submit_rst_stream(s->client->pipe.session, NGHTTP2_FLAG_NONE, s->id,
					  NGHTTP2_CANCEL);
		if (!s->client->lost)
			http2_pipe_flush(&s->client->pipe);
	} else if (s->id > 0) {
		nghttp2_session_set_stream_user_data(s->client->pipe.session, s->id, NULL);
	}
	strbuf_fini(&s->tx);
	strbuf_fini(&s->rx);
	strbuf_fini(&s->message);
	free(s);
	return NULL;
}

int grpc_client_call(struct grpc_client *c, const char *method, const void *request, size_t n,
		     uint64_t timeout_us, struct strbuf *ret, struct err *e)
{
	_cleanup_grpc_stream_ struct grpc_stream *s = NULL;
	struct strbuf rest = STRBUF_NULL;
	int r = grpc_client_stream_open(c, method, request, n, timeout_us, &s, e);

	if (r < 0)
		return r;
	r = grpc_client_stream_next(s, ret, e);
	if (r == 0)
		return err_set(e, -EPROTO, GRPC_INTERNAL, "the daemon's answer is empty");
	if (r > 0) /* the status comes after the message */
		r = grpc_client_stream_next(s, &rest, e);
	strbuf_fini(&rest);
	return r > 0 ? err_set(e, -EPROTO, GRPC_INTERNAL, "the daemon answered twice") : r;
}
