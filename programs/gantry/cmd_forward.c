/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry port-forward: each connection is a process of its own, which asks for a streaming
 * connection and moves bytes; it ends with this one.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "channel.h"
#include "lookup.h"

#define FORWARDS_MAX 64	     /* addresses times ports */
#define CONNECTIONS_MAX 1024 /* at once; more wait in the sockets' queues */
#define FORWARD_BUFFER (32 * KIB)
#define BACKLOG 128

enum { CHANNEL_DATA = 0, CHANNEL_FAILURE = 1 }; /* of the one port of a connection */
#define PORT_PREFIX 2				/* each begins with the port in two bytes */

struct forward {
	int fd;
	uint16_t local, remote;
	char address[INET6_ADDRSTRLEN];
	bool six;
};

struct forwards {
	struct cli *cli;
	const char *pod, *name; /* id; "pod web" */
	struct forward list[FORWARDS_MAX];
	size_t n;
	size_t running; /* processes */
	int child_fd;	/* signalfd of SIGCHLD */
};

/* --- one connection --- */

struct pipe {
	struct cli *cli;
	struct channels ch;
	int fd; /* of the local client; non-blocking */
	struct channel_piece piece;
	unsigned skip[2]; /* bytes of PORT_PREFIX that are still to come */
	bool read_over, write_over;
	struct strbuf failure;
};

/* What is said on the other channel is why there is no connection (any more). */
static void take_failure(struct pipe *p)
{
	if (p->failure.len + p->piece.n <= ERR_MSG_MAX)
		strbuf_add(&p->failure, p->piece.data, p->piece.n);
	p->piece.n = 0;
}

static void skip_prefix(struct pipe *p, unsigned *left)
{
	size_t k = MIN((size_t)*left, p->piece.n);

	p->piece.data += k;
	p->piece.n -= k;
	*left -= (unsigned)k;
}

static int pipe_take(struct pipe *p, struct err *e)
{
	int r = 0;

	while (p->piece.n == 0 && (r = channels_next(&p->ch, &p->piece, e)) == 1) {
		if (p->piece.channel == CHANNEL_DATA || p->piece.channel == CHANNEL_FAILURE)
			skip_prefix(p, &p->skip[p->piece.channel]);
		if (p->piece.channel == CHANNEL_FAILURE)
			take_failure(p);
		else if (p->piece.channel == CHANNEL_END && p->piece.n > 0 &&
			 p->piece.data[0] == CHANNEL_DATA)
			p->write_over = true;
		if (p->piece.channel != CHANNEL_DATA)
			p->piece.n = 0;
		if (p->write_over)
			shutdown(p->fd, SHUT_WR);
	}
	return r < 0 ? r : 0;
}

static int pipe_write(struct pipe *p)
{
	ssize_t n = send(p->fd, p->piece.data, p->piece.n, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return -errno;
	p->piece.data += n;
	p->piece.n -= (size_t)n;
	return 0;
}

static int pipe_read(struct pipe *p)
{
	uint8_t buf[FORWARD_BUFFER];
	ssize_t n = read(p->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return -errno;
	p->read_over = n == 0;
	if (n > 0)
		channels_send(&p->ch, CHANNEL_DATA, buf, (size_t)n);
	else
		channels_send_end(&p->ch, CHANNEL_DATA);
	return 0;
}

/* Errors of the local client end the connection without a word: it knows. */
static int pipe_turn(struct pipe *p, struct err *e)
{
	bool writing = p->piece.n > 0, sending = channels_queued(&p->ch) > 0;
	short local = (short)((writing ? POLLOUT : 0) | (!sending && !p->read_over ? POLLIN : 0));
	struct pollfd f[] = {{.fd = writing && !sending ? -1 : p->ch.fd,
			      .events = (short)((writing ? 0 : POLLIN) | (sending ? POLLOUT : 0))},
			     {.fd = local ? p->fd : -1, .events = local},
			     {.fd = p->cli->cancel_fd, .events = POLLIN}};
	int r = 0;

	if (poll(f, ARRAY_SIZE(f), -1) < 0 && errno != EINTR)
		return err_errno(e, -errno, "poll");
	if (f[2].revents)
		return -ECANCELED;
	if (f[1].revents & POLLOUT)
		r = pipe_write(p);
	if (r == 0 && f[1].revents & (POLLIN | POLLHUP | POLLERR) && local & POLLIN)
		r = pipe_read(p);
	if (r == 0 && f[0].revents & (POLLIN | POLLHUP | POLLERR) && !writing)
		r = channels_read(&p->ch, e);
	if (r == 0 || r == -EAGAIN)
		r = pipe_take(p, e);
	return r < 0 ? r : channels_flush(&p->ch, e);
}

static void connection(struct forwards *f, const struct forward *w, int fd, struct err *e)
{
	Runtime__V1__PortForwardRequest q = RUNTIME__V1__PORT_FORWARD_REQUEST__INIT;
	struct pipe p = {.cli = f->cli, .fd = fd, .skip = {PORT_PREFIX, PORT_PREFIX}};
	int32_t port = w->remote;
	Runtime__V1__PortForwardResponse *s;
	int r;

	q.pod_sandbox_id = (char *)(uintptr_t)f->pod;
	q.port = &port;
	q.n_port = 1;
	r = rpc_call(f->cli, RUNTIME, "PortForward", &q, &s, e);
	if (r == 0)
		r = channels_open(f->cli, s->url,
				  arena_printf(&f->cli->arena, "?port=%u", w->remote), &p.ch, e);
	if (r < 0)
		return;
	while (r == 0 && (!p.ch.closed || p.piece.n > 0))
		r = pipe_turn(&p, e);
	channels_send_close(&p.ch);
	(void)channels_flush(&p.ch, e);
	channels_fini(&p.ch);
	if (p.failure.len > 0)
		err_set(e, -EIO, GRPC_UNAVAILABLE, "%s", p.failure.s);
	strbuf_fini(&p.failure);
}

/* --- listening --- */

static int check_port(const char *s, size_t n, bool zero, uint16_t *ret)
{
	_cleanup_free_ char *text = xstrndup(s, n);
	uint64_t v = 0;

	if ((n > 0 && !str_to_u64(text, &v)) || v > UINT16_MAX || (v == 0 && !zero))
		return -EINVAL;
	*ret = (uint16_t)v;
	return 0;
}

static int parse(const char *s, struct forward *ret, struct err *e)
{
	const char *colon = strchr(s, ':'), *remote = colon ? colon + 1 : s;

	if (check_port(remote, strlen(remote), false, &ret->remote) < 0 ||
	    check_port(s, colon ? (size_t)(colon - s) : strlen(s), true, &ret->local) < 0)
		return err_invalid(e, "\"%s\", expected PORT, LOCAL_PORT:PORT or :PORT", s);
	return 0;
}

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static int make_address(const char *s, uint16_t port, union address *ret, socklen_t *ret_n)
{
	memset(ret, 0, sizeof(*ret));
	ret->four.sin_port = htons(port);
	*ret_n = sizeof(ret->four);
	ret->any.sa_family = AF_INET;
	if (inet_pton(AF_INET, s, &ret->four.sin_addr) == 1)
		return 0;
	*ret_n = sizeof(ret->six);
	ret->any.sa_family = AF_INET6;
	return inet_pton(AF_INET6, s, &ret->six.sin6_addr) == 1 ? 0 : -EINVAL;
}

static int listen_at(struct forward *w, const char *address, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	union address sa;
	socklen_t n;
	int one = 1;

	if (make_address(address, w->local, &sa, &n) < 0)
		return err_invalid(e, "--listen: \"%s\" is no IP address", address);
	snprintf(w->address, sizeof(w->address), "%s", address);
	w->six = sa.any.sa_family == AF_INET6;
	fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, -errno, "make a socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (w->six) /* :: does not take what an IPv4 address of ours is to have */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, &sa.any, n) < 0 || listen(fd, BACKLOG) < 0 || getsockname(fd, &sa.any, &n) < 0)
		return err_errno(e, -errno, "listen at %s, port %u", address, w->local);
	w->local = ntohs(w->six ? sa.six.sin6_port : sa.four.sin_port);
	w->fd = TAKE_FD(fd);
	return 0;
}

static int listen_all(struct forwards *f, const struct args *a, struct err *e)
{
	for (size_t i = 1; i < a->n; i++) {
		size_t pos = 0;
		const char *address = args_next(a, "listen", &pos);
		struct forward w = {.fd = -EBADF};

		if (parse(a->v[i], &w, e) < 0)
			return e->errnum;
		for (address = address ? address : "127.0.0.1"; address;
		     address = args_next(a, "listen", &pos)) {
			if (f->n == FORWARDS_MAX)
				return err_invalid(e, "more than %d ports", FORWARDS_MAX);
			f->list[f->n] = w;
			if (listen_at(&f->list[f->n], address, e) < 0)
				return e->errnum;
			w.local = f->list[f->n++].local; /* one for all addresses */
		}
	}
	return 0;
}

static void say(const struct forwards *f)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct forward *w = &f->list[i];

		cli_print("Forwarding from %s%s%s:%u -> %u\n", w->six ? "[" : "", w->address,
			  w->six ? "]" : "", w->local, w->remote);
	}
}

/* --- the processes --- */

static _Noreturn void child(struct forwards *f, const struct forward *w, int fd, pid_t parent)
{
	struct err e = ERR_NULL;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < f->n; i++)
		fd_close(f->list[i].fd);
	/* A connection to the daemon is no two processes'. */
	f->cli->client = NULL;
	connection(f, w, fd, &e);
	if (e.errnum && e.errnum != -ECANCELED && e.msg[0]) {
		err_wrap(&e, "forward to port %u of %s", w->remote, f->name);
		cli_fail(f->cli, &e);
	}
	_exit(EXIT_OK);
}

static void accept_one(struct forwards *f, const struct forward *w)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	pid_t parent = getpid(), pid;

	if (fd < 0)
		return; /* it has gone */
	pid = fork();
	if (pid == 0)
		child(f, w, fd, parent);
	if (pid < 0)
		cli_warn("fork: %s", strerror(errno));
	f->running += pid > 0;
	fd_close(fd);
}

static void reap(struct forwards *f)
{
	struct signalfd_siginfo s;

	(void)!read(f->child_fd, &s, sizeof(s));
	while (waitpid(-1, NULL, WNOHANG) > 0)
		f->running--;
}

static int serve(struct forwards *f, struct err *e)
{
	struct pollfd p[FORWARDS_MAX + 2];

	for (;;) {
		bool full = f->running >= CONNECTIONS_MAX;

		p[0] = (struct pollfd){.fd = f->cli->cancel_fd, .events = POLLIN};
		p[1] = (struct pollfd){.fd = f->child_fd, .events = POLLIN};
		for (size_t i = 0; i < f->n; i++)
			p[2 + i] =
				(struct pollfd){.fd = full ? -1 : f->list[i].fd, .events = POLLIN};
		if (poll(p, 2 + f->n, -1) < 0 && errno != EINTR)
			return err_errno(e, -errno, "poll");
		if (p[0].revents)
			return 0;
		if (p[1].revents)
			reap(f);
		for (size_t i = 0; i < f->n; i++)
			if (p[2 + i].revents)
				accept_one(f, &f->list[i]);
	}
}

static int watch_children(struct forwards *f, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	f->child_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return f->child_fd < 0 ? err_errno(e, -errno, "make a signalfd") : 0;
}

static int find_ready(struct cli *cli, const char *word, struct object *ret, struct err *e)
{
	struct inventory v;
	int r = inventory_load(cli, &v, e);

	if (r == 0)
		r = inventory_find(cli, &v, word, KIND_POD | KIND_CONTAINER, KIND_POD, ret, e);
	if (r == 0 && !ret->pod)
		r = err_not_found(e, "%s has no pod", object_name(cli, ret));
	if (r == 0 && ret->pod->state != RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
		r = err_precondition(e, "%s is not ready", object_name(cli, ret));
	return r;
}

static int port_forward(struct cli *cli, const struct args *a)
{
	struct forwards f = {.cli = cli};
	struct err e = ERR_NULL;
	struct object o;
	int r;

	r = listen_all(&f, a, &e);
	if (r == -EINVAL)
		return cli_usage(a->command, &e);
	if (r == 0)
		r = find_ready(cli, a->v[0], &o, &e);
	if (r == 0)
		r = watch_children(&f, &e);
	if (r == 0) {
		f.pod = o.pod->id;
		f.name = object_name(cli, &o);
		say(&f);
		r = serve(&f, &e);
	}
	for (size_t i = 0; i < f.n; i++)
		fd_close(f.list[i].fd);
	return r < 0 ? cli_fail(cli, &e) : EXIT_INTERRUPTED;
}

static const struct opt forward_options[] = {
	{.name = "listen",
	 .metavar = "IP",
	 .help = "listen at this address of the host (127.0.0.1)",
	 .many = true},
	OPT_END,
};

const struct command cmd_forward = {
	.name = "port-forward",
	.operands = "POD [LOCAL:]PORT...",
	.summary = "reach ports of a pod at ports of this host, until it is interrupted",
	.text = "Listens at 127.0.0.1, or at each --listen, and passes every connection to the "
		"port of the pod, on its loopback interface: services that listen nowhere else are "
		"reached, too. Without LOCAL the port is the same on both sides; ':80' takes one "
		"that is free. What it listens at is printed.",
	.examples = "gantry port-forward web 8080:80\n"
		    "gantry port-forward --listen 0.0.0.0 db 5432 :9187",
	.opts = forward_options,
	.complete = COMPLETE_POD,
	.min = 2,
	.max = UNLIMITED,
	.run = port_forward,
};
