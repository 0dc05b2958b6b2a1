/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of the gRPC server: what its headers ask for, its handler's coroutine, its reply.
 * See grpc.h and server.h.
 *
 * HTTP messaging checks of nghttp2 are off, because it refuses authorities that old gRPC
 * clients send ("/run/x.sock", empty); what we need of method, path and headers is checked
 * here.  Nothing is answered before the request has ended: some clients take an early answer
 * for a broken stream.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "wire/server.h"

#define HEADER_OVERHEAD 32	  /* of a field (RFC 9113, 6.5.2) */
#define PIECES_MAX (128ull << 10) /* a larger buffer is the system's own, once it has grown */
/* A streaming handler waits while more is unsent: what is gathered in one turn of the loop. */
#define STREAM_BUFFER_MAX (256 << 10)

#define NV(name, value) HTTP2_NV(name, value, strlen(value))

struct grpc_call *grpc_call_new(struct grpc_conn *k, int32_t stream)
{
	struct grpc_call *c = xcalloc(1, sizeof(*c));

	c->conn = k;
	c->server = k->server;
	c->stream = stream;
	c->deadline = USEC_FOREVER;
	c->moved = clock_mono_us();
	c->http_status = "200";
	c->server->n_open++;
	k->n_open++;
	list_append(&k->calls, &c->link);
	return c;
}

/* Counts bytes that are kept; false where they would be too many. */
static bool hold(struct grpc_call *c, size_t n)
{
	struct grpc_server *s = c->server;

	if (!c->conn ||
	    !grpc_server_room(s, s->held + n, GRPC_HELD_MAX, c->conn->held + n, GRPC_SHARE_HELD))
		return false;
	s->held += n;
	c->conn->held += n;
	c->held += n;
	c->most = MAX(c->most, c->held);
	return true;
}

static void release(struct grpc_call *c, size_t n)
{
	c->server->held -= n;
	c->held -= n;
	if (c->conn)
		c->conn->held -= n;
}

bool grpc_call_waits(const struct grpc_call *c)
{
	return !c->request_done || (c->finished && !c->closed);
}

static size_t unsent(const struct grpc_call *c)
{
	return c->head_left + c->tx.len - c->tx_off;
}

static void drop_request(struct grpc_call *c)
{
	release(c, c->rx.len);
	strbuf_fini(&c->rx);
}

static void call_free(struct grpc_call *c)
{
	loop_timer_clear(&c->timer);
	release(c, c->held);
	if (c->method)
		c->server->n_calls--;
	c->server->n_open--;
	grpc_server_freed(c->server, sizeof(*c) + MIN(c->most, PIECES_MAX));
	arena_fini(&c->arena);
	strbuf_fini(&c->rx);
	strbuf_fini(&c->tx);
	free(c->message);
	free(c);
}

void grpc_call_detach(struct grpc_call *c)
{
	list_remove(&c->link);
	c->conn->n_open--;
	c->conn->n_calls -= c->method != NULL;
	c->conn->held -= c->held;
	c->conn = NULL;
	loop_timer_clear(&c->timer);
	release(c, unsent(c));
	strbuf_fini(&c->tx);
	c->tx_off = c->head_left = 0;
	if (c->co)
		co_cancel(c->co, -ECANCELED);
	else
		call_free(c);
}

const uint8_t *grpc_call_request(const struct grpc_call *c, size_t *ret_len)
{
	*ret_len = c->rx.len > GRPC_PREFIX ? c->rx.len - GRPC_PREFIX : 0;
	return c->rx.s ? (const uint8_t *)c->rx.s + GRPC_PREFIX : (const uint8_t *)"";
}

struct arena *grpc_call_arena(struct grpc_call *c)
{
	return &c->arena;
}

void *grpc_call_server_arg(const struct grpc_call *c)
{
	return c->server->cfg.arg;
}

/* --- reply --- */

/* grpc-status and grpc-message; `text` keeps the encoded message alive. Number of headers. */
static size_t status_headers(const struct grpc_call *c, nghttp2_nv nv[2], char number[4],
			     struct strbuf *text)
{
	snprintf(number, 4, "%d", (int)c->code);
	nv[0] = (nghttp2_nv)NV("grpc-status", number);
	if (str_empty(c->message))
		return 1;
	grpc_encode_message(c->message, text);
	nv[1] = (nghttp2_nv)NV("grpc-message", text->s);
	return 2;
}

static void submit_trailers(nghttp2_session *session, struct grpc_call *c)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	nghttp2_nv nv[2];
	char number[4];

	nghttp2_submit_trailer(session, c->stream, nv, status_headers(c, nv, number, &text));
}

/* Moves up to `n` unsent bytes to `to`; how many. */
static size_t take_bytes(struct grpc_call *c, uint8_t *to, size_t n)
{
	size_t head = MIN(n, c->head_left), body = MIN(n - head, c->tx.len - c->tx_off);

	memcpy(to, c->head + sizeof(c->head) - c->head_left, head);
	c->head_left -= head;
	if (body)
		memcpy(to + head, c->tx.s + c->tx_off, body);
	c->tx_off += body;
	c->moved = clock_mono_us();
	if (c->tx_off == c->tx.len) {
		strbuf_fini(&c->tx);
		c->tx_off = 0;
	} else if (!c->finished && c->tx_off > c->tx.len / 2) { /* more will be appended */
		c->tx.len -= c->tx_off;
		memmove(c->tx.s, c->tx.s + c->tx_off, c->tx.len);
		c->tx_off = 0;
	}
	release(c, head + body);
	return head + body;
}

static ssize_t on_read_data(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t n,
			    uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct grpc_call *c = source->ptr;

	(void)stream;
	(void)arg;
	if (!unsent(c) && !c->finished) {
		c->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	n = take_bytes(c, buf, n);
	if (!unsent(c) && c->finished) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		submit_trailers(session, c);
	}
	/* A handler that waits for room looks again. */
	if (c->co && unsent(c) < STREAM_BUFFER_MAX)
		co_wake(c->co);
	return (ssize_t)n;
}

static void send_headers(struct grpc_call *c)
{
	nghttp2_nv nv[] = {NV(":status", "200"), NV("content-type", "application/grpc")};
	nghttp2_data_provider data = {.source.ptr = c, .read_callback = on_read_data};

	c->headers_sent = true;
	nghttp2_submit_response(c->conn->pipe.session, c->stream, nv, ARRAY_SIZE(nv), &data);
}

/* Trailers-Only: one HEADERS frame is the answer and ends the stream. */
static void send_status_only(struct grpc_call *c)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	char number[4];
	nghttp2_nv nv[6] = {NV(":status", c->http_status), NV("content-type", "application/grpc")};
	size_t n = 2 + status_headers(c, nv + 2, number, &text);

	if (c->foreign_encoding)
		nv[n++] = (nghttp2_nv)NV("grpc-accept-encoding", "identity");
	if (streq(c->http_status, "405"))
		nv[n++] = (nghttp2_nv)NV("allow", "POST");
	c->headers_sent = true;
	nghttp2_submit_response(c->conn->pipe.session, c->stream, nv, n, NULL);
}

static void resume(struct grpc_call *c)
{
	if (c->deferred) {
		c->deferred = false;
		nghttp2_session_resume_data(c->conn->pipe.session, c->stream);
	}
	grpc_conn_flush_later(c->conn);
}

void grpc_call_finish(struct grpc_call *c, enum grpc_code code, const char *message)
{
	if (!c->conn || c->finished)
		return;
	c->conn->proven |= c->method != NULL;
	c->finished = true;
	c->moved = clock_mono_us();
	c->code = code;
	c->message = xstrdup(message);
	loop_timer_clear(&c->timer);
	if (!c->headers_sent)
		send_status_only(c);
	resume(c);
}

/* Counts a message as held, or ends the call where there may not be such a one. */
static int hold_message(struct grpc_call *c, size_t n, struct err *e)
{
	int r = 0;

	if (n > GRPC_MESSAGE_MAX)
		r = err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			    "the reply has %zu bytes, more than the limit of %u", n,
			    GRPC_MESSAGE_MAX);
	else if (!hold(c, GRPC_PREFIX + n))
		r = err_set(e, -ENOBUFS, GRPC_RESOURCE_EXHAUSTED,
			    "the replies that wait for their clients have more than %llu bytes",
			    (unsigned long long)GRPC_HELD_MAX);
	if (r < 0)
		grpc_call_finish(c, e->code, e->msg);
	return r;
}

void grpc_call_reply(struct grpc_call *c, struct strbuf *message)
{
	struct err e = ERR_NULL;

	if (!c->conn || c->finished || hold_message(c, message->len, &e) < 0)
		return;
	c->conn->proven = true;
	grpc_put_prefix(c->head, (uint32_t)message->len);
	c->head_left = sizeof(c->head);
	c->tx = *message;
	*message = STRBUF_NULL;
	c->finished = true;
	c->moved = clock_mono_us();
	c->code = GRPC_OK;
	loop_timer_clear(&c->timer);
	send_headers(c);
	grpc_conn_flush_later(c->conn);
}

int grpc_call_send(struct grpc_call *c, const void *p, size_t n, struct err *e)
{
	uint8_t prefix[GRPC_PREFIX];
	struct err why = ERR_NULL;
	int r;

	while (c->conn && !c->finished && unsent(c) > STREAM_BUFFER_MAX) {
		r = co_wait();
		if (r < 0)
			return err_errno(e, r, "send to the client");
	}
	if (!c->conn || c->finished)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "the client is gone");
	r = hold_message(c, n, &why);
	if (r < 0)
		return err_set(e, r, why.code, "%s", why.msg);
	grpc_put_prefix(prefix, (uint32_t)n);
	strbuf_add(&c->tx, prefix, sizeof(prefix));
	strbuf_add(&c->tx, p, n);
	if (!c->headers_sent)
		send_headers(c);
	resume(c);
	return 0;
}

/* --- request --- */

static void refuse(struct grpc_call *c, const char *http_status, enum grpc_code code,
		   const char *why)
{
	if (c->refuse_why)
		return;
	c->http_status = http_status;
	c->refuse = code;
	c->refuse_why = why;
	drop_request(c);
}

static bool is(const uint8_t *p, size_t n, const char *s)
{
	return n == strlen(s) && memcmp(p, s, n) == 0;
}

/* "application/grpc", of which "+proto" is the form that is spoken here. */
static bool is_grpc_type(const uint8_t *v, size_t n)
{
	static const char type[] = "application/grpc", proto[] = "+proto";

	if (n < strlen(type) || memcmp(v, type, strlen(type)) != 0)
		return false;
	v += strlen(type);
	n -= strlen(type);
	if (n >= strlen(proto) && memcmp(v, proto, strlen(proto)) == 0) {
		v += strlen(proto);
		n -= strlen(proto);
	}
	return n == 0 || *v == ';';
}

static void put_path(struct grpc_call *c, const uint8_t *v, size_t n)
{
	if (n >= sizeof(c->path) || n == 0 || *v != '/' || memchr(v, 0, n) ||
	    !str_is_utf8((const char *)v, n))
		refuse(c, "200", GRPC_UNIMPLEMENTED, "the path is none of a method");
	else if (*c->path)
		refuse(c, "200", GRPC_INVALID_ARGUMENT, "two paths");
	else
		memcpy(c->path, v, n);
}

static void put_timeout(struct grpc_call *c, const uint8_t *v, size_t n)
{
	uint64_t us;

	if (grpc_parse_timeout((const char *)v, n, &us))
		c->deadline = clock_mono_us() + us;
	else
		refuse(c, "200", GRPC_INVALID_ARGUMENT, "grpc-timeout is malformed");
}

void grpc_call_put_header(struct grpc_call *c, const uint8_t *name, size_t n, const uint8_t *v,
			  size_t vn)
{
	_Static_assert(HTTP2_HEADERS_MAX == 16384, "the text below");

	c->header_bytes += n + vn + HEADER_OVERHEAD;
	if (c->header_bytes > HTTP2_HEADERS_MAX) {
		refuse(c, "431", GRPC_RESOURCE_EXHAUSTED,
		       "the headers are larger than the limit of 16384 bytes");
		return;
	}
	if (is(name, n, ":method")) {
		c->is_post = is(v, vn, "POST");
	} else if (is(name, n, ":path")) {
		put_path(c, v, vn);
	} else if (is(name, n, "content-type")) {
		c->is_grpc = is_grpc_type(v, vn);
	} else if (is(name, n, "te")) {
		c->te_trailers = is(v, vn, "trailers");
	} else if (is(name, n, "grpc-timeout")) {
		put_timeout(c, v, vn);
	} else if (is(name, n, "grpc-encoding") && !is(v, vn, "identity")) {
		c->foreign_encoding = true;
		refuse(c, "200", GRPC_UNIMPLEMENTED, "the only grpc-encoding here is identity");
	}
}

void grpc_call_put_data(struct grpc_call *c, const uint8_t *p, size_t n)
{
	_Static_assert(GRPC_MESSAGE_MAX == 16u << 20, "the text below");

	c->moved = clock_mono_us();
	if (c->refuse_why)
		return;
	if (c->rx.len + n > GRPC_PREFIX + (size_t)GRPC_MESSAGE_MAX)
		refuse(c, "200", GRPC_RESOURCE_EXHAUSTED,
		       "the request is larger than the limit of 16777216 bytes");
	else if (!hold(c, n))
		refuse(c, "200", GRPC_RESOURCE_EXHAUSTED,
		       "too many bytes of requests and replies are in memory");
	else
		strbuf_add(&c->rx, p, n);
}

/* What is wrong with a whole request, if anything. */
static void check_request(struct grpc_call *c)
{
	const uint8_t *p = (const uint8_t *)c->rx.s;

	if (!c->is_post)
		refuse(c, "405", GRPC_INTERNAL, "this is a gRPC server: the method is POST");
	else if (!c->is_grpc)
		refuse(c, "415", GRPC_INVALID_ARGUMENT,
		       "this is a gRPC server: the content-type is application/grpc");
	else if (!c->te_trailers)
		refuse(c, "200", GRPC_INVALID_ARGUMENT,
		       "\"te: trailers\" is missing: something between us speaks no gRPC");
	else if (!*c->path)
		refuse(c, "200", GRPC_UNIMPLEMENTED, "the path is none of a method");
	else if (c->rx.len >= GRPC_PREFIX && p[0] != 0)
		refuse(c, "200", GRPC_INTERNAL,
		       "the message is compressed, but no grpc-encoding was agreed on");
	else if (c->rx.len < GRPC_PREFIX || c->rx.len - GRPC_PREFIX != grpc_get_length(p))
		refuse(c, "200", GRPC_INVALID_ARGUMENT, "the request is not exactly one message");
}

/* Why it gets no handler now. */
static void check_server(struct grpc_call *c)
{
	struct grpc_server *s = c->server;

	if (s->draining)
		refuse(c, "200", GRPC_UNAVAILABLE, "the server is going down");
	else if (!grpc_server_room(s, s->n_calls + 1, s->cfg.max_requests, c->conn->n_calls + 1,
				   GRPC_SHARE_REQUESTS))
		refuse(c, "200", GRPC_RESOURCE_EXHAUSTED,
		       "too many requests in flight (limits.max_requests)");
	else if (clock_mono_us() >= c->deadline)
		refuse(c, "200", GRPC_DEADLINE_EXCEEDED, "the client's deadline has passed");
}

static void on_deadline(struct loop_timer *t)
{
	struct grpc_call *c = container_of(t, struct grpc_call, timer);

	grpc_call_finish(c, GRPC_DEADLINE_EXCEEDED, "the client's deadline has passed");
	if (c->co)
		co_cancel(c->co, -ETIMEDOUT);
}

static void run_call(void *arg)
{
	struct grpc_call *c = arg;
	struct grpc_server *s = c->server;

	c->co = co_self();
	s->n_running++;
	s->cfg.handler(c, c->method);
	s->n_running--;
	c->co = NULL;
	grpc_call_finish(c, GRPC_INTERNAL, "the handler gave no answer");
	if (c->conn) { /* what is left of it is the reply */
		drop_request(c);
		arena_fini(&c->arena);
	} else {
		call_free(c);
	}
	grpc_server_check(s);
}

void grpc_call_start(struct grpc_call *c)
{
	struct grpc_server *s = c->server;

	c->started = true;
	check_request(c);
	if (!c->refuse_why)
		check_server(c);
	if (c->refuse_why) {
		grpc_call_finish(c, c->refuse, c->refuse_why);
		return;
	}
	c->method = s->cfg.lookup(s->cfg.arg, c->path);
	if (!c->method) {
		_cleanup_free_ char *text = xasprintf("unknown method %s", c->path);

		grpc_call_finish(c, GRPC_UNIMPLEMENTED, text);
		return;
	}
	s->n_calls++;
	c->conn->n_calls++;
	if (c->deadline != USEC_FOREVER)
		loop_timer_set(s->loop, &c->timer, c->deadline, on_deadline);
	co_start(s->loop, run_call, c);
}
