/* SPDX-License-Identifier: Apache-2.0 */
/* gzip by zlib: see gunzip.h. */
#include <errno.h>
#include <zlib.h>

#include "base/mem.h"
#include "gunzip.h"

#define WINDOW_BITS (15 + 16) /* the largest window; a gzip header and trailer are there */

struct gunzip {
	z_stream z;
};

struct gunzip *gunzip_new(void)
{
	struct gunzip *g = xcalloc(1, sizeof(*g));

	if (inflateInit2(&g->z, WINDOW_BITS) != Z_OK)
		abort();
	return g;
}

struct gunzip *gunzip_free(struct gunzip *g)
{
	if (g)
		inflateEnd(&g->z);
	free(g);
	return NULL;
}

void gunzip_begin(struct gunzip *g)
{
	inflateReset(&g->z);
}

int gunzip_some(struct gunzip *g, const uint8_t **in, size_t *n_in, uint8_t **out, size_t *n_out)
{
	z_stream *z = &g->z;
	int r;

	z->next_in = (Bytef *)(uintptr_t)*in;
	z->avail_in = (uInt)*n_in;
	z->next_out = *out;
	z->avail_out = (uInt)*n_out;
	r = inflate(z, Z_NO_FLUSH);
	if (r != Z_OK && r != Z_BUF_ERROR && r != Z_STREAM_END)
		return -EBADMSG;
	*in += *n_in - z->avail_in;
	*out += *n_out - z->avail_out;
	*n_in = z->avail_in;
	*n_out = z->avail_out;
	return r == Z_STREAM_END; /* Z_BUF_ERROR: no input, or no room */
}
