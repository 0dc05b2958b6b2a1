/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker gives up before it reads a foreign byte.  Whoever takes it over finds: no new
 * privileges and no programs to start (seccomp), a mount namespace in which everything but the
 * image store is read-only and no device can be opened, the few capabilities that layers need
 * to be written, bounded memory.  The processes that unpack have no sockets and no children
 * either, and no descriptors but those of their layer.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define CONFINE_WORKER_MEMORY (UINT64_C(2) << 30) /* address space */
#define CONFINE_UNPACKER_MEMORY (UINT64_C(1) << 30)

/* `root` stays writable; NULL: nothing does. Before anything of the store is opened. */
int confine_worker(const char *root, struct err *e);
/* In a child, besides: only `keep` stays open. */
int confine_unpacker(const int *keep, size_t n, struct err *e);
