/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Container output to CRI logs: "TIME stdout|stderr F|P CONTENT\n".
 *
 * A line that is longer than the limit is written in parts (P ... F).  A line whose end has
 * not come is held back, up to that limit, and written when the container ends.  Reads are
 * large and one write carries many lines; while the log's disk is slow the pipe fills and the
 * container waits, so nothing is buffered without bound and nothing is lost.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "mon.h"

#define OUTPUT_READ 65536
#define OUTPUT_HEAD 48 /* time, stream and flag of a line */
#define OUTPUT_READS 8 /* of one stream in one turn of the loop */

static _Alignas(4096) char in_buf[OUTPUT_READ];
static _Alignas(4096) char out_buf[2 * OUTPUT_READ];
static size_t n_out;

static void flush(struct container *c)
{
	/* A log that cannot be written (disk full) costs lines, not the container. */
	if (c->log_fd >= 0 && n_out)
		(void)fs_write_all(c->log_fd, out_buf, n_out);
	n_out = 0;
}

static void put(struct container *c, const char *p, size_t n)
{
	while (n > 0) {
		size_t k = MIN(n, sizeof(out_buf) - n_out);

		memcpy(out_buf + n_out, p, k);
		n_out += k;
		p += k;
		n -= k;
		if (n_out == sizeof(out_buf))
			flush(c);
	}
}

static void put_line(struct stream *s, const char *when, char flag, const char *p, size_t n)
{
	struct container *c = s->container;
	const char tail[] = {' ', flag, ' '};

	put(c, when, 30);
	put(c, " ", 1);
	put(c, s->name, 6);
	put(c, tail, sizeof(tail));
	put(c, s->carry, s->n_carry);
	put(c, p, n);
	put(c, "\n", 1);
	s->n_carry = 0;
}

/* Holds back what has no end yet; what would exceed the limit goes out in parts. */
static void hold(struct stream *s, const char *when, const char *p, size_t n)
{
	size_t max = s->container->log_line_max;

	while (s->n_carry + n >= max) {
		size_t k = max - s->n_carry;

		put_line(s, when, 'P', p, k);
		p += k;
		n -= k;
	}
	if (!n)
		return;
	if (!s->carry)
		s->carry = xmalloc(max);
	memcpy(s->carry + s->n_carry, p, n);
	s->n_carry += n;
}

static void put_whole(struct stream *s, const char *when, const char *p, size_t n)
{
	size_t max = s->container->log_line_max;

	while (s->n_carry + n > max) {
		size_t k = max - s->n_carry;

		put_line(s, when, 'P', p, k);
		p += k;
		n -= k;
	}
	put_line(s, when, 'F', p, n);
}

static void take(struct stream *s, const char *p, size_t n)
{
	char when[CLOCK_RFC3339_LEN];
	const char *end = p + n;

	clock_rfc3339(clock_wall_ns(), when);
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		if (!nl) {
			hold(s, when, p, (size_t)(end - p));
			break;
		}
		put_whole(s, when, p, (size_t)(nl - p));
		p = nl + 1;
	}
	if (!s->n_carry && s->carry) {
		free(s->carry);
		s->carry = NULL;
	}
}

static void stream_close(struct stream *s)
{
	char when[CLOCK_RFC3339_LEN];

	loop_io_del(&s->io);
	s->fd = fd_close(s->fd);
	if (s->n_carry) {
		put_line(s, clock_rfc3339(clock_wall_ns(), when), 'F', "", 0);
		flush(s->container);
	}
	free(s->carry);
	s->carry = NULL;
}

/* False at the end of the stream (EIO: the last user of a terminal has gone).  Attached clients are
 * waited for, but not at the container's end. */
static bool pump(struct stream *s, int reads, bool at_end)
{
	while (reads-- > 0 && (at_end || !attach_waits(s))) {
		ssize_t n = read(s->fd, in_buf, sizeof(in_buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		if (s->container->log_fd >= 0)
			take(s, in_buf, (size_t)n);
		flush(s->container);
		attach_give(s, in_buf, (size_t)n);
		if ((size_t)n < sizeof(in_buf) / 2)
			return true;
	}
	return true;
}

static void on_output(struct loop_io *io, uint32_t events)
{
	struct stream *s = container_of(io, struct stream, io);

	(void)events;
	monitor_trim_later(s->container->mon);
	if (!pump(s, OUTPUT_READS, false))
		stream_close(s);
	else if (attach_waits(s)) /* not even its hang-up is looked at: that would never rest */
		loop_io_del(io);
}

void output_resume(struct container *c)
{
	struct stream *const streams[] = {&c->out, &c->err};

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		struct stream *s = streams[i];

		if (s->fd >= 0 && !s->io.loop && !attach_waits(s) &&
		    loop_io_add(c->mon->loop, &s->io, s->fd, EPOLLIN, on_output) < 0)
			stream_close(s);
	}
}

static int open_log(struct container *c)
{
	if (!*c->log_path)
		return 0;
	c->log_fd = open(c->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	return c->log_fd < 0 ? -errno : 0;
}

static void stream_open(struct container *c, struct stream *s, const char *name, int fd)
{
	s->container = c;
	s->name = name;
	s->fd = fd;
	if (fd < 0)
		return;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (loop_io_add(c->mon->loop, &s->io, fd, EPOLLIN, on_output) < 0)
		s->fd = fd_close(fd);
}

void output_open(struct container *c, int out, int err)
{
	(void)open_log(c);
	stream_open(c, &c->out, "stdout", out);
	stream_open(c, &c->err, "stderr", err);
}

void output_reopen(struct container *c, struct err *e, int *ret)
{
	int old = c->log_fd;

	*ret = open_log(c);
	if (*ret < 0) {
		err_errno(e, *ret, "open the log %s", c->log_path);
		c->log_fd = old;
	} else {
		fd_close(old);
	}
}

void output_drain(struct container *c)
{
	struct stream *const streams[] = {&c->out, &c->err};

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		if (streams[i]->fd >= 0 && !pump(streams[i], INT32_MAX, true))
			stream_close(streams[i]);
}

void output_close(struct container *c)
{
	if (c->out.fd >= 0)
		stream_close(&c->out);
	if (c->err.fd >= 0)
		stream_close(&c->err);
	c->log_fd = fd_close(c->log_fd);
	c->stdin_fd = fd_close(c->stdin_fd);
}

void output_trim(void)
{
	madvise(in_buf, sizeof(in_buf), MADV_DONTNEED);
	madvise(out_buf, sizeof(out_buf), MADV_DONTNEED);
}
