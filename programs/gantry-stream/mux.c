/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over one connection: see mux.h. */
#include "mux.h"

#include "base/clock.h"
#include "base/mem.h"

void mux_init(struct mux *m, const struct mux_ops *ops, struct loop *loop)
{
	m->ops = ops;
	m->loop = loop;
	m->active_at = clock_mono_us();
	list_init(&m->chans);
	list_init(&m->dead);
}

static void free_all(struct mux *m, struct list *l, bool tell)
{
	while (!list_empty(l)) {
		struct chan *c = list_first(l, struct chan, link);

		list_remove(&c->link);
		m->n_chans--;
		if (tell)
			m->user->closed(m, c);
		free(c);
	}
}

void mux_fini(struct mux *m)
{
	if (!m->ops)
		return;
	loop_defer_cancel(&m->reaper);
	free_all(m, &m->chans, false);
	free_all(m, &m->dead, false);
}

void mux_reap(struct mux *m)
{
	free_all(m, &m->dead, true);
	if (m->leaving && !m->n_chans)
		m->user->leave(m);
}

static void on_reap(struct loop_defer *d)
{
	mux_reap(container_of(d, struct mux, reaper));
}

struct chan *mux_add(struct mux *m, uint32_t id)
{
	struct chan *c = xcalloc(1, sizeof(*c));

	c->mux = m;
	c->id = id;
	list_append(&m->chans, &c->link);
	m->n_chans++;
	return c;
}

struct chan *mux_find(struct mux *m, uint32_t id)
{
	struct chan *c;

	list_for_each (c, &m->chans, link)
		if (c->id == id)
			return c;
	return NULL;
}

void mux_drop(struct chan *c)
{
	struct mux *m = c->mux;

	if (c->dead)
		return;
	c->dead = c->in_ended = c->out_ended = true;
	list_remove(&c->link);
	list_append(&m->dead, &c->link);
	if (m->loop)
		loop_defer(m->loop, &m->reaper, on_reap);
}

static void drop_when_over(struct chan *c)
{
	if (c->in_ended && c->out_ended)
		mux_drop(c);
}

void mux_data(struct chan *c, const uint8_t *p, size_t n)
{
	c->mux->active_at = clock_mono_us();
	c->mux->user->data(c->mux, c, p, n);
}

void mux_in_end(struct chan *c)
{
	if (c->in_ended)
		return;
	c->in_ended = true;
	c->mux->user->end(c->mux, c);
	drop_when_over(c);
}

size_t mux_room(struct chan *c)
{
	size_t room = c->mux->room(c->mux), window = c->mux->ops->window(c);

	return MIN(room, window);
}

void mux_send(struct chan *c, const void *p, size_t n, bool fin)
{
	if (c->out_ended || c->mux->finished || (!n && !fin))
		return;
	c->out_ended = fin;
	c->sent += n;
	c->mux->active_at = clock_mono_us();
	c->mux->ops->send(c, p, n, fin);
	drop_when_over(c);
}

void mux_reset(struct chan *c)
{
	if (c->dead || c->mux->finished)
		return;
	c->mux->ops->reset(c);
	mux_drop(c);
}

void mux_taken(struct chan *c, size_t n)
{
	if (c->in_ended || c->mux->finished)
		return;
	c->taken += (uint32_t)n;
	c->mux->ops->taken(c);
}

void mux_finish(struct mux *m)
{
	if (m->finished)
		return;
	m->ops->finish(m);
	m->finished = true;
}
