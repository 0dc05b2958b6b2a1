/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers of the pod: their requests in order, their exits.
 *
 * At most one job of a container runs at a time (exec apart); further requests wait in its
 * queue.  MON_STOP and MON_REMOVE of a living container wait in `stops` for its end.  When
 * the first process has been reaped, its output is drained, the exit recorded, then told.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "mon.h"

#define STOP_SIGNAL_DEFAULT SIGTERM

static void ended(struct container *c, int status, int64_t at);
static void next_request(struct container *c);
static void run(struct container *c, struct request *q);

struct container *container_find(struct monitor *m, const char *id)
{
	struct container *c;

	list_for_each (c, &m->containers, link)
		if (streq(c->id, id))
			return c;
	return NULL;
}

struct container *container_new(struct monitor *m, const char *id)
{
	struct container *c = xcalloc(1, sizeof(*c));

	c->mon = m;
	c->id = xstrdup(id);
	c->cgroup = xstrdup("");
	c->log_path = xstrdup("");
	c->pidfd = c->oom_fd = c->stdin_fd = c->log_fd = c->out.fd = c->err.fd = -EBADF;
	c->stdio[0] = c->stdio[1] = c->stdio[2] = -EBADF;
	list_init(&c->clients);
	list_init(&c->queue);
	list_init(&c->stops);
	list_append(&m->containers, &c->link);
	m->n_containers++;
	return c;
}

static void fail_list(struct list *l, const char *why)
{
	struct err e = ERR_NULL;

	while (!list_empty(l)) {
		struct request *q = list_first(l, struct request, link);

		list_remove(&q->link);
		err_not_found(&e, "%s", why);
		request_fail(q, &e);
	}
}

void container_free(struct container *c)
{
	sandbox_forget(c);
	job_forget_container(c);
	fail_list(&c->queue, "the container has been removed");
	fail_list(&c->stops, "the container has been removed");
	loop_timer_clear(&c->grace);
	loop_io_del(&c->pidfd_io);
	fd_close(c->pidfd);
	oom_forget(c);
	attach_end(c);
	output_close(c);
	sandbox_close_stdio(c);
	list_remove(&c->link);
	c->mon->n_containers--;
	ipc_in_fini(&c->create);
	free(c->id);
	free(c->cgroup);
	free(c->log_path);
	free(c);
}

void container_put_state(const struct container *c, struct ipc_out *o)
{
	const struct container *sandbox = c->inside ? sandbox_of(c->mon) : NULL;
	struct ipc_out n;

	if (sandbox_is(c))
		return;
	ipc_out_init(&n, 0, 0);
	ipc_put_str(&n, MON_TAG_ID, c->id);
	ipc_put_u64(&n, MON_TAG_STATE, c->state);
	ipc_put_u64(&n, MON_TAG_PID, (uint64_t)(sandbox ? sandbox->pid : c->pid));
	ipc_put_i64(&n, MON_TAG_CREATED_AT, c->created_at);
	ipc_put_i64(&n, MON_TAG_STARTED_AT, c->started_at);
	ipc_put_i64(&n, MON_TAG_FINISHED_AT, c->finished_at);
	ipc_put_u64(&n, MON_TAG_EXIT_CODE, (uint64_t)c->exit_code);
	ipc_put_u64(&n, MON_TAG_OOM, c->oom);
	ipc_put_u64(&n, MON_TAG_UNSEEN, c->unseen);
	ipc_put_nested(o, MON_TAG_CONTAINER, &n);
}

/* --- exits --- */

/* To its first process.  One of ours keeps its number until it is reaped. */
static void send_signal(struct container *c, int sig)
{
	if (c->inside)
		sandbox_signal(c, sig);
	else if (c->pidfd >= 0)
		spawn_pidfd_signal(c->pidfd, sig);
	else if (c->pid > 0)
		kill(c->pid, sig);
}

static void on_unborn_end(struct loop_timer *t)
{
	struct container *c = container_of(t, struct container, grace);

	ended(c, 128 + SIGKILL, clock_wall_ns());
	monitor_step(c->mon);
}

void container_kill(struct container *c)
{
	if (c->unborn) { /* soon: whoever asks is in the middle of his lists */
		if (c->state == MON_CREATED)
			loop_timer_set(c->mon->loop, &c->grace, clock_mono_us(), on_unborn_end);
		return;
	}
	/* The first process takes its PID namespace with it; without one, all are found. */
	send_signal(c, SIGKILL);
	if (!c->inside && ipc_get_u64(&c->create, MON_TAG_SHARED_PIDNS, 0) && *c->cgroup)
		cgroup_kill(&c->mon->cgroup, c->cgroup);
}

static void tell_exit(const struct container *c)
{
	struct ipc_out o;

	ipc_out_init(&o, MON_EVENT_EXIT, 0);
	ipc_put_str(&o, MON_TAG_ID, c->id);
	ipc_put_u64(&o, MON_TAG_EXIT_CODE, (uint64_t)c->exit_code);
	ipc_put_i64(&o, MON_TAG_STARTED_AT, c->started_at);
	ipc_put_i64(&o, MON_TAG_FINISHED_AT, c->finished_at);
	ipc_put_u64(&o, MON_TAG_OOM, c->oom);
	ipc_put_u64(&o, MON_TAG_UNSEEN, c->unseen);
	monitor_event(c->mon, &o);
}

static void take_exit(struct container *c)
{
	struct list stops = LIST_INIT(stops);

	c->exit_pending = false;
	if (ipc_get_u64(&c->create, MON_TAG_SHARED_PIDNS, 0) && *c->cgroup)
		cgroup_kill(&c->mon->cgroup, c->cgroup); /* what it left behind */
	oom_ended(c);
	c->state = MON_EXITED;
	c->exit_code = c->exit_status;
	c->finished_at = c->exit_at;
	if (!c->started_at)
		c->started_at = c->finished_at; /* ended before its start was seen to end */
	loop_timer_clear(&c->grace);
	output_drain(c);
	FAULT_POINT("monitor.exit.seen");
	record_exit(c);
	FAULT_POINT("monitor.exit.recorded");
	sandbox_close_stdio(c);
	sandbox_forget(c);
	if (sandbox_is(c))
		sandbox_over(c);
	else
		tell_exit(c);
	FAULT_POINT("monitor.exit.told");
	attach_end(c);
	while (!list_empty(&c->stops)) { /* to a list of our own: answering may add others */
		struct request *q = list_first(&c->stops, struct request, link);

		list_remove(&q->link);
		list_append(&stops, &q->link);
	}
	while (!list_empty(&stops)) {
		struct request *q = list_first(&stops, struct request, link);

		list_remove(&q->link);
		list_append(&c->queue, &q->link);
	}
	next_request(c);
}

static void on_late_start(struct loop_timer *t)
{
	job_cancel_start(container_of(t, struct container, grace));
}

/*
 * A runtime's start waits for the container's first process to open a fifo: where that was killed
 * before, it waits for ever.  One that has only just been started ends like this too, so its
 * start has a while to end by itself.
 */
static void ended(struct container *c, int status, int64_t at)
{
	c->pid = 0; /* from now on it may be another's */
	c->exit_status = status;
	c->exit_at = at;
	c->exit_pending = true;
	if (!c->busy)
		take_exit(c);
	else
		loop_timer_set(c->mon->loop, &c->grace, clock_mono_us() + MON_LATE_START,
			       on_late_start);
}

void container_ended(struct container *c, int status, int64_t at)
{
	if (c->state != MON_EXITED && !c->exit_pending)
		ended(c, status, at);
}

bool container_exited(struct monitor *m, pid_t pid, int status, int64_t at)
{
	struct container *c;

	list_for_each (c, &m->containers, link)
		if (c->pid == pid && c->state != MON_EXITED) {
			ended(c, status, at);
			return true;
		}
	return false;
}

static void on_pidfd(struct loop_io *io, uint32_t events)
{
	struct container *c = container_of(io, struct container, pidfd_io);

	(void)events;
	loop_io_del(io);
	c->pidfd = fd_close(c->pidfd);
	c->unseen = true;
	ended(c, MON_EXIT_UNKNOWN, clock_wall_ns());
	monitor_step(c->mon);
}

void container_adopt(struct container *c, int pidfd)
{
	c->pidfd = pidfd;
	loop_io_add(c->mon->loop, &c->pidfd_io, pidfd, EPOLLIN, on_pidfd);
	oom_watch(c);
}

/* --- jobs --- */

static void job_over(struct container *c)
{
	c->busy = false;
	if (c->exit_pending)
		take_exit(c); /* which clears the timer */
	else
		next_request(c);
}

static void answer(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	if (r < 0)
		request_fail(job->request, e);
	else
		request_done(job->request, reply);
	job->request = NULL;
}

/* It may have ended before its number was known here. */
static void look_for_stray(struct container *c)
{
	struct monitor *m = c->mon;

	for (unsigned i = 0; i < MIN(m->n_strays, (unsigned)MON_STRAYS_MAX); i++)
		if (m->strays[i].pid == c->pid) {
			m->strays[i].pid = 0;
			ended(c, m->strays[i].status, m->strays[i].at);
			return;
		}
	if (c->pid > 0 && kill(c->pid, 0) < 0 && errno == ESRCH) { /* among too many others */
		c->unseen = true;
		ended(c, MON_EXIT_UNKNOWN, clock_wall_ns());
	}
}

/* What its job left half-made is removed by the MON_REMOVE that the daemon sends next. */
static void create_died(struct container *c)
{
	c->state = MON_EXITED;
	c->unseen = true;
	c->exit_code = MON_EXIT_UNKNOWN;
	c->finished_at = clock_wall_ns();
}

/* The order in which do_create() put them: output, error, input; the container's own ends. */
static void take_streams(struct container *c, struct ipc_in *reply, int *ret_out, int *ret_err)
{
	bool tty = ipc_get_u64(&c->create, MON_TAG_TTY, 0);
	unsigned n = sandbox_is(c)				 ? 0
		     : tty					 ? 1
		     : ipc_get_u64(&c->create, MON_TAG_STDIN, 0) ? 3
								 : 2;
	int *const to[] = {ret_out, ret_err, &c->stdin_fd};

	for (unsigned i = 0; i < reply->n_fds; i++) {
		int fd = TAKE_FD(reply->fds[i]);

		if (i < n)
			*to[i] = fd;
		else if (i - n < ARRAY_SIZE(c->stdio))
			c->stdio[i - n] = fd;
		else
			close(fd);
	}
	reply->n_fds = 0;
}

/* What do_create() and do_restore() answer. */
static void take_process(struct container *c, struct ipc_in *reply)
{
	int out = -EBADF, err = -EBADF;

	c->pid = (pid_t)ipc_get_u64(reply, MON_TAG_PID, 0);
	free(c->cgroup);
	c->cgroup = xstrdup(str_or_empty(ipc_get_str(reply, MON_TAG_CGROUP)));
	oom_watch(c);
	take_streams(c, reply, &out, &err);
	sandbox_take(c);
	output_open(c, out, err);
}

static void create_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container;

	c->mon->n_creating--;
	warm_stop();
	FAULT_POINT("monitor.create.done");
	if (job->died) {
		create_died(c);
		answer(job, r, reply, e);
		job_over(c);
		return;
	}
	if (r < 0) {
		answer(job, r, reply, e);
		c->busy = false;
		container_free(c);
		return;
	}
	c->state = MON_CREATED;
	c->created_at = clock_wall_ns();
	if (!c->unborn)
		take_process(c, reply);
	answer(job, r, reply, e);
	if (!c->unborn)
		look_for_stray(c);
	if (!list_empty(&c->mon->waiting)) /* the pod is ending: it came too late */
		container_kill(c);
	job_over(c);
}

static void start_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container;

	FAULT_POINT("monitor.start.done");
	if (r == 0) {
		c->state = MON_RUNNING;
		c->started_at = ipc_get_i64(reply, MON_TAG_STARTED_AT, clock_wall_ns());
		if (c->exit_pending && c->exit_at < c->started_at)
			c->started_at = c->exit_at;
	}
	sandbox_close_stdio(c);
	if (r == 0 && c->inside)
		sandbox_watch(c);
	answer(job, r, reply, e);
	job_over(c);
}

static void restore_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container;
	bool answered = r == 0;

	c->mon->n_creating--;
	c->unborn = !answered;
	if (answered) {
		take_process(c, reply);
		look_for_stray(c); /* the end of its job looks for what it finds */
	}
	start_done(job, r, reply, e);
	if (!list_empty(&c->mon->waiting))
		container_kill(c);
}

static void remove_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container;

	FAULT_POINT("monitor.remove.done");
	answer(job, r, reply, e);
	c->busy = false;
	if (r == 0)
		container_free(c);
	else
		next_request(c);
}

static void plain_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	answer(job, r, reply, e);
	job_over(job->container);
}

static void thaw_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	(void)r;
	(void)reply;
	(void)e;
	job_over(job->container);
}

bool container_thaw(struct container *c)
{
	const char *writable = ipc_get_str(&c->create, MON_TAG_WRITABLE);
	_cleanup_free_ char *parts = xasprintf("%s/" DO_CHECKPOINT_PARTS, str_or_empty(writable));

	if (access(parts, F_OK) < 0)
		return false;
	c->busy = true;
	job_start(c->mon, NULL, c, do_thaw, thaw_done);
	return true;
}

static void checkpoint_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container;

	answer(job, r, reply, e);
	if (!job->died || !container_thaw(c))
		job_over(c);
}

static void exec_answer(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct container *c = job->container; /* NULL: removed meanwhile */
	struct err ended = ERR_NULL;

	warm_stop();
	if (job->died)
		job_end_tree(job);
	if (r < 0 && e->code == GRPC_INTERNAL &&
	    (!c || c->state != MON_RUNNING || c->exit_pending)) {
		err_precondition(&ended, "the container is not running any more: %s", e->msg);
		e = &ended;
	}
	answer(job, r, reply, e);
}

static void exec_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	FAULT_POINT("monitor.exec.done");
	exec_answer(job, r, reply, e);
}

static void exec_stream_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	FAULT_POINT("monitor.exec-stream.done");
	exec_answer(job, r, reply, e);
}

/* --- requests --- */

static void on_grace(struct loop_timer *t)
{
	container_kill(container_of(t, struct container, grace));
}

static void reply_exit(struct container *c, struct request *q)
{
	struct ipc_out o;
	struct ipc_in in = IPC_IN_NULL;

	ipc_out_init(&o, 0, 0);
	strbuf_reset(&o.b);
	ipc_put_u64(&o, IPC_TAG_CODE, GRPC_OK);
	ipc_put_u64(&o, MON_TAG_EXIT_CODE, (uint64_t)c->exit_code);
	in.body = (uint8_t *)o.b.s;
	in.len = o.b.len;
	request_done(q, &in);
	ipc_out_fini(&o);
}

static void stop(struct container *c, struct request *q)
{
	uint64_t grace = ipc_get_u64(&q->in, MON_TAG_GRACE, 0);
	uint64_t until = clock_mono_us() + grace;
	int sig = (int)ipc_get_u64(&q->in, MON_TAG_SIGNAL, STOP_SIGNAL_DEFAULT);

	if (c->state == MON_EXITED) {
		reply_exit(c, q);
		return;
	}
	/* The signal is sent once; a later stop only brings the end nearer. */
	if (grace == 0 || c->state != MON_RUNNING)
		container_kill(c);
	else if (list_empty(&c->stops) && sig != SIGKILL)
		send_signal(c, sig);
	else if (sig == SIGKILL)
		container_kill(c);
	if (grace && (!c->grace.loop || until < c->grace.when))
		loop_timer_set(c->mon->loop, &c->grace, until, on_grace);
	list_append(&c->stops, &q->link);
}

static void remove_container(struct container *c, struct request *q)
{
	if (c->state == MON_CREATED || c->state == MON_RUNNING) {
		container_kill(c);
		list_append(&c->stops, &q->link);
		return;
	}
	output_close(c);
	c->busy = true;
	job_start(c->mon, q, c, do_remove, remove_done);
}

static void reopen(struct container *c, struct request *q)
{
	struct err e = ERR_NULL;
	int r;

	if (c->state != MON_RUNNING) {
		err_precondition(&e, "container %s is not running", c->id);
		request_fail(q, &e);
		return;
	}
	output_reopen(c, &e, &r);
	if (r < 0)
		request_fail(q, &e);
	else
		request_done(q, NULL);
}

static bool need_state(struct container *c, struct request *q, enum mon_container_state want,
		       const char *what)
{
	struct err e = ERR_NULL;

	if (c->state == want)
		return true;
	err_precondition(&e, "container %s is not %s", c->id, what);
	request_fail(q, &e);
	return false;
}

static void start(struct container *c, struct request *q)
{
	struct monitor *m = c->mon;

	c->busy = true;
	if (!c->unborn) {
		job_start(m, q, c, do_start, start_done);
		return;
	}
	c->unborn = false;
	if (m->n_creating++ == 0)
		m->n_strays = 0;
	job_start(m, q, c, do_restore, restore_done);
}

/* Does one request now; the container is not busy. */
static void run(struct container *c, struct request *q)
{
	struct monitor *m = c->mon;

	switch (q->in.type) {
	case MON_START:
		if (need_state(c, q, MON_CREATED, "created and unstarted"))
			start(c, q);
		return;
	case MON_UPDATE:
		if (c->unborn && !need_state(c, q, MON_RUNNING, "running"))
			return;
		c->busy = true;
		job_start(m, q, c, do_update, plain_done);
		return;
	case MON_CHECKPOINT:
		if (!need_state(c, q, MON_RUNNING, "running"))
			return;
		c->busy = true;
		job_start(m, q, c, do_checkpoint, checkpoint_done);
		return;
	case MON_REOPEN_LOG:
		reopen(c, q);
		return;
	case MON_STOP:
		stop(c, q);
		return;
	case MON_REMOVE:
		remove_container(c, q);
		return;
	default:
		abort(); /* container_request() let it in */
	}
}

static void next_request(struct container *c)
{
	while (!c->busy && !list_empty(&c->queue)) {
		struct request *q = list_first(&c->queue, struct request, link);
		bool last = q->in.type == MON_REMOVE; /* may free the container */

		list_remove(&q->link);
		run(c, q);
		if (last)
			return;
	}
}

static void create(struct monitor *m, struct request *q, const char *id)
{
	struct err e = ERR_NULL;
	struct container *c;
	const char *log;

	const struct container *sandbox = sandbox_of(m);

	if (!m->ready)
		err_precondition(&e, "pod sandbox %s is not ready", m->pod_id);
	else if (ipc_get_u64(&q->in, MON_TAG_SANDBOX, 0) && !streq(id, m->pod_id))
		err_invalid(&e, "the sandbox container of pod %s has the pod's id", m->pod_id);
	else if (ipc_get_u64(&q->in, MON_TAG_IN_SANDBOX, 0) &&
		 (!sandbox || sandbox->state != MON_RUNNING))
		err_precondition(&e, "pod %s has no sandbox container that runs", m->pod_id);
	else if (container_find(m, id))
		err_set(&e, -EEXIST, GRPC_ALREADY_EXISTS, "container %s exists", id);
	else if (m->n_containers >= MON_CONTAINERS_MAX)
		err_set(&e, -ENOSPC, GRPC_RESOURCE_EXHAUSTED, "a pod has at most %d containers",
			MON_CONTAINERS_MAX);
	if (e.errnum) {
		request_fail(q, &e);
		return;
	}
	c = container_new(m, id);
	c->create = (struct ipc_in){
		.type = MON_CREATE, .body = xmemdup(q->in.body, q->in.len), .len = q->in.len};
	log = ipc_get_str(&c->create, MON_TAG_LOG_PATH);
	free(c->log_path);
	c->log_path = xstrdup(str_or_empty(log));
	c->log_line_max = ipc_get_u64(&c->create, MON_TAG_LOG_LINE_MAX, 16384);
	c->unborn = ipc_get_str(&c->create, MON_TAG_RESTORE) != NULL;
	c->busy = true;
	if (m->n_creating++ == 0)
		m->n_strays = 0; /* those of before have numbers that come again */
	job_start(m, q, c, do_create, create_done);
	warm_start(m, WARM_FOR_CONTAINER);
}

/* Its records are gone, with a restart of the machine say: the daemon's word. */
static void remove_unknown(struct monitor *m, struct request *q, const char *id)
{
	struct container *c;

	if (!ipc_get_str(&q->in, MON_TAG_WRITABLE)) {
		request_done(q, NULL);
		return;
	}
	c = container_new(m, id);
	c->state = MON_EXITED;
	c->create = (struct ipc_in){
		.type = MON_CREATE, .body = xmemdup(q->in.body, q->in.len), .len = q->in.len};
	run(c, q);
}

static void exec(struct container *c, struct request *q)
{
	struct monitor *m = c->mon;
	struct err e = ERR_NULL;

	if (!need_state(c, q, MON_RUNNING, "running"))
		return;
	if (q->in.type == MON_EXEC_STREAM && m->n_sessions >= MON_SESSIONS_MAX) {
		err_set(&e, -EMFILE, GRPC_RESOURCE_EXHAUSTED,
			"pod sandbox %s has %d streaming sessions already", m->pod_id,
			MON_SESSIONS_MAX);
		request_fail(q, &e);
		return;
	}
	if (q->in.type == MON_EXEC)
		job_start(m, q, c, do_exec, exec_done);
	else
		job_start_session(m, q, c, do_exec_stream, exec_stream_done);
	warm_start(m, WARM_FOR_CONTAINER);
}

void container_request(struct monitor *m, struct request *q)
{
	const char *id = ipc_get_str(&q->in, MON_TAG_ID);
	struct container *c = id ? container_find(m, id) : NULL;
	struct err e = ERR_NULL;

	if (q->in.type == MON_CREATE && id && *id && !strchr(id, '/')) {
		create(m, q, id);
	} else if (!c && q->in.type == MON_REMOVE && id && *id && !strchr(id, '/')) {
		remove_unknown(m, q, id);
	} else if (!c) {
		err_not_found(&e, "the monitor knows no container %s", str_or_empty(id));
		request_fail(q, &e);
	} else if (q->in.type == MON_EXEC || q->in.type == MON_EXEC_STREAM) {
		exec(c, q);
	} else if (q->in.type == MON_ATTACH) {
		attach_request(c, q);
	} else if (c->busy) {
		list_append(&c->queue, &q->link);
	} else {
		run(c, q);
	}
}
