/* SPDX-License-Identifier: Apache-2.0 */
/* Time: see clock.h. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static struct timespec now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts;
}

int64_t clock_wall_ns(void)
{
	struct timespec ts = now(CLOCK_REALTIME);

	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

uint64_t clock_mono_us(void)
{
	struct timespec ts = now(CLOCK_MONOTONIC);

	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_boot_ns(void)
{
	struct timespec ts = now(CLOCK_BOOTTIME);

	return (uint64_t)ts.tv_sec * (uint64_t)NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void put_digits(char *to, int n, unsigned v)
{
	while (n-- > 0) {
		to[n] = (char)('0' + v % 10);
		v /= 10;
	}
}

/* Written out by hand: the monitor stamps every log line with it. */
char *clock_rfc3339(int64_t wall_ns, char buf[CLOCK_RFC3339_LEN])
{
	static __thread time_t last = -1;
	static __thread char head[20]; /* "2016-10-06T00:17:09" */
	time_t sec = (time_t)(wall_ns / NSEC_PER_SEC);
	unsigned ns = (unsigned)(wall_ns % NSEC_PER_SEC);

	if (sec != last) {
		struct tm tm;

		gmtime_r(&sec, &tm);
		put_digits(head, 4, (unsigned)tm.tm_year + 1900);
		head[4] = '-';
		put_digits(head + 5, 2, (unsigned)tm.tm_mon + 1);
		head[7] = '-';
		put_digits(head + 8, 2, (unsigned)tm.tm_mday);
		head[10] = 'T';
		put_digits(head + 11, 2, (unsigned)tm.tm_hour);
		head[13] = ':';
		put_digits(head + 14, 2, (unsigned)tm.tm_min);
		head[16] = ':';
		put_digits(head + 17, 2, (unsigned)tm.tm_sec);
		last = sec;
	}
	__builtin_memcpy(buf, head, 19);
	buf[19] = '.';
	put_digits(buf + 20, 9, ns);
	buf[29] = 'Z';
	buf[30] = '\0';
	return buf;
}
