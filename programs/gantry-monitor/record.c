/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept in the pod's directory (a tmpfs) for a monitor that comes after this one:
 *
 *   setup               the request that set the pod up
 *   boot                the machine's boot that it was set up in
 *   init                "PID STARTTIME" of process 1 of its PID namespace
 *   containers/ID/create   the request that made the container
 *   containers/ID/pid      "PID STARTTIME CGROUP" of its first process
 *   containers/ID/exit     "CODE FINISHED OOM STARTED CREATED", once it has ended
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "mon.h"

#define RECORD_LINE_MAX 8192
#define INIT_END_MS 1000 /* a killed process takes a moment, and its children with it */

char *record_dir(const char *dir, const char *id)
{
	return xasprintf("%s/containers/%s", dir, id);
}

static int read_boot_id(struct strbuf *to)
{
	return fs_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", RECORD_LINE_MAX, to);
}

int record_setup(struct monitor *m, const struct ipc_in *in)
{
	_cleanup_free_ char *path = xasprintf("%s/setup", m->dir),
			    *boot = xasprintf("%s/boot", m->dir);
	_cleanup_strbuf_ struct strbuf id = STRBUF_NULL;
	int r = read_boot_id(&id);

	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, boot, id.s, id.len, 0600, false);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, path, in->body, in->len, 0600, false);
	return r;
}

/* Numbers of processes mean nothing after the machine was restarted. */
static bool same_boot(const struct monitor *m)
{
	_cleanup_free_ char *path = xasprintf("%s/boot", m->dir);
	_cleanup_strbuf_ struct strbuf then = STRBUF_NULL, now = STRBUF_NULL;

	return fs_read(AT_FDCWD, path, RECORD_LINE_MAX, &then) == 0 && read_boot_id(&now) == 0 &&
	       streq(str_or_empty(then.s), str_or_empty(now.s));
}

int record_create(const char *dir, const char *id, const struct ipc_in *in)
{
	_cleanup_free_ char *path = xasprintf("%s/containers/%s/create", dir, id);

	return fs_write_atomic(AT_FDCWD, path, in->body, in->len, 0600, false);
}

/* Field 22 of /proc/PID/stat, proc(5): what tells two processes of one number apart. */
uint64_t record_start_time(pid_t pid)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[32], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fs_read(AT_FDCWD, path, RECORD_LINE_MAX, &b) < 0 || !b.s || !(p = strrchr(b.s, ')')))
		return 0;
	for (int i = 0; i < 20 && p; i++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

int record_pid(const char *dir, const char *id, pid_t pid, const char *cgroup)
{
	_cleanup_free_ char *path = xasprintf("%s/containers/%s/pid", dir, id);
	_cleanup_free_ char *line =
		xasprintf("%d %" PRIu64 " %s", (int)pid, record_start_time(pid), cgroup);

	return fs_write_atomic(AT_FDCWD, path, line, strlen(line), 0600, false);
}

int record_init(const char *dir, pid_t pid)
{
	_cleanup_free_ char *path = xasprintf("%s/init", dir);
	_cleanup_free_ char *line = xasprintf("%d %" PRIu64, (int)pid, record_start_time(pid));

	return fs_write_atomic(AT_FDCWD, path, line, strlen(line), 0600, false);
}

void record_kill_init(const char *dir)
{
	_cleanup_free_ char *path = xasprintf("%s/init", dir);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_close_ int fd = -EBADF;
	struct pollfd pf = {.events = POLLIN};
	uint64_t start;
	int pid;

	if (fs_read(AT_FDCWD, path, RECORD_LINE_MAX, &b) < 0 || !b.s ||
	    sscanf(b.s, "%d %" SCNu64, &pid, &start) != 2)
		return;
	fd = spawn_pidfd_open(pid);
	if (fd < 0 || record_start_time(pid) != start)
		return;
	spawn_pidfd_signal(fd, SIGKILL);
	pf.fd = fd;
	poll(&pf, 1, INIT_END_MS);
}

void record_exit(const struct container *c)
{
	_cleanup_free_ char *path = xasprintf("%s/containers/%s/exit", c->mon->dir, c->id);
	_cleanup_free_ char *line =
		xasprintf("%d %" PRId64 " %d %" PRId64 " %" PRId64, c->exit_code, c->finished_at,
			  c->oom, c->started_at, c->created_at);

	(void)fs_write_atomic(AT_FDCWD, path, line, strlen(line), 0600, false);
}

static int read_request(const char *path, uint16_t type, struct ipc_in *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, IPC_BODY_MAX, &b);

	if (r < 0)
		return r;
	*ret = (struct ipc_in){.type = type, .body = (uint8_t *)b.s, .len = b.len};
	b = STRBUF_NULL;
	return 0;
}

static void recover_exit(struct container *c, const char *text)
{
	int code, oom;

	if (sscanf(text, "%d %" SCNd64 " %d %" SCNd64 " %" SCNd64, &code, &c->finished_at, &oom,
		   &c->started_at, &c->created_at) != 5)
		code = MON_EXIT_UNKNOWN, oom = 0, c->unseen = true;
	c->state = MON_EXITED;
	c->exit_code = code;
	c->oom = oom;
}

/* Alive, and the same process as then: it is watched by its pidfd. */
static bool recover_process(struct container *c, const char *text)
{
	uint64_t start;
	int pid, fd, at = 0;

	if (sscanf(text, "%d %" SCNu64 " %n", &pid, &start, &at) != 2 || !at)
		return false;
	free(c->cgroup);
	c->cgroup = xstrdup(text + at);
	fd = spawn_pidfd_open(pid);
	if (fd < 0 || record_start_time(pid) != start) {
		fd_close(fd);
		return false;
	}
	c->pid = pid;
	container_adopt(c, fd);
	return true;
}

static void recover_container(struct monitor *m, const char *id, bool alive)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *create = xasprintf("%s/containers/%s/create", m->dir, id);
	_cleanup_free_ char *pid = xasprintf("%s/containers/%s/pid", m->dir, id);
	_cleanup_free_ char *ended = xasprintf("%s/containers/%s/exit", m->dir, id);
	struct ipc_in made = IPC_IN_NULL;
	struct container *c;

	/* Without its first record we cannot say what there is of it.  The daemon, whom it is not told
	 * of then, says that when it has it removed. */
	if (read_request(create, MON_CREATE, &made) < 0)
		return;
	c = container_new(m, id);
	c->create = made;
	if (fs_read(AT_FDCWD, ended, RECORD_LINE_MAX, &b) == 0 && b.s) {
		recover_exit(c, b.s);
		return;
	}
	c->state = MON_RUNNING;
	if (alive && fs_read(AT_FDCWD, pid, RECORD_LINE_MAX, &b) == 0 && b.s &&
	    recover_process(c, b.s)) {
		container_thaw(c);
		return;
	}
	c->state = MON_EXITED; /* it ended while nobody watched */
	c->exit_code = MON_EXIT_UNKNOWN;
	c->unseen = true;
}

/* What is in it has the sandbox's process for its own in its record. */
static void recover_sandbox(struct monitor *m)
{
	struct container *c;

	list_for_each (c, &m->containers, link)
		if (c->state == MON_RUNNING) {
			sandbox_take(c);
			if (c->inside)
				sandbox_watch(c);
		}
}

void record_recover(struct monitor *m)
{
	_cleanup_free_ char *setup = xasprintf("%s/setup", m->dir);
	_cleanup_free_ char *list = xasprintf("%s/containers", m->dir);
	bool alive = same_boot(m);
	DIR *d;

	(void)read_request(setup, MON_POD_SETUP, &m->setup);
	d = opendir(list);
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			recover_container(m, e->d_name, alive);
	closedir(d);
	recover_sandbox(m);
}
