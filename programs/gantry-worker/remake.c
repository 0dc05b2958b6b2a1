/* SPDX-License-Identifier: Apache-2.0 */
/* Making tars again: see remake.h. */
#include "remake.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "layers.h"
#include "recipe.h"

#define BUFFER (256u << 10)
#define KEPT "kept" /* in tmp_fd: files by number, with what the recipe keeps of them */

int remake_scan(int recipe_fd, struct remake_scan *ret, struct err *e)
{
	struct recipe_reader *k;
	struct recipe_record t;
	int r = recipe_open(recipe_fd, &k, e);

	if (r < 0)
		return r;
	ret->kept = false;
	while ((r = recipe_next(k, &t, e)) > 0) {
		ret->kept |= t.kind == 'K';
		ret->size = t.kind == 'E' ? t.size : 0;
	}
	if (r == 0)
		r = recipe_digest(k, ret->digest, e);
	recipe_close(k);
	return r;
}

struct making {
	struct remake *m;
	struct err *e;
	EVP_MD_CTX *hash;
	uint64_t made;
	bool any_kept;
	char *path; /* of the file that bytes are of */
	int fd;	    /* of it; closed: not opened yet */
};

static int problem(struct making *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int problem(struct making *k, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	free(k->m->problem);
	if (vasprintf(&k->m->problem, fmt, ap) < 0)
		abort();
	va_end(ap);
	return -EBADMSG;
}

/* --- what the recipe keeps, put into files first: where it is needed stands before it --- */

static int keep(struct making *k, const struct recipe_record *t, uint64_t *number)
{
	char name[64];
	ssize_t n;

	if (k->fd < 0 || *number != t->number) {
		fd_close(k->fd);
		if (!k->any_kept && mkdirat(k->m->tmp_fd, KEPT, 0700) < 0)
			return err_errno(k->e, -errno, "make a directory for what is kept");
		k->any_kept = true;
		*number = t->number;
		snprintf(name, sizeof(name), KEPT "/%llu", (unsigned long long)t->number);
		k->fd = openat(k->m->tmp_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (k->fd < 0)
			return err_errno(k->e, -errno, "make a file for what is kept");
	}
	n = pwrite(k->fd, t->p, (size_t)t->size, (off_t)t->offset);
	if (n == (ssize_t)t->size)
		return 0;
	return err_errno(k->e, n < 0 ? -errno : -ENOSPC, "write what is kept");
}

static int open_recipe(struct making *k, struct recipe_reader **ret)
{
	struct err why = ERR_NULL;

	if (recipe_open(k->m->recipe_fd, ret, &why) < 0)
		return problem(k, "its recipe cannot be read: %s", why.msg);
	return 0;
}

/* As recipe_next(); what is wrong with it is the layer's problem. */
static int next(struct making *k, struct recipe_reader *in, struct recipe_record *t)
{
	struct err why = ERR_NULL;
	int r = recipe_next(in, t, &why);

	return r < 0 ? problem(k, "its recipe cannot be read: %s", why.msg) : r;
}

static int put_kept_aside(struct making *k)
{
	struct recipe_reader *in;
	struct recipe_record t;
	uint64_t number = 0;
	int r = open_recipe(k, &in);

	if (r < 0)
		return r;
	while ((r = next(k, in, &t)) > 0) {
		if (t.kind != 'K')
			continue;
		r = keep(k, &t, &number);
		if (r < 0)
			break;
	}
	recipe_close(in);
	k->fd = fd_close(k->fd);
	return r;
}

/* --- the tar --- */

static int put(struct making *k, const void *p, size_t n)
{
	k->made += n;
	if (k->made > k->m->scan->size)
		return problem(k, "its recipe was changed");
	EVP_DigestUpdate(k->hash, p, n);
	return k->m->out(k->m->arg, p, n, k->e);
}

static int open_kept(const struct making *k, uint64_t number)
{
	char name[64];
	int fd;

	if (!k->any_kept)
		return -ENOENT;
	snprintf(name, sizeof(name), KEPT "/%llu", (unsigned long long)number);
	fd = openat(k->m->tmp_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_file(struct making *k, uint64_t number, bool *ret_kept)
{
	struct stat st;

	k->fd = open_kept(k, number);
	*ret_kept = k->fd >= 0;
	if (k->fd >= 0)
		return 0;
	k->fd = layer_open(k->m->layer_fd, k->path, O_RDONLY | O_NONBLOCK);
	if (k->fd < 0)
		return problem(k, "\"%s\" cannot be opened: %s", k->path, strerror(-k->fd));
	if (fstat(k->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return problem(k, "\"%s\" is no file", k->path);
	return 0;
}

/* What a kept file lacks at its end was a hole. */
static ssize_t read_some(int fd, uint8_t *buf, size_t n, uint64_t at, bool kept)
{
	ssize_t k;

	do
		k = pread(fd, buf, n, (off_t)at);
	while (k < 0 && errno == EINTR);
	if (k < 0)
		return -errno;
	if (k == 0 && kept) {
		memset(buf, 0, n);
		return (ssize_t)n;
	}
	return k;
}

static int put_segment(struct making *k, const struct recipe_record *t, bool *kept)
{
	static uint8_t buf[BUFFER];
	uint64_t at = t->offset, end = t->offset + t->size;
	int r = k->fd < 0 ? open_file(k, t->number, kept) : 0;

	while (r == 0 && at < end) {
		ssize_t n =
			read_some(k->fd, buf, (size_t)MIN((uint64_t)BUFFER, end - at), at, *kept);

		if (n < 0)
			return problem(k, "\"%s\" cannot be read: %s", k->path, strerror((int)-n));
		if (n == 0)
			return problem(k, "\"%s\" is shorter than what was unpacked", k->path);
		r = put(k, buf, (size_t)n);
		at += (uint64_t)n;
	}
	return r;
}

static int make_tar(struct making *k)
{
	struct recipe_reader *in;
	struct recipe_record t;
	bool kept = false;
	int r = open_recipe(k, &in);

	if (r < 0)
		return r;
	while ((r = next(k, in, &t)) > 0) {
		r = 0;
		if (t.kind == 'L') {
			r = put(k, t.p, (size_t)t.size);
		} else if (t.kind == 'F') {
			k->fd = fd_close(k->fd);
			free(k->path);
			k->path = xstrdup(t.p);
		} else if (t.kind == 'S') {
			r = put_segment(k, &t, &kept);
		}
		if (r < 0)
			break;
	}
	recipe_close(in);
	return r;
}

static int check_digest(struct making *k)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	char got[72];

	EVP_DigestFinal_ex(k->hash, hash, NULL);
	memcpy(got, "sha256:", 7);
	hex_encode(hash, 32, got + 7);
	if (k->made == k->m->scan->size && streq(got, k->m->diff_id))
		return 0;
	return problem(k, "its files are not what was unpacked: they make %s, not %s", got,
		       k->m->diff_id);
}

int remake_tar(struct remake *m, struct err *e)
{
	struct making k = {.m = m, .e = e, .fd = -EBADF, .hash = EVP_MD_CTX_new()};
	int r;

	if (!k.hash || EVP_DigestInit_ex(k.hash, EVP_sha256(), NULL) != 1)
		abort();
	r = m->scan->kept ? put_kept_aside(&k) : 0;
	if (r == 0)
		r = make_tar(&k);
	if (r == 0)
		r = check_digest(&k);
	if (k.any_kept)
		fs_remove_tree(m->tmp_fd, KEPT);
	EVP_MD_CTX_free(k.hash);
	fd_close(k.fd);
	free(k.path);
	return r;
}
