/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed copies of runtimes' programs in memory.
 *
 * crun protects its file on the host from its containers by executing a read-only bind mount of
 * itself anew, which costs two mounts, an unmount that waits for RCU and a second start: 2 ms of
 * each call.  From a file in memory with all seals it sees that nothing can be written, and goes
 * on (libcrun, cloned_binary.c; runc has the same rule, but ten times the size to be copied).
 */
#pragma once

#include <stdbool.h>

/* A copy of the program: a descriptor, owned; -EOPNOTSUPP where it gains nothing, -errno. Blocking:
 * reads the file. */
int sealed_copy(const char *path);
/* Whether it is a sealed copy of what the file is now. */
bool sealed_is_of(int fd, const char *path);
/* Whether it is a sealed copy at all: what a process was started with. */
bool sealed_is(int fd);
