/* SPDX-License-Identifier: Apache-2.0 */
/* The list of checksums of a layer: see sums.h. */
#define _FILE_OFFSET_BITS 64
#include "sums.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"

#define HEADER "gantry layer sums 1\n"
#define BUFFER (256u << 10)
#define BLOCK 4096 /* of a sparse file */
#define XATTRS_MAX 65536

/* --- one entry --- */

struct entry {
	const char *path, *name;
	int dirfd; /* that `name` is in */
	struct stat st;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What the kernel or an administrator puts there later says nothing of the layer. */
static bool foreign(const char *xattr)
{
	return streq(xattr, "security.selinux") || streq(xattr, "security.ima") ||
	       streq(xattr, "security.evm");
}

static int sum_xattrs(const struct entry *t, uint64_t *sum)
{
	static char names[XATTRS_MAX], value[XATTRS_MAX];
	char **v, path[64 + NAME_MAX + 1];
	size_t n = 0;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", t->dirfd, t->name);
	len = llistxattr(path, names, sizeof(names));
	if (len <= 0)
		return len == 0 || errno == EOPNOTSUPP ? 0 : -errno;
	v = xcalloc((size_t)len, sizeof(*v));
	for (char *p = names; p < names + len; p += strlen(p) + 1)
		if (!foreign(p))
			v[n++] = p;
	qsort(v, n, sizeof(*v), by_name);
	for (size_t i = 0; i < n; i++) {
		ssize_t k = lgetxattr(path, v[i], value, sizeof(value));

		if (k < 0) {
			free(v);
			return -errno;
		}
		*sum = content_sum(*sum, v[i], strlen(v[i]) + 1);
		*sum = content_sum(*sum, &(uint64_t){htole64((uint64_t)k)}, 8);
		*sum = content_sum(*sum, value, (size_t)k);
	}
	free(v);
	return 0;
}

static int sum_meta(const struct entry *t, uint64_t *ret)
{
	_cleanup_free_ char *link = NULL;
	const struct stat *st = &t->st;
	uint64_t sum = 0;
	char text[256];
	int n, r = 0;

	n = snprintf(text, sizeof(text), "%o %u %u %lld %lld.%09ld %u:%u ", st->st_mode, st->st_uid,
		     st->st_gid, S_ISDIR(st->st_mode) ? 0 : (long long)st->st_size,
		     (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
		     S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? major(st->st_rdev) : 0,
		     S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? minor(st->st_rdev) : 0);
	sum = content_sum(sum, text, (size_t)n);
	if (S_ISLNK(st->st_mode))
		r = fs_readlink(t->dirfd, t->name, &link);
	if (r < 0)
		return r;
	if (link)
		sum = content_sum(sum, link, strlen(link));
	r = sum_xattrs(t, &sum);
	*ret = sum;
	return r;
}

/* --- the walk --- */

struct walk {
	int (*entry)(void *arg, const struct entry *t, struct err *e);
	/* A directory that is too deep to be walked; NULL: nothing. */
	void (*too_deep)(void *arg, const struct entry *t);
	void *arg;
};

/* Takes the descriptor over. */
static int list_names(int fd, struct strv *ret)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;
	int r;

	if (!d) {
		r = -errno;
		close(fd);
		return r;
	}
	while ((errno = 0, de = readdir(d)))
		if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
			strv_add(ret, de->d_name);
	r = -errno;
	closedir(d);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	return r;
}

static int walk_dir(struct walk *w, int fd, const char *path, unsigned depth, struct err *e);

static int walk_sub(struct walk *w, const struct entry *t, unsigned depth, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;

	if (depth >= SUMS_DEPTH_MAX) {
		if (w->too_deep)
			w->too_deep(w->arg, t);
		return 0;
	}
	fd = openat(t->dirfd, t->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "open the directory \"%s\"", t->path);
	return walk_dir(w, fd, t->path, depth + 1, e);
}

static int walk_dir(struct walk *w, int fd, const char *path, unsigned depth, struct err *e)
{
	_cleanup_strv_ struct strv names = STRV_NULL;
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = again < 0 ? -errno : list_names(again, &names);

	if (r < 0)
		return err_errno(e, r, "read the directory \"%s\"", path);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		_cleanup_free_ char *full =
			*path ? xasprintf("%s/%s", path, names.v[i]) : xstrdup(names.v[i]);
		struct entry t = {.path = full, .name = names.v[i], .dirfd = fd};

		if (fstatat(fd, t.name, &t.st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(e, -errno, "look at \"%s\"", full);
		r = w->entry(w->arg, &t, e);
		if (r == 0 && S_ISDIR(t.st.st_mode))
			r = walk_sub(w, &t, depth, e);
	}
	return r;
}

static int walk_layer(struct walk *w, int dirfd, struct err *e)
{
	struct entry root = {.path = "", .name = ".", .dirfd = dirfd};
	int r;

	if (fstat(dirfd, &root.st) < 0)
		return err_errno(e, -errno, "look at the layer");
	r = w->entry(w->arg, &root, e);
	return r < 0 ? r : walk_dir(w, dirfd, "", 0, e);
}

/* --- contents, read back --- */

typedef int went_on_fn(void *arg, uint64_t bytes, struct err *e);

struct reading {
	went_on_fn *went_on; /* NULL: nobody asks */
	void *arg;
	uint64_t bytes;
};

static int open_file(const struct entry *t)
{
	int fd = openat(t->dirfd, t->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Bytes from `at` on, at most to `end`; -EIO and the like are the file's, *ret_stop the caller's. */
static int sum_range(int fd, off_t at, off_t end, bool sparse, struct reading *k, uint64_t *sum,
		     int *ret_stop, struct err *e)
{
	static uint8_t buf[BUFFER];
	static const uint8_t zeros[BLOCK];

	while (at < end) {
		ssize_t n = pread(fd, buf, (size_t)MIN((off_t)sizeof(buf), end - at), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t i = 0; sparse && i < n; i += BLOCK) {
			size_t len = (size_t)MIN((ssize_t)BLOCK, n - i);
			uint64_t where = htole64((uint64_t)(at + i));

			if (memcmp(buf + i, zeros, len) == 0)
				continue;
			*sum = content_sum(*sum, &where, sizeof(where));
			*sum = content_sum(*sum, buf + i, len);
		}
		if (!sparse)
			*sum = content_sum(*sum, buf, (size_t)n);
		at += n;
		k->bytes += (uint64_t)n;
		*ret_stop = k->went_on ? k->went_on(k->arg, k->bytes, e) : 0;
		if (*ret_stop < 0)
			return 0;
	}
	return 0;
}

/* Without the holes, of which there may be terabytes: they are blocks of zeros. */
static int sum_sparse(int fd, off_t size, struct reading *k, uint64_t *sum, int *ret_stop,
		      struct err *e)
{
	off_t at = 0;
	int r = 0;

	while (r == 0 && *ret_stop == 0 && at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		data -= data % BLOCK; /* blocks are summed whole, wherever a hole ends */
		at = MIN(size, (hole + BLOCK - 1) / BLOCK * BLOCK);
		r = sum_range(fd, data, at, true, k, sum, ret_stop, e);
	}
	return r;
}

/* --- writing --- */

struct writing {
	const struct contents *contents;
	struct measure *used;
	struct measure_seen seen;
	struct strbuf out;
	EVP_MD_CTX *hash;
	int fd;
};

static int flush(struct writing *w, struct err *e)
{
	int r = w->out.len ? fs_write_all(w->fd, w->out.s, w->out.len) : 0;

	EVP_DigestUpdate(w->hash, w->out.s, w->out.len);
	strbuf_reset(&w->out);
	return r < 0 ? err_errno(e, r, "write the list of checksums") : 0;
}

static int write_entry(void *arg, const struct entry *t, struct err *e)
{
	struct writing *w = arg;
	uint64_t content = 0, meta;
	char kind = '-';
	int r = sum_meta(t, &meta), stop = 0;

	measure_add(&t->st, &w->seen, w->used);
	if (r == 0 && S_ISREG(t->st.st_mode)) {
		kind = 'f';
		if (!contents_get(w->contents, t->st.st_ino, &content)) {
			struct reading k = {0};
			_cleanup_close_ int fd = open_file(t);

			kind = 's';
			r = fd < 0 ? fd : sum_sparse(fd, t->st.st_size, &k, &content, &stop, e);
		}
	}
	if (r < 0)
		return err_errno(e, r, "sum up \"%s\" of the layer", t->path);
	strbuf_addf(&w->out, "%c %016llx %016llx %s", kind, (unsigned long long)content,
		    (unsigned long long)meta, t->path);
	strbuf_addc(&w->out, '\0');
	return w->out.len < BUFFER ? 0 : flush(w, e);
}

static void measure_deep(void *arg, const struct entry *t)
{
	struct writing *w = arg;
	struct measure m = {0};

	measure_tree(t->dirfd, t->name, &m);
	w->used->bytes += m.bytes;
	w->used->inodes += m.inodes - MIN(m.inodes, UINT64_C(1)); /* itself is counted */
}

static void digest_text(EVP_MD_CTX *hash, char *ret)
{
	uint8_t bytes[EVP_MAX_MD_SIZE];

	EVP_DigestFinal_ex(hash, bytes, NULL);
	memcpy(ret, "sha256:", 7);
	hex_encode(bytes, 32, ret + 7);
}

int sums_write(int dirfd, const struct contents *c, int fd, struct measure *used, char *ret_digest,
	       struct err *e)
{
	struct writing w = {.contents = c, .used = used, .fd = fd, .hash = EVP_MD_CTX_new()};
	struct walk walk = {write_entry, measure_deep, &w};
	int r;

	EVP_DigestInit_ex(w.hash, EVP_sha256(), NULL);
	strbuf_adds(&w.out, HEADER);
	r = walk_layer(&walk, dirfd, e);
	if (r == 0)
		r = flush(&w, e);
	if (r == 0)
		digest_text(w.hash, ret_digest);
	EVP_MD_CTX_free(w.hash);
	measure_seen_fini(&w.seen);
	strbuf_fini(&w.out);
	return r;
}

/* --- checking --- */

struct line {
	char kind;
	uint64_t content, meta;
	const char *path;
};

struct checking {
	struct sums_check *c;
	struct reading reading;
	FILE *list;
	char *text; /* of `line` */
	size_t cap;
	struct line line;
	bool more; /* there is a line */
};

static void problem(struct sums_check *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void problem(struct sums_check *c, const char *fmt, ...)
{
	va_list ap;

	if (c->problems++)
		return;
	va_start(ap, fmt);
	if (vasprintf(&c->problem, fmt, ap) < 0)
		abort();
	va_end(ap);
}

/* The list has the digest that was recorded: it is what was written. */
static void next_line(struct checking *k)
{
	ssize_t n = getdelim(&k->text, &k->cap, '\0', k->list);
	unsigned long long content, meta;
	int at = 0;

	k->more =
		n > 0 &&
		sscanf(k->text, "%c %16llx %16llx %n", &k->line.kind, &content, &meta, &at) >= 3 &&
		at == 36;
	if (k->more)
		k->line = (struct line){k->line.kind, content, meta, k->text + at};
}

/* In the order of the list: a directory is before what is in it. */
static int compare_paths(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	if (*a == *b)
		return 0;
	if (!*a || !*b)
		return *a ? 1 : -1;
	if (*a == '/' || *b == '/')
		return *a == '/' ? -1 : 1;
	return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

static int check_content(struct checking *k, const struct entry *t, struct err *e)
{
	_cleanup_close_ int fd = open_file(t);
	uint64_t sum = 0;
	int stop = 0, r = fd < 0 ? fd : 0;

	/* what the disk has, not what the memory remembers */
	if (r == 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (r == 0 && k->line.kind == 'f')
		r = sum_range(fd, 0, t->st.st_size, false, &k->reading, &sum, &stop, e);
	else if (r == 0)
		r = sum_sparse(fd, t->st.st_size, &k->reading, &sum, &stop, e);
	if (stop < 0)
		return stop;
	if (r < 0)
		problem(k->c, "\"%s\" cannot be read: %s", t->path, strerror(-r));
	else if (sum != k->line.content)
		problem(k->c, "the content of \"%s\" is not what was unpacked", t->path);
	if (fd >= 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

static int check_entry(void *arg, const struct entry *t, struct err *e)
{
	struct checking *k = arg;
	uint64_t meta;
	int order = -1, r;

	while (k->more && (order = compare_paths(k->line.path, t->path)) < 0) {
		problem(k->c, "\"%s\" is missing", k->line.path);
		next_line(k);
	}
	if (!k->more || order > 0) {
		problem(k->c, "\"%s\" was not there when it was unpacked", t->path);
		return 0;
	}
	r = sum_meta(t, &meta);
	if (r < 0)
		problem(k->c, "\"%s\" cannot be read: %s", t->path, strerror(-r));
	else if (meta != k->line.meta)
		problem(k->c,
			"the type, owner, mode, size, time, link or attributes of \"%s\" are "
			"not what was unpacked",
			t->path);
	else if (S_ISREG(t->st.st_mode) && k->line.kind != '-')
		r = check_content(k, t, e);
	next_line(k);
	return r == -ECANCELED ? r : 0;
}

static int check_list(struct sums_check *c)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	static uint8_t buf[BUFFER];
	char got[72];
	ssize_t n;

	EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
	while ((n = read(c->list_fd, buf, sizeof(buf))) > 0)
		EVP_DigestUpdate(hash, buf, (size_t)n);
	digest_text(hash, got);
	EVP_MD_CTX_free(hash);
	if (n == 0 && streq(got, c->digest) && lseek(c->list_fd, 0, SEEK_SET) == 0)
		return 0;
	problem(c, "its list of checksums is not what was recorded");
	return -EBADMSG;
}

int sums_check(struct sums_check *c, struct err *e)
{
	struct checking k = {.c = c, .reading = {c->went_on, c->arg, 0}};
	struct walk walk = {check_entry, NULL, &k};
	struct err own = ERR_NULL;
	int fd, r;

	if (check_list(c) < 0)
		return 0;
	fd = fcntl(c->list_fd, F_DUPFD_CLOEXEC, 3);
	k.list = fd < 0 ? NULL : fdopen(fd, "r");
	if (!k.list) {
		r = -errno;
		fd_close(fd);
		return err_errno(e, r, "read the list of checksums");
	}
	if (fseek(k.list, (long)strlen(HEADER), SEEK_SET) == 0)
		next_line(&k);
	r = walk_layer(&walk, c->dirfd, &own);
	if (r < 0 && r != -ECANCELED) {
		problem(c, "%s", own.msg);
		r = 0;
	} else if (r < 0) {
		*e = own;
	}
	for (; r == 0 && k.more; next_line(&k))
		problem(c, "\"%s\" is missing", k.line.path);
	fclose(k.list);
	free(k.text);
	return r;
}
