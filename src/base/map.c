/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing.  A plain hash will do: no stranger chooses the keys, ids
 * are ours, names the kubelet's. */
#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char map_tomb[] = "";

static uint64_t hash(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return h ^ (h >> 29);
}

void map_fini(struct map *m)
{
	free(m->slots);
	*m = MAP_NULL;
}

static struct map_slot *find(const struct map *m, const char *key)
{
	size_t i;

	if (!m->cap)
		return NULL;
	for (i = hash(key) & (m->cap - 1); m->slots[i].key; i = (i + 1) & (m->cap - 1))
		if (m->slots[i].key != map_tomb && streq(m->slots[i].key, key))
			return &m->slots[i];
	return NULL;
}

static void insert_new(struct map *m, const char *key, void *value)
{
	size_t i = hash(key) & (m->cap - 1);

	while (m->slots[i].key)
		i = (i + 1) & (m->cap - 1);
	m->slots[i] = (struct map_slot){key, value};
	m->n++;
	m->used++;
}

static void grow(struct map *m)
{
	struct map old = *m;

	m->cap = 16;
	while (m->cap < old.n * 4)
		m->cap *= 2;
	m->slots = xcalloc(m->cap, sizeof(*m->slots));
	m->n = m->used = 0;
	for (size_t i = 0; i < old.cap; i++)
		if (old.slots[i].key && old.slots[i].key != map_tomb)
			insert_new(m, old.slots[i].key, old.slots[i].value);
	free(old.slots);
}

void *map_get(const struct map *m, const char *key)
{
	struct map_slot *s = find(m, key);

	return s ? s->value : NULL;
}

void *map_put(struct map *m, const char *key, void *value)
{
	struct map_slot *s = find(m, key);

	if (s) {
		void *old = s->value;

		*s = (struct map_slot){key, value};
		return old;
	}
	if ((m->used + 1) * 2 > m->cap)
		grow(m);
	insert_new(m, key, value);
	return NULL;
}

void *map_remove(struct map *m, const char *key)
{
	struct map_slot *s = find(m, key);
	void *old;

	if (!s)
		return NULL;
	old = s->value;
	*s = (struct map_slot){map_tomb, NULL};
	m->n--;
	return old;
}

const struct map_slot *map_next_slot(const struct map *m, size_t *pos)
{
	while (*pos < m->cap) {
		struct map_slot *s = &m->slots[(*pos)++];

		if (s->key && s->key != map_tomb)
			return s;
	}
	return NULL;
}

void *map_next(const struct map *m, size_t *pos)
{
	const struct map_slot *s = map_next_slot(m, pos);

	return s ? s->value : NULL;
}
