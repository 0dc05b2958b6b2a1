/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: forked children that do what can block, and answer with one frame.
 *
 * The child keeps the memory it was born with and exits; nothing of what it allocated ever
 * reaches the monitor.  It dies with the monitor, so that no half of an operation goes on
 * without an owner; whoever comes after cleans up from the records.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/mem.h"
#include "mon.h"

static _Noreturn void child(const struct job *job, int fd, job_fn *fn, pid_t parent)
{
	struct job_context j = {.mon = job->mon,
				.in = job->request ? &job->request->in : NULL,
				.id = job->container ? job->container->id : NULL,
				.cancel_fd = fd,
				.tree = job->tree,
				.ends = job->ends};
	struct err e = ERR_NULL;
	struct ipc_out reply;
	sigset_t none;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before that was set */
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	ipc_out_reply(&reply, 1, NULL);
	r = fn(&j, &reply, &e);
	if (r == JOB_ANSWERED)
		_exit(0);
	if (r < 0) {
		ipc_out_fini(&reply);
		ipc_out_reply(&reply, 1, &e);
	}
	FAULT_POINT("job.answer");
	_exit(ipc_send(fd, &reply) < 0);
}

static void on_free(struct loop_defer *d)
{
	struct job *job = container_of(d, struct job, free);

	ipc_conn_close(&job->ipc);
	free(job);
}

static void finish(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	if (job->answered)
		return;
	job->answered = true;
	list_remove(&job->link);
	job->mon->n_sessions -= job->session;
	job->session = false; /* it has none, or not any more: its socket's end is nothing new */
	job->done(job, r, reply, e);
	loop_defer(job->mon->loop, &job->free, on_free);
	/* A container's end that waited for it may be the last that the pod's end waits for; its
	 * own process may have been reaped before this. */
	monitor_step(job->mon);
}

/* The descriptor at the end is ours. */
static void session_began(struct job *job, struct ipc_in *reply)
{
	job->answered = true;
	job->command = (pid_t)ipc_get_u64(reply, MON_TAG_PID, 0);
	if (reply->n_fds)
		job->command_fd = TAKE_FD(reply->fds[--reply->n_fds]);
	job->done(job, 0, reply, NULL);
	job->request = NULL;
}

/* A command that goes on without its job (killed, for want of memory say) has nobody any more. */
static void session_over(struct job *job)
{
	struct pollfd pf = {job->command_fd, POLLIN, 0};

	if (job->command_fd >= 0 && poll(&pf, 1, 0) == 0)
		job_end_tree(job);
	job->command_fd = fd_close(job->command_fd);
	list_remove(&job->link);
	job->mon->n_sessions--;
	monitor_trim_later(job->mon);
	loop_defer(job->mon->loop, &job->free, on_free);
}

static void on_reply(struct ipc_conn *c, struct ipc_in *in)
{
	struct job *job = container_of(c, struct job, ipc);
	struct err e = ERR_NULL;
	int r = ipc_reply_error(in, &e);

	if (r < 0 || !job->session)
		finish(job, r, in, &e);
	else if (!job->answered)
		session_began(job, in);
}

static void on_close(struct ipc_conn *c, int reason)
{
	struct job *job = container_of(c, struct job, ipc);
	struct ipc_in none = IPC_IN_NULL;
	struct err e = ERR_NULL;

	(void)reason;
	if (job->session && job->answered) {
		session_over(job);
		return;
	}
	job->died = true;
	err_set(&e, -EIO, GRPC_INTERNAL, "the monitor's job ended without an answer");
	finish(job, e.errnum, &none, &e);
}

static void fail_start(struct job *job, int errnum, const char *what)
{
	struct ipc_in none = IPC_IN_NULL;
	struct err e = ERR_NULL;

	err_errno(&e, errnum, "%s", what);
	finish(job, e.errnum, &none, &e);
}

static struct job *job_new(struct monitor *m, struct container *c, job_done_fn *done, bool session)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->mon = m;
	job->container = c;
	job->done = done;
	job->session = session;
	job->command_fd = -EBADF;
	m->n_sessions += session;
	list_append(&m->jobs, &job->link);
	return job;
}

static void job_fork(struct job *job, job_fn *fn)
{
	pid_t self = getpid();
	int p[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0) {
		fail_start(job, -errno, "socketpair for a job");
		return;
	}
	job->pid = fork();
	if (job->pid == 0) {
		close(p[0]);
		child(job, p[1], fn, self);
	}
	close(p[1]);
	if (job->pid < 0) {
		close(p[0]);
		fail_start(job, -errno, "fork a job");
		return;
	}
	ipc_conn_open(&job->ipc, job->mon->loop, p[0], on_reply, on_close);
}

void job_start(struct monitor *m, struct request *q, struct container *c, job_fn *fn,
	       job_done_fn *done)
{
	struct job *job = job_new(m, c, done, false);

	job->request = q;
	job->tree = tree_new(m->n_jobs++);
	job_fork(job, fn);
}

void job_start_session(struct monitor *m, struct request *q, struct container *c, job_fn *fn,
		       job_done_fn *done)
{
	struct job *job = job_new(m, c, done, true);

	job->request = q;
	job->tree = tree_new(m->n_jobs++);
	job_fork(job, fn);
}

static void end_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	(void)job;
	(void)r;
	(void)reply;
	(void)e;
}

void job_end_tree(struct job *of)
{
	struct job *job;

	if (!of->container)
		return; /* it was removed, and everything in it with it */
	job = job_new(of->mon, of->container, end_done, false);
	job->tree = of->tree;
	job->ends = of->pid;
	job_fork(job, do_exec_end);
}

/* A frame on the job's socket: it sees that as "give up". */
void job_give_up(struct job *job)
{
	struct ipc_out o;

	ipc_out_init(&o, IPC_CANCEL, 0);
	ipc_conn_send(&job->ipc, &o);
}

/* Nobody but who asked has anything of it. */
static bool is_exec(uint32_t type)
{
	return type == MON_EXEC || type == MON_EXEC_STREAM || type == MON_CONNECT;
}

/* What can be undone, or has nothing to undo. Half-started or half-updated is no state to be in. */
static bool may_be_cancelled(uint32_t type)
{
	return type == MON_POD_SETUP || type == MON_CREATE || type == MON_NET_STATS ||
	       type == MON_FIGURES || is_exec(type);
}

void job_cancel(struct monitor *m, const struct conn *c, uint32_t seq)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->conn == c && job->request->in.seq == seq) {
			if (may_be_cancelled(job->request->in.type))
				job_give_up(job);
			return;
		}
}

void job_cancel_start(struct container *c)
{
	struct job *job;

	list_for_each (job, &c->mon->jobs, link)
		if (job->container == c && job->request && job->request->in.type == MON_START)
			job_give_up(job);
}

void job_forget_container(struct container *c)
{
	struct job *job;

	list_for_each (job, &c->mon->jobs, link)
		if (job->container == c)
			job->container = NULL;
}

void job_cancel_execs(struct monitor *m, const struct conn *c)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->conn == c && is_exec(job->request->in.type))
			job_give_up(job);
}

void job_cancel_setup(struct monitor *m)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->in.type == MON_POD_SETUP)
			job_give_up(job);
}

bool job_exited(struct monitor *m, pid_t pid)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->pid == pid)
			return true; /* its answer, or the end of its socket, says the rest */
	return false;
}
