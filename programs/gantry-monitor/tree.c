/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All processes that came of a command: see tree.h and docs/decisions/0013.
 *
 * They are found in two ways: below this process, and in the container's cgroup by their mark.
 * Those in a PID namespace whose parent dies fall to the namespace's first process, whoever is a
 * subreaper outside.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/fs.h"
#include "base/mem.h"
#include "mon.h"

/* Below what a timer is late by anyway (50 us); the marks of a pod come again after so many. */
#define MARKS_MAX 25000
#define TREE_DEPTH_MAX 128	/* generations below this process; the cgroup has the rest */
#define CHILDREN_MAX (1u << 20) /* bytes of a children file */
#define PROC_FILE_MAX 4096	/* bytes of a stat file */
#define STOP_ROUNDS 16		/* in which they are stopped, that none forks away meanwhile */
#define TICKS 100		/* a second, of times in /proc (USER_HZ) */
#define STEP_NS 500000		/* between two looks */
#define QUIET_ROUNDS 100	/* without one of them, though processes come and go */

struct look {
	const struct tree *tree;
	pid_t self, first; /* this process, and the container's own */
	int sig;
	unsigned found, gone;
};

struct tree tree_new(uint64_t number)
{
	int slack = prctl(PR_GET_TIMERSLACK);
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (struct tree){
		.mark = slack > 0 ? (uint64_t)slack + 1 + number % MARKS_MAX : 0,
		.since =
			(uint64_t)now.tv_sec * TICKS + (uint64_t)now.tv_nsec / (1000000000 / TICKS),
	};
}

void tree_mark(struct tree *t)
{
	if (t->mark && (prctl(PR_SET_TIMERSLACK, t->mark) < 0 ||
			(uint64_t)prctl(PR_GET_TIMERSLACK) != t->mark))
		t->mark = 0;
}

static uint64_t mark_of(pid_t pid)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/timerslack_ns", (int)pid);
	return fs_read(AT_FDCWD, path, PROC_FILE_MAX, &b) == 0 && b.s ? strtoull(b.s, NULL, 10) : 0;
}

/* False where it has gone, or waits to be reaped. */
static bool lives(pid_t pid)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[32], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fs_read(AT_FDCWD, path, PROC_FILE_MAX, &b) < 0 || !b.s || !(p = strrchr(b.s, ')')))
		return false;
	return p[1] == ' ' && p[2] != 'Z' && p[2] != 'X';
}

static bool take_marked(pid_t pid, void *arg)
{
	struct look *l = arg;
	uint64_t mark = mark_of(pid);

	if (!mark)
		l->gone++;
	if (mark != l->tree->mark || pid == l->self || pid == l->first)
		return false;
	/* One that has another's number now began later: its mark was asked for before. */
	if (record_start_time(pid) < l->tree->since || kill(pid, l->sig) < 0)
		return false;
	l->found++;
	return true;
}

static void take_below(struct look *l, pid_t pid, unsigned depth);

static void take_children(struct look *l, pid_t pid, const char *thread, unsigned depth)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[96], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/children", (int)pid, thread);
	if (fs_read(AT_FDCWD, path, CHILDREN_MAX, &b) < 0 || !b.s)
		return;
	for (char *w = strtok_r(b.s, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		pid_t child = atoi(w);

		if (child <= 0)
			continue;
		if (lives(child) && kill(child, l->sig) == 0)
			l->found++;
		take_below(l, child, depth + 1);
	}
}

/* Each thread has children of its own. */
static void take_below(struct look *l, pid_t pid, unsigned depth)
{
	char path[32];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = depth > TREE_DEPTH_MAX ? NULL : opendir(path);
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			take_children(l, pid, e->d_name, depth);
	closedir(d);
}

static void look(struct look *l, int sig, const struct monitor *m, const struct container *c)
{
	l->sig = sig;
	l->found = l->gone = 0;
	take_below(l, l->self, 0);
	if (l->tree->mark)
		cgroup_each_process(&m->cgroup, c->cgroup, take_marked, l);
}

void tree_kill(const struct tree *t, const struct monitor *m, const struct container *c)
{
	const struct timespec step = {.tv_nsec = STEP_NS};
	uint64_t until = clock_mono_us() + TREE_KILL_MAX;
	struct look l = {.tree = t, .self = getpid(), .first = c ? c->pid : 0};
	unsigned before = 0, quiet = 0;

	for (int i = 0; i < STOP_ROUNDS; i++) {
		look(&l, SIGSTOP, m, c);
		if (l.found <= before)
			break;
		before = l.found;
	}
	/* Whoever forks as it is killed is found in the next round, or its child is. */
	while (clock_mono_us() < until) {
		look(&l, SIGKILL, m, c);
		quiet = l.found ? 0 : quiet + 1;
		if (quiet > (l.gone ? QUIET_ROUNDS : 0))
			break;
		if (l.found)
			nanosleep(&step, NULL);
	}
}
