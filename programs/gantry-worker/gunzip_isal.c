/* SPDX-License-Identifier: Apache-2.0 */
/* gzip by ISA-L: see gunzip.h. */
#include <errno.h>
#include <isa-l/igzip_lib.h>

#include "base/mem.h"
#include "gunzip.h"

struct gunzip {
	struct inflate_state z;
};

struct gunzip *gunzip_new(void)
{
	return xcalloc(1, sizeof(struct gunzip));
}

struct gunzip *gunzip_free(struct gunzip *g)
{
	free(g);
	return NULL;
}

void gunzip_begin(struct gunzip *g)
{
	isal_inflate_init(&g->z);
	g->z.crc_flag = ISAL_GZIP;
}

int gunzip_some(struct gunzip *g, const uint8_t **in, size_t *n_in, uint8_t **out, size_t *n_out)
{
	struct inflate_state *z = &g->z;
	int r;

	z->next_in = (uint8_t *)(uintptr_t)*in;
	z->avail_in = (uint32_t)*n_in;
	z->next_out = *out;
	z->avail_out = (uint32_t)*n_out;
	r = isal_inflate(z);
	/* After an error ISA-L counts input that there was not: avail_in may be below zero. */
	if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT)
		return -EBADMSG;
	*in += *n_in - z->avail_in;
	*out += *n_out - z->avail_out;
	*n_in = z->avail_in;
	*n_out = z->avail_out;
	return z->block_state == ISAL_BLOCK_FINISH;
}
