/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into layers: see layers.h. */
#include "layers.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "snapshot/snapshot.h"

int layer_open(int dirfd, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					  RESOLVE_NO_MAGICLINKS};
	long fd = syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Whether a parent of the name, as this layer has it, hides what is further down. */
static bool hides(int layer, const char *path)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash;

	while ((slash = strrchr(dir, '/'))) {
		_cleanup_close_ int fd = -EBADF;
		struct stat st;

		*slash = '\0';
		fd = layer_open(layer, dir, O_PATH);
		if (fd < 0)
			continue;
		if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode) || snapshotter->hides_all(fd))
			return true;
	}
	return false;
}

int layers_find(const struct layers *l, const char *path, struct stat *ret_st, int *ret_fd)
{
	for (size_t i = 0; i < l->n; i++) {
		_cleanup_close_ int fd = layer_open(l->fds[i], path, O_PATH);
		struct stat st;

		if (fd >= 0) {
			if (fstat(fd, &st) < 0 || snapshotter->hides(&st))
				return -ENOENT;
			*ret_st = st;
			*ret_fd = TAKE_FD(fd);
			return 0;
		}
		if (hides(l->fds[i], path))
			return -ENOENT;
	}
	return -ENOENT;
}

/* The name of what is above. */
static void go_up(char *at)
{
	char *slash = strrchr(at, '/');

	*(slash ? slash : at) = '\0';
}

int layers_resolve(const struct layers *l, const char *path, struct stat *ret_st, int *ret_fd)
{
	_cleanup_free_ char *rest = xstrdup(path), *at = xstrdup("");
	unsigned links = 0;
	char *p = rest;

	for (;;) {
		_cleanup_free_ char *name = NULL, *next = NULL, *target = NULL;
		_cleanup_close_ int fd = -EBADF;
		struct stat st;
		size_t n;
		int r;

		p += strspn(p, "/");
		if (!*p)
			return layers_find(l, at, ret_st, ret_fd);
		n = strcspn(p, "/");
		name = xstrndup(p, n);
		p += n + strspn(p + n, "/");
		if (streq(name, "."))
			continue;
		if (streq(name, "..")) {
			go_up(at);
			continue;
		}
		next = *at ? xasprintf("%s/%s", at, name) : xstrdup(name);
		r = layers_find(l, next, &st, &fd);
		if (r < 0)
			return r;
		if (S_ISLNK(st.st_mode)) {
			char *longer;

			if (++links > LAYERS_LINKS_MAX)
				return -ELOOP;
			r = fs_readlink(fd, "", &target);
			if (r < 0)
				return r;
			if (strlen(target) + strlen(p) > LAYERS_PATH_MAX)
				return -ENAMETOOLONG;
			longer = xasprintf("%s/%s", target, p);
			free(rest);
			p = rest = longer;
			if (*target == '/')
				*at = '\0';
			continue;
		}
		if (*p && !S_ISDIR(st.st_mode))
			return -ENOTDIR;
		free(at);
		at = TAKE_PTR(next);
	}
}
