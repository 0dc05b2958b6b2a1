/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving images: an OCI layout (image-spec, image-layout.md) that is a docker archive too, by a
 * manifest.json that names the same blobs, as docker writes it since version 25.  What is small
 * comes first; sizes are known before, because each layer's recipe is read twice.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/map.h"
#include "base/mem.h"
#include "remake.h"
#include "store.h"
#include "verify.h"
#include "wire/json.h"
#include "worker.h"

#define BLOCK 512
#define IMAGES_MAX 256	       /* of an archive, as load takes it */
#define CHECK_EVERY (1u << 20) /* bytes between two looks at the daemon */

/* A layer; what several images have is written once. */
struct saved_layer {
	char name[33], diff_id[72];
	struct remake_scan scan;
	struct stat record;
};

struct saved_image {
	char id[ID_SIZE];
	struct strv tags;
	struct strbuf config;
	struct image_info info;
	struct strv layers; /* names, topmost first */
	char digest[72];    /* of the manifest */
	struct strbuf manifest;
};

struct saving {
	struct store store;
	struct saved_image *images;
	size_t n_images;
	struct map layers; /* struct saved_layer by diff id */
	struct saved_layer **order;
	size_t n_layers;
	struct strbuf index, docker; /* index.json, manifest.json */
	int out;
	uint64_t unchecked;
	/* what was found to be damaged */
	const struct saved_image *bad_image;
	const struct saved_layer *bad_layer;
	char *problem; /* owned; NULL: nothing */
};

/* --- output --- */

static int write_out(struct saving *s, const void *p, size_t n, struct err *e)
{
	int r = fs_write_all(s->out, p, n);

	if (r == -EPIPE)
		return err_set(e, r, GRPC_CANCELLED, "nobody reads the archive any more");
	if (r < 0)
		return err_errno(e, r, "write the archive");
	s->unchecked += n;
	if (s->unchecked < CHECK_EVERY)
		return 0;
	s->unchecked = 0;
	return worker_check(e);
}

static int write_layer_bytes(void *arg, const void *p, size_t n, struct err *e)
{
	return write_out(arg, p, n, e);
}

/* ustar (POSIX.1-2017, pax), with GNU's binary form of a size that has too many digits. */
static int write_header(struct saving *s, const char *name, char type, uint64_t size, struct err *e)
{
	char h[BLOCK] = {0};
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", type == '5' ? 0755 : 0644);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	if (size < UINT64_C(1) << 33) {
		snprintf(h + 124, 12, "%011llo", (unsigned long long)size);
	} else {
		h[124] = (char)0x80;
		for (int i = 0; i < 8; i++)
			h[135 - i] = (char)(size >> 8 * i);
	}
	snprintf(h + 136, 12, "%011o", 0);
	h[156] = type;
	memcpy(h + 257, "ustar\00000", 8);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	return write_out(s, h, BLOCK, e);
}

static uint64_t padding(uint64_t size)
{
	return (BLOCK - size % BLOCK) % BLOCK;
}

static int write_padding(struct saving *s, uint64_t size, struct err *e)
{
	static const char zeros[BLOCK];

	return write_out(s, zeros, (size_t)padding(size), e);
}

static int write_file(struct saving *s, const char *name, const struct strbuf *b, struct err *e)
{
	int r = write_header(s, name, '0', b->len, e);

	if (r == 0)
		r = write_out(s, str_or_empty(b->s), b->len, e);
	return r < 0 ? r : write_padding(s, b->len, e);
}

static char *blob_path(const char *digest)
{
	return xasprintf("blobs/sha256/%s", digest + strlen("sha256:"));
}

static int write_blob(struct saving *s, const char *digest, const struct strbuf *b, struct err *e)
{
	_cleanup_free_ char *path = blob_path(digest);

	return write_file(s, path, b, e);
}

/* --- what is to be saved --- */

static int open_recipe(const struct saving *s, const struct saved_layer *l)
{
	char file[64];

	snprintf(file, sizeof(file), "%s.recipe", l->name);
	return openat(s->store.layers_fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

/* A problem of the store; the caller goes no further. */
static int damaged(struct saving *s, const struct saved_image *im, const struct saved_layer *l,
		   char *problem)
{
	s->bad_image = im;
	s->bad_layer = l;
	s->problem = problem;
	return -EBADMSG;
}

static int check_recipe(struct saving *s, const struct saved_image *im, struct saved_layer *l,
			const struct layer_record *rec, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct err why = ERR_NULL;

	if (!*rec->recipe)
		return err_set(
			e, -EOPNOTSUPP, GRPC_FAILED_PRECONDITION,
			rec->recipe_unknown
				? "layer %s was unpacked by an older version, which did not record "
				  "how its archive is made again; remove the image and pull it "
				  "again"
				: "layer %s cannot be saved: what its archive has beside its files "
				  "was too much to be kept",
			l->name);
	fd = open_recipe(s, l);
	if (fd < 0)
		return damaged(s, im, l,
			       xasprintf("its recipe cannot be opened: %s", strerror(errno)));
	if (remake_scan(fd, &l->scan, &why) < 0)
		return damaged(s, im, l, xasprintf("its recipe cannot be read: %s", why.msg));
	if (!streq(l->scan.digest, rec->recipe))
		return damaged(s, im, l, xstrdup("its recipe is not what was recorded"));
	return 0;
}

static int add_layer(struct saving *s, const struct saved_image *im, const char *name,
		     const char *diff_id, struct err *e)
{
	struct layer_record rec = {0};
	struct saved_layer *l;
	char file[64];

	if (map_get(&s->layers, diff_id))
		return 0;
	l = xcalloc(1, sizeof(*l));
	snprintf(l->name, sizeof(l->name), "%s", name);
	snprintf(l->diff_id, sizeof(l->diff_id), "%s", diff_id);
	map_put(&s->layers, l->diff_id, l);
	s->order = xrealloc(s->order, (s->n_layers + 1) * sizeof(*s->order));
	s->order[s->n_layers++] = l;
	snprintf(file, sizeof(file), "%s.json", name);
	if (fstatat(s->store.layers_fd, file, &l->record, AT_SYMLINK_NOFOLLOW) < 0)
		l->record.st_ino = 0;
	if (l->record.st_ino == 0 || store_read_layer(&s->store, name, &rec) < 0)
		return damaged(s, im, l, xstrdup("its record is not there, or is none"));
	return check_recipe(s, im, l, &rec, e);
}

static void put_descriptor(struct jw *w, const char *type, const char *digest, uint64_t size)
{
	jw_key_string(w, "mediaType", type);
	jw_key_string(w, "digest", digest);
	jw_key_uint(w, "size", size);
}

#define TYPE(of) "application/vnd.oci.image." of

static void make_manifest(struct saving *s, struct saved_image *im)
{
	struct jw w = JW_INIT(&im->manifest);
	_cleanup_free_ char *config = xasprintf("sha256:%s", im->id);

	jw_object_begin(&w);
	jw_key_uint(&w, "schemaVersion", 2);
	jw_key_string(&w, "mediaType", TYPE("manifest.v1+json"));
	jw_key_object(&w, "config");
	put_descriptor(&w, TYPE("config.v1+json"), config, im->config.len);
	jw_object_end(&w);
	jw_key_array(&w, "layers");
	for (size_t i = 0; i < im->info.diff_ids.n; i++) {
		const struct saved_layer *l = map_get(&s->layers, im->info.diff_ids.v[i]);

		jw_object_begin(&w);
		put_descriptor(&w, TYPE("layer.v1.tar"), l->diff_id, l->scan.size);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_object_end(&w);
	digest_of(im->manifest.s, im->manifest.len, im->digest);
}

static int add_image(struct saving *s, struct saved_image *im, struct err *e)
{
	struct image_record rec;
	char file[ID_SIZE + 8];
	char *problem;
	int r;

	snprintf(file, sizeof(file), "%s.json", im->id);
	r = store_read_record(&s->store, file, &rec);
	if (r == -ENOENT)
		return err_not_found(e, "image %s was removed meanwhile", im->id);
	if (r < 0)
		return err_errno(e, r, "read the record of image %s", im->id);
	if (*rec.artifact) {
		image_record_fini(&rec);
		return err_precondition(e,
					"%s is an artifact, and only images can be saved: its "
					"blobs are not kept as they came",
					im->id);
	}
	problem = verify_image(&s->store, &rec, &im->config, &im->info);
	if (!problem)
		store_add_names(&im->layers, &rec.layers);
	image_record_fini(&rec);
	if (problem)
		return damaged(s, im, NULL, problem);
	for (size_t i = 0; r == 0 && i < im->info.diff_ids.n; i++)
		r = add_layer(s, im, im->layers.v[im->layers.n - 1 - i], im->info.diff_ids.v[i], e);
	if (r == 0)
		make_manifest(s, im);
	return r;
}

/* --- index.json and manifest.json --- */

static void put_index_entry(struct jw *w, const struct saved_image *im, const char *tag)
{
	_cleanup_reference_ struct reference ref = REFERENCE_NULL;

	jw_object_begin(w);
	put_descriptor(w, TYPE("manifest.v1+json"), im->digest, im->manifest.len);
	if (tag && reference_parse(tag, &ref, NULL) == 0) {
		jw_key_object(w, "annotations");
		jw_key_string(w, "io.containerd.image.name", tag);
		jw_key_string(w, "org.opencontainers.image.ref.name", str_or_empty(ref.tag));
		jw_object_end(w);
	}
	jw_object_end(w);
}

static void make_index(struct saving *s)
{
	struct jw w = JW_INIT(&s->index);

	jw_object_begin(&w);
	jw_key_uint(&w, "schemaVersion", 2);
	jw_key_string(&w, "mediaType", TYPE("index.v1+json"));
	jw_key_array(&w, "manifests");
	for (size_t i = 0; i < s->n_images; i++) {
		const struct saved_image *im = &s->images[i];

		if (im->tags.n == 0)
			put_index_entry(&w, im, NULL);
		for (size_t k = 0; k < im->tags.n; k++)
			put_index_entry(&w, im, im->tags.v[k]);
	}
	jw_array_end(&w);
	jw_object_end(&w);
}

static void make_docker_manifest(struct saving *s)
{
	struct jw w = JW_INIT(&s->docker);

	jw_array_begin(&w);
	for (size_t i = 0; i < s->n_images; i++) {
		const struct saved_image *im = &s->images[i];
		_cleanup_free_ char *config = xasprintf("blobs/sha256/%s", im->id);

		jw_object_begin(&w);
		jw_key_string(&w, "Config", config);
		jw_key_array(&w, "RepoTags");
		for (size_t k = 0; k < im->tags.n; k++)
			jw_string(&w, im->tags.v[k]);
		jw_array_end(&w);
		jw_key_array(&w, "Layers");
		for (size_t k = 0; k < im->info.diff_ids.n; k++) {
			_cleanup_free_ char *path = blob_path(im->info.diff_ids.v[k]);

			jw_string(&w, path);
		}
		jw_array_end(&w);
		jw_object_end(&w);
	}
	jw_array_end(&w);
}

/* --- the archive --- */

static uint64_t member_size(uint64_t size)
{
	return BLOCK + size + padding(size);
}

static const struct strbuf layout = {(char *)(uintptr_t) "{\"imageLayoutVersion\":\"1.0.0\"}", 30,
				     0};

static uint64_t archive_size(const struct saving *s)
{
	uint64_t n = 2 * BLOCK + 2 * BLOCK; /* directories, the end */

	n += member_size(layout.len) + member_size(s->index.len) + member_size(s->docker.len);
	for (size_t i = 0; i < s->n_images; i++)
		n += member_size(s->images[i].config.len) + member_size(s->images[i].manifest.len);
	for (size_t i = 0; i < s->n_layers; i++)
		n += member_size(s->order[i]->scan.size);
	return n;
}

static int write_documents(struct saving *s, struct err *e)
{
	int r = write_header(s, "blobs/", '5', 0, e);

	if (r == 0)
		r = write_header(s, "blobs/sha256/", '5', 0, e);
	if (r == 0)
		r = write_file(s, "oci-layout", &layout, e);
	if (r == 0)
		r = write_file(s, "index.json", &s->index, e);
	if (r == 0)
		r = write_file(s, "manifest.json", &s->docker, e);
	for (size_t i = 0; r == 0 && i < s->n_images; i++) {
		struct saved_image *im = &s->images[i];
		_cleanup_free_ char *config = xasprintf("sha256:%s", im->id);

		r = write_blob(s, im->digest, &im->manifest, e);
		if (r == 0)
			r = write_blob(s, config, &im->config, e);
	}
	return r;
}

static const struct saved_image *image_of(const struct saving *s, const struct saved_layer *l)
{
	for (size_t i = 0; i < s->n_images; i++)
		if (strv_contains(&s->images[i].layers, l->name))
			return &s->images[i];
	return &s->images[0];
}

static int write_layer(struct saving *s, const struct saved_layer *l, struct err *e)
{
	_cleanup_close_ int recipe = open_recipe(s, l), dir = -EBADF;
	_cleanup_free_ char *path = blob_path(l->diff_id);
	struct remake m = {.recipe_fd = recipe,
			   .tmp_fd = s->store.tmp_fd,
			   .diff_id = l->diff_id,
			   .scan = &l->scan,
			   .out = write_layer_bytes,
			   .arg = s};
	int r;

	dir = openat(s->store.layers_fd, l->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (recipe < 0 || dir < 0)
		return damaged(s, image_of(s, l), l,
			       xasprintf("it cannot be opened: %s", strerror(errno)));
	m.layer_fd = dir;
	r = write_header(s, path, '0', l->scan.size, e);
	if (r == 0)
		r = remake_tar(&m, e);
	if (m.problem)
		return damaged(s, image_of(s, l), l, m.problem);
	return r < 0 ? r : write_padding(s, l->scan.size, e);
}

static int write_archive(struct saving *s, struct err *e)
{
	static const char end[2 * BLOCK];
	int r;

	make_index(s);
	make_docker_manifest(s);
	worker_progress("", "saving", 0, archive_size(s));
	r = write_documents(s, e);
	for (size_t i = 0; r == 0 && i < s->n_layers; i++) {
		r = write_layer(s, s->order[i], e);
		FAULT_POINT("worker.save.layer");
	}
	return r < 0 ? r : write_out(s, end, sizeof(end), e);
}

/* --- the whole --- */

static int read_image(struct saving *s, const struct ipc_field *f, struct err *e)
{
	struct ipc_in sub = ipc_field_nested(f);
	const char *id = ipc_get_str(&sub, WORKER_TAG_IMAGE_ID);
	struct saved_image *im;
	struct ipc_field tag;
	size_t pos = 0;

	if (!id || !id_valid(id) || s->n_images == IMAGES_MAX)
		return err_invalid(e, "image id: \"%s\"; at most %d images go into an archive",
				   str_or_empty(id), IMAGES_MAX);
	s->images = xrealloc(s->images, (s->n_images + 1) * sizeof(*s->images));
	im = &s->images[s->n_images++];
	*im = (struct saved_image){0};
	memcpy(im->id, id, ID_SIZE);
	while (ipc_next(&sub, &pos, &tag))
		if (tag.tag == WORKER_TAG_REFERENCE && ipc_field_str(&tag))
			strv_add(&im->tags, ipc_field_str(&tag));
	return 0;
}

static int save_all(struct saving *s, const struct ipc_in *in, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && ipc_next(in, &pos, &f))
		if (f.tag == WORKER_TAG_IMAGE)
			r = read_image(s, &f, e);
	for (size_t i = 0; r == 0 && i < s->n_images; i++)
		r = add_image(s, &s->images[i], e);
	return r < 0 ? r : write_archive(s, e);
}

static int tell_damage(struct saving *s, struct ipc_out *reply, struct err *e)
{
	struct damage d = {.image = s->bad_image->id, .problem = s->problem};

	if (s->bad_layer) {
		d.layer = s->bad_layer->name;
		d.record = s->bad_layer->record;
	}
	return verify_found(&s->store, &d, reply, e);
}

static void saving_fini(struct saving *s)
{
	for (size_t i = 0; i < s->n_images; i++) {
		struct saved_image *im = &s->images[i];

		strv_fini(&im->tags);
		strbuf_fini(&im->config);
		image_info_fini(&im->info);
		strv_fini(&im->layers);
		strbuf_fini(&im->manifest);
	}
	free(s->images);
	for (size_t i = 0; i < s->n_layers; i++)
		free(s->order[i]);
	free(s->order);
	map_fini(&s->layers);
	strbuf_fini(&s->index);
	strbuf_fini(&s->docker);
	free(s->problem);
}

int do_save(struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct saving s = {.out = -EBADF};
	int r;

	if (in->n_fds == 0)
		return err_invalid(e, "there is nothing to write the archive to");
	s.out = TAKE_FD(in->fds[0]);
	r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &s.store, e);
	if (r == 0) {
		r = save_all(&s, in, e);
		if (s.problem)
			r = tell_damage(&s, reply, e);
		store_close(&s.store);
	}
	fd_close(s.out);
	saving_fini(&s);
	return r;
}
