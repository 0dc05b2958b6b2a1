/* SPDX-License-Identifier: Apache-2.0 */
/* CRI: images. */
#include <fcntl.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "image/store.h"
#include "pod/node.h"
#include "pod/volume.h"
#include "wire/json.h"

/* "1000:50" or "web": the number goes into uid, anything else into username (api.proto). */
static void put_user(struct arena *a, Runtime__V1__Image *m, const char *user)
{
	char *s = arena_strndup(a, user, strcspn(user, ":"));
	int64_t v;

	if (!*s)
		return;
	if (!str_to_i64(s, &v)) {
		m->username = s;
		return;
	}
	m->uid = arena_alloc(a, sizeof(*m->uid));
	runtime__v1__int64_value__init(m->uid);
	m->uid->value = v;
}

/* Borrows from the image. */
static void fill(struct arena *a, const struct image *im, Runtime__V1__Image *m)
{
	const struct image_record *r = &im->record;

	runtime__v1__image__init(m);
	m->id = arena_printf(a, "sha256:%s", r->id);
	m->n_repo_tags = r->tags.n;
	m->repo_tags = r->tags.v;
	m->n_repo_digests = r->digests.n;
	m->repo_digests = r->digests.v;
	m->size = r->size;
	m->pinned = im->pinned;
	put_user(a, m, r->config.user);
}

static const struct strbuf *list_item(struct arena *a, struct image *im)
{
	Runtime__V1__Image m;

	if (!im->list_item.len) {
		fill(a, im, &m);
		cri_put_message(&im->list_item, 1, &m.base);
	}
	return &im->list_item;
}

static int list_images(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ListImagesRequest *q = request;
	const char *want = q->filter && q->filter->image ? q->filter->image->image : "";
	struct image *im, *only = NULL;

	c->raw_used = true;
	if (*want && image_find(c->node->images, want, &only, e) < 0)
		return 0; /* nothing matches */
	list_for_each (im, image_list(c->node->images), in_order) {
		const struct strbuf *item;

		if ((only && im != only) || im->removing || image_damaged(im))
			continue;
		item = list_item(c->arena, im);
		strbuf_add(&c->raw, item->s, item->len);
	}
	return 0;
}

static int need_image(const Runtime__V1__ImageSpec *s, const char **ret, struct err *e)
{
	if (!s || str_empty(s->image))
		return err_invalid(e, "image.image: must not be empty");
	*ret = s->image;
	return 0;
}

static void print_vector(struct jw *w, const char *key, const struct strv *v)
{
	jw_key_array(w, key);
	for (size_t i = 0; i < v->n; i++)
		jw_string(w, v->v[i]);
	jw_array_end(w);
}

/* What `crictl inspecti` shows beyond the status; the keys are those that tools look for. */
static void image_info(struct arena *a, const struct image *im, const struct strbuf *config,
		       Runtime__V1__ImageStatusResponse *r)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	if (*im->record.artifact)
		jw_key_string(&w, "artifactType", im->record.artifact);
	if (!str_empty(im->record.checkpoint))
		jw_key_string(&w, "checkpoint", im->record.checkpoint);
	jw_key(&w, *im->record.artifact ? "manifest" : "imageSpec");
	jw_raw(&w, config->len ? config->s : "{}");
	print_vector(&w, "layers", &im->record.layers);
	jw_object_end(&w);
	cri_info(a, "info", b.s, &r->info, &r->n_info);
}

/* The image's configuration as it came, which only the disk has. */
static int read_config(struct cri_call *c, const struct image *im, struct strbuf *ret,
		       struct err *e)
{
	_cleanup_free_ char *path =
		xasprintf("%s/images/%s.config", c->node->config->root, im->record.id);

	return image_worker_read(c->node->images, path, IMAGE_CONFIG_MAX, ret, e);
}

/* An image that is not there is an empty answer, not an error (api.proto). */
static int image_status(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ImageStatusRequest *q = request;
	Runtime__V1__ImageStatusResponse *r = response;
	_cleanup_strbuf_ struct strbuf config = STRBUF_NULL;
	const char *name = NULL;
	struct image *im;
	int ret = need_image(q->image, &name, e);

	c->about = name;
	if (ret == 0)
		ret = image_find(c->node->images, name, &im, e);
	if (ret == 0 && q->verbose) {
		ret = read_config(c, im, &config, e);
		if (ret == 0 || ret == -ENOENT) /* it may have changed, or gone, meanwhile */
			ret = image_find(c->node->images, name, &im, e);
	}
	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return ret;
	r->image = arena_alloc(c->arena, sizeof(*r->image));
	fill(c->arena, im, r->image);
	if (q->verbose)
		image_info(c->arena, im, &config, r);
	return 0;
}

static int pull_image(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__PullImageRequest *q = request;
	Runtime__V1__PullImageResponse *r = response;
	struct image_auth auth = {0};
	char id[ID_SIZE];
	const char *name = NULL;
	int ret = need_image(q->image, &name, e);

	if (ret < 0)
		return ret;
	c->about = name;
	if (!str_empty(q->image->runtime_handler) &&
	    !config_runtime_find(c->node->config, q->image->runtime_handler))
		return err_invalid(e, "image.runtime_handler: no runtime \"%s\" is configured",
				   q->image->runtime_handler);
	if (q->auth)
		auth = (struct image_auth){q->auth->username,	    q->auth->password,
					   q->auth->auth,	    q->auth->server_address,
					   q->auth->identity_token, q->auth->registry_token};
	ret = image_pull(c->node->images, name, q->auth ? &auth : NULL, NULL, NULL, id, e);
	if (ret == 0)
		r->image_ref = arena_printf(c->arena, "sha256:%s", id);
	return ret;
}

/* Its layers are under a container's root file system, or one of its volumes. */
static int refuse_used(struct node *n, const struct image *im, struct err *e)
{
	struct container *c;

	list_for_each (c, &n->containers_in_order, in_order)
		if (container_uses_image(c, im->record.id))
			return err_precondition(e, "image %s is used by container %s",
						im->record.id, c->id);
	return 0;
}

static int remove_image(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__RemoveImageRequest *q = request;
	const char *name = NULL;
	struct image *im;
	int r = need_image(q->image, &name, e);

	if (r < 0)
		return r;
	c->about = name;
	r = image_find_any(c->node->images, name, &im, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = refuse_used(c->node, im, e);
	return r < 0 ? r : image_remove(c->node->images, name, e);
}

static Runtime__V1__FilesystemUsage *usage(struct arena *a, const char *path, uint64_t bytes,
					   uint64_t inodes, int64_t at)
{
	Runtime__V1__FilesystemUsage *m = arena_alloc(a, sizeof(*m));

	runtime__v1__filesystem_usage__init(m);
	m->timestamp = at ? at : clock_wall_ns();
	m->fs_id = arena_alloc(a, sizeof(*m->fs_id));
	runtime__v1__filesystem_identifier__init(m->fs_id);
	m->fs_id->mountpoint = arena_strdup(a, path);
	m->used_bytes = arena_alloc(a, sizeof(*m->used_bytes));
	runtime__v1__uint64_value__init(m->used_bytes);
	m->used_bytes->value = bytes;
	m->inodes_used = arena_alloc(a, sizeof(*m->inodes_used));
	runtime__v1__uint64_value__init(m->inodes_used);
	m->inodes_used->value = inodes;
	return m;
}

static int image_fs_info(struct cri_call *c, const void *request, void *response, struct err *e)
{
	Runtime__V1__ImageFsInfoResponse *r = response;
	struct image_usage u;
	struct container *ctr;
	uint64_t bytes = 0, inodes = 0;

	node_measure(c->node);
	if (c->node->measuring && !c->node->measured_at) /* the first time: it is worth a wait */
		while (c->node->measuring)
			if (co_sleep(5 * USEC_PER_MS) < 0)
				return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	image_store_usage(c->node->images, &u);
	list_for_each (ctr, &c->node->containers_in_order, in_order) {
		bytes += ctr->usage_bytes;
		inodes += ctr->usage_inodes;
	}
	r->image_filesystems = arena_alloc(c->arena, sizeof(*r->image_filesystems));
	r->image_filesystems[r->n_image_filesystems++] =
		usage(c->arena, c->node->config->root, u.bytes, u.inodes, u.measured_at);
	r->container_filesystems = arena_alloc(c->arena, sizeof(*r->container_filesystems));
	r->container_filesystems[r->n_container_filesystems++] =
		usage(c->arena, c->node->config->root, bytes, inodes, u.measured_at);
	return 0;
}

const struct cri_method cri_methods_image[] = {
	CRI_IMAGE_METHOD("ListImages", list_images, list_images, true),
	CRI_STREAM("ImageService", "StreamImages", list_images, list_images),
	CRI_IMAGE_METHOD("ImageStatus", image_status, image_status, true),
	CRI_IMAGE_METHOD("PullImage", pull_image, pull_image, false),
	CRI_IMAGE_METHOD("RemoveImage", remove_image, remove_image, false),
	CRI_IMAGE_METHOD("ImageFsInfo", image_fs_info, image_fs_info, true),
	{0},
};
