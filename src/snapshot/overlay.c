/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots by overlayfs (Documentation/filesystems/overlayfs.rst).
 *
 * mount(2) takes its options in one page, so the layers are named relative to their
 * directory: 32 characters each leave room for more than a hundred.  Where that is not enough
 * they are named by open descriptors, relative to /proc/self/fd.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs.h"
#include "base/mem.h"
#include "snapshot/quota.h"
#include "snapshot/snapshot.h"
#include "sys/userns.h"

#define OVERLAY_OPTIONS_MAX 4095 /* a page, less its NUL */

/* `upper` and `work` must be of one project, or a file could not be renamed from one to the other. */
static void count(const char *writable)
{
	_cleanup_close_ int fd = open(writable, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *name = strrchr(writable, '/');

	if (fd >= 0)
		quota_begin(fd, name ? name + 1 : writable);
}

static int overlay_prepare(const struct snapshot *s, struct err *e)
{
	static const char *const dirs[] = {"upper", "work", "empty"};
	int r = fs_mkdir_p(AT_FDCWD, s->writable, 0710);

	if (r == 0)
		count(s->writable);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *p = xasprintf("%s/%s", s->writable, dirs[i]);

		r = fs_mkdir_p(AT_FDCWD, p, 0755);
		if (r == 0 && s->map && chown(p, s->map->uid, s->map->gid) < 0)
			r = -errno;
	}
	return r < 0 ? err_errno(e, r, "make the writable layer %s", s->writable) : 0;
}

/* Without a writable layer an overlay wants two others at least: the empty one is always there. */
static void print_options(const struct snapshot *s, const struct strv *lower, bool view,
			  struct strbuf *to)
{
	strbuf_reset(to);
	strbuf_adds(to, "lowerdir=");
	for (size_t i = 0; i < lower->n; i++)
		strbuf_addf(to, "%s%s", i ? ":" : "", lower->v[i]);
	if (!lower->n || view) /* an image of no layers is an empty root */
		strbuf_addf(to, "%s%s/empty", lower->n ? ":" : "", s->writable);
	if (!view)
		strbuf_addf(to, ",upperdir=%s/upper,workdir=%s/work", s->writable, s->writable);
}

/* The layers as numbers of descriptors, which stay open in the job that mounts. */
static int open_layers(const struct snapshot *s, struct strv *ret, struct err *e)
{
	for (size_t i = 0; i < s->layers->n; i++) {
		int fd = open(s->layers->v[i], O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return err_errno(e, -errno, "open the layer %s/%s", s->layers_dir,
					 s->layers->v[i]);
		strv_addf(ret, "%d", fd);
	}
	return chdir("/proc/self/fd") < 0 ? err_errno(e, -errno, "enter /proc/self/fd") : 0;
}

/* Each layer as a mount of its own with its ids mapped.  They are stacked on one directory: an
 * overlay takes its layers from mounts of the caller's namespace only (before Linux 6.15). */
static int map_layers(const struct snapshot *s, struct strv *ret, struct err *e)
{
	const struct idmap how = {.userns = s->map->userns};

	for (size_t i = 0; i < s->layers->n; i++) {
		int fd = idmap_clone(s->layers->v[i], &how, e), r;

		if (fd < 0)
			return fd;
		r = idmap_attach(fd, s->map->attach, e);
		if (r < 0) {
			close(fd);
			return r;
		}
		strv_addf(ret, "%d", fd);
	}
	return chdir("/proc/self/fd") < 0 ? err_errno(e, -errno, "enter /proc/self/fd") : 0;
}

/* The lowest of the stack, and with it all that are on it; the overlay has its own copies. */
static void unmap_layers(const struct strv *fds)
{
	_cleanup_free_ char *lowest = fds->n ? xasprintf("/proc/self/fd/%s", fds->v[0]) : NULL;

	if (lowest)
		umount2(lowest, MNT_DETACH);
}

static void close_layers(struct strv *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		close(atoi(fds->v[i]));
	strv_fini(fds);
}

static int mount_layers(const struct snapshot *s, bool view, const char *target, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct strv fds = STRV_NULL;
	int r = 0;

	if (chdir(s->layers_dir) < 0)
		return err_errno(e, -errno, "enter %s", s->layers_dir);
	print_options(s, s->layers, view, &b);
	if (s->map || b.len > OVERLAY_OPTIONS_MAX) {
		r = s->map ? map_layers(s, &fds, e) : open_layers(s, &fds, e);
		print_options(s, &fds, view, &b);
	}
	if (r == 0 && b.len > OVERLAY_OPTIONS_MAX)
		r = err_set(e, -E2BIG, GRPC_RESOURCE_EXHAUSTED,
			    "the image has %zu layers: their overlay needs %zu bytes of mount "
			    "options, %d are possible",
			    s->layers->n, b.len, OVERLAY_OPTIONS_MAX);
	if (r == 0 && mount("overlay", target, "overlay", view ? MS_RDONLY : 0, b.s) < 0)
		r = err_errno(e, -errno, "mount the overlay of %zu layers on %s", s->layers->n,
			      target);
	if (s->map)
		unmap_layers(&fds);
	close_layers(&fds);
	return r;
}

static int overlay_mount(const struct snapshot *s, const char *target, struct err *e)
{
	return mount_layers(s, false, target, e);
}

static int overlay_view(const struct snapshot *s, const char *target, struct err *e)
{
	_cleanup_free_ char *empty = xasprintf("%s/empty", s->writable);

	if (s->layers->n)
		return mount_layers(s, true, target, e);
	if (mount(empty, target, NULL, MS_BIND, NULL) < 0)
		return err_errno(e, -errno, "mount %s on %s", empty, target);
	return 0;
}

static int overlay_remove(const struct snapshot *s, struct err *e)
{
	int r = fs_remove_tree(AT_FDCWD, s->writable);

	return r < 0 ? err_errno(e, r, "remove the writable layer %s", s->writable) : 0;
}

/* --- what layers take away --- */

#define OPAQUE "trusted.overlay.opaque"

static int overlay_hide(int dirfd, const char *name)
{
	return mknodat(dirfd, name, S_IFCHR | 0600, makedev(0, 0)) < 0 ? -errno : 0;
}

static int overlay_hide_all(int dirfd)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dirfd);
	return setxattr(proc, OPAQUE, "y", 1, 0) < 0 ? -errno : 0;
}

static bool overlay_hides(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool overlay_hides_all(int dirfd)
{
	char proc[64], v[2];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dirfd);
	return getxattr(proc, OPAQUE, v, sizeof(v)) == 1 && *v == 'y';
}

const struct snapshot_ops snapshot_overlay = {
	.name = "overlay",
	.prepare = overlay_prepare,
	.mount = overlay_mount,
	.view = overlay_view,
	.remove = overlay_remove,
	.usage = quota_usage,
	.written = "upper",
	.hide = overlay_hide,
	.hide_all = overlay_hide_all,
	.hides = overlay_hides,
	.hides_all = overlay_hides_all,
	.own_xattrs = "trusted.overlay.",
};
