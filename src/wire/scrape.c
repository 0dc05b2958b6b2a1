/* SPDX-License-Identifier: Apache-2.0 */
/* A server of one document: see scrape.h. */
#include "wire/scrape.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"

#define ACCEPTS_PER_TURN 8
#define ACCEPT_PAUSE (100 * USEC_PER_MS) /* where there are no descriptors left */

struct scrape_server {
	struct loop *loop;
	int listen_fd;
	struct loop_io io;
	struct loop_timer pause;
	struct list conns; /* struct scrape_conn, the oldest first */
	unsigned n;
	scrape_fn *fn;
	void *arg;
};

struct scrape_conn {
	struct list link;
	struct scrape_server *server;
	struct loop_io io;
	struct loop_timer timer;
	int fd;
	char head[SCRAPE_REQUEST_MAX];
	size_t n;
	struct strbuf out; /* not empty: the answer */
	size_t sent;
};

/* --- the parser --- */

/* "\r\n\r\n", or "\n\n" as the lenient have it. */
static bool is_whole(const char *p, size_t n)
{
	return memmem(p, n, "\r\n\r\n", 4) || memmem(p, n, "\n\n", 2);
}

static bool is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] < 'A' || p[i] > 'Z')
			return false;
	return n > 0;
}

static bool is(const char *p, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(p, word, n) == 0;
}

/* METHOD SP TARGET SP HTTP/1.x */
static int parse_line(const char *p, size_t n, bool *ret_head)
{
	const char *target = memchr(p, ' ', n), *version, *query;
	size_t method = target ? (size_t)(target - p) : 0, len;

	if (!target || !is_token(p, method))
		return 400;
	target++;
	version = memchr(target, ' ', n - method - 1);
	if (!version)
		return 400;
	len = (size_t)(version++ - target);
	n -= (size_t)(version - p);
	if (n != 8 || memcmp(version, "HTTP/", 5) != 0)
		return 400;
	if (memcmp(version, "HTTP/1.", 7) != 0)
		return 505;
	*ret_head = is(p, method, "HEAD");
	if (!*ret_head && !is(p, method, "GET"))
		return 405;
	query = memchr(target, '?', len);
	return is(target, query ? (size_t)(query - target) : len, "/metrics") ? 200 : 404;
}

int scrape_parse(const char *p, size_t n, bool *ret_head)
{
	const char *end;
	size_t line;

	*ret_head = false;
	if (!is_whole(p, n))
		return n >= SCRAPE_REQUEST_MAX ? 400 : 0;
	end = memchr(p, '\n', n);
	line = (size_t)(end - p);
	if (line > 0 && p[line - 1] == '\r')
		line--;
	return parse_line(p, line, ret_head);
}

/* --- connections --- */

static void conn_free(struct scrape_conn *k)
{
	loop_io_del(&k->io);
	loop_timer_clear(&k->timer);
	fd_close(k->fd);
	strbuf_fini(&k->out);
	list_remove(&k->link);
	k->server->n--;
	free(k);
}

static void on_time(struct loop_timer *t)
{
	conn_free(container_of(t, struct scrape_conn, timer));
}

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Bad Request";
	}
}

static void answer(struct scrape_conn *k, int status, bool head)
{
	_cleanup_strbuf_ struct strbuf body = STRBUF_NULL;

	if (status == 200)
		k->server->fn(k->server->arg, &body);
	else
		strbuf_addf(&body, "%s; there is /metrics\n", reason(status));
	strbuf_addf(&k->out,
		    "HTTP/1.1 %d %s\r\nContent-Type: %s; charset=utf-8\r\nContent-Length: %zu\r\n"
		    "%sConnection: close\r\n\r\n",
		    status, reason(status),
		    status == 200 ? "text/plain; version=0.0.4" : "text/plain", body.len,
		    status == 405 ? "Allow: GET, HEAD\r\n" : "");
	if (!head)
		strbuf_add(&k->out, str_or_empty(body.s), body.len);
}

/* The end of what is sent is said first: a close while bytes of the client's are unread would
 * take the answer from it.  It closes then, or its time runs out. */
static void send_more(struct scrape_conn *k)
{
	while (k->sent < k->out.len) {
		ssize_t w = send(k->fd, k->out.s + k->sent, k->out.len - k->sent, MSG_NOSIGNAL);

		if (w < 0 && errno == EAGAIN) {
			loop_io_mod(&k->io, EPOLLOUT);
			return;
		}
		if (w < 0) {
			conn_free(k);
			return;
		}
		k->sent += (size_t)w;
	}
	strbuf_fini(&k->out);
	k->out.len = k->sent = 0;
	shutdown(k->fd, SHUT_WR);
	loop_io_mod(&k->io, EPOLLIN);
}

static void read_more(struct scrape_conn *k)
{
	bool answered = k->n == sizeof(k->head), head;
	char *to = answered ? k->head : k->head + k->n;
	ssize_t r = recv(k->fd, to, answered ? sizeof(k->head) : sizeof(k->head) - k->n, 0);
	int status;

	if (r < 0 && errno == EAGAIN)
		return;
	if (r <= 0) {
		conn_free(k);
		return;
	}
	if (answered)
		return; /* thrown away */
	k->n += (size_t)r;
	status = scrape_parse(k->head, k->n, &head);
	if (status == 0)
		return;
	k->n = sizeof(k->head);
	answer(k, status, head);
	send_more(k);
}

static void on_conn(struct loop_io *io, uint32_t events)
{
	struct scrape_conn *k = container_of(io, struct scrape_conn, io);

	if (k->out.len)
		send_more(k);
	else if (events)
		read_more(k);
}

/* --- the listening socket --- */

static void on_pause_over(struct loop_timer *t)
{
	loop_io_mod(&container_of(t, struct scrape_server, pause)->io, EPOLLIN);
}

static void add(struct scrape_server *s, int fd)
{
	struct scrape_conn *k;

	if (s->n >= SCRAPE_CONNECTIONS_MAX)
		conn_free(list_first(&s->conns, struct scrape_conn, link));
	k = xcalloc(1, sizeof(*k));
	k->server = s;
	k->fd = fd;
	list_append(&s->conns, &k->link);
	s->n++;
	if (loop_io_add(s->loop, &k->io, fd, EPOLLIN, on_conn) < 0) {
		conn_free(k);
		return;
	}
	loop_timer_set(s->loop, &k->timer, clock_mono_us() + SCRAPE_TIME, on_time);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct scrape_server *s = container_of(io, struct scrape_server, io);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add(s, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			loop_io_mod(&s->io, 0);
			loop_timer_set(s->loop, &s->pause, clock_mono_us() + ACCEPT_PAUSE,
				       on_pause_over);
		}
		return;
	}
}

int scrape_server_new(struct loop *l, int listen_fd, scrape_fn *fn, void *arg,
		      struct scrape_server **ret, struct err *e)
{
	struct scrape_server *s = xcalloc(1, sizeof(*s));
	int r;

	s->loop = l;
	s->listen_fd = listen_fd;
	s->fn = fn;
	s->arg = arg;
	list_init(&s->conns);
	r = loop_io_add(l, &s->io, listen_fd, EPOLLIN, on_accept);
	if (r < 0) {
		scrape_server_free(s);
		return err_errno(e, r, "watch the socket for metrics");
	}
	*ret = s;
	return 0;
}

struct scrape_server *scrape_server_free(struct scrape_server *s)
{
	if (!s)
		return NULL;
	while (!list_empty(&s->conns))
		conn_free(list_first(&s->conns, struct scrape_conn, link));
	loop_timer_clear(&s->pause);
	loop_io_del(&s->io);
	fd_close(s->listen_fd);
	free(s);
	return NULL;
}
