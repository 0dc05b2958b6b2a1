/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the gRPC server: from headers and bytes to a handler's coroutine, and from its
 * answer to frames.  See grpc.h and http2_server.h.
 *
 * call_header() and call_data() run inside callbacks of nghttp2 and only take notes; all
 * else runs outside.  The one exception is the trailer, which nghttp2 wants submitted from
 * inside the data source's callback.
 *
 * nghttp2's own checks of HTTP messages are off (http2_server.c says why), so method, path
 * and headers are checked here.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "wire/http2_server.h"

#define REQUEST_GROW 16384 /* least step in which a request's buffer grows */

static const char grpc_type[] = "application/grpc";

/* --- life --- */

struct grpc_call *call_new(struct conn *k, int32_t stream)
{
	struct grpc_call *c;

	if (k->server->n_calls >= GRPC_CALLS_MAX)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->conn = k;
	c->server = k->server;
	c->peer = k->peer;
	c->stream = stream;
	c->deadline = USEC_FOREVER;
	c->server->n_calls++;
	list_init(&c->note);
	list_append(&k->calls, &c->link);
	return c;
}

static void drop_request(struct grpc_call *c)
{
	c->server->request_bytes -= c->rx_cap;
	free(c->rx);
	c->rx = NULL;
	c->rx_len = c->rx_cap = 0;
}

static void drop_reply(struct grpc_call *c)
{
	c->server->reply_bytes -= c->tx.len - c->tx_off;
	strbuf_fini(&c->tx);
	c->tx_off = 0;
}

static void call_free(struct grpc_call *c)
{
	struct grpc_server *s = c->server;

	drop_request(c);
	drop_reply(c);
	loop_timer_clear(&c->timer);
	arena_fini(&c->arena);
	free(c->message);
	free(c);
	s->n_calls--;
}

void call_detach(struct grpc_call *c)
{
	list_remove(&c->link);
	list_remove(&c->note);
	c->conn = NULL;
	loop_timer_clear(&c->timer);
	drop_reply(c);
	if (!c->co)
		call_free(c);
	else if (!c->finished)
		co_cancel(c->co, -ECANCELED);
	else
		co_wake(c->co); /* one that waits in grpc_call_send() */
}

/* --- the request --- */

static void refuse(struct grpc_call *c, enum grpc_code code, const char *why)
{
	if (c->refuse_why)
		return;
	c->refuse = code;
	c->refuse_why = why;
	drop_request(c);
}

static bool is(const uint8_t *p, size_t n, const char *s)
{
	return n == strlen(s) && memcmp(p, s, n) == 0;
}

static void header_path(struct grpc_call *c, const uint8_t *value, size_t n)
{
	if (c->has_path) {
		refuse(c, GRPC_INTERNAL, "the request has two paths");
		return;
	}
	c->has_path = true;
	if (n > GRPC_PATH_MAX || n == 0 || value[0] != '/' || memchr(value, 0, n))
		refuse(c, GRPC_UNIMPLEMENTED, "the path is none of a method:");
	else
		memcpy(c->path, value, n);
}

static void header_timeout(struct grpc_call *c, const uint8_t *value, size_t n)
{
	uint64_t us;

	if (!grpc_parse_timeout((const char *)value, n, &us))
		refuse(c, GRPC_INTERNAL, "grpc-timeout is malformed");
	else
		c->deadline = clock_mono_us() + us;
}

/* "application/grpc", with or without "+proto" and ";parameters". */
static bool is_grpc_type(const uint8_t *value, size_t n)
{
	const size_t len = sizeof(grpc_type) - 1;

	return n >= len && memcmp(value, grpc_type, len) == 0 &&
	       (n == len || value[len] == '+' || value[len] == ';');
}

void call_header(struct grpc_call *c, const uint8_t *name, size_t n, const uint8_t *value,
		 size_t vn)
{
	c->header_bytes += n + vn + 32;
	if (c->header_bytes > HTTP2_HEADERS_MAX)
		refuse(c, GRPC_RESOURCE_EXHAUSTED, "the request's headers are too large");
	else if (is(name, n, ":method"))
		c->is_post = is(value, vn, "POST");
	else if (is(name, n, ":path"))
		header_path(c, value, vn);
	else if (is(name, n, "content-type"))
		c->is_grpc = is_grpc_type(value, vn);
	else if (is(name, n, "te") && !is(value, vn, "trailers"))
		refuse(c, GRPC_INTERNAL, "the te header is not \"trailers\"");
	else if (is(name, n, "grpc-timeout"))
		header_timeout(c, value, vn);
	else if (is(name, n, "grpc-encoding"))
		c->encoded = !is(value, vn, "identity");
}

/* Makes room for up to rx_want bytes; a length that is only claimed costs nothing. */
static bool grow_request(struct grpc_call *c, size_t need)
{
	size_t cap = MIN(c->rx_want, MAX(need, MAX(c->rx_cap * 2, (size_t)REQUEST_GROW)));
	struct grpc_server *s = c->server;

	if (need <= c->rx_cap)
		return true;
	if (s->request_bytes + (cap - c->rx_cap) > GRPC_REQUESTS_BUFFERED_MAX) {
		refuse(c, GRPC_RESOURCE_EXHAUSTED, "too many bytes of requests are in flight");
		return false;
	}
	s->request_bytes += cap - c->rx_cap;
	c->rx = xrealloc(c->rx, cap);
	c->rx_cap = cap;
	return true;
}

void call_data(struct grpc_call *c, const uint8_t *p, size_t n)
{
	size_t take = MIN(n, GRPC_PREFIX - c->n_prefix);

	if (c->refuse_why)
		return;
	memcpy(c->prefix + c->n_prefix, p, take);
	c->n_prefix += take;
	if (c->n_prefix < GRPC_PREFIX)
		return;
	p += take;
	n -= take;
	if (take > 0)
		c->rx_want = grpc_get_length(c->prefix);
	if (c->rx_want > GRPC_MESSAGE_MAX) {
		refuse(c, GRPC_RESOURCE_EXHAUSTED,
		       "the request is larger than the limit of 16777216 bytes");
		return;
	}
	if (n > c->rx_want - c->rx_len) {
		refuse(c, GRPC_INTERNAL, "the request has more than one message");
		return;
	}
	if (n == 0 || !grow_request(c, c->rx_len + n))
		return;
	memcpy(c->rx + c->rx_len, p, n);
	c->rx_len += n;
}

static void check_request(struct grpc_call *c)
{
	struct grpc_server *s = c->server;

	if (c->n_prefix < GRPC_PREFIX || c->rx_len < c->rx_want)
		refuse(c, GRPC_INTERNAL, "the request ends within its message");
	else if (c->prefix[0] > 1 || (c->prefix[0] == 1 && !c->encoded))
		refuse(c, GRPC_INTERNAL, "the message is compressed, but no grpc-encoding says how");
	else if (c->prefix[0] == 1)
		refuse(c, GRPC_UNIMPLEMENTED, "only grpc-encoding identity is supported, for");
	else if (!(c->method = s->cfg.lookup(s->cfg.arg, c->path)))
		refuse(c, GRPC_UNIMPLEMENTED, "unknown method");
	else if (s->n_running >= s->cfg.max_requests)
		refuse(c, GRPC_RESOURCE_EXHAUSTED, "too many requests are in flight");
}

static void run_call(void *arg)
{
	struct grpc_call *c = arg;
	struct grpc_server *s = c->server;

	c->co = co_self();
	s->n_running++;
	s->cfg.handler(c, c->method);
	grpc_call_finish(c, GRPC_UNKNOWN, "the method's handler gave no answer");
	s->n_running--;
	c->co = NULL;
	drop_request(c);
	if (!c->conn)
		call_free(c);
	server_check(s);
}

static void on_deadline(struct loop_timer *t)
{
	struct grpc_call *c = container_of(t, struct grpc_call, timer);

	grpc_call_finish(c, GRPC_DEADLINE_EXCEEDED, "the client's deadline has passed");
	if (c->co)
		co_cancel(c->co, -ETIMEDOUT);
}

/* What is no gRPC at all is answered in HTTP's own words. */
static void answer_http(struct grpc_call *c, const char *status)
{
	nghttp2_nv nv = HTTP2_NV(":status", status, strlen(status));

	c->headers_sent = c->finished = true;
	nghttp2_submit_response(c->conn->pipe.session, c->stream, &nv, 1, NULL);
	conn_flush_later(c->conn);
}

void call_start(struct grpc_call *c)
{
	c->started = true;
	if (!c->is_post || !c->is_grpc) {
		answer_http(c, c->is_post ? "415" : "405");
		return;
	}
	check_request(c);
	if (c->refuse_why) {
		_cleanup_free_ char *text = xasprintf(
			"%s%s%s", c->refuse_why, c->refuse == GRPC_UNIMPLEMENTED ? " " : "",
			c->refuse == GRPC_UNIMPLEMENTED ? c->path : "");

		grpc_call_finish(c, c->refuse, text);
		return;
	}
	if (c->deadline != USEC_FOREVER)
		loop_timer_set(c->server->loop, &c->timer, c->deadline, on_deadline);
	co_start(c->server->loop, run_call, c);
}

const uint8_t *grpc_call_request(const struct grpc_call *c, size_t *ret_len)
{
	*ret_len = c->rx_len;
	return c->rx ? c->rx : (const uint8_t *)"";
}

struct arena *grpc_call_arena(struct grpc_call *c)
{
	return &c->arena;
}

void *grpc_call_server_arg(const struct grpc_call *c)
{
	return c->server->cfg.arg;
}

const char *grpc_call_path(const struct grpc_call *c)
{
	return c->path;
}

struct ucred grpc_call_peer(const struct grpc_call *c)
{
	return c->peer;
}

uint64_t grpc_call_deadline(const struct grpc_call *c)
{
	return c->deadline;
}

/* --- the answer --- */

/* True when an answer can still be given. */
static bool answerable(const struct grpc_call *c)
{
	return c->conn && !c->closed && !c->finished;
}

/* grpc-status and grpc-message; `text` keeps the encoded message alive. Number of headers. */
static size_t status_headers(const struct grpc_call *c, nghttp2_nv nv[2], char number[4],
			     struct strbuf *text)
{
	snprintf(number, 4, "%u", (unsigned)c->code % 100);
	nv[0] = (nghttp2_nv)HTTP2_NV("grpc-status", number, strlen(number));
	if (str_empty(c->message))
		return 1;
	grpc_encode_message(c->message, text);
	nv[1] = (nghttp2_nv)HTTP2_NV("grpc-message", text->s, text->len);
	return 2;
}

static void submit_trailers(nghttp2_session *session, struct grpc_call *c)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	nghttp2_nv nv[2];
	char number[4];

	nghttp2_submit_trailer(session, c->stream, nv, status_headers(c, nv, number, &text));
}

static size_t copy_out(struct grpc_call *c, uint8_t *buf, size_t n)
{
	size_t head = MIN(n, c->tx_prefix_left);
	size_t body = MIN(n - head, c->tx.len - c->tx_off);

	memcpy(buf, c->tx_prefix + GRPC_PREFIX - c->tx_prefix_left, head);
	c->tx_prefix_left -= head;
	if (body)
		memcpy(buf + head, c->tx.s + c->tx_off, body);
	c->tx_off += body;
	c->server->reply_bytes -= body;
	return head + body;
}

static ssize_t on_read_data(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t n,
			    uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct grpc_call *c = source->ptr;

	(void)stream;
	(void)arg;
	n = copy_out(c, buf, n);
	if (c->tx_off == c->tx.len && c->tx_prefix_left == 0) {
		if (c->finished) {
			strbuf_fini(&c->tx);
			*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
			submit_trailers(session, c);
		} else {
			strbuf_reset(&c->tx);
		}
		c->tx_off = 0;
	}
	if (c->co && !c->finished && c->tx.len - c->tx_off <= GRPC_STREAM_BUFFERED_MAX)
		co_wake(c->co); /* it may wait for room */
	if (n == 0 && !c->finished) {
		c->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

static void send_headers(struct grpc_call *c)
{
	nghttp2_nv nv[] = {HTTP2_NV(":status", "200", 3),
			   HTTP2_NV("content-type", grpc_type, sizeof(grpc_type) - 1)};
	nghttp2_data_provider data = {.source.ptr = c, .read_callback = on_read_data};

	c->headers_sent = true;
	nghttp2_submit_response(c->conn->pipe.session, c->stream, nv, ARRAY_SIZE(nv), &data);
}

static void resume(struct grpc_call *c)
{
	if (c->deferred) {
		c->deferred = false;
		nghttp2_session_resume_data(c->conn->pipe.session, c->stream);
	}
	conn_flush_later(c->conn);
}

/* Trailers-Only: one HEADERS frame that ends the stream. */
static void send_status_only(struct grpc_call *c)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	char number[4];
	nghttp2_nv nv[4] = {HTTP2_NV(":status", "200", 3),
			    HTTP2_NV("content-type", grpc_type, sizeof(grpc_type) - 1)};
	size_t n = status_headers(c, nv + 2, number, &text);

	c->headers_sent = true;
	nghttp2_submit_response(c->conn->pipe.session, c->stream, nv, n + 2, NULL);
	conn_flush_later(c->conn);
}

/* At most GRPC_STATUS_MESSAGE_MAX bytes, no UTF-8 character cut in two. owned */
static char *bounded_message(const char *message)
{
	size_t n = strnlen(message, GRPC_STATUS_MESSAGE_MAX + 1);

	if (n > GRPC_STATUS_MESSAGE_MAX) {
		n = GRPC_STATUS_MESSAGE_MAX;
		while (n > 0 && ((unsigned char)message[n] & 0xc0) == 0x80)
			n--;
	}
	return xstrndup(message, n);
}

void grpc_call_finish(struct grpc_call *c, enum grpc_code code, const char *message)
{
	if (!answerable(c))
		return;
	c->finished = true;
	c->code = code;
	c->message = bounded_message(str_or_empty(message));
	loop_timer_clear(&c->timer);
	if (c->headers_sent)
		resume(c);
	else
		send_status_only(c);
}

/* Why a message of `n` bytes cannot go out: the call ends with that. */
static int check_message(struct grpc_call *c, size_t n, struct err *e)
{
	if (n > GRPC_MESSAGE_MAX)
		err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			"the reply of %s has %zu bytes, more than the limit of %u", c->path, n,
			GRPC_MESSAGE_MAX);
	else if (c->server->reply_bytes + n > GRPC_REPLIES_BUFFERED_MAX)
		err_set(e, -ENOBUFS, GRPC_RESOURCE_EXHAUSTED,
			"clients do not read %zu bytes of replies, no room for %zu more",
			c->server->reply_bytes, n);
	else
		return 0;
	grpc_call_finish(c, e->code, e->msg);
	return e->errnum;
}

void grpc_call_reply(struct grpc_call *c, struct strbuf *message)
{
	struct err e = ERR_NULL;

	if (!answerable(c) || check_message(c, message->len, &e) < 0) {
		strbuf_fini(message);
		return;
	}
	grpc_put_prefix(c->tx_prefix, (uint32_t)message->len);
	c->tx_prefix_left = GRPC_PREFIX;
	c->tx = *message;
	*message = STRBUF_NULL;
	c->server->reply_bytes += c->tx.len;
	c->finished = true;
	c->code = GRPC_OK;
	loop_timer_clear(&c->timer);
	send_headers(c);
	conn_flush_later(c->conn);
}

int grpc_call_send(struct grpc_call *c, const void *p, size_t n, struct err *e)
{
	uint8_t prefix[GRPC_PREFIX];
	struct err why = ERR_NULL;
	int r;

	while (answerable(c) && c->tx.len - c->tx_off > GRPC_STREAM_BUFFERED_MAX) {
		r = co_wait();
		if (r < 0)
			return err_errno(e, r, "send a message of %s", c->path);
	}
	if (!answerable(c))
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "the client of %s is gone", c->path);
	r = check_message(c, n, &why);
	if (r < 0)
		return err_set(e, r, why.code, "%s", why.msg);
	grpc_put_prefix(prefix, (uint32_t)n);
	strbuf_add(&c->tx, prefix, sizeof(prefix));
	strbuf_add(&c->tx, p, n);
	c->server->reply_bytes += sizeof(prefix) + n;
	if (c->headers_sent)
		resume(c);
	else
		send_headers(c);
	conn_flush_later(c->conn);
	return 0;
}
