/* SPDX-License-Identifier: Apache-2.0 */
/* A process that forks for another: see spawner.h. */
#include "ipc/spawner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ipc/ipc.h"
#include "loop/co.h"

#define SPAWNER_ARGS_MAX 64 /* what has more is started without it */

enum { SPAWNER_START = 16 };

enum {
	TAG_FILE = 16,
	TAG_ARG = 17,	       /* repeated string */
	TAG_SETSID = 18,       /* u64 */
	TAG_DEATH_SIGNAL = 19, /* u64 */
	TAG_FD = 20,  /* repeated u64, one a number from 0: 1, it is among the descriptors; 0 */
	TAG_PID = 21, /* u64; the reply's, with the pidfd */
};

static struct spawner {
	int fd; /* until there is a loop */
	struct ipc_conn conn;
} spawner = {.fd = -EBADF};

/* --- the process --- */

static int start(struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	const char *argv[SPAWNER_ARGS_MAX + 1] = {0};
	struct spawn s = SPAWN_INIT;
	unsigned n_argv = 0, n_fds = 0, k = 0;
	struct ipc_field f;
	size_t pos = 0;
	int pidfd, r;
	pid_t pid;

	while (ipc_next(in, &pos, &f)) {
		if (f.tag == TAG_ARG && n_argv < SPAWNER_ARGS_MAX)
			argv[n_argv++] = ipc_field_str(&f);
		else if (f.tag == TAG_FD && n_fds < SPAWN_FDS_MAX)
			s.fds[n_fds++] = ipc_field_u64(&f) && k < in->n_fds ? in->fds[k++] : -1;
	}
	s.file = ipc_get_str(in, TAG_FILE);
	s.argv = argv;
	s.n_fds = n_fds;
	s.setsid = ipc_get_u64(in, TAG_SETSID, 0);
	s.death_signal = (int)ipc_get_u64(in, TAG_DEATH_SIGNAL, 0);
	s.no_wait = true;
	s.for_parent = true;
	if (!s.file || !n_argv || n_fds < 3)
		return err_invalid(e, "a request without a program");
	r = spawn_start(&s, &pid, &pidfd, e);
	if (r < 0)
		return r;
	ipc_put_u64(reply, TAG_PID, (uint64_t)pid);
	ipc_put_fd(reply, pidfd);
	return 0;
}

static _Noreturn void serve(int fd, pid_t parent)
{
	struct ipc_in in;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	prctl(PR_SET_NAME, "gantryd-spawner");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* What a terminal or a service manager sends to all is for the daemon, which goes first. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	while (ipc_recv(fd, &in) == 0) {
		struct ipc_out reply;
		struct err e = ERR_NULL;

		ipc_out_reply(&reply, in.seq, NULL);
		if (in.type == SPAWNER_START && start(&in, &reply, &e) < 0) {
			ipc_out_fini(&reply);
			ipc_out_reply(&reply, in.seq, &e);
		}
		ipc_in_fini(&in);
		if (ipc_send(fd, &reply) < 0)
			break;
	}
	_exit(0);
}

void spawner_open(void)
{
	pid_t self = getpid(), pid;
	int p[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		serve(p[1], self);
	}
	close(p[1]);
	if (pid < 0)
		close(p[0]);
	else
		spawner.fd = p[0];
}

void spawner_close(void)
{
	ipc_conn_close(&spawner.conn);
	spawner.fd = fd_close(spawner.fd);
}

/* --- its parent --- */

static void on_message(struct ipc_conn *c, struct ipc_in *in)
{
	(void)c;
	(void)in; /* it says nothing unasked */
}

static void on_gone(struct ipc_conn *c, int reason)
{
	(void)c;
	log_warn("the process that starts programs has ended (%d): they are started without it",
		 reason);
}

static bool available(struct loop *l)
{
	if (spawner.fd >= 0)
		(void)ipc_conn_open(&spawner.conn, l, TAKE_FD(spawner.fd), on_message, on_gone);
	return spawner.conn.loop != NULL;
}

static int put(struct ipc_out *o, const struct spawn *s, struct err *e)
{
	ipc_out_init(o, SPAWNER_START, 0);
	ipc_put_str(o, TAG_FILE, s->file);
	for (size_t i = 0; s->argv[i]; i++)
		ipc_put_str(o, TAG_ARG, s->argv[i]);
	ipc_put_u64(o, TAG_SETSID, s->setsid);
	ipc_put_u64(o, TAG_DEATH_SIGNAL, (uint64_t)s->death_signal);
	for (unsigned i = 0; i < s->n_fds; i++) {
		int fd = s->fds[i] < 0 ? -1 : fcntl(s->fds[i], F_DUPFD_CLOEXEC, 3);

		if (s->fds[i] >= 0 && fd < 0) {
			int r = -errno;

			ipc_out_fini(o);
			return err_errno(e, r, "hand descriptors to %s", s->argv[0]);
		}
		ipc_put_u64(o, TAG_FD, fd >= 0);
		if (fd >= 0)
			ipc_put_fd(o, fd);
	}
	return 0;
}

int spawner_start(struct loop *l, const struct spawn *s, pid_t *ret_pid, int *ret_pidfd,
		  struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct spawn direct = *s;
	struct ipc_out o;
	size_t n = 0;
	int r;

	direct.no_wait = true;
	while (s->argv[n])
		n++;
	if (n > SPAWNER_ARGS_MAX || !available(l))
		return spawn_start(&direct, ret_pid, ret_pidfd, e);
	r = put(&o, s, e);
	if (r < 0)
		return r;
	co_shield(true);
	r = ipc_call(&spawner.conn, &o, &in, e);
	co_shield(false);
	if (r < 0)
		return err_wrap(e, "start %s", s->argv[0]);
	*ret_pid = (pid_t)ipc_get_u64(&in, TAG_PID, 0);
	*ret_pidfd = in.n_fds ? TAKE_FD(in.fds[0]) : spawn_pidfd_open(*ret_pid);
	return *ret_pidfd < 0 ? err_errno(e, *ret_pidfd, "watch %s", s->argv[0]) : 0;
}
