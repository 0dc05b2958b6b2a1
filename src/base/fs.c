/* SPDX-License-Identifier: Apache-2.0 */
/* Files: see fs.h. */
#include "base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/id.h"
#include "base/mem.h"

#define FS_READ_STEP 4096
#define FS_TREE_DEPTH_MAX 128 /* directories open at once; what is deeper is moved up first */
#define FS_REMOVE_ROUNDS 16   /* of a tree that others still write into */

int fs_read_fd(int fd, size_t max, struct strbuf *ret)
{
	size_t start = ret->len;

	for (;;) {
		char *to = strbuf_reserve(ret, FS_READ_STEP);
		ssize_t n = read(fd, to, FS_READ_STEP);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		ret->len += (size_t)n;
		ret->s[ret->len] = '\0';
		if (n == 0)
			return 0;
		if (ret->len - start > max)
			return -EFBIG;
	}
}

int fs_read(int dirfd, const char *path, size_t max, struct strbuf *ret)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fs_read_fd(fd, max, ret);
}

int fs_write(int dirfd, const char *path, const void *p, size_t n)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	ssize_t w;

	if (fd < 0)
		return -errno;
	do
		w = write(fd, p, n);
	while (w < 0 && errno == EINTR);
	if (w < 0)
		return -errno;
	return (size_t)w == n ? 0 : -EIO;
}

int fs_write_str(int dirfd, const char *path, const char *s)
{
	return fs_write(dirfd, path, s, strlen(s));
}

int fs_write_all(int fd, const void *p, size_t n)
{
	const char *from = p;

	while (n > 0) {
		ssize_t w = write(fd, from, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		from += w;
		n -= (size_t)w;
	}
	return 0;
}

static int sync_parent(int dirfd, const char *path)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	_cleanup_close_ int fd = -EBADF;

	if (slash)
		slash[slash == dir] = '\0';
	fd = openat(dirfd, slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int fs_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool durable)
{
	_cleanup_free_ char *tmp = NULL;
	_cleanup_close_ int fd = -EBADF;
	unsigned char rnd[8];
	char hex[17];
	int r;

	random_bytes(rnd, sizeof(rnd));
	hex_encode(rnd, sizeof(rnd), hex);
	tmp = xasprintf("%s.tmp-%s", path, hex);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	r = fs_write_all(fd, p, n);
	if (r == 0 && durable && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}
	return durable ? sync_parent(dirfd, path) : 0;
}

int fs_mkdir_p(int dirfd, const char *path, mode_t mode)
{
	_cleanup_free_ char *p = xstrdup(path);
	struct stat st;

	for (char *s = p + 1; *p && *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdirat(dirfd, p, mode) < 0 && errno != EEXIST)
			return -errno;
		*s = '/';
	}
	if (mkdirat(dirfd, p, mode) < 0) {
		if (errno != EEXIST)
			return -errno;
		if (fstatat(dirfd, p, &st, 0) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode))
			return -ENOTDIR;
	}
	return 0;
}

/* A tree that is being removed. */
struct removal {
	int top; /* its root */
	dev_t dev;
	unsigned n_moved; /* directories that were put there from deep below */
};

static int empty_dir(struct removal *rm, int fd, int depth);

/* A container can nest directories deeper than there are descriptors. */
static int move_up(struct removal *rm, int dir, const char *name)
{
	char to[32];

	do
		snprintf(to, sizeof(to), ".gantry-deep-%u", rm->n_moved++);
	while (renameat(dir, name, rm->top, to) < 0 && (errno == ENOTEMPTY || errno == EEXIST));
	return fs_exists(dir, name) ? -errno : 0;
}

/* A directory of that name in `dir`, with all that is in it. */
static int remove_dir(struct removal *rm, int dir, const char *name, int depth)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno; /* another one removes it as well */
	if (fstat(fd, &st) < 0 || st.st_dev != rm->dev) {
		close(fd);
		return -EXDEV;
	}
	if (depth == FS_TREE_DEPTH_MAX) {
		close(fd);
		return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : move_up(rm, dir, name);
	}
	r = empty_dir(rm, fd, depth);
	if (r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

/* Empties the directory behind `fd`, which it takes over. */
static int empty_dir(struct removal *rm, int fd, int depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, e = readdir(d))) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) == 0 || errno == ENOENT)
			continue;
		r = errno == EISDIR || errno == EPERM
			    ? remove_dir(rm, dirfd(d), e->d_name, depth + 1)
			    : -errno;
	}
	closedir(d);
	return r;
}

static int remove_once(int dirfd, const char *path)
{
	struct removal rm = {0};
	struct stat st;
	unsigned moved;
	int r;

	if (unlinkat(dirfd, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	rm.top = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rm.top < 0)
		return errno == ENOENT ? 0 : -errno;
	r = fstat(rm.top, &st) < 0 ? -errno : 0;
	rm.dev = st.st_dev;
	do {
		int fd = r < 0 ? -1 : openat(rm.top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		moved = rm.n_moved;
		if (r == 0 && fd < 0)
			r = errno == ENOENT ? 0 : -errno;
		else if (r == 0)
			r = empty_dir(&rm, fd, 0);
	} while (r == 0 && rm.n_moved != moved);
	close(rm.top);
	if (r == 0 && unlinkat(dirfd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int fs_remove_tree(int dirfd, const char *path)
{
	int r, round = 0;

	do /* who was about to write into it may have done so meanwhile */
		r = remove_once(dirfd, path);
	while (r == -ENOTEMPTY && ++round < FS_REMOVE_ROUNDS);
	return r;
}

int fs_open_in_root(int rootfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do /* EAGAIN: a rename raced with "..", openat2(2) */
		fd = syscall(SYS_openat2, rootfd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

bool fs_exists(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int fs_readlink(int dirfd, const char *path, char **ret)
{
	char buf[4096];
	ssize_t n = readlinkat(dirfd, path, buf, sizeof(buf));

	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(buf))
		return -ENAMETOOLONG;
	*ret = xstrndup(buf, (size_t)n);
	return 0;
}
