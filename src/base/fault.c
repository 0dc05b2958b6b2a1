/* SPDX-License-Identifier: Apache-2.0 */
/* Fault points: see fault.h. */
#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

#ifdef GANTRY_TEST_HOOKS

/* Set by the linker around the section; weak: a program may have none. */
extern const char *const __start_gantry_faults[] __attribute__((weak));
extern const char *const __stop_gantry_faults[] __attribute__((weak));

static bool first_at_mark(void)
{
	const char *mark = getenv("GANTRY_FAULT_MARK");
	int fd;

	if (!mark)
		return true;
	fd = open(mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void fault_hit(const char *name)
{
	static unsigned long hits;
	const char *want = getenv("GANTRY_FAULT");
	size_t n = strlen(name);

	if (!want || strncmp(want, name, n) != 0 || (want[n] && want[n] != ':'))
		return;
	if (++hits < (want[n] ? strtoul(want + n + 1, NULL, 10) : 1) || !first_at_mark())
		return;
	kill(getpid(), SIGKILL);
}

uint64_t fault_limit(const char *name, uint64_t n)
{
	const char *want = getenv("GANTRY_LIMIT");
	size_t len = strlen(name);

	if (!want || strncmp(want, name, len) != 0 || want[len] != ':')
		return n;
	return strtoull(want + len + 1, NULL, 10);
}

int fault_print_points(void)
{
	for (const char *const *p = __start_gantry_faults; p < __stop_gantry_faults; p++)
		if (*p)
			puts(*p);
	return fflush(stdout) != 0;
}

#else

void fault_hit(const char *name)
{
	(void)name;
}

uint64_t fault_limit(const char *name, uint64_t n)
{
	(void)name;
	return n;
}

int fault_print_points(void)
{
	fputs("this build has no fault points (-Dtest_hooks=true makes one that has)\n", stderr);
	return 1;
}

#endif
