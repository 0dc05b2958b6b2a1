/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC server over nghttp2: see grpc.h.
 *
 * How it hangs together.  nghttp2 never touches the socket: on_io() reads, feeds bytes to
 * nghttp2_session_mem_recv(), and afterwards acts on what its callbacks noted.  Nothing is
 * sent, reset, started or freed inside a callback; that is how others got use-after-free.
 * Output is gathered by flush() at the end of the loop's turn into one write.
 *
 * A call has two lives, its stream and its coroutine, and is freed when both are over.
 *
 * HTTP messaging checks of nghttp2 are off, because it refuses authorities that old gRPC
 * clients send ("/run/x.sock", empty); what we need of method, path and headers is checked
 * here.
 */
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "loop/co.h"
#include "wire/grpc.h"

#define READ_STEP 65536
#define READS_PER_TURN 16
#define FLUSH_STEP 65536	   /* gathered bytes that are worth a write */
#define WINDOW (1 << 20)	   /* receive window of streams and connections */
#define STREAM_BUFFER_MAX (1 << 20) /* a streaming handler waits while more is unsent */
#define PATH_MAX_LEN 256

struct grpc_server {
	struct loop *loop;
	struct grpc_server_config cfg;
	struct loop_io listen;
	int listen_fd;
	struct list conns;
	unsigned n_conns;
	uint32_t n_running; /* coroutines */
	bool draining;
	struct loop_timer drain_timer;
	void (*drained)(void *arg);
	void *drained_arg;
};

struct conn {
	struct grpc_server *server;
	struct list link;
	int fd;
	struct loop_io io;
	nghttp2_session *session;
	struct list calls;
	struct strbuf out;
	size_t out_off;
	struct loop_defer flush;
};

struct grpc_call {
	struct list link;
	struct conn *conn; /* NULL: the stream is over */
	struct grpc_server *server;
	int32_t stream;
	const void *method;
	struct co *co; /* NULL: not started or ended */
	struct arena arena;
	struct strbuf rx;
	struct strbuf tx;
	size_t tx_off;
	struct loop_timer deadline;
	uint64_t timeout_us;
	char path[PATH_MAX_LEN];
	enum grpc_code refuse; /* an answer that needs no handler */
	const char *refuse_why;
	enum grpc_code code;
	char *message; /* of the status; owned */
	bool is_post, is_grpc, has_timeout, request_done, started, closed;
	bool headers_sent, finished, deferred;
};

static void flush_later(struct conn *k);
static void conn_close(struct conn *k);

/* --- calls --- */

static void call_free(struct grpc_call *c)
{
	loop_timer_clear(&c->deadline);
	arena_fini(&c->arena);
	strbuf_fini(&c->rx);
	strbuf_fini(&c->tx);
	free(c->message);
	free(c);
}

static void check_drained(struct grpc_server *s)
{
	if (s->draining && s->n_running == 0 && s->drained && !s->drain_timer.loop) {
		void (*fn)(void *) = s->drained;

		s->drained = NULL;
		fn(s->drained_arg);
	}
}

/* The stream is over: the coroutine is told, or the call is freed. */
static void call_detach(struct grpc_call *c)
{
	list_remove(&c->link);
	c->conn = NULL;
	loop_timer_clear(&c->deadline);
	strbuf_fini(&c->tx);
	c->tx_off = 0;
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

#define NV(n, v, vlen)                                                                     \
	{                                                                                  \
		(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), (vlen),   \
			NGHTTP2_NV_FLAG_NONE                                               \
	}

/* grpc-status and grpc-message; `text` keeps the encoded message alive. Number of headers. */
static size_t status_headers(const struct grpc_call *c, nghttp2_nv nv[2], char number[4],
			     struct strbuf *text)
{
	snprintf(number, 4, "%d", (int)c->code);
	nv[0] = (nghttp2_nv)NV("grpc-status", number, strlen(number));
	if (str_empty(c->message))
		return 1;
	grpc_encode_message(c->message, text);
	nv[1] = (nghttp2_nv)NV("grpc-message", text->s, text->len);
	return 2;
}

static void submit_trailers(nghttp2_session *session, struct grpc_call *c)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	nghttp2_nv nv[2];
	char number[4];

	nghttp2_submit_trailer(session, c->stream, nv, status_headers(c, nv, number, &text));
}

static ssize_t on_read_data(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t n,
			    uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct grpc_call *c = source->ptr;
	size_t left = c->tx.len - c->tx_off;

	(void)stream;
	(void)arg;
	if (left == 0 && !c->finished) {
		c->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	n = MIN(n, left);
	memcpy(buf, c->tx.s + c->tx_off, n);
	c->tx_off += n;
	if (c->tx_off == c->tx.len) {
		strbuf_reset(&c->tx);
		c->tx_off = 0;
		if (c->finished) {
			*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
			submit_trailers(session, c);
		}
	}
	/* A handler that waits for room looks again. */
	if (c->co && c->tx.len - c->tx_off < STREAM_BUFFER_MAX)
		co_wake(c->co);
	return (ssize_t)n;
}

static void send_headers(struct grpc_call *c)
{
	nghttp2_nv nv[] = {NV(":status", "200", 3), NV("content-type", "application/grpc", 16)};
	nghttp2_data_provider data = {.source.ptr = c, .read_callback = on_read_data};

	c->headers_sent = true;
	nghttp2_submit_response(c->conn->session, c->stream, nv, 2, &data);
}

static void resume(struct grpc_call *c)
{
	if (c->deferred) {
		c->deferred = false;
		nghttp2_session_resume_data(c->conn->session, c->stream);
	}
	flush_later(c->conn);
}

static void put_message(struct grpc_call *c, const void *p, size_t n)
{
	uint8_t prefix[GRPC_PREFIX];

	grpc_put_prefix(prefix, (uint32_t)n);
	strbuf_add(&c->tx, prefix, sizeof(prefix));
	strbuf_add(&c->tx, p, n);
}

void grpc_call_finish(struct grpc_call *c, enum grpc_code code, const char *message)
{
	if (!c->conn || c->finished)
		return;
	c->finished = true;
	c->code = code;
	c->message = xstrdup(message);
	loop_timer_clear(&c->deadline);
	if (!c->headers_sent) { /* Trailers-Only: one HEADERS frame ends the stream */
		_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
		char number[4];
		nghttp2_nv nv[4] = {NV(":status", "200", 3),
				    NV("content-type", "application/grpc", 16)};
		size_t n = status_headers(c, nv + 2, number, &text);

		c->headers_sent = true;
		nghttp2_submit_response(c->conn->session, c->stream, nv, n + 2, NULL);
		flush_later(c->conn);
		return;
	}
	resume(c);
}

static int too_large(struct grpc_call *c, size_t n)
{
	char why[160];

	snprintf(why, sizeof(why), "the reply has %zu bytes, more than the limit of %u", n,
		 GRPC_MESSAGE_MAX);
	grpc_call_finish(c, GRPC_RESOURCE_EXHAUSTED, why);
	return -EMSGSIZE;
}

void grpc_call_reply(struct grpc_call *c, struct strbuf *message)
{
	if (!c->conn || c->finished)
		return;
	if (message->len > GRPC_MESSAGE_MAX) {
		too_large(c, message->len);
		return;
	}
	put_message(c, message->s, message->len);
	c->finished = true;
	c->code = GRPC_OK;
	loop_timer_clear(&c->deadline);
	send_headers(c);
	flush_later(c->conn);
}

int grpc_call_send(struct grpc_call *c, const void *p, size_t n, struct err *e)
{
	int r;

	if (n > GRPC_MESSAGE_MAX) {
		too_large(c, n);
		return err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED, "message too large");
	}
	while (c->conn && !c->finished && c->tx.len - c->tx_off > STREAM_BUFFER_MAX) {
		r = co_wait();
		if (r < 0)
			return err_errno(e, r, "send to the client");
	}
	if (!c->conn || c->finished)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "the client is gone");
	put_message(c, p, n);
	if (!c->headers_sent)
		send_headers(c);
	resume(c);
	return 0;
}

static void on_deadline(struct loop_timer *t)
{
	struct grpc_call *c = container_of(t, struct grpc_call, deadline);

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
	if (!c->conn)
		call_free(c);
	check_drained(s);
}

/* Why a call is answered without a handler, or NULL. */
static const char *refusal(struct grpc_call *c, enum grpc_code *ret)
{
	struct grpc_server *s = c->server;

	*ret = c->refuse;
	if (c->refuse_why)
		return c->refuse_why;
	*ret = GRPC_INVALID_ARGUMENT;
	if (!c->is_post || !c->is_grpc)
		return "this is a gRPC server: POST with content-type application/grpc";
	if (c->rx.len < GRPC_PREFIX ||
	    c->rx.len - GRPC_PREFIX != grpc_get_length((const uint8_t *)c->rx.s))
		return "the request is not exactly one message";
	if (c->rx.s[0] != 0) {
		*ret = GRPC_INTERNAL;
		return "the message is compressed, but no grpc-encoding was agreed on";
	}
	c->method = s->cfg.lookup(s->cfg.arg, c->path);
	if (!c->method) {
		*ret = GRPC_UNIMPLEMENTED;
		return "unknown method";
	}
	if (s->draining) {
		*ret = GRPC_UNAVAILABLE;
		return "gantryd is going down";
	}
	if (s->n_running >= s->cfg.max_requests) {
		*ret = GRPC_RESOURCE_EXHAUSTED;
		return "too many requests in flight (limits.max_requests)";
	}
	return NULL;
}

static void call_start(struct grpc_call *c)
{
	enum grpc_code code;
	const char *why = refusal(c, &code);

	c->started = true;
	if (why) {
		_cleanup_free_ char *text = xasprintf(
			"%s%s%s", why, code == GRPC_UNIMPLEMENTED ? " " : "",
			code == GRPC_UNIMPLEMENTED ? c->path : "");

		grpc_call_finish(c, code, text);
		return;
	}
	if (c->has_timeout)
		loop_timer_set(c->server->loop, &c->deadline, clock_mono_us() + c->timeout_us,
			       on_deadline);
	co_start(c->server->loop, run_call, c);
}

/* --- callbacks of nghttp2: they take notes, nothing else --- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct conn *k = arg;
	struct grpc_call *c;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	c = xcalloc(1, sizeof(*c));
	c->conn = k;
	c->server = k->server;
	c->stream = frame->hd.stream_id;
	list_append(&k->calls, &c->link);
	nghttp2_session_set_stream_user_data(session, c->stream, c);
	return 0;
}

static bool is(const uint8_t *p, size_t n, const char *s)
{
	return n == strlen(s) && memcmp(p, s, n) == 0;
}

static void refuse(struct grpc_call *c, enum grpc_code code, const char *why)
{
	if (!c->refuse_why) {
		c->refuse = code;
		c->refuse_why = why;
	}
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t n, const uint8_t *value, size_t vn, uint8_t flags, void *arg)
{
	struct grpc_call *c =
		nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	static const char type[] = "application/grpc";

	(void)flags;
	(void)arg;
	if (!c)
		return 0;
	if (is(name, n, ":method")) {
		c->is_post = is(value, vn, "POST");
	} else if (is(name, n, ":path")) {
		if (vn >= sizeof(c->path) || memchr(value, 0, vn))
			refuse(c, GRPC_UNIMPLEMENTED, "unknown method");
		else
			memcpy(c->path, value, vn);
	} else if (is(name, n, "content-type")) {
		c->is_grpc = vn >= sizeof(type) - 1 && memcmp(value, type, sizeof(type) - 1) == 0;
	} else if (is(name, n, "grpc-timeout")) {
		c->has_timeout = grpc_parse_timeout((const char *)value, vn, &c->timeout_us);
		if (!c->has_timeout)
			refuse(c, GRPC_INVALID_ARGUMENT, "grpc-timeout is malformed");
	} else if (is(name, n, "grpc-encoding")) {
		if (!is(value, vn, "identity"))
			refuse(c, GRPC_UNIMPLEMENTED, "only grpc-encoding identity is supported for");
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p,
		   size_t n, void *arg)
{
	struct grpc_call *c = nghttp2_session_get_stream_user_data(session, stream);

	(void)flags;
	(void)arg;
	if (!c || c->refuse_why)
		return 0;
	if (c->rx.len + n > GRPC_PREFIX + (size_t)GRPC_MESSAGE_MAX) {
		refuse(c, GRPC_RESOURCE_EXHAUSTED,
		       "the request is larger than the limit of 16777216 bytes");
		strbuf_fini(&c->rx);
		return 0;
	}
	strbuf_add(&c->rx, p, n);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct grpc_call *c;

	(void)arg;
	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
		if (c)
			c->request_done = true;
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *arg)
{
	struct grpc_call *c = nghttp2_session_get_stream_user_data(session, stream);

	(void)code;
	(void)arg;
	if (c)
		c->closed = true;
	return 0;
}

/* --- connections --- */

/* Acts on the notes of the callbacks. */
static void conn_act(struct conn *k)
{
	struct grpc_call *c, *tmp;

	list_for_each_safe(c, tmp, &k->calls, link) {
		if (c->closed)
			call_detach(c);
		else if (c->request_done && !c->started)
			call_start(c);
	}
}

/* Gathers what nghttp2 wants to send. 0, or -errno: the session is broken. */
static int gather(struct conn *k)
{
	while (k->out.len - k->out_off < FLUSH_STEP) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(k->session, &p);

		if (n < 0)
			return -EPROTO;
		if (n == 0)
			break;
		strbuf_add(&k->out, p, (size_t)n);
	}
	return 0;
}

static int flush(struct conn *k)
{
	for (;;) {
		ssize_t n;

		if (gather(k) < 0)
			return -EPROTO;
		if (k->out_off == k->out.len)
			break;
		n = send(k->fd, k->out.s + k->out_off, k->out.len - k->out_off,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return loop_io_mod(&k->io, EPOLLIN | EPOLLOUT);
		if (n < 0)
			return -errno;
		k->out_off += (size_t)n;
		if (k->out_off == k->out.len) {
			strbuf_reset(&k->out);
			k->out_off = 0;
		}
	}
	if (k->out.cap > FLUSH_STEP / 4)
		strbuf_fini(&k->out);
	return loop_io_mod(&k->io, EPOLLIN);
}

static bool wants_nothing(const struct conn *k)
{
	return !nghttp2_session_want_read(k->session) && !nghttp2_session_want_write(k->session);
}

static void on_flush(struct loop_defer *d)
{
	struct conn *k = container_of(d, struct conn, flush);

	if (flush(k) < 0 || wants_nothing(k)) {
		conn_close(k);
		return;
	}
	conn_act(k); /* streams that ended with what was sent */
}

static void flush_later(struct conn *k)
{
	loop_defer(k->server->loop, &k->flush, on_flush);
}

static void conn_close(struct conn *k)
{
	struct grpc_server *s = k->server;

	loop_defer_cancel(&k->flush);
	loop_io_del(&k->io);
	while (!list_empty(&k->calls)) {
		struct grpc_call *c = list_first(&k->calls, struct grpc_call, link);

		call_detach(c);
	}
	nghttp2_session_del(k->session);
	fd_close(k->fd);
	strbuf_fini(&k->out);
	list_remove(&k->link);
	s->n_conns--;
	free(k);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct conn *k = container_of(io, struct conn, io);
	static uint8_t buf[READ_STEP];

	(void)events;
	for (int i = 0; i < READS_PER_TURN; i++) {
		ssize_t n = recv(k->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0 || nghttp2_session_mem_recv(k->session, buf, (size_t)n) != n) {
			/* What nghttp2 has to say about a broken peer (GOAWAY) goes out first. */
			if (n > 0)
				(void)flush(k);
			conn_close(k);
			return;
		}
		if ((size_t)n < sizeof(buf))
			break;
	}
	conn_act(k);
	flush_later(k);
}

static int make_session(struct conn *k)
{
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, GRPC_STREAMS_MAX},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 16384},
	};
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	int r;

	if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&opt) != 0)
		abort();
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_option_set_no_http_messaging(opt, 1);
	nghttp2_option_set_max_outbound_ack(opt, 10000);
#ifdef HAVE_NGHTTP2_RESET_RATE
	/* A root-only socket; clients reset a stream for every call that timed out. */
	nghttp2_option_set_stream_reset_rate_limit(opt, 100000, 10000);
#endif
	r = nghttp2_session_server_new2(&k->session, cb, k, opt);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(opt);
	if (r != 0)
		return -ENOMEM;
	nghttp2_submit_settings(k->session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	nghttp2_session_set_local_window_size(k->session, NGHTTP2_FLAG_NONE, 0, WINDOW);
	return 0;
}

static void conn_open(struct grpc_server *s, int fd)
{
	struct conn *k = xcalloc(1, sizeof(*k));

	k->server = s;
	k->fd = fd;
	list_init(&k->calls);
	list_append(&s->conns, &k->link);
	s->n_conns++;
	if (make_session(k) < 0 || loop_io_add(s->loop, &k->io, fd, EPOLLIN, on_io) < 0)
		conn_close(k);
	else
		flush_later(k);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct grpc_server *s = container_of(io, struct grpc_server, listen);

	(void)events;
	for (;;) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		if (s->n_conns >= GRPC_CONNECTIONS_MAX)
			close(fd);
		else
			conn_open(s, fd);
	}
}

/* --- server --- */

int grpc_server_new(struct loop *l, const struct grpc_server_config *cfg, int listen_fd,
		    struct grpc_server **ret, struct err *e)
{
	struct grpc_server *s = xcalloc(1, sizeof(*s));
	int r;

	s->loop = l;
	s->cfg = *cfg;
	s->listen_fd = listen_fd;
	list_init(&s->conns);
	r = loop_io_add(l, &s->listen, listen_fd, EPOLLIN, on_accept);
	if (r < 0) {
		free(s);
		return err_errno(e, r, "watch the listening socket");
	}
	*ret = s;
	return 0;
}

/* The second GOAWAY, once clients had a turn to see the first one. */
static void on_drain_timer(struct loop_timer *t)
{
	struct grpc_server *s = container_of(t, struct grpc_server, drain_timer);
	struct conn *k;

	list_for_each(k, &s->conns, link) {
		nghttp2_submit_goaway(k->session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(k->session),
				      NGHTTP2_NO_ERROR, NULL, 0);
		flush_later(k);
	}
	check_drained(s);
}

void grpc_server_drain(struct grpc_server *s, void (*fn)(void *arg), void *arg)
{
	struct conn *k;

	s->draining = true;
	s->drained = fn;
	s->drained_arg = arg;
	loop_io_del(&s->listen);
	s->listen_fd = fd_close(s->listen_fd);
	list_for_each(k, &s->conns, link) {
		nghttp2_submit_shutdown_notice(k->session);
		flush_later(k);
	}
	loop_timer_set(s->loop, &s->drain_timer, clock_mono_us() + 50 * USEC_PER_MS,
		       on_drain_timer);
}

struct grpc_server *grpc_server_free(struct grpc_server *s)
{
	struct conn *k, *tmp;

	if (!s)
		return NULL;
	s->drained = NULL;
	loop_timer_clear(&s->drain_timer);
	loop_io_del(&s->listen);
	fd_close(s->listen_fd);
	list_for_each_safe(k, tmp, &s->conns, link)
		conn_close(k);
	free(s);
	return NULL;
}
