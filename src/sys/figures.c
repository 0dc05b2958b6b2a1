/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a container: see figures.h; Documentation/admin-guide/cgroup-v1 and cgroup-v2. */
#include "sys/figures.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define FILE_MAX 65536 /* of one file of a cgroup: io.stat has a line a device */
#define PROCS_MAX (1u << 20)
#define MOUNTINFO_MAX (4u << 20)
#define LABELS_MAX 128
#define NS_PER_US 1000

/* Whose figures they are, and where they go. */
struct sink {
	const struct cgroup_host *h;
	const char *path;
	figures_fn *fn;
	void *arg;
};

static void put(const struct sink *s, enum figure what, uint64_t v)
{
	if (v != CGROUP_ABSENT)
		s->fn(s->arg, what, "", v);
}

/* NUL-terminated text of a file of a controller (v1: in its hierarchy); "" where there is none. */
static const char *text_of(const struct sink *s, const char *controller, const char *name,
			   struct strbuf *b)
{
	const char *mount = cgroup_mount_of(s->h, controller);
	_cleanup_free_ char *file = mount ? xasprintf("%s%s/%s", mount, s->path, name) : NULL;

	strbuf_reset(b);
	if (!file || fs_read(AT_FDCWD, file, FILE_MAX, b) < 0)
		strbuf_reset(b);
	strbuf_addc(b, '\0');
	return b->s;
}

static uint64_t number_of(const struct sink *s, const char *controller, const char *name)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const char *t = text_of(s, controller, name, &b);

	return *t < '0' || *t > '9' ? CGROUP_ABSENT : strtoull(t, NULL, 10);
}

static uint64_t times(uint64_t v, uint64_t unit)
{
	return v == CGROUP_ABSENT ? v : v * unit;
}

/* --- processor --- */

static void cpu_v1(const struct sink *s, struct strbuf *b)
{
	uint64_t tick = 1000000000 / (uint64_t)MAX(sysconf(_SC_CLK_TCK), 1L);
	const char *t;

	put(s, FIGURE_CPU_USAGE_NS, number_of(s, "cpuacct", "cpuacct.usage"));
	t = text_of(s, "cpuacct", "cpuacct.stat", b);
	put(s, FIGURE_CPU_USER_NS, times(cgroup_keyed(t, "user"), tick));
	put(s, FIGURE_CPU_SYSTEM_NS, times(cgroup_keyed(t, "system"), tick));
	t = text_of(s, "cpu", "cpu.stat", b);
	put(s, FIGURE_CFS_PERIODS, cgroup_keyed(t, "nr_periods"));
	put(s, FIGURE_CFS_THROTTLED_PERIODS, cgroup_keyed(t, "nr_throttled"));
	put(s, FIGURE_CFS_THROTTLED_NS, cgroup_keyed(t, "throttled_time"));
}

static void cpu_v2(const struct sink *s, struct strbuf *b)
{
	const char *t = text_of(s, "cpu", "cpu.stat", b);

	put(s, FIGURE_CPU_USAGE_NS, times(cgroup_keyed(t, "usage_usec"), NS_PER_US));
	put(s, FIGURE_CPU_USER_NS, times(cgroup_keyed(t, "user_usec"), NS_PER_US));
	put(s, FIGURE_CPU_SYSTEM_NS, times(cgroup_keyed(t, "system_usec"), NS_PER_US));
	put(s, FIGURE_CFS_PERIODS, cgroup_keyed(t, "nr_periods"));
	put(s, FIGURE_CFS_THROTTLED_PERIODS, cgroup_keyed(t, "nr_throttled"));
	put(s, FIGURE_CFS_THROTTLED_NS, times(cgroup_keyed(t, "throttled_usec"), NS_PER_US));
}

/* --- memory --- */

static void faults(const struct sink *s, const char *kind, uint64_t own, uint64_t all)
{
	char labels[LABELS_MAX];

	if (own == CGROUP_ABSENT || all == CGROUP_ABSENT)
		return;
	snprintf(labels, sizeof(labels), "%s\tcontainer", kind);
	s->fn(s->arg, FIGURE_MEMORY_FAILURES, labels, own);
	snprintf(labels, sizeof(labels), "%s\thierarchy", kind);
	s->fn(s->arg, FIGURE_MEMORY_FAILURES, labels, all);
}

/* Linux 5.18 has the sum. */
static uint64_t kernel_memory(const char *stat)
{
	static const char *const parts[] = {"kernel_stack", "pagetables", "percpu",
					    "sock",	    "vmalloc",	  "slab"};
	uint64_t all = cgroup_keyed(stat, "kernel"), v;

	if (all != CGROUP_ABSENT)
		return all;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		v = cgroup_keyed(stat, parts[i]);
		if (v != CGROUP_ABSENT)
			all = (all == CGROUP_ABSENT ? 0 : all) + v;
	}
	return all;
}

/* A kernel that does not account swap has none to tell: 0, as cAdvisor says. */
static void put_swap(const struct sink *s, uint64_t v)
{
	put(s, FIGURE_MEMORY_SWAP, v == CGROUP_ABSENT ? 0 : v);
}

static void working_set(const struct sink *s, uint64_t usage, uint64_t inactive)
{
	put(s, FIGURE_MEMORY_USAGE, usage);
	put(s, FIGURE_MEMORY_INACTIVE_FILE, inactive);
	if (usage != CGROUP_ABSENT && inactive != CGROUP_ABSENT)
		put(s, FIGURE_MEMORY_WORKING_SET, usage > inactive ? usage - inactive : 0);
}

static void memory_v1(const struct sink *s, struct strbuf *b)
{
	const char *t = text_of(s, "memory", "memory.stat", b);

	working_set(s, number_of(s, "memory", "memory.usage_in_bytes"),
		    cgroup_keyed(t, "total_inactive_file"));
	put(s, FIGURE_MEMORY_RSS, cgroup_keyed(t, "total_rss"));
	put(s, FIGURE_MEMORY_CACHE, cgroup_keyed(t, "total_cache"));
	put(s, FIGURE_MEMORY_MAPPED_FILE, cgroup_keyed(t, "total_mapped_file"));
	put(s, FIGURE_MEMORY_ACTIVE_FILE, cgroup_keyed(t, "total_active_file"));
	put_swap(s, cgroup_keyed(t, "total_swap"));
	faults(s, "pgfault", cgroup_keyed(t, "pgfault"), cgroup_keyed(t, "total_pgfault"));
	faults(s, "pgmajfault", cgroup_keyed(t, "pgmajfault"), cgroup_keyed(t, "total_pgmajfault"));
	put(s, FIGURE_MEMORY_MAX_USAGE, number_of(s, "memory", "memory.max_usage_in_bytes"));
	put(s, FIGURE_MEMORY_KERNEL, number_of(s, "memory", "memory.kmem.usage_in_bytes"));
	put(s, FIGURE_MEMORY_FAILCNT, number_of(s, "memory", "memory.failcnt"));
	put(s, FIGURE_OOM_KILLS,
	    cgroup_keyed(text_of(s, "memory", "memory.oom_control", b), "oom_kill"));
}

static void memory_v2(const struct sink *s, struct strbuf *b)
{
	const char *t = text_of(s, "memory", "memory.stat", b);
	uint64_t fault = cgroup_keyed(t, "pgfault"), major = cgroup_keyed(t, "pgmajfault");

	working_set(s, number_of(s, "memory", "memory.current"), cgroup_keyed(t, "inactive_file"));
	put(s, FIGURE_MEMORY_RSS, cgroup_keyed(t, "anon"));
	put(s, FIGURE_MEMORY_CACHE, cgroup_keyed(t, "file"));
	put(s, FIGURE_MEMORY_MAPPED_FILE, cgroup_keyed(t, "file_mapped"));
	put(s, FIGURE_MEMORY_ACTIVE_FILE, cgroup_keyed(t, "active_file"));
	put_swap(s, number_of(s, "memory", "memory.swap.current"));
	faults(s, "pgfault", fault, fault);
	faults(s, "pgmajfault", major, major);
	put(s, FIGURE_MEMORY_KERNEL, kernel_memory(t));
	put(s, FIGURE_MEMORY_MAX_USAGE, number_of(s, "memory", "memory.peak"));
	t = text_of(s, "memory", "memory.events", b);
	put(s, FIGURE_MEMORY_FAILCNT, cgroup_keyed(t, "max"));
	put(s, FIGURE_OOM_KILLS, cgroup_keyed(t, "oom_kill"));
}

/* --- block devices --- */

/* "/dev/vda" where the kernel has a name for it, else "254:0". */
static void device_name(unsigned major_no, unsigned minor_no, char *ret, size_t n)
{
	char path[64];
	_cleanup_free_ char *target = NULL;
	const char *name;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major_no, minor_no);
	snprintf(ret, n, "%u:%u", major_no, minor_no);
	if (fs_readlink(AT_FDCWD, path, &target) < 0)
		return;
	name = strrchr(target, '/');
	if (name && strlen(name) > 1 && strlen(name) + 5 <= n)
		snprintf(ret, n, "/dev/%.*s", (int)n - 6, name + 1);
}

struct device {
	unsigned major_no, minor_no;
	char name[64];
};

static void io_bytes(const struct sink *s, const struct device *d, const char *op, uint64_t v)
{
	char labels[LABELS_MAX];

	snprintf(labels, sizeof(labels), "%s\t%u\t%u\t%s", d->name, d->major_no, d->minor_no, op);
	s->fn(s->arg, FIGURE_IO_BYTES, labels, v);
	if (streq(op, "Read"))
		s->fn(s->arg, FIGURE_IO_READ_BYTES, d->name, v);
	if (streq(op, "Write"))
		s->fn(s->arg, FIGURE_IO_WRITE_BYTES, d->name, v);
}

static void io_count(const struct sink *s, const struct device *d, const char *op, uint64_t v)
{
	if (streq(op, "Read"))
		s->fn(s->arg, FIGURE_IO_READS, d->name, v);
	if (streq(op, "Write"))
		s->fn(s->arg, FIGURE_IO_WRITES, d->name, v);
}

/* "254:0 Read 4096" lines; the last, "Total N", is of all devices. */
static void io_v1(const struct sink *s, struct strbuf *b, const char *file,
		  void (*each)(const struct sink *, const struct device *, const char *, uint64_t))
{
	const char *t = text_of(s, "blkio", file, b);

	for (; t && *t; t = strchr(t, '\n'), t += t != NULL) {
		struct device d;
		char op[16];
		uint64_t v;

		if (sscanf(t, "%u:%u %15[A-Za-z] %" SCNu64, &d.major_no, &d.minor_no, op, &v) != 4)
			continue;
		device_name(d.major_no, d.minor_no, d.name, sizeof(d.name));
		each(s, &d, op, v);
	}
}

/* One line of io.stat: "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6". */
static void io_line(const struct sink *s, char *line)
{
	char *save = NULL, *word = strtok_r(line, " ", &save);
	struct device d;

	if (!word || sscanf(word, "%u:%u", &d.major_no, &d.minor_no) != 2)
		return;
	device_name(d.major_no, d.minor_no, d.name, sizeof(d.name));
	while ((word = strtok_r(NULL, " ", &save))) {
		char *value = strchr(word, '=');
		uint64_t v;

		if (!value)
			continue;
		*value++ = '\0';
		v = strtoull(value, NULL, 10);
		if (streq(word, "rbytes"))
			io_bytes(s, &d, "Read", v);
		else if (streq(word, "wbytes"))
			io_bytes(s, &d, "Write", v);
		else if (streq(word, "dbytes"))
			io_bytes(s, &d, "Discard", v);
		else if (streq(word, "rios"))
			io_count(s, &d, "Read", v);
		else if (streq(word, "wios"))
			io_count(s, &d, "Write", v);
	}
}

static void io_v2(const struct sink *s, struct strbuf *b)
{
	char *save = NULL;

	text_of(s, "io", "io.stat", b);
	for (char *l = strtok_r(b->s, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		io_line(s, l);
}

/* --- huge pages, pressure, processes --- */

/* "hugepages-2048kB" is "2MB" in the names of files. */
static bool page_size(const char *dir, char *ret, size_t n)
{
	static const char units[] = "KMGT";
	uint64_t kib;
	size_t u = 0;

	if (sscanf(dir, "hugepages-%" SCNu64 "kB", &kib) != 1)
		return false;
	for (; kib >= 1024 && units[u + 1]; u++)
		kib /= 1024;
	snprintf(ret, n, "%" PRIu64 "%cB", kib, units[u]);
	return true;
}

static void put_pages(const struct sink *s, enum figure what, const char *size, const char *file)
{
	_cleanup_free_ char *name = xasprintf("hugetlb.%s.%s", size, file);
	uint64_t v = number_of(s, "hugetlb", name);

	if (v != CGROUP_ABSENT)
		s->fn(s->arg, what, size, v);
}

static void hugetlb(const struct sink *s)
{
	DIR *d = opendir("/sys/kernel/mm/hugepages");
	char size[32];

	for (struct dirent *e; d && (e = readdir(d));) {
		if (!page_size(e->d_name, size, sizeof(size)))
			continue;
		put_pages(s, FIGURE_HUGETLB_USAGE, size, s->h->v2 ? "current" : "usage_in_bytes");
		if (!s->h->v2) /* v2 does not record it */
			put_pages(s, FIGURE_HUGETLB_MAX_USAGE, size, "max_usage_in_bytes");
	}
	if (d)
		closedir(d);
}

static void put_psi(const struct sink *s, const struct cgroup_psi *p, enum figure waiting,
		    enum figure stalled)
{
	if (!p->known)
		return;
	put(s, waiting, p->some.total_us);
	put(s, stalled, p->full.total_us);
}

static void pressure(const struct sink *s)
{
	struct cgroup_stats st;

	cgroup_psi_read(s->h, s->path, NULL, &st);
	put_psi(s, &st.cpu_psi, FIGURE_PSI_CPU_WAITING_US, FIGURE_PSI_CPU_STALLED_US);
	put_psi(s, &st.memory_psi, FIGURE_PSI_MEMORY_WAITING_US, FIGURE_PSI_MEMORY_STALLED_US);
	put_psi(s, &st.io_psi, FIGURE_PSI_IO_WAITING_US, FIGURE_PSI_IO_STALLED_US);
}

static void threads(const struct sink *s, struct strbuf *b)
{
	const char *max = text_of(s, "pids", "pids.max", b);

	if (*max)
		put(s, FIGURE_THREADS_MAX, *max == 'm' ? 0 : strtoull(max, NULL, 10));
	put(s, FIGURE_THREADS, number_of(s, "pids", "pids.current"));
}

void figures_of_cgroup(const struct cgroup_host *h, const char *path, figures_fn *fn, void *arg)
{
	struct sink s = {.h = h, .path = path, .fn = fn, .arg = arg};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (str_empty(path))
		return;
	if (h->v2) {
		cpu_v2(&s, &b);
		memory_v2(&s, &b);
		io_v2(&s, &b);
	} else {
		cpu_v1(&s, &b);
		memory_v1(&s, &b);
		io_v1(&s, &b, "blkio.throttle.io_service_bytes_recursive", io_bytes);
		io_v1(&s, &b, "blkio.throttle.io_serviced_recursive", io_count);
	}
	hugetlb(&s);
	pressure(&s);
	threads(&s, &b);
}

/* --- what processes have open --- */

struct walk {
	uint64_t processes, descriptors, sockets;
};

static void count_descriptors(struct walk *w, const char *pid)
{
	char path[64], target[16];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	d = opendir(path);
	if (!d)
		return; /* it has ended */
	while (w->descriptors < FIGURES_DESCRIPTORS_MAX && (e = readdir(d))) {
		ssize_t n;

		if (e->d_name[0] == '.')
			continue;
		n = readlinkat(dirfd(d), e->d_name, target, sizeof(target));
		w->descriptors++;
		w->sockets += n > 7 && memcmp(target, "socket:", 7) == 0;
	}
	closedir(d);
}

static void walk_cgroup(struct walk *w, const char *dir, unsigned depth)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *procs = xasprintf("%s/cgroup.procs", dir);
	char *save = NULL;
	struct stat st;
	DIR *d;

	if (fs_read(AT_FDCWD, procs, PROCS_MAX, &b) == 0 && b.s)
		for (char *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			if (++w->processes <= FIGURES_PROCESSES_MAX)
				count_descriptors(w, l);
	/* To list the files of a cgroup is slow, and the number of links tells of those below. */
	if (depth >= FIGURES_DEPTH_MAX || stat(dir, &st) < 0 || st.st_nlink == 2)
		return;
	d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_free_ char *sub = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = xasprintf("%s/%s", dir, e->d_name);
		walk_cgroup(w, sub, depth + 1);
	}
	if (d)
		closedir(d);
}

/* Only this one, as cAdvisor: "Max open files  SOFT  HARD  files". */
static void ulimits(const struct sink *s, pid_t pid)
{
	static const char name[] = "Max open files";
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[64], *line;

	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	if (fs_read(AT_FDCWD, path, FILE_MAX, &b) < 0 || !b.s)
		return;
	line = strstr(b.s, name);
	if (line)
		s->fn(s->arg, FIGURE_ULIMIT_SOFT, "max_open_files",
		      strtoull(line + strlen(name), NULL, 10));
}

void figures_of_processes(const struct cgroup_host *h, const char *path, pid_t first,
			  figures_fn *fn, void *arg)
{
	struct sink s = {.h = h, .path = path, .fn = fn, .arg = arg};
	const char *mount = cgroup_mount_of(h, "pids");
	_cleanup_free_ char *dir = NULL;
	struct walk w = {0};

	if (!mount)
		mount = cgroup_mount_of(h, "memory");
	if (mount && !str_empty(path)) {
		dir = xasprintf("%s%s", mount, path);
		walk_cgroup(&w, dir, 0);
		put(&s, FIGURE_PROCESSES, w.processes);
		put(&s, FIGURE_DESCRIPTORS, w.descriptors);
		put(&s, FIGURE_SOCKETS, w.sockets);
	}
	if (first > 0)
		ulimits(&s, first);
}

/* --- file system --- */

/* What is mounted with that device number; proc(5). owned, NULL */
static char *mount_source(unsigned major_no, unsigned minor_no)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char *save = NULL, source[64];

	if (fs_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &b) < 0)
		return NULL;
	for (char *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		const char *dash = strstr(l, " - ");
		unsigned a, c;

		if (dash && sscanf(l, "%*d %*d %u:%u", &a, &c) == 2 && a == major_no &&
		    c == minor_no && sscanf(dash, " - %*s %63s", source) == 1)
			return xstrdup(source);
	}
	return NULL;
}

void figures_of_fs(const char *dir, figures_fn *fn, void *arg)
{
	_cleanup_free_ char *source = NULL;
	char name[64];
	struct statfs fs;
	struct stat st;

	if (stat(dir, &st) < 0 || statfs(dir, &fs) < 0)
		return;
	device_name(major(st.st_dev), minor(st.st_dev), name, sizeof(name));
	if (name[0] != '/') /* btrfs, overlay, tmpfs: a number without a device */
		source = mount_source(major(st.st_dev), minor(st.st_dev));
	fn(arg, FIGURE_FS_DEVICE, source ? source : name, 0);
	fn(arg, FIGURE_FS_LIMIT, source ? source : name,
	   (uint64_t)fs.f_blocks * (uint64_t)fs.f_frsize);
	fn(arg, FIGURE_FS_INODES, source ? source : name, fs.f_files);
	fn(arg, FIGURE_FS_INODES_FREE, source ? source : name, fs.f_ffree);
}
