/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Job: a command in a running container, its output gathered (ExecSync).
 *
 * The runtime starts it detached; this job is the subreaper that it falls to, so its exit
 * status comes here.  Output goes to memfds up to the limit and is read to the end, whatever
 * the limit.  The command's end ends the call: what it had written is taken, but a process of its
 * that keeps the pipes open is not waited for, also where it writes on.  At the timeout everything
 * that came of the command is killed.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "exec.h"
#include "mon.h"
#include "runtime/runtime.h"

#define EXEC_READ 65536
#define EXEC_READS 4		   /* of one stream before the time is looked at */
#define EXEC_GONE_MAX USEC_PER_SEC /* after it was killed: it may be frozen, or wait for a disk */

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

/* Takes what is there, in so many reads; false at the end of the stream. */
static bool output_take(struct output *o, int reads)
{
	static char buf[EXEC_READ];

	while (reads-- > 0) {
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
	return true;
}

/* The command has ended: all that it had written, which is no more than the pipe holds. */
static void output_end(struct output *o)
{
	int size = fcntl(o->pipe[0], F_GETPIPE_SZ);

	output_take(o, MAX(size, 0) / EXEC_READ + 1);
}

struct running {
	pid_t pid;
	int pidfd, cancel_fd;
	uint64_t deadline;
	struct output out, err;
	bool timed_out, cancelled, ended;
};

static int wait_ms(uint64_t deadline)
{
	uint64_t now = clock_mono_us();

	if (deadline == USEC_FOREVER)
		return -1;
	return deadline <= now ? 0 : (int)MIN((deadline - now) / 1000 + 1, (uint64_t)60000);
}

/* Kills it; from now on there is only a moment left to see it go. */
static void give_up(struct job_context *j, struct running *x)
{
	exec_kill(j);
	x->deadline = clock_mono_us() + EXEC_GONE_MAX;
	x->cancel_fd = -1;
}

/* Until the command has ended, or was killed and does not go. */
static void attend(struct job_context *j, struct running *x)
{
	bool out = true, err = true;

	while (!x->ended) {
		struct pollfd pf[] = {{x->pidfd, POLLIN, 0},
				      {x->cancel_fd, POLLIN, 0},
				      {out ? x->out.pipe[0] : -1, POLLIN, 0},
				      {err ? x->err.pipe[0] : -1, POLLIN, 0}};

		if (poll(pf, 4, wait_ms(x->deadline)) < 0 && errno != EINTR)
			break;
		x->ended = pf[0].revents != 0;
		if (!x->ended && x->deadline != USEC_FOREVER && clock_mono_us() >= x->deadline) {
			if (x->timed_out || x->cancelled)
				break;
			x->timed_out = true;
			give_up(j, x);
		} else if (!x->ended && pf[1].revents) {
			x->cancelled = true;
			give_up(j, x);
		}
		if (pf[2].revents)
			out = output_take(&x->out, EXEC_READS);
		if (pf[3].revents)
			err = output_take(&x->err, EXEC_READS);
	}
	if (out)
		output_end(&x->out);
	if (err)
		output_end(&x->err);
}

static int start(struct job_context *j, struct running *x, struct err *e)
{
	_cleanup_close_ int input = runtime_no_input(e);
	const int fds[] = {input, x->out.pipe[1], x->err.pipe[1]};

	return input < 0 ? input : exec_start(j, fds, NULL, &x->pid, e);
}

int do_exec(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	uint64_t max = ipc_get_u64(j->in, MON_TAG_OUTPUT_MAX, 16 << 20);
	uint64_t timeout = ipc_get_u64(j->in, MON_TAG_TIMEOUT, 0);
	struct running x = {.cancel_fd = j->cancel_fd};
	int status, r;

	x.deadline = timeout ? clock_mono_us() + timeout : USEC_FOREVER;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	exec_isolate(j);
	tree_mark(&j->tree);
	/* The monitor's end shows on its socket; dying with it would leave the command. */
	prctl(PR_SET_PDEATHSIG, 0);
	r = output_make(&x.out, "stdout", max);
	if (r == 0)
		r = output_make(&x.err, "stderr", max);
	if (r < 0)
		return err_errno(e, r, "make pipes for the command");
	r = start(j, &x, e);
	FAULT_POINT("job.exec.started");
	if (r < 0)
		return exec_start_failed(j, r, e);
	close(x.out.pipe[1]);
	close(x.err.pipe[1]);
	x.pidfd = spawn_pidfd_open(x.pid);
	if (x.pidfd < 0) {
		err_errno(e, x.pidfd, "watch the command");
		return exec_start_failed(j, x.pidfd, e);
	}
	attend(j, &x);
	if (x.ended || !(x.timed_out || x.cancelled))
		r = spawn_wait(x.pid, &status);
	if (x.timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "the command did not end in %llu ms: killed",
			       (unsigned long long)(timeout / 1000));
	if (x.cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled: the command was killed");
	if (r < 0)
		return err_errno(e, r, "wait for the command");
	exec_over(j);
	ipc_put_u64(reply, MON_TAG_EXIT_CODE, (uint64_t)status);
	lseek(x.out.file, 0, SEEK_SET);
	lseek(x.err.file, 0, SEEK_SET);
	ipc_put_fd(reply, x.out.file);
	ipc_put_fd(reply, x.err.file);
	return 0;
}

int do_exec_end(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	(void)reply;
	(void)e;
	exec_kill(j);
	return 0;
}
