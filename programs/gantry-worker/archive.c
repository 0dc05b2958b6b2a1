/* SPDX-License-Identifier: Apache-2.0 */
/* Members of archives: see archive.h. */
#include "archive.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stream.h"
#include "tar.h"
#include "worker.h"

#define SYMLINKS_MAX 8 /* followed for one member */

struct member {
	char *path, *link; /* link: a symbolic or hard one, resolved against its directory */
	uint64_t offset, size;
};

static char *beside(const char *path, const char *link, bool absolute)
{
	const char *slash = absolute ? NULL : strrchr(path, '/');
	_cleanup_free_ char *all =
		slash ? xasprintf("%.*s/%s", (int)(slash - path), path, link) : xstrdup(link);
	struct strv parts = STRV_NULL;
	struct strbuf b = STRBUF_NULL;
	char *save = NULL;

	for (char *p = strtok_r(all, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		if (streq(p, "..") && parts.n)
			free(parts.v[--parts.n]);
		else if (!streq(p, ".") && !streq(p, ".."))
			strv_add(&parts, p);
	}
	for (size_t i = 0; i < parts.n; i++)
		strbuf_addf(&b, "%s%s", i ? "/" : "", parts.v[i]);
	strv_fini(&parts);
	return strbuf_take(&b);
}

static int read_members(struct archive *a, struct stream *s, struct err *e)
{
	struct tar_entry t;
	int r;

	while ((r = tar_next(s, &t, e)) > 0) {
		struct member *m, *old;

		r = worker_check(e);
		if (r == 0 && a->members.n >= ARCHIVE_MEMBERS_MAX)
			r = err_invalid(e, "the archive has more than %d members",
					ARCHIVE_MEMBERS_MAX);
		if (r == 0 && t.sparse)
			r = err_invalid(e, "\"%.200s\" is a sparse file, which cannot be read here",
					t.path);
		if (r < 0) {
			tar_entry_fini(&t);
			return r;
		}
		if (t.type == '0' || t.type == '1' || t.type == '2') {
			m = xcalloc(1, sizeof(*m));
			m->offset = stream_offset(s);
			m->size = t.size;
			m->link = t.type == '0' ? NULL : beside(t.path, t.link, t.type == '1');
			m->path = TAKE_PTR(t.path);
			old = map_put(&a->members, m->path, m);
			if (old) {
				free(old->path);
				free(old->link);
				free(old);
			}
		}
		r = tar_data_done(s, &t, t.size, e);
		tar_entry_fini(&t);
		if (r < 0)
			return r;
	}
	return r;
}

/* The archive's bytes without their compression, in a file of ours. */
static int inflate(struct store *st, struct stream *s, int *ret, struct err *e)
{
	_cleanup_close_ int fd = store_temporary(st, e);
	const void *p;
	ssize_t n;

	if (fd < 0)
		return fd;
	while ((n = stream_next(s, SIZE_MAX, &p, e)) > 0) {
		int r = fs_write_all(fd, p, (size_t)n);

		if (r < 0)
			return err_errno(e, r, "write the archive's content");
		r = worker_check(e);
		if (r < 0)
			return r;
	}
	if (n < 0)
		return (int)n;
	lseek(fd, 0, SEEK_SET);
	*ret = TAKE_FD(fd);
	return 0;
}

int archive_open(struct store *st, const char *path, struct archive *ret, struct err *e)
{
	struct archive a = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
	struct stream *s;
	struct stat sb;
	int r;

	*ret = a;
	if (a.fd < 0 || fstat(a.fd, &sb) < 0)
		return err_errno(e, -errno, "open %s", path);
	ret->is_dir = S_ISDIR(sb.st_mode);
	if (ret->is_dir)
		return 0;
	if (!S_ISREG(sb.st_mode))
		return err_invalid(e, "%s is neither a file nor a directory", path);
	r = stream_open(ret->fd, UINT64_MAX, false, &s, e);
	if (r == 0 && !stream_is_plain(s)) {
		int fd = -EBADF;

		r = inflate(st, s, &fd, e);
		stream_close(s);
		s = NULL;
		if (r == 0) {
			close(ret->fd);
			ret->fd = fd;
			r = stream_open(fd, UINT64_MAX, false, &s, e);
		}
	}
	if (r == 0)
		r = read_members(ret, s, e);
	stream_close(s);
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

void archive_close(struct archive *a)
{
	struct member *m;
	size_t pos = 0;

	while ((m = map_next(&a->members, &pos))) {
		free(m->path);
		free(m->link);
		free(m);
	}
	map_fini(&a->members);
	fd_close(a->fd);
}

int member_open(struct archive *a, const char *path, uint64_t *ret_size, struct err *e)
{
	const struct member *m;
	char proc[64];
	int fd;

	if (a->is_dir) {
		struct stat st;

		fd = fs_open_in_root(a->fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
		if (fd < 0)
			return err_errno(e, fd, "open %s of the layout", path);
		if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
			close(fd);
			return err_invalid(e, "%s of the layout is no file", path);
		}
		*ret_size = (uint64_t)st.st_size;
		return fd;
	}
	m = map_get(&a->members, path);
	for (unsigned i = 0; m && m->link; i++)
		m = i < SYMLINKS_MAX ? map_get(&a->members, m->link) : NULL;
	if (!m)
		return err_not_found(e, "the archive has no \"%s\"", path);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", a->fd);
	fd = open(proc, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || lseek(fd, (off_t)m->offset, SEEK_SET) < 0) {
		fd_close(fd);
		return err_errno(e, -errno, "read the archive");
	}
	*ret_size = m->size;
	return fd;
}

int member_read(struct archive *a, const char *path, size_t max, struct strbuf *ret, struct err *e)
{
	uint64_t size;
	_cleanup_close_ int fd = member_open(a, path, &size, e);
	ssize_t n;

	if (fd < 0)
		return fd;
	if (size > max)
		return err_invalid(e, "\"%s\" has %llu bytes, at most %zu are possible", path,
				   (unsigned long long)size, max);
	while (ret->len < size) {
		n = read(fd, strbuf_reserve(ret, size - ret->len), size - ret->len);
		if (n <= 0)
			return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "\"%s\" ends too early", path);
		ret->len += (size_t)n;
	}
	strbuf_reserve(ret, 0)[0] = '\0';
	return 0;
}

bool member_there(struct archive *a, const char *path)
{
	uint64_t size;
	int fd = member_open(a, path, &size, NULL);

	fd_close(fd);
	return fd >= 0;
}

void archive_list(const struct archive *a, const char *prefix, struct strv *to)
{
	const struct member *m;
	size_t pos = 0;

	while ((m = map_next(&a->members, &pos)))
		if (!m->link && str_has_prefix(m->path, prefix))
			strv_add(to, m->path + strlen(prefix));
}
