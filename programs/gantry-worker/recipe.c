/* SPDX-License-Identifier: Apache-2.0 */
/* Recipes of layers: see recipe.h. */
#include "recipe.h"

#include <endian.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <zstd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "contents.h"
#include "stream.h"

#define HEADER "gantry layer recipe 1\n"
#define LEVEL 1 /* of zstd: headers are alike, more effort finds little more */
#define BUFFER (128u << 10)
#define RECIPE_RATIO_MAX (STREAM_RATIO_MAX / 2) /* so that a reader never meets its own limit */
#define NOT_NEEDED UINT64_MAX /* instead of a file's number: what it had is kept */

/* --- writing --- */

struct recipe_writer {
	int fd;
	ZSTD_CCtx *zstd;
	EVP_MD_CTX *hash;
	uint8_t in[BUFFER], out[BUFFER]; /* of zstd, which is slow with little at once */
	size_t n_in;
	uint8_t bytes[RECIPE_BYTES_MAX]; /* of an 'L' to be */
	size_t n_bytes;
	uint64_t files;		 /* so far */
	uint64_t content;	 /* of the next bytes so many are a file's */
	uint64_t total;		 /* bytes of the tar */
	uint64_t made, written;	 /* bytes of the recipe, before zstd and after */
	struct contents numbers; /* of files, by inode */
	bool given_up;
	int failed; /* the first -errno */
};

struct recipe_writer *recipe_free(struct recipe_writer *w)
{
	if (!w)
		return NULL;
	ZSTD_freeCCtx(w->zstd);
	EVP_MD_CTX_free(w->hash);
	contents_fini(&w->numbers);
	free(w);
	return NULL;
}

static void write_out(struct recipe_writer *w, size_t n)
{
	int r;

	w->written += n;
	if (w->written > FAULT_LIMIT("recipe.bytes", RECIPE_MAX))
		w->given_up = true;
	if (w->given_up || w->failed || n == 0)
		return;
	EVP_DigestUpdate(w->hash, w->out, n);
	r = fs_write_all(w->fd, w->out, n);
	if (r < 0)
		w->failed = r;
}

static void compress(struct recipe_writer *w, ZSTD_EndDirective how)
{
	ZSTD_inBuffer in = {w->in, w->n_in, 0};
	size_t left = 1;

	while (!w->given_up && !w->failed &&
	       (in.pos < in.size || (how == ZSTD_e_end && left > 0))) {
		ZSTD_outBuffer out = {w->out, sizeof(w->out), 0};

		left = ZSTD_compressStream2(w->zstd, &out, &in, how);
		if (ZSTD_isError(left))
			w->failed = -ENOMEM;
		else
			write_out(w, out.pos);
	}
	w->made += w->n_in;
	w->n_in = 0;
	if (w->made > FAULT_LIMIT("stream.free", STREAM_RATIO_FREE) &&
	    w->made / RECIPE_RATIO_MAX > w->written)
		w->given_up = true;
}

static void put_bytes(struct recipe_writer *w, const void *p, size_t n)
{
	const uint8_t *from = p;

	while (n > 0) {
		size_t k = MIN(n, sizeof(w->in) - w->n_in);

		memcpy(w->in + w->n_in, from, k);
		w->n_in += k;
		from += k;
		n -= k;
		if (w->n_in == sizeof(w->in))
			compress(w, ZSTD_e_continue);
	}
}

struct recipe_writer *recipe_new(int fd)
{
	struct recipe_writer *w = xcalloc(1, sizeof(*w));

	w->fd = fd;
	w->zstd = ZSTD_createCCtx();
	w->hash = EVP_MD_CTX_new();
	if (!w->zstd || !w->hash || EVP_DigestInit_ex(w->hash, EVP_sha256(), NULL) != 1)
		abort();
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
	put_bytes(w, HEADER, strlen(HEADER));
	return w;
}

/* A record: its kind, numbers, bytes. */
static void put(struct recipe_writer *w, char kind, const uint64_t *v, size_t n_v, const void *p,
		size_t n)
{
	uint8_t head[1 + 3 * 8];

	head[0] = (uint8_t)kind;
	for (size_t i = 0; i < n_v; i++)
		memcpy(head + 1 + 8 * i, &(uint64_t){htole64(v[i])}, 8);
	put_bytes(w, head, 1 + 8 * n_v);
	put_bytes(w, p, n);
}

static void flush_bytes(struct recipe_writer *w)
{
	if (w->n_bytes)
		put(w, 'L', (uint64_t[]){w->n_bytes}, 1, w->bytes, w->n_bytes);
	w->n_bytes = 0;
}

void recipe_take(void *writer, const void *p, size_t n)
{
	struct recipe_writer *w = writer;
	const uint8_t *from = p;
	size_t k = (size_t)MIN(w->content, (uint64_t)n);

	w->total += n;
	w->content -= k;
	for (from += k, n -= k; n > 0; from += k, n -= k) {
		k = MIN(n, sizeof(w->bytes) - w->n_bytes);
		memcpy(w->bytes + w->n_bytes, from, k);
		w->n_bytes += k;
		if (w->n_bytes == sizeof(w->bytes))
			flush_bytes(w);
	}
}

bool recipe_file(struct recipe_writer *w, const char *path, ino_t ino)
{
	size_t n = strlen(path);

	if (n >= RECIPE_PATH_MAX)
		return false;
	flush_bytes(w);
	put(w, 'F', (uint64_t[]){n}, 1, path, n);
	contents_note(&w->numbers, ino, w->files++);
	return true;
}

void recipe_content(struct recipe_writer *w, uint64_t offset, uint64_t n)
{
	flush_bytes(w);
	put(w, 'S', (uint64_t[]){offset, n}, 2, NULL, 0);
	w->content = n;
}

bool recipe_knows(const struct recipe_writer *w, ino_t ino)
{
	uint64_t number;

	return contents_get(&w->numbers, ino, &number) && number != NOT_NEEDED;
}

static int keep_range(struct recipe_writer *w, int fd, uint64_t number, off_t at, off_t end)
{
	static uint8_t buf[RECIPE_BYTES_MAX];

	while (at < end && !w->given_up) {
		ssize_t n = pread(fd, buf, (size_t)MIN((off_t)sizeof(buf), end - at), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		put(w, 'K', (uint64_t[]){number, (uint64_t)at, (uint64_t)n}, 3, buf, (size_t)n);
		at += n;
	}
	return 0;
}

/* Without its holes, as they come out of a reader's empty file too. */
int recipe_keep(struct recipe_writer *w, int fd, ino_t ino)
{
	uint64_t number;
	struct stat st;
	off_t at = 0;
	int r = 0;

	if (!contents_get(&w->numbers, ino, &number))
		return 0;
	contents_note(&w->numbers, ino, NOT_NEEDED);
	if (fstat(fd, &st) < 0)
		return -errno;
	flush_bytes(w);
	while (r == 0 && at < st.st_size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = keep_range(w, fd, number, data, hole);
		at = hole;
	}
	return r;
}

int recipe_finish(struct recipe_writer *w, char *ret_digest, struct err *e)
{
	uint8_t hash[EVP_MAX_MD_SIZE];

	flush_bytes(w);
	put(w, 'E', (uint64_t[]){w->total}, 1, NULL, 0);
	compress(w, ZSTD_e_end);
	if (w->failed)
		return err_errno(e, w->failed, "write the layer's recipe");
	*ret_digest = '\0';
	if (w->given_up)
		return 0;
	EVP_DigestFinal_ex(w->hash, hash, NULL);
	memcpy(ret_digest, "sha256:", 7);
	hex_encode(hash, 32, ret_digest + 7);
	return 0;
}

/* --- reading --- */

struct recipe_reader {
	struct stream *s;
	uint64_t files, total;
	bool at_end;
	char buf[RECIPE_BYTES_MAX + 1];
};

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "the recipe makes no sense: %s", what);
}

int recipe_open(int fd, struct recipe_reader **ret, struct err *e)
{
	struct recipe_reader *k = xcalloc(1, sizeof(*k));
	int r = lseek(fd, 0, SEEK_SET) < 0 ? err_errno(e, -errno, "read the recipe") : 0;

	if (r == 0)
		r = stream_open(fd, UINT64_MAX, true, &k->s, e);
	if (r == 0)
		r = stream_read_all(k->s, k->buf, strlen(HEADER), e);
	if (r == 0 && memcmp(k->buf, HEADER, strlen(HEADER)) != 0)
		r = bad(e, "it does not begin as one");
	if (r < 0)
		recipe_close(k);
	else
		*ret = k;
	return r;
}

struct recipe_reader *recipe_close(struct recipe_reader *k)
{
	if (k)
		stream_close(k->s);
	free(k);
	return NULL;
}

static int read_numbers(struct recipe_reader *k, uint64_t *v, size_t n, struct err *e)
{
	uint64_t raw[3];
	int r = stream_read_all(k->s, raw, n * sizeof(*raw), e);

	for (size_t i = 0; r == 0 && i < n; i++)
		v[i] = le64toh(raw[i]);
	return r;
}

static int read_bytes(struct recipe_reader *k, struct recipe_record *ret, uint64_t max,
		      struct err *e)
{
	int r;

	if (ret->size == 0 || ret->size > max)
		return bad(e, "a record has a wrong size");
	r = stream_read_all(k->s, k->buf, (size_t)ret->size, e);
	k->buf[ret->size] = '\0';
	ret->p = k->buf;
	return r;
}

static int read_path(struct recipe_reader *k, struct recipe_record *ret, struct err *e)
{
	int r = read_numbers(k, &ret->size, 1, e);

	if (r == 0)
		r = read_bytes(k, ret, RECIPE_PATH_MAX - 1, e);
	if (r == 0 && memchr(ret->p, '\0', (size_t)ret->size))
		r = bad(e, "a path holds a NUL");
	ret->number = k->files++;
	return r;
}

static bool in_a_file(const struct recipe_record *t)
{
	return t->offset <= RECIPE_FILE_MAX && t->size <= RECIPE_FILE_MAX - t->offset;
}

static int read_segment(struct recipe_reader *k, struct recipe_record *ret, struct err *e)
{
	uint64_t v[2];
	int r = read_numbers(k, v, 2, e);

	if (r < 0)
		return r;
	ret->number = k->files - 1;
	ret->offset = v[0];
	ret->size = v[1];
	return k->files && in_a_file(ret) ? 0 : bad(e, "bytes are of no file");
}

static int read_kept(struct recipe_reader *k, struct recipe_record *ret, struct err *e)
{
	uint64_t v[3];
	int r = read_numbers(k, v, 3, e);

	if (r < 0)
		return r;
	ret->number = v[0];
	ret->offset = v[1];
	ret->size = v[2];
	if (ret->number >= k->files || !in_a_file(ret))
		return bad(e, "what is kept is of no file");
	return read_bytes(k, ret, RECIPE_BYTES_MAX, e);
}

static int read_end(struct recipe_reader *k, struct recipe_record *ret, struct err *e)
{
	const void *p;
	ssize_t n;
	int r = read_numbers(k, &ret->size, 1, e);

	if (r < 0)
		return r;
	k->at_end = true;
	n = stream_next(k->s, 1, &p, e);
	if (n < 0)
		return (int)n;
	return n == 0 && ret->size == k->total ? 0 : bad(e, "it does not end where it says");
}

int recipe_next(struct recipe_reader *k, struct recipe_record *ret, struct err *e)
{
	int r;

	*ret = (struct recipe_record){0};
	if (k->at_end)
		return 0;
	r = stream_read_all(k->s, &ret->kind, 1, e);
	if (r < 0)
		return r;
	switch (ret->kind) {
	case 'L':
		r = read_numbers(k, &ret->size, 1, e);
		if (r == 0)
			r = read_bytes(k, ret, RECIPE_BYTES_MAX, e);
		break;
	case 'F':
		r = read_path(k, ret, e);
		break;
	case 'S':
		r = read_segment(k, ret, e);
		break;
	case 'K':
		r = read_kept(k, ret, e);
		break;
	case 'E':
		r = read_end(k, ret, e);
		break;
	default:
		r = bad(e, "a record is of no kind that is known");
	}
	if (r == 0 && (ret->kind == 'L' || ret->kind == 'S'))
		k->total += ret->size;
	if (r == 0 && k->total > STREAM_OUT_MAX)
		r = bad(e, "the tar would be too large");
	return r < 0 ? r : 1;
}

int recipe_digest(struct recipe_reader *k, char ret[72], struct err *e)
{
	uint64_t size;

	return stream_finish_input(k->s, ret, &size, e);
}
