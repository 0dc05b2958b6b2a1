/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives: see tarball.h. */
#include "tarball.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs.h"
#include "base/mem.h"
#include "snapshot/snapshot.h"

#define BLOCK 512
#define COPY_BYTES 65536
#define OCTAL_MAX UINT64_C(07777777) /* of an id; more goes into a pax record */
#define SIZE_OCTAL_MAX UINT64_C(077777777777)
#define XATTR_MAX 65536 /* bytes of all names, or of one value (xattr(7)) */
#define OVERLAY_XATTR "trusted.overlay."

struct header { /* ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

struct writer {
	int fd;
	struct strv *gone;
	struct err *e;
};

static int put(struct writer *w, const void *p, size_t n)
{
	int r = fs_write_all(w->fd, p, n);

	return r < 0 ? err_errno(w->e, r, "write the archive") : 0;
}

static int put_padding(struct writer *w, uint64_t size)
{
	static const char zeros[BLOCK];

	return size % BLOCK ? put(w, zeros, BLOCK - size % BLOCK) : 0;
}

static void octal(char *to, size_t n, uint64_t v)
{
	for (to[--n] = '\0'; n > 0; v >>= 3)
		to[--n] = (char)('0' + (v & 7));
}

static int put_header(struct writer *w, struct header *h)
{
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->sum, ' ', sizeof(h->sum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((unsigned char *)h)[i];
	octal(h->sum, 7, sum);
	return put(w, h, sizeof(*h));
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void add_record(struct strbuf *b, const char *key, const void *value, size_t n)
{
	size_t rest = strlen(key) + n + 3, all = rest + 1;
	char digits[24];

	while (all != rest + (size_t)snprintf(digits, sizeof(digits), "%zu", all))
		all = rest + strlen(digits);
	strbuf_addf(b, "%zu %s=", all, key);
	strbuf_add(b, value, n);
	strbuf_addc(b, '\n');
}

static void add_number(struct strbuf *b, const char *key, uint64_t v, uint64_t max)
{
	char text[24];

	if (v > max)
		add_record(b, key, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, v));
}

/* By the name below /proc: what is asked of is never opened for it, and no link is followed. */
static void add_xattrs(struct strbuf *b, int dir, const char *name)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d/%s", dir, name),
			    *names = xmalloc(XATTR_MAX), *value = xmalloc(XATTR_MAX);
	ssize_t n = llistxattr(path, names, XATTR_MAX);

	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
		_cleanup_free_ char *key = xasprintf("SCHILY.xattr.%s", names + i);
		ssize_t len = str_has_prefix(names + i, OVERLAY_XATTR)
				      ? -1
				      : lgetxattr(path, names + i, value, XATTR_MAX);

		if (len >= 0)
			add_record(b, key, value, (size_t)len);
	}
}

static int put_pax(struct writer *w, const struct strbuf *b)
{
	struct header h = {.name = "pax", .type = 'x'};
	int r;

	if (!b->len)
		return 0;
	octal(h.mode, sizeof(h.mode), 0600);
	octal(h.size, sizeof(h.size), b->len);
	r = put_header(w, &h);
	if (r == 0)
		r = put(w, b->s, b->len);
	return r < 0 ? r : put_padding(w, b->len);
}

static char type_of(mode_t mode)
{
	return S_ISREG(mode)	? '0'
	       : S_ISLNK(mode)	? '2'
	       : S_ISCHR(mode)	? '3'
	       : S_ISBLK(mode)	? '4'
	       : S_ISDIR(mode)	? '5'
	       : S_ISFIFO(mode) ? '6'
				: '\0';
}

static int put_member(struct writer *w, int dir, const char *name, const char *path,
		      const struct stat *st, const char *target)
{
	_cleanup_strbuf_ struct strbuf pax = STRBUF_NULL;
	uint64_t size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	struct header h = {.type = type_of(st->st_mode)};
	int r;

	if (strlen(path) > sizeof(h.name))
		add_record(&pax, "path", path, strlen(path));
	if (strlen(target) > sizeof(h.link))
		add_record(&pax, "linkpath", target, strlen(target));
	add_number(&pax, "uid", st->st_uid, OCTAL_MAX);
	add_number(&pax, "gid", st->st_gid, OCTAL_MAX);
	add_number(&pax, "size", size, SIZE_OCTAL_MAX);
	if (name)
		add_xattrs(&pax, dir, name);
	r = put_pax(w, &pax);
	memcpy(h.name, path, MIN(strlen(path), sizeof(h.name)));
	memcpy(h.link, target, MIN(strlen(target), sizeof(h.link)));
	octal(h.mode, sizeof(h.mode), st->st_mode & 07777);
	octal(h.uid, sizeof(h.uid), MIN(st->st_uid, OCTAL_MAX));
	octal(h.gid, sizeof(h.gid), MIN(st->st_gid, OCTAL_MAX));
	octal(h.size, sizeof(h.size), MIN(size, SIZE_OCTAL_MAX));
	octal(h.mtime, sizeof(h.mtime), (uint64_t)MAX(st->st_mtime, 0));
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		octal(h.major, sizeof(h.major), major(st->st_rdev));
		octal(h.minor, sizeof(h.minor), minor(st->st_rdev));
	}
	return r < 0 ? r : put_header(w, &h);
}

/* As many bytes as the header says, whatever becomes of the file meanwhile. */
static int put_content(struct writer *w, int fd, uint64_t size)
{
	_cleanup_free_ char *b = xmalloc(COPY_BYTES);
	uint64_t left = size;
	int r = 0;

	while (r == 0 && left > 0) {
		size_t want = (size_t)MIN(left, (uint64_t)COPY_BYTES);
		ssize_t n = read(fd, b, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(w->e, -errno, "read what is to be archived");
		if (n == 0) { /* it has become shorter */
			memset(b, 0, want);
			n = (ssize_t)want;
		}
		r = put(w, b, (size_t)n);
		left -= (uint64_t)n;
	}
	return r < 0 ? r : put_padding(w, size);
}

static int put_tree(struct writer *w, int dir, const char *prefix, unsigned depth);

static int put_file(struct writer *w, int dir, const char *name, const char *path)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(w->e, -errno, "archive %s", path);
	if (!S_ISREG(st.st_mode))
		return 0; /* it is another one by now */
	r = put_member(w, dir, name, path, &st, "");
	return r < 0 ? r : put_content(w, fd, (uint64_t)st.st_size);
}

/* A directory in place of one of the image's, of which nothing is to be seen (OCI image-spec, layer.md,
 * Opaque Whiteout). */
static int put_opaque(struct writer *w, const char *inside)
{
	_cleanup_free_ char *path = xasprintf("%s.wh..wh..opq", inside);
	const struct stat st = {.st_mode = S_IFREG};

	return put_member(w, -1, NULL, path, &st, "");
}

static int put_directory(struct writer *w, int dir, const char *name, const char *path,
			 const struct stat *st, unsigned depth)
{
	_cleanup_free_ char *inside = xasprintf("%s/", path);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(w->e, -errno, "archive %s", path);
	r = put_member(w, dir, name, inside, st, "");
	if (r == 0 && w->gone && snapshotter->hides_all(fd))
		r = put_opaque(w, inside);
	if (r < 0) {
		close(fd);
		return r;
	}
	return put_tree(w, fd, inside, depth + 1);
}

static int put_link(struct writer *w, int dir, const char *name, const char *path,
		    const struct stat *st)
{
	_cleanup_free_ char *target = NULL;
	int r = fs_readlink(dir, name, &target);

	return r < 0 ? err_errno(w->e, r, "archive %s", path)
		     : put_member(w, dir, name, path, st, target);
}

static int put_any(struct writer *w, int dir, const char *name, const char *path, unsigned depth)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(w->e, -errno, "archive %s", path);
	if (S_ISCHR(st.st_mode) && st.st_rdev == 0 && w->gone) {
		strv_add(w->gone, path);
		return 0;
	}
	if (S_ISREG(st.st_mode))
		return put_file(w, dir, name, path);
	if (S_ISDIR(st.st_mode))
		return put_directory(w, dir, name, path, &st, depth);
	if (S_ISLNK(st.st_mode))
		return put_link(w, dir, name, path, &st);
	return type_of(st.st_mode) ? put_member(w, dir, name, path, &st, "") : 0;
}

/* Takes `dir` over. */
static int put_tree(struct writer *w, int dir, const char *prefix, unsigned depth)
{
	DIR *d = depth < TARBALL_DEPTH_MAX ? fdopendir(dir) : NULL;
	struct dirent *de;
	int r = 0;

	if (!d) {
		close(dir);
		return err_precondition(w->e, "archive %.200s: its directories are too deep",
					prefix);
	}
	while (r == 0 && (de = readdir(d))) {
		_cleanup_free_ char *path = xasprintf("%s%s", prefix, de->d_name);

		if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
			r = put_any(w, dirfd(d), de->d_name, path, depth);
	}
	closedir(d);
	return r;
}

int tarball_write(int fd, const char *dir, struct strv *gone, struct err *e)
{
	static const char end[2 * BLOCK];
	struct writer w = {fd, gone, e};
	int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = top < 0 ? err_errno(e, -errno, "open %s", dir) : put_tree(&w, top, "", 0);

	return r < 0 ? r : put(&w, end, sizeof(end));
}
