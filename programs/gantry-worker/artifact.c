/* SPDX-License-Identifier: Apache-2.0 */
/* OCI artifacts: see artifact.h. */
#include "artifact.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "unpack.h"

static bool is_archive(const char *media_type)
{
	const char *p = strstr(media_type, ".tar");

	return p && (!p[4] || p[4] == '+' || p[4] == '.');
}

const char *artifact_file(const struct descriptor *d)
{
	if (d->unpack)
		return NULL;
	if (!str_empty(d->title))
		return d->title;
	return is_archive(d->media_type) ? NULL : d->digest + strlen("sha256:");
}

void artifact_layer_name(const struct descriptor *d, char ret[33])
{
	const char *file = artifact_file(d);
	_cleanup_free_ char *text =
		file ? xasprintf("gantry artifact file\n%s\n%s", d->digest, file)
		     : xasprintf("gantry artifact archive\n%s", d->digest);
	char id[72];

	digest_of(text, strlen(text), id);
	chain_name(id, ret);
}

static bool title_valid(const char *s)
{
	if (strlen(s) > ARTIFACT_TITLE_MAX || streq(s, ".") || streq(s, ".."))
		return false;
	for (; *s; s++)
		if (*s == '/' || (unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

/* `seen`: by file, or by digest of what is unpacked. */
static int check_blob(const struct descriptor *d, struct map *seen, uint64_t *total, struct err *e)
{
	const char *file = artifact_file(d), *what = file ? file : d->digest;

	if (file && !title_valid(file))
		return err_invalid(e,
				   "image manifest: the title \"%.300s\" of blob %s names no file",
				   file, d->digest);
	if (map_put(seen, what, seen))
		return err_invalid(e, "image manifest: two blobs would be \"%s\"", what);
	*total += d->size;
	if (d->size > UNPACK_BYTES_MAX || *total > ARTIFACT_BYTES_MAX)
		return err_invalid(e,
				   "image manifest: blob %s of %llu bytes: at most %llu GiB are "
				   "possible, %llu in all",
				   d->digest, (unsigned long long)d->size,
				   (unsigned long long)(UNPACK_BYTES_MAX >> 30),
				   (unsigned long long)(ARTIFACT_BYTES_MAX >> 30));
	return 0;
}

int artifact_check(const struct manifest *m, struct err *e)
{
	struct map seen = MAP_NULL;
	uint64_t total = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_layers; i++)
		r = check_blob(&m->layers[i], &seen, &total, e);
	map_fini(&seen);
	return r;
}

bool artifact_layers_same(const struct manifest *m, const struct strv *names)
{
	char name[33];

	if (names->n != m->n_layers)
		return false;
	for (size_t i = 0; i < m->n_layers; i++) {
		artifact_layer_name(&m->layers[i], name);
		if (!streq(names->v[names->n - 1 - i], name))
			return false;
	}
	return true;
}

int artifact_write(int dirfd, const char *name, struct stream *s, struct contents *contents,
		   uint64_t *ret_bytes, struct err *e)
{
	_cleanup_close_ int fd =
		openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	uint64_t sum = 0;
	const void *p;
	struct stat st;
	ssize_t n = 0;
	int r = fd < 0 || fchmod(fd, 0644) < 0 ? -errno : 0;

	*ret_bytes = 0;
	while (r == 0 && (n = stream_next(s, SIZE_MAX, &p, e)) > 0) {
		r = fs_write_all(fd, p, (size_t)n);
		sum = content_sum(sum, p, (size_t)n);
		*ret_bytes += (uint64_t)n;
	}
	if (r == 0 && n < 0)
		return (int)n;
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(e, r, "write the file \"%s\"", name);
	contents_note(contents, st.st_ino, sum);
	return 0;
}
