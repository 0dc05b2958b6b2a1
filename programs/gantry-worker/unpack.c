/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking a layer: see unpack.h. */
#include "unpack.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "snapshot/snapshot.h"
#include "tar.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define COPY_BUFFER (256u << 10)

struct unpacking {
	struct unpack *u;
	struct stream *s;
	struct err *e;
	char *parent; /* canonical name of the directory below; "" the root */
	int parent_fd;
	struct layers lower; /* once have_lower */
	bool have_lower;
	struct map removed; /* names that whiteouts are about */
	struct strv dirs;   /* "name" of directories whose times are set at the end */
	struct timespec *times;
	size_t n_times, cap_times;
	unsigned entries;
	uint64_t sum; /* of the bytes of the file that is being written */
};

/* What the layer itself is to blame for is told as that. */
static int fail(struct unpacking *k, int r, const char *what, const char *path)
{
	if (k->e->errnum) /* said already */
		return k->e->errnum;
	err_errno(k->e, r, "%s \"%s\" of the layer", what, path);
	if (k->e->code == GRPC_NOT_FOUND || k->e->code == GRPC_ALREADY_EXISTS ||
	    k->e->code == GRPC_INVALID_ARGUMENT || k->e->code == GRPC_PERMISSION_DENIED ||
	    k->e->code == GRPC_FAILED_PRECONDITION || r == -ENOTDIR || r == -ELOOP ||
	    r == -ENAMETOOLONG)
		k->e->code = GRPC_DATA_LOSS;
	return r;
}

static char *join(const char *dir, const char *name)
{
	return *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
}

/* --- the layers below --- */

/* As layers_find(); 0 where none of them has it is -ENOENT too, `e` is set for all else. */
static int find_lower(struct unpacking *k, const char *path, struct stat *st, int *ret_fd)
{
	if (!k->have_lower) {
		int r = k->u->lower(k->u->arg, &k->lower, k->e);

		if (r < 0)
			return r;
		k->have_lower = true;
	}
	return layers_find(&k->lower, path, st, ret_fd);
}

/* Whether an opaque directory of this layer, or a name that it removes, hides what lower
 * layers have there. */
static bool hidden(struct unpacking *k, const char *path)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash;

	for (;;) {
		_cleanup_close_ int fd = -EBADF;

		slash = strrchr(dir, '/');
		*(slash ? slash : dir) = '\0';
		fd = layer_open(k->u->dirfd, dir, O_PATH | O_DIRECTORY);
		if ((fd >= 0 && snapshotter->hides_all(fd)) || map_get(&k->removed, dir))
			return true;
		if (!*dir)
			return false;
	}
}

static void copy_xattrs(const char *from, const char *to)
{
	char names[65536], value[65536];
	ssize_t n = listxattr(from, names, sizeof(names)), len;

	for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1)
		if (!str_has_prefix(p, snapshotter->own_xattrs) &&
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
	_cleanup_close_ int fd =
		openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : snapshotter->hide_all(fd);
}

static int make_dir(int dirfd, const char *name, mode_t mode)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return mkdirat(dirfd, name, mode) < 0 ? -errno : 0;
}

/* --- walking --- */

static void remember_dir(struct unpacking *k, const char *canonical, const struct timespec *t)
{
	if (k->n_times == k->cap_times) {
		k->cap_times = k->cap_times ? k->cap_times * 2 : 256;
		k->times = xrealloc(k->times, k->cap_times * sizeof(*k->times));
	}
	strv_add(&k->dirs, canonical);
	k->times[k->n_times++] = *t;
}

/* Where a walk is. */
struct walk {
	struct unpacking *k;
	char *rest, *p; /* what is still to be walked, from p on */
	char *at;	/* canonical name of the directory */
	int fd;		/* the directory */
	unsigned links;
};

static int walk_to_root(struct walk *w)
{
	free(w->at);
	w->at = xstrdup("");
	fd_close(w->fd);
	w->fd = fcntl(w->k->u->dirfd, F_DUPFD_CLOEXEC, 3);
	return w->fd < 0 ? -errno : 0;
}

/* From the top again: a descriptor has no way up that nobody could move. */
static int walk_up(struct walk *w)
{
	char *slash = strrchr(w->at, '/');

	*(slash ? slash : w->at) = '\0';
	fd_close(w->fd);
	w->fd = layer_open(w->k->u->dirfd, w->at, O_RDONLY | O_DIRECTORY);
	return w->fd < 0 ? w->fd : 0;
}

static int walk_link(struct walk *w, int dirfd, const char *name)
{
	_cleanup_free_ char *target = NULL;
	char *longer;
	int r;

	if (++w->links > LAYERS_LINKS_MAX)
		return -ELOOP;
	r = fs_readlink(dirfd, name, &target);
	if (r < 0)
		return r;
	if (strlen(target) + strlen(w->p) > LAYERS_PATH_MAX)
		return -ENAMETOOLONG;
	longer = xasprintf("%s/%s", target, w->p);
	free(w->rest);
	w->p = w->rest = longer;
	return *target == '/' ? walk_to_root(w) : 0;
}

static int walk_into(struct walk *w, const char *name, char *next)
{
	int sub = openat(w->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (sub < 0) {
		int r = -errno;

		free(next);
		return r;
	}
	fd_close(w->fd);
	w->fd = sub;
	free(w->at);
	w->at = next;
	return 0;
}

/* A name that this layer does not have (yet): what the layers below say of it. */
static int walk_missing(struct walk *w, const char *name)
{
	_cleanup_free_ char *next = join(w->at, name);
	_cleanup_close_ int low = -EBADF;
	struct stat st = {0};
	int r = 0;

	if (!hidden(w->k, next) && !map_get(&w->k->removed, next))
		r = find_lower(w->k, next, &st, &low);
	if (r < 0 && r != -ENOENT)
		return r;
	if (S_ISLNK(st.st_mode))
		return walk_link(w, low, "");
	r = make_implicit(w->fd, name, S_ISDIR(st.st_mode) ? low : -EBADF, &st);
	if (r < 0)
		return r;
	close(r);
	if (S_ISDIR(st.st_mode))
		remember_dir(w->k, next, &st.st_mtim);
	return walk_into(w, name, TAKE_PTR(next));
}

static int walk_one(struct walk *w, const char *name)
{
	struct stat st;

	if (!*name || streq(name, "."))
		return 0;
	if (streq(name, ".."))
		return walk_up(w);
	if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? walk_missing(w, name) : -errno;
	if (S_ISLNK(st.st_mode))
		return walk_link(w, w->fd, name);
	return walk_into(w, name, join(w->at, name));
}

/*
 * Opens the directory `path` in the layer, made where it is missing; links are followed as in
 * a root.  *ret_name is its canonical name.
 */
static int walk(struct unpacking *k, const char *path, char **ret_name)
{
	struct walk w = {.k = k, .rest = xstrdup(path), .fd = -EBADF};
	int r = walk_to_root(&w);

	w.p = w.rest;
	while (r == 0 && *w.p) {
		size_t n = strcspn(w.p, "/");
		_cleanup_free_ char *name = xstrndup(w.p, n);

		w.p += n + (w.p[n] == '/');
		r = walk_one(&w, name);
	}
	free(w.rest);
	if (r < 0) {
		free(w.at);
		fd_close(w.fd);
		return r;
	}
	*ret_name = w.at;
	return w.fd;
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

		if (str_has_prefix(x->name, snapshotter->own_xattrs)) /* ours to say */
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

static int write_bytes(struct unpacking *k, int fd, uint64_t left, const struct tar_entry *t)
{
	while (left > 0) {
		const void *p;
		ssize_t n = stream_next(k->s, (size_t)MIN(left, (uint64_t)SIZE_MAX), &p, k->e);
		int r;

		if (n < 0)
			return (int)n;
		if (n == 0)
			return err_set(k->e, -EBADMSG, GRPC_DATA_LOSS,
				       "the layer ends in the middle of \"%s\"", t->path);
		r = fs_write_all(fd, p, (size_t)n);
		if (r < 0)
			return fail(k, r, "write", t->path);
		k->sum = content_sum(k->sum, p, (size_t)n);
		left -= (uint64_t)n;
		if (k->u->cancelled && k->u->cancelled())
			return err_set(k->e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	}
	return 0;
}

static int note_sum(struct unpacking *k, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	contents_note(&k->u->contents, st.st_ino, k->sum);
	return 0;
}

/* With `told` the recipe knows the file. */
static int write_content(struct unpacking *k, int fd, const struct tar_entry *t, bool told)
{
	int r = 0;

	if (!t->sparse) {
		k->sum = 0;
		if (told)
			recipe_content(k->u->recipe, 0, t->size);
		r = write_bytes(k, fd, t->size, t);
		return r < 0 ? r : note_sum(k, fd);
	}
	for (size_t i = 0; r == 0 && i < t->n_segments; i++) {
		const struct tar_segment *g = &t->segments[i];

		if (lseek(fd, (off_t)g->offset, SEEK_SET) < 0)
			return fail(k, -errno, "write", t->path);
		if (told && g->size)
			recipe_content(k->u->recipe, g->offset, g->size);
		r = write_bytes(k, fd, g->size, t);
	}
	if (r == 0 && ftruncate(fd, (off_t)t->real_size) < 0)
		return fail(k, -errno, "write", t->path);
	return r;
}

static int tell_recipe(struct unpacking *k, int fd, const char *name, bool *ret_told)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	path = join(k->parent, name);
	*ret_told = recipe_file(k->u->recipe, path, st.st_ino);
	return 0;
}

static int make_file(struct unpacking *k, const char *name, const struct tar_entry *t)
{
	_cleanup_close_ int fd = openat(k->parent_fd, name,
					O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool told = false;
	int r = 0;

	if (fd < 0)
		return fail(k, -errno, "make", t->path);
	k->u->bytes += t->size;
	if (k->u->bytes > FAULT_LIMIT("unpack.bytes", UNPACK_BYTES_MAX))
		return err_set(k->e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "the layer unpacks to more than %llu GiB",
			       (unsigned long long)(UNPACK_BYTES_MAX >> 30));
	if (k->u->recipe && t->size)
		r = tell_recipe(k, fd, name, &told);
	return r < 0 ? fail(k, r, "make", t->path) : write_content(k, fd, t, told);
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

	if (hidden(k, canonical) || map_get(&k->removed, canonical))
		return -ENOENT;
	r = find_lower(k, canonical, &st, &low);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", low);
	in = open(proc, O_RDONLY | O_CLOEXEC);
	out = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		return -errno;
	k->sum = 0;
	while (r == 0 && (n = read(in, buf, sizeof(buf))) > 0) {
		r = fs_write_all(out, buf, (size_t)n);
		k->sum = content_sum(k->sum, buf, (size_t)n);
	}
	if (r == 0)
		r = note_sum(k, out);
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

/* Takes the name over. */
static void mark(struct map *m, char *canonical)
{
	if (map_get(m, canonical))
		free(canonical);
	else
		map_put(m, canonical, canonical);
}

/* Whiteouts are about lower layers whatever comes before or after them: what they do to this
 * one is done at the end. */
static int whiteout(struct unpacking *k, const char *name)
{
	if (streq(name, OPAQUE))
		return snapshotter->hide_all(k->parent_fd);
	if (str_has_prefix(name, ".wh..wh."))
		return 0; /* what aufs left behind */
	name += strlen(WHITEOUT);
	if (!*name || streq(name, ".") || streq(name, ".."))
		return -EINVAL;
	mark(&k->removed, join(k->parent, name));
	return 0;
}

/* A name that was removed: nothing of it shows through a new directory; where lower layers
 * have none there is nothing to hide, and a whiteout would be seen in listings. */
static int remove_one(struct unpacking *k, const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup("");
	const char *name = slash ? slash + 1 : path;
	_cleanup_close_ int fd = layer_open(k->u->dirfd, dir, O_RDONLY | O_DIRECTORY), low = -EBADF;
	struct stat st, low_st;
	bool there;
	int r;

	if (fd < 0)
		return 0; /* replaced by a later entry */
	there = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && !S_ISDIR(st.st_mode))
		return 0;
	if (hidden(k, path))
		return 0;
	r = find_lower(k, path, &low_st, &low);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (there)
		return set_opaque(fd, name);
	return snapshotter->hide(fd, name);
}

/* What is removed without a whiteout's entry in the tar. */
static int mark_gone(struct unpacking *k)
{
	int r = 0;

	for (size_t i = 0; r == 0 && k->u->gone && i < k->u->gone->n; i++) {
		const char *path = k->u->gone->v[i], *name;

		r = enter_parent(k, path, &name);
		if (r == 0 && streq(name, "."))
			r = -EINVAL;
		if (r < 0)
			return fail(k, r, "remove", path);
		mark(&k->removed, join(k->parent, name));
	}
	return r;
}

static int remove_all(struct unpacking *k)
{
	const char *path;
	size_t pos = 0;
	int r = mark_gone(k);

	while (r == 0 && (path = map_next(&k->removed, &pos))) {
		r = remove_one(k, path);
		if (r < 0 && !k->e->errnum)
			r = fail(k, r, "remove", path);
	}
	return r;
}

static int keep_tree(struct unpacking *k, const char *name)
{
	_cleanup_free_ char *path = join(k->parent, name);

	return recipe_keep_tree(k->u->recipe, k->u->dirfd, path);
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
		r = keep_tree(k, name);
		if (r == 0)
			r = fs_remove_tree(k->parent_fd, name);
		forget_parent(k);
		return r < 0 ? r : 1; /* come again */
	}
	r = recipe_keep_file(k->u->recipe, k->parent_fd, name, &st);
	return r == 0 && unlinkat(k->parent_fd, name, 0) < 0 ? -errno : r;
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
	int r;

	if (!*t->path) {
		r = root_entry(k, t);
		return r < 0 ? fail(k, r, "set the root", "/") : 0;
	}
	r = enter_parent(k, t->path, &name);
	if (r == 0 && str_has_prefix(name, WHITEOUT)) {
		r = whiteout(k, name);
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
	if (t->type == '5') {
		_cleanup_free_ char *canonical = join(k->parent, name);

		remember_dir(k, canonical, &t->mtime);
	}
	return 0;
}

/* Last, because making what is inside changes them. */
static void set_dir_times(struct unpacking *k)
{
	for (size_t i = k->n_times; i-- > 0;) {
		int fd = layer_open(k->u->dirfd, k->dirs.v[i], O_RDONLY | O_DIRECTORY);

		if (fd < 0)
			continue; /* replaced by a later entry */
		futimens(fd, (struct timespec[]){k->times[i], k->times[i]});
		close(fd);
	}
}

static void free_names(struct map *m)
{
	size_t pos = 0;
	char *name;

	while ((name = map_next(m, &pos)))
		free(name);
	map_fini(m);
}

int unpack_layer(struct unpack *u, struct stream *s, struct err *e)
{
	struct unpacking k = {.u = u, .s = s, .e = e, .parent_fd = -EBADF};
	struct tar_entry t;
	int r;

	u->bytes = 0;
	while ((r = tar_next(s, &t, e)) > 0) {
		if (++k.entries > FAULT_LIMIT("unpack.entries", UNPACK_ENTRIES_MAX))
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
	forget_parent(&k);
	if (r == 0)
		r = remove_all(&k);
	forget_parent(&k);
	if (r == 0)
		set_dir_times(&k);
	free_names(&k.removed);
	strv_fini(&k.dirs);
	free(k.times);
	return r;
}
