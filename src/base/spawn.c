/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting programs: see spawn.h.
 *
 * clone3(2) with CLONE_VM | CLONE_VFORK: parent and child share memory until the child's
 * execve, the parent is suspended meanwhile.  A stack pointer of its own would be needed
 * with the raw system call and CLONE_VM, so the child is started through clone(2) of libc,
 * on a small stack, or through clone3 without CLONE_VM where it must be born in a cgroup
 * (the caller is then the small monitor, where a plain fork costs little).
 */
#include "base/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/mem.h"

#define SPAWN_STACK (32 * 1024)
#define DRAIN_READS 64 /* of 4 KiB: more than a pipe holds, and an end where somebody writes on */

struct child_args {
	const struct spawn *s;
	char *const *argv;
	char *const *envp;
	int error;    /* set by the child: the memory is shared */
	int error_fd; /* where it is not */
	pid_t parent;
};

#define EXEC_FAILED 127

static void reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Puts s->fds[i] at i.  First all are copied above the range, so none is overwritten. */
static int place_fds(const struct spawn *s)
{
	int tmp[SPAWN_FDS_MAX];

	for (unsigned i = 0; i < s->n_fds; i++) {
		int fd = s->fds[i];

		tmp[i] = -1;
		if (fd < 0 && i < 3)
			fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		tmp[i] = fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_FDS_MAX + 8);
		if (tmp[i] < 0)
			return -errno;
	}
	for (unsigned i = 0; i < s->n_fds; i++) {
		if (tmp[i] < 0)
			close((int)i);
		else if (dup2(tmp[i], (int)i) < 0)
			return -errno;
	}
	return 0;
}

static int child_main(void *arg)
{
	struct child_args *a = arg;
	const struct spawn *s = a->s;
	int r, exec_fd;

	reset_signals();
	if (s->death_signal) {
		prctl(PR_SET_PDEATHSIG, s->death_signal);
		/* The parent may have died before that was set; 0: it is in an outer namespace. */
		if (getppid() != a->parent && getppid() != 0)
			_exit(EXEC_FAILED);
	}
	if (s->setsid)
		setsid();
	exec_fd = s->file ? -1 : fcntl(s->exec_fd, F_DUPFD_CLOEXEC, SPAWN_FDS_MAX + 8);
	r = place_fds(s);
	if (r == 0 && s->cwd && chdir(s->cwd) < 0)
		r = -errno;
	if (r == 0) {
		if (s->file)
			execve(s->file, a->argv, a->envp);
		else
			syscall(SYS_execveat, exec_fd, "", a->argv, a->envp, AT_EMPTY_PATH);
		r = -errno;
	}
	a->error = r;
	if (a->error_fd >= 0)
		while (write(a->error_fd, &r, sizeof(r)) < 0 && errno == EINTR)
			;
	if (s->no_wait)
		dprintf(STDERR_FILENO, "execute %s: %s\n", s->file ? s->file : s->argv[0],
			strerror(-r));
	_exit(EXEC_FAILED);
}

/* A copy of the memory instead of the memory itself: nobody is held up. */
static pid_t start_forked(struct child_args *a, int *ret_pidfd)
{
	struct clone_args ca = {
		.flags = CLONE_PIDFD | (a->s->for_parent ? CLONE_PARENT : 0),
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.exit_signal = a->s->for_parent ? 0 : SIGCHLD, /* 0: the caller's own */
	};
	long pid = syscall(SYS_clone3, &ca, sizeof(ca));

	if (pid == 0)
		child_main(a);
	return (pid_t)pid;
}

/* The child is born in its cgroup: clone3 with a copy of the memory. */
static pid_t start_in_cgroup(struct child_args *a, int *ret_pidfd)
{
	struct clone_args ca = {
		.flags = CLONE_PIDFD | CLONE_INTO_CGROUP,
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)a->s->cgroup_fd,
	};
	int pipefd[2];
	long pid;
	ssize_t n;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -1;
	a->error_fd = pipefd[1];
	pid = syscall(SYS_clone3, &ca, sizeof(ca));
	if (pid == 0)
		child_main(a);
	close(pipefd[1]);
	if (pid > 0) {
		do
			n = read(pipefd[0], &a->error, sizeof(a->error));
		while (n < 0 && errno == EINTR);
	}
	fd_close(pipefd[0]);
	return (pid_t)pid;
}

int spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	extern char **environ;
	struct child_args a = {
		.s = s,
		.argv = (char *const *)(uintptr_t)s->argv,
		.envp = s->envp ? (char *const *)(uintptr_t)s->envp : environ,
		.error_fd = -1,
		.parent = s->for_parent ? getppid() : getpid(),
	};
	_cleanup_free_ char *stack = NULL;
	sigset_t all, old;
	int pidfd = -EBADF, saved;
	pid_t pid;

	/* No signal handler may run in the child while it shares our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	if (s->cgroup_fd >= 0) {
		pid = start_in_cgroup(&a, &pidfd);
	} else if (s->no_wait) {
		pid = start_forked(&a, &pidfd);
	} else {
		stack = xmalloc(SPAWN_STACK);
		pid = clone(child_main, stack + SPAWN_STACK,
			    CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &a, &pidfd);
	}
	saved = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_errno(e, -saved, "start %s", s->argv[0]);
	if (a.error) {
		waitpid(pid, NULL, 0);
		fd_close(pidfd);
		return err_errno(e, a.error, "execute %s", s->file ? s->file : s->argv[0]);
	}
	*ret_pid = pid;
	if (ret_pidfd)
		*ret_pidfd = pidfd;
	else
		fd_close(pidfd);
	return 0;
}

int spawn_wait(pid_t pid, int *ret_status)
{
	int st;

	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return -errno;
	*ret_status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
	return 0;
}

int spawn_pidfd_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int spawn_pidfd_open(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}

void spawn_result_fini(struct spawn_result *r)
{
	strbuf_fini(&r->out);
	strbuf_fini(&r->err);
}

/* Reads what is there. 1: more may come, 0: end of file. */
static int drain(int fd, size_t max, struct strbuf *to, bool *truncated)
{
	for (int i = 0; i < DRAIN_READS; i++) {
		char buf[4096];
		ssize_t n = read(fd, buf, sizeof(buf));
		size_t room = max - to->len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return 0;
		if ((size_t)n > room)
			*truncated = true;
		strbuf_add(to, buf, MIN((size_t)n, room));
	}
	return 1;
}

static int pipe_pair(int ret[2], int ours)
{
	if (pipe2(ret, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(ret[ours], F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static void feed(int *fd, const char **input, size_t *left)
{
	ssize_t n = *left ? write(*fd, *input, *left) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		*input += n;
		*left -= (size_t)n;
	}
	if (n < 0 || !*left)
		*fd = fd_close(*fd);
}

static int poll_timeout(uint64_t deadline)
{
	uint64_t now = clock_mono_us();

	if (deadline == USEC_FOREVER)
		return -1;
	if (deadline <= now)
		return 0;
	return (int)MIN((deadline - now) / USEC_PER_MS + 1, (uint64_t)60000);
}

/* One wait for a child and its pipes; any of the descriptors may be closed. */
struct watch {
	pid_t pid;
	int pidfd, cancel_fd, in, out, err;
	uint64_t deadline;
	const char *input;
	size_t left, max;
	bool exited;
};

static void kill_group(struct watch *w)
{
	kill(-w->pid, SIGKILL);
	spawn_pidfd_signal(w->pidfd, SIGKILL); /* before its setsid() there is no such group */
	w->deadline = USEC_FOREVER;
	w->cancel_fd = -1;
}

static int watch_step(struct watch *w, struct spawn_result *ret)
{
	struct pollfd pf[] = {{w->pidfd, POLLIN, 0},
			      {w->cancel_fd, POLLIN, 0},
			      {w->in, POLLOUT, 0},
			      {w->out, POLLIN, 0},
			      {w->err, POLLIN, 0}};
	int r = poll(pf, ARRAY_SIZE(pf), poll_timeout(w->deadline));

	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	if (w->deadline != USEC_FOREVER && clock_mono_us() >= w->deadline) {
		ret->timed_out = true;
		kill_group(w);
	} else if (pf[1].revents) {
		ret->cancelled = true;
		kill_group(w);
	}
	w->exited = pf[0].revents != 0;
	if (pf[2].revents)
		feed(&w->in, &w->input, &w->left);
	if (pf[3].revents && !drain(w->out, w->max, &ret->out, &ret->truncated))
		w->out = fd_close(w->out);
	if (pf[4].revents && !drain(w->err, w->max, &ret->err, &ret->truncated))
		w->err = fd_close(w->err);
	return 0;
}

/* Until the child is gone; what its pipes hold then is read, and that is all. */
static int watch_run(struct watch *w, const struct spawn *s, unsigned long timeout_us,
		     struct spawn_result *ret, struct err *e)
{
	int r = 0, waited;

	w->cancel_fd = s->cancel_fd;
	w->deadline = timeout_us == USEC_FOREVER ? USEC_FOREVER : clock_mono_us() + timeout_us;
	while (!w->exited && r == 0)
		r = watch_step(w, ret);
	if (r < 0)
		kill_group(w);
	if (w->out >= 0)
		drain(w->out, w->max, &ret->out, &ret->truncated);
	if (w->err >= 0)
		drain(w->err, w->max, &ret->err, &ret->truncated);
	waited = spawn_wait(w->pid, &ret->status);
	fd_close(w->in);
	fd_close(w->out);
	fd_close(w->err);
	fd_close(w->pidfd);
	r = r < 0 ? r : waited;
	return r < 0 ? err_errno(e, r, "wait for %s", s->argv[0]) : 0;
}

int spawn_await(const struct spawn *tmpl, unsigned long timeout_us, struct spawn_result *ret,
		struct err *e)
{
	struct watch w = {.in = -1, .out = -1, .err = -1};
	struct spawn s = *tmpl;
	int r;

	*ret = (struct spawn_result){0};
	s.setsid = true;
	r = spawn_start(&s, &w.pid, &w.pidfd, e);
	return r < 0 ? r : watch_run(&w, &s, timeout_us, ret, e);
}

int spawn_run(const struct spawn *tmpl, const void *input, size_t input_len,
	      unsigned long timeout_us, size_t max_output, struct spawn_result *ret, struct err *e)
{
	struct watch w = {.input = input, .left = input_len, .max = max_output};
	int p[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
	void (*old_pipe)(int) = signal(SIGPIPE, SIG_IGN);
	struct spawn s = *tmpl;
	int r;

	*ret = (struct spawn_result){0};
	r = pipe_pair(p[0], 1);
	r = r < 0 ? r : pipe_pair(p[1], 0);
	r = r < 0 ? r : pipe_pair(p[2], 0);
	if (r < 0)
		err_errno(e, r, "pipes for %s", s.argv[0]);
	s.fds[0] = p[0][0], s.fds[1] = p[1][1], s.fds[2] = p[2][1];
	s.setsid = true;
	if (r == 0)
		r = spawn_start(&s, &w.pid, &w.pidfd, e);
	fd_close(p[0][0]);
	fd_close(p[1][1]);
	fd_close(p[2][1]);
	w.in = p[0][1], w.out = p[1][0], w.err = p[2][0];
	if (r == 0) {
		r = watch_run(&w, &s, timeout_us, ret, e);
	} else {
		fd_close(w.in);
		fd_close(w.out);
		fd_close(w.err);
	}
	signal(SIGPIPE, old_pipe);
	return r;
}
