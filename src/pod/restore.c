/* SPDX-License-Identifier: Apache-2.0 */
/* Containers made of checkpoints: see restore.h. */
#include "pod/choose.h"
#include "pod/runtimes.h"
#include "pod/restore.h"

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "ipc/worker.h"

#define ABOUT_MAX (1u << 20) /* bytes of what the worker says, which bounds it */
#define SPEC_MAX (16u << 20)
#define WORDS_MAX 400 /* bytes of a list in an error */

void restore_fini(struct restore *r)
{
	free(r->path);
	strv_fini(&r->layers);
	jv_free(r->about);
	*r = (struct restore){0};
}

/* --- what it is made of --- */

static int refuse(const char *runtime, const char *why, struct err *e)
{
	return err_set(
		e, -EOPNOTSUPP, GRPC_UNIMPLEMENTED,
		"config.image.image: no container can be made of a checkpoint: runtime \"%s\": "
		"%s",
		runtime, why);
}

/* Of the runtime that its pod has.  (The choice of the container's is not made yet, and is made among
 * those that can do it.) */
static int check_possible(const struct container *c, struct err *e)
{
	const struct node_runtime *rt;
	struct route_binding b;

	pod_binding(c->pod, c, &b);
	rt = node_runtime_named(c->node, b.runtime);
	if (!rt || !rt->probed)
		return refuse(b.runtime, "it has not been probed", e);
	if (!(rt->caps.has & RCAP_BIT(RCAP_CHECKPOINT)))
		return refuse(b.runtime, runtime_caps_why(&rt->caps, RCAP_CHECKPOINT), e);
	if (*c->pod->userns)
		return refuse(b.runtime, "not in a pod with a user namespace", e);
	return 0;
}

static void put_source(const struct restore *r, struct ipc_out *o)
{
	ipc_put_str(o, WORKER_TAG_PATH, r->path);
	for (size_t i = 0; i < r->layers.n; i++)
		ipc_put_str(o, WORKER_TAG_LAYER, r->layers.v[i]);
}

static int look(struct restore *r, struct container *c, struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	struct ipc_out o;
	int res = check_possible(c, e);

	if (res < 0)
		return res;
	image_worker_question(c->node->images, &o, WORKER_CHECKPOINT);
	put_source(r, &o);
	res = image_worker_answer(c->node->images, &o, ABOUT_MAX, &text, e);
	if (res == 0)
		res = jv_parse(str_or_empty(text.s), text.len, ABOUT_MAX, "the worker's answer",
			       &r->about, e);
	return res < 0 ? err_wrap(e, "config.image.image: \"%s\"", c->config->image->image) : 0;
}

static int find_first(struct container *c, const jv *names, struct image **ret)
{
	for (size_t i = 0; i < jv_len(names); i++) {
		const char *name = str_or_empty(jv_as_string(jv_at(names, i)));

		if (image_find(c->node->images, name, ret, NULL) == 0 &&
		    str_empty((*ret)->record.artifact) && str_empty((*ret)->record.checkpoint))
			return 0;
	}
	return -ENOENT;
}

/* By a name only where nothing else is said: the name may be another image's by now. */
static int find_base(struct restore *r, struct container *c, struct image **ret, struct err *e)
{
	const jv *exact = jv_get(r->about, "images"), *names = jv_get(r->about, "names");
	const jv *list = jv_len(exact) ? exact : names;
	const char *first = jv_as_string(jv_at(list, 0)), *name = jv_as_string(jv_at(names, 0));

	if (find_first(c, list, ret) == 0)
		return 0;
	if (!first)
		return err_invalid(
			e,
			"config.image.image: the checkpoint \"%s\" does not say of which "
			"image its container was made",
			c->config->image->image);
	return err_not_found(e,
			     "config.image.image: the image that the container of the checkpoint "
			     "\"%s\" was made of is not on this node: %.200s%s%.200s%s",
			     c->config->image->image, first, name ? " (" : "", str_or_empty(name),
			     name ? ")" : "");
}

static int take_image(struct restore *r, struct container *c, const struct image *im, struct err *e)
{
	if (!c->node->config->container.restore_images)
		return err_precondition(
			e,
			"config.image.image: \"%s\" is the checkpoint of a container "
			"(%.100s), and images are not taken for checkpoints here "
			"(container.restore_images)",
			c->config->image->image, im->record.checkpoint);
	for (size_t i = 0; i < im->record.layers.n; i++)
		strv_add(&r->layers, im->record.layers.v[i]);
	return 0;
}

int restore_find_image(struct container *c, struct restore *r, struct image **ret, struct err *e)
{
	const char *name = c->config->image->image;
	int res = 0;

	if (*name == '/') {
		r->path = xstrdup(name);
	} else {
		res = image_find(c->node->images, name, ret, e);
		if (res < 0)
			return err_wrap(e, "config.image.image");
		if (str_empty((*ret)->record.checkpoint))
			return 0;
		res = take_image(r, c, *ret, e);
	}
	r->wanted = true;
	if (res == 0)
		res = look(r, c, e);
	return res < 0 ? res : find_base(r, c, ret, e);
}

/* --- what it has to have --- */

/* CRIU gives it the mounts that it had: of each that was the host's it has to be told where that is. */
static int check_mounts(const struct restore *r, const jv *spec, struct err *e)
{
	const jv *binds = jv_get(r->about, "binds"), *mounts = jv_get(spec, "mounts");
	_cleanup_strbuf_ struct strbuf missing = STRBUF_NULL;
	struct map has = MAP_NULL;

	for (size_t i = 0; i < jv_len(mounts); i++)
		map_put(&has, jv_string(jv_at(mounts, i), "destination", ""), jv_at(mounts, i));
	for (size_t i = 0; i < jv_len(binds); i++) {
		const char *path = str_or_empty(jv_as_string(jv_at(binds, i)));

		if (!map_get(&has, path))
			strbuf_addf(&missing, "%s%s", missing.len ? ", " : "", path);
	}
	map_fini(&has);
	return missing.len ? err_precondition(e,
					      "config.mounts: the container of the checkpoint had "
					      "mounts that this one is not to have: %.*s",
					      WORDS_MAX, missing.s)
			   : 0;
}

static void tell_extra(const struct restore *r, const struct container *c)
{
	const jv *binds = jv_get(r->about, "binds");
	_cleanup_strbuf_ struct strbuf extra = STRBUF_NULL;
	struct map had = MAP_NULL;

	for (size_t i = 0; i < jv_len(binds); i++)
		map_put(&had, str_or_empty(jv_as_string(jv_at(binds, i))), jv_at(binds, i));
	for (size_t i = 0; i < c->config->n_mounts && extra.len < WORDS_MAX; i++)
		if (!map_get(&had, c->config->mounts[i]->container_path))
			strbuf_addf(&extra, "%s%s", extra.len ? ", " : "",
				    c->config->mounts[i]->container_path);
	map_fini(&had);
	if (extra.len)
		log_warn("container %s has no mount on %.*s: the one that its checkpoint is of had "
			 "none there",
			 c->id, WORDS_MAX, extra.s);
}

static bool own_pids(const jv *spec)
{
	const jv *list = jv_get(spec, "linux.namespaces");

	for (size_t i = 0; i < jv_len(list); i++)
		if (streq(jv_string(jv_at(list, i), "type", ""), "pid"))
			return !*jv_string(jv_at(list, i), "path", "");
	return false;
}

int restore_check(const struct restore *r, const struct container *c, const struct strbuf *spec,
		  struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	int res = jv_parse(spec->s, spec->len, SPEC_MAX, "config.json", &doc, e);

	if (res < 0)
		return res;
	if (jv_bool(r->about, "userns", false))
		return err_precondition(e,
					"config.image.image: the container of the checkpoint had a "
					"user namespace: it cannot be restored");
	if (!jv_bool(r->about, "ownPids", false) || !own_pids(doc))
		return err_precondition(
			e,
			"namespace_options.pid: a container is restored in a PID namespace of its "
			"own (CONTAINER), and had one when its checkpoint was made");
	if (jv_bool(r->about, "terminal", false) != (bool)c->config->tty)
		return err_precondition(
			e, "config.tty: the container of the checkpoint had %s terminal",
			c->config->tty ? "no" : "a");
	res = check_mounts(r, doc, e);
	if (res == 0)
		tell_extra(r, c);
	return res;
}

/* --- what is in it --- */

int restore_fill(const struct restore *r, struct container *c, const struct strv *lower,
		 struct err *e)
{
	_cleanup_strbuf_ struct strbuf none = STRBUF_NULL;
	struct ipc_out o;
	int res;

	image_worker_question(c->node->images, &o, WORKER_RESTORE);
	ipc_put_str(&o, WORKER_TAG_NAME, c->id);
	put_source(r, &o);
	for (size_t i = 0; i < lower->n; i++)
		ipc_put_str(&o, WORKER_TAG_LOWER, lower->v[i]);
	res = image_worker_answer(c->node->images, &o, 0, &none, e);
	return res < 0 ? err_wrap(e, "config.image.image: \"%s\"", c->config->image->image) : 0;
}
