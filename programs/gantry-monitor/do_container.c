/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs of a container: create, start, update, remove.
 *
 * create: docs/decisions/0002.  The job takes a mount namespace of its own, mounts the root
 * file system there and runs the runtime; what the job mounted goes with it, the container
 * keeps its copy.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "binds.h"
#include "console.h"
#include "hooks.h"
#include "mon.h"
#include "runtime/blame.h"
#include "runtime/runtime.h"
#include "snapshot/snapshot.h"
#include "sys/userns.h"
#include "unit.h"
#include "wire/json.h"

#define PID_FILE_MAX 32
#define FILTER_MAX 32768 /* bytes: 4096 instructions */
#define CONSOLE "tty"	 /* in the bundle */
#define CGROUP_ROUNDS 100
#define CGROUP_PAUSE 10000 /* microseconds */
#define RUNTIME_TIMEOUT_DEFAULT (120 * USEC_PER_SEC)

/* --- what a container's MON_CREATE says --- */

static void read_strings(const struct ipc_in *in, uint16_t tag, struct strv *to)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f))
		if (f.tag == tag && ipc_field_str(&f))
			strv_add(to, ipc_field_str(&f));
}

void do_read_runtime(const struct job_context *j, const struct ipc_in *create, struct runtime *ret)
{
	*ret = (struct runtime){
		.path = str_or_empty(ipc_get_str(create, MON_TAG_RUNTIME)),
		.root = ipc_get_str(create, MON_TAG_RUNTIME_ROOT),
		.systemd_cgroup = ipc_get_u64(create, MON_TAG_SYSTEMD_CGROUP, 0),
		.timeout_us = ipc_get_u64(create, MON_TAG_TIMEOUT, RUNTIME_TIMEOUT_DEFAULT),
		.cancel_fd = j->cancel_fd,
	};
	read_strings(create, MON_TAG_RUNTIME_ARG, &ret->args);
}

static const struct ipc_in *create_of(const struct job_context *j)
{
	return &container_find(j->mon, j->id)->create;
}

/* --- create --- */

struct making {
	struct job_context *j;
	const struct ipc_in *in;
	char *dir, *rootfs, *log, *pid_file;
	struct runtime rt;
	struct strv layers;
	struct snapshot snap;
	struct snapshot_map map;
	char *lower; /* where mapped layers are mounted for a moment */
	struct binds binds;
	bool tty, want_stdin;
	bool sandbox, inside;		/* the pod's sandbox container; one in it (sandbox.c) */
	int out[2], err[2], in_pipe[2]; /* ours, the container's */
	int console;			/* listening for the terminal */
	int master;
	const char *restore; /* it is made of a checkpoint: where in the writable layer that is */
	pid_t pid;
	char *cgroup;
};

static int make_bundle(struct making *k, struct err *e)
{
	_cleanup_free_ char *config = xasprintf("%s/config.json", k->dir);
	const void *p;
	size_t n;
	int r;

	if (!ipc_get_bytes(k->in, MON_TAG_CONFIG, &p, &n))
		return err_invalid(e, "no config.json in the request");
	r = fs_mkdir_p(AT_FDCWD, k->rootfs, 0755);
	if (r == 0) /* before anything else is made: the record of what is to be undone */
		r = record_create(k->j->mon->dir, k->j->id, k->in);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, config, p, n, 0600, false);
	return r < 0 ? err_errno(e, r, "make the bundle %s", k->dir) : 0;
}

/* As other CRI runtimes do: a source that is not there becomes a directory. */
static int make_sources(const struct making *k, struct err *e)
{
	struct strv sources = STRV_NULL;
	int r = 0;

	read_strings(k->in, MON_TAG_MOUNT_SOURCE, &sources);
	for (size_t i = 0; r == 0 && i < sources.n; i++) {
		struct stat st;

		if (stat(sources.v[i], &st) < 0 && errno == ENOENT)
			r = fs_mkdir_p(AT_FDCWD, sources.v[i], 0755);
		if (r < 0)
			err_errno(e, r, "mount source %s", sources.v[i]);
	}
	strv_fini(&sources);
	return r;
}

static int make_pipe(int ret[2], bool we_write)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	ret[0] = p[we_write ? 1 : 0];
	ret[1] = p[we_write ? 0 : 1];
	return 0;
}

static int make_stdio(struct making *k, struct err *e)
{
	int r = 0;

	if (k->tty || k->sandbox || !k->want_stdin) {
		r = k->in_pipe[1] = runtime_no_input(e);
		if (r < 0)
			return r;
	}
	if (k->tty) {
		r = k->console = console_listen(k->dir, CONSOLE);
	} else if (!k->sandbox) {
		r = make_pipe(k->out, false);
		if (r == 0)
			r = make_pipe(k->err, false);
		if (r == 0 && k->want_stdin)
			r = make_pipe(k->in_pipe, true);
	}
	return r < 0 ? err_errno(e, r, "make the container's standard streams") : 0;
}

/* It may have waited for a hook; else it is its own fault that it came to no end. */
static int blame_no_end(const struct hooks *h, int r, struct err *e)
{
	if (r != -ETIMEDOUT || h->any)
		return r;
	e->errnum = -RUNTIME_ERRNO_ITSELF;
	return e->errnum;
}

static int run_create(struct making *k, struct err *e)
{
	/* With a terminal the runtime's own are not the container's, and still handed to its user. */
	bool none = k->tty || k->sandbox;
	const int fds[] = {k->in_pipe[1], none ? k->in_pipe[1] : k->out[1],
			   none ? k->in_pipe[1] : k->err[1]};
	_cleanup_free_ char *console = k->tty ? console_path(k->dir, CONSOLE) : NULL;
	const char *argv[12];
	struct hooks hooks;
	int n = 0, r;

	do_give_streams(k->j->mon, fds);
	hooks_begin(&hooks, k->dir);
	argv[n++] = "create";
	argv[n++] = "--bundle";
	argv[n++] = k->dir;
	argv[n++] = "--pid-file";
	argv[n++] = k->pid_file;
	if (k->tty) {
		argv[n++] = "--console-socket";
		argv[n++] = console;
	}
	argv[n++] = k->j->id;
	argv[n] = NULL;
	r = blame_no_end(&hooks, runtime_call(&k->rt, argv, fds, k->log, k->dir, e), e);
	return hooks_end(&hooks, r, e);
}

static int read_pid(const char *path, pid_t *ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, PID_FILE_MAX, &b);
	uint64_t v = 0;

	if (r == 0 && b.s)
		b.s[strcspn(b.s, "\n")] = '\0';
	if (r < 0 || !b.s || !str_to_u64(b.s, &v) || v == 0 || v > INT32_MAX)
		return err_set(e, -RUNTIME_ERRNO_ITSELF, GRPC_INTERNAL,
			       "the runtime left no process id in %s", path);
	*ret = (pid_t)v;
	return 0;
}

/*
 * The container's whole cgroup: some runtimes put its process into one below the one that they
 * were told (crun 1.8.1 makes "container" in systemd's scope), with the limits in either.
 */
static char *whole_cgroup(const struct making *k, pid_t pid)
{
	const char *name = ipc_get_str(k->in, MON_TAG_CGROUP);
	_cleanup_free_ char *of_process = NULL, *told = NULL;

	if (k->inside) /* the process is in the sandbox' cgroup */
		return name && cgroup_path_of(name, k->rt.systemd_cgroup, &told, NULL) == 0
			       ? TAKE_PTR(told)
			       : xstrdup("");
	if (cgroup_of_process(&k->j->mon->cgroup, pid, &of_process) < 0)
		return xstrdup("");
	if (name && cgroup_path_of(name, k->rt.systemd_cgroup, &told, NULL) == 0 &&
	    str_has_prefix(of_process, told) && of_process[strlen(told)] == '/')
		return TAKE_PTR(told);
	return TAKE_PTR(of_process);
}

/* The root of a sandbox container: this program, and what is mounted on. */
static int mount_sandbox(struct making *k, struct err *e)
{
	static const char *const dirs[] = {"proc", "dev", "sys"};
	_cleanup_free_ char *init = xasprintf("%s/init", k->rootfs);
	const struct idmap plain = {.userns = -1};
	_cleanup_close_ int program = -EBADF;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *dir = xasprintf("%s/%s", k->rootfs, dirs[i]);

		r = fs_mkdir_p(AT_FDCWD, dir, 0755);
	}
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, init, "", 0, 0755, false);
	if (r < 0)
		return err_errno(e, r, "make the sandbox' root in %s", k->rootfs);
	/* While we are where its mount is; by then an update may have removed the file. */
	program = idmap_clone(GANTRY_PROBE_INIT, &plain, e);
	if (program < 0)
		return program;
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e, -errno, "make a mount namespace");
	return idmap_attach(program, init, e);
}

static int mount_rootfs(struct making *k, struct err *e)
{
	int r = k->snap.map ? fs_mkdir_p(AT_FDCWD, k->lower, 0755) : 0;

	if (r < 0)
		return err_errno(e, r, "make %s", k->lower);
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e, -errno, "make a mount namespace");
	/* Containers in a user namespace have what is the host's mounted as they are to have it:
	 * their root may not reach the sources, nor change the options of mounts not its own. */
	r = binds_mount(&k->binds, e);
	if (k->snap.map)
		FAULT_POINT("job.userns.binds");
	if (r == 0)
		r = snapshotter->mount(&k->snap, k->rootfs, e);
	return r < 0 ? r : binds_make_volumes(&k->binds, k->rootfs, e);
}

/*
 * Also where the runtime itself is gone, or does not come to an end: what it keeps is its directory and
 * the cgroup.  `ended`: so is its process, and whatever is left goes with the cgroup.  Then the
 * runtime's word is not needed either: crun fails where the number of that process is meanwhile that
 * of somebody's thread (pidfd_open(2): ENOENT), for as long as it is.
 */
/* What a runtime reads to delete a container, where somebody has removed the bundle: of its own
 * records it has the rest. */
static int need_bundle(const char *dir, struct err *e)
{
	static const char least[] = "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"rootfs\"},"
				    "\"process\":{\"cwd\":\"/\",\"args\":[\"-\"]},\"linux\":{}}";
	_cleanup_free_ char *config = xasprintf("%s/config.json", dir);
	int r;

	if (access(config, F_OK) == 0)
		return 0;
	r = fs_mkdir_p(AT_FDCWD, dir, 0700);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, config, least, sizeof(least) - 1, 0600, false);
	return r < 0 ? err_errno(e, r, "make %s", config) : 0;
}

static int delete_container(const struct runtime *rt, const char *id, const char *log, bool ended,
			    struct err *e)
{
	_cleanup_free_ char *program = runtime_find(rt->path);
	int r;

	if (!rt->root)
		return 0;
	if (program) {
		r = runtime_delete(rt, id, log, e);
		if (r == 0 || (r != -ETIMEDOUT && !ended))
			return r;
		/* It waits for ever for a hook (poststop): there is no container any more. */
	}
	return runtime_forget(rt, id, e);
}

/* A runtime that has failed may fail at this too, or know nothing of what it had begun: its process and
 * cgroup are taken away without it. */
static void undo_runtime(struct making *k)
{
	const char *name = ipc_get_str(k->in, MON_TAG_CGROUP);
	_cleanup_free_ char *cgroup = NULL;

	(void)delete_container(&k->rt, k->j->id, NULL, false, NULL);
	if (name && cgroup_path_of(name, k->rt.systemd_cgroup, &cgroup, NULL) == 0)
		do_remove_cgroup(&k->j->mon->cgroup, cgroup);
	if (k->rt.root)
		(void)runtime_forget(&k->rt, k->j->id, NULL);
}

static void undo(struct making *k)
{
	undo_runtime(k);
	if (!k->sandbox)
		snapshotter->remove(&k->snap, NULL);
	/* The root file system is mounted in our own namespace only; the tree stays on its
	 * file system and so stops there, and the bundle goes once we are out of the way. */
	binds_unmount(&k->binds);
	umount2(k->rootfs, MNT_DETACH);
	fs_remove_tree(AT_FDCWD, k->dir);
}

/* All that there is before anything runs. */
static int make_ready(struct making *k, struct err *e)
{
	int r = make_bundle(k, e);

	FAULT_POINT("job.create.bundle");
	if (r == 0 && !k->sandbox)
		r = snapshotter->prepare(&k->snap, e);
	FAULT_POINT("job.create.snapshot");
	if (r == 0)
		r = make_sources(k, e);
	FAULT_POINT("job.create.sources");
	return r;
}

static int take_process(struct making *k, struct err *e)
{
	int r = read_pid(k->pid_file, &k->pid, e);

	if (r == 0 && k->tty)
		r = k->master = console_take(k->console, e);
	if (r < 0)
		return r;
	k->inside = ipc_get_u64(k->in, MON_TAG_IN_SANDBOX, 0) && sandbox_of(k->j->mon) &&
		    sandbox_of(k->j->mon)->pid == k->pid;
	k->cgroup = whole_cgroup(k, k->pid);
	r = record_pid(k->j->mon->dir, k->j->id, k->pid, k->cgroup);
	return r < 0 ? err_errno(e, r, "record the container's process") : 0;
}

static int make(struct making *k, struct err *e)
{
	int r = make_ready(k, e);

	if (r < 0 || k->restore)
		return r;
	r = make_stdio(k, e);
	if (r == 0)
		r = k->sandbox ? mount_sandbox(k, e) : mount_rootfs(k, e);
	FAULT_POINT("job.create.mounted");
	if (r == 0)
		r = run_create(k, e);
	FAULT_POINT("job.create.created");
	if (r == 0)
		r = take_process(k, e);
	FAULT_POINT("job.create.recorded");
	return r;
}

/* crun leaves in its state directory what it has compiled, for its exec. */
static void put_filter(const struct making *k, struct ipc_out *reply)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *path =
		xasprintf("%s/%s/seccomp.bpf", str_or_empty(k->rt.root), k->j->id);

	if (ipc_get_u64(k->in, MON_TAG_WANT_FILTER, 0) &&
	    fs_read(AT_FDCWD, path, FILTER_MAX, &b) == 0 && b.len)
		ipc_put_bytes(reply, MON_TAG_FILTER, b.s, b.len);
}

/* Of the pod, where it has a user namespace. */
static int read_map(struct making *k, struct err *e)
{
	const struct monitor *m = k->j->mon;
	struct userns_map uids, gids;

	if (!do_read_maps(&m->setup, &uids, &gids))
		return 0;
	if (m->userns_fd < 0)
		return err_precondition(e, "the pod's user namespace is gone");
	k->lower = xasprintf("%s/lower", k->dir);
	k->map = (struct snapshot_map){m->userns_fd, uids.host, gids.host, k->lower};
	k->snap.map = &k->map;
	return 0;
}

static int begin_making(struct making *k, struct job_context *j, const struct ipc_in *in,
			struct err *e)
{
	int r;

	*k = (struct making){
		.j = j,
		.in = in,
		.dir = record_dir(j->mon->dir, j->id),
		.sandbox = ipc_get_u64(in, MON_TAG_SANDBOX, 0),
		.tty = ipc_get_u64(in, MON_TAG_TTY, 0),
		.want_stdin = ipc_get_u64(in, MON_TAG_STDIN, 0),
		.out = {-1, -1},
		.err = {-1, -1},
		.in_pipe = {-1, -1},
		.console = -1,
		.master = -1,
		.restore = ipc_get_str(in, MON_TAG_RESTORE),
	};
	k->rootfs = xasprintf("%s/rootfs", k->dir);
	k->log = xasprintf("%s/runtime.log", k->dir);
	k->pid_file = xasprintf("%s/runtime.pid", k->dir);
	do_read_runtime(j, in, &k->rt);
	read_strings(in, MON_TAG_LAYER, &k->layers);
	k->snap = (struct snapshot){
		.layers_dir = str_or_empty(ipc_get_str(in, MON_TAG_LAYERS_DIR)),
		.layers = &k->layers,
		.writable = str_or_empty(ipc_get_str(in, MON_TAG_WRITABLE)),
	};
	k->binds = (struct binds){k->dir, k->in, j->mon->userns_fd, &k->snap, 0, 0};
	r = snapshot_choose(ipc_get_str(in, MON_TAG_SNAPSHOTTER), e);
	return r < 0 || k->sandbox ? r : read_map(k, e);
}

/* Our ends of its streams; and its own, where the runtime wants them once more to start it. */
static void put_streams(const struct making *k, struct ipc_out *reply)
{
	if (k->sandbox)
		return;
	if (k->tty) {
		ipc_put_fd(reply, k->master);
		return;
	}
	ipc_put_fd(reply, k->out[0]);
	ipc_put_fd(reply, k->err[0]);
	if (k->want_stdin)
		ipc_put_fd(reply, k->in_pipe[0]);
	if (k->inside) {
		ipc_put_fd(reply, k->in_pipe[1]);
		ipc_put_fd(reply, k->out[1]);
		ipc_put_fd(reply, k->err[1]);
	}
}

static void put_process(const struct making *k, struct ipc_out *reply)
{
	ipc_put_u64(reply, MON_TAG_PID, (uint64_t)k->pid);
	ipc_put_str(reply, MON_TAG_CGROUP, k->cgroup);
	put_streams(k, reply);
}

int do_create(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	struct making k;
	int r = begin_making(&k, j, j->in, e);

	if (r == 0)
		r = make(&k, e);
	if (r < 0) {
		undo(&k);
		return r;
	}
	if (!k.restore) {
		put_process(&k, reply);
		put_filter(&k, reply);
	}
	return 0;
}

/* --- start of one that is made of a checkpoint --- */

/* What was its standard input at the time, if a pipe, is to be one again. */
static int make_restored_stdio(struct making *k, struct err *e)
{
	int r = make_stdio(k, e);

	if (r < 0 || k->tty || k->want_stdin)
		return r;
	fd_close(k->in_pipe[1]);
	r = make_pipe(k->in_pipe, true);
	if (r < 0)
		return err_errno(e, r, "make the container's standard input");
	k->in_pipe[0] = fd_close(k->in_pipe[0]);
	return 0;
}

static int run_restore(struct making *k, struct err *e)
{
	const int fds[] = {k->in_pipe[1], k->tty ? k->in_pipe[1] : k->out[1],
			   k->tty ? k->in_pipe[1] : k->err[1]};
	_cleanup_free_ char *work = xasprintf("%s/%s", k->snap.writable, k->restore),
			    *images = xasprintf("%s/checkpoint", work);
	const char *argv[20];
	int n = 0, r;

	do_give_streams(k->j->mon, fds);
	argv[n++] = "restore";
	argv[n++] = "--detach";
	argv[n++] = "--bundle";
	argv[n++] = k->dir;
	argv[n++] = "--pid-file";
	argv[n++] = k->pid_file;
	argv[n++] = "--image-path";
	argv[n++] = images;
	argv[n++] = "--work-path";
	argv[n++] = work;
	argv[n++] = "--tcp-established";
	argv[n++] = "--file-locks";
	if (k->tty) {
		argv[n++] = "--console-socket";
		argv[n++] = CONSOLE;
	}
	argv[n++] = k->j->id;
	argv[n] = NULL;
	r = runtime_call(&k->rt, argv, fds, k->log, k->dir, e);
	if (r < 0 && r != -ETIMEDOUT) {
		do_add_criu_words(work, "restore.log", e);
		e->code = GRPC_INTERNAL; /* as every start that fails: it is not tried again */
	}
	return r;
}

/* crun 1.21 leaves it at the top on v1: no limit would be in force. */
static int check_cgroup(const struct making *k, struct err *e)
{
	const char *name = str_or_empty(ipc_get_str(k->in, MON_TAG_CGROUP));
	_cleanup_free_ char *told = NULL;
	int r = cgroup_path_of(name, k->rt.systemd_cgroup, &told, e);

	if (r < 0 || !*k->cgroup || streq(k->cgroup, told)) /* "": it has ended */
		return r;
	return err_set(
		e, -EIO, GRPC_INTERNAL,
		"%s restored it in the cgroup %s, not in its own: its limits would not be in "
		"force",
		k->rt.path, k->cgroup);
}

/* Whatever has come to life goes again; bundle and writable layer stay for MON_REMOVE. */
static void undo_restore(struct making *k)
{
	const char *name = ipc_get_str(k->in, MON_TAG_CGROUP);
	_cleanup_free_ char *path = NULL;

	if (k->pid > 0)
		kill(k->pid, SIGKILL);
	delete_container(&k->rt, k->j->id, NULL, false, NULL);
	if (name && cgroup_path_of(name, k->rt.systemd_cgroup, &path, NULL) == 0)
		do_remove_cgroup(&k->j->mon->cgroup, path);
	binds_unmount(&k->binds);
	umount2(k->rootfs, MNT_DETACH);
}

int do_restore(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	_cleanup_free_ char *images = NULL;
	struct making k;
	int64_t at = clock_wall_ns();
	int r = begin_making(&k, j, create_of(j), e);

	k.rt.cancel_fd = -1; /* it is no state to be left in */
	if (r == 0)
		r = make_restored_stdio(&k, e);
	if (r == 0)
		r = mount_rootfs(&k, e);
	FAULT_POINT("job.restore.mounted");
	if (r == 0)
		r = run_restore(&k, e);
	FAULT_POINT("job.restore.restored");
	if (r == 0)
		r = take_process(&k, e);
	if (r == 0)
		r = check_cgroup(&k, e);
	if (r < 0) {
		undo_restore(&k);
		return r;
	}
	images = xasprintf("%s/%s", k.snap.writable, k.restore);
	fs_remove_tree(AT_FDCWD, images); /* memory that it has again */
	FAULT_POINT("job.restore.recorded");
	ipc_put_i64(reply, MON_TAG_STARTED_AT, at);
	put_process(&k, reply);
	return 0;
}

/* --- start, update, remove --- */

/* Into a sandbox that runs, a root file system goes when the container is started: it is mounted in
 * a namespace of this job, as it was when it was created. */
static int mount_again(struct job_context *j, struct err *e)
{
	struct making k;
	int r = begin_making(&k, j, create_of(j), e);

	return r < 0 ? r : mount_rootfs(&k, e);
}

int do_start(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	_cleanup_free_ char *log = xasprintf("%s/containers/%s/runtime.log", j->mon->dir, j->id);
	const char *argv[] = {"start", j->id, NULL};
	_cleanup_free_ char *dir = record_dir(j->mon->dir, j->id);
	const struct container *c = container_find(j->mon, j->id);
	struct hooks hooks;
	struct runtime rt;
	int r = c->inside ? mount_again(j, e) : 0;

	if (r < 0)
		return r;
	do_read_runtime(j, create_of(j), &rt);
	hooks_begin(&hooks, dir);
	ipc_put_i64(reply, MON_TAG_STARTED_AT, clock_wall_ns());
	r = hooks_end(&hooks, runtime_call(&rt, argv, c->stdio, log, NULL, e), e);
	if (r == -ECANCELED) /* the monitor has seen its process end */
		r = err_precondition(e, "container %s ended before it was started", j->id);
	FAULT_POINT("job.start.started");
	strv_fini(&rt.args);
	return r;
}

int do_update(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	_cleanup_free_ char *dir = record_dir(j->mon->dir, j->id);
	_cleanup_free_ char *log = xasprintf("%s/update.log", dir),
			    *file = xasprintf("%s/update.json", dir);
	const char *argv[] = {"update", "--resources", file, j->id, NULL};
	const int none[] = {-1, -1, -1};
	struct runtime rt;
	const char *cgroup = container_find(j->mon, j->id)->cgroup;
	const void *p;
	bool unit;
	size_t n;
	int r;

	(void)reply;
	if (!ipc_get_bytes(j->in, MON_TAG_CONFIG, &p, &n))
		return err_invalid(e, "no resources in the request");
	r = fs_write_atomic(AT_FDCWD, file, p, n, 0600, false);
	if (r < 0)
		return err_errno(e, r, "write %s", file);
	do_read_runtime(j, create_of(j), &rt);
	unit = rt.systemd_cgroup && j->mon->cgroup.v2;
	/* What systemd cannot be told, nothing is begun with: it would take the new limits back at
	 * its next reload, and an update that fails has changed nothing. */
	r = unit ? unit_tell(&j->mon->cgroup, cgroup, e) : 0;
	if (r == 0)
		r = runtime_call(&rt, argv, none, log, NULL, e);
	unlink(file);
	strv_fini(&rt.args);
	return r == 0 && unit ? unit_tell(&j->mon->cgroup, cgroup, e) : r;
}

void do_remove_cgroup(const struct cgroup_host *h, const char *path)
{
	for (int i = 0; i < CGROUP_ROUNDS; i++) {
		int r = cgroup_remove(h, path);

		if (r != -EBUSY && r != -ENOTEMPTY)
			return; /* as a rule the runtime has done it already */
		cgroup_kill(h, path);
		if (i > 0)
			usleep(CGROUP_PAUSE);
	}
}

/* Known by its process, or else by what the runtime was told. */
static void remove_cgroup_of(const struct job_context *j, const struct container *c)
{
	const char *name = ipc_get_str(&c->create, MON_TAG_CGROUP);
	_cleanup_free_ char *path = NULL;

	if (*c->cgroup)
		do_remove_cgroup(&j->mon->cgroup, c->cgroup);
	else if (name && cgroup_path_of(name, ipc_get_u64(&c->create, MON_TAG_SYSTEMD_CGROUP, 0),
					&path, NULL) == 0)
		do_remove_cgroup(&j->mon->cgroup, path);
}

int do_remove(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	_cleanup_free_ char *dir = record_dir(j->mon->dir, j->id);
	const struct container *c = container_find(j->mon, j->id);
	const struct ipc_in *in = create_of(j);
	_cleanup_free_ char *log = xasprintf("%s/runtime.log", dir);
	struct snapshot snap = {.writable = ipc_get_str(in, MON_TAG_WRITABLE)};
	struct hooks hooks;
	struct runtime rt;
	int r;

	(void)reply;
	do_read_runtime(j, in, &rt);
	hooks_begin(&hooks, dir);
	hooks_end_unmade(&hooks);
	r = need_bundle(dir, e);
	if (r == 0)
		r = delete_container(&rt, j->id, log, c->state == MON_EXITED && *c->cgroup, e);
	hooks_end_deleted(&hooks, j->id, log, r);
	FAULT_POINT("job.remove.deleted");
	if (r == 0)
		remove_cgroup_of(j, c);
	FAULT_POINT("job.remove.cgroup");
	if (r == 0 && snap.writable)
		r = snapshot_choose(ipc_get_str(in, MON_TAG_SNAPSHOTTER), e);
	if (r == 0 && snap.writable)
		r = snapshotter->remove(&snap, e);
	FAULT_POINT("job.remove.snapshot");
	if (r == 0) {
		r = fs_remove_tree(AT_FDCWD, dir);
		if (r < 0)
			err_errno(e, r, "remove the bundle %s", dir);
	}
	FAULT_POINT("job.remove.directory");
	strv_fini(&rt.args);
	return r;
}
