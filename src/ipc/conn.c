/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on a loop: see ipc.h.
 *
 * Reads never run past the end of a frame (the header says how much is left), so the
 * descriptors that arrive with a frame's first byte belong to that frame.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "ipc/ipc_internal.h"

#define IPC_FRAMES_PER_TURN 32

struct queued {
	struct list link;
	struct ipc_out out;
	size_t off;
};

static void fail_calls(struct ipc_conn *c);

static void drop_all(struct ipc_conn *c)
{
	struct queued *q, *tmp;

	loop_io_del(&c->io);
	c->fd = fd_close(c->fd);
	list_for_each_safe (q, tmp, &c->queue, link) {
		list_remove(&q->link);
		ipc_out_fini(&q->out);
		free(q);
	}
	strbuf_fini(&c->rx);
	for (unsigned i = 0; i < c->rx_n_fds; i++)
		fd_close(c->rx_fds[i]);
	c->rx_n_fds = 0;
	c->loop = NULL;
	fail_calls(c);
}

void ipc_conn_close(struct ipc_conn *c)
{
	if (c->loop)
		drop_all(c);
}

static void hang_up(struct ipc_conn *c, int reason)
{
	drop_all(c);
	if (c->on_close)
		c->on_close(c, reason);
}

/* Sends what the socket takes. 0, or the error that ends the connection. */
static int flush(struct ipc_conn *c)
{
	while (!list_empty(&c->queue)) {
		struct queued *q = list_first(&c->queue, struct queued, link);
		ssize_t n = ipc_send_part(c->fd, &q->out, q->off, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return loop_io_mod(&c->io, EPOLLIN | EPOLLOUT);
		if (n < 0)
			return (int)n;
		q->off += (size_t)n;
		if (q->off < q->out.b.len)
			continue;
		c->queued -= q->out.b.len;
		list_remove(&q->link);
		ipc_out_fini(&q->out);
		free(q);
	}
	return loop_io_mod(&c->io, EPOLLIN);
}

void ipc_conn_send(struct ipc_conn *c, struct ipc_out *o)
{
	struct queued *q;

	if (!c->loop) {
		ipc_out_fini(o);
		return;
	}
	if (ipc_out_seal(o) < 0)
		return;
	c->queued += o->b.len;
	if (c->queued >
	    IPC_QUEUE_MAX) /* it does not read: that is the end, seen in the next turn */
		shutdown(c->fd, SHUT_RDWR);
	q = xcalloc(1, sizeof(*q));
	q->out = *o;
	*o = (struct ipc_out){0};
	list_append(&c->queue, &q->link);
	/* An error shows as a hang-up on the descriptor in the next turn. */
	if (q->link.prev == &c->queue)
		(void)flush(c);
}

bool ipc_conn_sent(const struct ipc_conn *c)
{
	return !c->loop || list_empty(&c->queue);
}

static bool deliver_reply(struct ipc_conn *c, struct ipc_in *in);

/* 1: a frame was delivered, 0: nothing more now, -errno: over. */
static int read_frame(struct ipc_conn *c)
{
	struct ipc_header h;
	struct ipc_in in = IPC_IN_NULL;
	ssize_t n;

	for (;;) {
		size_t need = sizeof(h);

		if (c->rx.len >= sizeof(h)) {
			memcpy(&h, c->rx.s, sizeof(h));
			if (ipc_header_check(&h) < 0)
				return -EBADMSG;
			need += h.len;
		}
		if (c->rx.len >= sizeof(h) && c->rx.len == need)
			break;
		n = ipc_recv_part(c->fd, strbuf_reserve(&c->rx, need - c->rx.len), need - c->rx.len,
				  MSG_DONTWAIT, c->rx_fds, &c->rx_n_fds, IPC_FDS_MAX * 2);
		if (n == -EAGAIN)
			return 0;
		if (n <= 0)
			return n < 0 ? (int)n : -EPIPE;
		c->rx.len += (size_t)n;
	}
	if (c->rx_n_fds != h.n_fds)
		return -EBADMSG;
	in.type = h.type;
	in.seq = h.seq;
	in.len = h.len;
	in.body = xmemdup(c->rx.s + sizeof(h), h.len);
	in.n_fds = h.n_fds;
	memcpy(in.fds, c->rx_fds, sizeof(int) * h.n_fds);
	c->rx_n_fds = 0;
	if (c->rx.cap > 64 * 1024)
		strbuf_fini(&c->rx);
	else
		strbuf_reset(&c->rx);
	if (!(in.type == IPC_REPLY && deliver_reply(c, &in)) && c->on_msg)
		c->on_msg(c, &in);
	ipc_in_fini(&in);
	return 1;
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct ipc_conn *c = container_of(io, struct ipc_conn, io);
	int r = 0;

	if (events & EPOLLOUT)
		r = flush(c);
	/* on_msg may close the connection, and its owner may free it then: the owner must
	 * do so from the loop, not from on_msg (c->loop is looked at after each frame). */
	for (int i = 0; r == 0 && i < IPC_FRAMES_PER_TURN; i++) {
		r = read_frame(c);
		if (!c->loop || r == 0)
			return;
		r = r > 0 ? 0 : r;
	}
	if (r < 0)
		hang_up(c, r == -EPIPE || r == -ECONNRESET ? 0 : r);
}

int ipc_conn_open(struct ipc_conn *c, struct loop *l, int fd, ipc_msg_fn *on_msg,
		  ipc_close_fn *on_close)
{
	int r;

	*c = (struct ipc_conn){.fd = fd, .on_msg = on_msg, .on_close = on_close, .next_seq = 1};
	list_init(&c->queue);
	list_init(&c->calls);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	r = loop_io_add(l, &c->io, fd, EPOLLIN, on_io);
	if (r < 0) {
		c->fd = fd_close(fd);
		return r;
	}
	c->loop = l;
	return 0;
}

/* --- calls --- */

static struct ipc_pending *find_call(struct ipc_conn *c, uint32_t seq)
{
	struct ipc_pending *p;

	list_for_each (p, &c->calls, link)
		if (p->seq == seq)
			return p;
	return NULL;
}

static bool deliver_reply(struct ipc_conn *c, struct ipc_in *in)
{
	struct ipc_pending *p = find_call(c, in->seq);

	if (!p)
		return false;
	list_remove(&p->link);
	p->in = *in;
	*in = IPC_IN_NULL;
	p->done = true;
	p->wake(p);
	return true;
}

static void fail_calls(struct ipc_conn *c)
{
	while (!list_empty(&c->calls)) {
		struct ipc_pending *p = list_first(&c->calls, struct ipc_pending, link);

		list_remove(&p->link);
		p->done = p->lost = true;
		p->wake(p);
	}
}
