/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint, from an archive or from the layers of an image: WORKER_CHECKPOINT says what it is of,
 * WORKER_RESTORE puts what is in it into a container's writable layer, which is there.
 *
 * Of CRIU's images only plain files are taken, into a directory of ours: CRIU, which has all rights,
 * follows links.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "archive.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "checkpoint.h"
#include "layers.h"
#include "snapshot/snapshot.h"
#include "stream.h"
#include "unpack.h"
#include "worker.h"

#define IMAGES "checkpoint" /* CRIU's, in an archive and below WORKER_RESTORE_DIR */
#define RESTORE_IMAGES_MAX ARCHIVE_MEMBERS_MAX
#define RESTORE_BYTES_MAX (UINT64_C(256) << 30) /* of CRIU's images */
#define COPY_BYTES (256u << 10)

struct restoring {
	struct store store;
	struct archive archive; /* unless it is an image */
	bool is_image;
	struct layers from, base; /* the image's layers; those below the writable one */
	int from_fds[IMAGE_LAYERS_MAX], base_fds[IMAGE_LAYERS_MAX];
};

/* --- where it is --- */

static int open_layers(struct restoring *k, const struct ipc_in *in, uint16_t tag, int *fds,
		       struct layers *ret, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0;

	ret->fds = fds;
	while (ipc_next(in, &pos, &f)) {
		const char *name = f.tag == tag ? ipc_field_str(&f) : NULL;

		if (!name)
			continue;
		if (ret->n >= IMAGE_LAYERS_MAX || strchr(name, '/') || *name == '.')
			return err_invalid(e, "layer \"%s\"", name);
		fds[ret->n] = store_open_layer(&k->store, name);
		if (fds[ret->n] < 0)
			return err_errno(e, fds[ret->n], "open the layer %s", name);
		ret->n++;
	}
	return 0;
}

static int begin(struct restoring *k, const struct ipc_in *in, struct err *e)
{
	const char *path = ipc_get_str(in, WORKER_TAG_PATH);
	int r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &k->store, e);

	k->archive.fd = -EBADF;
	if (r < 0)
		return r;
	r = open_layers(k, in, WORKER_TAG_LOWER, k->base_fds, &k->base, e);
	k->is_image = !path;
	if (r == 0 && k->is_image)
		return open_layers(k, in, WORKER_TAG_LAYER, k->from_fds, &k->from, e);
	if (r == 0)
		r = archive_open(&k->store, path, &k->archive, e);
	if (r == 0 && k->archive.is_dir)
		r = err_invalid(e, "%s is a directory, no archive of a checkpoint", path);
	return r;
}

static void end(struct restoring *k)
{
	for (size_t i = 0; i < k->from.n; i++)
		close(k->from_fds[i]);
	for (size_t i = 0; i < k->base.n; i++)
		close(k->base_fds[i]);
	if (!k->is_image)
		archive_close(&k->archive);
	store_close(&k->store);
}

/* Its bytes, from the descriptor's offset on; owned.  -ENOENT: not there. */
static int part_open(struct restoring *k, const char *name, uint64_t *ret_size, struct err *e)
{
	_cleanup_close_ int found = -EBADF;
	char proc[64];
	struct stat st;
	int fd;

	if (!k->is_image)
		return member_open(&k->archive, name, ret_size, e);
	fd = layers_find(&k->from, name, &st, &found);
	if (fd < 0)
		return err_errno(e, fd, "\"%s\" of the image", name);
	if (!S_ISREG(st.st_mode))
		return err_invalid(e, "\"%s\" of the image is no plain file", name);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", found);
	fd = open(proc, O_RDONLY | O_CLOEXEC);
	*ret_size = (uint64_t)st.st_size;
	return fd < 0 ? err_errno(e, -errno, "open \"%s\" of the image", name) : fd;
}

static int part_read(struct restoring *k, const char *name, size_t max, struct strbuf *ret,
		     struct err *e)
{
	uint64_t size;
	_cleanup_close_ int fd = part_open(k, name, &size, e);

	if (fd < 0)
		return fd;
	if (size > max)
		return err_invalid(e, "\"%s\" has %llu bytes, at most %zu are possible", name,
				   (unsigned long long)size, max);
	while (ret->len < size) {
		ssize_t n = read(fd, strbuf_reserve(ret, size - ret->len), size - ret->len);

		if (n <= 0)
			return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "\"%s\" ends too early", name);
		ret->len += (size_t)n;
	}
	strbuf_reserve(ret, 0)[0] = '\0';
	return 0;
}

static int part_head(struct restoring *k, const char *name, void *buf, size_t *ret_n, struct err *e)
{
	uint64_t size;
	_cleanup_close_ int fd = part_open(k, name, &size, e);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, (size_t)MIN(size, (uint64_t)CHECKPOINT_IMAGE_HEAD));

	if (fd < 0)
		return fd;
	*ret_n = n < 0 ? 0 : (size_t)n;
	return n < 0 ? err_errno(e, -errno, "read \"%s\"", name) : 0;
}

static int list_directory(int layer, struct strv *to, struct err *e)
{
	int fd = layer_open(layer, IMAGES, O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!d) {
		fd_close(fd);
		return 0; /* this layer has none */
	}
	while (r == 0 && (de = readdir(d))) {
		if (to->n >= RESTORE_IMAGES_MAX)
			r = err_invalid(e, "it has more than %d images", RESTORE_IMAGES_MAX);
		else if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
			strv_add(to, de->d_name);
	}
	closedir(d);
	return r;
}

/* Names of CRIU's images; of an image's some more than once, or of none. */
static int list_images(struct restoring *k, struct strv *to, struct err *e)
{
	int r = 0;

	if (!k->is_image)
		archive_list(&k->archive, IMAGES "/", to);
	for (size_t i = 0; r == 0 && i < k->from.n; i++)
		r = list_directory(k->from.fds[i], to, e);
	return r;
}

/* --- WORKER_CHECKPOINT --- */

static int check_images(struct restoring *k, struct err *e)
{
	_cleanup_strv_ struct strv names = STRV_NULL;
	unsigned char head[CHECKPOINT_IMAGE_HEAD];
	size_t n;
	int r = part_head(k, IMAGES "/inventory.img", head, &n, e);

	if (r == 0)
		r = checkpoint_check_inventory(head, n, e);
	if (r == 0)
		r = list_images(k, &names, e);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		_cleanup_free_ char *path = xasprintf(IMAGES "/%s", names.v[i]);

		if (!str_has_prefix(names.v[i], "core-"))
			continue;
		r = part_head(k, path, head, &n, e);
		return r < 0 ? r : checkpoint_check_core(head, n, host_arch(), e);
	}
	return r < 0 ? r : err_invalid(e, "it has no image of a process (checkpoint/core-*.img)");
}

static int describe(struct restoring *k, struct strbuf *to, struct err *e)
{
	_cleanup_strbuf_ struct strbuf config = STRBUF_NULL, spec = STRBUF_NULL;
	int r = part_read(k, "config.dump", CHECKPOINT_DOCUMENT_MAX, &config, e);

	if (r == 0)
		r = part_read(k, "spec.dump", CHECKPOINT_DOCUMENT_MAX, &spec, e);
	if (r == 0)
		r = check_images(k, e);
	if (r == 0)
		r = checkpoint_describe(str_or_empty(config.s), config.len, str_or_empty(spec.s),
					spec.len, to, e);
	return r;
}

/* What is missing in it, or cannot be read, is its own fault. */
static int damaged(struct restoring *k, struct err *e)
{
	if (e->code == GRPC_NOT_FOUND)
		e->code = GRPC_INVALID_ARGUMENT;
	if (e->code != GRPC_INVALID_ARGUMENT && e->code != GRPC_DATA_LOSS &&
	    e->code != GRPC_FAILED_PRECONDITION)
		return e->errnum;
	return err_wrap(e, "%s is no checkpoint that a container can be made of",
			k->is_image ? "the image" : "the archive");
}

int do_checkpoint(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct restoring k = {0};
	int r = begin(&k, in, e);

	if (r == 0) {
		r = describe(&k, &b, e);
		if (r < 0)
			damaged(&k, e);
	}
	if (r == 0)
		ipc_put_bytes(reply, WORKER_TAG_CONTENT, b.s, b.len);
	end(&k);
	return r;
}

/* --- WORKER_RESTORE --- */

static int copy(int from, uint64_t size, int to, const char *name, struct err *e)
{
	static uint8_t buf[COPY_BYTES];
	int r = 0;

	while (r == 0 && size > 0) {
		ssize_t n = read(from, buf, (size_t)MIN(size, (uint64_t)sizeof(buf)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "\"%s\" ends too early", name);
		r = fs_write_all(to, buf, (size_t)n);
		if (r < 0)
			return err_errno(e, r, "write %s", name);
		size -= (uint64_t)n;
		r = worker_check(e);
	}
	return r;
}

static int copy_image(struct restoring *k, int dir, const char *name, uint64_t *bytes,
		      struct err *e)
{
	_cleanup_free_ char *path = xasprintf(IMAGES "/%s", name);
	_cleanup_close_ int from = -EBADF, to = -EBADF;
	uint64_t size;

	if (!*name || strchr(name, '/')) /* CRIU's are all in one directory */
		return 0;
	to = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return errno == EEXIST ? 0 : err_errno(e, -errno, "make \"%s\"", name);
	from = part_open(k, path, &size, e);
	if (from < 0)
		return from;
	*bytes += size;
	if (*bytes > RESTORE_BYTES_MAX)
		return err_set(e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "the checkpoint has more than %llu GiB of memory",
			       (unsigned long long)(RESTORE_BYTES_MAX >> 30));
	return copy(from, size, to, name, e);
}

static int copy_images(struct restoring *k, int writable, struct err *e)
{
	_cleanup_strv_ struct strv names = STRV_NULL;
	_cleanup_close_ int dir = -EBADF;
	uint64_t bytes = 0;
	int r = list_images(k, &names, e);

	if (r == 0)
		r = fs_mkdir_p(writable, WORKER_RESTORE_DIR "/" IMAGES, 0700);
	if (r < 0)
		return e->errnum ? r : err_errno(e, r, "make a directory for CRIU's images");
	dir = openat(writable, WORKER_RESTORE_DIR "/" IMAGES,
		     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, -errno, "open the directory of CRIU's images");
	for (size_t i = 0; r == 0 && i < names.n; i++)
		r = copy_image(k, dir, names.v[i], &bytes, e);
	return r;
}

static int give_base(void *arg, struct layers *ret, struct err *e)
{
	(void)e;
	*ret = *(struct layers *)arg;
	return 0;
}

/* What the container had changed; podman and CRI-O say in a list what it had removed, containerd by
 * whiteouts. */
static int put_files(struct restoring *k, int writable, struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	_cleanup_strv_ struct strv gone = STRV_NULL;
	_cleanup_close_ int upper = openat(writable, snapshotter->written,
					   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct unpack u = {.dirfd = upper,
			   .cancelled = worker_cancelled,
			   .lower = give_base,
			   .arg = &k->base,
			   .gone = &gone};
	uint64_t size = 0;
	_cleanup_close_ int tar = -EBADF;
	struct stream *s = NULL;
	int r;

	if (upper < 0)
		return err_errno(e, -errno, "open the writable layer");
	r = part_read(k, "deleted.files", CHECKPOINT_DOCUMENT_MAX, &text, e);
	if (r == 0)
		r = checkpoint_deleted(str_or_empty(text.s), text.len, &gone, e);
	else if (r == -ENOENT)
		r = 0;
	if (r < 0)
		return r;
	tar = part_open(k, "rootfs-diff.tar", &size, e);
	if (tar < 0 && tar != -ENOENT)
		return tar;
	*e = ERR_NULL;
	if (tar < 0) /* nothing was changed: nothing is in it */
		stream_open_raw(upper, 0, &s);
	else
		r = stream_open(tar, size, false, &s, e);
	if (r == 0)
		r = unpack_layer(&u, s, e);
	contents_fini(&u.contents);
	stream_close(s);
	return r < 0 ? err_wrap(e, "rootfs-diff.tar") : 0;
}

static int open_writable(struct restoring *k, const char *id, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("containers/%s", id);
	int fd;

	if (!*id || strchr(id, '/') || *id == '.')
		return err_invalid(e, "container \"%s\"", id);
	fd = layer_open(k->store.root_fd, path, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? err_errno(e, fd, "open the writable layer of container %s", id) : fd;
}

int do_restore(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct restoring k = {0};
	int writable = -EBADF, r = begin(&k, in, e);

	(void)reply;
	if (r == 0)
		r = writable = open_writable(&k, str_or_empty(ipc_get_str(in, WORKER_TAG_NAME)), e);
	if (r >= 0)
		r = copy_images(&k, writable, e);
	FAULT_POINT("worker.restore.images");
	if (r == 0)
		r = put_files(&k, writable, e);
	FAULT_POINT("worker.restore.files");
	if (r < 0 && writable >= 0)
		damaged(&k, e);
	fd_close(writable);
	end(&k);
	return r;
}
