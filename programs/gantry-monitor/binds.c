/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container's configuration finds ready-made in its bundle's MON_BINDS: mounts of the host
 * that its runtime could not make as they are to be, and images that it has as volumes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "binds.h"
#include "sys/userns.h"

static char *bind_path(const struct binds *k, unsigned n)
{
	return xasprintf("%s/" MON_BINDS "/%u", k->dir, n);
}

static int make_target(const char *path, int fd)
{
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (r < 0 || S_ISDIR(st.st_mode))
		return r < 0 ? r : fs_mkdir_p(AT_FDCWD, path, 0755);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : (close(fd), 0);
}

static int attach_at(const char *target, const char *source, const struct idmap *how, struct err *e)
{
	_cleanup_close_ int fd = idmap_clone(source, how, e);
	int r = fd < 0 ? fd : make_target(target, fd);

	if (r < 0)
		return fd < 0 ? r : err_errno(e, r, "make %s", target);
	return idmap_attach(fd, target, e);
}

/* A copy of the mount at `source`, put where the configuration has it. */
static int attach(struct binds *k, const char *source, const struct idmap *how, struct err *e)
{
	_cleanup_free_ char *target = bind_path(k, k->n);
	int r = attach_at(target, source, how, e);

	k->n += r == 0;
	return r;
}

static bool is_mapped(const struct ipc_in *b)
{
	return ipc_get_u64(b, MON_TAG_BIND_MAPPED, 0);
}

static int mount_host(struct binds *k, const struct ipc_in *b, struct err *e)
{
	const struct idmap how = {
		.userns = is_mapped(b) ? k->userns_fd : -1,
		.recursive = true,
		.set = ipc_get_u64(b, MON_TAG_BIND_SET, 0),
		.clear = ipc_get_u64(b, MON_TAG_BIND_CLEAR, 0),
		.deep = ipc_get_u64(b, MON_TAG_BIND_DEEP, 0),
	};
	const char *source = str_or_empty(ipc_get_str(b, MON_TAG_BIND_SOURCE));
	int r = attach(k, source, &how, e);

	return r < 0 ? err_wrap(e, "mount source %s", source) : 0;
}

/* --- images --- */

/* Links are followed as a process would that has the image as its root. */
static int open_part(const char *root, const char *path, struct err *e)
{
	_cleanup_close_ int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (dir < 0)
		return err_errno(e, -errno, "open %s", root);
	fd = fs_open_in_root(dir, *path ? path : ".", O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, fd, "open it in the image");
	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "look at it in the image");
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_invalid(e, "it is neither a directory nor a file in the image");
	return TAKE_FD(fd);
}

static int attach_part(struct binds *k, const struct ipc_in *b, const char *root, struct err *e)
{
	const struct idmap how = {
		.userns = -1, /* the layers' are mapped */
		.set = ipc_get_u64(b, MON_TAG_BIND_SET, 0),
		.clear = ipc_get_u64(b, MON_TAG_BIND_CLEAR, 0),
	};
	const char *part = str_or_empty(ipc_get_str(b, MON_TAG_BIND_SUB_PATH));
	_cleanup_close_ int fd = open_part(root, part, e);
	char path[64];

	if (fd < 0)
		return *part ? err_wrap(e, "image_sub_path \"%s\"", part) : fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return attach(k, path, &how, e);
}

/* The image is mounted whole, for as long as it takes to take the part of it that is wanted. */
static int mount_image(struct binds *k, const struct ipc_in *b, const char *name, struct err *e)
{
	_cleanup_free_ char *root = xasprintf("%s/image", k->dir);
	_cleanup_strv_ struct strv layers = STRV_NULL;
	struct snapshot s = *k->snapshot;
	struct ipc_field f;
	size_t pos = 0;
	int r = fs_mkdir_p(AT_FDCWD, root, 0755);

	if (r < 0)
		return err_errno(e, r, "make %s", root);
	while (ipc_next(b, &pos, &f))
		if (f.tag == MON_TAG_LAYER && ipc_field_str(&f))
			strv_add(&layers, ipc_field_str(&f));
	s.layers = &layers;
	s.map = is_mapped(b) ? k->snapshot->map : NULL;
	r = snapshotter->view(&s, root, e);
	FAULT_POINT("job.create.image");
	if (r == 0) {
		r = attach_part(k, b, root, e);
		umount2(root, MNT_DETACH);
	}
	/* The kubelet knows the error of an image by this word (k8s.io/cri-api/pkg/errors). */
	return r < 0 ? err_wrap(e, MON_IMAGE_ERROR ": image \"%s\"", name) : 0;
}

/* --- volumes of the image --- */

static char *volume_path(const struct binds *k, unsigned n)
{
	return xasprintf("%s/" MON_BINDS "/v%u", k->dir, n);
}

/* A directory that is not there, whoever's links lead to its parent: it is the pod's root's. */
static int make_in(const struct binds *k, int parent, const char *name)
{
	const struct snapshot_map *map = k->snapshot->map;
	_cleanup_close_ int fd = -EBADF;

	if (mkdirat(parent, name, 0755) < 0)
		return errno == EEXIST ? -ENOENT : -errno; /* a link that leads nowhere */
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0755) < 0 || (map && fchown(fd, map->uid, map->gid) < 0))
		return -errno;
	return 0;
}

/* Opens what is at the path in the root, and makes the directories to it that are missing. */
static int open_volume(const struct binds *k, int root, const char *path)
{
	_cleanup_close_ int at = fs_open_in_root(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

	for (size_t n = strspn(path, "/"); at >= 0 && path[n];) {
		size_t end = n + strcspn(path + n, "/");
		_cleanup_free_ char *so_far = xstrndup(path, end),
				    *name = xstrndup(path + n, end - n);
		int fd = fs_open_in_root(root, so_far, O_PATH | O_CLOEXEC, 0), r = 0;

		if (fd == -ENOENT) {
			r = make_in(k, at, name);
			fd = r < 0 ? r : fs_open_in_root(root, so_far, O_PATH | O_CLOEXEC, 0);
		}
		close(at);
		at = fd;
		n = end + strspn(path + end, "/");
	}
	return TAKE_FD(at);
}

static int mount_volume(struct binds *k, int fd, struct err *e)
{
	const struct idmap how = {.userns = -1};
	_cleanup_free_ char *target = volume_path(k, k->n_volumes),
			    *dir = xasprintf("%s/" MON_BINDS, k->dir);
	char source[64];
	int r = fs_mkdir_p(AT_FDCWD, dir, 0755);

	if (r < 0)
		return err_errno(e, r, "make %s", dir);
	snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
	r = attach_at(target, source, &how, e);
	k->n_volumes += r == 0;
	return r;
}

int binds_make_volumes(struct binds *k, const char *rootfs, struct err *e)
{
	bool mounted = ipc_get_u64(k->create, MON_TAG_VOLUMES_MOUNTED, 0);
	_cleanup_close_ int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct ipc_field f;
	size_t pos = 0;
	int r = root < 0 ? err_errno(e, -errno, "open %s", rootfs) : 0;

	while (r == 0 && ipc_next(k->create, &pos, &f)) {
		const char *path = f.tag == MON_TAG_VOLUME ? ipc_field_str(&f) : NULL;
		_cleanup_close_ int fd = path ? open_volume(k, root, path) : -EBADF;

		if (path && fd < 0)
			r = err_precondition(e, "the image's volume \"%s\" cannot be made: %s",
					     path, strerror(-fd));
		else if (path && mounted)
			r = mount_volume(k, fd, e);
	}
	return r;
}

int binds_mount(struct binds *k, struct err *e)
{
	_cleanup_free_ char *dir = xasprintf("%s/" MON_BINDS, k->dir);
	struct ipc_field f;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && ipc_next(k->create, &pos, &f)) {
		struct ipc_in b = ipc_field_nested(&f);
		const char *image;

		if (f.tag != MON_TAG_BIND)
			continue;
		if (!k->n) {
			r = fs_mkdir_p(AT_FDCWD, dir, 0755);
			if (r < 0)
				return err_errno(e, r, "make %s", dir);
		}
		image = ipc_get_str(&b, MON_TAG_BIND_IMAGE);
		r = image ? mount_image(k, &b, image, e) : mount_host(k, &b, e);
	}
	return r;
}

void binds_unmount(struct binds *k)
{
	_cleanup_free_ char *root = xasprintf("%s/image", k->dir);

	umount2(root, MNT_DETACH); /* as a rule it is none */
	while (k->n_volumes > 0) {
		_cleanup_free_ char *path = volume_path(k, --k->n_volumes);

		umount2(path, MNT_DETACH);
	}
	while (k->n > 0) {
		_cleanup_free_ char *path = bind_path(k, --k->n);

		umount2(path, MNT_DETACH);
	}
}
