/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes of a client of WebSocket: as channels, in binary and in base64, and as a tunnel with
 * SPDY in it.  The first byte says which, and where they are cut.
 */
#include "base/fuzz.h"
#include "base/mem.h"
#include "channels.h"
#include "spdy.h"

#define CHANNELS 5

struct both {
	struct channels channels;
	struct spdy spdy;
	size_t said;
};

static void put(struct mux *m, const void *head, size_t n_head, const void *p, size_t n)
{
	struct both *b = m->out;

	b->said += n_head + n;
}

static void put_tunnelled(struct mux *m, const void *head, size_t n_head, const void *p, size_t n)
{
	channels_put(&((struct both *)m->out)->channels, head, n_head, p, n);
}

static size_t room(struct mux *m)
{
	return 4096;
}

static int on_open(struct mux *m, struct chan *c)
{
	return 0;
}

static void on_data(struct mux *m, struct chan *c, const uint8_t *p, size_t n)
{
	FUZZ_ASSERT(n && !c->in_ended);
	mux_send(c, p, MIN(n, mux_room(c)), p[0] == 'f');
	mux_taken(c, n);
}

static void on_end(struct mux *m, struct chan *c)
{
	FUZZ_ASSERT(c->in_ended);
}

static void on_closed(struct mux *m, struct chan *c)
{
	FUZZ_ASSERT(c->dead);
}

static void on_room(struct mux *m)
{
	(void)m;
}

static const struct mux_user user = {on_open, on_data, on_end, on_closed, on_room, on_room};

static int on_tunnel(struct channels *w, const uint8_t *p, size_t n, struct err *e)
{
	return spdy_feed(&container_of(w, struct both, channels)->spdy, p, n, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *copy = xmemdup(data, size ? size : 1);
	struct err e = ERR_NULL;
	struct both b = {0};
	size_t step;
	int r = 0;

	if (size < 2)
		return 0;
	step = 1 + (data[0] & 0x1f);
	channels_init(&b.channels, (enum channels_mode)((data[0] >> 5 & 3) % 3), data[0] & 0x80,
		      NULL);
	spdy_init(&b.spdy, NULL);
	b.channels.mux.put = put;
	b.spdy.mux.put = put_tunnelled;
	b.channels.mux.room = b.spdy.mux.room = room;
	b.channels.mux.user = b.spdy.mux.user = &user;
	b.channels.mux.out = b.spdy.mux.out = &b;
	b.channels.tunnel = on_tunnel;
	for (uint32_t i = 0; i < CHANNELS; i++)
		mux_add(&b.channels.mux, i);
	for (size_t i = 1; i < size && r == 0; i += step) {
		r = channels_feed(&b.channels, copy + i, MIN(step, size - i), &e);
		FUZZ_ASSERT(r == 0 || r == -EPIPE || (r == -EPROTO && e.msg[0]));
		mux_reap(&b.channels.mux);
		mux_reap(&b.spdy.mux);
	}
	channels_pong(&b.channels);
	mux_finish(&b.channels.mux);
	spdy_fini(&b.spdy);
	channels_fini(&b.channels);
	return 0;
}
