/* SPDX-License-Identifier: Apache-2.0 */
/* Time.  Wall clock in nanoseconds since 1970 for CRI; monotonic microseconds for waits. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define USEC_PER_MS UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define NSEC_PER_SEC INT64_C(1000000000)
#define USEC_FOREVER UINT64_MAX

int64_t clock_wall_ns(void);
uint64_t clock_mono_us(void);
uint64_t clock_boot_ns(void); /* CLOCK_BOOTTIME */

#define CLOCK_RFC3339_LEN 36 /* buffer for clock_rfc3339(), NUL included */
/* "2016-10-06T00:17:09.669794202Z", always 30 characters, UTC. Returns `buf`. */
char *clock_rfc3339(int64_t wall_ns, char buf[CLOCK_RFC3339_LEN]);
