/* SPDX-License-Identifier: Apache-2.0 */
/* Containers' units of systemd: see unit.h. */
#include "unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "runtime/runtime.h"

#define BUSCTL_TIMEOUT (60 * USEC_PER_SEC)
#define BUSCTL_OUTPUT_MAX 1024
#define FILE_MAX 4096
#define CPUS_MAX 8192 /* of a cpuset, and memory nodes */

struct properties {
	const struct cgroup_host *host;
	const char *cgroup;
	struct strv argv; /* NAME TYPE VALUE... */
	unsigned n;
};

static char *path_of(const struct properties *p, const char *file)
{
	return xasprintf("%s%s/%s", p->host->mount, p->cgroup, file);
}

/* False where there is no such file, or nothing in it. */
static bool read_file(const struct properties *p, const char *file, struct strbuf *ret)
{
	_cleanup_free_ char *path = path_of(p, file);

	strbuf_reset(ret);
	return fs_read(AT_FDCWD, path, FILE_MAX, ret) == 0 && ret->len > 0;
}

/* The first line. */
static bool read_value(const struct properties *p, const char *file, struct strbuf *ret)
{
	if (!read_file(p, file, ret))
		return false;
	ret->s[strcspn(ret->s, "\n")] = '\0';
	return *ret->s;
}

static void put(struct properties *p, const char *name, uint64_t value)
{
	strv_add(&p->argv, name);
	strv_add(&p->argv, "t");
	strv_addf(&p->argv, "%" PRIu64, value);
	p->n++;
}

static uint64_t number(const char *text)
{
	return str_has_prefix(text, "max") ? UINT64_MAX : strtoull(text, NULL, 10);
}

/* "QUOTA PERIOD"; in whole per cents, in which systemd keeps it, rounded up. */
static void put_quota(struct properties *p, const char *text)
{
	uint64_t quota = number(text), period;
	const char *space = strchr(text, ' ');

	period = space ? strtoull(space + 1, NULL, 10) : 0;
	if (!period)
		return;
	if (quota != UINT64_MAX)
		quota = (quota * 1000000 / period + 9999) / 10000 * 10000;
	put(p, "CPUQuotaPerSecUSec", quota);
	put(p, "CPUQuotaPeriodUSec", period);
}

/* "0-3,7" as bits. */
static void put_set(struct properties *p, const char *name, const char *text)
{
	uint8_t bits[CPUS_MAX / 8] = {0};
	size_t n = 0;

	for (const char *at = text; *at;) {
		char *end;
		unsigned long first = strtoul(at, &end, 10), last = first;

		if (end == at)
			return;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (first > last || last >= CPUS_MAX)
			return;
		for (unsigned long i = first; i <= last; i++)
			bits[i / 8] |= (uint8_t)(1u << i % 8);
		n = MAX(n, last / 8 + 1);
		at = *end == ',' ? end + 1 : end;
	}
	strv_add(&p->argv, name);
	strv_add(&p->argv, "ay");
	strv_addf(&p->argv, "%zu", n);
	for (size_t i = 0; i < n; i++)
		strv_addf(&p->argv, "%u", bits[i]);
	p->n++;
}

static void put_all(struct properties *p)
{
	static const char *const files[][2] = {
		{"memory.min", "MemoryMin"},   {"memory.low", "MemoryLow"},
		{"memory.high", "MemoryHigh"}, {"memory.max", "MemoryMax"},
		{"pids.max", "TasksMax"},      {"memory.swap.max", "MemorySwapMax"},
		{"cpu.weight", "CPUWeight"},
	};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (read_value(p, files[i][0], &b))
			put(p, files[i][1], number(b.s));
	if (read_value(p, "io.weight", &b) && str_has_prefix(b.s, "default "))
		put(p, "IOWeight", number(b.s + strlen("default ")));
	if (read_value(p, "cpu.max", &b))
		put_quota(p, b.s);
	if (read_value(p, "cpuset.cpus", &b))
		put_set(p, "AllowedCPUs", b.s);
	if (read_value(p, "cpuset.mems", &b))
		put_set(p, "AllowedMemoryNodes", b.s);
}

static int call(const struct properties *p, const char *unit, struct err *e)
{
	static const char *const method[] = {"busctl",
					     "call",
					     "org.freedesktop.systemd1",
					     "/org/freedesktop/systemd1",
					     "org.freedesktop.systemd1.Manager",
					     "SetUnitProperties",
					     "sba(sv)"};
	_cleanup_free_ char *program = runtime_find(method[0]);
	_cleanup_strv_ struct strv argv = STRV_NULL;
	struct spawn s = SPAWN_INIT;
	struct spawn_result out;
	int r;

	if (!program)
		return err_precondition(e, "no program %s", method[0]);
	for (size_t i = 0; i < ARRAY_SIZE(method); i++)
		strv_add(&argv, method[i]);
	strv_add(&argv, unit);
	strv_add(&argv, "true"); /* not longer than the unit */
	strv_addf(&argv, "%u", p->n);
	for (size_t i = 0; i < p->argv.n; i++)
		strv_add(&argv, p->argv.v[i]);
	s.file = program;
	s.argv = (const char *const *)argv.v;
	r = spawn_run(&s, NULL, 0, BUSCTL_TIMEOUT, BUSCTL_OUTPUT_MAX, &out, e);
	if (r == 0 && out.status != 0)
		r = err_set(e, -EIO, GRPC_INTERNAL,
			    "tell systemd the limits of %s: exit status %d: %s", unit, out.status,
			    str_or_empty(out.err.s));
	spawn_result_fini(&out);
	return r;
}

/* Line by line, as the kernel wants it. */
static void write_back(const struct properties *p, const char *file, char *text)
{
	_cleanup_free_ char *path = path_of(p, file);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	char *rest = text, *line;

	while (fd >= 0 && (line = strsep(&rest, "\n")))
		if (*line)
			(void)!write(fd, line, strlen(line));
}

int unit_tell(const struct cgroup_host *h, const char *cgroup, struct err *e)
{
	/* What it resets meanwhile and is not told: the first it does not know of a scope (before
	 * systemd 253), the other it wants by names of devices. */
	static const char *const others[] = {"memory.oom.group", "io.max"};
	struct strbuf had[ARRAY_SIZE(others)] = {STRBUF_NULL};
	struct properties p = {.host = h, .cgroup = cgroup};
	const char *unit = strrchr(cgroup, '/');
	int r = 0;

	put_all(&p);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		read_file(&p, others[i], &had[i]);
	if (unit && p.n)
		r = call(&p, unit + 1, e);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (had[i].len)
			write_back(&p, others[i], had[i].s);
		strbuf_fini(&had[i]);
	}
	strv_fini(&p.argv);
	return r;
}
