/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums by inode: see contents.h. */
#include "contents.h"

#include "base/mem.h"

static struct content *place(struct content *v, size_t cap, uint64_t ino)
{
	size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15)) & (cap - 1);

	while (v[i].ino && v[i].ino != ino)
		i = (i + 1) & (cap - 1);
	return &v[i];
}

static void grow(struct contents *c)
{
	size_t cap = c->cap ? c->cap * 2 : 256;
	struct content *v = xcalloc(cap, sizeof(*v));

	for (size_t i = 0; i < c->cap; i++)
		if (c->v[i].ino)
			*place(v, cap, c->v[i].ino) = c->v[i];
	free(c->v);
	c->v = v;
	c->cap = cap;
}

void contents_note(struct contents *c, uint64_t ino, uint64_t sum)
{
	struct content *p;

	if (c->n * 2 >= c->cap)
		grow(c);
	p = place(c->v, c->cap, ino);
	c->n += !p->ino;
	*p = (struct content){ino, sum};
}

bool contents_get(const struct contents *c, uint64_t ino, uint64_t *ret)
{
	const struct content *p = c->cap ? place(c->v, c->cap, ino) : NULL;

	if (!p || !p->ino)
		return false;
	*ret = p->sum;
	return true;
}

void contents_fini(struct contents *c)
{
	free(c->v);
	*c = (struct contents){0};
}
