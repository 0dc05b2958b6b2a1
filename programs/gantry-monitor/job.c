/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: forked children that do what can block, and answer with one frame.
 *
 * The child keeps the memory it was born with and exits; nothing of what it allocated ever
 * reaches the monitor.  It dies with the monitor, so that no half of an operation goes on
 * without an owner; whoever comes after cleans up from the records.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/mem.h"
#include "mon.h"

static _Noreturn void child(struct monitor *m, const struct ipc_in *in, const char *id, int fd,
			    job_fn *fn, pid_t parent)
{
	struct job_context j = {.mon = m, .in = in, .id = id, .cancel_fd = fd};
	struct err e = ERR_NULL;
	struct ipc_out reply;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before that was set */
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	ipc_out_reply(&reply, 1, NULL);
	if (fn(&j, &reply, &e) < 0) {
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
	job->done(job, r, reply, e);
	loop_defer(job->mon->loop, &job->free, on_free);
	/* A container's end that waited for it may be the last that the pod's end waits for; its
	 * own process may have been reaped before this. */
	monitor_step(job->mon);
}

static void on_reply(struct ipc_conn *c, struct ipc_in *in)
{
	struct job *job = container_of(c, struct job, ipc);
	struct err e = ERR_NULL;
	int r = ipc_reply_error(in, &e);

	finish(job, r, in, &e);
}

static void on_close(struct ipc_conn *c, int reason)
{
	struct job *job = container_of(c, struct job, ipc);
	struct ipc_in none = IPC_IN_NULL;
	struct err e = ERR_NULL;

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

void job_start(struct monitor *m, struct request *q, struct container *c, job_fn *fn,
	       job_done_fn *done)
{
	struct job *job = xcalloc(1, sizeof(*job));
	pid_t self = getpid();
	int p[2];

	job->mon = m;
	job->request = q;
	job->container = c;
	job->done = done;
	list_append(&m->jobs, &job->link);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0) {
		fail_start(job, -errno, "socketpair for a job");
		return;
	}
	job->pid = fork();
	if (job->pid == 0) {
		close(p[0]);
		child(m, q ? &q->in : NULL, c ? c->id : NULL, p[1], fn, self);
	}
	close(p[1]);
	if (job->pid < 0) {
		close(p[0]);
		fail_start(job, -errno, "fork a job");
		return;
	}
	ipc_conn_open(&job->ipc, m->loop, p[0], on_reply, on_close);
	job->ipc.on_msg = on_reply;
}

/* A frame on the job's socket: it sees that as "give up". */
static void cancel(struct job *job)
{
	struct ipc_out o;

	ipc_out_init(&o, IPC_CANCEL, 0);
	ipc_conn_send(&job->ipc, &o);
}

/* What can be undone, or has nothing to undo. Half-started or half-updated is no state to be in. */
static bool may_be_cancelled(uint32_t type)
{
	return type == MON_POD_SETUP || type == MON_CREATE || type == MON_EXEC ||
	       type == MON_NET_STATS || type == MON_FIGURES;
}

void job_cancel(struct monitor *m, const struct conn *c, uint32_t seq)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->conn == c && job->request->in.seq == seq) {
			if (may_be_cancelled(job->request->in.type))
				cancel(job);
			return;
		}
}

void job_cancel_start(struct container *c)
{
	struct job *job;

	list_for_each (job, &c->mon->jobs, link)
		if (job->container == c && job->request && job->request->in.type == MON_START)
			cancel(job);
}

void job_cancel_execs(struct monitor *m, const struct conn *c)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->conn == c && job->request->in.type == MON_EXEC)
			cancel(job);
}

void job_cancel_setup(struct monitor *m)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->in.type == MON_POD_SETUP)
			cancel(job);
}

bool job_exited(struct monitor *m, pid_t pid)
{
	struct job *job;

	list_for_each (job, &m->jobs, link)
		if (job->pid == pid)
			return true; /* its answer, or the end of its socket, says the rest */
	return false;
}
