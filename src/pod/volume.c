/* SPDX-License-Identifier: Apache-2.0 */
/* Images as volumes: see volume.h. */
#include "pod/volume.h"

#include "base/mem.h"
#include "ipc/monitor.h"

static int find_one(struct container *c, const Runtime__V1__Mount *m, struct volume *ret,
		    struct err *e)
{
	struct image *im;
	int r = image_find(c->node->images, m->image->image, &im, e);

	if (r < 0)
		return err_wrap(e, MON_IMAGE_ERROR ": config.mounts.image.image (mount of \"%s\")",
				m->container_path);
	*ret = (struct volume){.mount = m, .name = m->image->image};
	for (size_t i = 0; i < im->record.layers.n; i++)
		strv_add(&ret->layers, im->record.layers.v[i]);
	strv_addf(&c->volumes, "sha256:%s", im->record.id);
	return 0;
}

int volumes_find(struct container *c, struct volumes *ret, struct err *e)
{
	const Runtime__V1__ContainerConfig *config = c->config;
	int r = 0;

	ret->v = xcalloc(config->n_mounts + 1, sizeof(*ret->v));
	for (size_t i = 0; r == 0 && i < config->n_mounts; i++) {
		if (!spec_mount_is_image(config->mounts[i]))
			continue;
		r = find_one(c, config->mounts[i], &ret->v[ret->n], e);
		ret->n += r == 0;
	}
	return r;
}

void volumes_fini(struct volumes *v)
{
	for (size_t i = 0; i < v->n; i++)
		strv_fini(&v->v[i].layers);
	free(v->v);
	*v = (struct volumes){0};
}

static void put_image(const struct volumes *v, const Runtime__V1__Mount *m, struct ipc_out *o)
{
	for (size_t i = 0; i < v->n; i++) {
		if (v->v[i].mount != m)
			continue;
		ipc_put_str(o, MON_TAG_BIND_IMAGE, v->v[i].name);
		ipc_put_str(o, MON_TAG_BIND_SUB_PATH, m->image_sub_path);
		for (size_t k = 0; k < v->v[i].layers.n; k++)
			ipc_put_str(o, MON_TAG_LAYER, v->v[i].layers.v[k]);
	}
}

void volumes_put_binds(const struct volumes *v, const struct spec_binds *binds, struct ipc_out *o)
{
	for (size_t i = 0; i < binds->n; i++) {
		const struct spec_bind *b = &binds->v[i];
		struct ipc_out one;

		ipc_out_init(&one, 0, 0);
		if (b->image)
			put_image(v, b->image, &one);
		else
			ipc_put_str(&one, MON_TAG_BIND_SOURCE, b->source);
		ipc_put_u64(&one, MON_TAG_BIND_SET, b->set);
		ipc_put_u64(&one, MON_TAG_BIND_CLEAR, b->clear);
		ipc_put_u64(&one, MON_TAG_BIND_DEEP, b->deep);
		ipc_put_u64(&one, MON_TAG_BIND_MAPPED, b->mapped);
		ipc_put_nested(o, MON_TAG_BIND, &one);
	}
}

static const char *hex_of(const char *id)
{
	return str_has_prefix(id, "sha256:") ? id + strlen("sha256:") : id;
}

bool container_uses_image(const struct container *c, const char *id)
{
	if (streq(hex_of(str_or_empty(c->image_id)), id))
		return true;
	for (size_t i = 0; i < c->volumes.n; i++)
		if (streq(hex_of(c->volumes.v[i]), id))
			return true;
	return false;
}

static void add_used(struct strv *to, const char *id)
{
	if (*id && !strv_contains(to, id))
		strv_add(to, id);
}

void container_images_used(const struct container *c, struct strv *to)
{
	add_used(to, hex_of(str_or_empty(c->image_id)));
	for (size_t i = 0; i < c->volumes.n; i++)
		add_used(to, hex_of(c->volumes.v[i]));
}
