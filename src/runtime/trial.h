/* SPDX-License-Identifier: Apache-2.0 */
/* What the process of a runtime's trial finds out from inside of its container. */
#pragma once

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIAL_FILTERED "--filtered" /* its argument */
#define TRIAL_DENIED "sysinfo"	    /* what the trial's seccomp filter answers with EPERM */
#define TRIAL_UNFILTERED 77	    /* its exit status where there is no filter */

/* Not whether there is any filter: the daemon may have one of its own, which is handed down. */
static inline int trial_filtered(void)
{
	char info[512]; /* struct sysinfo, which is a quarter of that */

	return syscall(SYS_sysinfo, info) < 0 && errno == EPERM ? 0 : TRIAL_UNFILTERED;
}
