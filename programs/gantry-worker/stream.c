/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression: see stream.h.  Bytes are decompressed into a buffer that stays in the
 * processor's cache while they are hashed and written; plain ones are not copied at all.
 */
#include "stream.h"

#include <openssl/evp.h>
#include <zstd.h>

#include "base/fault.h"
#include "base/id.h"
#include "base/mem.h"
#include "gunzip.h"

#define BUFFER (128u << 10)
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB: what the zstd tool needs at most without --long */

enum kind { PLAIN, GZIP, ZSTD };

struct stream {
	enum kind kind;
	int fd;
	uint64_t left; /* of the input */
	uint8_t in[BUFFER], out[BUFFER];
	size_t in_pos, in_len, out_pos, out_len;
	bool eof;
	struct gunzip *gzip;
	bool gzip_open; /* inside a member */
	ZSTD_DStream *zstd;
	bool zstd_open;		/* inside a frame */
	EVP_MD_CTX *md_in, *md; /* md_in: NULL where it is not wanted or `md` says it */
	uint64_t size_in, made, given;
	void (*tap)(void *arg, const void *p, size_t n);
	void *tap_arg;
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
	s->size_in += (uint64_t)n;
	s->eof = n == 0;
	if (s->md_in)
		EVP_DigestUpdate(s->md_in, s->in, s->in_len);
	return 0;
}

static EVP_MD_CTX *new_digest(void)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		abort();
	return md;
}

static bool is_zstd(const uint8_t *p, size_t n)
{
	static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skippable[] = {0x2a, 0x4d, 0x18};

	return n >= 4 && (memcmp(p, frame, 4) == 0 ||
			  ((p[0] & 0xf0) == 0x50 && memcmp(p + 1, skippable, 3) == 0));
}

/* What people try, and what no layer is. */
static const char *foreign(const uint8_t *p, size_t n)
{
	static const uint8_t xz[] = {0xfd, '7', 'z', 'X', 'Z', 0};

	if (n >= 4 && memcmp(p, "BZh", 3) == 0 && p[3] >= '1' && p[3] <= '9')
		return "it is compressed by bzip2; gzip, zstd and none are possible";
	if (n >= sizeof(xz) && memcmp(p, xz, sizeof(xz)) == 0)
		return "it is compressed by xz; gzip, zstd and none are possible";
	return NULL;
}

/* The first bytes say what it is; a pipe may give them one by one. */
static int fill_start(struct stream *s, struct err *e)
{
	while (s->in_len < 6 && !s->eof) {
		ssize_t n = read(s->fd, s->in + s->in_len,
				 MIN((uint64_t)(sizeof(s->in) - s->in_len), s->left));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, -errno, "read the layer");
		s->in_len += (size_t)n;
		s->left -= (uint64_t)n;
		s->size_in += (uint64_t)n;
		s->eof = n == 0;
	}
	return 0;
}

int stream_open(int fd, uint64_t max_in, bool hash_input, struct stream **ret, struct err *e)
{
	static const uint8_t gzip_magic[] = {0x1f, 0x8b};
	struct stream *s = xcalloc(1, sizeof(*s));
	const char *other;
	int r;

	s->fd = fd;
	s->left = max_in;
	r = fill_start(s, e);
	other = r == 0 ? foreign(s->in, s->in_len) : NULL;
	if (other)
		r = damaged(e, other);
	if (r < 0) {
		free(s);
		return r;
	}
	if (s->in_len >= 2 && memcmp(s->in, gzip_magic, 2) == 0) {
		s->kind = GZIP;
		s->gzip = gunzip_new();
	} else if (is_zstd(s->in, s->in_len)) {
		s->kind = ZSTD;
		s->zstd = ZSTD_createDStream();
		ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	}
	s->md = new_digest();
	if (hash_input && s->kind != PLAIN) {
		s->md_in = new_digest();
		EVP_DigestUpdate(s->md_in, s->in, s->in_len);
	}
	s->eof = false; /* what has been read comes first; the end is found again */
	*ret = s;
	return 0;
}

void stream_open_raw(int fd, uint64_t max_in, struct stream **ret)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	s->fd = fd;
	s->left = max_in;
	s->md = new_digest();
	*ret = s;
}

struct stream *stream_close(struct stream *s)
{
	if (!s)
		return NULL;
	EVP_MD_CTX_free(s->md);
	EVP_MD_CTX_free(s->md_in);
	gunzip_free(s->gzip);
	if (s->zstd)
		ZSTD_freeDStream(s->zstd);
	free(s);
	return NULL;
}

/* Both: 1 where there may be more to come, 0 at the end. */
static int inflate_some(struct stream *s, struct err *e)
{
	const uint8_t *in = s->in + s->in_pos;
	uint8_t *out = s->out + s->out_len;
	size_t n_in = s->in_len - s->in_pos, n_out = sizeof(s->out) - s->out_len;
	int r;

	if (!s->gzip_open) {
		if (s->in_pos == s->in_len)
			return 0; /* the end, between members */
		gunzip_begin(s->gzip);
		s->gzip_open = true;
	} else if (s->eof) {
		return damaged(e, "its gzip stream ends too early");
	}
	r = gunzip_some(s->gzip, &in, &n_in, &out, &n_out);
	if (r < 0)
		return damaged(e, "its gzip stream is not well-formed");
	s->in_pos = s->in_len - n_in;
	s->out_len = sizeof(s->out) - n_out;
	s->gzip_open = r == 0;
	return 1;
}

static int unzstd_some(struct stream *s, struct err *e)
{
	ZSTD_inBuffer in = {s->in, s->in_len, s->in_pos};
	ZSTD_outBuffer out = {s->out, sizeof(s->out), s->out_len};
	size_t r;

	if (s->eof && !s->zstd_open)
		return 0;
	r = ZSTD_decompressStream(s->zstd, &out, &in);
	if (ZSTD_isError(r))
		return damaged(e, ZSTD_getErrorName(r));
	if (s->eof && r != 0 && out.pos == s->out_len)
		return damaged(e, "its zstd stream ends too early");
	s->zstd_open = r != 0;
	s->in_pos = in.pos;
	s->out_len = out.pos;
	return 1;
}

static int bounded(const struct stream *s, struct err *e)
{
	if (s->made > FAULT_LIMIT("stream.bytes", STREAM_OUT_MAX))
		return err_set(e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "the layer decompresses to more than %llu GiB",
			       (unsigned long long)(STREAM_OUT_MAX >> 30));
	if (s->made > FAULT_LIMIT("stream.free", STREAM_RATIO_FREE) &&
	    s->made / STREAM_RATIO_MAX > s->size_in)
		return err_set(e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "the layer decompresses to more than %llu MiB and %u times its size",
			       (unsigned long long)(STREAM_RATIO_FREE >> 20), STREAM_RATIO_MAX);
	return 0;
}

/* Fills the buffer of what comes out. */
static int decompress(struct stream *s, struct err *e)
{
	int r = 1;

	s->out_pos = s->out_len = 0;
	while (r > 0 && s->out_len < sizeof(s->out)) {
		r = fill(s, e);
		if (r == 0)
			r = s->kind == GZIP ? inflate_some(s, e) : unzstd_some(s, e);
	}
	if (r < 0)
		return r;
	EVP_DigestUpdate(s->md, s->out, s->out_len);
	s->made += s->out_len;
	return bounded(s, e);
}

ssize_t stream_next(struct stream *s, size_t n, const void **ret, struct err *e)
{
	int r = 0;

	if (s->kind == PLAIN) {
		bool fresh = s->in_pos == s->in_len || s->given == 0;

		r = fill(s, e);
		if (r < 0)
			return r;
		if (fresh)
			EVP_DigestUpdate(s->md, s->in + s->in_pos, s->in_len - s->in_pos);
		n = MIN(n, s->in_len - s->in_pos);
		*ret = s->in + s->in_pos;
		s->in_pos += n;
	} else {
		if (s->out_pos == s->out_len)
			r = decompress(s, e);
		if (r < 0)
			return r;
		n = MIN(n, s->out_len - s->out_pos);
		*ret = s->out + s->out_pos;
		s->out_pos += n;
	}
	s->given += n;
	if (s->tap && n)
		s->tap(s->tap_arg, *ret, n);
	return (ssize_t)n;
}

void stream_tap(struct stream *s, void (*fn)(void *arg, const void *p, size_t n), void *arg)
{
	s->tap = fn;
	s->tap_arg = arg;
}

uint64_t stream_offset(const struct stream *s)
{
	return s->given;
}

bool stream_is_plain(const struct stream *s)
{
	return s->kind == PLAIN;
}

int stream_read_all(struct stream *s, void *p, size_t n, struct err *e)
{
	uint8_t *to = p;

	while (n > 0) {
		const void *from;
		ssize_t k = stream_next(s, n, &from, e);

		if (k < 0)
			return (int)k;
		if (k == 0)
			return damaged(e, "it ends in the middle of an entry");
		memcpy(to, from, (size_t)k);
		to += k;
		n -= (size_t)k;
	}
	return 0;
}

int stream_skip(struct stream *s, uint64_t n, struct err *e)
{
	while (n > 0) {
		const void *p;
		ssize_t k = stream_next(s, (size_t)MIN(n, (uint64_t)BUFFER), &p, e);

		if (k < 0)
			return (int)k;
		if (k == 0)
			return damaged(e, "it ends in the middle of an entry");
		n -= (uint64_t)k;
	}
	return 0;
}

static void print_digest(EVP_MD_CTX *md, char ret[72])
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	uint8_t hash[EVP_MAX_MD_SIZE];

	if (!copy || EVP_MD_CTX_copy_ex(copy, md) != 1)
		abort();
	EVP_DigestFinal_ex(copy, hash, NULL);
	EVP_MD_CTX_free(copy);
	memcpy(ret, "sha256:", 7);
	hex_encode(hash, 32, ret + 7);
}

int stream_finish(struct stream *s, char ret[72], struct err *e)
{
	const void *p;
	ssize_t n;

	while ((n = stream_next(s, BUFFER, &p, e)) > 0)
		;
	if (n < 0)
		return (int)n;
	print_digest(s->md, ret);
	return 0;
}

int stream_finish_input(struct stream *s, char ret[72], uint64_t *ret_size, struct err *e)
{
	if (s->kind == PLAIN) {
		*ret_size = 0;
		if (stream_finish(s, ret, e) < 0)
			return e ? e->errnum : -EIO;
		*ret_size = s->size_in;
		return 0;
	}
	while (!s->eof) {
		int r;

		s->in_pos = s->in_len;
		r = fill(s, e);
		if (r < 0)
			return r;
	}
	print_digest(s->md_in, ret);
	*ret_size = s->size_in;
	return 0;
}
