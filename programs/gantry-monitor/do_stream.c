/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs of streaming sessions (ipc/stream.h).
 *
 * An exec's job answers early, with the descriptors of the command's streams, and stays until the
 * command has ended: it is the subreaper that the command falls to, it tells the client how it
 * ended, and it kills the command and what that has started when the client goes.  No byte of a
 * stream passes through here.  The monitor's end of this job's socket is closed with the monitor:
 * then the command is killed, too, so that none is left that nobody watches.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "exec.h"
#include "ipc/stream.h"
#include "runtime/runtime.h"

#define SINK_READ 65536			     /* bytes of output that nobody wants, at once */
#define CONNECT_TIME_MAX (10 * USEC_PER_SEC) /* one connection may take: to a full backlog, say */
#define CONNECT_STEP_MAX (60 * USEC_PER_SEC / 1000) /* ms of one poll(2) */

struct session {
	bool tty, want[3]; /* input, output, errors */
	int command[3];	   /* its standard streams */
	int client[3];	   /* their other ends, as far as they are wanted */
	int sink[3];	   /* and as far as they are not: read here, and thrown away */
	int master;
	int control; /* to the client */
	pid_t pid;
	int pidfd;
};

static void read_request(const struct job_context *j, struct session *s)
{
	*s = (struct session){
		.tty = ipc_get_u64(j->in, STREAM_TAG_TTY, 0),
		.want = {ipc_get_u64(j->in, STREAM_TAG_STDIN, 0),
			 ipc_get_u64(j->in, STREAM_TAG_STDOUT, 0),
			 ipc_get_u64(j->in, STREAM_TAG_STDERR, 0)},
		.command = {-EBADF, -EBADF, -EBADF},
		.client = {-EBADF, -EBADF, -EBADF},
		.sink = {-EBADF, -EBADF, -EBADF},
		.master = -EBADF,
		.control = -EBADF,
		.pidfd = -EBADF,
	};
	if (s->tty)
		s->want[2] = false;
}

static int make_output(struct session *s, int i, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "make a pipe for the command");
	s->command[i] = p[1];
	if (s->want[i]) {
		s->client[i] = p[0];
	} else {
		fcntl(p[0], F_SETFL, O_NONBLOCK);
		s->sink[i] = p[0];
	}
	return 0;
}

/* With a terminal these are the runtime's alone, and still handed to the command's user. */
static int make_streams(struct session *s, struct err *e)
{
	int p[2], r = 0;

	if (s->want[0] && !s->tty) {
		if (pipe2(p, O_CLOEXEC) < 0)
			return err_errno(e, -errno, "make a pipe for the command");
		s->command[0] = p[0];
		s->client[0] = p[1];
	} else {
		r = s->command[0] = runtime_no_input(e);
	}
	for (int i = 1; r >= 0 && i < 3; i++)
		r = make_output(s, i, e);
	return r < 0 ? r : 0;
}

static int start(struct job_context *j, struct session *s, struct err *e)
{
	int r = make_streams(s, e);

	if (r == 0)
		r = exec_start(j, s->command, s->tty ? &s->master : NULL, &s->pid, e);
	for (int i = 0; i < 3; i++)
		s->command[i] = fd_close(s->command[i]);
	if (r == 0) {
		r = s->pidfd = spawn_pidfd_open(s->pid);
		if (r < 0)
			err_errno(e, r, "watch the command");
	}
	return r < 0 ? r : 0;
}

static void put_dup(struct ipc_out *o, int fd)
{
	ipc_put_fd(o, fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

/* The descriptors of STREAM_START in their order; after them, for the monitor, the command's. */
static int answer(struct job_context *j, struct session *s, struct ipc_out *reply, struct err *e)
{
	int p[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		return err_errno(e, -errno, "make a socket for the session");
	s->control = p[0];
	ipc_put_fd(reply, p[1]);
	for (int i = 0; i < 3; i++) {
		if (s->want[i] && s->tty)
			put_dup(reply, s->master);
		else if (s->want[i])
			ipc_put_fd(reply, TAKE_FD(s->client[i]));
	}
	if (s->tty)
		ipc_put_fd(reply, TAKE_FD(s->master)); /* the client's alone: closed, it hangs up */
	ipc_put_u64(reply, MON_TAG_PID, (uint64_t)s->pid);
	put_dup(reply, s->pidfd);
	r = ipc_send(j->cancel_fd, reply);
	FAULT_POINT("job.exec-stream.answered");
	return r < 0 ? err_errno(e, r, "hand the command's streams over") : 0;
}

/* What the client says means nothing to a command: that it is there is what counts. */
static bool has_gone(int control)
{
	char buf[512];
	ssize_t n = recv(control, buf, sizeof(buf), MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static bool sink_open(int fd)
{
	static char buf[SINK_READ];
	ssize_t n = read(fd, buf, sizeof(buf));

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* True when the command has ended; false when it has been killed because nobody wants it any more: then
 * it is not waited for, it may be frozen, or wait for a disk. */
static bool attend(struct job_context *j, struct session *s)
{
	struct pollfd pf[] = {{s->pidfd, POLLIN, 0},
			      {s->control, POLLIN, 0},
			      {j->cancel_fd, POLLIN, 0},
			      {s->sink[1], POLLIN, 0},
			      {s->sink[2], POLLIN, 0}};

	while (!pf[0].revents) {
		if (poll(pf, ARRAY_SIZE(pf), -1) < 0)
			continue;
		for (int i = 3; i < 5; i++)
			if (pf[i].revents && !sink_open(pf[i].fd))
				pf[i].fd = -1;
		if (!pf[2].revents && !(pf[1].revents && has_gone(s->control)))
			continue;
		FAULT_POINT("job.exec-stream.gone");
		exec_kill(j);
		return false;
	}
	return true;
}

static void tell_end(struct session *s, int status)
{
	struct ipc_out o;

	ipc_out_init(&o, STREAM_END, 0);
	ipc_put_u64(&o, STREAM_TAG_EXIT_CODE, (uint64_t)status);
	FAULT_POINT("job.exec-stream.ended");
	ipc_send(s->control, &o);
}

int do_exec_stream(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	struct session s;
	int status = 0, r;

	read_request(j, &s);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	exec_isolate(j);
	tree_mark(&j->tree);
	/* The monitor's end shows on its socket; dying with it would leave the command. */
	prctl(PR_SET_PDEATHSIG, 0);
	r = start(j, &s, e);
	FAULT_POINT("job.exec-stream.started");
	if (r == 0)
		r = answer(j, &s, reply, e);
	if (r < 0)
		return exec_start_failed(j, r, e);
	if (attend(j, &s) && spawn_wait(s.pid, &status) == 0)
		tell_end(&s, status);
	exec_over(j);
	return JOB_ANSWERED;
}

/* --- ports --- */

static int await_connected(int fd, int cancel_fd, uint64_t until)
{
	struct pollfd pf[] = {{fd, POLLOUT, 0}, {cancel_fd, POLLIN, 0}};
	uint64_t now = clock_mono_us();
	socklen_t n = sizeof(int);
	int error = 0;

	while (now < until && !pf[0].revents && !pf[1].revents) {
		poll(pf, 2, (int)MIN((until - now) / 1000 + 1, (uint64_t)CONNECT_STEP_MAX));
		now = clock_mono_us();
	}
	if (pf[1].revents)
		return -ECANCELED;
	if (!pf[0].revents)
		return -ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 ? -errno : -error;
}

/* Returns the socket, owned, or -errno. */
static int connect_to(const struct sockaddr *sa, socklen_t n, int cancel_fd, uint64_t until)
{
	_cleanup_close_ int fd =
		socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = connect(fd, sa, n) < 0 ? -errno : 0;
	if (r == -EINPROGRESS)
		r = await_connected(fd, cancel_fd, until);
	return r < 0 ? r : TAKE_FD(fd);
}

/* The pod's address, of which a sandbox has taken charge: its loopback is nobody's but its own. */
static int connect_inside(const struct job_context *j, uint16_t port, uint64_t until)
{
	_cleanup_free_ char *ips = xstrdup(str_or_empty(j->mon->ips));
	int r = -EADDRNOTAVAIL;
	char *save = NULL;

	for (char *ip = strtok_r(ips, " ", &save); ip; ip = strtok_r(NULL, " ", &save)) {
		struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
		struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

		if (inet_pton(AF_INET, ip, &v4.sin_addr) == 1)
			r = connect_to((struct sockaddr *)&v4, sizeof(v4), j->cancel_fd, until);
		else if (inet_pton(AF_INET6, ip, &v6.sin6_addr) == 1)
			r = connect_to((struct sockaddr *)&v6, sizeof(v6), j->cancel_fd, until);
		if (r >= 0 || r == -ECANCELED)
			break;
	}
	return r;
}

/* Its loopback; what the first address says is what people look for. */
static int connect_loopback(const struct job_context *j, uint16_t port, uint64_t until)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
				  .sin6_port = htons(port),
				  .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd, first;

	first = fd = connect_to((struct sockaddr *)&v4, sizeof(v4), j->cancel_fd, until);
	if (fd < 0 && fd != -ECANCELED)
		fd = connect_to((struct sockaddr *)&v6, sizeof(v6), j->cancel_fd, until);
	return fd < 0 && fd != -ECANCELED ? first : fd;
}

int do_connect(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	uint16_t port = (uint16_t)ipc_get_u64(j->in, STREAM_TAG_PORT, 0);
	uint64_t until = clock_mono_us() + CONNECT_TIME_MAX;
	bool inside = sandbox_of(j->mon) != NULL;
	int fd;

	if (!inside && j->mon->netns_fd >= 0 && setns(j->mon->netns_fd, CLONE_NEWNET) < 0)
		return err_errno(e, -errno, "enter the pod's network namespace");
	fd = inside ? connect_inside(j, port, until) : connect_loopback(j, port, until);
	FAULT_POINT("job.connect.connected");
	if (fd == -ECANCELED)
		return err_set(e, fd, GRPC_CANCELLED, "cancelled");
	if (fd < 0)
		return err_set(e, fd, GRPC_UNAVAILABLE, "connect to port %u of the pod: %s", port,
			       strerror(-fd));
	ipc_put_fd(reply, fd);
	return 0;
}
