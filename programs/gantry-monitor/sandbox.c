/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods that their runtime sandboxes as a whole (`unit: pod`): docs/decisions/0018.
 *
 * The first container is the sandbox; the others are put into it.  Where the runtime names the
 * sandbox's process as theirs too, they have none on the host that could be reaped or signalled:
 * their ends are what `RUNTIME wait` says, and signals go by `RUNTIME kill`, each in a job.  A
 * runtime that leaves a process for each container gets none of this.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "exec.h"
#include "mon.h"
#include "runtime/unit.h"

#define SANDBOX_DIED (128 + SIGKILL) /* exit code of what was in it */
#define PAUSE_MIN 20 /* ms between two tries to ask a runtime that fails to answer */
#define PAUSE_MAX 1000
#define SIGNAL_TRIES 6

struct container *sandbox_of(const struct monitor *m)
{
	struct container *c;

	list_for_each (c, &m->containers, link)
		if (sandbox_is(c))
			return c;
	return NULL;
}

bool sandbox_is(const struct container *c)
{
	return c->create.body && ipc_get_u64(&c->create, MON_TAG_SANDBOX, 0);
}

bool sandbox_wants(const struct container *c)
{
	return c->create.body && ipc_get_u64(&c->create, MON_TAG_IN_SANDBOX, 0);
}

void sandbox_close_stdio(struct container *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(c->stdio); i++)
		c->stdio[i] = fd_close(c->stdio[i]);
}

void sandbox_take(struct container *c)
{
	const struct container *sandbox = sandbox_wants(c) ? sandbox_of(c->mon) : NULL;

	c->inside = sandbox && sandbox->pid > 0 && c->pid == sandbox->pid;
	if (!c->inside) {
		sandbox_close_stdio(c); /* it has them */
		return;
	}
	c->pid = 0;
	loop_io_del(&c->pidfd_io);
	c->pidfd = fd_close(c->pidfd);
}

/* Alone, not with its pod: another runtime is to have that. */
static bool is_removed(const struct container *sandbox)
{
	struct request *q;

	list_for_each (q, &sandbox->stops, link)
		if (q->in.type == MON_REMOVE)
			return true;
	return false;
}

void sandbox_over(struct container *sandbox)
{
	struct monitor *m = sandbox->mon;
	struct container *c, *next;

	list_for_each_safe (c, next, &m->containers, link) {
		if (!c->inside || c->state == MON_EXITED)
			continue;
		c->oom = c->oom || sandbox->oom;
		container_ended(c, SANDBOX_DIED, sandbox->exit_at);
	}
	if (!is_removed(sandbox))
		monitor_not_ready(m);
}

/* --- its end --- */

static void wait_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container, *sandbox;

	(void)e;
	FAULT_POINT("monitor.wait.done");
	if (!c || c->state == MON_EXITED || c->exit_pending)
		return;
	sandbox = sandbox_of(c->mon);
	if (r == 0) {
		c->unseen = ipc_get_u64(reply, MON_TAG_UNSEEN, 0);
		container_ended(c, (int)ipc_get_u64(reply, MON_TAG_EXIT_CODE, MON_EXIT_UNKNOWN),
				clock_wall_ns());
	} else if (sandbox && sandbox->state != MON_EXITED && !sandbox->exit_pending) {
		sandbox_watch(c); /* the job was killed */
	}			  /* else the sandbox' end says it */
}

void sandbox_watch(struct container *c)
{
	job_start(c->mon, NULL, c, do_wait, wait_done);
}

void sandbox_forget(struct container *c)
{
	struct job *job;

	list_for_each (job, &c->mon->jobs, link)
		if (job->container == c && job->done == wait_done)
			job_give_up(job);
}

/* Sleeps; false: given up. */
static bool rest(const struct job_context *j, int ms)
{
	struct pollfd pf = {j->cancel_fd, POLLIN, 0};

	return poll(&pf, 1, ms) == 0;
}

static bool sandbox_lives(const struct job_context *j)
{
	const struct container *sandbox = sandbox_of(j->mon);

	return sandbox && sandbox->pid > 0 && kill(sandbox->pid, 0) == 0;
}

static bool has_status(const struct runtime *rt, const char *id, const char *which)
{
	_cleanup_free_ char *status = NULL;

	return runtime_status(rt, id, &status, NULL) == 0 && streq(status, which);
}

/* Whoever is asked may be killed, or be short of memory: asked again for as long as the sandbox
 * lives, unless the runtime knows that the container has ended, and not how. */
int do_wait(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	int code = MON_EXIT_UNKNOWN, r = -ESRCH, pause = PAUSE_MIN;
	struct runtime rt;

	exec_isolate(j); /* as long as the container: its input would have no end */
	do_read_runtime(j, &container_find(j->mon, j->id)->create, &rt);
	for (;;) {
		r = runtime_wait(&rt, j->id, USEC_FOREVER, &code, e);
		FAULT_POINT("job.wait.ended");
		if (r == 0 || !sandbox_lives(j))
			break;
		if (has_status(&rt, j->id, "stopped") &&
		    runtime_wait(&rt, j->id, USEC_FOREVER, &code, e) < 0) {
			ipc_put_u64(reply, MON_TAG_UNSEEN, 1);
			code = MON_EXIT_UNKNOWN;
			r = 0;
			break;
		}
		/* A past monitor's, which nobody will start. */
		if (!rest(j, has_status(&rt, j->id, "created") ? -1 : pause))
			break;
		pause = MIN(2 * pause, PAUSE_MAX);
	}
	strv_fini(&rt.args);
	if (r == 0)
		ipc_put_u64(reply, MON_TAG_EXIT_CODE, (uint64_t)code);
	return r;
}

/* --- signals --- */

/* One that was not started is ended by what removes it; nobody waits for it until then. */
static void signal_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container;

	(void)r;
	(void)e;
	FAULT_POINT("monitor.signal.done");
	if (!c || c->state == MON_EXITED)
		return;
	if (!c->busy && (c->state == MON_CREATED ||
			 ipc_get_u64(reply, MON_TAG_STATE, MON_RUNNING) == MON_CREATED))
		container_ended(c, SANDBOX_DIED, clock_wall_ns());
	else if (job->died && c->signal == SIGKILL)
		sandbox_signal(c, SIGKILL);
}

void sandbox_signal(struct container *c, int sig)
{
	if (sig == SIGKILL && !list_empty(&c->mon->waiting))
		return; /* the pod is ending, and its sandbox is killed */
	c->signal = sig;
	job_start(c->mon, NULL, c, do_signal, signal_done);
}

int do_signal(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	const struct container *c = container_find(j->mon, j->id);
	_cleanup_free_ char *dir = record_dir(j->mon->dir, j->id),
			    *log = xasprintf("%s/signal-%d.log", dir, (int)getpid());
	struct runtime rt;
	int r = 0, pause = PAUSE_MIN;

	if (c->state == MON_CREATED)
		return 0;
	do_read_runtime(j, &c->create, &rt);
	for (int i = 0; i < SIGNAL_TRIES; i++) {
		r = runtime_kill(&rt, j->id, c->signal, 0, log, e);
		FAULT_POINT("job.signal.sent");
		if (r < 0 && has_status(&rt, j->id, "created")) {
			ipc_put_u64(reply, MON_TAG_STATE, MON_CREATED);
			r = 0;
		}
		if (r == 0 || !sandbox_lives(j) || has_status(&rt, j->id, "stopped") ||
		    !rest(j, pause))
			break;
		pause *= 2;
	}
	unlink(log);
	strv_fini(&rt.args);
	return r;
}
