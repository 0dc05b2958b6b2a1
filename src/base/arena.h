/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bump allocator: everything that belongs to one request, freed in one move.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t used;		    /* bytes used of the newest */
	size_t total;		    /* bytes handed out, for accounting */
};

#define ARENA_NULL ((struct arena){0})

/* Aligned to 16 bytes, not cleared; aborts on exhaustion. Owned by the arena. */
void *arena_alloc(struct arena *a, size_t n);
void *arena_calloc(struct arena *a, size_t n, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
void *arena_memdup(struct arena *a, const void *p, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Frees all; the arena is as ARENA_NULL afterwards and can be used again. */
void arena_fini(struct arena *a);

#define _cleanup_arena_ __attribute__((cleanup(arena_fini)))
