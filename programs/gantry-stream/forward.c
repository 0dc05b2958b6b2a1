/* SPDX-License-Identifier: Apache-2.0 */
/* A port-forward: see forward.h. */
#include "forward.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "duct.h"

struct forward {
	struct server *sv;
	struct ducts ducts;
	struct list pairs;
	uint16_t ports[HTTP_PORTS_MAX]; /* that were asked for; none: any */
	unsigned n_ports;
};

/* A connection to a port.  It lives as long as one of its streams. */
struct pair {
	struct list link;
	struct forward *f;
	char request[CHAN_REQUEST_MAX];
	uint16_t port;
	struct chan *data, *error; /* NULL: not there yet, or over */
	bool complete, numbered;   /* numbered: channels that do not end (before version 5) */
	struct duct duct;
	struct call call;
	struct loop_timer timer; /* for the other stream */
};

static void pair_free(struct pair *p)
{
	server_uncall(&p->call);
	loop_timer_clear(&p->timer);
	duct_close(&p->duct);
	list_remove(&p->link);
	free(p);
}

/* The stream of errors ends with the connection: clients wait for it. */
static void end_errors(struct pair *p)
{
	if (p->error)
		mux_send(p->error, NULL, 0, true);
}

/* A text in the stream of errors makes Kubernetes' client give up all of its connections. */
static void pair_fail(struct pair *p, const char *why)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	strbuf_addf(&b, "error forwarding port %u: %s", p->port, why);
	if (p->error)
		mux_send(p->error, b.s, MIN(b.len, mux_room(p->error)), true);
	duct_close(&p->duct);
	if (p->data)
		mux_reset(p->data);
}

/* --- the pod's side --- */

static void on_out_end(struct duct *d, int reason)
{
	struct pair *p = container_of(d, struct pair, duct);

	if (reason < 0 && p->data) {
		mux_reset(p->data);
	} else if (p->data) {
		mux_send(p->data, NULL, 0, true);
		if (p->numbered)
			mux_drop(p->data);
	}
	if (d->in_over)
		end_errors(p);
}

static void on_in_end(struct duct *d, int reason)
{
	if (d->out_over)
		end_errors(container_of(d, struct pair, duct));
}

static const struct duct_user duct_user = {.out_end = on_out_end, .in_end = on_in_end};

static void on_connected(struct call *c, struct ipc_in *in, const struct err *e)
{
	struct pair *p = container_of(c, struct pair, call);

	if (!in)
		pair_fail(p, e->msg);
	else if (in->n_fds != 1 || duct_open(&p->duct, TAKE_FD(in->fds[0]), true, true) < 0)
		pair_fail(p, "its descriptor cannot be used");
}

static bool allowed(const struct forward *f, uint16_t port)
{
	for (unsigned i = 0; i < f->n_ports; i++)
		if (f->ports[i] == port)
			return true;
	return !f->n_ports;
}

static void connect_pair(struct pair *p)
{
	struct server *sv = p->f->sv;
	struct ipc_out o;

	p->complete = true;
	loop_timer_clear(&p->timer);
	if (!allowed(p->f, p->port)) {
		pair_fail(p, "it was not asked for");
		return;
	}
	ipc_out_init(&o, STREAM_CONNECT, p->call.seq = ++sv->last_seq);
	ipc_put_u64(&o, STREAM_TAG_PORT, p->port);
	server_call(sv, &p->call, &o, on_connected);
}

/* --- the client's streams --- */

static void on_timeout(struct loop_timer *t)
{
	pair_fail(container_of(t, struct pair, timer),
		  "the client has not made both streams in time");
}

static void on_complete(struct loop_timer *t)
{
	connect_pair(container_of(t, struct pair, timer));
}

static struct pair *pair_new(struct forward *f, uint16_t port)
{
	struct pair *p = xcalloc(1, sizeof(*p));

	p->f = f;
	p->port = port;
	list_init(&p->call.link);
	duct_init(&p->duct, &f->ducts);
	list_append(&f->pairs, &p->link);
	return p;
}

static struct pair *pair_get(struct forward *f, const char *request, uint16_t port)
{
	struct pair *p;

	list_for_each (p, &f->pairs, link)
		if (!p->complete && streq(p->request, request))
			return p;
	p = pair_new(f, port);
	strcpy(p->request, request);
	loop_timer_set(f->sv->loop, &p->timer, clock_mono_us() + f->sv->options.create_timeout_us,
		       on_timeout);
	return p;
}

static void join(struct pair *p, struct chan *c)
{
	c->owner = p;
	if (c->kind == CHAN_ERROR) {
		p->error = c;
	} else {
		p->data = c;
		p->duct.from = p->duct.to = c;
	}
}

/* Old clients name no request: of a pair the stream of errors is made first. */
static void name_request(struct chan *c)
{
	if (!*c->request)
		snprintf(c->request, sizeof(c->request), "%u",
			 c->kind == CHAN_ERROR ? c->id : c->id - 2);
}

static int on_open(struct mux *m, struct chan *c)
{
	struct forward *f = m->session;
	struct pair *p;

	if ((c->kind != CHAN_ERROR && c->kind != CHAN_DATA) || !c->port)
		return -EINVAL;
	name_request(c);
	p = pair_get(f, c->request, c->port);
	if (p->port != c->port || (c->kind == CHAN_ERROR ? p->error : p->data))
		return -EEXIST;
	join(p, c);
	if (p->data && p->error) /* when this one has been answered */
		loop_timer_set(f->sv->loop, &p->timer, 0, on_complete);
	return 0;
}

static void on_data(struct mux *m, struct chan *c, const uint8_t *p, size_t n)
{
	struct pair *pair = c->owner;

	if (pair && c == pair->data)
		duct_feed(&pair->duct, p, n);
	else
		mux_taken(c, n);
}

static void on_end(struct mux *m, struct chan *c)
{
	struct pair *p = c->owner;

	if (p && c == p->data)
		duct_end(&p->duct);
}

/* Without new connections: the channels of WebSocket are all that there will be. */
static void finish_when_done(struct forward *f)
{
	bool last = !f->sv->daemon.loop || (f->sv->websocket && !f->sv->tunnel);

	if (last && list_empty(&f->pairs))
		server_finish(f->sv);
}

static void on_closed(struct mux *m, struct chan *c)
{
	struct forward *f = m->session;
	struct pair *p = c->owner;

	if (!p)
		return;
	if (c == p->data) {
		p->data = NULL;
		duct_forget(&p->duct, c);
		duct_close(&p->duct);
		server_uncall(&p->call);
		end_errors(p);
	} else {
		p->error = NULL;
	}
	if (p->data || p->error)
		return;
	pair_free(p);
	finish_when_done(f);
}

static void on_room(struct mux *m)
{
	ducts_room(&((struct forward *)m->session)->ducts);
}

static void on_leave(struct mux *m)
{
	server_finish(((struct forward *)m->session)->sv);
}

static const struct mux_user mux_user = {
	.open = on_open,
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
	.room = on_room,
	.leave = on_leave,
};

/* --- the session --- */

static void session_room(struct server *sv)
{
	on_room(sv->mux);
}

static void session_idle(struct server *sv)
{
	server_finish(sv);
}

static void session_orphaned(struct server *sv)
{
	finish_when_done(sv->session);
}

static void session_stop(struct server *sv)
{
	struct pair *p;

	list_for_each (p, &((struct forward *)sv->session)->pairs, link) {
		server_uncall(&p->call);
		loop_timer_clear(&p->timer);
		duct_close(&p->duct);
	}
}

static void session_free(struct server *sv)
{
	struct forward *f = sv->session;

	while (!list_empty(&f->pairs))
		pair_free(list_first(&f->pairs, struct pair, link));
	free(f);
}

static const struct session_ops session_ops = {.room = session_room,
					       .idle = session_idle,
					       .orphaned = session_orphaned,
					       .stop = session_stop,
					       .free = session_free};

/* Each port has a channel for data and one for errors, which begin with its number. */
static void make_channels(struct forward *f)
{
	struct mux *m = f->sv->mux;

	for (unsigned i = 0; i < f->n_ports; i++) {
		const uint8_t port[] = {(uint8_t)f->ports[i], (uint8_t)(f->ports[i] >> 8)};
		struct pair *p = pair_new(f, f->ports[i]);

		p->numbered = !f->sv->channels.closes;
		for (unsigned k = 0; k < 2; k++) {
			struct chan *c = mux_add(m, i * 2 + k);

			c->kind = k ? CHAN_ERROR : CHAN_DATA;
			c->in_ended = k; /* the client says nothing there */
			join(p, c);
			mux_send(c, port, sizeof(port), false);
		}
		connect_pair(p);
	}
}

void forward_begin(struct server *sv, const struct ipc_in *in, const uint16_t *query,
		   unsigned n_query)
{
	struct forward *f = xcalloc(1, sizeof(*f));
	struct ipc_field field;
	size_t pos = 0;

	f->sv = sv;
	list_init(&f->pairs);
	ducts_init(&f->ducts, sv->loop, &sv->client, &duct_user);
	while (ipc_next(in, &pos, &field) && f->n_ports < HTTP_PORTS_MAX)
		if (field.tag == STREAM_TAG_PORT)
			f->ports[f->n_ports++] = (uint16_t)ipc_field_u64(&field);
	sv->session = f;
	sv->ops = &session_ops;
	sv->mux->user = &mux_user;
	sv->mux->session = f;
	if (!sv->websocket || sv->tunnel)
		return;
	if (!f->n_ports) {
		memcpy(f->ports, query, n_query * sizeof(*query));
		f->n_ports = n_query;
	}
	make_channels(f);
	finish_when_done(f);
}
