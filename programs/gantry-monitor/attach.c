/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that are attached to a container (MON_ATTACH, ipc/stream.h).
 *
 * What output.c reads goes to the log first, and then into a pipe for each client.  What a pipe does
 * not take waits here, and as long as something waits nothing more is read: the container waits for
 * its slowest client, and a client's memory is bounded by one read.  A client that takes nothing for
 * ATTACH_STALL is dropped, so that none can hold a container up for ever.  At the container's end
 * everything is read; what clients have not taken by then is handed over while they live on
 * without it, and then they are told of the end.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "ipc/stream.h"
#include "mon.h"

#define ATTACH_STALL (10 * USEC_PER_SEC) /* without a byte taken */
/* Bytes that wait for one client at its container's end: all that was in the container's pipe, which
 * it may have made larger (/proc/sys/fs/pipe-max-size). */
#define ATTACH_WAITING_MAX (4u << 20)

struct attach_out {
	struct loop_io io; /* while something waits */
	struct attach *attach;
	int fd; /* a pipe's end; -EBADF: not wanted, or nobody reads it any more */
	struct strbuf waiting;
	size_t taken; /* of it */
};

struct attach {
	struct list link; /* container.clients; of none once it has ended */
	struct monitor *mon;
	struct container *container; /* NULL: it has ended */
	struct ipc_conn control;
	struct attach_out out, err;
	struct loop_timer stall;
	bool input;
	int exit_code;
	struct loop_defer free;
};

static void out_close(struct attach_out *o)
{
	loop_io_del(&o->io);
	o->fd = fd_close(o->fd);
	strbuf_fini(&o->waiting);
	o->taken = 0;
}

static bool waits(const struct attach_out *o)
{
	return o->waiting.len > 0;
}

static void on_free(struct loop_defer *d)
{
	free(container_of(d, struct attach, free));
}

/* The first whose input it was: for a container that wants one only, that was it. */
static void end_input(struct attach *a)
{
	struct container *c = a->container;

	if (a->input && c && ipc_get_u64(&c->create, MON_TAG_STDIN_ONCE, 0))
		c->stdin_fd = fd_close(c->stdin_fd);
	a->input = false;
}

static void attach_free(struct attach *a)
{
	struct container *c = a->container;

	end_input(a);
	loop_timer_clear(&a->stall);
	ipc_conn_close(&a->control);
	out_close(&a->out);
	out_close(&a->err);
	list_remove(&a->link);
	a->mon->n_sessions--;
	monitor_trim_later(a->mon);
	loop_defer(a->mon->loop, &a->free, on_free);
	if (c)
		output_resume(c);
}

/* The pipes hold the rest. */
static void tell_end(struct attach *a)
{
	struct ipc_out o;

	ipc_out_init(&o, STREAM_END, 0);
	ipc_put_u64(&o, STREAM_TAG_EXIT_CODE, (uint64_t)a->exit_code);
	ipc_conn_send(&a->control, &o);
	FAULT_POINT("monitor.attach.ended");
	attach_free(a);
}

static void drop(struct attach *a, const char *why)
{
	struct ipc_out o;

	ipc_out_init(&o, STREAM_END, 0);
	ipc_put_u64(&o, IPC_TAG_CODE, GRPC_ABORTED);
	ipc_put_str(&o, IPC_TAG_MESSAGE, why);
	ipc_conn_send(&a->control, &o);
	attach_free(a);
}

static void on_stall(struct loop_timer *t)
{
	drop(container_of(t, struct attach, stall),
	     "detached: no output was taken for ten seconds, and the container waits");
}

static void watch_stall(struct attach *a)
{
	uint64_t limit = FAULT_LIMIT("attach-stall-ms", ATTACH_STALL / USEC_PER_MS) * USEC_PER_MS;

	loop_timer_set(a->mon->loop, &a->stall, clock_mono_us() + limit, on_stall);
}

/* Nothing waits any more, or not for this one. */
static void check(struct attach *a)
{
	if (waits(&a->out) || waits(&a->err))
		return;
	loop_timer_clear(&a->stall);
	if (a->container)
		output_resume(a->container);
	else
		tell_end(a);
}

static void on_writable(struct loop_io *io, uint32_t events)
{
	struct attach_out *o = container_of(io, struct attach_out, io);
	struct attach *a = o->attach;
	ssize_t n = write(o->fd, o->waiting.s + o->taken, o->waiting.len - o->taken);

	(void)events;
	monitor_trim_later(a->mon);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		watch_stall(a);
		o->taken += (size_t)n;
	}
	if (n < 0) { /* nobody reads it */
		out_close(o);
	} else if (o->taken == o->waiting.len) {
		loop_io_del(io);
		strbuf_fini(&o->waiting);
		o->taken = 0;
	}
	check(a);
}

static void give(struct attach_out *o, const char *p, size_t n)
{
	ssize_t k = 0;

	if (o->fd < 0)
		return;
	if (!waits(o)) {
		do
			k = write(o->fd, p, n);
		while (k < 0 && errno == EINTR);
		if (k < 0 && errno != EAGAIN) {
			out_close(o);
			return;
		}
		k = MAX(k, 0);
		if ((size_t)k == n)
			return;
		if (loop_io_add(o->attach->mon->loop, &o->io, o->fd, EPOLLOUT, on_writable) < 0) {
			out_close(o);
			return;
		}
		watch_stall(o->attach);
	}
	strbuf_add(&o->waiting, p + k, n - (size_t)k);
}

void attach_give(struct stream *s, const char *p, size_t n)
{
	struct container *c = s->container;
	struct attach *a, *tmp;

	list_for_each_safe (a, tmp, &c->clients, link) {
		struct attach_out *o = s == &c->err ? &a->err : &a->out;

		give(o, p, n);
		if (o->waiting.len - o->taken > ATTACH_WAITING_MAX)
			drop(a, "detached: too much output was left at the container's end");
	}
}

bool attach_waits(const struct stream *s)
{
	const struct container *c = s->container;
	const struct attach *a;

	list_for_each (a, &c->clients, link)
		if (waits(s == &c->err ? &a->err : &a->out))
			return true;
	return false;
}

void attach_end(struct container *c)
{
	while (!list_empty(&c->clients)) {
		struct attach *a = list_first(&c->clients, struct attach, link);

		list_remove(&a->link);
		a->container = NULL;
		a->exit_code = c->exit_code;
		check(a);
	}
	output_resume(c); /* what it has left behind may write on, for the log */
}

/* --- the client --- */

static void on_control(struct ipc_conn *ipc, struct ipc_in *in)
{
	if (in->type == STREAM_INPUT_END)
		end_input(container_of(ipc, struct attach, control));
}

static void on_gone(struct ipc_conn *ipc, int reason)
{
	(void)reason;
	FAULT_POINT("monitor.attach.gone");
	attach_free(container_of(ipc, struct attach, control));
}

static int make_output(struct attach *a, struct attach_out *o, bool wanted, struct ipc_out *reply)
{
	int p[2];

	o->attach = a;
	o->fd = -EBADF;
	if (!wanted)
		return 0;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	o->fd = p[1];
	ipc_put_fd(reply, p[0]);
	return 0;
}

/* Standard input: the terminal, the pipe, or once it has been closed one that nobody reads. */
static int put_input(const struct container *c, bool tty, struct ipc_out *reply)
{
	int p[2], fd = tty ? c->out.fd : c->stdin_fd;

	if (fd >= 0) {
		ipc_put_fd(reply, fcntl(fd, F_DUPFD_CLOEXEC, 3));
		return 0;
	}
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	close(p[0]);
	ipc_put_fd(reply, p[1]);
	return 0;
}

static int open_streams(struct attach *a, const struct ipc_in *in, bool tty, struct ipc_out *reply)
{
	bool want[] = {ipc_get_u64(in, STREAM_TAG_STDIN, 0), ipc_get_u64(in, STREAM_TAG_STDOUT, 0),
		       ipc_get_u64(in, STREAM_TAG_STDERR, 0) && !tty};
	int r = want[0] ? put_input(a->container, tty, reply) : 0;

	a->input = want[0];
	if (r == 0)
		r = make_output(a, &a->out, want[1], reply);
	if (r == 0)
		r = make_output(a, &a->err, want[2], reply);
	/* For its size; one whose other end has been closed has none. */
	if (r == 0 && tty)
		r = put_input(a->container, tty, reply);
	return r;
}

static int begin(struct container *c, const struct ipc_in *in, struct ipc_out *reply)
{
	struct attach *a = xcalloc(1, sizeof(*a));
	int p[2], r;

	a->mon = c->mon;
	a->container = c;
	a->out.fd = a->err.fd = -EBADF;
	list_init(&a->link);
	c->mon->n_sessions++;
	r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0 ? -errno : 0;
	if (r == 0) {
		ipc_put_fd(reply, p[1]);
		r = ipc_conn_open(&a->control, c->mon->loop, p[0], on_control, on_gone);
	}
	if (r == 0)
		r = open_streams(a, in, ipc_get_u64(&c->create, MON_TAG_TTY, 0), reply);
	if (r < 0) {
		a->input = false;
		attach_free(a);
		return r;
	}
	list_append(&c->clients, &a->link);
	return 0;
}

static void check_request(const struct container *c, struct err *e)
{
	if (c->state != MON_CREATED && c->state != MON_RUNNING)
		err_precondition(e, "container %s is neither created nor running", c->id);
	else if (c->state == MON_CREATED && ipc_get_str(&c->create, MON_TAG_RESTORE))
		err_precondition(e,
				 "container %s is made of a checkpoint: it has no streams "
				 "before it has been started",
				 c->id);
	else if (c->pidfd >= 0)
		err_precondition(e,
				 "the streams of container %s went with its pod's monitor, which "
				 "has died",
				 c->id);
	else if (c->mon->n_sessions >= MON_SESSIONS_MAX)
		err_set(e, -EMFILE, GRPC_RESOURCE_EXHAUSTED,
			"pod sandbox %s has %d streaming sessions already", c->mon->pod_id,
			MON_SESSIONS_MAX);
}

void attach_request(struct container *c, struct request *q)
{
	struct err e = ERR_NULL;
	struct ipc_out reply;
	int r;

	check_request(c, &e);
	if (e.errnum) {
		request_fail(q, &e);
		return;
	}
	ipc_out_reply(&reply, q->in.seq, NULL);
	r = begin(c, &q->in, &reply);
	FAULT_POINT("monitor.attach.begun");
	if (r < 0) {
		ipc_out_fini(&reply);
		err_errno(&e, r, "attach to container %s", c->id);
		request_fail(q, &e);
		return;
	}
	request_answer(q, &reply);
}
