/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault points: places between two effects that the world can see, where a test kills the
 * process.  Only in builds with -Dtest_hooks=true; nothing is left of them in a release.
 *
 * GANTRY_FAULT=NAME[:N] makes the process send itself SIGKILL the Nth time (first: 1) that it
 * comes by the point of that name; the count goes on in forked children.  With GANTRY_FAULT_MARK=FILE
 * only the process that creates FILE dies, so that those started after it get past the point.
 *
 * GANTRY_LIMIT=NAME:N makes the limit of that name N, where a test cannot reach the real one.
 *
 * `PROGRAM --fault-points` prints the names of all that are in the program, one a line; a new
 * point is tested by tests/crash without more ado.
 */
#pragma once

#include <stdint.h>

#ifdef GANTRY_TEST_HOOKS
#define FAULT_POINT(name)                                                                          \
	do {                                                                                       \
		static const char *const fault_name_                                               \
			__attribute__((used, section("gantry_faults"))) = (name);                  \
		fault_hit(fault_name_);                                                            \
	} while (0)
#define FAULT_LIMIT(name, n) fault_limit(name, n)
#else
#define FAULT_POINT(name) ((void)0)
#define FAULT_LIMIT(name, n) ((uint64_t)(n))
#endif

void fault_hit(const char *name);
uint64_t fault_limit(const char *name, uint64_t n);
/* Prints the names to standard output; returns the exit status of the program. */
int fault_print_points(void);
