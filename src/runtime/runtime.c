/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI runtime command line: see runtime.h; github.com/opencontainers/runtime-spec,
 * runtime.md, for the life cycle. */
#include "runtime/runtime.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "runtime/blame.h"
#include "runtime/internal.h"
#include "runtime/sealed.h"
#include "runtime/trial.h"
#include "runtime/unit.h"
#include "wire/json.h"

#define OUTPUT_MAX 65536 /* bytes of a program that is asked what it can */
#define CHECK_TIMEOUT (5 * USEC_PER_SEC)
#define ERROR_LINE_MAX 512u /* ... and of its first line, which says what it cannot */
#define PID_FILE_MAX 32
#define LOG_MAX (64u << 10)  /* bytes of a runtime's log that are looked at */
#define SEALED_MAX (8 << 20) /* bytes of a program that is copied into memory */
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

char *runtime_find(const char *name)
{
	_cleanup_free_ char *path = xstrdup(getenv("PATH") ? getenv("PATH") : "");
	static const char fallback[] =
		"/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";
	_cleanup_free_ char *dirs = xasprintf("%s:%s", path, fallback);
	char *save = NULL;

	if (*name == '/')
		return access(name, X_OK) == 0 ? xstrdup(name) : NULL;
	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		char *full = xasprintf("%s/%s", d, name);

		if (access(full, X_OK) == 0)
			return full;
		free(full);
	}
	return NULL;
}

/* `msg` of a line, or of the last object in it: runsc ends no lines. owned, NULL: none */
static char *message_in(const char *line)
{
	static const char next[] = "}{\"msg\":";
	_cleanup_jv_ jv *v = NULL;
	const char *msg;

	for (const char *at = line; (at = strstr(at, next));)
		line = ++at;
	if (jv_parse(line, strlen(line), LOG_MAX, "log", &v, NULL) < 0)
		return NULL;
	msg = jv_string(v, "msg", jv_string(v, "message", NULL)); /* youki's; a stack may follow */
	return msg ? xstrndup(msg, strcspn(msg, "\n")) : NULL;
}

/* The last error line of a log in JSON lines ({"msg":...,"level":"error"}), or its last line. */
char *runtime_last_message(const char *log)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char *save = NULL, *found = NULL;

	if (!log || fs_read(AT_FDCWD, log, LOG_MAX, &b) < 0 || !b.len)
		return NULL;
	for (char *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		free(found);
		found = message_in(l);
		if (!found)
			found = xstrdup(l);
	}
	return found;
}

void runtime_put_options(const struct runtime *rt, const char *log, struct strv *argv)
{
	const char *base = strrchr(rt->path, '/');

	strv_add(argv, base ? base + 1 : rt->path);
	for (size_t i = 0; i < rt->args.n; i++)
		strv_add(argv, rt->args.v[i]);
	if (rt->root) {
		strv_add(argv, "--root");
		strv_add(argv, rt->root);
	}
	if (log) {
		strv_add(argv, "--log");
		strv_add(argv, log);
		strv_add(argv, "--log-format");
		strv_add(argv, "json");
	}
	if (rt->systemd_cgroup)
		strv_add(argv, "--systemd-cgroup");
}

static int call_failed(const struct runtime *rt, const char *command,
		       const struct spawn_result *out, const char *log, struct err *e)
{
	_cleanup_free_ char *msg = runtime_last_message(log);
	const struct runtime_end end = {out->status, false, msg, rt->root};
	int errnum = runtime_blame_errno(runtime_blame_of(&end), -EIO);

	if (out->cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "%s %s: cancelled", rt->path,
			       command);
	if (out->timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "%s %s: no end in %llu s: killed", rt->path, command,
			       (unsigned long long)(rt->timeout_us / 1000000));
	if (msg)
		return err_set(e, errnum, GRPC_INTERNAL, "%s %s: %.800s", rt->path, command, msg);
	return err_set(e, errnum, GRPC_INTERNAL, "%s %s: exit status %d", rt->path, command,
		       out->status);
}

static int shared_fd = -EBADF;

void runtime_share(int fd)
{
	shared_fd = fd;
}

int runtime_shared(void)
{
	return shared_fd;
}

int runtime_no_input(struct err *e)
{
	_cleanup_close_ int fd = memfd_create("no-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return err_errno(e, -errno, "make an empty input");
	return TAKE_FD(fd);
}

/* From a sealed copy (sealed.h) where there can be one and it may be executed, else from its file. */
static int await(struct spawn *s, const char *path, uint64_t timeout_us, struct spawn_result *out,
		 struct err *e)
{
	_cleanup_close_ int own = -EBADF;
	int fd = shared_fd, r = -ENOEXEC;

	if (!sealed_is_of(fd, path))
		fd = own = sealed_copy(path);
	s->exec_fd = fd;
	if (fd >= 0)
		r = spawn_await(s, timeout_us, out, e);
	/* ENOENT: a script, whose interpreter would have nothing to read. */
	if (r != -ENOEXEC && r != -EACCES && r != -EPERM && r != -ENOENT)
		return r;
	s->file = path;
	return spawn_await(s, timeout_us, out, e);
}

/* Of errors that come of starting a program: those that are about the program (execve(2)). */
static bool cannot_run(int r)
{
	return r == -ENOENT || r == -ENOEXEC || r == -EACCES || r == -EPERM || r == -ELIBBAD ||
	       r == -ENOTDIR || r == -ETXTBSY;
}

int runtime_call(const struct runtime *rt, const char *const *argv, const int fds[3],
		 const char *log, const char *cwd, struct err *e)
{
	_cleanup_free_ char *path = runtime_find(rt->path);
	_cleanup_strv_ struct strv all = STRV_NULL;
	struct spawn_result out = {0};
	struct spawn s = SPAWN_INIT;
	int r;

	if (!path)
		return err_set(e, -RUNTIME_ERRNO_ITSELF, GRPC_FAILED_PRECONDITION,
			       "the runtime %s is not installed", rt->path);
	runtime_put_options(rt, log, &all);
	for (const char *const *a = argv; *a; a++)
		strv_add(&all, *a);
	if (log)
		unlink(log);
	s.argv = (const char *const *)all.v;
	s.cwd = cwd;
	s.death_signal = 9;
	s.cancel_fd = rt->cancel_fd;
	memcpy(s.fds, fds, 3 * sizeof(int));
	r = await(&s, path, rt->timeout_us, &out, e);
	if (cannot_run(r)) {
		r = -RUNTIME_ERRNO_ITSELF;
		if (e)
			e->errnum = r;
	}
	if (r == 0 && (out.status != 0 || out.timed_out || out.cancelled))
		r = call_failed(rt, argv[0], &out, log, e);
	spawn_result_fini(&out);
	return r;
}

/* The id, and not a part of a longer one. */
static bool names(const char *file, const char *id)
{
	const char *at = strstr(file, id);

	return at && !isalnum((unsigned char)at[strlen(id)]);
}

/* What a runtime keeps of a container: ROOT/ID, or files with that in their names (runsc has
 * ID_sandbox:SANDBOX.state, of which the sandbox' name is none of ours, and a socket).  Looks for it, or
 * removes it: true where there was any. */
static bool each_state(const struct runtime *rt, const char *id, bool remove)
{
	DIR *d = opendir(rt->root);
	bool found = false;

	for (struct dirent *e; d && (e = readdir(d));) {
		const char *sandbox = strstr(e->d_name, "_sandbox:");
		_cleanup_free_ char *own =
			xstrndup(e->d_name, sandbox ? (size_t)(sandbox - e->d_name) : SIZE_MAX);

		if (!names(own, id))
			continue;
		found = true;
		if (remove)
			fs_remove_tree(dirfd(d), e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

int runtime_forget(const struct runtime *rt, const char *id, struct err *e)
{
	each_state(rt, id, true);
	return each_state(rt, id, false)
		       ? err_set(e, -EIO, GRPC_INTERNAL, "remove what is of %s in %s", id, rt->root)
		       : 0;
}

int runtime_delete(const struct runtime *rt, const char *id, const char *log, struct err *e)
{
	const char *argv[] = {"delete", "--force", id, NULL};
	struct runtime quiet = *rt;
	int none[3] = {-1, -1, -1}, r;

	if (!each_state(rt, id, false))
		return 0; /* never made, or deleted already */
	quiet.cancel_fd = -1;
	r = runtime_call(&quiet, argv, none, log, NULL, e);
	if (r < 0 && !each_state(rt, id, false))
		r = 0;
	/* What a call of it that was killed had put there meanwhile (runc: runc.XXXXXX). */
	if (r == 0)
		each_state(rt, id, true);
	return r;
}

/* --- probe --- */

/* A program of a few words that is to end with 0. */
static int need(const char *file, const char *const *argv, struct err *e)
{
	struct spawn s = SPAWN_INIT;
	struct spawn_result out;
	int r;

	s.file = file;
	s.argv = argv;
	r = spawn_run(&s, NULL, 0, CHECK_TIMEOUT, OUTPUT_MAX, &out, e);
	if (r == 0 && (out.status != 0 || out.timed_out)) {
		const char *why = str_or_empty(out.err.len ? out.err.s : out.out.s);

		if (out.timed_out)
			why = "it does not come to an end";
		r = err_precondition(e, "%s %s: %.*s", file, argv[1],
				     (int)MIN(strcspn(why, "\n"), ERROR_LINE_MAX), why);
	}
	spawn_result_fini(&out);
	return r;
}

int runtime_checkpoint_check(const struct runtime *rt, struct err *e)
{
	_cleanup_free_ char *path = runtime_find(rt->path), *criu = runtime_find("criu");
	const char *help[] = {path, "checkpoint", "--help", NULL}, *check[] = {criu, "check", NULL};
	int r;

	if (!path)
		return err_precondition(e, "not installed: no program %s", rt->path);
	r = need(path, help, e);
	if (r == 0 && !criu)
		r = err_precondition(e, "CRIU is not installed: no program criu");
	return r < 0 ? r : need(criu, check, e);
}

static void trial_mounts(const struct runtime_trial *t, struct jw *w)
{
	jw_key_array(w, "mounts");
	jw_raw(w, "{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"}");
	jw_raw(w, "{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\"}");
	if (t->userns && t->host_network)
		jw_raw(w, "{\"destination\":\"/sys\",\"type\":\"bind\",\"source\":\"/sys\","
			  "\"options\":[\"rbind\",\"rprivate\"]}");
	else if (t->userns)
		jw_raw(w, "{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\","
			  "\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]}");
	if (t->init) { /* not a copy: what is below /run cannot be executed on a booted Debian */
		jw_object_begin(w);
		jw_key_string(w, "destination", "/init");
		jw_key_string(w, "type", "bind");
		jw_key_string(w, "source", t->init);
		jw_key_array(w, "options");
		jw_string(w, "bind");
		jw_string(w, "ro");
		jw_array_end(w);
		jw_object_end(w);
	}
	jw_array_end(w);
}

static void trial_namespaces(const struct runtime_trial *t, struct jw *w)
{
	static const char *const ns[] = {"pid", "mount", "ipc", "uts", "network"};

	if (t->userns) {
		jw_key(w, "uidMappings");
		jw_raw(w, t->mappings);
		jw_key(w, "gidMappings");
		jw_raw(w, t->mappings);
	}
	jw_key_array(w, "namespaces");
	if (t->userns) {
		jw_object_begin(w);
		jw_key_string(w, "type", "user");
		jw_key_string(w, "path", t->userns);
		jw_object_end(w);
	}
	for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
		if (t->host_network && streq(ns[i], "network"))
			continue;
		jw_object_begin(w);
		jw_key_string(w, "type", ns[i]);
		jw_object_end(w);
	}
	jw_array_end(w);
}

/* The least that every runtime accepts: one static program, its own namespaces. */
static void trial_config(const struct runtime_trial *t, const char *type, const char *sandbox,
			 struct strbuf *b)
{
	bool first = type && streq(type, "sandbox");
	struct jw w = JW_INIT(b);

	jw_object_begin(&w);
	jw_key_string(&w, "ociVersion", "1.0.2");
	jw_key_object(&w, "root");
	jw_key_string(&w, "path", "rootfs");
	jw_object_end(&w);
	jw_key_object(&w, "process");
	jw_key_string(&w, "cwd", "/");
	jw_key_array(&w, "env"); /* youki 0.7 wants it */
	jw_string(&w, "PATH=/");
	jw_array_end(&w);
	jw_key_array(&w, "args");
	jw_string(&w, "/init");
	/* Waits for ever, looks at its filter, or just ends. */
	jw_string(&w, first ? "--init" : t->seccomp ? TRIAL_FILTERED : "--version");
	jw_array_end(&w);
	jw_key_object(&w, "user");
	jw_key_int(&w, "uid", 0);
	jw_key_int(&w, "gid", 0);
	jw_object_end(&w);
	jw_object_end(&w);
	trial_mounts(t, &w);
	if (type) {
		jw_key_object(&w, "annotations");
		jw_key_string(&w, UNIT_TYPE, type);
		jw_key_string(&w, UNIT_SANDBOX_ID, sandbox);
		jw_object_end(&w);
	}
	jw_key_object(&w, "linux");
	if (!type || first)
		jw_key_string(&w, "cgroupsPath", t->cgroups_path);
	/* crun 1.21 dies of a missing one where systemd makes the cgroup. */
	jw_key_object(&w, "resources");
	jw_object_end(&w);
	trial_namespaces(t, &w);
	if (t->seccomp) {
		jw_key(&w, "seccomp");
		jw_raw(&w, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":"
			   "[\"" TRIAL_DENIED "\"],\"action\":\"SCMP_ACT_ERRNO\"}]}");
	}
	jw_object_end(&w);
	jw_object_end(&w);
}

int runtime_trial_write(const struct runtime_trial *t, const char *type, const char *sandbox,
			struct err *e)
{
	_cleanup_free_ char *config = xasprintf("%s/config.json", t->dir);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r;

	trial_config(t, type, sandbox, &b);
	r = fs_write_atomic(AT_FDCWD, config, b.s, b.len, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", config) : 0;
}

/* Files of the trial's own: the runtime gives them to the container's root. */
static int open_streams(int fds[3])
{
	fds[0] = runtime_no_input(NULL);
	fds[1] = memfd_create("output", MFD_CLOEXEC);
	fds[2] = memfd_create("error", MFD_CLOEXEC);
	return fds[0] < 0 || fds[1] < 0 || fds[2] < 0 ? -EMFILE : 0;
}

int runtime_trial_pid(const char *path, pid_t *ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, PID_FILE_MAX, &b);

	*ret = r == 0 && b.s ? atoi(b.s) : 0;
	return *ret > 0 ? 0
			: err_set(e, -EBADMSG, GRPC_INTERNAL,
				  "the runtime left no process id in %s", path);
}

/* Of a child, which this process is the subreaper of. */
int runtime_trial_await(pid_t pid, uint64_t timeout_us, struct err *e)
{
	_cleanup_close_ int fd = spawn_pidfd_open(pid);
	struct pollfd pf = {fd, POLLIN, 0};
	int status = 0, r;

	if (fd < 0)
		return err_errno(e, fd, "watch the trial's process");
	if (poll(&pf, 1, (int)MIN(timeout_us / USEC_PER_MS, (uint64_t)INT32_MAX)) <= 0)
		return err_set(e, -ETIMEDOUT, GRPC_INTERNAL, "the trial's process does not end");
	r = spawn_wait(pid, &status);
	if (r < 0)
		return err_errno(e, r, "wait for the trial's process");
	if (status == TRIAL_UNFILTERED)
		return err_set(e, -EPERM, GRPC_INTERNAL,
			       "a container that asks for a seccomp filter runs without");
	return status ? err_set(e, -EIO, GRPC_INTERNAL, "the trial's process ended with %d", status)
		      : 0;
}

/* As containers are run, and not by `run`: youki's (0.7.0) waits for ever for a process that was
 * quicker than itself. */
static int run_trial(const struct runtime *rt, const struct runtime_trial *t, const char *id,
		     const int fds[3], struct err *e)
{
	_cleanup_free_ char *log = xasprintf("%s/log", t->dir), *file = xasprintf("%s/pid", t->dir);
	const char *create[] = {"create", "--bundle", t->dir, "--pid-file", file, id, NULL},
		   *start[] = {"start", id, NULL};
	const int none[] = {-1, -1, -1};
	pid_t pid = 0;
	int r;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	r = runtime_call(rt, create, fds, log, NULL, e);
	if (r == 0)
		r = runtime_trial_pid(file, &pid, e);
	if (r == 0)
		r = runtime_call(rt, start, none, log, NULL, e);
	return r < 0 ? r : runtime_trial_await(pid, rt->timeout_us, e);
}

int runtime_try(const struct runtime *rt, const struct runtime_trial *t, struct err *e)
{
	_cleanup_free_ char *id = xasprintf("probe-%d", (int)getpid());
	int fds[3], r = runtime_trial_write(t, NULL, NULL, e);

	if (r < 0)
		return r;
	r = open_streams(fds);
	if (r < 0)
		err_errno(e, r, "open files for the trial's streams");
	else
		r = run_trial(rt, t, id, fds, e);
	for (int i = 0; i < 3; i++)
		fd_close(fds[i]);
	runtime_delete(rt, id, NULL, NULL);
	return r;
}
