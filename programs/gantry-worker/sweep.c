/* SPDX-License-Identifier: Apache-2.0 */
/* Removing images, and what nobody has any more. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "store.h"
#include "worker.h"

/* --- layers and files that belong to no image --- */

/* What goes, and how much that is. */
struct sweeping {
	struct store *store;
	bool dry;		 /* only the measure is wanted */
	struct strv removed;	 /* ids of images that go */
	struct strv used;	 /* ids of images that containers have */
	bool used_known;	 /* `used` is all of them */
	struct strv layers;	 /* of images that stay */
	struct strv used_layers; /* of those that containers have */
	struct measure freed;
};

static void sweeping_fini(struct sweeping *k)
{
	strv_fini(&k->removed);
	strv_fini(&k->used);
	strv_fini(&k->layers);
	strv_fini(&k->used_layers);
}

static int note_layers(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	struct sweeping *k = arg;

	(void)s;
	(void)e;
	for (size_t i = 0; i < rec->layers.n; i++) {
		if (!strv_contains(&k->removed, rec->id))
			strv_add(&k->layers, rec->layers.v[i]);
		if (strv_contains(&k->used, rec->id))
			strv_add(&k->used_layers, rec->layers.v[i]);
	}
	return 0;
}

static void remove_tree(struct sweeping *k, const char *name)
{
	struct store *s = k->store;

	if (k->dry)
		return;
	if (renameat(s->layers_fd, name, s->tmp_fd, name) < 0)
		fs_remove_tree(s->layers_fd, name);
}

static void remove_file(struct sweeping *k, int dir, const char *name, const char *suffix)
{
	char file[ID_SIZE + 16];
	struct stat st;

	snprintf(file, sizeof(file), "%s.%s", name, suffix);
	if (fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	k->freed.bytes += (uint64_t)st.st_blocks * 512;
	k->freed.inodes++;
	if (!k->dry)
		unlinkat(dir, file, 0);
}

/* First the record: what has none is swept.  The files are put aside, to be removed with this
 * worker's temporary directory when the lock is free again. */
static void remove_layer(struct sweeping *k, const char *name)
{
	struct layer_record rec;

	if (store_read_layer(k->store, name, &rec) == 0 && rec.used.inodes > 0) {
		k->freed.bytes += rec.used.bytes;
		k->freed.inodes += rec.used.inodes;
	} else {
		measure_tree(k->store->layers_fd, name, &k->freed);
	}
	remove_file(k, k->store->layers_fd, name, "json");
	remove_file(k, k->store->layers_fd, name, "json.damaged");
	remove_file(k, k->store->layers_fd, name, "sums");
	remove_file(k, k->store->layers_fd, name, "recipe");
	remove_tree(k, name);
}

/* Half-written records, and configurations of images that are none. Under the lock. */
static void sweep_images(struct store *s)
{
	int fd = openat(s->images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		const char *dot = strchr(de->d_name, '.');
		char record[ID_SIZE + 8];

		if (!dot || dot - de->d_name != ID_LEN)
			continue;
		snprintf(record, sizeof(record), "%.*s.json", ID_LEN, de->d_name);
		if (strstr(dot, ".tmp-") ||
		    (streq(dot, ".config") && !fs_exists(s->images_fd, record)))
			unlinkat(s->images_fd, de->d_name, 0);
	}
	if (d)
		closedir(d);
}

/* NAME.old-XXXXXXXX: the files of a layer that was found damaged and made anew.  A container of an
 * image that has the layer may be on them. */
static void sweep_aside(struct sweeping *k, const char *entry)
{
	char name[33];

	snprintf(name, sizeof(name), "%.32s", entry);
	if (!k->used_known || strv_contains(&k->used_layers, name))
		return;
	measure_tree(k->store->layers_fd, entry, &k->freed);
	remove_tree(k, entry);
}

/* Layers of no image, whole or half-made. Under the lock. */
static int sweep_layers(struct sweeping *k, struct err *e)
{
	struct store *s = k->store;
	struct strv gone = STRV_NULL;
	int r = store_each_record(s, note_layers, k, e);
	int fd = openat(s->layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (r == 0 && d && (de = readdir(d))) {
		_cleanup_free_ char *name = xstrndup(de->d_name, strcspn(de->d_name, "."));

		if (strlen(name) != 32)
			continue;
		if (str_has_prefix(de->d_name + 32, ".old-"))
			sweep_aside(k, de->d_name);
		else if (!strv_contains(&k->layers, name) && !strv_contains(&gone, name))
			strv_add(&gone, name);
	}
	if (d)
		closedir(d);
	for (size_t i = 0; i < gone.n; i++)
		remove_layer(k, gone.v[i]);
	strv_fini(&gone);
	return r;
}

/* An image whose layer lost its record, by a verification that was killed or a disk that lost it. */
static int mark_incomplete(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	for (size_t i = 0; str_empty(rec->damaged) && i < rec->layers.n; i++) {
		if (store_has_layer(s, rec->layers.v[i]))
			continue;
		free(rec->damaged);
		rec->damaged = xasprintf("its layer %s is not there", rec->layers.v[i]);
		return store_write_record(s, rec, arg, e);
	}
	return 0;
}

static void remove_record(struct sweeping *k, const char *id)
{
	remove_file(k, k->store->images_fd, id, "json");
	FAULT_POINT("worker.remove.record");
	remove_file(k, k->store->images_fd, id, "config");
	FAULT_POINT("worker.remove.config");
}

/* Before the layers go, and before anybody hears of it: a removal that was answered holds when the
 * power fails, and an image whose record came back would have no layers. */
static int sync_records(const struct store *s, struct err *e)
{
	if (fsync(s->images_fd) < 0)
		return err_errno(e, -errno, "sync %s/images", s->root);
	FAULT_POINT("worker.remove.synced");
	return 0;
}

int do_remove(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	const char *id = ipc_get_str(in, WORKER_TAG_IMAGE_ID);
	struct sweeping k = {0};
	struct store_change c;
	struct store s;
	int r;

	if (!id || !id_valid(id))
		return err_invalid(e, "image id: \"%s\"", str_or_empty(id));
	r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &s, e);
	if (r < 0)
		return r;
	r = store_change_begin(&s, &c, e);
	if (r == 0) {
		k.store = &s;
		remove_record(&k, id);
		r = sync_records(&s, e);
		if (r == 0)
			r = sweep_layers(&k, e);
		FAULT_POINT("worker.remove.layers");
		ipc_put_str(reply, WORKER_TAG_REMOVED, id);
		ipc_put_u64(reply, WORKER_TAG_SEQ, c.seq);
		store_change_end(&c);
	}
	sweeping_fini(&k);
	store_close(&s);
	return r;
}

/* Locked, as its worker is gone.  The processes of one that was killed follow it at once, but
 * not in the same instant. */
static bool lock_dead(int fd)
{
	for (unsigned i = 0; i < 5; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		usleep(20000);
	}
	return false;
}

static void sweep_temporaries(struct store *s)
{
	int fd = openat(s->root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (d)
		flock(fd, LOCK_EX);
	while (d && (de = readdir(d))) {
		_cleanup_close_ int one = -EBADF;

		if (*de->d_name == '.' || streq(de->d_name, s->tmp_name))
			continue;
		one = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (one >= 0 && lock_dead(one))
			fs_remove_tree(fd, de->d_name);
	}
	if (d)
		closedir(d);
}

static int tell_record(struct store *s, void *arg, struct image_record *rec, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	(void)s;
	(void)e;
	image_record_print(rec, &b);
	ipc_put_bytes(arg, WORKER_TAG_RECORD, b.s, b.len);
	ipc_put_str(arg, WORKER_TAG_IMAGE_ID, rec->id);
	return 0;
}

static void read_request(const struct ipc_in *in, struct sweeping *k)
{
	struct ipc_field f;
	size_t pos = 0;

	k->dry = ipc_get_u64(in, WORKER_TAG_DRY, 0);
	k->used_known = ipc_get_u64(in, WORKER_TAG_USED_KNOWN, 0);
	while (ipc_next(in, &pos, &f)) {
		const char *id = ipc_field_str(&f);

		if (f.tag == WORKER_TAG_IMAGE_ID && id && id_valid(id))
			strv_add(&k->removed, id);
		else if (f.tag == WORKER_TAG_USED && id)
			strv_add(&k->used, id);
	}
}

/* Under the lock. */
static int sweep_store(struct sweeping *k, const struct ipc_in *in, struct ipc_out *reply,
		       struct err *e)
{
	struct store *s = k->store;
	int r = 0;

	for (size_t i = 0; i < k->removed.n; i++) {
		remove_record(k, k->removed.v[i]);
		if (!k->dry)
			ipc_put_str(reply, WORKER_TAG_REMOVED, k->removed.v[i]);
	}
	if (!k->dry) {
		sweep_images(s);
		r = settle_tags(s, reply, e);
		if (r == 0)
			r = store_each_record(s, mark_incomplete, reply, e);
	}
	if (r == 0 && !k->dry && k->removed.n > 0)
		r = sync_records(s, e);
	if (r == 0)
		r = sweep_layers(k, e);
	if (r == 0 && ipc_get_u64(in, WORKER_TAG_ANEW, 0))
		r = store_each_record(s, tell_record, reply, e);
	ipc_put_u64(reply, WORKER_TAG_BYTES, k->freed.bytes);
	ipc_put_u64(reply, WORKER_TAG_INODES, k->freed.inodes);
	return r;
}

/* Writable layers of containers that are none. */
static void sweep_containers(struct store *s, const struct ipc_in *in)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f)) {
		const char *name = f.tag == WORKER_TAG_NAME ? ipc_field_str(&f) : NULL;
		_cleanup_free_ char *path = NULL;

		if (!name || !id_valid(name))
			continue;
		path = xasprintf("containers/%s", name);
		fs_remove_tree(s->root_fd, path);
	}
}

int do_sweep(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct sweeping k = {0};
	struct store_change c;
	struct store s;
	int r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &s, e);

	if (r < 0)
		return r;
	k.store = &s;
	read_request(in, &k);
	if (!k.dry)
		sweep_temporaries(&s);
	r = store_change_begin(&s, &c, e);
	if (r == 0) {
		r = sweep_store(&k, in, reply, e);
		ipc_put_u64(reply, WORKER_TAG_SEQ, c.seq);
		store_change_end(&c);
	}
	sweep_containers(&s, in);
	sweeping_fini(&k);
	store_close(&s);
	return r;
}
