/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots by overlayfs (Documentation/filesystems/overlayfs.rst).
 *
 * mount(2) takes its options in one page, so the layers are named relative to their
 * directory: 32 characters each leave room for more than a hundred.
 */
#include <sys/mount.h>

#include "base/fs.h"
#include "base/mem.h"
#include "snapshot/snapshot.h"

#include <fcntl.h>

#define OVERLAY_OPTIONS_MAX 4095 /* a page, less its NUL */

static int overlay_prepare(const struct snapshot *s, struct err *e)
{
	static const char *const dirs[] = {"upper", "work", "empty"};
	int r = fs_mkdir_p(AT_FDCWD, s->writable, 0710);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *p = xasprintf("%s/%s", s->writable, dirs[i]);

		r = fs_mkdir_p(AT_FDCWD, p, 0755);
	}
	return r < 0 ? err_errno(e, r, "make the writable layer %s", s->writable) : 0;
}

static int overlay_mount(const struct snapshot *s, const char *target, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (chdir(s->layers_dir) < 0)
		return err_errno(e, -errno, "enter %s", s->layers_dir);
	strbuf_adds(&b, "lowerdir=");
	for (size_t i = 0; i < s->layers->n; i++)
		strbuf_addf(&b, "%s%s", i ? ":" : "", s->layers->v[i]);
	if (!s->layers->n) /* an image of no layers is an empty root */
		strbuf_addf(&b, "%s/empty", s->writable);
	strbuf_addf(&b, ",upperdir=%s/upper,workdir=%s/work", s->writable, s->writable);
	if (b.len > OVERLAY_OPTIONS_MAX)
		return err_set(e, -E2BIG, GRPC_RESOURCE_EXHAUSTED,
			       "the image has %zu layers: their overlay needs %zu bytes of mount "
			       "options, %d are possible",
			       s->layers->n, b.len, OVERLAY_OPTIONS_MAX);
	if (mount("overlay", target, "overlay", 0, b.s) < 0)
		return err_errno(e, -errno, "mount the overlay of %zu layers on %s", s->layers->n,
				 target);
	return 0;
}

static int overlay_remove(const struct snapshot *s, struct err *e)
{
	int r = fs_remove_tree(AT_FDCWD, s->writable);

	return r < 0 ? err_errno(e, r, "remove the writable layer %s", s->writable) : 0;
}

const struct snapshot_ops snapshot_overlay = {
	.name = "overlay",
	.prepare = overlay_prepare,
	.mount = overlay_mount,
	.remove = overlay_remove,
};
