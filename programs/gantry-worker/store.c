/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store's directory: see store.h.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "layers.h"
#include "snapshot/snapshot.h"
#include "store.h"
#include "wire/json.h"
#include "worker.h"

/* --- open and close --- */

static int open_dir(int at, const char *name, int *ret, struct err *e)
{
	int r = fs_mkdir_p(at, name, 0700);

	*ret = r < 0 ? r : openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0)
		return err_errno(e, r < 0 ? r : -errno, "open %s of the image store", name);
	return 0;
}

/* This worker's directory, locked.  The parent's lock keeps a sweeper from taking it in
 * between for one that nobody has. */
static int open_tmp(struct store *s, struct err *e)
{
	_cleanup_close_ int parent = -EBADF;
	int r = open_dir(s->root_fd, "tmp", &parent, e);

	if (r < 0)
		return r;
	if (flock(parent, LOCK_SH) < 0)
		return err_errno(e, -errno, "lock %s/tmp", s->root);
	r = open_dir(parent, s->tmp_name, &s->tmp_fd, e);
	if (r == 0 && flock(s->tmp_fd, LOCK_EX | LOCK_NB) < 0)
		r = err_errno(e, -errno, "lock %s/tmp/%s", s->root, s->tmp_name);
	return r;
}

int store_open(const char *root, struct store *ret, struct err *e)
{
	struct store s = {.root = xstrdup(root),
			  .root_fd = -EBADF,
			  .layers_fd = -EBADF,
			  .images_fd = -EBADF,
			  .tmp_fd = -EBADF};
	char id[ID_SIZE];
	int r = 0;

	s.root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s.root_fd < 0)
		r = err_errno(e, -errno, "open the image store %s", root);
	id_new(id);
	snprintf(s.tmp_name, sizeof(s.tmp_name), "%.16s", id);
	if (r == 0)
		r = open_dir(s.root_fd, "layers", &s.layers_fd, e);
	if (r == 0)
		r = open_dir(s.root_fd, "images", &s.images_fd, e);
	if (r == 0)
		r = open_tmp(&s, e);
	*ret = s;
	if (r < 0)
		store_close(ret);
	return r;
}

void store_close(struct store *s)
{
	if (s->tmp_fd >= 0) {
		char path[64];

		snprintf(path, sizeof(path), "tmp/%s", s->tmp_name);
		fs_remove_tree(s->root_fd, path);
	}
	fd_close(s->tmp_fd);
	fd_close(s->images_fd);
	fd_close(s->layers_fd);
	fd_close(s->root_fd);
	free(s->root);
}

int store_temporary(struct store *s, struct err *e)
{
	int fd = openat(s->tmp_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(e, -errno, "make a temporary file in %s", s->root) : fd;
}

/* --- layers --- */

bool store_has_layer(const struct store *s, const char *name)
{
	char record[64];

	snprintf(record, sizeof(record), "%s.json", name);
	return fs_exists(s->layers_fd, record) && fs_exists(s->layers_fd, name);
}

bool store_has_made(const struct store *s, const char *name)
{
	return fs_exists(s->tmp_fd, name);
}

int store_open_layer(const struct store *s, const char *name)
{
	int fd = openat(s->tmp_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		fd = openat(s->layers_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int store_make_layer(struct store *s, const char *name, int *ret_fd, struct err *e)
{
	if (mkdirat(s->tmp_fd, name, 0755) < 0)
		return err_errno(e, -errno, "make the layer %s", name);
	*ret_fd = openat(s->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret_fd < 0 ? err_errno(e, -errno, "open the layer %s", name) : 0;
}

int store_make_file(struct store *s, const char *name, const char *suffix, struct err *e)
{
	char file[64];
	int fd;

	snprintf(file, sizeof(file), "%s.%s", name, suffix);
	fd = openat(s->tmp_fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? err_errno(e, -errno, "make %s of the layer", file) : fd;
}

void store_drop_file(struct store *s, const char *name, const char *suffix)
{
	char file[64];

	snprintf(file, sizeof(file), "%s.%s", name, suffix);
	unlinkat(s->tmp_fd, file, 0);
}

void store_drop_layer(struct store *s, const char *name)
{
	fs_remove_tree(s->tmp_fd, name);
	store_drop_file(s, name, "sums");
	store_drop_file(s, name, "recipe");
}

/* --- changes --- */

int store_change_begin(struct store *s, struct store_change *c, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	c->seq = 0;
	c->lock = openat(s->root_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (c->lock < 0 || flock(c->lock, LOCK_EX) < 0)
		return err_errno(e, -errno, "lock the image store %s", s->root);
	if (fs_read_fd(c->lock, 64, &b) == 0 && b.s)
		c->seq = strtoull(b.s, NULL, 10);
	c->seq++;
	return 0;
}

void store_change_end(struct store_change *c)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)c->seq);

	(void)!pwrite(c->lock, text, (size_t)n, 0);
	close(c->lock);
}

int store_read_record(const struct store *s, const char *file, struct image_record *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(s->images_fd, file, IMAGE_RECORD_MAX, &b);

	return r < 0 ? r : image_record_parse(str_or_empty(b.s), b.len, ret, NULL);
}

int store_write_record(struct store *s, const struct image_record *rec, struct ipc_out *reply,
		       struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char file[ID_SIZE + 8];
	int r;

	image_record_print(rec, &b);
	if (b.len > IMAGE_RECORD_MAX)
		return err_set(e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "the configuration of image %s is too large to be recorded: %zu "
			       "bytes, at most %u",
			       rec->id, b.len, IMAGE_RECORD_MAX);
	snprintf(file, sizeof(file), "%s.json", rec->id);
	r = fs_write_atomic(s->images_fd, file, b.s, b.len, 0600, true);
	if (r < 0)
		return err_errno(e, r, "write the record of image %s", rec->id);
	ipc_put_bytes(reply, WORKER_TAG_RECORD, b.s, b.len);
	return 0;
}

int store_each_record(struct store *s, store_record_fn *fn, void *arg, struct err *e)
{
	int fd = openat(s->images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d)
		return err_errno(e, -errno, "open %s/images", s->root);
	while (r == 0 && (errno = 0, de = readdir(d))) {
		struct image_record rec;

		if (!str_has_suffix(de->d_name, ".json"))
			continue;
		r = store_read_record(s, de->d_name, &rec);
		if (r == -EINVAL || r == -ENOENT || r == -EFBIG) { /* damaged: nobody's */
			r = 0;
			continue;
		}
		if (r < 0) { /* it may be whole: whatever depends on it must wait */
			r = err_errno(e, r, "read the record %s/images/%s", s->root, de->d_name);
			break;
		}
		r = fn(s, arg, &rec, e);
		image_record_fini(&rec);
	}
	if (r == 0 && errno)
		r = err_errno(e, -errno, "read %s/images", s->root);
	closedir(d);
	return r;
}

/* --- commit --- */

/* The layers' records beside them, still in the temporary directory: one sync is for all. */
static int write_layer_records(struct store *s, const struct new_image *im, bool *any,
			       struct err *e)
{
	for (size_t i = 0; i < im->n_layers; i++) {
		const struct new_layer *l = &im->layers[i];
		char file[64], text[512];
		int len, r;

		if (!l->unpacked || !fs_exists(s->tmp_fd, l->name))
			continue;
		*any = true;
		snprintf(file, sizeof(file), "%s.json", l->name);
		len = snprintf(text, sizeof(text),
			       "{\"size\":%llu,\"bytes\":%llu,\"inodes\":%llu,\"sums\":\"%s\","
			       "\"recipe\":\"%s\"}",
			       (unsigned long long)l->bytes, (unsigned long long)l->used.bytes,
			       (unsigned long long)l->used.inodes, l->sums, l->recipe);
		r = fs_write_atomic(s->tmp_fd, file, text, (size_t)len, 0600, false);
		if (r < 0)
			return err_errno(e, r, "write the record of layer %s", l->name);
	}
	return 0;
}

/* Half-made by one that died, it goes.  One that was found damaged may be under a container:
 * its files stay for that, under another name. */
static int make_place(struct store *s, const char *name, struct err *e)
{
	char file[64], aside[64], id[ID_SIZE];

	snprintf(file, sizeof(file), "%s.json", name);
	unlinkat(s->layers_fd, file, 0);
	snprintf(file, sizeof(file), "%s.json.damaged", name);
	if (!fs_exists(s->layers_fd, file)) {
		fs_remove_tree(s->layers_fd, name);
		return 0;
	}
	id_new(id);
	snprintf(aside, sizeof(aside), "%s.old-%.8s", name, id);
	if (renameat(s->layers_fd, name, s->layers_fd, aside) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "put the damaged layer %s aside", name);
	FAULT_POINT("worker.commit.aside");
	unlinkat(s->layers_fd, file, 0);
	return 0;
}

/* One that the new layer does not have is not left of a half-made one. */
static int put_file(struct store *s, const char *name, const char *suffix, struct err *e)
{
	char file[64];

	snprintf(file, sizeof(file), "%s.%s", name, suffix);
	if (!fs_exists(s->tmp_fd, file) && streq(suffix, "recipe"))
		return unlinkat(s->layers_fd, file, 0) < 0 && errno != ENOENT
			       ? err_errno(e, -errno, "remove the old %s", file)
			       : 0;
	if (renameat(s->tmp_fd, file, s->layers_fd, file) < 0)
		return err_errno(e, -errno, "put %s of the layer into the store", file);
	return 0;
}

/* Puts one layer into the store, its record last.  Under the lock. */
static int commit_layer(struct store *s, const char *name, struct err *e)
{
	int r = make_place(s, name, e);

	if (r < 0)
		return r;
	if (renameat(s->tmp_fd, name, s->layers_fd, name) < 0)
		return err_errno(e, -errno, "put the layer %s into the store", name);
	FAULT_POINT("worker.commit.layer");
	r = put_file(s, name, "sums", e);
	if (r == 0)
		r = put_file(s, name, "recipe", e);
	FAULT_POINT("worker.commit.recipe");
	if (r == 0)
		r = put_file(s, name, "json", e);
	FAULT_POINT("worker.commit.layer-recorded");
	return r;
}

static int commit_layers(struct store *s, const struct new_image *im, struct err *e)
{
	for (size_t i = 0; i < im->n_layers; i++) {
		const char *name = im->layers[i].name;
		int r = 0;

		if (store_has_layer(s, name))
			continue; /* or another worker was first */
		if (!im->layers[i].unpacked)
			return err_set(e, -ESTALE, GRPC_ABORTED,
				       "layer %s was removed while the image was made", name);
		r = commit_layer(s, name, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int store_read_layer(const struct store *s, const char *name, struct layer_record *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;
	char file[64];
	int r;

	snprintf(file, sizeof(file), "%.32s.json", name);
	r = fs_read(s->layers_fd, file, 4096, &b);
	if (r == 0)
		r = jv_parse(str_or_empty(b.s), b.len, 4096, file, &doc, NULL);
	if (r < 0)
		return r;
	ret->size = (uint64_t)jv_int(doc, "size", 0);
	ret->used.bytes = (uint64_t)jv_int(doc, "bytes", 0);
	ret->used.inodes = (uint64_t)jv_int(doc, "inodes", 0);
	snprintf(ret->sums, sizeof(ret->sums), "%s", jv_string(doc, "sums", ""));
	snprintf(ret->recipe, sizeof(ret->recipe), "%s", jv_string(doc, "recipe", ""));
	ret->recipe_unknown = !jv_get(doc, "recipe");
	return 0;
}

static uint64_t layer_size(const struct store *s, const char *name)
{
	struct layer_record rec;

	return store_read_layer(s, name, &rec) < 0 ? 0 : rec.size;
}

/* A small text of the image as a container would see it; "" where there is none. */
static char *read_account_file(const struct layers *l, const char *path)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_close_ int fd = -EBADF, rd = -EBADF;
	struct stat st;
	char proc[64];

	if (layers_resolve(l, path, &st, &fd) == 0 && S_ISREG(st.st_mode)) {
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
		rd = open(proc, O_RDONLY | O_CLOEXEC);
	}
	if (rd >= 0 && fs_read_fd(rd, IMAGE_ACCOUNTS_MAX, &b) == 0 && b.s &&
	    str_is_utf8(b.s, b.len))
		return strbuf_take(&b);
	return xstrdup("");
}

void store_read_accounts(const struct store *s, struct image_record *rec)
{
	int fds[IMAGE_LAYERS_MAX + 1];
	struct layers l = {fds, 0};

	for (size_t i = 0; i < rec->layers.n && i < ARRAY_SIZE(fds); i++) {
		fds[i] = store_open_layer(s, rec->layers.v[i]);
		if (fds[i] < 0)
			break;
		l.n++;
	}
	rec->config.passwd = read_account_file(&l, "etc/passwd");
	rec->config.group = read_account_file(&l, "etc/group");
	while (l.n > 0)
		close(fds[--l.n]);
}

bool store_take_names(struct strv *v, const struct strv *names)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++) {
		if (strv_contains(names, v->v[i]))
			free(v->v[i]);
		else
			v->v[n++] = v->v[i];
	}
	if (n == v->n)
		return false;
	v->n = n;
	v->v[n] = NULL;
	return true;
}

struct tagging {
	const char *id;
	const struct strv *tags;
	struct ipc_out *reply;
};

/* A tag is of one image: the one that it was given to last. */
static int untag(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	struct tagging *t = arg;

	if (streq(rec->id, t->id) || !store_take_names(&rec->tags, t->tags))
		return 0;
	return store_write_record(s, rec, t->reply, e);
}

void store_add_names(struct strv *to, const struct strv *v)
{
	for (size_t i = 0; i < v->n && to->n < IMAGE_NAMES_MAX; i++)
		if (!strv_contains(to, v->v[i]))
			strv_add(to, v->v[i]);
}

int store_untag_others(struct store *s, const char *id, const struct strv *tags,
		       struct ipc_out *reply, struct err *e)
{
	struct tagging t = {id, tags, reply};

	return store_each_record(s, untag, &t, e);
}

static void copy(struct strv *to, const struct strv *v)
{
	for (size_t i = 0; i < v->n; i++)
		strv_add(to, v->v[i]);
}

static void fill_record(struct store *s, const struct new_image *im, struct image_record *rec)
{
	const struct image_config *c = &im->info->config;

	for (size_t i = im->n_layers; i-- > 0;) {
		strv_add(&rec->layers, im->layers[i].name);
		rec->size += layer_size(s, im->layers[i].name);
	}
	copy(&rec->config.entrypoint, &c->entrypoint);
	copy(&rec->config.cmd, &c->cmd);
	copy(&rec->config.env, &c->env);
	copy(&rec->config.volumes, &c->volumes);
	rec->artifact = xstrdup(str_or_empty(im->artifact));
	rec->checkpoint = xstrdup(str_or_empty(im->checkpoint));
	rec->config.user = xstrdup(str_or_empty(c->user));
	rec->config.working_dir = xstrdup(str_or_empty(c->working_dir));
	rec->config.stop_signal = xstrdup(str_or_empty(c->stop_signal));
	store_read_accounts(s, rec);
}

/* The new record is written before the tags are taken from others: whatever happens in
 * between, each tag has an image. */
static int commit_image(struct store *s, const struct new_image *im, struct ipc_out *reply,
			struct err *e)
{
	int64_t now = clock_wall_ns();
	struct image_record rec = {.pulled_at = now, .tagged_at = now}, old;
	char digest[72], file[ID_SIZE + 16];
	int r;

	digest_of(im->config->s, im->config->len, digest);
	rec.id = xstrdup(digest + strlen("sha256:"));
	snprintf(file, sizeof(file), "%s.json", rec.id);
	if (store_read_record(s, file, &old) == 0) {
		store_add_names(&rec.tags, &old.tags);
		store_add_names(&rec.digests, &old.digests);
		image_record_fini(&old);
	}
	store_add_names(&rec.tags, im->tags);
	store_add_names(&rec.digests, im->digests);
	fill_record(s, im, &rec);
	snprintf(file, sizeof(file), "%s.config", rec.id);
	r = fs_write_atomic(s->images_fd, file, im->config->s, im->config->len, 0600, true);
	if (r < 0)
		err_errno(e, r, "write the configuration of image %s", rec.id);
	FAULT_POINT("worker.commit.config");
	if (r == 0)
		r = store_write_record(s, &rec, reply, e);
	FAULT_POINT("worker.commit.recorded");
	snprintf(file, sizeof(file), "%s.json.damaged", rec.id); /* gantryd set it aside */
	unlinkat(s->images_fd, file, 0);
	if (r == 0)
		r = store_untag_others(s, rec.id, im->tags, reply, e);
	if (r == 0)
		ipc_put_str(reply, WORKER_TAG_IMAGE_ID, rec.id);
	image_record_fini(&rec);
	return r;
}

int store_commit(struct store *s, const struct new_image *v, size_t n, struct ipc_out *reply,
		 struct err *e)
{
	struct store_change c = {0};
	bool any = false;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = write_layer_records(s, &v[i], &any, e);
	/* A record promises that the files are on the disk. It may take long: not locked. */
	if (r == 0 && any && syncfs(s->tmp_fd) < 0)
		r = err_errno(e, -errno, "sync the layers");
	FAULT_POINT("worker.commit.synced");
	if (r == 0)
		r = worker_check(e);
	if (r == 0)
		r = store_change_begin(s, &c, e);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = commit_layers(s, &v[i], e);
	/* Also where all were there: who put them there may have been killed before its own sync. */
	if (r == 0 && fsync(s->layers_fd) < 0)
		r = err_errno(e, -errno, "sync %s/layers", s->root);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (v[i].info)
			r = commit_image(s, &v[i], reply, e);
	if (r == 0 && reply)
		ipc_put_u64(reply, WORKER_TAG_SEQ, c.seq);
	store_change_end(&c);
	return r;
}

/* --- measure --- */

/* A layer does not change: its record says what was measured when it was made. */
static void measure_layers(struct store *s, struct measure *to)
{
	int fd = openat(s->layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d)) && !worker_cancelled()) {
		struct layer_record rec;
		struct stat st;

		if (fstatat(s->layers_fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    *de->d_name == '.')
			continue;
		if (!S_ISDIR(st.st_mode)) { /* a record, a list of checksums, a recipe */
			to->bytes += (uint64_t)st.st_blocks * 512;
			to->inodes++;
		} else if (strlen(de->d_name) == 32 && store_read_layer(s, de->d_name, &rec) == 0 &&
			   rec.used.inodes > 0) {
			to->bytes += rec.used.bytes;
			to->inodes += rec.used.inodes;
		} else {
			measure_tree(s->layers_fd, de->d_name, to);
		}
	}
	if (d)
		closedir(d);
}

static void measure_container(const struct store *s, const char *id, struct ipc_out *reply)
{
	_cleanup_free_ char *path = xasprintf("containers/%s", id);
	_cleanup_close_ int fd =
		openat(s->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct measure m = {0};
	struct ipc_out o;

	if (fd >= 0 && snapshotter->usage(fd, &m.bytes, &m.inodes) < 0)
		measure_tree(fd, snapshotter->written, &m);
	ipc_out_init(&o, 0, 0);
	ipc_put_str(&o, WORKER_TAG_NAME, id);
	ipc_put_u64(&o, WORKER_TAG_BYTES, m.bytes);
	ipc_put_u64(&o, WORKER_TAG_INODES, m.inodes);
	ipc_put_nested(reply, WORKER_TAG_USAGE, &o);
}

int do_measure(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct measure m = {0};
	struct store s;
	struct dirent *de;
	DIR *d;
	int fd, r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &s, e);

	if (r < 0)
		return r;
	measure_layers(&s, &m);
	measure_tree(s.root_fd, "images", &m);
	measure_tree(s.root_fd, "tmp", &m); /* what other workers are making */
	ipc_put_u64(reply, WORKER_TAG_BYTES, m.bytes);
	ipc_put_u64(reply, WORKER_TAG_INODES, m.inodes);
	fd = openat(s.root_fd, "containers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	while (d && (de = readdir(d)))
		if (id_valid(de->d_name))
			measure_container(&s, de->d_name, reply);
	if (d)
		closedir(d);
	store_close(&s);
	return 0;
}
