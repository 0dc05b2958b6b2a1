/* SPDX-License-Identifier: Apache-2.0 */
/* The client's connection: see link.h. */
#include "link.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "tls.h"

static uint8_t in_buffer[LINK_READ_MAX];

static size_t pending(const struct link *l)
{
	return l->out.len - l->off;
}

static void over(struct link *l, int reason)
{
	if (l->gone)
		return;
	link_close(l);
	l->on_gone(l, reason);
}

static ssize_t link_read(struct link *l, void *p, size_t n)
{
	ssize_t r;

	if (l->tls)
		return tls_read(l->tls, p, n);
	do
		r = recv(l->fd, p, n, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static ssize_t link_write(struct link *l, const void *p, size_t n)
{
	ssize_t r;

	if (l->tls)
		return tls_write(l->tls, p, n);
	do
		r = send(l->fd, p, n, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static bool reads(const struct link *l)
{
	if (l->finishing) /* what still comes is thrown away: a close with it unread is a reset */
		return !l->peer_ended;
	return !l->paused && pending(l) < LINK_OUT_STOP;
}

/* With TLS either direction may wait for the other kind of event. */
static void update_events(struct link *l)
{
	uint32_t ev = l->peer_ended ? 0 : EPOLLRDHUP;

	if (l->gone)
		return;
	if (reads(l))
		ev |= EPOLLIN;
	if (pending(l) || (l->tls && tls_wants_write(l->tls)))
		ev |= EPOLLOUT;
	loop_io_mod(&l->io, ev);
}

/* What the kernel has of the client's: closed before that has gone, it might be given up. */
static bool unsent(const struct link *l)
{
	int n = 0;

	return ioctl(l->fd, SIOCOUTQ, &n) == 0 && n > 0;
}

static uint64_t linger_us(void)
{
	return FAULT_LIMIT("stream-linger-ms", LINK_LINGER_US / USEC_PER_MS) * USEC_PER_MS;
}

static void on_linger(struct loop_timer *t)
{
	struct link *l = container_of(t, struct link, linger);
	uint64_t now = clock_mono_us();

	if (pending(l) || unsent(l))
		l->taken_at = now;
	if (now - l->taken_at >= linger_us() || now - l->finished_at >= l->patience_us)
		over(l, -ETIMEDOUT);
	else
		loop_timer_set(l->loop, t, now + linger_us(), on_linger);
}

static void say_end(struct link *l)
{
	l->shut = true;
	if (l->tls)
		tls_end(l->tls);
	shutdown(l->fd, SHUT_WR);
}

static void flush(struct link *l)
{
	while (pending(l)) {
		ssize_t n = link_write(l, l->out.s + l->off, pending(l));

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			over(l, (int)n);
			return;
		}
		l->off += (size_t)n;
	}
	if (!pending(l)) {
		l->off = 0;
		if (l->out.cap > LINK_OUT_KEEP)
			strbuf_fini(&l->out);
		else
			strbuf_reset(&l->out);
		if (l->finishing && !l->shut)
			say_end(l);
		if (l->peer_ended) {
			over(l, 0);
			return;
		}
	}
	update_events(l);
	if (l->full && link_room(l) >= LINK_OUT_MAX / 2) {
		l->full = false;
		l->on_room(l);
	}
}

static void on_readable(struct link *l)
{
	ssize_t n;

	/* TLS keeps what it read beyond what was asked for: no event comes for that. */
	do {
		n = link_read(l, in_buffer, sizeof(in_buffer));
		if (n <= 0)
			break;
		if (!l->finishing)
			l->on_data(l, in_buffer, (size_t)n);
	} while (!l->gone && l->tls && reads(l) && tls_pending(l->tls));
	if (l->gone || n > 0 || n == -EAGAIN)
		return;
	if (n == 0 && l->finishing && pending(l))
		l->peer_ended = true; /* it may read on */
	else
		over(l, (int)n);
}

static void on_flush(struct loop_defer *d)
{
	struct link *l = container_of(d, struct link, flush);

	if (!l->gone && l->tls && reads(l) && tls_pending(l->tls))
		on_readable(l);
	if (!l->gone)
		flush(l);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct link *l = container_of(io, struct link, io);

	if ((events & (EPOLLIN | EPOLLOUT)) && reads(l) && (l->tls || (events & EPOLLIN)))
		on_readable(l);
	else if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
		over(l, events & EPOLLERR ? -ECONNRESET : 0); /* while it is not read */
	if (!l->gone && (events & EPOLLOUT))
		flush(l);
	update_events(l);
}

int link_open(struct link *l, struct loop *loop, int fd, struct tls *tls)
{
	l->loop = loop;
	l->fd = fd;
	l->tls = tls;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return loop_io_add(loop, &l->io, fd, EPOLLIN | EPOLLRDHUP, on_io);
}

void link_close(struct link *l)
{
	if (l->gone)
		return;
	l->gone = true;
	loop_defer_cancel(&l->flush);
	loop_timer_clear(&l->linger);
	loop_io_del(&l->io);
	l->tls = tls_free(l->tls);
	l->fd = fd_close(l->fd);
	strbuf_fini(&l->out);
}

void link_put(struct link *l, const void *p, size_t n)
{
	if (l->gone || l->finishing)
		return;
	if (l->off && l->out.len + n > l->out.cap) { /* rather than to grow */
		memmove(l->out.s, l->out.s + l->off, pending(l));
		l->out.len -= l->off;
		l->off = 0;
	}
	strbuf_add(&l->out, p, n);
	loop_defer(l->loop, &l->flush, on_flush);
}

size_t link_room(struct link *l)
{
	size_t n = pending(l);

	if (l->gone || l->finishing)
		return 0;
	if (LINK_OUT_MAX - MIN(n, (size_t)LINK_OUT_MAX) < LINK_OUT_MAX / 2)
		l->full = true; /* a few bytes of room may be as good as none */
	return n < LINK_OUT_MAX ? LINK_OUT_MAX - n : 0;
}

void link_pause(struct link *l, bool paused)
{
	if (l->paused == paused)
		return;
	l->paused = paused;
	/* What TLS has read already comes without an event. */
	if (!l->gone)
		loop_defer(l->loop, &l->flush, on_flush);
}

void link_finish(struct link *l)
{
	if (l->gone || l->finishing)
		return;
	l->finishing = true;
	l->finished_at = l->taken_at = clock_mono_us();
	loop_timer_set(l->loop, &l->linger, l->finished_at + linger_us(), on_linger);
	loop_defer(l->loop, &l->flush, on_flush);
}
