/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups: see cgroup.h; Documentation/admin-guide/cgroup-v1 and cgroup-v2. */
#include "sys/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define MOUNTINFO_MAX (4u << 20)
#define STAT_FILE_MAX 8192 /* of one file of a cgroup that is read whole */
#define PROCS_MAX (1u << 20)
#define KILL_ROUNDS 50 /* a process that forks faster than this is not ours to win */

/* --- the host --- */

/* "... MOUNTPOINT OPTIONS - TYPE SOURCE SUPEROPTIONS": proc(5). Splits in place. */
static bool split_mountinfo(char *line, char **mount, char **type, char **super)
{
	char *dash = strstr(line, " - "), *save = NULL, *word = NULL;

	if (!dash)
		return false;
	*dash = '\0';
	word = strtok_r(line, " ", &save);
	for (int i = 0; i < 4 && word; i++)
		word = strtok_r(NULL, " ", &save);
	*mount = word;
	*type = strtok_r(dash + 3, " ", &save);
	strtok_r(NULL, " ", &save);
	*super = strtok_r(NULL, " ", &save);
	return *mount && *type && *super;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

static const char *v1_mount(const struct cgroup_host *h, const char *controller)
{
	for (unsigned i = 0; i < h->n; i++)
		if (has_word(h->v1[i].controllers, controller))
			return h->v1[i].mount;
	return NULL;
}

const char *cgroup_mount_of(const struct cgroup_host *h, const char *controller)
{
	return h->v2 ? h->mount : v1_mount(h, controller);
}

/* The controllers among a v1 mount's super options. */
static char *controllers_of(const char *super)
{
	static const char *const flags[] = {"rw", "ro", "xattr", "noprefix", "clone_children"};
	_cleanup_free_ char *copy = xstrdup(super);
	struct strbuf b = STRBUF_NULL;
	char *save = NULL;

	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		bool flag = str_has_prefix(w, "release_agent=");

		for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
			flag |= streq(w, flags[i]);
		if (!flag)
			strbuf_addf(&b, "%s%s", b.len ? "," : "", w);
	}
	return strbuf_take(&b);
}

/* Runtimes look below /sys/fs/cgroup only. */
static bool has_hugetlb(const struct cgroup_host *h)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *file = NULL;
	const char *v1 = v1_mount(h, "hugetlb");

	if (!h->v2)
		return v1 && str_has_prefix(v1, "/sys/fs/cgroup/");
	file = xasprintf("%s/cgroup.controllers", h->mount);
	return fs_read(AT_FDCWD, file, STAT_FILE_MAX, &b) == 0 && b.s && strstr(b.s, "hugetlb");
}

/* A kernel can be told not to account swap; the root of the hierarchy does not say. */
static bool has_swap_v2(const struct cgroup_host *h)
{
	DIR *d = opendir(h->mount);
	bool swap = fs_exists(AT_FDCWD, "/proc/swaps");

	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_free_ char *memory = NULL, *limit = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		memory = xasprintf("%s/%s/memory.current", h->mount, e->d_name);
		limit = xasprintf("%s/%s/memory.swap.max", h->mount, e->d_name);
		if (fs_exists(AT_FDCWD, memory)) {
			swap = fs_exists(AT_FDCWD, limit);
			break;
		}
	}
	if (d)
		closedir(d);
	return swap;
}

int cgroup_host_init(struct cgroup_host *h, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char *save = NULL, *v2 = NULL;
	int r = fs_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &b);

	*h = (struct cgroup_host){0};
	if (r < 0)
		return err_errno(e, r, "read /proc/self/mountinfo");
	for (char *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *mount, *type, *super;

		if (!split_mountinfo(l, &mount, &type, &super))
			continue;
		if (streq(type, "cgroup2") && !v2)
			v2 = mount;
		if (!streq(type, "cgroup") || h->n == CGROUP_CONTROLLERS_MAX)
			continue;
		h->v1[h->n].mount = xstrdup(mount);
		h->v1[h->n++].controllers = controllers_of(super);
	}
	h->memory = v1_mount(h, "memory");
	h->cpuacct = v1_mount(h, "cpuacct");
	h->cpu = v1_mount(h, "cpu");
	h->pids = v1_mount(h, "pids");
	h->v2 = v2 && !h->memory && !h->cpu;
	if (h->v2) {
		h->psi = h->mount = xstrdup(v2);
	} else if (v2 && h->n < CGROUP_CONTROLLERS_MAX) {
		/* Hybrid: runtimes make a cgroup there too, without controllers. */
		h->psi = h->v1[h->n].mount = xstrdup(v2);
		h->v1[h->n++].controllers = xstrdup("");
	}
	h->hugetlb = has_hugetlb(h);
	if (!h->v2 && !h->n) {
		cgroup_host_fini(h);
		return err_set(e, -ENOENT, GRPC_FAILED_PRECONDITION,
			       "no cgroup hierarchy is mounted");
	}
	if (h->memory) {
		_cleanup_free_ char *p = xasprintf("%s/memory.memsw.usage_in_bytes", h->memory);

		h->swap = fs_exists(AT_FDCWD, p);
	} else {
		h->swap = h->v2 && has_swap_v2(h);
	}
	return 0;
}

void cgroup_host_fini(struct cgroup_host *h)
{
	for (unsigned i = 0; i < h->n; i++) {
		free(h->v1[i].mount);
		free(h->v1[i].controllers);
	}
	free(h->mount);
	*h = (struct cgroup_host){0};
}

/* --- names --- */

int cgroup_expand_slice(const char *slice, char **ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	size_t stem = strlen(slice);

	if (streq(slice, "-.slice")) {
		*ret = xstrdup("/");
		return 0;
	}
	if (!str_has_suffix(slice, ".slice") || strchr(slice, '/') || *slice == '-' ||
	    strstr(slice, "--") || str_has_suffix(slice, "-.slice") || streq(slice, ".slice"))
		return err_invalid(e, "cgroup_parent: \"%s\" is no systemd slice name", slice);
	stem -= strlen(".slice");
	for (size_t i = 0; i <= stem; i++)
		if (i == stem || slice[i] == '-')
			strbuf_addf(&b, "/%.*s.slice", (int)i, slice);
	*ret = strbuf_take(&b);
	return 0;
}

char *cgroup_name_for(const char *parent, const char *id, bool systemd)
{
	const char *base = strrchr(parent, '/');

	if (systemd)
		return xasprintf("%s:gantry:%s", base ? base + 1 : parent, id);
	return xasprintf("%s%s/%s", *parent == '/' ? "" : "/", streq(parent, "/") ? "" : parent,
			 id);
}

int cgroup_path_of(const char *cgroups_path, bool systemd, char **ret, struct err *e)
{
	_cleanup_free_ char *copy = xstrdup(cgroups_path), *slice = NULL;
	char *prefix, *name;
	int r;

	if (!systemd) {
		*ret = TAKE_PTR(copy);
		return 0;
	}
	prefix = strchr(copy, ':');
	name = prefix ? strchr(prefix + 1, ':') : NULL;
	if (!name)
		return err_invalid(e, "cgroupsPath: \"%s\" is not SLICE:PREFIX:NAME", cgroups_path);
	*prefix++ = '\0';
	*name++ = '\0';
	r = cgroup_expand_slice(copy, &slice, e);
	if (r == 0)
		*ret = xasprintf("%s/%s-%s.scope", streq(slice, "/") ? "" : slice, prefix, name);
	return r;
}

int cgroup_of_process(const struct cgroup_host *h, pid_t pid, char **ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *file = xasprintf("/proc/%d/cgroup", (int)pid);
	char *save = NULL;
	int r = fs_read(AT_FDCWD, file, STAT_FILE_MAX * 4, &b);

	if (r < 0)
		return r;
	for (char *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *controllers = strchr(l, ':'), *path;

		if (!controllers || !(path = strchr(controllers + 1, ':')))
			continue;
		*path++ = '\0';
		if (h->v2 ? str_has_prefix(l, "0") && !controllers[1]
			  : has_word(controllers + 1, "memory")) {
			*ret = xstrdup(path);
			return 0;
		}
	}
	return -ENOENT;
}

/* --- processes and removal --- */

/* Calls for the cgroup's directory in every hierarchy. */
typedef int dir_fn(const char *dir);

static int each_dir(const struct cgroup_host *h, const char *path, dir_fn *fn)
{
	int r = 0;

	if (str_empty(path) || streq(path, "/"))
		return -EINVAL; /* never the root */
	for (unsigned i = 0; i < (h->v2 ? 1 : h->n); i++) {
		_cleanup_free_ char *dir =
			xasprintf("%s%s", h->v2 ? h->mount : h->v1[i].mount, path);
		int k = fn(dir);

		r = r < 0 ? r : k;
	}
	return r;
}

/* Of the directory and below; returns for how many `fn` said true. */
static int each_process(const char *dir, cgroup_process_fn *fn, void *arg)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *procs = xasprintf("%s/cgroup.procs", dir);
	DIR *d = opendir(dir);
	char *save = NULL;
	struct stat st;
	int n = 0;

	if (!d)
		return 0;
	if (fs_read(AT_FDCWD, procs, PROCS_MAX, &b) == 0 && b.s)
		for (char *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
			pid_t pid = atoi(l);

			if (pid > 0 && fn(pid, arg)) /* 0: in no namespace of ours */
				n++;
		}
	/* To list the files of a cgroup is slow, and the number of links tells of those below. */
	if (fstat(dirfd(d), &st) == 0 && st.st_nlink == 2) {
		closedir(d);
		return n;
	}
	for (struct dirent *e; (e = readdir(d));) {
		_cleanup_free_ char *sub = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = xasprintf("%s/%s", dir, e->d_name);
		n += each_process(sub, fn, arg);
	}
	closedir(d);
	return n;
}

int cgroup_each_process(const struct cgroup_host *h, const char *path, cgroup_process_fn *fn,
			void *arg)
{
	const char *mount = h->v2 ? h->mount : h->memory ? h->memory : h->n ? h->v1[0].mount : NULL;
	_cleanup_free_ char *dir = NULL;

	if (!mount || str_empty(path) || streq(path, "/"))
		return 0; /* never the root */
	dir = xasprintf("%s%s", mount, path);
	return each_process(dir, fn, arg);
}

static bool kill_one(pid_t pid, void *arg)
{
	(void)arg;
	return kill(pid, SIGKILL) == 0;
}

static int kill_dir(const char *dir)
{
	_cleanup_free_ char *file = xasprintf("%s/cgroup.kill", dir);

	if (fs_write_str(AT_FDCWD, file, "1") == 0)
		return 0;
	for (int i = 0; i < KILL_ROUNDS && each_process(dir, kill_one, NULL) > 0; i++)
		;
	return 0;
}

int cgroup_kill(const struct cgroup_host *h, const char *path)
{
	return each_dir(h, path, kill_dir);
}

static int remove_dir(const char *dir)
{
	DIR *d;
	int r = 0;

	if (rmdir(dir) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return -errno;
	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *e; (e = readdir(d));) {
		_cleanup_free_ char *sub = NULL;
		int k;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = xasprintf("%s/%s", dir, e->d_name);
		k = remove_dir(sub);
		r = r < 0 ? r : k;
	}
	closedir(d);
	if (r == 0 && rmdir(dir) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int cgroup_remove(const struct cgroup_host *h, const char *path)
{
	return each_dir(h, path, remove_dir);
}

/* --- figures --- */

static int open_file(const char *mount, const char *path, const char *name)
{
	char file[PATH_MAX];
	int fd;

	if (!mount || snprintf(file, sizeof(file), "%s%s/%s", mount, path, name) >= PATH_MAX)
		return -ENOENT;
	fd = open(file, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int read_fd(int fd, char *buf, size_t n)
{
	ssize_t got = pread(fd, buf, n - 1, 0);

	if (got < 0)
		return -errno;
	buf[got] = '\0';
	return 0;
}

/* Reads a file of the cgroup into `buf` (NUL-terminated, cut). */
static int read_file(const char *mount, const char *path, const char *name, char *buf, size_t n)
{
	int fd = open_file(mount, path, name), r;

	if (fd < 0)
		return fd;
	r = read_fd(fd, buf, n);
	close(fd);
	return r;
}

/* --- files that stay open --- */

/* A cgroup, and which of its files are open. */
struct source {
	const char *path;
	struct cgroup_files *kept; /* NULL: none stays open */
};

enum {
	F_CPU,
	F_USAGE,
	F_LIMIT,
	F_SWAP,
	F_SWAP_LIMIT,
	F_STAT,
	F_CPU_PSI,
	F_MEMORY_PSI,
	F_IO_PSI,
	F_PIDS,
	F_N
};
_Static_assert(F_N == CGROUP_FILES_MAX, "as many as there are");
_Static_assert(CGROUP_FILES_PRESSURE == (1u << F_CPU_PSI | 1u << F_MEMORY_PSI | 1u << F_IO_PSI),
	       "the bits of pressure");
_Static_assert(CGROUP_FILES_POD == (CGROUP_FILES_CONTAINER | 1u << F_PIDS), "and of processes");

/* Where a file is, and its name; false: this host has none such. */
static bool file_of(const struct cgroup_host *h, unsigned which, const char **ret_mount,
		    const char **ret_name)
{
	static const char *const v1[F_N] = {
		[F_CPU] = "cpuacct.usage",	    [F_USAGE] = "memory.usage_in_bytes",
		[F_STAT] = "memory.stat",	    [F_CPU_PSI] = "cpu.pressure",
		[F_MEMORY_PSI] = "memory.pressure", [F_IO_PSI] = "io.pressure",
		[F_PIDS] = "pids.current"};
	static const char *const v2[F_N] = {[F_CPU] = "cpu.stat",
					    [F_USAGE] = "memory.current",
					    [F_LIMIT] = "memory.max",
					    [F_SWAP] = "memory.swap.current",
					    [F_SWAP_LIMIT] = "memory.swap.max",
					    [F_STAT] = "memory.stat",
					    [F_CPU_PSI] = "cpu.pressure",
					    [F_MEMORY_PSI] = "memory.pressure",
					    [F_IO_PSI] = "io.pressure",
					    [F_PIDS] = "pids.current"};

	*ret_name = (h->v2 ? v2 : v1)[which];
	if (which == F_CPU_PSI || which == F_MEMORY_PSI || which == F_IO_PSI)
		*ret_mount = h->psi;
	else if (h->v2)
		*ret_mount = h->mount;
	else
		*ret_mount = which == F_CPU ? h->cpuacct : which == F_PIDS ? h->pids : h->memory;
	return *ret_mount && *ret_name;
}

static unsigned n_kept;

/* No more than half of what this process may open; the rest is opened for each read. */
static bool may_keep(unsigned n)
{
	static rlim_t max;
	struct rlimit l;

	if (!max)
		max = getrlimit(RLIMIT_NOFILE, &l) < 0 ? 1 : l.rlim_cur / 2;
	return n_kept + n <= max;
}

static int read_kept(const struct cgroup_host *h, struct source *s, unsigned which, char *buf,
		     size_t n)
{
	int *fd = s->kept ? &s->kept->fd[which] : NULL;
	const char *mount, *name;

	if (!file_of(h, which, &mount, &name))
		return -ENOENT;
	if (!fd || (*fd == 0 && !may_keep(1)))
		return read_file(mount, s->path, name, buf, n);
	if (*fd == 0) {
		*fd = open_file(mount, s->path, name);
		n_kept += *fd > 0;
	}
	return *fd < 0 ? *fd : read_fd(*fd, buf, n);
}

void cgroup_files_close(struct cgroup_files *f)
{
	for (unsigned i = 0; i < F_N; i++) {
		if (f->fd[i] > 0) {
			close(f->fd[i]);
			n_kept--;
		}
		f->fd[i] = 0;
	}
}

bool cgroup_files_known(const struct cgroup_files *f)
{
	for (unsigned i = 0; i < F_N; i++)
		if (f->fd[i] != 0)
			return true;
	return false;
}

bool cgroup_files_room(void)
{
	return may_keep(F_N);
}

uint64_t cgroup_files_open(const struct cgroup_host *h, const char *path, uint64_t wanted,
			   int ret[CGROUP_FILES_MAX])
{
	const char *mount, *name;
	uint64_t have = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < F_N; i++) {
		int fd = wanted & UINT64_C(1) << i && file_of(h, i, &mount, &name)
				 ? open_file(mount, path, name)
				 : -ENOENT;

		if (fd < 0)
			continue;
		ret[n++] = fd;
		have |= UINT64_C(1) << i;
	}
	return have;
}

int cgroup_files_take(struct cgroup_files *f, uint64_t wanted, uint64_t have, int *fds,
		      unsigned n_fds)
{
	unsigned n = 0;

	if (have & ~wanted || (unsigned)__builtin_popcountll(have) != n_fds)
		return -EPROTO;
	cgroup_files_close(f);
	for (unsigned i = 0; i < F_N; i++) {
		if (have & UINT64_C(1) << i) {
			f->fd[i] = TAKE_FD(fds[n]);
			n++;
			n_kept++;
		} else if (wanted & UINT64_C(1) << i) {
			f->fd[i] = -ENOENT;
		}
	}
	return 0;
}

static uint64_t to_number(const char *text)
{
	return *text < '0' || *text > '9' ? CGROUP_ABSENT : strtoull(text, NULL, 10); /* "max" */
}

static uint64_t read_number(const struct cgroup_host *h, struct source *s, unsigned which)
{
	char buf[64];

	return read_kept(h, s, which, buf, sizeof(buf)) < 0 ? CGROUP_ABSENT : to_number(buf);
}

uint64_t cgroup_processes(const struct cgroup_host *h, const char *path, struct cgroup_files *kept)
{
	struct source s = {.path = path, .kept = kept};

	return str_empty(path) ? CGROUP_ABSENT : read_number(h, &s, F_PIDS);
}

uint64_t cgroup_keyed(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, key, n) == 0 && p[n] == ' ')
			return strtoull(p + n, NULL, 10);
	}
	return CGROUP_ABSENT;
}

static uint64_t oom_kills_in(const char *text)
{
	uint64_t v = cgroup_keyed(text, "oom_kill");

	return v == CGROUP_ABSENT ? 0 : v;
}

uint64_t cgroup_oom_kills(const struct cgroup_host *h, const char *path)
{
	char buf[STAT_FILE_MAX];

	if (read_file(h->v2 ? h->mount : h->memory, path,
		      h->v2 ? "memory.events" : "memory.oom_control", buf, sizeof(buf)) < 0)
		return 0;
	return oom_kills_in(buf);
}

int cgroup_open_events(const struct cgroup_host *h, const char *path)
{
	_cleanup_free_ char *file = NULL;
	int fd;

	if (!h->v2)
		return -EOPNOTSUPP;
	file = xasprintf("%s%s/memory.events", h->mount, path);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int cgroup_read_events(int fd, uint64_t *ret_oom_kills)
{
	char buf[STAT_FILE_MAX];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	*ret_oom_kills = oom_kills_in(buf);
	return 0;
}

static int stats_v1(const struct cgroup_host *h, struct source *f, struct cgroup_stats *s)
{
	char buf[STAT_FILE_MAX];
	uint64_t both;

	s->cpu_ns = read_number(h, f, F_CPU);
	s->memory_usage = read_number(h, f, F_USAGE);
	if (s->cpu_ns == CGROUP_ABSENT && s->memory_usage == CGROUP_ABSENT)
		return -ENOENT;
	if (read_kept(h, f, F_STAT, buf, sizeof(buf)) < 0)
		return 0;
	s->memory_rss = cgroup_keyed(buf, "total_rss");
	s->memory_inactive_file = cgroup_keyed(buf, "total_inactive_file");
	s->page_faults = cgroup_keyed(buf, "total_pgfault");
	s->major_page_faults = cgroup_keyed(buf, "total_pgmajfault");
	s->memory_limit = cgroup_keyed(buf, "hierarchical_memory_limit");
	if (s->memory_limit != CGROUP_ABSENT && s->memory_limit >= UINT64_C(1) << 62)
		s->memory_limit = CGROUP_ABSENT; /* the greatest number stands for no limit */
	both = cgroup_keyed(buf, "hierarchical_memsw_limit"); /* memory and swap together */
	if (both < UINT64_C(1) << 62 && s->memory_limit != CGROUP_ABSENT)
		s->swap_limit = both > s->memory_limit ? both - s->memory_limit : 0;
	s->swap_usage = cgroup_keyed(buf, "total_swap");
	return 0;
}

static int stats_v2(const struct cgroup_host *h, struct source *f, struct cgroup_stats *s)
{
	char buf[STAT_FILE_MAX];
	uint64_t us;

	if (read_kept(h, f, F_CPU, buf, sizeof(buf)) < 0)
		return -ENOENT;
	us = cgroup_keyed(buf, "usage_usec");
	s->cpu_ns = us == CGROUP_ABSENT ? us : us * 1000;
	s->memory_usage = read_number(h, f, F_USAGE);
	s->memory_limit = read_number(h, f, F_LIMIT);
	s->swap_usage = read_number(h, f, F_SWAP);
	s->swap_limit = read_number(h, f, F_SWAP_LIMIT);
	if (read_kept(h, f, F_STAT, buf, sizeof(buf)) < 0)
		return 0;
	s->memory_rss = cgroup_keyed(buf, "anon");
	s->memory_inactive_file = cgroup_keyed(buf, "inactive_file");
	s->page_faults = cgroup_keyed(buf, "pgfault");
	s->major_page_faults = cgroup_keyed(buf, "pgmajfault");
	return 0;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same with "full". */
static void read_psi(const struct cgroup_host *h, struct source *f, unsigned which,
		     struct cgroup_psi *ret)
{
	static const char format[] = " avg10=%lf avg60=%lf avg300=%lf total=%" SCNu64;
	struct cgroup_psi_line *const lines[] = {&ret->some, &ret->full};
	static const char *const names[] = {"some", "full"};
	char buf[STAT_FILE_MAX];

	*ret = (struct cgroup_psi){0};
	if (read_kept(h, f, which, buf, sizeof(buf)) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *p = strstr(buf, names[i]);
		struct cgroup_psi_line v = {0};

		if (!p || sscanf(p + strlen(names[i]), format, &v.avg10, &v.avg60, &v.avg300,
				 &v.total_us) != 4)
			continue;
		*lines[i] = v;
		ret->known = true;
	}
}

static void read_pressure(const struct cgroup_host *h, struct source *f, struct cgroup_stats *ret)
{
	read_psi(h, f, F_CPU_PSI, &ret->cpu_psi);
	read_psi(h, f, F_MEMORY_PSI, &ret->memory_psi);
	read_psi(h, f, F_IO_PSI, &ret->io_psi);
}

void cgroup_psi_read(const struct cgroup_host *h, const char *path, struct cgroup_files *kept,
		     struct cgroup_stats *ret)
{
	read_pressure(h, &(struct source){.path = path, .kept = kept}, ret);
}

int cgroup_stats_read(const struct cgroup_host *h, const char *path, struct cgroup_files *kept,
		      struct cgroup_stats *ret)
{
	struct source f = {.path = path, .kept = kept};
	struct cgroup_stats s;

	memset(&s, 0xff, sizeof(s)); /* CGROUP_ABSENT everywhere */
	if (str_empty(path))
		return -ENOENT;
	if ((h->v2 ? stats_v2(h, &f, &s) : stats_v1(h, &f, &s)) < 0)
		return -ENOENT;
	read_pressure(h, &f, &s);
	*ret = s;
	return 0;
}
