/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and descriptors: allocation that aborts, scope-bound cleanup, ownership moves.
 *
 * Small allocations abort on failure (x*()).  Anything whose size a peer chose is
 * bounded by a named limit before it is allocated.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define streq(a, b) (strcmp((a), (b)) == 0)

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* All abort on exhaustion; the result is owned by the caller. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define _cleanup_(f) __attribute__((cleanup(f)))
#define DEFINE_CLEANUP(type, func)                                                                 \
	static inline void func##p(type *p)                                                        \
	{                                                                                          \
		if (*p)                                                                            \
			func(*p);                                                                  \
	}                                                                                          \
	struct func##_cleanup_semicolon

static inline void freep(void *p)
{
	free(*(void **)p);
}
/* Closes and sets to -EBADF, the value of a closed descriptor. Keeps errno. */
void fd_closep(int *fd);
/* Closes `fd` when it is one, returns -EBADF: `fd = fd_close(fd)`. Keeps errno. */
int fd_close(int fd);

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(fd_closep)

/* Moves a pointer or descriptor out of its variable, so that cleanup passes over it. */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *_from = &(p), _take = *_from;                                       \
		*_from = NULL;                                                                     \
		_take;                                                                             \
	})
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *_from = &(fd), _take = *_from;                                                \
		*_from = -EBADF;                                                                   \
		_take;                                                                             \
	})
