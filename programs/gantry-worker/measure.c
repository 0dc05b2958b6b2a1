/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring trees: see measure.h. */
#include "measure.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "worker.h"

static bool put(uint64_t *v, size_t cap, uint64_t ino)
{
	size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15)) & (cap - 1);

	while (v[i] && v[i] != ino)
		i = (i + 1) & (cap - 1);
	if (v[i])
		return false;
	v[i] = ino;
	return true;
}

/* True the first time. */
static bool see(struct measure_seen *s, uint64_t ino)
{
	if (s->n * 2 >= s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		uint64_t *v = xcalloc(cap, sizeof(*v));

		for (size_t i = 0; i < s->cap; i++)
			if (s->v[i])
				put(v, cap, s->v[i]);
		free(s->v);
		s->v = v;
		s->cap = cap;
	}
	if (!put(s->v, s->cap, ino))
		return false;
	s->n++;
	return true;
}

void measure_add(const struct stat *st, struct measure_seen *seen, struct measure *to)
{
	if (st->st_nlink > 1 && !S_ISDIR(st->st_mode) && !see(seen, st->st_ino))
		return;
	to->bytes += (uint64_t)st->st_blocks * 512;
	to->inodes++;
}

void measure_seen_fini(struct measure_seen *seen)
{
	free(seen->v);
	*seen = (struct measure_seen){0};
}

/* Takes the descriptor over. */
static void walk(int fd, dev_t dev, struct measure_seen *seen, struct measure *to, unsigned depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;

	if (!d) {
		close(fd);
		return;
	}
	while ((de = readdir(d)) && !worker_cancelled()) {
		struct stat st;
		int sub;

		if (streq(de->d_name, ".") || streq(de->d_name, "..") ||
		    fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
			continue;
		measure_add(&st, seen, to);
		if (!S_ISDIR(st.st_mode) || depth >= MEASURE_DEPTH_MAX)
			continue;
		sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			walk(sub, dev, seen, to, depth + 1);
	}
	closedir(d);
}

void measure_dir(int dirfd, struct measure *to)
{
	measure_tree(dirfd, ".", to);
}

void measure_tree(int at, const char *name, struct measure *to)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct measure_seen seen = {0};
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0) {
		measure_add(&st, &seen, to);
		walk(fd, st.st_dev, &seen, to, 0);
	} else {
		close(fd);
	}
	measure_seen_fini(&seen);
}
