/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry-monitor: owns one pod.
 *
 *   gantry-monitor POD-ID DIRECTORY            started by gantryd, descriptor 3 its connection
 *   gantry-monitor --recover POD-ID DIRECTORY  the same after the pod's monitor has died
 *   gantry-monitor --init                      process 1 of a pod's shared PID namespace
 *   gantry-monitor --probe ...                 tries a runtime (do_probe.c)
 *   gantry-monitor --filtered                  the process of such a trial (runtime/trial.h)
 *   gantry-monitor --network-status CONFIG     asks whether pods can be given a network
 *   gantry-monitor --network-gc CONFIG [POD]...
 *
 * This process runs an event loop and does nothing that can block: it takes requests, moves
 * output to logs, reaps.  Everything else is done by forked jobs (mon.h).
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "ipc/stream.h"
#include "mon.h"
#include "runtime/runtime.h"
#include "runtime/sealed.h"
#include "runtime/trial.h"

#define DAEMON_FD 3
#define SEALED_FD 4 /* a sealed copy of a runtime's program, where we were given one */
#define LOCK_WAIT_MAX (10 * USEC_PER_SEC) /* for the jobs of a dead monitor to end */
#define LOCK_WAIT_STEP (2 * USEC_PER_MS)
#define TRIM_AFTER (300 * USEC_PER_MS) /* quiet for so long: memory goes back */

static struct loop_timer trim_timer;

/* --- requests --- */

struct request *request_new(struct conn *c, struct ipc_in *in)
{
	struct request *q = xcalloc(1, sizeof(*q));

	q->conn = c;
	q->in = *in;
	*in = IPC_IN_NULL;
	list_init(&q->link);
	return q;
}

static void request_free(struct request *q)
{
	list_remove(&q->link);
	ipc_in_fini(&q->in);
	free(q);
}

void request_fail(struct request *q, const struct err *e)
{
	struct ipc_out o;

	if (q->conn) {
		ipc_out_reply(&o, q->in.seq, e);
		ipc_conn_send(&q->conn->ipc, &o);
	}
	request_free(q);
}

void request_done(struct request *q, const struct ipc_in *reply)
{
	struct ipc_out o;

	if (q->conn && reply && reply->body) { /* the fields as they are, and what was opened */
		ipc_out_init(&o, IPC_REPLY, q->in.seq);
		strbuf_add(&o.b, reply->body, reply->len);
		for (unsigned i = 0; i < reply->n_fds; i++)
			ipc_put_fd(&o, fcntl(reply->fds[i], F_DUPFD_CLOEXEC, 3));
		ipc_conn_send(&q->conn->ipc, &o);
	} else if (q->conn) {
		ipc_out_reply(&o, q->in.seq, NULL);
		ipc_conn_send(&q->conn->ipc, &o);
	}
	request_free(q);
}

void request_answer(struct request *q, struct ipc_out *o)
{
	if (q->conn)
		ipc_conn_send(&q->conn->ipc, o);
	else
		ipc_out_fini(o);
	request_free(q);
}

static void forget_in(struct list *l, const struct conn *c)
{
	struct request *q;

	list_for_each (q, l, link)
		if (q->conn == c)
			q->conn = NULL;
}

static bool cancel_in(struct list *l, const struct conn *c, uint32_t seq)
{
	struct request *q;
	struct err e = ERR_NULL;

	list_for_each (q, l, link)
		if (q->conn == c && q->in.seq == seq) {
			err_set(&e, -ECANCELED, GRPC_CANCELLED, "cancelled");
			request_fail(q, &e);
			return true;
		}
	return false;
}

/* One that waits is answered now (a signal that was sent stays sent, its grace goes on); one
 * that is worked on is told. */
static void request_cancel(struct monitor *m, const struct conn *c, uint32_t seq)
{
	struct container *ctr;

	if (cancel_in(&m->waiting, c, seq))
		return;
	list_for_each (ctr, &m->containers, link)
		if (cancel_in(&ctr->queue, c, seq) || cancel_in(&ctr->stops, c, seq))
			return;
	job_cancel(m, c, seq);
}

void request_forget_conn(struct monitor *m, const struct conn *c)
{
	struct container *ctr;
	struct job *job;

	job_cancel_execs(m, c);
	forget_in(&m->waiting, c);
	list_for_each (job, &m->jobs, link)
		if (job->request && job->request->conn == c)
			job->request->conn = NULL;
	list_for_each (ctr, &m->containers, link) {
		forget_in(&ctr->queue, c);
		forget_in(&ctr->stops, c);
	}
}

void monitor_event(struct monitor *m, struct ipc_out *o)
{
	struct conn *c;

	list_for_each (c, &m->conns, link) {
		struct ipc_out copy;

		ipc_out_init(&copy, 0, 0);
		strbuf_reset(&copy.b);
		strbuf_add(&copy.b, o->b.s, o->b.len);
		ipc_conn_send(&c->ipc, &copy);
	}
	ipc_out_fini(o);
}

void monitor_not_ready(struct monitor *m)
{
	struct ipc_out o;

	if (!m->ready)
		return;
	m->ready = false;
	ipc_out_init(&o, MON_EVENT_POD, 0);
	ipc_put_u64(&o, MON_TAG_POD_READY, 0);
	monitor_event(m, &o);
}

/* --- memory: what an idle monitor keeps --- */

static void on_trim(struct loop_timer *t)
{
	extern char __executable_start, etext;
	uintptr_t page = 4095, from = (uintptr_t)&__executable_start,
		  to = ((uintptr_t)&etext + page) & ~page;

	(void)t;
	output_trim();
	malloc_trim(0);
	/* Code comes back from the page cache when it is needed again. */
	madvise((void *)(from & ~page), to - (from & ~page), MADV_DONTNEED);
}

void monitor_trim_later(struct monitor *m)
{
	if (!trim_timer.loop)
		loop_timer_set(m->loop, &trim_timer, clock_mono_us() + TRIM_AFTER, on_trim);
}

/* --- the pod --- */

static void put_pod(const struct monitor *m, struct ipc_out *o)
{
	char path[64];

	ipc_put_u64(o, MON_TAG_POD_READY, m->ready);
	ipc_put_str(o, MON_TAG_IPS, str_or_empty(m->ips));
	ipc_put_str(o, MON_TAG_NETNS_PATH, str_or_empty(m->netns_path));
	if (m->ipcns_fd >= 0) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), m->ipcns_fd);
		ipc_put_str(o, MON_TAG_IPCNS_PATH, path);
	}
	if (m->utsns_fd >= 0) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), m->utsns_fd);
		ipc_put_str(o, MON_TAG_UTSNS_PATH, path);
	}
	if (m->userns_fd >= 0) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), m->userns_fd);
		ipc_put_str(o, MON_TAG_USERNS_PATH, path);
	}
	if (m->init_pid > 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)m->init_pid);
		ipc_put_str(o, MON_TAG_PIDNS_PATH, path);
	}
}

static void send_state(struct monitor *m, struct request *q)
{
	struct container *c;
	struct ipc_out o;

	if (q->conn) {
		ipc_out_reply(&o, q->in.seq, NULL);
		put_pod(m, &o);
		list_for_each (c, &m->containers, link)
			container_put_state(c, &o);
		ipc_conn_send(&q->conn->ipc, &o);
	}
	request_free(q);
}

/* Here, and not in a job: the pod can wait for as long as the daemon may not. */
static void open_files(struct monitor *m, struct request *q)
{
	const char *path = ipc_get_str(&q->in, MON_TAG_CGROUP);
	int fds[CGROUP_FILES_MAX];
	struct err e = ERR_NULL;
	struct ipc_out o;
	uint64_t have;

	if (!path) {
		err_invalid(&e, "no cgroup in the request");
		request_fail(q, &e);
		return;
	}
	if (q->conn) {
		have = cgroup_files_open(&m->cgroup, path, ipc_get_u64(&q->in, MON_TAG_FILES, 0),
					 fds);
		ipc_out_reply(&o, q->in.seq, NULL);
		ipc_put_u64(&o, MON_TAG_FILES, have);
		for (int i = 0; i < __builtin_popcountll(have); i++)
			ipc_put_fd(&o, fds[i]);
		ipc_conn_send(&q->conn->ipc, &o);
	}
	request_free(q);
}

/* The order of do_pod_setup(): those that there are of ipc, uts, net, user. */
static void take_namespaces(struct monitor *m, struct ipc_in *reply)
{
	int *const fds[] = {&m->ipcns_fd, &m->utsns_fd, &m->netns_fd, &m->userns_fd};
	const bool there[] = {
		!ipc_get_u64(&m->setup, MON_TAG_IPC_HOST, 0),
		!ipc_get_u64(&m->setup, MON_TAG_UTS_HOST, 0),
		!streq(str_or_empty(ipc_get_str(&m->setup, MON_TAG_NET_KIND)), "host"),
		ipc_get_str(&m->setup, MON_TAG_UID_MAP) != NULL,
	};

	for (unsigned i = 0, k = 0; i < ARRAY_SIZE(fds); i++)
		if (there[i] && k < reply->n_fds)
			*fds[i] = TAKE_FD(reply->fds[k++]);
	reply->n_fds = 0;
}

static void setup_done(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct monitor *m = job->mon;
	struct request *q = job->request;
	struct ipc_out o;

	job->request = NULL;
	m->stopping = false;
	FAULT_POINT("monitor.set-up.done");
	if (r < 0) { /* m->setup stays: a remove finds there what may be left */
		request_fail(q, e);
		return;
	}
	m->ready = true;
	m->ips = xstrdup(str_or_empty(ipc_get_str(reply, MON_TAG_IPS)));
	m->netns_path = xstrdup(str_or_empty(ipc_get_str(reply, MON_TAG_NETNS_PATH)));
	m->init_pid = (pid_t)ipc_get_u64(reply, MON_TAG_PID, 0);
	take_namespaces(m, reply);
	if (q->conn) {
		ipc_out_reply(&o, q->in.seq, NULL);
		put_pod(m, &o);
		ipc_conn_send(&q->conn->ipc, &o);
	}
	request_free(q);
}

static void setup(struct monitor *m, struct request *q)
{
	struct err e = ERR_NULL;

	if (m->setup.body || m->stopping) {
		err_precondition(&e, "pod sandbox %s has been set up", m->pod_id);
		request_fail(q, &e);
		return;
	}
	m->setup = (struct ipc_in){
		.type = MON_POD_SETUP, .body = xmemdup(q->in.body, q->in.len), .len = q->in.len};
	m->stopping = true; /* neither stopped nor removed before it is done */
	job_start(m, q, NULL, do_pod_setup, setup_done);
	warm_start(m, WARM_FOR_POD); /* its first container is not far */
}

static bool all_ended(const struct monitor *m)
{
	const struct container *c;

	list_for_each (c, &m->containers, link)
		if (c->state != MON_EXITED)
			return false;
	return true;
}

static void drop_namespaces(struct monitor *m)
{
	m->ipcns_fd = fd_close(m->ipcns_fd);
	m->utsns_fd = fd_close(m->utsns_fd);
	m->netns_fd = fd_close(m->netns_fd);
	m->userns_fd = fd_close(m->userns_fd);
	if (m->init_pid > 0)
		kill(m->init_pid, SIGKILL);
	m->init_pid = 0;
}

static void pod_over(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	struct monitor *m = job->mon;
	struct request *q = job->request;
	bool removed = q->in.type == MON_POD_REMOVE && r == 0;

	job->request = NULL;
	m->stopping = false;
	FAULT_POINT("monitor.pod-over");
	if (r == 0)
		drop_namespaces(m);
	if (r < 0)
		request_fail(q, e);
	else
		request_done(q, NULL);
	if (removed) { /* the daemon closes the connection once it has the answer */
		m->exit_when_flushed = true;
		if (m->n_conns == 0)
			loop_stop(m->loop, 0);
	}
}

/* Pod requests that wait for containers to end, and the end of the monitor. */
void monitor_step(struct monitor *m)
{
	struct request *q;

	if (m->stopping || list_empty(&m->waiting) || !all_ended(m))
		return;
	q = list_first(&m->waiting, struct request, link);
	list_remove(&q->link);
	m->stopping = true;
	m->ready = false;
	job_start(m, q, NULL, q->in.type == MON_POD_STOP ? do_pod_stop : do_pod_remove, pod_over);
}

static void end_pod(struct monitor *m, struct request *q)
{
	struct container *c;

	m->ready = false;
	if (!m->setup.body) /* our records are gone: the daemon's word */
		m->setup = (struct ipc_in){.type = MON_POD_SETUP,
					   .body = xmemdup(q->in.body, q->in.len),
					   .len = q->in.len};
	list_append(&m->waiting, &q->link);
	job_cancel_setup(m); /* a plugin may hang in it: nobody wants the pod now */
	list_for_each (c, &m->containers, link)
		if (c->state == MON_CREATED || c->state == MON_RUNNING)
			container_kill(c);
	monitor_step(m);
}

static void job_answer(struct job *job, int r, struct ipc_in *reply, const struct err *e)
{
	if (r < 0)
		request_fail(job->request, e);
	else
		request_done(job->request, reply);
	job->request = NULL;
}

/* Its network, or the node's where that is the pod's: never the one for the other. */
static void connect_port(struct monitor *m, struct request *q)
{
	uint64_t port = ipc_get_u64(&q->in, STREAM_TAG_PORT, 0);
	bool host = streq(str_or_empty(ipc_get_str(&m->setup, MON_TAG_NET_KIND)), "host");
	struct err e = ERR_NULL;

	if (port == 0 || port > UINT16_MAX)
		err_invalid(&e, "%llu is no port", (unsigned long long)port);
	else if (!m->ready || (!host && m->netns_fd < 0))
		err_precondition(&e, "pod sandbox %s is not ready", m->pod_id);
	if (e.errnum)
		request_fail(q, &e);
	else
		job_start(m, q, NULL, do_connect, job_answer);
}

/* --- connections --- */

static void on_message(struct ipc_conn *ipc, struct ipc_in *in)
{
	struct conn *c = container_of(ipc, struct conn, ipc);
	struct monitor *m = c->mon;
	struct err e = ERR_NULL;
	struct request *q;

	monitor_trim_later(m);
	if (in->type == IPC_CANCEL) {
		request_cancel(m, c, in->seq);
		return;
	}
	q = request_new(c, in);
	switch (q->in.type) {
	case MON_STATE:
		send_state(m, q);
		return;
	case MON_POD_SETUP:
		setup(m, q);
		return;
	case MON_POD_STOP:
	case MON_POD_REMOVE:
		end_pod(m, q);
		return;
	case MON_NET_STATS:
		job_start(m, q, NULL, do_net_stats, job_answer);
		return;
	case MON_FIGURES:
		job_start(m, q, NULL, do_figures, job_answer);
		return;
	case MON_FILES:
		open_files(m, q);
		return;
	case MON_CONNECT:
		connect_port(m, q);
		return;
	case MON_CREATE:
	case MON_START:
	case MON_STOP:
	case MON_REMOVE:
	case MON_EXEC:
	case MON_EXEC_STREAM:
	case MON_ATTACH:
	case MON_UPDATE:
	case MON_CHECKPOINT:
	case MON_REOPEN_LOG:
		container_request(m, q);
		return;
	default:
		err_set(&e, -ENOSYS, GRPC_UNIMPLEMENTED, "this monitor knows no request %u",
			q->in.type);
		request_fail(q, &e);
	}
}

static void on_conn_free(struct loop_defer *d)
{
	free(container_of(d, struct conn, free));
}

static void on_gone(struct ipc_conn *ipc, int reason)
{
	struct conn *c = container_of(ipc, struct conn, ipc);

	(void)reason;
	request_forget_conn(c->mon, c);
	list_remove(&c->link);
	c->mon->n_conns--;
	if (c->mon->exit_when_flushed ||
	    (c->mon->n_conns == 0 && !c->mon->setup.body && list_empty(&c->mon->containers)))
		loop_stop(c->mon->loop, 0);
	loop_defer(c->mon->loop, &c->free, on_conn_free);
}

static void add_conn(struct monitor *m, int fd)
{
	struct conn *c;

	if (m->n_conns >= MON_CONNECTIONS_MAX) {
		close(fd);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->mon = m;
	if (ipc_conn_open(&c->ipc, m->loop, fd, on_message, on_gone) < 0) {
		free(c);
		return;
	}
	list_append(&m->conns, &c->link);
	m->n_conns++;
}

static void on_accept(struct loop_io *io, uint32_t events)
{
	struct monitor *m = container_of(io, struct monitor, listen);
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0)
		add_conn(m, fd);
}

/* The path of a socket is short (unix(7)), that of a state directory need not be. */
static int listen_in(const char *dir)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

	if (d < 0)
		return -errno;
	unlinkat(d, "monitor.sock", 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/monitor.sock", d);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 8) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* --- children --- */

/* With its process 1 the pod's PID namespace is dead, and all that ran in it. */
static void init_ended(struct monitor *m)
{
	m->init_pid = 0;
	monitor_not_ready(m);
}

static void on_sigchld(struct loop *l, int signo, void *arg)
{
	struct monitor *m = arg;
	int64_t now = clock_wall_ns();
	int st;
	pid_t pid;

	(void)l;
	(void)signo;
	monitor_trim_later(m);
	/* All of them: a subreaper also gets what daemons in containers leave behind. */
	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		int status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);

		if (warm_exited(pid) || container_exited(m, pid, status, now) || job_exited(m, pid))
			continue;
		if (pid == m->init_pid)
			init_ended(m);
		else if (m->n_creating)
			m->strays[m->n_strays++ % MON_STRAYS_MAX] =
				(struct stray){pid, status, now};
	}
	monitor_step(m);
}

/*
 * One owner a pod.  The lock is held by a monitor and by its jobs, which die with it, but not
 * in the same instant: what they still do must not mix with what we do.
 */
static int take_lock(struct monitor *m)
{
	_cleanup_free_ char *path = xasprintf("%s/lock", m->dir);
	uint64_t until = clock_mono_us() + LOCK_WAIT_MAX;

	m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (m->lock_fd < 0)
		return -errno;
	while (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (clock_mono_us() > until)
			return -EBUSY;
		usleep(LOCK_WAIT_STEP);
	}
	return 0;
}

/*
 * What a service manager sends to a group is not meant for pods.  But when the machine goes down,
 * systemd becomes systemd-shutdown, asks everything to end, and waits 90 s for who does not.
 */
static void on_term(int sig, siginfo_t *info, void *context)
{
	static const char shutdown[] = "systemd-shutdow"; /* as much of it as the kernel keeps */
	char comm[sizeof(shutdown) - 1];
	int fd, saved = errno;

	if (info->si_pid != 1)
		return;
	fd = open("/proc/1/comm", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, comm, sizeof(comm)) == sizeof(comm) &&
	    memcmp(comm, shutdown, sizeof(comm)) == 0)
		_exit(0);
	if (fd >= 0)
		close(fd);
	errno = saved;
}

static int serve(struct monitor *m, bool recover)
{
	struct sigaction term = {.sa_sigaction = on_term, .sa_flags = SA_SIGINFO | SA_RESTART};

	list_init(&m->conns);
	list_init(&m->jobs);
	list_init(&m->containers);
	list_init(&m->waiting);
	m->ipcns_fd = m->utsns_fd = m->netns_fd = m->userns_fd = -EBADF;
	signal(SIGHUP, SIG_IGN); /* of a terminal */
	signal(SIGINT, SIG_IGN);
	sigaction(SIGTERM, &term, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	mallopt(M_TOP_PAD, 4096);
	if (sealed_is(SEALED_FD)) { /* before anything else of ours is opened there */
		fcntl(SEALED_FD, F_SETFD, FD_CLOEXEC);
		runtime_share(SEALED_FD);
	}
	if (cgroup_host_init(&m->cgroup, NULL) < 0 || loop_new(&m->loop) < 0)
		return 1;
	if (loop_signal_add(m->loop, SIGCHLD, on_sigchld, m) < 0)
		return 1;
	if (take_lock(m) < 0)
		return 1;
	m->listen_fd = listen_in(m->dir);
	if (m->listen_fd < 0 ||
	    loop_io_add(m->loop, &m->listen, m->listen_fd, EPOLLIN, on_accept) < 0)
		return 1;
	if (recover)
		record_recover(m);
	FAULT_POINT("monitor.listening");
	fcntl(DAEMON_FD, F_SETFD, FD_CLOEXEC);
	add_conn(m, DAEMON_FD);
	monitor_trim_later(m);
	return loop_run(m->loop);
}

int main(int argc, char **argv)
{
	static struct monitor m;
	bool recover = argc == 4 && streq(argv[1], "--recover");

	if (argc == 2 && streq(argv[1], "--init"))
		do_init();
	if (argc == 2 && streq(argv[1], "--fault-points"))
		return fault_print_points();
	if (argc == 2 && streq(argv[1], "--version")) {
		static const char text[] = "gantry-monitor " GANTRY_VERSION "\n";

		return fs_write_all(STDOUT_FILENO, text, sizeof(text) - 1) < 0;
	}
	if (argc == 2 && streq(argv[1], TRIAL_FILTERED))
		return trial_filtered();
	if (argc > 1 && streq(argv[1], "--probe"))
		return do_probe(argc - 2, argv + 2);
	if (argc == 3 && streq(argv[1], "--network-status"))
		return do_network_status(argv[2]);
	if (argc == 3 && streq(argv[1], "--network-gc"))
		return do_network_gc(argv[2]);
	if (argc == 5 && streq(argv[1], "--network-check"))
		return do_network_check(argv[2], argv[3], argv[4]);
	if (!recover && argc != 3) {
		fputs("gantry-monitor is started by gantryd.\n", stderr);
		return 2;
	}
	m.pod_id = argv[argc - 2];
	m.dir = argv[argc - 1];
	return serve(&m, recover);
}
