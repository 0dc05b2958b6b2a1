/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing: the tar of a root file system becomes an image of one layer.  It is read twice, because
 * a layer is made under the digest of its tar.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "change.h"
#include "layer.h"
#include "stream.h"
#include "worker.h"

#define ATTEMPTS 3 /* the layer may be removed while the image is made */
#define STEP (1u << 20)

struct importing {
	struct store store;
	struct changes changes;
	struct strv tags;
	const char *message;
	int fd;
	uint64_t size;
	char diff_id[72];
};

static int open_tar(struct importing *k, const char *path, struct err *e)
{
	struct stat st;

	k->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (k->fd < 0 || fstat(k->fd, &st) < 0)
		return err_errno(e, -errno, "open it");
	if (!S_ISREG(st.st_mode))
		return err_invalid(e, "it is no file");
	if (st.st_size == 0)
		return err_invalid(e, "it is empty");
	k->size = (uint64_t)st.st_size;
	return 0;
}

/* Of what is inside, where it is compressed. */
static int find_diff_id(struct importing *k, struct err *e)
{
	struct stream *s;
	const void *p;
	ssize_t n;
	int r = stream_open(k->fd, UINT64_MAX, false, &s, e);

	if (r < 0)
		return r;
	while (r == 0 && (n = stream_next(s, STEP, &p, e)) != 0)
		r = n < 0 ? (int)n : worker_check(e);
	if (r == 0)
		r = stream_finish(s, k->diff_id, e);
	stream_close(s);
	if (r == 0 && lseek(k->fd, 0, SEEK_SET) < 0)
		r = err_errno(e, -errno, "read it again");
	return r;
}

static int make_layer(struct importing *k, struct new_layer *ret, struct err *e)
{
	_cleanup_strv_ struct strv diff_ids = STRV_NULL;
	struct layer_set set;
	int r = 0;

	strv_add(&diff_ids, k->diff_id);
	layer_set_init(&set, &k->store, &diff_ids);
	if (set.v[0].state == LAYER_WANTED) {
		set.v[0].size = k->size;
		r = layer_start(&set, 0, k->fd, e);
	}
	while (r == 0 && set.v[0].state == LAYER_RUNNING)
		r = layer_set_wait(&set, e);
	*ret = set.v[0].out;
	layer_set_fini(&set);
	return r;
}

static int commit(struct importing *k, const struct new_layer *layer, struct ipc_out *reply,
		  struct err *e)
{
	_cleanup_strbuf_ struct strbuf config = STRBUF_NULL;
	const struct imported im = {.arch = host_arch(),
				    .diff_id = k->diff_id,
				    .message = k->message,
				    .created = clock_wall_ns() / 1000000000};
	const struct strv none = STRV_NULL;
	struct image_info info;
	struct new_image v = {.layers = layer,
			      .n_layers = 1,
			      .info = &info,
			      .config = &config,
			      .tags = &k->tags,
			      .digests = &none};
	int r;

	changes_print(&k->changes, &im, &config);
	r = config_parse(config.s, config.len, &info, e);
	if (r < 0)
		return r;
	r = store_commit(&k->store, &v, 1, reply, e);
	image_info_fini(&info);
	return r;
}

static int import_once(struct importing *k, const char *path, struct ipc_out *reply, struct err *e)
{
	struct new_layer layer;
	int r = open_tar(k, path, e);

	if (r == 0)
		r = find_diff_id(k, e);
	if (r == 0)
		r = make_layer(k, &layer, e);
	if (r == 0)
		r = commit(k, &layer, reply, e);
	k->fd = fd_close(k->fd);
	return r;
}

static int read_request(struct importing *k, const struct ipc_in *in, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0, n = 0;
	int r = 0;

	k->message = ipc_get_str(in, WORKER_TAG_TEXT);
	if (str_empty(k->message))
		k->message = "imported from an archive";
	while (r == 0 && ipc_next(in, &pos, &f)) {
		const char *s = ipc_field_str(&f);

		if (f.tag == WORKER_TAG_REFERENCE && s)
			strv_add(&k->tags, s);
		else if (f.tag == WORKER_TAG_CHANGE && s)
			r = n++ < CHANGES_MAX ? changes_apply(&k->changes, s, e)
					      : err_invalid(e, "more than %d changes", CHANGES_MAX);
	}
	return r < 0 ? err_wrap(e, "change") : 0;
}

int do_import(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	const char *path = str_or_empty(ipc_get_str(in, WORKER_TAG_PATH));
	struct importing k = {.fd = -EBADF};
	int r = read_request(&k, in, e);

	if (r == 0) {
		r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &k.store, e);
		if (r == 0) {
			r = -ESTALE;
			for (unsigned i = 0; r == -ESTALE && i < ATTEMPTS; i++) {
				*e = ERR_NULL;
				r = import_once(&k, path, reply, e);
			}
			if (r < 0)
				err_wrap(e, "import %s", path);
			store_close(&k.store);
		}
	}
	changes_fini(&k.changes);
	strv_fini(&k.tags);
	return r;
}
