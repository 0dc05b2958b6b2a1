/* SPDX-License-Identifier: Apache-2.0 */
/* Where streaming clients come to, and the programs that they are handed to: see stream.h. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "ipc/spawner.h"
#include "loop/co.h"
#include "pod/stream_internal.h"

#define LISTEN_BACKLOG 128
#define ACCEPT_TURN 16			 /* connections of one turn of the loop */
#define ACCEPT_PAUSE (100 * USEC_PER_MS) /* where there are no descriptors or processes left */
#define TELL_EVERY (60 * USEC_PER_SEC)	 /* that there are too many connections */
#define PEM_FILE_MAX (1u << 20)		 /* bytes of a file of certificates, or a key */
#define PEM_BEGIN "-----BEGIN "

union address {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* --- gantry-stream --- */

static void on_stream_gone(struct ipc_conn *ipc, int reason)
{
	(void)reason;
	stream_cancel_calls(container_of(ipc, struct stream_child, ipc));
}

static void on_stream_exit(struct loop_child *child, int status)
{
	struct stream_child *c = container_of(child, struct stream_child, child);

	if (status != 0)
		log_debug("gantry-stream %d ended with %d", (int)child->pid, status);
	ipc_conn_close(&c->ipc);
	stream_cancel_calls(c);
	list_remove(&c->link);
	c->server->n_children--;
	stream_child_unref(c);
}

/* Certificates are read by each program, so that new ones need no restart. */
static void put_arguments(const struct config *cfg, bool tcp, struct strv *to)
{
	const struct {
		const char *option, *value;
	} tls[] = {
		{"--tls-cert", cfg->streaming.tls.cert},
		{"--tls-key", cfg->streaming.tls.key},
		{"--tls-client-ca", cfg->streaming.tls.client_ca},
		{"--tls-min-version", cfg->streaming.tls.min_version},
	};

	strv_add(to, tcp && *cfg->streaming.tls.cert ? "gantry-stream-tls" : "gantry-stream");
	strv_add(to, "--idle-timeout");
	strv_addf(to, "%" PRIu64, cfg->streaming.idle_timeout_us / USEC_PER_SEC);
	for (size_t i = 0; tcp && *cfg->streaming.tls.cert && i < ARRAY_SIZE(tls); i++)
		if (*tls[i].value) {
			strv_add(to, tls[i].option);
			strv_add(to, tls[i].value);
		}
}

/* Its program runs. */
static int start_program(struct stream_child *c, struct err *e)
{
	struct stream_listener *l = c->from;
	struct node *n = l->server->node;
	_cleanup_close_ int fd = TAKE_FD(c->client), ours = -EBADF, theirs = -EBADF, pidfd = -EBADF;
	_cleanup_strv_ struct strv argv = STRV_NULL;
	struct spawn sp = SPAWN_INIT;
	int pair[2], r;
	pid_t pid;

	sp.file = l->tcp && *n->config->streaming.tls.cert ? n->stream_tls_path : n->stream_path;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, -errno, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	put_arguments(n->config, l->tcp, &argv);
	sp.argv = (const char *const *)argv.v;
	sp.fds[2] = STDERR_FILENO;
	sp.fds[3] = theirs;
	sp.fds[4] = fd;
	sp.n_fds = 5;
	sp.setsid = true; /* it goes on when this daemon ends, however that does */
	r = spawner_start(n->loop, &sp, &pid, &pidfd, e);
	if (r < 0)
		return r;
	FAULT_POINT("daemon.stream.spawned");
	loop_child_add(n->loop, &c->child, pid, TAKE_FD(pidfd), on_stream_exit);
	(void)ipc_conn_open(&c->ipc, n->loop, TAKE_FD(ours), stream_on_message, on_stream_gone);
	return 0;
}

static void on_pause_over(struct loop_timer *t)
{
	loop_io_mod(&container_of(t, struct stream_listener, pause)->io, EPOLLIN);
}

/* No descriptors, no processes: not in a hurry. */
static void pause_accepting(struct stream_listener *l)
{
	if (l->fd < 0)
		return;
	loop_io_mod(&l->io, 0);
	loop_timer_set(l->server->node->loop, &l->pause, clock_mono_us() + ACCEPT_PAUSE,
		       on_pause_over);
}

static void begin(void *arg)
{
	struct stream_child *c = arg;
	struct err e = ERR_NULL;

	if (start_program(c, &e) == 0)
		return;
	log_warn("a streaming connection is closed: %s", e.msg);
	pause_accepting(c->from);
	list_remove(&c->link);
	c->server->n_children--;
	stream_child_unref(c);
}

/* Takes the connection over. */
static void launch(struct stream_listener *l, int client)
{
	struct stream_child *c = xcalloc(1, sizeof(*c));

	c->server = l->server;
	c->from = l;
	c->client = client;
	c->child.pidfd = -EBADF;
	list_init(&c->calls);
	list_append(&l->server->children, &c->link);
	l->server->n_children++;
	stream_child_ref(c);
	co_start(l->server->node->loop, begin, c);
}

void streams_end_forwards(struct streams *s, const char *pod_id)
{
	struct stream_child *c;

	if (!s)
		return;
	list_for_each (c, &s->children, link)
		if (stream_child_forwards(c, pod_id))
			spawn_pidfd_signal(c->child.pidfd, SIGTERM);
}

/* --- connections --- */

static void refuse(struct streams *s, int fd)
{
	uint64_t now = clock_mono_us();

	close(fd);
	if (s->told_at && now - s->told_at < TELL_EVERY)
		return;
	s->told_at = now;
	log_warn("streaming connections are closed: there are %u already "
		 "(streaming.max_connections)",
		 s->n_children);
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct stream_listener *l = container_of(io, struct stream_listener, io);
	struct streams *s = l->server;

	(void)events;
	for (int i = 0; i < ACCEPT_TURN; i++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);
		int r = fd < 0 ? -errno : 0;

		if (r == -EAGAIN)
			return;
		if (r == -EINTR || r == -ECONNABORTED)
			continue;
		if (r == 0 && s->n_children >= s->node->config->streaming.max_connections) {
			refuse(s, fd);
			continue;
		}
		if (r < 0) {
			pause_accepting(l);
			return;
		}
		launch(l, fd);
	}
}

/* --- listening --- */

static socklen_t parse_address(const char *text, uint16_t port, union address *ret)
{
	*ret = (union address){0};
	if (inet_pton(AF_INET, text, &ret->v4.sin_addr) == 1) {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons(port);
		return sizeof(ret->v4);
	}
	ret->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
	inet_pton(AF_INET6, text, &ret->v6.sin6_addr); /* the configuration has been checked */
	return sizeof(ret->v6);
}

static int listen_tcp(struct streams *s, struct err *e)
{
	const struct config *cfg = s->node->config;
	const char *text = cfg->streaming.address;
	bool v6 = strchr(text, ':') != NULL;
	union address a;
	socklen_t n = parse_address(text, (uint16_t)cfg->streaming.port, &a);
	int one = 1;

	s->tcp.fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->tcp.fd < 0)
		return err_errno(e, -errno, "streaming.address: a socket for %s", text);
	setsockopt(s->tcp.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s->tcp.fd, &a.sa, n) < 0 || listen(s->tcp.fd, LISTEN_BACKLOG) < 0)
		return err_errno(e, -errno, "streaming: listen on %s port %u", text,
				 cfg->streaming.port);
	if (getsockname(s->tcp.fd, &a.sa, &n) < 0)
		return err_errno(e, -errno, "streaming: the port");
	s->base_url = xasprintf("%s://%s%s%s:%u", *cfg->streaming.tls.cert ? "https" : "http",
				v6 ? "[" : "", text, v6 ? "]" : "",
				ntohs(v6 ? a.v6.sin6_port : a.v4.sin_port));
	return 0;
}

/* What can be said of it without a library of TLS; the program says the rest, for each connection. */
static int check_pem(const char *key, const char *path, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct stat st;
	int r;

	if (!*path)
		return 0;
	r = stat(path, &st) < 0 ? -errno : fs_read(AT_FDCWD, path, PEM_FILE_MAX, &b);
	if (r < 0)
		return err_errno(e, r, "streaming.tls.%s: read %s", key, path);
	if (!S_ISREG(st.st_mode) || !b.s || !strstr(b.s, PEM_BEGIN))
		return err_invalid(e, "streaming.tls.%s: %s is no PEM file", key, path);
	return 0;
}

int streams_check(const struct config *c, struct err *e)
{
	int r = check_pem("cert", c->streaming.tls.cert, e);

	if (r == 0)
		r = check_pem("key", c->streaming.tls.key, e);
	return r < 0 ? r : check_pem("client_ca", c->streaming.tls.client_ca, e);
}

int streams_open(struct node *n, struct streams **ret, struct err *e)
{
	struct streams *s = xcalloc(1, sizeof(*s));
	_cleanup_free_ char *path = xasprintf("%s" STREAM_SOCKET_SUFFIX, n->config->address);
	int r;

	s->node = n;
	list_init(&s->tokens);
	list_init(&s->children);
	s->tcp = (struct stream_listener){.server = s, .fd = -EBADF, .tcp = true};
	s->local = (struct stream_listener){.server = s, .fd = -EBADF};
	r = listen_tcp(s, e);
	if (r == 0)
		r = sock_listen_unix(path, &s->local.fd, e);
	if (r == 0) {
		s->socket = TAKE_PTR(path);
		r = loop_io_add(n->loop, &s->tcp.io, s->tcp.fd, EPOLLIN, on_accept);
	}
	if (r == 0)
		r = loop_io_add(n->loop, &s->local.io, s->local.fd, EPOLLIN, on_accept);
	if (r < 0) {
		streams_close(s);
		return r;
	}
	log_info("exec, attach and port-forward are served on %s", s->base_url);
	*ret = s;
	return 0;
}

static void stop_listening(struct stream_listener *l)
{
	loop_timer_clear(&l->pause);
	loop_io_del(&l->io);
	l->fd = fd_close(l->fd);
}

void streams_drain(struct streams *s)
{
	if (!s)
		return;
	stop_listening(&s->tcp);
	stop_listening(&s->local);
	if (s->socket)
		unlink(s->socket);
	free(TAKE_PTR(s->socket));
}

struct streams *streams_close(struct streams *s)
{
	struct stream_child *c, *tmp;

	if (!s)
		return NULL;
	streams_drain(s);
	list_for_each_safe (c, tmp, &s->children, link) {
		loop_child_del(&c->child);
		ipc_conn_close(&c->ipc);
		list_remove(&c->link);
		stream_child_unref(c);
	}
	stream_tokens_drop(s);
	map_fini(&s->by_text);
	free(s->base_url);
	free(s);
	return NULL;
}
