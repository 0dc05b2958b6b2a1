/* SPDX-License-Identifier: Apache-2.0 */
/* What a later entry of a layer replaces: the recipe keeps what files had.  See recipe.h. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "layers.h"
#include "recipe.h"

int recipe_keep_file(struct recipe_writer *w, int dirfd, const char *name, const struct stat *st)
{
	_cleanup_close_ int fd = -EBADF;

	if (!w || !S_ISREG(st->st_mode) || !recipe_knows(w, st->st_ino))
		return 0;
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : recipe_keep(w, fd, st->st_ino);
}

static int open_dir(int layer, const char *path, DIR **ret)
{
	int fd = layer_open(layer, path, O_RDONLY | O_DIRECTORY);

	*ret = fd < 0 ? NULL : fdopendir(fd);
	if (*ret)
		return 0;
	return fd < 0 ? fd : (fd_close(fd), -errno);
}

/* The files of one directory; those in it are added to `dirs`. */
static int keep_dir(struct recipe_writer *w, int layer, const char *path, struct strv *dirs)
{
	struct dirent *de;
	DIR *d;
	int r = open_dir(layer, path, &d);

	if (r < 0) /* too long a path: nor has the recipe anything that is in there */
		return r == -ENAMETOOLONG ? 0 : r;
	while (r == 0 && (errno = 0, de = readdir(d))) {
		struct stat st;

		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		else if (S_ISDIR(st.st_mode))
			strv_addf(dirs, "%s/%s", path, de->d_name);
		else
			r = recipe_keep_file(w, dirfd(d), de->d_name, &st);
	}
	r = r == 0 ? -errno : r;
	closedir(d);
	return r;
}

int recipe_keep_tree(struct recipe_writer *w, int layer, const char *path)
{
	_cleanup_strv_ struct strv dirs = STRV_NULL;
	int r = 0;

	if (!w)
		return 0;
	strv_add(&dirs, path);
	while (r == 0 && dirs.n > 0) {
		_cleanup_free_ char *dir = dirs.v[--dirs.n];

		dirs.v[dirs.n] = NULL;
		r = keep_dir(w, layer, dir, &dirs);
	}
	return r;
}
