/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking a layer: see unpack.h. */
#include "unpack.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "tar.h"

#define LINKS_MAX 40 /* symbolic links followed in one name, as the kernel has it */
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define COPY_BUFFER (256u << 10)

struct unpacking {
	struct unpack *u;
	struct stream *s;
	struct err *e;
	char *parent; /* canonical name of the directory below; "" the root */
	int parent_fd;
	struct map made; /* names that this layer has: whiteouts do not touch them */
	struct strv dirs; /* "name" of directories whose times are set at the end */
	struct timespec *times;
	size_t n_times, cap_times;
	unsigned entries;
};

static int fail(struct unpacking *k, int r, const char *what, const char *path)
{
	return err_errno(k->e, r, "%s \"%s\" of the layer", what, path);
}

/* --- looking into layers --- */

/* A canonical name (no links in it) in a layer. */
static int open_canonical(int dirfd, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					  RESOLVE_NO_MAGICLINKS};
	long fd = syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool is_opaque(int fd)
{
	char proc[64], v[2];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return getxattr(proc, "trusted.overlay.opaque", v, sizeof(v)) == 1 && *v == 'y';
}

/* The topmost lower layer that has it, -1 none; an O_PATH descriptor in *ret_fd. */
static int find_lower(const struct unpacking *k, const char *path, struct stat *st, int *ret_fd)
{
	for (size_t i = 0; i < k->u->n_lower; i++) {
		_cleanup_free_ char *dir = xstrdup(path);
		char *slash;
		int fd = open_canonical(k->u->lower[i], path, O_PATH);

		if (fd >= 0) {
			if (fstat(fd, st) == 0 && !is_whiteout(st)) {
				*ret_fd = fd;
				return (int)i;
			}
			close(fd);
			return -1;
		}
		/* A parent that is opaque, or no directory here, hides what is further down. */
		while ((slash = strrchr(dir, '/'))) {
			struct stat ds;
			bool hides;

			*slash = '\0';
			fd = open_canonical(k->u->lower[i], dir, O_PATH);
			if (fd < 0)
				continue;
			hides = fstat(fd, &ds) < 0 || !S_ISDIR(ds.st_mode) || is_opaque(fd);
			close(fd);
			if (hides)
				return -1;
		}
	}
	return -1;
}

static void copy_xattrs(const char *from, const char *to)
{
	char names[65536], value[65536];
	ssize_t n = listxattr(from, names, sizeof(names)), len;

	for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1)
		if (!str_has_prefix(p, "trusted.overlay.") &&
		    (len = getxattr(from, p, value, sizeof(value))) >= 0)
			setxattr(to, p, value, (size_t)len, 0);
}

static int copy_metadata(int from, int to, const struct stat *st)
{
	char a[64], b[64];

	snprintf(a, sizeof(a), "/proc/self/fd/%d", from);
	snprintf(b, sizeof(b), "/proc/self/fd/%d", to);
	if (chown(b, st->st_uid, st->st_gid) < 0 || chmod(b, st->st_mode & 07777) < 0)
		return -errno;
	copy_xattrs(a, b);
	return 0;
}

/* A directory that this layer does not name, with what the lower one says of it. */
static int make_implicit(int dirfd, const char *name, int lower, const struct stat *st)
{
	int fd, r = 0;

	if (mkdirat(dirfd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (lower >= 0)
		r = copy_metadata(lower, fd, st);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int set_opaque(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	char proc[64];

	if (fd < 0)
		return -errno;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (setxattr(proc, "trusted.overlay.opaque", "y", 1, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Where the lower one was removed, what is below it must not show through the new one. */
static int make_dir(int dirfd, const char *name, mode_t mode)
{
	struct stat st;
	bool removed = false;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		removed = is_whiteout(&st);
		if (unlinkat(dirfd, name, 0) < 0)
			return -errno;
	}
	if (mkdirat(dirfd, name, mode) < 0)
		return -errno;
	return removed ? set_opaque(dirfd, name) : 0;
}

/* --- walking --- */

static char *join(const char *dir, const char *name)
{
	return *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
}

/*
 * Opens the directory `path` in the layer, made where it is missing; links are followed as in
 * a root.  *ret_name is its canonical name.
 */
static int walk(struct unpacking *k, const char *path, char **ret_name)
{
	_cleanup_free_ char *rest = xstrdup(path), *at = xstrdup("");
	_cleanup_close_ int fd = fcntl(k->u->dirfd, F_DUPFD_CLOEXEC, 3);
	unsigned links = 0;
	char *p = rest;

	while (*p) {
		size_t n = strcspn(p, "/");
		_cleanup_free_ char *name = xstrndup(p, n), *next = NULL, *target = NULL;
		_cleanup_close_ int low = -EBADF;
		struct stat st;
		bool here, is_link;

		p += n + (p[n] == '/');
		if (!*name || streq(name, "."))
			continue;
		if (streq(name, "..")) { /* from the top again: fd has no way up */
			char *slash = strrchr(at, '/');
			_cleanup_free_ char *up = slash ? xstrndup(at, (size_t)(slash - at))
							: xstrdup("");

			free(at);
			at = TAKE_PTR(up);
			fd_close(fd);
			fd = open_canonical(k->u->dirfd, at, O_RDONLY | O_DIRECTORY);
			if (fd < 0)
				return fd;
			continue;
		}
		next = join(at, name);
		here = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
		if (here && is_whiteout(&st)) { /* a name both removed and used: used */
			int r = make_dir(fd, name, 0755);

			if (r < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
				return r < 0 ? r : -errno;
		} else if (!here && !is_opaque(fd)) {
			if (find_lower(k, next, &st, &low) < 0)
				st.st_mode = 0;
		} else if (!here) {
			st.st_mode = 0;
		}
		is_link = S_ISLNK(st.st_mode);
		if (is_link) {
			int r = here ? fs_readlink(fd, name, &target)
				     : fs_readlink(low, "", &target);
			char *longer;

			if (r < 0)
				return r;
			if (++links > LINKS_MAX)
				return -ELOOP;
			longer = xasprintf("%s/%s", target, p);
			if (strlen(longer) > 2 * TAR_PATH_MAX) {
				free(longer);
				return -ENAMETOOLONG;
			}
			free(rest);
			rest = longer;
			p = rest;
			if (*target == '/') {
				free(at);
				at = xstrdup("");
				fd_close(fd);
				fd = fcntl(k->u->dirfd, F_DUPFD_CLOEXEC, 3);
			}
			continue;
		}
		if (here && S_ISDIR(st.st_mode)) {
			int sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (sub < 0)
				return -errno;
			fd_close(fd);
			fd = sub;
		} else if (here) {
			return -ENOTDIR;
		} else {
			int sub = make_implicit(fd, name, S_ISDIR(st.st_mode) ? low : -EBADF,
						&st);

			if (sub < 0)
				return sub;
			fd_close(fd);
			fd = sub;
		}
		free(at);
		at = TAKE_PTR(next);
	}
	*ret_name = TAKE_PTR(at);
	return TAKE_FD(fd);
}

/* The directory that holds `path`, and the last name. Entries come directory by directory, so
 * the last one is kept. */
static int enter_parent(struct unpacking *k, const char *path, const char **ret_last)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup("");
	char *canonical;
	int fd;

	*ret_last = slash ? slash + 1 : path;
	if (streq(*ret_last, "..") || !**ret_last)
		return -EINVAL;
	if (k->parent && streq(k->parent, dir))
		return 0;
	fd = walk(k, dir, &canonical);
	if (fd < 0)
		return fd;
	fd_close(k->parent_fd);
	free(k->parent);
	k->parent_fd = fd;
	/* Kept under its own name only: what a link leads to may change. */
	k->parent = canonical;
	return 0;
}

static void forget_parent(struct unpacking *k)
{
	k->parent_fd = fd_close(k->parent_fd);
	free(k->parent);
	k->parent = NULL;
}

/* --- entries --- */

static int set_xattrs(int fd, const struct tar_entry *t)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < t->n_xattrs; i++) {
		const struct tar_xattr *x = &t->xattrs[i];

		if (str_has_prefix(x->name, "trusted.overlay.")) /* ours to say */
			continue;
		if (setxattr(proc, x->name, x->value, x->len, 0) < 0 && errno != EOPNOTSUPP &&
		    errno != EPERM)
			return -errno;
	}
	return 0;
}

static int set_metadata(int dirfd, const char *name, const struct tar_entry *t)
{
	const struct timespec times[2] = {t->mtime, t->mtime};
	_cleanup_close_ int fd = -EBADF;
	int r = 0;

	if (fchownat(dirfd, name, t->uid, t->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (t->type != '2' && fchmodat(dirfd, name, t->mode, 0) < 0)
		return -errno;
	if (t->n_xattrs && t->type != '2') {
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -errno : set_xattrs(fd, t);
	}
	if (r == 0 && utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r;
}

static int write_content(struct unpacking *k, int fd, const struct tar_entry *t)
{
	static uint8_t buf[COPY_BUFFER];
	uint64_t left = t->size;

	while (left > 0) {
		ssize_t n = stream_read(k->s, buf, (size_t)MIN(left, (uint64_t)sizeof(buf)), k->e);
		int r;

		if (n < 0)
			return (int)n;
		if (n == 0)
			return err_set(k->e, -EBADMSG, GRPC_DATA_LOSS,
				       "the layer ends in the middle of \"%s\"", t->path);
		r = fs_write_all(fd, buf, (size_t)n);
		if (r < 0)
			return fail(k, r, "write", t->path);
		left -= (uint64_t)n;
		if (k->u->cancelled && k->u->cancelled())
			return err_set(k->e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	}
	return 0;
}

static int make_file(struct unpacking *k, const char *name, const struct tar_entry *t)
{
	_cleanup_close_ int fd = openat(k->parent_fd, name,
					O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return fail(k, -errno, "make", t->path);
	k->u->bytes += t->size;
	if (k->u->bytes > UNPACK_BYTES_MAX)
		return err_set(k->e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "the layer unpacks to more than %llu GiB",
			       (unsigned long long)(UNPACK_BYTES_MAX >> 30));
	return write_content(k, fd, t);
}

static void remember_dir(struct unpacking *k, const char *canonical, const struct timespec *t)
{
	if (k->n_times == k->cap_times) {
		k->cap_times = k->cap_times ? k->cap_times * 2 : 256;
		k->times = xrealloc(k->times, k->cap_times * sizeof(*k->times));
	}
	strv_add(&k->dirs, canonical);
	k->times[k->n_times++] = *t;
}

/* A link to a file of a lower layer: this layer gets a copy, which stands for both names. */
static int copy_up(struct unpacking *k, const char *canonical, int dirfd, const char *name)
{
	static uint8_t buf[COPY_BUFFER];
	_cleanup_close_ int low = -EBADF, in = -EBADF, out = -EBADF;
	char proc[64];
	struct stat st;
	ssize_t n;
	int r = 0;

	if (find_lower(k, canonical, &st, &low) < 0)
		return -ENOENT;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", low);
	in = open(proc, O_RDONLY | O_CLOEXEC);
	out = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		return -errno;
	while (r == 0 && (n = read(in, buf, sizeof(buf))) > 0)
		r = fs_write_all(out, buf, (size_t)n);
	if (r == 0)
		r = copy_metadata(low, out, &st);
	if (r == 0 && futimens(out, (struct timespec[]){st.st_atim, st.st_mtim}) < 0)
		r = -errno;
	k->u->bytes += (uint64_t)st.st_size;
	return r;
}

static int make_link(struct unpacking *k, const char *name, const struct tar_entry *t)
{
	const char *slash = strrchr(t->link, '/');
	_cleanup_free_ char *dir = slash ? xstrndup(t->link, (size_t)(slash - t->link))
					 : xstrdup(""),
			    *canonical = NULL, *target = NULL;
	const char *last = slash ? slash + 1 : t->link;
	_cleanup_close_ int fd = walk(k, dir, &canonical);

	if (fd < 0)
		return fail(k, fd, "find the directory of", t->link);
	if (!*last || streq(last, "..") || streq(last, "."))
		return fail(k, -EINVAL, "link to", t->link);
	if (linkat(fd, last, k->parent_fd, name, 0) == 0)
		return 0;
	if (errno == ENOENT) {
		int r;

		target = join(canonical, last);
		r = copy_up(k, target, fd, last);
		if (r < 0)
			return fail(k, r, "link to", t->link);
		if (linkat(fd, last, k->parent_fd, name, 0) == 0)
			return 0;
	}
	return fail(k, -errno, "link to", t->link);
}

static int make_node(struct unpacking *k, const char *name, const struct tar_entry *t)
{
	mode_t type = t->type == '3' ? S_IFCHR : t->type == '4' ? S_IFBLK : S_IFIFO;
	dev_t dev = t->type == '6' ? 0 : makedev(t->dev_major, t->dev_minor);

	if (type == S_IFCHR && dev == 0)
		return fail(k, -EINVAL, "make the device 0/0", t->path);
	return mknodat(k->parent_fd, name, type | 0600, dev) < 0 ? -errno : 0;
}

static void mark_made(struct unpacking *k, char *canonical)
{
	if (map_get(&k->made, canonical))
		free(canonical);
	else
		map_put(&k->made, canonical, canonical);
}

static int whiteout(struct unpacking *k, const char *name, const struct tar_entry *t)
{
	_cleanup_free_ char *gone = NULL;
	char proc[64];
	struct stat st;

	if (streq(name, OPAQUE)) {
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", k->parent_fd);
		return setxattr(proc, "trusted.overlay.opaque", "y", 1, 0) < 0 ? -errno : 0;
	}
	if (str_has_prefix(name, ".wh..wh."))
		return 0; /* what aufs left behind */
	name += strlen(WHITEOUT);
	if (!*name || streq(name, ".") || streq(name, ".."))
		return -EINVAL;
	gone = join(k->parent, name);
	if (map_get(&k->made, gone))
		return 0; /* it is about lower layers, this one has its own */
	if (fstatat(k->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (is_whiteout(&st))
			return 0;
		if (S_ISDIR(st.st_mode)) /* made on the way to something below it */
			return set_opaque(k->parent_fd, name);
	}
	(void)t;
	return mknodat(k->parent_fd, name, S_IFCHR | 0600, makedev(0, 0)) < 0 ? -errno : 0;
}

/* What was there under the name makes room, but a directory for a directory. */
static int make_room(struct unpacking *k, const char *name, const struct tar_entry *t)
{
	struct stat st;
	int r;

	if (fstatat(k->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISDIR(st.st_mode)) {
		if (t->type == '5')
			return 0;
		r = fs_remove_tree(k->parent_fd, name);
		forget_parent(k);
		return r < 0 ? r : 1; /* come again */
	}
	if (t->type == '5' && is_whiteout(&st))
		return 0; /* make_dir() sees to it */
	return unlinkat(k->parent_fd, name, 0) < 0 ? -errno : 0;
}

static int root_entry(struct unpacking *k, const struct tar_entry *t)
{
	if (t->type != '5')
		return -EINVAL;
	remember_dir(k, "", &t->mtime);
	return set_metadata(k->u->dirfd, ".", t);
}

static int put_entry(struct unpacking *k, const struct tar_entry *t)
{
	const char *name;
	char *canonical;
	int r;

	if (!*t->path) {
		r = root_entry(k, t);
		return r < 0 ? fail(k, r, "set the root", "/") : 0;
	}
	r = enter_parent(k, t->path, &name);
	if (r == 0 && str_has_prefix(name, WHITEOUT)) {
		r = whiteout(k, name, t);
		return r < 0 ? fail(k, r, "remove by", t->path) : 0;
	}
	if (r == 0)
		r = make_room(k, name, t);
	if (r == 1)
		r = enter_parent(k, t->path, &name);
	if (r < 0)
		return fail(k, r, "make", t->path);
	switch (t->type) {
	case '0':
		r = make_file(k, name, t);
		if (r < 0)
			return r;
		break;
	case '1':
		r = make_link(k, name, t);
		if (r < 0)
			return r;
		break;
	case '2':
		r = symlinkat(t->link, k->parent_fd, name) < 0 ? -errno : 0;
		break;
	case '5':
		r = make_dir(k->parent_fd, name, 0700);
		break;
	default:
		r = make_node(k, name, t);
	}
	if (r == 0 && t->type != '1')
		r = set_metadata(k->parent_fd, name, t);
	if (r < 0)
		return fail(k, r, "make", t->path);
	canonical = join(k->parent, name);
	if (t->type == '5')
		remember_dir(k, canonical, &t->mtime);
	mark_made(k, canonical);
	return 0;
}

/* Last, because making what is inside changes them. */
static void set_dir_times(struct unpacking *k)
{
	for (size_t i = k->n_times; i-- > 0;) {
		int fd = open_canonical(k->u->dirfd, k->dirs.v[i], O_RDONLY | O_DIRECTORY);

		if (fd < 0)
			continue; /* replaced by a later entry */
		futimens(fd, (struct timespec[]){k->times[i], k->times[i]});
		close(fd);
	}
}

int unpack_layer(struct unpack *u, struct stream *s, struct err *e)
{
	struct unpacking k = {.u = u, .s = s, .e = e, .parent_fd = -EBADF};
	struct tar_entry t;
	size_t pos = 0;
	char *name;
	int r;

	u->bytes = 0;
	while ((r = tar_next(s, &t, e)) > 0) {
		if (++k.entries > UNPACK_ENTRIES_MAX)
			r = err_set(e, -E2BIG, GRPC_RESOURCE_EXHAUSTED,
				    "the layer has more than %u entries", UNPACK_ENTRIES_MAX);
		else if (u->cancelled && u->cancelled())
			r = err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
		else
			r = put_entry(&k, &t);
		if (r == 0)
			r = tar_data_done(s, &t, 0, e);
		tar_entry_fini(&t);
		if (r < 0)
			break;
	}
	if (r == 0)
		set_dir_times(&k);
	forget_parent(&k);
	while ((name = map_next(&k.made, &pos)))
		free(name);
	map_fini(&k.made);
	strv_fini(&k.dirs);
	free(k.times);
	return r;
}
