/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash map from string to pointer.  Keys are borrowed: they live in the object that the
 * value points to, and longer than the entry.  Iteration order is not defined.
 */
#pragma once

#include <stddef.h>

struct map_slot {
	const char *key; /* NULL: empty; map_tomb: removed */
	void *value;
};

struct map {
	struct map_slot *slots;
	size_t cap;  /* power of two, or 0 */
	size_t n;    /* live entries */
	size_t used; /* live and removed */
};

#define MAP_NULL ((struct map){0})

void map_fini(struct map *m);			     /* frees the table, not the values */
void *map_get(const struct map *m, const char *key); /* NULL: not there. borrowed */
/* Adds or replaces; returns what was there before. */
void *map_put(struct map *m, const char *key, void *value);
void *map_remove(struct map *m, const char *key); /* what was there, or NULL */

/* Walks all entries: start with *pos = 0; returns NULL at the end.  The entry that was
 * returned last may be removed during the walk, nothing may be added. */
void *map_next(const struct map *m, size_t *pos);
/* The same with the key; borrowed until the map changes. */
const struct map_slot *map_next_slot(const struct map *m, size_t *pos);
