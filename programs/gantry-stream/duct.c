/* SPDX-License-Identifier: Apache-2.0 */
/* Between streams and descriptors: see duct.h. */
#include "duct.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/mem.h"

static uint8_t out_buffer[DUCT_READ_MAX];

static size_t in_pending(const struct duct *d)
{
	return d->in.len - d->off;
}

/* What waits has changed from `before`: says whether the client is read on. */
static void account(struct duct *d, size_t before)
{
	struct ducts *all = d->all;
	size_t now = in_pending(d);

	all->in_all += now;
	all->in_all -= before;
	if (!d->full && now >= DUCT_IN_MAX) {
		d->full = true;
		all->n_full++;
	} else if (d->full && now < DUCT_IN_MAX / 2) {
		d->full = false;
		all->n_full--;
	}
	link_pause(all->client, all->n_full || all->in_all >= DUCTS_IN_MAX);
}

static void taken(struct duct *d, size_t n)
{
	if (d->from && n)
		mux_taken(d->from, n);
}

static void drop_input(struct duct *d)
{
	size_t before = in_pending(d);

	strbuf_fini(&d->in);
	d->off = 0;
	account(d, before);
	taken(d, before);
}

static void on_io(struct loop_io *io, uint32_t events);

/* A descriptor of which nothing is wanted is not watched: its hang-up would come again and again. */
static void watch(struct duct *d)
{
	uint32_t ev = 0;

	if (d->fd < 0)
		return;
	if (d->reads && !d->out_over && !list_linked(&d->waiting))
		ev |= EPOLLIN;
	if (d->writes && !d->in_over && in_pending(d))
		ev |= EPOLLOUT;
	if (!ev)
		loop_io_del(&d->io);
	else if (d->io.loop)
		loop_io_mod(&d->io, ev);
	else
		(void)loop_io_add(d->all->loop, &d->io, d->fd, ev, on_io);
}

static void release(struct duct *d)
{
	loop_io_del(&d->io);
	d->fd = fd_close(d->fd);
}

static bool over(const struct duct *d)
{
	return (d->in_over || !d->writes) && (d->out_over || !d->reads);
}

static void end_in(struct duct *d, int reason)
{
	if (d->in_over)
		return;
	d->in_over = true;
	drop_input(d);
	shutdown(d->fd, SHUT_WR); /* where it is a socket */
	if (over(d))
		release(d);
	watch(d);
	d->all->user->in_end(d, reason);
}

static void end_out(struct duct *d, int reason)
{
	if (d->out_over)
		return;
	d->out_over = true;
	list_remove(&d->waiting);
	if (over(d))
		release(d);
	watch(d);
	d->all->user->out_end(d, reason);
}

static ssize_t write_some(struct duct *d, const void *p, size_t n)
{
	ssize_t r;

	do
		r = write(d->fd, p, n);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static void flush(struct duct *d)
{
	size_t before = in_pending(d);
	ssize_t n = 0;

	while (in_pending(d)) {
		n = write_some(d, d->in.s + d->off, in_pending(d));
		if (n < 0)
			break;
		d->off += (size_t)n;
	}
	if (n < 0 && n != -EAGAIN) {
		end_in(d, (int)n);
		return;
	}
	n = (ssize_t)(before - in_pending(d));
	if (!in_pending(d)) { /* bursts do not keep their memory */
		strbuf_fini(&d->in);
		d->off = 0;
	}
	account(d, before);
	taken(d, (size_t)n);
	if (!in_pending(d) && d->in_ending)
		end_in(d, 0);
	else
		watch(d);
}

static void read_some(struct duct *d)
{
	size_t room = d->to && !d->to->dead ? mux_room(d->to) : sizeof(out_buffer);
	ssize_t n;

	if (!room) {
		list_append(&d->all->waiting, &d->waiting);
		watch(d);
		return;
	}
	do
		n = read(d->fd, out_buffer, MIN(room, sizeof(out_buffer)));
	while (n < 0 && errno == EINTR);
	if (n > 0 && d->to)
		mux_send(d->to, out_buffer, (size_t)n, false);
	if (n > 0 && d->draining)
		d->drain_left -= MIN((size_t)n, d->drain_left);
	if (n < 0 && errno != EAGAIN && errno != EIO)
		end_out(d, -errno);
	else if (n == 0 || (n < 0 && errno == EIO)) /* a terminal's other end is closed */
		end_out(d, 0);
	else if (d->draining && (n < 0 || !d->drain_left))
		end_out(d, 0);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct duct *d = container_of(io, struct duct, io);

	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP) && d->writes && in_pending(d))
		flush(d);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && d->fd >= 0 && d->reads && !d->out_over)
		read_some(d);
}

/* An empty descriptor wakes nobody: it is read until it is, or there is no more room. */
static void drain_on(struct duct *d)
{
	while (!d->out_over && !list_linked(&d->waiting))
		read_some(d);
}

void ducts_init(struct ducts *all, struct loop *loop, struct link *client,
		const struct duct_user *user)
{
	*all = (struct ducts){.client = client, .loop = loop, .user = user};
	list_init(&all->waiting);
}

void ducts_room(struct ducts *all)
{
	struct list now = LIST_INIT(now);

	while (!list_empty(&all->waiting)) { /* reading puts some on the list again */
		struct list *n = all->waiting.next;

		list_remove(n);
		list_append(&now, n);
	}
	while (!list_empty(&now)) {
		struct duct *d = list_first(&now, struct duct, waiting);

		list_remove(&d->waiting);
		watch(d);
		if (d->draining)
			drain_on(d);
	}
}

void duct_init(struct duct *d, struct ducts *all)
{
	*d = (struct duct){.all = all, .fd = -EBADF};
	list_init(&d->waiting);
}

void duct_close(struct duct *d)
{
	if (!d->all)
		return;
	list_remove(&d->waiting);
	d->in_over = d->out_over = true;
	drop_input(d);
	release(d);
}

int duct_open(struct duct *d, int fd, bool reads, bool writes)
{
	d->fd = fd;
	d->reads = reads;
	d->writes = writes;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return -errno;
	watch(d);
	if (reads && !d->io.loop)
		return -EPERM; /* a descriptor that cannot be waited for */
	if (writes)
		flush(d);
	return 0;
}

void duct_feed(struct duct *d, const uint8_t *p, size_t n)
{
	size_t before = in_pending(d), direct = 0;

	if (d->in_over || d->in_ending) { /* nobody takes it */
		taken(d, n);
		return;
	}
	if (d->fd >= 0 && !before) {
		ssize_t r = write_some(d, p, n);

		if (r < 0 && r != -EAGAIN) {
			end_in(d, (int)r);
			taken(d, n);
			return;
		}
		direct = r > 0 ? (size_t)r : 0;
		taken(d, direct);
	}
	if (direct == n)
		return;
	if (d->off >= DUCT_IN_MAX / 2) {
		memmove(d->in.s, d->in.s + d->off, before);
		d->in.len = before;
		d->off = 0;
	}
	strbuf_add(&d->in, p + direct, n - direct);
	account(d, before);
	watch(d);
}

void duct_end(struct duct *d)
{
	if (d->in_over || d->in_ending)
		return;
	d->in_ending = true;
	if (d->fd >= 0 && d->writes && !in_pending(d))
		end_in(d, 0);
}

/* What is there is read at once, as far as there is room; the rest as room comes. */
void duct_drain(struct duct *d)
{
	if (d->fd < 0 || !d->reads || d->out_over) {
		end_out(d, 0);
		return;
	}
	d->draining = true;
	d->drain_left = DUCT_DRAIN_MAX;
	drain_on(d);
}

void duct_forget(struct duct *d, const struct chan *c)
{
	if (d->from == c)
		d->from = NULL;
	if (d->to == c) {
		d->to = NULL;
		if (list_linked(&d->waiting)) { /* it is thrown away now, for which there is room */
			list_remove(&d->waiting);
			watch(d);
			if (d->draining)
				drain_on(d);
		}
	}
}
