/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading archives: `docker save` (manifest.json), an OCI archive or an OCI layout directory
 * (OCI image-spec, image-layout.md).  A compressed archive is unpacked into a file first,
 * because what says what is inside may stand at its end.
 */
#include "archive.h"
#include "base/mem.h"
#include "layer.h"
#include "wire/json.h"
#include "worker.h"

#define IMAGES_MAX 256 /* of an archive */

/* --- images --- */

/* One image whose layers are made, until all of the archive are. */
struct loaded {
	struct image_info info;
	struct strbuf config; /* of an artifact its manifest */
	char *artifact;	      /* its type, NULL: it is an image */
	char *checkpoint;     /* name of the container that it is one of; NULL */
	struct new_layer *layers;
	size_t n_layers;
	struct strv tags, digests;
};

struct loading {
	struct store *store;
	struct archive *archive;
	struct loaded *v;
	size_t n;
	unsigned parallel;
};

static void loaded_fini(struct loaded *i)
{
	image_info_fini(&i->info);
	strbuf_fini(&i->config);
	free(i->artifact);
	free(i->checkpoint);
	free(i->layers);
	strv_fini(&i->tags);
	strv_fini(&i->digests);
}

static void loading_fini(struct loading *l)
{
	for (size_t i = 0; i < l->n; i++)
		loaded_fini(&l->v[i]);
	free(l->v);
}

/* The next of `parallel` layers at once, lowest first; *next: the first not yet looked at. */
static int start_some(struct loading *l, struct layer_set *set, const struct strv *members,
		      int *fds, size_t *next, struct err *e)
{
	unsigned running = 0;

	for (size_t i = 0; i < *next; i++)
		running += set->v[i].state == LAYER_RUNNING;
	for (; *next < set->n && running < l->parallel; ++*next) {
		struct layer *layer = &set->v[*next];
		const char *what = layer->diff_id ? layer->diff_id : layer->digest;
		int r;

		if (layer->state == LAYER_HERE) {
			worker_progress(what, "exists", 0, 0);
			continue;
		}
		fds[*next] = member_open(l->archive, members->v[*next], &layer->size, e);
		if (fds[*next] < 0)
			return fds[*next];
		worker_progress(what, "unpacking", 0, layer->size);
		r = layer_start(set, *next, fds[*next], e);
		if (r < 0)
			return r;
		running++;
	}
	return running ? 1 : 0;
}

/* `members` of the archive, lowest first. */
static int make_layers(struct loading *l, struct layer_set *set, const struct strv *members,
		       struct err *e)
{
	int fds[IMAGE_LAYERS_MAX + 1], r;
	size_t next = 0;

	for (size_t i = 0; i < set->n; i++)
		fds[i] = -EBADF;
	while ((r = start_some(l, set, members, fds, &next, e)) > 0) {
		r = layer_set_wait(set, e);
		if (r < 0)
			break;
	}
	for (size_t i = 0; i < set->n; i++)
		fd_close(fds[i]);
	return r;
}

static int read_config(const struct strbuf *config, const struct strv *members,
		       struct image_info *ret, struct err *e)
{
	int r = config_parse(str_or_empty(config->s), config->len, ret, e);

	if (r == 0 && (members->n != ret->diff_ids.n || members->n > IMAGE_LAYERS_MAX))
		r = err_invalid(e,
				"the image has %zu layers, its configuration names %zu, %d are "
				"possible",
				members->n, ret->diff_ids.n, IMAGE_LAYERS_MAX);
	return r;
}

/* `m`: its manifest, which of an artifact is in `config` too; NULL: not known.  Takes `config`, `tags` and
 * `digests` over. */
static int load_image(struct loading *l, struct strbuf *config, const struct manifest *m,
		      const struct strv *members, struct strv *tags, struct strv *digests,
		      struct err *e)
{
	const struct manifest *artifact = m && m->artifact ? m : NULL;
	struct loaded i = {.artifact = artifact ? xstrdup(m->artifact) : NULL,
			   .checkpoint = m && m->checkpoint ? xstrdup(m->checkpoint) : NULL};
	struct layer_set set = {0};
	int r = artifact ? 0 : read_config(config, members, &i.info, e);

	if (r == 0) {
		if (artifact)
			layer_set_init_artifact(&set, l->store, artifact);
		else
			layer_set_init(&set, l->store, &i.info.diff_ids);
		r = make_layers(l, &set, members, e);
	}
	if (r < 0) {
		layer_set_fini(&set);
		loaded_fini(&i);
		return r;
	}
	i.layers = xcalloc(set.n + 1, sizeof(*i.layers));
	for (i.n_layers = 0; i.n_layers < set.n; i.n_layers++)
		i.layers[i.n_layers] = set.v[i.n_layers].out;
	layer_set_fini(&set);
	i.config = *config;
	i.tags = *tags;
	i.digests = *digests;
	*config = STRBUF_NULL;
	*tags = *digests = STRV_NULL;
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n++] = i;
	return 0;
}

/* All of them, or none. */
static int commit_all(struct loading *l, struct ipc_out *reply, struct err *e)
{
	struct new_image *v = xcalloc(l->n + 1, sizeof(*v));
	int r;

	for (size_t i = 0; i < l->n; i++)
		v[i] = (struct new_image){.layers = l->v[i].layers,
					  .n_layers = l->v[i].n_layers,
					  .info = &l->v[i].info,
					  .config = &l->v[i].config,
					  .artifact = l->v[i].artifact,
					  .checkpoint = l->v[i].checkpoint,
					  .tags = &l->v[i].tags,
					  .digests = &l->v[i].digests};
	r = store_commit(l->store, v, l->n, reply, e);
	free(v);
	return r;
}

static void add_tag(struct strv *tags, const char *name)
{
	_cleanup_reference_ struct reference ref = REFERENCE_NULL;

	if (reference_parse(name, &ref, NULL) == 0 && !ref.digest)
		strv_add(tags, ref.text);
}

/* --- docker save --- */

static int load_docker_image(struct loading *l, const jv *m, struct err *e)
{
	struct strv layers = STRV_NULL, tags = STRV_NULL, digests = STRV_NULL;
	_cleanup_strbuf_ struct strbuf config = STRBUF_NULL;
	int r = member_read(l->archive, jv_string(m, "Config", ""), CONFIG_MAX, &config, e);

	for (size_t i = 0; i < jv_len(jv_get(m, "Layers")); i++)
		strv_add(&layers, str_or_empty(jv_as_string(jv_at(jv_get(m, "Layers"), i))));
	for (size_t i = 0; i < jv_len(jv_get(m, "RepoTags")); i++)
		add_tag(&tags, str_or_empty(jv_as_string(jv_at(jv_get(m, "RepoTags"), i))));
	if (r == 0)
		r = load_image(l, &config, NULL, &layers, &tags, &digests, e);
	strv_fini(&layers);
	strv_fini(&tags);
	strv_fini(&digests);
	return r;
}

static int load_docker(struct loading *l, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;
	int r = member_read(l->archive, "manifest.json", MANIFEST_MAX, &b, e);

	if (r == 0)
		r = jv_parse(b.s, b.len, MANIFEST_MAX, "manifest.json", &doc, e);
	if (r == 0 && (!jv_is_array(doc) || jv_len(doc) > IMAGES_MAX))
		r = err_invalid(e, "manifest.json is no list of at most %d images", IMAGES_MAX);
	for (size_t i = 0; r == 0 && i < jv_len(doc); i++)
		r = load_docker_image(l, jv_at(doc, i), e);
	return r;
}

/* --- OCI --- */

static int read_blob(struct loading *l, const char *digest, size_t max, struct strbuf *ret,
		     struct err *e)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (!digest_valid(digest))
		return err_invalid(e, "\"%s\" is no sha256 digest", digest);
	path = xasprintf("blobs/sha256/%s", digest + strlen("sha256:"));
	r = member_read(l->archive, path, max, ret, e);
	return r < 0 ? r : digest_check(ret->s, ret->len, digest, path, e);
}

static int load_manifest(struct loading *l, const char *digest, struct strv *tags, unsigned depth,
			 struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, config = STRBUF_NULL;
	struct strv layers = STRV_NULL, digests = STRV_NULL;
	struct descriptor chosen = {0};
	struct manifest m;
	int r = read_blob(l, digest, MANIFEST_MAX, &b, e);

	if (r == 0)
		r = index_choose(b.s, b.len, &chosen, e);
	if (r == 0 && chosen.digest) {
		r = depth < INDEX_DEPTH_MAX
			    ? load_manifest(l, chosen.digest, tags, depth + 1, e)
			    : err_invalid(e, "image index: more than %d indexes in indexes",
					  INDEX_DEPTH_MAX);
		descriptor_fini(&chosen);
		return r;
	}
	if (r == 0)
		r = manifest_parse(b.s, b.len, &m, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < m.n_layers; i++)
		strv_addf(&layers, "blobs/sha256/%s", m.layers[i].digest + strlen("sha256:"));
	for (size_t i = 0; i < tags->n; i++) {
		_cleanup_reference_ struct reference ref = REFERENCE_NULL;

		if (reference_parse(tags->v[i], &ref, NULL) == 0)
			strv_addf(&digests, "%s@%s", ref.name, digest);
	}
	r = m.artifact ? 0 : read_blob(l, m.config.digest, CONFIG_MAX, &config, e);
	if (r == 0)
		r = load_image(l, m.artifact ? &b : &config, &m, &layers, tags, &digests, e);
	manifest_fini(&m);
	strv_fini(&layers);
	strv_fini(&digests);
	return r;
}

static bool for_this_machine(const jv *descriptor)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct descriptor chosen = {0};
	bool good;

	if (!jv_get(descriptor, "platform"))
		return true;
	strbuf_adds(&b, "{\"manifests\":[");
	jv_print(descriptor, &b);
	strbuf_adds(&b, "]}");
	good = index_choose(b.s, b.len, &chosen, NULL) == 0 && chosen.digest;
	descriptor_fini(&chosen);
	return good;
}

/* The names under which tools write an image into an index. */
static void descriptor_tags(const jv *d, struct strv *tags)
{
	const jv *a = jv_get(d, "annotations");
	struct jv_iter it = JV_ITER_INIT;

	while (jv_next(a, &it)) {
		const char *v = jv_as_string(it.value);

		if (!v)
			continue;
		if (streq(it.key, "io.containerd.image.name"))
			add_tag(tags, v);
		else if (streq(it.key, "org.opencontainers.image.ref.name") &&
			 (strchr(v, '/') || strchr(v, ':')))
			add_tag(tags, v);
	}
}

static int load_oci(struct loading *l, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;
	size_t loaded = 0;
	const jv *list;
	int r = member_read(l->archive, "index.json", MANIFEST_MAX, &b, e);

	if (r == 0)
		r = jv_parse(b.s, b.len, MANIFEST_MAX, "index.json", &doc, e);
	if (r < 0)
		return r;
	list = jv_get(doc, "manifests");
	if (!jv_is_array(list) || jv_len(list) > IMAGES_MAX)
		return err_invalid(e, "index.json names no list of at most %d images", IMAGES_MAX);
	for (size_t i = 0; r == 0 && i < jv_len(list); i++) {
		const jv *d = jv_at(list, i);
		struct strv tags = STRV_NULL;

		if (!for_this_machine(d))
			continue;
		descriptor_tags(d, &tags);
		r = load_manifest(l, jv_string(d, "digest", ""), &tags, 0, e);
		strv_fini(&tags);
		loaded++;
	}
	if (r == 0 && !loaded)
		r = err_not_found(e, "no image in it is made for this machine");
	return r;
}

int do_load(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	const char *path = str_or_empty(ipc_get_str(in, WORKER_TAG_PATH));
	struct archive a;
	struct store s;
	struct loading l = {.store = &s,
			    .archive = &a,
			    .parallel = (unsigned)ipc_get_u64(in, WORKER_TAG_PARALLEL, 3)};
	int r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &s, e);

	if (r < 0)
		return r;
	r = archive_open(&s, path, &a, e);
	if (r == 0) {
		if (member_there(&a, "manifest.json"))
			r = load_docker(&l, e);
		else if (member_there(&a, "index.json"))
			r = load_oci(&l, e);
		else
			r = err_invalid(e, "it has neither manifest.json (docker save) nor "
					   "index.json (OCI layout)");
		if (r == 0)
			r = commit_all(&l, reply, e);
		if (r < 0)
			err_wrap(e, "load %s", path);
	}
	loading_fini(&l);
	archive_close(&a);
	store_close(&s);
	return r;
}
