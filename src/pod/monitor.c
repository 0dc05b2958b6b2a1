/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of a monitor: see monitor.h. */
#include "pod/monitor.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "ipc/spawner.h"

#define RECOVER_PAUSE_MIN (100 * USEC_PER_MS) /* between tries to start a monitor */
#define RECOVER_PAUSE_MAX (60 * USEC_PER_SEC)
#define FIND_TRIES 3 /* of a monitor that is there and does not answer */
#define FIND_PAUSE (20 * USEC_PER_MS)

char *pod_dir(const struct pod *p)
{
	return xasprintf("%s/pods/%s", p->node->config->state, p->id);
}

static void record(struct container *c)
{
	struct err e = ERR_NULL;

	if (container_record(c, &e) < 0)
		log_error("container %s: %s", c->id, e.msg);
}

/* --- what it says --- */

static void put(char **to, const char *v)
{
	free(*to);
	*to = xstrdup(str_or_empty(v));
}

static void take_exit(struct container *c, const struct ipc_in *in)
{
	int64_t started = ipc_get_i64(in, MON_TAG_STARTED_AT, 0);
	enum container_state was = c->state;

	if (c->state == CONTAINER_EXITED)
		return;
	if (started)
		c->started_at = started;
	container_set_exited(c, (int)ipc_get_u64(in, MON_TAG_EXIT_CODE, MON_EXIT_UNKNOWN),
			     ipc_get_i64(in, MON_TAG_FINISHED_AT, clock_wall_ns()),
			     ipc_get_u64(in, MON_TAG_OOM, 0) != 0);
	if (ipc_get_u64(in, MON_TAG_UNSEEN, 0))
		put(&c->reason, "Unknown");
	FAULT_POINT("daemon.exit.told");
	if (was != CONTAINER_REMOVING)
		record(c);
	FAULT_POINT("daemon.exit.recorded");
	if (was == CONTAINER_CREATED && started) /* the reply to its start comes next */
		container_event(c, EVENT_STARTED);
	if (was != CONTAINER_CREATING) /* else once it has been told of */
		container_event(c, EVENT_STOPPED);
	log_info("container %s of pod sandbox %s ended: %s (%d)", c->id, c->pod->id, c->reason,
		 c->exit_code);
}

static struct container *container_of_pod(struct pod *p, const char *id)
{
	struct container *c = id ? map_get(&p->node->containers, id) : NULL;

	return c && c->pod == p ? c : NULL;
}

static void on_message(struct ipc_conn *conn, struct ipc_in *in)
{
	struct pod *p = container_of(conn, struct pod, monitor);
	struct container *c = container_of_pod(p, ipc_get_str(in, MON_TAG_ID));

	struct err e = ERR_NULL;

	if (in->type == MON_EVENT_EXIT && c)
		take_exit(c, in);
	if (in->type == MON_EVENT_POD && !ipc_get_u64(in, MON_TAG_POD_READY, 1) &&
	    p->state == POD_READY) {
		log_warn("pod sandbox %s is not ready any more: its process 1 has ended", p->id);
		if (pod_set_state(p, POD_NOTREADY, &e) < 0)
			log_error("pod sandbox %s: %s", p->id, e.msg);
	}
}

static void take_container(struct pod *p, const struct ipc_in *in)
{
	struct container *c = container_of_pod(p, ipc_get_str(in, MON_TAG_ID));

	if (!c || c->state == CONTAINER_CREATING || c->state == CONTAINER_REMOVING)
		return;
	switch (ipc_get_u64(in, MON_TAG_STATE, MON_CREATING)) {
	case MON_EXITED:
		take_exit(c, in);
		break;
	case MON_RUNNING:
		c->pid = (pid_t)ipc_get_u64(in, MON_TAG_PID, 0);
		if (c->state == CONTAINER_CREATED) { /* started while nobody listened */
			c->state = CONTAINER_RUNNING;
			c->started_at = ipc_get_i64(in, MON_TAG_STARTED_AT, clock_wall_ns());
			record(c);
			container_event(c, EVENT_STARTED);
		}
		break;
	case MON_CREATED:
		c->pid = (pid_t)ipc_get_u64(in, MON_TAG_PID, 0);
		break;
	default:
		break;
	}
}

static bool told_of(const struct ipc_in *in, const char *id)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);

		if (f.tag == MON_TAG_CONTAINER &&
		    streq(str_or_empty(ipc_get_str(&sub, MON_TAG_ID)), id))
			return true;
	}
	return false;
}

/* Containers that the monitor does not know have not survived. */
static void take_state(struct pod *p, const struct ipc_in *in)
{
	struct ipc_field f;
	struct container *c;
	struct err e = ERR_NULL;
	size_t pos = 0;

	put(&p->netns, ipc_get_str(in, MON_TAG_NETNS_PATH));
	put(&p->ipcns, ipc_get_str(in, MON_TAG_IPCNS_PATH));
	put(&p->utsns, ipc_get_str(in, MON_TAG_UTSNS_PATH));
	put(&p->pidns, ipc_get_str(in, MON_TAG_PIDNS_PATH));
	put(&p->userns, ipc_get_str(in, MON_TAG_USERNS_PATH));
	if (p->state == POD_READY && !ipc_get_u64(in, MON_TAG_POD_READY, 0) &&
	    pod_set_state(p, POD_NOTREADY, &e) < 0)
		log_error("pod sandbox %s: %s", p->id, e.msg);
	while (ipc_next(in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);

		if (f.tag == MON_TAG_CONTAINER)
			take_container(p, &sub);
	}
	list_for_each (c, &p->containers, in_pod) {
		c->lost = !told_of(in, c->id);
		if (!c->lost || (c->state != CONTAINER_CREATED && c->state != CONTAINER_RUNNING))
			continue;
		container_set_exited(c, MON_EXIT_UNKNOWN, clock_wall_ns(), false);
		free(c->reason);
		c->reason = xstrdup("Unknown");
		record(c);
		container_event(c, EVENT_STOPPED);
	}
}

/* --- finding and starting --- */

/* Until there is one again (no processes left, say), or the pod is gone. */
static void recover(void *arg)
{
	_cleanup_pod_ struct pod *p = arg;
	uint64_t pause = RECOVER_PAUSE_MIN;
	struct err e = ERR_NULL;

	while (map_get(&p->node->pods, p->id) == p && !p->node->draining &&
	       pod_monitor_find(p, &e) < 0) {
		log_error("pod sandbox %s: %s", p->id, e.msg);
		co_sleep(pause);
		pause = MIN(pause * 2, RECOVER_PAUSE_MAX);
	}
}

static void on_lost(struct ipc_conn *conn, int reason)
{
	struct pod *p = container_of(conn, struct pod, monitor);
	struct err e = ERR_NULL;

	(void)reason;
	if (p->state != POD_READY && p->state != POD_NOTREADY)
		return;
	log_error("pod sandbox %s has lost its monitor and is not ready any more", p->id);
	if (p->state == POD_READY && pod_set_state(p, POD_NOTREADY, &e) < 0)
		log_error("pod sandbox %s: %s", p->id, e.msg);
	co_start(p->node->loop, recover, pod_ref(p));
}

/* Outlives its pod, so that every monitor is reaped. */
struct monitor_child {
	struct loop_child child;
	struct list link; /* node->children */
};

static void on_child(struct loop_child *c, int status)
{
	struct monitor_child *m = container_of(c, struct monitor_child, child);

	(void)status; /* the connection tells the rest */
	list_remove(&m->link);
	free(m);
}

static void watch_child(struct node *n, pid_t pid, int pidfd)
{
	struct monitor_child *m = xcalloc(1, sizeof(*m));

	list_append(&n->children, &m->link);
	loop_child_add(n->loop, &m->child, pid, pidfd, on_child);
}

void pod_monitor_drop_children(struct node *n)
{
	struct monitor_child *m, *tmp;

	list_for_each_safe (m, tmp, &n->children, link) {
		loop_child_del(&m->child);
		list_remove(&m->link);
		free(m);
	}
}

static int launch(struct pod *p, bool recovering, struct err *e)
{
	struct node *n = p->node;
	_cleanup_free_ char *dir = pod_dir(p);
	const char *argv[] = {"gantry-monitor", "--recover", p->id, dir, NULL};
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF, pidfd = -EBADF;
	struct spawn sp = SPAWN_INIT;
	int pair[2], r;
	pid_t pid;

	if (!recovering) {
		argv[1] = p->id;
		argv[2] = dir;
		argv[3] = NULL;
	}
	r = fs_mkdir_p(AT_FDCWD, dir, 0711);
	if (r < 0)
		return err_errno(e, r, "make %s", dir);
	FAULT_POINT("daemon.monitor.dir");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, -errno, "make a socket for the monitor");
	ours = pair[0];
	theirs = pair[1];
	sp.file = n->monitor_path;
	sp.argv = argv;
	sp.fds[2] = STDERR_FILENO;
	sp.fds[3] = theirs;
	sp.fds[4] = n->sealed_fd;
	sp.n_fds = n->sealed_fd >= 0 ? 5 : 4;
	sp.setsid = true;
	r = spawner_start(n->loop, &sp, &pid, &pidfd, e);
	if (r < 0)
		return err_wrap(e, "start the monitor of pod sandbox %s", p->id);
	FAULT_POINT("daemon.monitor.started");
	watch_child(n, pid, TAKE_FD(pidfd));
	return ipc_conn_open(&p->monitor, n->loop, TAKE_FD(ours), on_message, on_lost);
}

int pod_monitor_start(struct pod *p, struct err *e)
{
	return launch(p, false, e);
}

static int sync_state(struct pod *p, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out o;
	int r;

	ipc_out_init(&o, MON_STATE, 0);
	r = ipc_call(&p->monitor, &o, &in, e);
	if (r == 0)
		take_state(p, &in);
	return r;
}

/* 1 when it answers, 0 when there is none, or -errno where that cannot be told. */
static int find(struct pod *p, struct err *e)
{
	_cleanup_free_ char *dir = pod_dir(p);
	int fd = monitor_connect(dir, e), r;

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return 0;
	if (fd < 0)
		return err_wrap(e, "the monitor of pod sandbox %s", p->id);
	r = ipc_conn_open(&p->monitor, p->node->loop, fd, on_message, on_lost);
	if (r == 0)
		r = sync_state(p, e);
	if (r == 0)
		return 1;
	ipc_conn_close(&p->monitor);
	return err_wrap(e, "the monitor of pod sandbox %s", p->id);
}

/*
 * A second monitor beside one that lives would take its containers for lost: only a socket that
 * nobody listens on says that it is dead.  One that is just dying is asked again.
 */
static int find_or_launch(struct pod *p, struct err *e)
{
	int r = find(p, e);

	for (unsigned i = 1; r < 0 && i < FIND_TRIES; i++)
		r = co_sleep(FIND_PAUSE) < 0 ? r : find(p, e);
	if (r != 0)
		return r < 0 ? r : 0;
	r = launch(p, true, e);
	return r < 0 ? r : sync_state(p, e);
}

int pod_monitor_find(struct pod *p, struct err *e)
{
	int r = co_lock(&p->monitor_lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED, "cancelled");
	r = p->monitor.loop ? 0 : find_or_launch(p, e);
	co_unlock(&p->monitor_lock);
	return r;
}

static int call(struct pod *p, struct ipc_out *o, struct ipc_in *ret, unsigned max, struct err *e)
{
	int r = 0;

	/* A monitor that answers no more holds up its own pod, not all requests there can be. */
	if (p->calls >= max)
		r = err_set(e, -EBUSY, GRPC_RESOURCE_EXHAUSTED,
			    "pod sandbox %s has %u requests under way already", p->id, p->calls);
	p->calls++;
	if (r == 0 && !p->monitor.loop)
		r = pod_monitor_find(p, e);
	if (r < 0)
		ipc_out_fini(o);
	else
		r = ipc_call(&p->monitor, o, ret, e);
	p->calls--;
	if (r < 0 && e && e->code == GRPC_UNAVAILABLE)
		err_wrap(e, "the monitor of pod sandbox %s", p->id);
	return r;
}

int pod_monitor_call(struct pod *p, struct ipc_out *o, struct ipc_in *ret, struct err *e)
{
	return call(p, o, ret, POD_CALLS_MAX, e);
}

int pod_monitor_exec(struct pod *p, struct ipc_out *o, struct ipc_in *ret, struct err *e)
{
	return call(p, o, ret, POD_EXECS_MAX, e);
}

int pod_monitor_end(struct pod *p, struct ipc_out *o, struct ipc_in *ret, struct err *e)
{
	return call(p, o, ret, POD_CALLS_MAX + POD_ENDS_MAX, e);
}

void pod_monitor_forget(struct pod *p)
{
	ipc_conn_close(&p->monitor);
}
