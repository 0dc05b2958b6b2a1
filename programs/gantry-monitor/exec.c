/* SPDX-License-Identifier: Apache-2.0 */
/* See exec.h. */
#include "exec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "console.h"
#include "runtime/unit.h"

#define STAT_MAX 4096 /* bytes of a stat file; and a flag in it (include/linux/sched.h) */
#define PF_EXITING 4u

/* The kernel is ending it, or has; its PID namespace goes with it, and what starts there. */
static bool is_exiting(pid_t pid)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	unsigned flags;
	char path[32], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fs_read(AT_FDCWD, path, STAT_MAX, &b) < 0 || !b.s || !(p = strrchr(b.s, ')')))
		return true;
	return sscanf(p, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1 || flags & PF_EXITING;
}

static int read_pid_file(const char *path, pid_t *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (fs_read(AT_FDCWD, path, 32, &b) < 0 || !b.s)
		return -ESRCH;
	*ret = atoi(b.s);
	return *ret > 0 ? 0 : -ESRCH;
}

/* Where the runtime leaves the number that a command has inside of the sandbox. */
static char *inner_path(const struct job_context *j)
{
	_cleanup_free_ char *dir = record_dir(j->mon->dir, j->id);

	return xasprintf("%s/exec-%d.inner", dir, (int)(j->ends ? j->ends : getpid()));
}

void exec_kill(struct job_context *j)
{
	const struct container *c = container_find(j->mon, j->id);
	_cleanup_free_ char *inner = inner_path(j), *log = xasprintf("%s.log", inner);
	pid_t pid;

	if (c->inside && read_pid_file(inner, &pid) == 0) {
		struct runtime rt;

		do_read_runtime(j, &c->create, &rt);
		rt.cancel_fd = -1;
		runtime_kill(&rt, j->id, SIGKILL, pid, log, NULL);
		strv_fini(&rt.args);
		unlink(log);
	}
	tree_kill(&j->tree, j->mon, c);
	exec_over(j);
}

void exec_over(const struct job_context *j)
{
	_cleanup_free_ char *inner = inner_path(j);

	unlink(inner);
}

int exec_start_failed(struct job_context *j, int r, struct err *e)
{
	const struct container *c = container_find(j->mon, j->id);
	_cleanup_free_ char *why = NULL;

	exec_kill(j);
	if (e->code != GRPC_INTERNAL || c->inside || !is_exiting(c->pid))
		return r;
	why = xstrdup(e->msg);
	return err_precondition(e, "container %s is not running any more: %s", j->id, why);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void exec_isolate(const struct job_context *j)
{
	int keep[] = {j->cancel_fd, j->mon->lock_fd, runtime_shared()};
	int next = 3;

	qsort(keep, ARRAY_SIZE(keep), sizeof(*keep), by_number);
	for (size_t i = 0; i < ARRAY_SIZE(keep); i++) {
		if (keep[i] > next)
			close_range((unsigned)next, (unsigned)keep[i] - 1, 0);
		next = MAX(next, keep[i] + 1);
	}
	close_range((unsigned)next, ~0U, 0);
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

/* The files of one call, in the bundle. */
struct files {
	char *dir, *process, *pid, *log, *console; /* the last a name in `dir` */
};

static void files_fini(struct files *f)
{
	unlink(f->process);
	unlink(f->pid);
	unlink(f->log);
	free(f->dir);
	free(f->process);
	free(f->pid);
	free(f->log);
	free(f->console);
}

static void files_name(const struct job_context *j, struct files *f)
{
	char *dir = record_dir(j->mon->dir, j->id);
	int n = (int)getpid();

	*f = (struct files){.dir = dir,
			    .process = xasprintf("%s/exec-%d.json", dir, n),
			    .pid = xasprintf("%s/exec-%d.pid", dir, n),
			    .log = xasprintf("%s/exec-%d.log", dir, n),
			    .console = xasprintf("exec-%d.tty", n)};
}

static int call(struct job_context *j, const struct files *f, const int fds[3], bool tty,
		struct err *e)
{
	uint64_t timeout = ipc_get_u64(j->in, MON_TAG_TIMEOUT, 0); /* the runtime's, too */
	const struct container *c = container_find(j->mon, j->id);
	_cleanup_free_ char *inner = inner_path(j),
			    *console = tty ? console_path(f->dir, f->console) : NULL;
	const char *argv[14];
	struct runtime rt;
	int n = 0, r;

	argv[n++] = "exec";
	argv[n++] = "--detach";
	argv[n++] = "--process";
	argv[n++] = f->process;
	argv[n++] = "--pid-file";
	argv[n++] = f->pid;
	if (c->inside) {
		argv[n++] = "--internal-pid-file";
		argv[n++] = inner;
	}
	if (tty) {
		argv[n++] = "--console-socket";
		argv[n++] = console;
	}
	argv[n++] = j->id;
	argv[n] = NULL;
	do_read_runtime(j, &c->create, &rt);
	if (timeout)
		rt.timeout_us = MIN(rt.timeout_us, timeout);
	r = runtime_call(&rt, argv, fds, f->log, tty ? f->dir : NULL, e);
	strv_fini(&rt.args);
	return r;
}

static int start(struct job_context *j, const struct files *f, const int fds[3], bool tty,
		 pid_t *ret, struct err *e)
{
	int r = write_process(j, f->process, e);

	if (r == 0)
		r = call(j, f, fds, tty, e);
	if (r < 0)
		return r;
	r = read_pid_file(f->pid, ret);
	return r < 0 ? err_errno(e, r, "the runtime left no process id in %s", f->pid) : 0;
}

static int start_in_terminal(struct job_context *j, const struct files *f, const int fds[3],
			     int *ret_master, pid_t *ret, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", f->dir, f->console);
	_cleanup_close_ int console = console_listen(f->dir, f->console);
	int r = console < 0 ? err_errno(e, console, "listen for the command's terminal") : 0;

	if (r == 0)
		r = start(j, f, fds, true, ret, e);
	unlink(path);
	if (r == 0)
		r = *ret_master = console_take(console, e);
	return r < 0 ? r : 0;
}

int exec_start(struct job_context *j, const int fds[3], int *ret_master, pid_t *ret, struct err *e)
{
	struct files f;
	int r;

	do_give_streams(j->mon, fds);
	files_name(j, &f);
	r = ret_master ? start_in_terminal(j, &f, fds, ret_master, ret, e)
		       : start(j, &f, fds, false, ret, e);
	files_fini(&f);
	return r;
}
