/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a cgroup takes the kernel's cgroup_threadgroup_rwsem for writing, and the first writer
 * waits for a grace period of RCU: 6 to 15 ms since Linux 6.0, where hierarchies are not mounted
 * favordynmods.  For some milliseconds after a write the next one waits for nothing.  So whoever
 * expects a runtime to join a cgroup soon writes itself into the cgroup where it already is, and
 * goes on doing so: it changes nothing, and the wait has passed when the runtime comes.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/cgroup.h"

#define WARM_EVERY_NS 4000000 /* measured: a write is felt for 6 ms and more */

int cgroup_keep_warm(const struct cgroup_host *h, uint64_t until_us)
{
	const struct timespec pause = {.tv_nsec = WARM_EVERY_NS};
	_cleanup_free_ char *own = NULL, *path = NULL;
	_cleanup_close_ int fd = -EBADF;
	bool ours = false;

	/* v2: there runtimes have processes born in their cgroup (CLONE_INTO_CGROUP). */
	if (h->v2 || !h->memory || cgroup_of_process(h, getpid(), &own) < 0)
		return -EOPNOTSUPP;
	path = xasprintf("%s%s/cgroup.procs", h->memory, own);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (clock_mono_us() < until_us) {
		/* One is enough for the whole host; the others wait to take over. */
		ours = ours || flock(fd, LOCK_EX | LOCK_NB) == 0;
		if (ours && write(fd, "0", 1) < 0)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return 0;
}
