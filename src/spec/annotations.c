/* SPDX-License-Identifier: Apache-2.0 */
/* `annotations` of config.json: see spec.h. */
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "spec/resources.h"

/* Names under these steer runtimes and systemd's units: not for users to set. */
static const char *const steering[] = {
	"run.oci.",	     "krun.", "org.systemd.property.", "org.criu.", "module.wasm.image/",
	"io.kubernetes.cri."};

struct printing {
	struct jw *w;
	struct strv keys; /* that are there */
};

static void put(struct printing *p, const char *key, const char *value)
{
	if (strv_contains(&p->keys, key))
		return; /* what came before counts */
	strv_add(&p->keys, key);
	jw_key_string(p->w, key, value);
}

static const char *steered_by(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(steering); i++)
		if (str_has_prefix(key, steering[i]))
			return steering[i];
	return NULL;
}

/* Wildcards are not meant for what steers: a pattern has to name it. */
static bool listed(const char *key, const char *const *patterns)
{
	const char *what = steered_by(key);

	for (; patterns && *patterns; patterns++)
		if (fnmatch(*patterns, key, FNM_PATHNAME) == 0 &&
		    (!what || str_has_prefix(*patterns, what)))
			return true;
	return false;
}

static void put_property(void *arg, const char *name, uint64_t value)
{
	_cleanup_free_ char *key = xasprintf("org.systemd.property.%s", name);
	_cleanup_free_ char *text = xasprintf("uint64 %" PRIu64, value);

	put(arg, key, text);
}

static void put_pod(const Runtime__V1__PodSandboxConfig *pod, const char *id, struct printing *p)
{
	const Runtime__V1__PodSandboxMetadata *m = pod->metadata;

	put(p, "io.kubernetes.cri.sandbox-id", id);
	put(p, "io.kubernetes.cri.sandbox-name", m->name);
	put(p, "io.kubernetes.cri.sandbox-namespace", m->namespace_);
	put(p, "io.kubernetes.cri.sandbox-uid", m->uid);
}

/* crun throws away what hooks print, but for this; a file in the bundle. */
static void put_hooks_output(const struct spec_container *s, struct printing *p)
{
	const char *end = s->binds_dir ? strrchr(s->binds_dir, '/') : NULL;
	_cleanup_free_ char *file = NULL;

	if (!end || !jv_get(s->edits, "hooks"))
		return;
	file = xasprintf("%.*s/hooks.log", (int)(end - s->binds_dir), s->binds_dir);
	put(p, "run.oci.hooks.stdout", file);
	put(p, "run.oci.hooks.stderr", file);
}

static void put_own(const struct spec_container *s, struct printing *p)
{
	/* Else crun makes one more cgroup below systemd's scope, of whose limits systemd and
	 * whoever reads figures know nothing. */
	if (s->host->cgroup_v2)
		put(p, "run.oci.systemd.subgroup", "");
	spec_unit_properties(s->config->linux ? s->config->linux->resources : NULL, s->host,
			     s->pids_limit, put_property, p);
	if (s->seccomp && s->seccomp_filter && !spec_privileged(s))
		put(p, "run.oci.seccomp_bpf_data", s->seccomp_filter);
	put_hooks_output(s, p);
	put(p, "io.kubernetes.cri.container-type", "container");
	put(p, "io.kubernetes.cri.container-name", s->config->metadata->name);
	put(p, "io.kubernetes.cri.image-name", s->image_name);
	put_pod(s->pod, s->pod_id, p);
}

/* A filter is compiled code for the kernel, made of a profile that has been read: never a user's. */
static bool never(const char *key)
{
	return streq(key, "run.oci.seccomp_bpf_data");
}

static void put_passed_on(const Runtime__V1__PodSandboxConfig *pod, const char *const *patterns,
			  struct printing *p)
{
	for (size_t i = 0; i < pod->n_annotations; i++)
		if (!never(pod->annotations[i]->key) && listed(pod->annotations[i]->key, patterns))
			put(p, pod->annotations[i]->key, pod->annotations[i]->value);
}

void spec_annotations_print(const struct spec_container *s, struct jw *w)
{
	struct printing p = {.w = w};

	jw_key_object(w, "annotations");
	put_own(s, &p);
	for (size_t i = 0; i < s->config->n_annotations; i++) {
		const char *key = s->config->annotations[i]->key;

		if (!never(key) && (!steered_by(key) || listed(key, s->container_annotations)))
			put(&p, key, s->config->annotations[i]->value);
	}
	put_passed_on(s->pod, s->pod_annotations, &p);
	jw_object_end(w);
	strv_fini(&p.keys);
}

void spec_sandbox_annotations_print(const struct spec_sandbox *s, struct jw *w)
{
	struct printing p = {.w = w};

	jw_key_object(w, "annotations");
	put(&p, "io.kubernetes.cri.container-type", "sandbox");
	put_pod(s->pod, s->pod_id, &p);
	put_passed_on(s->pod, s->pod_annotations, &p);
	jw_object_end(w);
	strv_fini(&p.keys);
}
