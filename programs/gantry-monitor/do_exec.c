/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Job: a command in a running container, its output gathered (ExecSync).
 *
 * The runtime starts it detached; this job is the subreaper that it falls to, so its exit
 * status comes here.  Output goes to memfds up to the limit and is read to the end, whatever
 * the limit.  The command's end ends the call: a grandchild that keeps the pipes open is not
 * waited for.  At the timeout the whole tree of the command is killed.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "mon.h"
#include "runtime/runtime.h"

#define EXEC_READ 65536
#define TREE_MAX 4096	   /* processes of one command that are looked for at once */
#define CHILDREN_MAX 65536 /* bytes of a children file */
#define KILL_ROUNDS 8

struct output {
	int pipe[2];
	int file;
	uint64_t n, max;
};

static int output_make(struct output *o, const char *name, uint64_t max)
{
	o->max = max;
	o->file = memfd_create(name, MFD_CLOEXEC);
	if (o->file < 0 || pipe2(o->pipe, O_CLOEXEC) < 0)
		return -errno;
	return fcntl(o->pipe[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Takes what is there; false at the end of the stream. */
static bool output_take(struct output *o)
{
	static char buf[EXEC_READ];

	for (;;) {
		ssize_t n = read(o->pipe[0], buf, sizeof(buf));
		size_t keep;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		keep = MIN((uint64_t)n, o->max - MIN(o->n, o->max));
		if (keep && fs_write_all(o->file, buf, keep) < 0)
			o->max = o->n; /* no memory: the rest is dropped, as above the limit */
		o->n += keep;
	}
}

/* The processes below `pid`, parents first. */
static unsigned tree_of(pid_t pid, pid_t *to, unsigned n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[64], *save = NULL;

	if (n == TREE_MAX)
		return n;
	to[n++] = pid;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	if (fs_read(AT_FDCWD, path, CHILDREN_MAX, &b) < 0 || !b.s)
		return n;
	for (char *w = strtok_r(b.s, " ", &save); w; w = strtok_r(NULL, " ", &save))
		n = tree_of(atoi(w), to, n);
	return n;
}

static void kill_tree(pid_t pid)
{
	static pid_t all[TREE_MAX];

	/* Stopped first, so that none forks away while the others are found. */
	for (int round = 0; round < KILL_ROUNDS; round++) {
		unsigned n = tree_of(pid, all, 0);

		for (unsigned i = 0; i < n; i++)
			kill(all[i], round < KILL_ROUNDS - 1 ? SIGSTOP : SIGKILL);
		if (n <= 1)
			break;
	}
	for (unsigned i = tree_of(pid, all, 0); i-- > 0;)
		kill(all[i], SIGKILL);
}

/* A runtime that was ended in the middle may have left the command behind: as the subreaper this
 * process has it, and everything else below it, for a child. */
static void kill_left(void)
{
	static pid_t all[TREE_MAX];
	unsigned n;

	while ((n = tree_of(getpid(), all, 0)) > 1) {
		while (n-- > 1)
			kill(all[n], SIGKILL);
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			break;
	}
}

struct running {
	pid_t pid;
	int pidfd, cancel_fd;
	uint64_t deadline;
	struct output out, err;
	bool timed_out, cancelled;
};

static int wait_ms(uint64_t deadline)
{
	uint64_t now = clock_mono_us();

	if (deadline == USEC_FOREVER)
		return -1;
	return deadline <= now ? 0 : (int)MIN((deadline - now) / 1000 + 1, (uint64_t)60000);
}

static void give_up(struct running *x)
{
	kill_tree(x->pid);
	x->deadline = USEC_FOREVER;
	x->cancel_fd = -1;
}

/* Until the command has ended. */
static void attend(struct running *x)
{
	bool out = true, err = true, ended = false;

	while (!ended) {
		struct pollfd pf[] = {{x->pidfd, POLLIN, 0},
				      {x->cancel_fd, POLLIN, 0},
				      {out ? x->out.pipe[0] : -1, POLLIN, 0},
				      {err ? x->err.pipe[0] : -1, POLLIN, 0}};

		if (poll(pf, 4, wait_ms(x->deadline)) < 0 && errno != EINTR)
			break;
		if (x->deadline != USEC_FOREVER && clock_mono_us() >= x->deadline) {
			x->timed_out = true;
			give_up(x);
		} else if (pf[1].revents) {
			x->cancelled = true;
			give_up(x);
		}
		ended = pf[0].revents != 0;
		if (pf[2].revents)
			out = output_take(&x->out);
		if (pf[3].revents)
			err = output_take(&x->err);
	}
	if (out)
		output_take(&x->out);
	if (err)
		output_take(&x->err);
}

static int write_process(const struct job_context *j, const char *path, struct err *e)
{
	const void *p;
	size_t n;
	int r;

	if (!ipc_get_bytes(j->in, MON_TAG_CONFIG, &p, &n))
		return err_invalid(e, "no process.json in the request");
	r = fs_write_atomic(AT_FDCWD, path, p, n, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

static int read_pid_file(const char *path, pid_t *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (fs_read(AT_FDCWD, path, 32, &b) < 0 || !b.s)
		return -ESRCH;
	*ret = atoi(b.s);
	return *ret > 0 ? 0 : -ESRCH;
}

static int start(struct job_context *j, struct running *x, struct err *e)
{
	_cleanup_free_ char *dir = record_dir(j->mon->dir, j->id);
	_cleanup_free_ char *base = xasprintf("%s/exec-%d", dir, (int)getpid());
	_cleanup_free_ char *process = xasprintf("%s.json", base), *pid = xasprintf("%s.pid", base),
			    *log = xasprintf("%s.log", base);
	const char *argv[] = {"exec",	    "--detach", "--process", process,
			      "--pid-file", pid,	j->id,	     NULL};
	_cleanup_close_ int input = runtime_no_input(e);
	const int fds[] = {input, x->out.pipe[1], x->err.pipe[1]};
	struct runtime rt;
	int r = input < 0 ? input : write_process(j, process, e);

	do_read_runtime(j, &container_find(j->mon, j->id)->create, &rt);
	if (r == 0)
		r = runtime_call(&rt, argv, fds, log, NULL, e);
	if (r == 0) {
		r = read_pid_file(pid, &x->pid);
		if (r < 0)
			err_errno(e, r, "the runtime left no process id in %s", pid);
	}
	unlink(process);
	unlink(pid);
	unlink(log);
	strv_fini(&rt.args);
	return r;
}

int do_exec(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	uint64_t max = ipc_get_u64(j->in, MON_TAG_OUTPUT_MAX, 16 << 20);
	uint64_t timeout = ipc_get_u64(j->in, MON_TAG_TIMEOUT, 0);
	struct running x = {.cancel_fd = j->cancel_fd};
	int status, r;

	x.deadline = timeout ? clock_mono_us() + timeout : USEC_FOREVER;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	r = output_make(&x.out, "stdout", max);
	if (r == 0)
		r = output_make(&x.err, "stderr", max);
	if (r < 0)
		return err_errno(e, r, "make pipes for the command");
	r = start(j, &x, e);
	FAULT_POINT("job.exec.started");
	if (r < 0) {
		kill_left();
		return r;
	}
	close(x.out.pipe[1]);
	close(x.err.pipe[1]);
	x.pidfd = spawn_pidfd_open(x.pid);
	if (x.pidfd < 0) {
		kill_left();
		return err_errno(e, x.pidfd, "watch the command");
	}
	attend(&x);
	r = spawn_wait(x.pid, &status);
	if (x.timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "the command did not end in %llu ms: killed",
			       (unsigned long long)(timeout / 1000));
	if (x.cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled: the command was killed");
	if (r < 0)
		return err_errno(e, r, "wait for the command");
	ipc_put_u64(reply, MON_TAG_EXIT_CODE, (uint64_t)status);
	lseek(x.out.file, 0, SEEK_SET);
	lseek(x.err.file, 0, SEEK_SET);
	ipc_put_fd(reply, x.out.file);
	ipc_put_fd(reply, x.err.file);
	return 0;
}
