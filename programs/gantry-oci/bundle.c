/* SPDX-License-Identifier: Apache-2.0 */
/* See bundle.h. */
#include "bundle.h"

#include <fcntl.h>

#include "base/fs.h"
#include "base/mem.h"

#define CONTAINERD "io.kubernetes.cri."
#define CRIO "io.kubernetes.cri-o."
#define LABEL "gantry.label."

void bundle_fini(struct bundle *b)
{
	jv_free(b->config);
	jv_free(b->labels);
	reference_fini(&b->image);
	arena_fini(&b->arena);
	*b = (struct bundle){0};
}

/* --- annotations --- */

struct notes {
	struct bundle *b;
	bool own;		    /* gantry's own keys count */
	const struct route_pair *v; /* facts.annotations */
	size_t n;
};

/* NULL: there is none. */
static const char *note(const struct notes *a, const char *key)
{
	for (size_t i = 0; i < a->n; i++)
		if (streq(a->v[i].key, key))
			return a->v[i].value;
	return NULL;
}

/* The first of these that is there and not empty. */
static const char *first(const struct notes *a, const char *own, const char *containerd,
			 const char *crio)
{
	const char *const keys[] = {own, containerd, crio};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *s = keys[i] && (i || a->own) ? note(a, keys[i]) : NULL;

		if (!str_empty(s))
			return s;
	}
	return NULL;
}

/* The strings among the members of `v`, after what is in `to`. */
static size_t pairs(const jv *v, const char *prefix, struct route_pair *to, size_t n)
{
	struct jv_iter it = JV_ITER_INIT;

	while (n < BUNDLE_LABELS_MAX && jv_next(v, &it)) {
		const char *s = jv_as_string(it.value);

		if (s && str_has_prefix(it.key, prefix))
			to[n++] = (struct route_pair){it.key + strlen(prefix), s};
	}
	return n;
}

/* gantry.label.KEY goes before what CRI-O says of KEY. */
static void take_labels(struct notes *a, const jv *annotations)
{
	struct bundle *b = a->b;
	struct route_pair *own = arena_calloc(&b->arena, BUNDLE_LABELS_MAX, sizeof(*own)), *all;
	const char *json = note(a, CRIO "Labels");
	size_t n = a->own ? pairs(annotations, LABEL, own, 0) : 0, n_own = n;

	b->facts.labels = own;
	b->facts.n_labels = n;
	if (!json ||
	    jv_parse(json, strlen(json), BUNDLE_CONFIG_MAX, "labels", &b->labels, NULL) < 0)
		return;
	all = arena_calloc(&b->arena, BUNDLE_LABELS_MAX, sizeof(*all));
	for (size_t i = 0, m = pairs(b->labels, "", all, 0); i < m && n < BUNDLE_LABELS_MAX; i++) {
		bool there = false;

		for (size_t k = 0; k < n_own; k++)
			there |= streq(own[k].key, all[i].key);
		if (!there)
			own[n++] = all[i];
	}
	b->facts.n_labels = n;
}

static void take_names(struct notes *a)
{
	struct bundle *b = a->b;
	struct route_facts *f = &b->facts;
	const char *type = first(a, NULL, CONTAINERD "container-type", CRIO "ContainerType");
	const char *image;

	a->own = !type;
	image = first(a, "gantry.image", CONTAINERD "image-name", CRIO "ImageName");
	f->container = !type || !streq(type, "sandbox");
	b->run_handler = note(a, "run.oci.handler");
	f->handler = first(a, "gantry.handler", NULL, NULL);
	b->own_handler = f->handler;
	if (!f->handler)
		f->handler = first(a, "run.oci.handler", "io.containerd.cri.runtime-handler",
				   CRIO "RuntimeHandler");
	f->namespace =
		first(a, "gantry.namespace", CONTAINERD "sandbox-namespace", CRIO "Namespace");
	if (!f->namespace)
		f->namespace = note(a, "io.kubernetes.pod.namespace");
	f->pod = first(a, "gantry.pod", CONTAINERD "sandbox-name", CRIO "KubeName");
	if (!f->pod)
		f->pod = note(a, "io.kubernetes.pod.name");
	if (f->container) {
		f->container_name = first(a, "gantry.container", CONTAINERD "container-name",
					  "io.kubernetes.container.name");
		b->sandbox_id = first(a, NULL, CONTAINERD "sandbox-id", CRIO "SandboxID");
	}
	if (f->container && image && reference_parse(image, &b->image, NULL) == 0)
		f->image = &b->image;
}

/* --- the rest --- */

/* What CRI's privileged becomes: all devices, all capabilities. */
static bool all_devices(const jv *config)
{
	const jv *list = jv_get(config, "linux.resources.devices");

	for (size_t i = 0; i < jv_len(list); i++) {
		const jv *d = jv_at(list, i);
		const char *type = jv_string(d, "type", "a");

		if (jv_bool(d, "allow", false) && (streq(type, "a") || streq(type, "")) &&
		    jv_int(d, "major", -1) == -1 && jv_int(d, "minor", -1) == -1)
			return true;
	}
	return false;
}

static bool has_capability(const jv *config, const char *name)
{
	const jv *list = jv_get(config, "process.capabilities.bounding");

	for (size_t i = 0; i < jv_len(list); i++)
		if (streq(str_or_empty(jv_as_string(jv_at(list, i))), name))
			return true;
	return false;
}

static bool privileged(const struct notes *a, const jv *config)
{
	const char *said = first(a, "gantry.privileged", NULL, CRIO "PrivilegedRuntime");

	if (said)
		return streq(said, "true");
	return all_devices(config) && has_capability(config, "CAP_SYS_ADMIN");
}

static bool user_namespace(const jv *config)
{
	const jv *list = jv_get(config, "linux.namespaces");

	for (size_t i = 0; i < jv_len(list); i++)
		if (streq(jv_string(jv_at(list, i), "type", ""), "user"))
			return true;
	return false;
}

int bundle_parse(const char *text, size_t n, const struct needs_facts *host, struct bundle *ret,
		 struct err *e)
{
	_cleanup_bundle_ struct bundle b = {0};
	struct notes a = {.b = &b};
	struct route_pair *v;
	struct needs_facts h = *host;
	const jv *annotations;
	int r = jv_parse(text, n, BUNDLE_CONFIG_MAX, "config.json", &b.config, e);

	if (r < 0)
		return r;
	if (!jv_is_object(b.config))
		return err_invalid(e, "config.json: no object");
	annotations = jv_get(b.config, "annotations");
	v = arena_calloc(&b.arena, BUNDLE_LABELS_MAX, sizeof(*v));
	a.v = b.facts.annotations = v;
	a.n = b.facts.n_annotations = pairs(annotations, "", v, 0);
	take_names(&a);
	take_labels(&a, annotations);
	h.privileged = b.facts.privileged = privileged(&a, b.config);
	b.facts.user_namespace = user_namespace(b.config);
	needs_add_config(&b.needs, b.config, &h);
	*ret = b;
	if (b.facts.image)
		ret->facts.image = &ret->image;
	b = (struct bundle){0}; /* moved */
	return 0;
}

int bundle_read(const char *dir, const struct needs_facts *host, struct bundle *ret, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/config.json", dir ? dir : ".");
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, BUNDLE_CONFIG_MAX, &b);

	if (r < 0)
		return err_errno(e, r, "read %s", path);
	r = bundle_parse(str_or_empty(b.s), b.len, host, ret, e);
	return r < 0 ? err_wrap(e, "%s", dir ? dir : ".") : 0;
}
