/* SPDX-License-Identifier: Apache-2.0 */
/* One client's connection: see server.h. */
#include "server.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "exec.h"
#include "forward.h"

/* --- the daemon --- */

/* The daemon answers so many at once and refuses more: the others wait here. */
static void send_queued(struct server *sv)
{
	struct call *c;

	list_for_each (c, &sv->calls, link) {
		if (sv->n_asked >= STREAM_CALLS_MAX || !sv->daemon.loop)
			return;
		if (!c->queued)
			continue;
		c->queued = false;
		sv->n_asked++;
		ipc_conn_send(&sv->daemon, &c->out);
	}
}

static struct call *find_call(struct server *sv, uint32_t seq)
{
	struct call *c;

	list_for_each (c, &sv->calls, link)
		if (!c->queued && c->seq == seq)
			return c;
	return NULL; /* nobody waits for it any more */
}

static void on_message(struct ipc_conn *conn, struct ipc_in *in)
{
	struct server *sv = container_of(conn, struct server, daemon);
	struct err e = ERR_NULL;
	struct call *c;

	if (in->type != IPC_REPLY)
		return;
	sv->n_asked -= sv->n_asked > 0;
	c = find_call(sv, in->seq);
	if (c) {
		server_uncall(c);
		c->done(c, ipc_reply_error(in, &e) < 0 ? NULL : in, &e);
	}
	send_queued(sv);
}

/* Sessions go on without a daemon. */
static void on_daemon_gone(struct ipc_conn *conn, int reason)
{
	struct server *sv = container_of(conn, struct server, daemon);
	struct err e = ERR_NULL;

	err_set(&e, -ECONNRESET, GRPC_UNAVAILABLE, "gantryd has gone");
	while (!list_empty(&sv->calls)) {
		struct call *c = list_first(&sv->calls, struct call, link);

		server_uncall(c);
		c->done(c, NULL, &e);
	}
	if (sv->ops)
		sv->ops->orphaned(sv);
}

void server_call(struct server *sv, struct call *c, struct ipc_out *o,
		 void (*done)(struct call *c, struct ipc_in *in, const struct err *e))
{
	struct err e = ERR_NULL;

	c->done = done;
	if (!sv->daemon.loop) {
		ipc_out_fini(o);
		err_set(&e, -ECONNRESET, GRPC_UNAVAILABLE, "gantryd has gone");
		done(c, NULL, &e);
		return;
	}
	c->out = *o;
	c->queued = true;
	list_append(&sv->calls, &c->link);
	send_queued(sv);
}

void server_uncall(struct call *c)
{
	list_remove(&c->link);
	if (c->queued)
		ipc_out_fini(&c->out);
	c->queued = false;
}

/* --- the request --- */

void server_finish(struct server *sv)
{
	if (sv->mux)
		mux_finish(sv->mux);
	if (sv->ops)
		sv->ops->stop(sv);
	loop_timer_clear(&sv->timer);
	loop_timer_clear(&sv->pong);
	link_finish(&sv->client);
}

static void refuse(struct server *sv, const struct http_error *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	http_put_error(&b, e);
	link_put(&sv->client, b.s, b.len);
	link_pause(&sv->client, false);
	server_finish(sv);
}

static void on_idle(struct loop_timer *t)
{
	struct server *sv = container_of(t, struct server, timer);
	uint64_t when = sv->mux->active_at + sv->options.idle_timeout_us;

	if (clock_mono_us() < when) {
		loop_timer_set(sv->loop, t, when, on_idle);
		return;
	}
	sv->ops->idle(sv);
}

static uint64_t pong_after(void)
{
	return FAULT_LIMIT("stream-pong-ms", SERVER_PONG_S * 1000) * USEC_PER_MS;
}

/* A client may give a connection up from which it hears nothing, however full its own side is. */
static void on_pong(struct loop_timer *t)
{
	struct server *sv = container_of(t, struct server, pong);

	if (sv->client.paused)
		channels_pong(&sv->channels);
	loop_timer_set(sv->loop, t, clock_mono_us() + pong_after(), on_pong);
}

static void feed(struct server *sv, uint8_t *p, size_t n);

static int http_status(const struct err *e)
{
	switch (e->code) {
	case GRPC_NOT_FOUND:
		return 404;
	case GRPC_INVALID_ARGUMENT:
		return 400;
	case GRPC_PERMISSION_DENIED:
		return 403;
	case GRPC_UNAVAILABLE:
	case GRPC_RESOURCE_EXHAUSTED:
		return 503;
	default:
		return 500;
	}
}

static void on_opened(struct call *c, struct ipc_in *in, const struct err *e)
{
	struct server *sv = container_of(c, struct server, open);
	_cleanup_strbuf_ struct strbuf rest = STRBUF_NULL;
	uint16_t ports[HTTP_PORTS_MAX];
	struct http_error he;
	unsigned n = 0;

	if (!in) {
		http_fail(&he, http_status(e), NULL, "%s", e->msg);
		refuse(sv, &he);
		return;
	}
	if (sv->kind == STREAM_PORT_FORWARD && http_query_ports(&sv->request, ports, &n, &he) < 0) {
		refuse(sv, &he);
		return;
	}
	upgrade_answer(sv);
	loop_timer_clear(&sv->timer);
	if (sv->options.idle_timeout_us != USEC_FOREVER)
		loop_timer_set(sv->loop, &sv->timer, clock_mono_us() + sv->options.idle_timeout_us,
			       on_idle);
	if (sv->websocket)
		loop_timer_set(sv->loop, &sv->pong, clock_mono_us() + pong_after(), on_pong);
	if (sv->kind == STREAM_PORT_FORWARD)
		forward_begin(sv, in, ports, n);
	else
		exec_begin(sv, in);
	strbuf_fini(&sv->head);
	rest = sv->rest;
	sv->rest = STRBUF_NULL;
	link_pause(&sv->client, false);
	if (rest.len)
		feed(sv, (uint8_t *)rest.s, rest.len);
}

static void ask(struct server *sv)
{
	struct ipc_out o;

	sv->opening = true;
	link_pause(&sv->client, true);
	ipc_out_init(&o, STREAM_OPEN, sv->open.seq = ++sv->last_seq);
	ipc_put_u64(&o, STREAM_TAG_KIND, sv->kind);
	ipc_put_str(&o, STREAM_TAG_TOKEN, sv->request.token);
	server_call(sv, &sv->open, &o, on_opened);
}

static void on_head_data(struct server *sv, const uint8_t *p, size_t n)
{
	struct http_error e;
	size_t size;

	strbuf_add(&sv->head, p, n);
	size = http_head_size(sv->head.s, MIN(sv->head.len, (size_t)HTTP_HEAD_MAX));
	if (!size) {
		if (sv->head.len < HTTP_HEAD_MAX)
			return;
		http_fail(&e, 431, NULL, "the request's header has more than %d bytes",
			  HTTP_HEAD_MAX);
		refuse(sv, &e);
		return;
	}
	strbuf_add(&sv->rest, sv->head.s + size, sv->head.len - size);
	if (http_parse(sv->head.s, size, &sv->request, &e) < 0 || upgrade_check(sv, &e) < 0)
		refuse(sv, &e);
	else
		ask(sv);
}

static void on_head_timeout(struct loop_timer *t)
{
	struct server *sv = container_of(t, struct server, timer);
	struct http_error e;

	if (sv->opening) {
		http_fail(&e, 503, NULL, "gantryd does not answer");
		server_uncall(&sv->open);
	} else {
		http_fail(&e, 408, NULL, "the request did not come in %d seconds",
			  SERVER_HEAD_TIMEOUT_S);
	}
	refuse(sv, &e);
}

/* --- after it --- */

static int on_tunnel(struct channels *w, const uint8_t *p, size_t n, struct err *e)
{
	return spdy_feed(&container_of(w, struct server, channels)->spdy, p, n, e);
}

static void feed(struct server *sv, uint8_t *p, size_t n)
{
	struct err e = ERR_NULL;
	int r;

	sv->channels.tunnel = on_tunnel;
	r = sv->websocket ? channels_feed(&sv->channels, p, n, &e) : spdy_feed(&sv->spdy, p, n, &e);
	if (r == -EPROTO)
		log_info("a client does not keep to the protocol: %s", e.msg);
	if (r < 0)
		server_finish(sv);
}

static void on_client_data(struct link *l, uint8_t *p, size_t n)
{
	struct server *sv = container_of(l, struct server, client);

	if (sv->mux)
		feed(sv, p, n);
	else if (sv->opening)
		strbuf_add(&sv->rest, p, n); /* one read, before the pause */
	else
		on_head_data(sv, p, n);
}

static void on_client_room(struct link *l)
{
	struct server *sv = container_of(l, struct server, client);

	if (sv->ops)
		sv->ops->room(sv);
}

static void on_client_gone(struct link *l, int reason)
{
	struct server *sv = container_of(l, struct server, client);

	loop_stop(sv->loop, 0);
}

int server_open(struct server *sv, struct loop *l, int daemon_fd, int client_fd, struct tls *tls,
		const struct server_options *o)
{
	int r;

	*sv = (struct server){.loop = l, .options = *o};
	list_init(&sv->calls);
	list_init(&sv->open.link);
	sv->client.patience_us = o->idle_timeout_us;
	sv->client.on_data = on_client_data;
	sv->client.on_room = on_client_room;
	sv->client.on_gone = on_client_gone;
	r = ipc_conn_open(&sv->daemon, l, daemon_fd, on_message, on_daemon_gone);
	if (r == 0)
		r = link_open(&sv->client, l, client_fd, tls);
	loop_timer_set(l, &sv->timer,
		       clock_mono_us() +
			       FAULT_LIMIT("stream-head-ms", SERVER_HEAD_TIMEOUT_S * 1000) *
				       USEC_PER_MS,
		       on_head_timeout);
	return r;
}

void server_close(struct server *sv)
{
	if (sv->ops)
		sv->ops->free(sv);
	sv->ops = NULL;
	loop_timer_clear(&sv->timer);
	loop_timer_clear(&sv->pong);
	server_uncall(&sv->open);
	link_close(&sv->client);
	ipc_conn_close(&sv->daemon);
	if (sv->mux)
		spdy_fini(&sv->spdy);
	if (sv->mux && sv->websocket)
		channels_fini(&sv->channels);
	strbuf_fini(&sv->head);
	strbuf_fini(&sv->rest);
}
