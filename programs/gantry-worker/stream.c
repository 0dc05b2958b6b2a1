/* SPDX-License-Identifier: Apache-2.0 */
/* Decompression: see stream.h. */
#include "stream.h"

#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <zstd.h>

#include "base/id.h"
#include "base/mem.h"

#define BUFFER (128u << 10)
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB: what the zstd tool needs at most without --long */

enum kind { PLAIN, GZIP, ZSTD };

struct stream {
	enum kind kind;
	int fd;
	uint64_t left; /* of the input */
	uint8_t in[BUFFER];
	size_t in_pos, in_len;
	bool eof, ended;
	struct inflate_state gzip;
	bool gzip_open; /* inside a member */
	ZSTD_DStream *zstd;
	bool zstd_open; /* inside a frame */
	EVP_MD_CTX *md;
	uint64_t out; /* bytes given out */
};

static int damaged(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "the layer is damaged: %s", what);
}

/* More input, where all of it has been used. */
static int fill(struct stream *s, struct err *e)
{
	ssize_t n;

	if (s->in_pos < s->in_len || s->eof)
		return 0;
	do
		n = read(s->fd, s->in, MIN((uint64_t)sizeof(s->in), s->left));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(e, -errno, "read the layer");
	s->in_pos = 0;
	s->in_len = (size_t)n;
	s->left -= (uint64_t)n;
	s->eof = n == 0;
	return 0;
}

int stream_open(int fd, uint64_t max_in, struct stream **ret, struct err *e)
{
	static const uint8_t gzip_magic[] = {0x1f, 0x8b}, zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};
	struct stream *s = xcalloc(1, sizeof(*s));
	int r;

	s->fd = fd;
	s->left = max_in;
	r = fill(s, e);
	if (r < 0) {
		free(s);
		return r;
	}
	s->md = EVP_MD_CTX_new();
	EVP_DigestInit_ex(s->md, EVP_sha256(), NULL);
	if (s->in_len >= 2 && memcmp(s->in, gzip_magic, 2) == 0) {
		s->kind = GZIP;
	} else if (s->in_len >= 4 && memcmp(s->in, zstd_magic, 4) == 0) {
		s->kind = ZSTD;
		s->zstd = ZSTD_createDStream();
		ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	}
	*ret = s;
	return 0;
}

struct stream *stream_close(struct stream *s)
{
	if (!s)
		return NULL;
	EVP_MD_CTX_free(s->md);
	if (s->zstd)
		ZSTD_freeDStream(s->zstd);
	free(s);
	return NULL;
}

static ssize_t read_plain(struct stream *s, uint8_t *p, size_t n)
{
	size_t k = MIN(n, s->in_len - s->in_pos);

	memcpy(p, s->in + s->in_pos, k);
	s->in_pos += k;
	return (ssize_t)k;
}

static ssize_t read_gzip(struct stream *s, uint8_t *p, size_t n, struct err *e)
{
	struct inflate_state *z = &s->gzip;
	int r;

	if (!s->gzip_open) {
		if (s->in_pos == s->in_len)
			return 0; /* the end, between members */
		isal_inflate_init(z);
		z->crc_flag = ISAL_GZIP;
		s->gzip_open = true;
	} else if (s->eof) {
		return damaged(e, "its gzip stream ends too early");
	}
	z->next_in = s->in + s->in_pos;
	z->avail_in = (uint32_t)(s->in_len - s->in_pos);
	z->next_out = p;
	z->avail_out = (uint32_t)MIN(n, (size_t)INT32_MAX);
	n = z->avail_out;
	r = isal_inflate(z);
	if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT)
		return damaged(e, "its gzip stream is not well-formed");
	s->in_pos = s->in_len - z->avail_in;
	if (z->block_state == ISAL_BLOCK_FINISH)
		s->gzip_open = false;
	return (ssize_t)(n - z->avail_out);
}

static ssize_t read_zstd(struct stream *s, uint8_t *p, size_t n, struct err *e)
{
	ZSTD_inBuffer in = {s->in, s->in_len, s->in_pos};
	ZSTD_outBuffer out = {p, n, 0};
	size_t r;

	if (s->eof) {
		if (s->zstd_open)
			return damaged(e, "its zstd stream ends too early");
		return 0;
	}
	r = ZSTD_decompressStream(s->zstd, &out, &in);
	if (ZSTD_isError(r))
		return damaged(e, ZSTD_getErrorName(r));
	s->zstd_open = r != 0;
	s->in_pos = in.pos;
	return (ssize_t)out.pos;
}

ssize_t stream_read(struct stream *s, void *p, size_t n, struct err *e)
{
	ssize_t got = 0;

	while (n > 0 && got == 0 && !s->ended) {
		int r = fill(s, e);

		if (r < 0)
			return r;
		if (s->kind == GZIP)
			got = read_gzip(s, p, n, e);
		else if (s->kind == ZSTD)
			got = read_zstd(s, p, n, e);
		else
			got = read_plain(s, p, n);
		if (got < 0)
			return got;
		s->ended = got == 0 && s->eof && !s->gzip_open && !s->zstd_open;
	}
	if (got > 0) {
		EVP_DigestUpdate(s->md, p, (size_t)got);
		s->out += (uint64_t)got;
	}
	return got;
}

uint64_t stream_offset(const struct stream *s)
{
	return s->out;
}

bool stream_is_plain(const struct stream *s)
{
	return s->kind == PLAIN;
}

int stream_read_all(struct stream *s, void *p, size_t n, struct err *e)
{
	uint8_t *to = p;

	while (n > 0) {
		ssize_t k = stream_read(s, to, n, e);

		if (k < 0)
			return (int)k;
		if (k == 0)
			return damaged(e, "it ends in the middle of an entry");
		to += k;
		n -= (size_t)k;
	}
	return 0;
}

int stream_skip(struct stream *s, uint64_t n, struct err *e)
{
	uint8_t buf[16384];

	while (n > 0) {
		size_t k = (size_t)MIN(n, (uint64_t)sizeof(buf));
		int r = stream_read_all(s, buf, k, e);

		if (r < 0)
			return r;
		n -= k;
	}
	return 0;
}

int stream_finish(struct stream *s, char ret[72], struct err *e)
{
	uint8_t buf[65536], hash[EVP_MAX_MD_SIZE];
	ssize_t n;

	while ((n = stream_read(s, buf, sizeof(buf), e)) > 0)
		;
	if (n < 0)
		return (int)n;
	EVP_DigestFinal_ex(s->md, hash, NULL);
	memcpy(ret, "sha256:", 7);
	hex_encode(hash, 32, ret + 7);
	return 0;
}
