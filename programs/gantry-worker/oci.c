/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes and configurations (OCI image-spec; Docker schema 2). */
#include <stdio.h>
#include <sys/utsname.h>

#include "artifact.h"
#include "base/mem.h"
#include "wire/json.h"
#include "worker.h"

#define INDEX_MAX 1024	      /* manifests of an index */
#define ARTIFACT_TYPE_MAX 255 /* bytes: RFC 6838 has 127 for each part */
#define CHECKPOINT_NAME_MAX 255

void descriptor_fini(struct descriptor *d)
{
	free(d->digest);
	free(d->media_type);
	free(d->title);
	*d = (struct descriptor){0};
}

/* Their names have dots in them, which jv_get() takes for steps. */
static void read_annotations(const jv *v, struct descriptor *to)
{
	const jv *annotations = jv_get(v, "annotations");
	struct jv_iter it = JV_ITER_INIT;

	while (jv_next(annotations, &it)) {
		const char *s = jv_as_string(it.value);

		if (s && streq(it.key, "org.opencontainers.image.title")) {
			free(to->title);
			to->title = xstrdup(s);
		} else if (s && streq(it.key, "io.deis.oras.content.unpack")) {
			to->unpack = streq(s, "true");
		}
	}
}

static int read_descriptor(const jv *v, const char *what, struct descriptor *ret, struct err *e)
{
	const char *digest = jv_string(v, "digest", "");
	int64_t size = jv_int(v, "size", -1);

	if (!digest_valid(digest))
		return err_invalid(e, "image manifest: %s: \"%.100s\" is no sha256 digest", what,
				   digest);
	if (size < 0)
		return err_invalid(e, "image manifest: %s: no size", what);
	ret->digest = xstrdup(digest);
	ret->media_type = xstrdup(jv_string(v, "mediaType", ""));
	ret->size = (uint64_t)size;
	read_annotations(v, ret);
	return 0;
}

/* What a layer is compressed with is seen in its bytes. */
static bool is_layer_type(const char *t)
{
	return !*t || (strstr(t, "tar") && !strstr(t, "encrypted"));
}

static bool is_image_config(const char *media_type)
{
	static const char *const known[] = {
		"", "application/vnd.oci.image.config.v1+json",
		"application/vnd.docker.container.image.v1+json",
		"application/octet-stream", /* of docker 1.10 */
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (streq(media_type, known[i]))
			return true;
	return false;
}

/* An artifact has a type of its own, or the configuration is none of an image (image-spec,
 * manifest.md). */
static int read_type(const jv *doc, struct manifest *m, struct err *e)
{
	const char *type = jv_string(doc, "artifactType", "");

	if (is_image_config(type)) /* what some tools write into manifests of images */
		type = is_image_config(m->config.media_type) ? "" : m->config.media_type;
	if (strlen(type) > ARTIFACT_TYPE_MAX)
		return err_invalid(e, "image manifest: a type of %zu bytes, at most %d",
				   strlen(type), ARTIFACT_TYPE_MAX);
	m->artifact = *type ? xstrdup(type) : NULL;
	return 0;
}

/* As CRI-O and containerd know an image that holds a checkpoint: by an annotation of its manifest. */
static void read_checkpoint(const jv *doc, struct manifest *m)
{
	struct jv_iter it = JV_ITER_INIT;

	while (!m->checkpoint && jv_next(jv_get(doc, "annotations"), &it)) {
		const char *s = jv_as_string(it.value);

		if (s && (streq(it.key, "io.kubernetes.cri-o.annotations.checkpoint.name") ||
			  streq(it.key, "org.criu.checkpoint.container.name")))
			m->checkpoint = xstrndup(*s ? s : "-", CHECKPOINT_NAME_MAX);
	}
}

static int read_manifest(const jv *doc, struct manifest *m, struct err *e)
{
	const jv *layers = jv_get(doc, "layers");
	int r;

	if (jv_int(doc, "schemaVersion", 0) != 2)
		return err_invalid(e, "image manifest: schema version %lld, only 2 is known",
				   (long long)jv_int(doc, "schemaVersion", 0));
	r = read_descriptor(jv_get(doc, "config"), "config", &m->config, e);
	if (r == 0)
		r = read_type(doc, m, e);
	if (r < 0)
		return r;
	if (!m->artifact && m->config.size > CONFIG_MAX)
		return err_invalid(e, "image manifest: a configuration of %llu bytes, at most %u",
				   (unsigned long long)m->config.size, CONFIG_MAX);
	if (jv_len(layers) > IMAGE_LAYERS_MAX)
		return err_invalid(e, "image manifest: %zu layers, at most %d are possible",
				   jv_len(layers), IMAGE_LAYERS_MAX);
	if (!m->artifact)
		read_checkpoint(doc, m);
	m->layers = xcalloc(jv_len(layers) + 1, sizeof(*m->layers));
	for (size_t i = 0; r == 0 && i < jv_len(layers); i++) {
		m->n_layers = i + 1;
		r = read_descriptor(jv_at(layers, i), "layer", &m->layers[i], e);
		if (r == 0 && !m->artifact && !is_layer_type(m->layers[i].media_type))
			r = err_invalid(e,
					"image manifest: layers of type %.100s cannot be unpacked",
					m->layers[i].media_type);
	}
	return r == 0 && m->artifact ? artifact_check(m, e) : r;
}

int manifest_parse(const char *text, size_t n, struct manifest *ret, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	struct manifest m = {0};
	int r = jv_parse(text, n, MANIFEST_MAX, "image manifest", &doc, e);

	if (r == 0)
		r = read_manifest(doc, &m, e);
	if (r < 0)
		manifest_fini(&m);
	else
		*ret = m;
	return r;
}

void manifest_fini(struct manifest *m)
{
	for (size_t i = 0; i < m->n_layers; i++)
		descriptor_fini(&m->layers[i]);
	free(m->layers);
	descriptor_fini(&m->config);
	free(m->artifact);
	free(m->checkpoint);
	*m = (struct manifest){0};
}

/* --- platforms: GOARCH names, as images have them --- */

static const char *host_machine(void)
{
	static struct utsname u;

	uname(&u);
	return u.machine;
}

const char *host_arch(void)
{
	static const char *const names[][2] = {
		{"x86_64", "amd64"},	    {"aarch64", "arm64"},   {"armv7l", "arm"},
		{"armv6l", "arm"},	    {"i686", "386"},	    {"i386", "386"},
		{"ppc64le", "ppc64le"},	    {"riscv64", "riscv64"}, {"s390x", "s390x"},
		{"loongarch64", "loong64"}, {"mips64", "mips64le"},
	};
	const char *machine = host_machine();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(machine, names[i][0]))
			return names[i][1];
	return machine;
}

/* How well the architecture fits: 0 not at all. What an older machine of the kind runs, this
 * one runs too. */
static int fit_arch(const char *arch, const char *variant)
{
	const char *host = host_arch();
	bool arm64 = streq(host, "arm64");

	if (streq(host, "amd64")) /* v2 and later want more than every one has */
		return !streq(variant, "") && !streq(variant, "v1") ? 0
		       : streq(arch, "amd64")			    ? 9
		       : streq(arch, "386")			    ? 1
								    : 0;
	if (streq(arch, "arm") && (arm64 || streq(host, "arm"))) {
		int newest = arm64 ? 8 : streq(host_machine(), "armv6l") ? 6 : 7;
		int v = *variant == 'v' ? atoi(variant + 1) : 6;

		return v > newest ? 0 : v;
	}
	return streq(arch, host) ? 9 : 0;
}

static int fit(const jv *platform)
{
	if (!streq(jv_string(platform, "os", ""), "linux"))
		return 0;
	return fit_arch(jv_string(platform, "architecture", ""),
			jv_string(platform, "variant", ""));
}

static void list_platforms(const jv *manifests, struct strbuf *to)
{
	for (size_t i = 0; i < jv_len(manifests) && to->len < 200; i++)
		strbuf_addf(to, "%s%s/%s", to->len ? ", " : "",
			    jv_string(jv_at(manifests, i), "platform.os", "?"),
			    jv_string(jv_at(manifests, i), "platform.architecture", "?"));
}

int index_choose(const char *text, size_t n, struct descriptor *ret, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	_cleanup_strbuf_ struct strbuf there = STRBUF_NULL;
	const jv *manifests, *best = NULL;
	int score = 0, r = jv_parse(text, n, MANIFEST_MAX, "image manifest", &doc, e);

	*ret = (struct descriptor){0};
	if (r < 0)
		return r;
	manifests = jv_get(doc, "manifests");
	if (!jv_is_array(manifests))
		return 0;
	if (jv_len(manifests) > INDEX_MAX)
		return err_invalid(e, "image index: %zu manifests, at most %d", jv_len(manifests),
				   INDEX_MAX);
	for (size_t i = 0; i < jv_len(manifests); i++) {
		const jv *m = jv_at(manifests, i), *p = jv_get(m, "platform");
		int k = p ? fit(p) : 0;

		/* An index that says nothing of platforms has one image. */
		if (!p && jv_len(manifests) == 1)
			k = 1;
		/* An image before artifacts that are about it. */
		k = k ? 2 * k + !*jv_string(m, "artifactType", "") : 0;
		if (k > score) {
			score = k;
			best = m;
		}
	}
	if (!best) {
		list_platforms(manifests, &there);
		return err_not_found(e, "the image is not made for linux/%s, only for %s",
				     host_arch(), str_or_empty(there.s));
	}
	return read_descriptor(best, "manifest", ret, e);
}

/* --- configuration --- */

static int read_strings(const jv *v, const char *path, struct strv *to, struct err *e)
{
	const jv *a = jv_get(v, path);

	if (jv_len(a) > CONFIG_STRINGS_MAX)
		return err_invalid(e, "image configuration: %s: %zu entries, at most %d", path,
				   jv_len(a), CONFIG_STRINGS_MAX);
	for (size_t i = 0; i < jv_len(a); i++) {
		const char *s = jv_as_string(jv_at(a, i));

		if (!s)
			return err_invalid(e, "image configuration: %s: no string", path);
		strv_add(to, s);
	}
	return 0;
}

static int read_config(const jv *doc, struct image_info *i, struct err *e)
{
	struct jv_iter it = JV_ITER_INIT;
	const char *os = jv_string(doc, "os", "linux"), *arch = jv_string(doc, "architecture", "");
	int r;

	if (!streq(os, "linux") || (*arch && !fit_arch(arch, jv_string(doc, "variant", ""))))
		return err_not_found(e,
				     "the image is made for %.50s/%.50s, this machine is linux/%s",
				     os, arch, host_arch());
	r = read_strings(doc, "rootfs.diff_ids", &i->diff_ids, e);
	for (size_t k = 0; r == 0 && k < i->diff_ids.n; k++)
		if (!digest_valid(i->diff_ids.v[k]))
			r = err_invalid(e, "image configuration: \"%s\" is no sha256 digest",
					i->diff_ids.v[k]);
	if (r == 0)
		r = read_strings(doc, "config.Entrypoint", &i->config.entrypoint, e);
	if (r == 0)
		r = read_strings(doc, "config.Cmd", &i->config.cmd, e);
	if (r == 0)
		r = read_strings(doc, "config.Env", &i->config.env, e);
	while (i->config.volumes.n < CONFIG_STRINGS_MAX &&
	       jv_next(jv_get(doc, "config.Volumes"), &it))
		strv_add(&i->config.volumes, it.key);
	i->config.user = xstrdup(jv_string(doc, "config.User", ""));
	i->config.working_dir = xstrdup(jv_string(doc, "config.WorkingDir", ""));
	i->config.stop_signal = xstrdup(jv_string(doc, "config.StopSignal", ""));
	return r;
}

int config_parse(const char *text, size_t n, struct image_info *ret, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	struct image_info i = {0};
	int r = jv_parse(text, n, CONFIG_MAX, "image configuration", &doc, e);

	if (r == 0)
		r = read_config(doc, &i, e);
	if (r < 0)
		image_info_fini(&i);
	else
		*ret = i;
	return r;
}

void image_info_fini(struct image_info *i)
{
	struct image_record r = {.config = i->config};

	image_record_fini(&r);
	strv_fini(&i->diff_ids);
	*i = (struct image_info){0};
}
