/* SPDX-License-Identifier: Apache-2.0 */
/* The runtimes' programs: which there are, becoming one, running one, asking one. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "base/spawn.h"
#include "oci.h"
#include "runtime/runtime.h"

extern char **environ;

static void add(struct oci *o, struct program *list, size_t *n, const struct config_runtime *c)
{
	_cleanup_free_ char *path = NULL;

	for (size_t i = 0; i < *n; i++)
		if (streq(list[i].name, c->name))
			return;
	path = runtime_find(c->path);
	if (path)
		list[(*n)++] = (struct program){
			.name = c->name,
			.path = arena_strdup(&o->arena, path),
			.args = c->args,
			.pod_unit = c->unit == CONFIG_UNIT_POD,
			.isolation = config_isolation_name(c->isolation),
		};
}

size_t program_list(struct oci *o, struct program **ret)
{
	const struct config *c = &o->config;
	size_t n = 0;

	*ret = arena_calloc(&o->arena, c->n_runtimes + 1, sizeof(**ret));
	for (const char *const *d = c->default_runtimes; *d; d++)
		if (config_runtime_find(c, *d))
			add(o, *ret, &n, config_runtime_find(c, *d));
	for (size_t i = 0; i < c->n_runtimes; i++)
		add(o, *ret, &n, &c->runtimes[i]);
	return n;
}

struct program program_of_record(struct oci *o, const struct record *r)
{
	const char **args = arena_calloc(&o->arena, r->args.n + 1, sizeof(*args));

	for (size_t i = 0; i < r->args.n; i++)
		args[i] = arena_strdup(&o->arena, r->args.v[i]);
	return (struct program){.name = arena_strdup(&o->arena, r->runtime),
				.path = arena_strdup(&o->arena, r->path),
				.args = args,
				.pod_unit = r->pod_unit,
				.isolation = arena_strdup(&o->arena, r->isolation),
				.why = arena_strdup(&o->arena, r->why)};
}

bool program_same(const struct program *a, const struct program *b)
{
	size_t i = 0;

	if (!streq(a->path, b->path))
		return false;
	for (; a->args[i] && b->args[i]; i++)
		if (!streq(a->args[i], b->args[i]))
			return false;
	return a->args[i] == b->args[i];
}

static const char **begin(const struct program *p, size_t more, size_t *ret_n)
{
	const char *base = strrchr(p->path, '/');
	const char **argv;
	size_t n = 0;

	while (p->args[n])
		n++;
	argv = xcalloc(n + more + 2, sizeof(*argv));
	argv[0] = base ? base + 1 : p->path;
	for (size_t i = 0; i < n; i++)
		argv[i + 1] = p->args[i];
	*ret_n = n + 1;
	return argv;
}

/* The command line that gantry-oci was given, for this program. */
static const char **whole(const struct oci *o, const struct program *p)
{
	size_t n;
	const char **argv = begin(p, o->line.n_pass, &n);

	for (size_t i = 0; i < o->line.n_pass; i++)
		argv[n++] = o->line.pass[i];
	return argv;
}

int program_become(const struct oci *o, const struct program *p, struct err *e)
{
	_cleanup_free_ const char **argv = whole(o, p);

	execve(p->path, (char *const *)(uintptr_t)argv, environ);
	return err_errno(e, -errno, "execute %s", p->path);
}

/* --- beside it --- */

/* Sockets of systemd (sd_listen_fds(3)) are for a process, by its id. */
static void own_sockets(pid_t parent)
{
	const char *pid = getenv("LISTEN_PID");
	char s[16];

	snprintf(s, sizeof(s), "%d", (int)parent);
	if (!pid || !streq(pid, s))
		return;
	snprintf(s, sizeof(s), "%d", (int)getpid());
	(void)setenv("LISTEN_PID", s, 1);
}

/* The child: as if it had been executed by who called gantry-oci, but for its parent. */
static void become(const struct program *p, const char **argv, const sigset_t *mask, pid_t parent)
{
	struct err e = ERR_NULL;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	own_sockets(parent);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execve(p->path, (char *const *)(uintptr_t)argv, environ);
	err_errno(&e, -errno, "gantry-oci: execute %s", p->path);
	(void)!write(STDERR_FILENO, e.msg, strlen(e.msg));
	(void)!write(STDERR_FILENO, "\n", 1);
	_exit(127);
}

/*
 * What comes from a terminal (si_code > 0) the program has itself: it is in the same process group.
 * All signals are blocked, so none is lost between two rounds.
 */
static int attend(pid_t pid, const sigset_t *all)
{
	int status;

	for (;;) {
		siginfo_t info;

		if (waitpid(pid, &status, WNOHANG | WUNTRACED) == pid) {
			if (!WIFSTOPPED(status))
				return status;
			(void)raise(SIGSTOP); /* a job that its shell has stopped */
			(void)kill(pid, SIGCONT);
		}
		if (sigwaitinfo(all, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD && info.si_code <= 0)
			(void)kill(pid, info.si_signo);
	}
}

int program_relay(const struct oci *o, const struct program *p, int *ret_status, struct err *e)
{
	_cleanup_free_ const char **argv = whole(o, p);
	struct sigaction dfl = {.sa_handler = SIG_DFL}, chld;
	sigset_t all, old;
	pid_t parent = getpid(), pid;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	sigaction(SIGCHLD, NULL, &chld);
	pid = fork();
	if (pid == 0)
		become(p, argv, &old, parent);
	if (pid > 0) {
		sigaction(SIGCHLD, &dfl, NULL); /* a caller may have had it ignored */
		*ret_status = attend(pid, &all);
		sigaction(SIGCHLD, &chld, NULL);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid < 0 ? err_errno(e, -errno, "fork") : 0;
}

int program_end_as(int wait_status)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t set;

	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status);
	sigaction(WTERMSIG(wait_status), &dfl, NULL);
	sigemptyset(&set);
	sigaddset(&set, WTERMSIG(wait_status));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)raise(WTERMSIG(wait_status));
	return 128 + WTERMSIG(wait_status);
}

/* --- asking --- */

int program_ask(const struct oci *o, const struct program *p, const char *const *argv,
		struct strbuf *ret)
{
	struct spawn s = SPAWN_INIT;
	struct spawn_result out = {0};
	size_t n, more = 3;
	_cleanup_free_ const char **v = NULL;
	int r;

	for (size_t i = 0; argv[i]; i++)
		more++;
	v = begin(p, more, &n);
	if (o->line.root) {
		v[n++] = "--root";
		v[n++] = o->line.root;
	}
	if (o->line.systemd_cgroup)
		v[n++] = "--systemd-cgroup";
	for (size_t i = 0; argv[i]; i++)
		v[n++] = argv[i];
	s.file = p->path;
	s.argv = v;
	r = spawn_run(&s, NULL, 0, ASK_TIMEOUT, ASK_OUTPUT_MAX, &out, NULL);
	if (r == 0)
		r = out.timed_out || out.truncated || out.status > 127 ? -EIO : out.status;
	if (r == 0 && ret)
		strbuf_add(ret, str_or_empty(out.out.s), out.out.len);
	spawn_result_fini(&out);
	return r;
}

int program_has(const struct oci *o, const struct program *p, const char *id)
{
	int r = program_ask(o, p, (const char *const[]){"state", id, NULL}, NULL);

	return r < 0 ? r : r == 0;
}
