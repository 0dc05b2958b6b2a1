/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gRPC server's connections: see grpc.h and server.h.
 *
 * on_io() reads and feeds bytes to nghttp2, whose callbacks take notes; afterwards conn_act()
 * acts on them.  Nothing is sent, reset, started or freed inside a callback; that is how
 * others got use-after-free.  Output leaves at the end of the loop's turn, in one write.
 */
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "wire/server.h"

#define READ_TIME (2 * USEC_PER_MS) /* of one connection in one turn */
#define READS_PER_TURN 32	    /* half a window: what is granted anew goes out between */
/* A burst of calls is spread over turns: each may start a process, which takes a millisecond. */
#define STARTS_PER_TURN 16
#define ACKS_MAX 10000			 /* of PING and SETTINGS that wait to be sent */
#define ACCEPT_PAUSE (100 * USEC_PER_MS) /* where there are no descriptors left */
#define RELIEF_EVERY (100 * USEC_PER_MS) /* where room is made, and so many at once */
#define RELIEF_CONNS 16
#define TRIM_MIN (1u << 20) /* bytes that were freed in small pieces, and so long ago */
#define HEAVY 256	    /* calls, or frames to be sent, that leave memory in pieces */
#define CONN_BYTES 16384    /* of a connection, about */
#define TRIM_AFTER USEC_PER_SEC
#define TRIM_LATEST (5 * USEC_PER_SEC) /* where it is not quiet for so long before: */
#define QUIET (100 * USEC_PER_MS)
#define ACCEPTS_PER_TURN 4
#define DRAIN_NOTICE (50 * USEC_PER_MS) /* between the two GOAWAYs */
#define RESETS_BURST 100000		/* by a client whose calls time out; then so many */
#define RESETS_PER_SECOND 10000

static void conn_close(struct grpc_conn *k);
static void conn_act(struct grpc_conn *k);

/* --- callbacks of nghttp2: they take notes, nothing else --- */

static bool is_request(const nghttp2_frame *frame)
{
	return frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct grpc_conn *k = arg;
	struct grpc_server *s = k->server;

	if (!is_request(frame))
		return 0;
	if (grpc_server_room(s, s->n_open + 1, GRPC_CALLS_MAX, k->n_open + 1, GRPC_SHARE_CALLS))
		nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
						     grpc_call_new(k, frame->hd.stream_id));
	else
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
					  NGHTTP2_REFUSED_STREAM);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t n, const uint8_t *value, size_t vn, uint8_t flags, void *arg)
{
	struct grpc_call *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)flags;
	(void)arg;
	if (c && is_request(frame)) /* trailers of a request mean nothing */
		grpc_call_put_header(c, name, n, value, vn);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p,
		   size_t n, void *arg)
{
	struct grpc_call *c = nghttp2_session_get_stream_user_data(session, stream);

	(void)flags;
	(void)arg;
	if (c)
		grpc_call_put_data(c, p, n);
	return 0;
}

/* False where they are too many. */
static bool count_settings(struct grpc_conn *k)
{
	uint64_t now = clock_mono_us();

	if (now - k->settings_since > USEC_PER_SEC) {
		k->settings_since = now;
		k->settings = 0;
	}
	return ++k->settings <= HTTP2_SETTINGS_MAX;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct grpc_call *c;

	if (frame->hd.type == NGHTTP2_SETTINGS && !count_settings(arg)) {
		nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_ENHANCE_YOUR_CALM,
				      NULL, 0);
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
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

static void on_again(struct loop_timer *t)
{
	conn_act(container_of(t, struct grpc_conn, again));
}

static void conn_reap(struct grpc_conn *k)
{
	struct grpc_call *c, *tmp;

	list_for_each_safe (c, tmp, &k->calls, link)
		if (c->closed)
			grpc_call_detach(c);
}

/* Acts on the notes of the callbacks. */
static void conn_act(struct grpc_conn *k)
{
	struct grpc_call *c, *tmp;
	unsigned started = 0;

	conn_reap(k);
	list_for_each_safe (c, tmp, &k->calls, link) {
		if (c->request_done && !c->started && started++ < STARTS_PER_TURN)
			grpc_call_start(c);
	}
	if (started > STARTS_PER_TURN)
		loop_timer_set(k->server->loop, &k->again, clock_mono_us(), on_again);
}

/* Sends what goes out now, and waits for what it must. False: the connection is over. */
static bool conn_flush(struct grpc_conn *k)
{
	int r = http2_pipe_flush(&k->pipe);
	uint32_t events = EPOLLIN;

	k->heavy |= k->n_open > HEAVY ||
		    nghttp2_session_get_outbound_queue_size(k->pipe.session) > HEAVY;
	if (r == -EAGAIN) /* who does not read what it asked for, may not ask for more */
		events = EPOLLOUT | (http2_pipe_clogged(&k->pipe) ? 0 : EPOLLIN);
	else if (r < 0)
		return false;
	return !http2_pipe_over(&k->pipe) && loop_io_mod(&k->io, events) == 0;
}

static void on_flush(struct loop_defer *d)
{
	struct grpc_conn *k = container_of(d, struct grpc_conn, flush);

	if (conn_flush(k))
		conn_act(k); /* streams that ended with what was sent */
	else
		conn_close(k);
}

void grpc_conn_flush_later(struct grpc_conn *k)
{
	loop_defer(k->server->loop, &k->flush, on_flush);
}

static void conn_close(struct grpc_conn *k)
{
	struct grpc_server *s = k->server;
	bool heavy = k->heavy;

	loop_timer_clear(&k->again);
	loop_defer_cancel(&k->flush);
	loop_io_del(&k->io);
	while (!list_empty(&k->calls))
		grpc_call_detach(list_first(&k->calls, struct grpc_call, link));
	http2_pipe_fini(&k->pipe);
	list_remove(&k->link);
	s->n_conns--;
	free(k);
	grpc_server_freed(s, heavy ? TRIM_MIN : CONN_BYTES);
	grpc_server_check(s);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct grpc_conn *k = container_of(io, struct grpc_conn, io);
	uint64_t now = clock_mono_us(), until = now + READ_TIME;
	int n = 0;

	k->server->last_read = now;

	/* Without EPOLLIN asked for, an error still comes: reading says which. */
	for (int i = 0; i < READS_PER_TURN && events & ~(uint32_t)EPOLLOUT; i++) {
		n = http2_pipe_read(&k->pipe);
		if (!http2_read_was_full(n) || http2_pipe_clogged(&k->pipe) ||
		    clock_mono_us() > until)
			break;
		conn_reap(k); /* calls that are over already would be many */
	}
	if (n < 0 && n != -EAGAIN) {
		if (n == -EPROTO) /* what nghttp2 has to say about it (GOAWAY) goes out first */
			http2_pipe_flush(&k->pipe);
		conn_close(k);
		return;
	}
	if (n > 0) {
		list_remove(&k->link);
		list_append(&k->server->conns, &k->link);
	}
	conn_act(k);
	grpc_conn_flush_later(k);
}

static int make_session(struct grpc_conn *k)
{
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, GRPC_STREAMS_MAX},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_HEADERS_MAX},
	};
	nghttp2_session *session;
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
	nghttp2_option_set_max_outbound_ack(opt, ACKS_MAX);
#ifdef HAVE_NGHTTP2_RESET_RATE
	nghttp2_option_set_stream_reset_rate_limit(opt, RESETS_BURST, RESETS_PER_SECOND);
#endif
	r = nghttp2_session_server_new2(&session, cb, k, opt);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(opt);
	if (r != 0)
		return -ENOMEM;
	k->pipe.session = session;
	nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, HTTP2_WINDOW);
	return 0;
}

static void conn_open(struct grpc_server *s, int fd)
{
	struct grpc_conn *k = xcalloc(1, sizeof(*k));

	k->server = s;
	k->pipe.fd = fd;
	list_init(&k->calls);
	list_append(&s->conns, &k->link);
	s->n_conns++;
	if (make_session(k) < 0 || loop_io_add(s->loop, &k->io, fd, EPOLLIN, on_io) < 0)
		conn_close(k);
	else
		grpc_conn_flush_later(k);
}

/* --- where it is getting tight --- */

/* One of its calls has waited for the client for too long. */
static bool is_stale(const struct grpc_conn *k, uint64_t now)
{
	const struct grpc_call *c;

	list_for_each (c, &k->calls, link)
		if (grpc_call_waits(c) && now - c->moved > GRPC_STALE_US)
			return true;
	return false;
}

static void on_relief(struct loop_timer *t)
{
	struct grpc_server *s = container_of(t, struct grpc_server, relief_timer);
	struct grpc_conn *k, *tmp;
	uint64_t now = clock_mono_us();
	unsigned n = 0;

	list_for_each_safe (k, tmp, &s->conns, link)
		if (n < RELIEF_CONNS && is_stale(k, now)) {
			conn_close(k);
			n++;
		}
}

static void relieve(struct grpc_server *s)
{
	if (!s->relief_timer.loop)
		loop_timer_set(s->loop, &s->relief_timer, clock_mono_us() + RELIEF_EVERY,
			       on_relief);
}

bool grpc_server_room(struct grpc_server *s, uint64_t used, uint64_t max, uint64_t own,
		      uint64_t share)
{
	if (used <= max / 4 * 3)
		return true;
	if (own > share)
		return false;
	relieve(s); /* for this one, which asks for little */
	return used <= max;
}

static void on_trim(struct loop_timer *t)
{
	struct grpc_server *s = container_of(t, struct grpc_server, trim_timer);
	uint64_t now = clock_mono_us();

	if (now - s->last_read < QUIET && now < s->trim_until) {
		loop_timer_set(s->loop, t, now + QUIET, on_trim);
		return;
	}
	s->freed_bytes = 0;
	malloc_trim(0);
}

void grpc_server_freed(struct grpc_server *s, size_t bytes)
{
	s->freed_bytes += bytes;
	if (s->freed_bytes < TRIM_MIN || s->freed || s->trim_timer.loop)
		return;
	s->trim_until = clock_mono_us() + TRIM_LATEST;
	loop_timer_set(s->loop, &s->trim_timer, clock_mono_us() + TRIM_AFTER, on_trim);
}

/* A connection without calls. */
static bool is_idle(const struct grpc_conn *k, uint64_t now)
{
	(void)now;
	return list_empty(&k->calls);
}

/* The same, and it has never had an answer. */
static bool is_unproven(const struct grpc_conn *k, uint64_t now)
{
	return !k->proven && is_idle(k, now);
}

/* Closes the connection that is missed least; of its kind, that which has been silent longest.
 * Clients come back. */
static bool make_room(struct grpc_server *s)
{
	static bool (*const kinds[])(const struct grpc_conn *k, uint64_t now) = {is_unproven,
										 is_stale, is_idle};
	uint64_t now = clock_mono_us();
	struct grpc_conn *k;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		list_for_each (k, &s->conns, link)
			if (kinds[i](k, now)) {
				conn_close(k);
				return true;
			}
	return false;
}

static void on_accept_timer(struct loop_timer *t)
{
	struct grpc_server *s = container_of(t, struct grpc_server, accept_timer);

	loop_io_mod(&s->listen, EPOLLIN);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct grpc_server *s = container_of(io, struct grpc_server, listen);

	(void)events;
	/* Not all of them: those that have been closed again have to be seen, too. */
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno != EAGAIN && !make_room(s)) {
			loop_io_mod(&s->listen, 0);
			loop_timer_set(s->loop, &s->accept_timer, clock_mono_us() + ACCEPT_PAUSE,
				       on_accept_timer);
		}
		if (fd < 0)
			return;
		if (s->n_conns < GRPC_CONNECTIONS_MAX || make_room(s))
			conn_open(s, fd);
		else
			close(fd);
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

void grpc_server_check(struct grpc_server *s)
{
	if (s->n_running || s->n_conns)
		return;
	if (s->freed) {
		free(s);
	} else if (s->draining && s->drained && !s->drain_timer.loop) {
		void (*fn)(void *) = s->drained;

		s->drained = NULL;
		fn(s->drained_arg);
	}
}

/* The second GOAWAY, once clients had a turn to see the first one. */
static void on_drain_timer(struct loop_timer *t)
{
	struct grpc_server *s = container_of(t, struct grpc_server, drain_timer);
	struct grpc_conn *k;
	struct grpc_call *c;

	list_for_each (k, &s->conns, link) {
		nghttp2_submit_goaway(k->pipe.session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(k->pipe.session),
				      NGHTTP2_NO_ERROR, NULL, 0);
		list_for_each (c, &k->calls, link)
			if (!c->request_done) /* half of one is not waited for */
				nghttp2_submit_rst_stream(k->pipe.session, NGHTTP2_FLAG_NONE,
							  c->stream, NGHTTP2_REFUSED_STREAM);
		grpc_conn_flush_later(k);
	}
	grpc_server_check(s);
}

void grpc_server_drain(struct grpc_server *s, void (*fn)(void *arg), void *arg)
{
	struct grpc_conn *k;

	s->draining = true;
	s->drained = fn;
	s->drained_arg = arg;
	loop_timer_clear(&s->accept_timer);
	loop_io_del(&s->listen);
	s->listen_fd = fd_close(s->listen_fd);
	list_for_each (k, &s->conns, link) {
		nghttp2_submit_shutdown_notice(k->pipe.session);
		grpc_conn_flush_later(k);
	}
	loop_timer_set(s->loop, &s->drain_timer, clock_mono_us() + (s->n_conns ? DRAIN_NOTICE : 0),
		       on_drain_timer);
}

struct grpc_server *grpc_server_free(struct grpc_server *s)
{
	struct grpc_conn *k, *tmp;

	if (!s)
		return NULL;
	s->drained = NULL;
	loop_timer_clear(&s->drain_timer);
	loop_timer_clear(&s->accept_timer);
	loop_io_del(&s->listen);
	s->listen_fd = fd_close(s->listen_fd);
	list_for_each_safe (k, tmp, &s->conns, link)
		conn_close(k);
	loop_timer_clear(&s->relief_timer);
	loop_timer_clear(&s->trim_timer);
	s->freed = true;
	grpc_server_check(s);
	return NULL;
}
