/* SPDX-License-Identifier: Apache-2.0 */
/* See unit.h. */
#include "runtime/unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "runtime/internal.h"
#include "wire/json.h"

#define END_MAX (2 * USEC_PER_SEC) /* for all of a trial's processes */
#define END_STEP 2000		   /* microseconds */
#define ANSWER_MAX (64u << 10)	   /* bytes of `state` and `wait` */

/* A call whose standard output is one JSON value. */
static int ask(const struct runtime *rt, const char *command, const char *id, uint64_t timeout_us,
	       jv **ret, struct err *e)
{
	_cleanup_free_ char *path = runtime_find(rt->path);
	_cleanup_strv_ struct strv argv = STRV_NULL;
	struct spawn_result out = {0};
	struct spawn s = SPAWN_INIT;
	int r;

	if (!path)
		return err_precondition(e, "the runtime %s is not installed", rt->path);
	runtime_put_options(rt, NULL, &argv);
	strv_add(&argv, command);
	strv_add(&argv, id);
	s.file = path;
	s.argv = (const char *const *)argv.v;
	s.death_signal = SIGKILL;
	s.cancel_fd = rt->cancel_fd;
	r = spawn_run(&s, NULL, 0, timeout_us, ANSWER_MAX, &out, e);
	if (r == 0 && (out.status != 0 || out.timed_out || out.cancelled))
		r = err_set(e, out.cancelled ? -ECANCELED : -EIO, GRPC_INTERNAL,
			    "%s %s: exit status %d: %.400s", rt->path, command, out.status,
			    str_or_empty(out.err.s));
	if (r == 0)
		r = jv_parse(str_or_empty(out.out.s), out.out.len, ANSWER_MAX, command, ret, e);
	spawn_result_fini(&out);
	return r;
}

int runtime_wait(const struct runtime *rt, const char *id, uint64_t timeout_us, int *ret_code,
		 struct err *e)
{
	_cleanup_jv_ jv *v = NULL;
	int64_t code;
	int r = ask(rt, "wait", id, timeout_us, &v, e);

	if (r < 0)
		return r;
	code = jv_int(v, "exitStatus", -1);
	if (code < 0 || code > 255)
		return err_set(e, -EBADMSG, GRPC_INTERNAL, "%s wait: no exitStatus", rt->path);
	*ret_code = (int)code;
	return 0;
}

int runtime_status(const struct runtime *rt, const char *id, char **ret, struct err *e)
{
	_cleanup_jv_ jv *v = NULL;
	int r = ask(rt, "state", id, rt->timeout_us, &v, e);

	if (r < 0)
		return r;
	*ret = xstrdup(jv_string(v, "status", ""));
	return 0;
}

int runtime_kill(const struct runtime *rt, const char *id, int sig, int64_t pid, const char *log,
		 struct err *e)
{
	const int none[] = {-1, -1, -1};
	const char *argv[8];
	char number[24], signal[12];
	int n = 0;

	snprintf(number, sizeof(number), "%" PRId64, pid);
	snprintf(signal, sizeof(signal), "%d", sig);
	argv[n++] = "kill";
	if (pid) {
		argv[n++] = "--pid";
		argv[n++] = number;
	} else if (sig == SIGKILL) {
		argv[n++] = "--all";
	}
	argv[n++] = id;
	argv[n++] = signal;
	argv[n] = NULL;
	return runtime_call(rt, argv, none, log, NULL, e);
}

/* --- the trial --- */

static int create_and_start(const struct runtime *rt, const struct runtime_trial *t, const char *id,
			    const char *type, const char *sandbox, pid_t *ret_pid, struct err *e)
{
	_cleanup_free_ char *log = xasprintf("%s/log", t->dir), *file = xasprintf("%s/pid", t->dir);
	const char *create[] = {"create", "--bundle", t->dir, "--pid-file", file, id, NULL},
		   *start[] = {"start", id, NULL};
	const int none[] = {-1, -1, -1};
	int r = runtime_trial_write(t, type, sandbox, e);

	if (r == 0)
		r = runtime_call(rt, create, none, log, NULL, e);
	if (r == 0)
		r = runtime_trial_pid(file, ret_pid, e);
	return r < 0 ? r : runtime_call(rt, start, none, log, NULL, e);
}

/* By its pid, as pods end: some runtimes take seconds to end one that lives, or to see the end of a
 * process that nobody has reaped.  What it was made of falls to us. */
static void end_sandbox(pid_t pid)
{
	uint64_t until = clock_mono_us() + END_MAX;

	if (pid > 0)
		kill(pid, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG) >= 0 && clock_mono_us() < until)
		usleep(END_STEP);
}

/* One that has a process of its own ends with that. */
static int try_inside(const struct runtime *rt, const struct runtime_trial *t, const char *sandbox,
		      pid_t sandbox_pid, const char *id, struct err *e)
{
	pid_t pid = 0;
	int code = 0, r = create_and_start(rt, t, id, "container", sandbox, &pid, e);

	if (r == 0 && pid != sandbox_pid)
		return runtime_trial_await(pid, rt->timeout_us, e);
	if (r == 0)
		r = runtime_wait(rt, id, rt->timeout_us, &code, e);
	if (r == 0 && code != 0)
		r = err_set(e, -EIO, GRPC_INTERNAL, "the container of a trial ended with %d", code);
	return r;
}

int runtime_try_pod(const struct runtime *rt, const struct runtime_trial *t, struct err *e)
{
	_cleanup_free_ char *sandbox = xasprintf("probe-%d", (int)getpid()),
			    *id = xasprintf("%s-c", sandbox);
	pid_t pid = 0;
	int r;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	r = create_and_start(rt, t, sandbox, "sandbox", sandbox, &pid, e);
	if (r == 0)
		r = try_inside(rt, t, sandbox, pid, id, e);
	end_sandbox(pid);
	runtime_delete(rt, id, NULL, NULL);
	runtime_delete(rt, sandbox, NULL, NULL);
	runtime_forget(rt, id, NULL);
	return r;
}
