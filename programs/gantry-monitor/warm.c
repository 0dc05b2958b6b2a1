/* SPDX-License-Identifier: Apache-2.0 */
/* A child that takes the kernel's wait out of the way of a runtime that is about to put a
 * process into a cgroup: src/sys/cgroup_warm.c. */
#include <signal.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "mon.h"

static pid_t warmer;

void warm_start(struct monitor *m, uint64_t for_us)
{
	pid_t parent = getpid();

	if (warmer > 0 || m->cgroup.v2)
		return;
	warmer = fork();
	if (warmer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0U, 0); /* whoever waits for their end waits for the monitor's */
		if (getppid() == parent)
			cgroup_keep_warm(&m->cgroup, clock_mono_us() + for_us);
		_exit(0);
	}
}

void warm_stop(void)
{
	if (warmer > 0)
		kill(warmer, SIGKILL);
}

bool warm_exited(pid_t pid)
{
	if (warmer <= 0 || pid != warmer)
		return false;
	warmer = 0;
	return true;
}
