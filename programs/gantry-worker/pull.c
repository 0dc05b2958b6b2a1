/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pulling: manifest, configuration, then the layers that the store does not have.  Each is
 * fetched by a transfer (registry.h) and fed to the process that unpacks it (layer.h) as its
 * bytes come; nothing is kept of the compressed blob.  A process that cannot follow pauses its
 * transfer.  A layer that another worker is making is waited for (claims.h).
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "claims.h"
#include "layer.h"
#include "registry.h"
#include "worker.h"

#define ATTEMPTS 3			   /* where a layer that was there is removed meanwhile */
#define PROGRESS_EVERY (100 * USEC_PER_MS) /* of one layer */

struct fetch {
	struct pulling *pull;
	size_t layer;
	struct transfer transfer;
	uint64_t progress_at;
	bool elsewhere;	     /* another worker makes it */
	uint64_t wait_until; /* for that */
};

struct pulling {
	struct store store;
	struct claims claims;
	struct registry *registry;
	struct reference ref;
	struct image_info info;
	struct manifest manifest;
	struct strbuf config;
	char digest[72]; /* of what the reference names: an index's, or the manifest's */
	struct layer_set layers;
	struct fetch *fetches; /* one for each layer that is wanted, lowest first */
	size_t n_fetches, started;
	unsigned parallel;
};

static int find_manifest(struct pulling *p, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct descriptor d = {0};
	char digest[72];
	int r = registry_manifest(p->registry, p->ref.digest ? p->ref.digest : p->ref.tag,
				  UINT64_MAX, &b, p->digest, e);

	for (unsigned depth = 0; r == 0; depth++) {
		r = index_choose(str_or_empty(b.s), b.len, &d, e);
		if (r < 0 || !d.digest)
			break;
		if (depth == INDEX_DEPTH_MAX)
			r = err_invalid(e, "image index: more than %d indexes in indexes",
					INDEX_DEPTH_MAX);
		else
			r = registry_manifest(p->registry, d.digest, d.size, &b, digest, e);
		descriptor_fini(&d);
	}
	if (r == 0)
		r = manifest_parse(str_or_empty(b.s), b.len, &p->manifest, e);
	if (r == 0 && p->manifest.artifact) { /* what its id is the digest of */
		p->config = b;
		b = STRBUF_NULL;
	}
	return r;
}

/* A node that pulls always asks for the manifest alone, where the image is the one it has. */
static bool config_is_here(struct pulling *p)
{
	const struct descriptor *c = &p->manifest.config;
	char file[80], got[72];

	if (!str_has_prefix(c->digest, "sha256:"))
		return false;
	snprintf(file, sizeof(file), "%s.config", c->digest + strlen("sha256:"));
	if (fs_read(p->store.images_fd, file, CONFIG_MAX, &p->config) == 0 &&
	    p->config.len == c->size) {
		digest_of(p->config.s, p->config.len, got);
		if (streq(got, c->digest))
			return true;
	}
	strbuf_fini(&p->config); /* none, or a damaged one */
	return false;
}

static int find_config(struct pulling *p, struct err *e)
{
	const struct descriptor *c = &p->manifest.config;
	int r = config_is_here(p) ? 0
				  : registry_blob(p->registry, c->digest, c->size, &p->config, e);

	if (r == 0)
		r = config_parse(str_or_empty(p->config.s), p->config.len, &p->info, e);
	if (r == 0 && p->info.diff_ids.n != p->manifest.n_layers)
		r = err_invalid(e,
				"the manifest has %zu layers, the configuration (%.100s) names "
				"%zu: it is no container image",
				p->manifest.n_layers, c->media_type, p->info.diff_ids.n);
	return r;
}

/* --- layers --- */

static void plan(struct pulling *p)
{
	struct layer_set *s = &p->layers;

	if (p->manifest.artifact)
		layer_set_init_artifact(s, &p->store, &p->manifest);
	else
		layer_set_init(s, &p->store, &p->info.diff_ids);
	p->fetches = xcalloc(s->n + 1, sizeof(*p->fetches));
	for (size_t i = 0; i < s->n; i++) {
		const struct descriptor *d = &p->manifest.layers[i];

		s->v[i].digest = d->digest;
		s->v[i].size = d->size;
		if (s->v[i].state == LAYER_HERE)
			worker_progress(d->digest, "exists", d->size, d->size);
		else
			p->fetches[p->n_fetches++] = (struct fetch){.pull = p, .layer = i};
	}
}

static struct layer *layer_of(const struct fetch *f)
{
	return &f->pull->layers.v[f->layer];
}

static size_t on_bytes(void *arg, const char *b, size_t n, struct err *e)
{
	struct fetch *f = arg;
	struct layer *l = layer_of(f);
	ssize_t taken = layer_feed(l, b, n);
	uint64_t now;

	(void)e;
	if (taken == 0)
		return HTTP_PAUSE;
	/* Who does not read any more has said why, or is dead: layer_set_serve() finds out. */
	now = clock_mono_us();
	if (now - f->progress_at >= PROGRESS_EVERY) {
		f->progress_at = now;
		worker_progress(l->digest, "fetching", f->transfer.done + n, l->size);
	}
	return n;
}

static int on_anew(void *arg, struct err *e)
{
	struct fetch *f = arg;

	layer_stop(&f->pull->layers, f->layer);
	return layer_start(&f->pull->layers, f->layer, -1, e);
}

static void is_here(struct fetch *f)
{
	struct layer *l = layer_of(f);

	l->state = LAYER_HERE;
	f->elsewhere = false;
	worker_progress(l->digest, "exists", l->size, l->size);
}

/* Whether this worker is to make the layer: nobody has, and nobody else does. */
static bool is_ours(struct pulling *p, struct fetch *f)
{
	struct layer *l = layer_of(f);
	const char *name = l->out.name;
	bool taken = claims_take(&p->claims, name);

	/* In this order: who gives a claim up has put the layer into the store before. */
	if (store_has_layer(&p->store, name)) {
		if (taken)
			claims_give(&p->claims, name);
		claims_want(&p->claims, name, false);
		is_here(f);
		return false;
	}
	if (!taken && !f->elsewhere) {
		f->elsewhere = true;
		f->wait_until = clock_mono_us() +
				FAULT_LIMIT("claims.wait", CLAIMS_WAIT_MAX_S) * USEC_PER_SEC;
		claims_want(&p->claims, name, true);
		worker_progress(l->digest, "waiting", 0, l->size);
	}
	if (!taken && clock_mono_us() < f->wait_until)
		return false;
	if (f->elsewhere)
		claims_want(&p->claims, name, false);
	f->elsewhere = false;
	return true;
}

static int start_fetch(struct pulling *p, struct fetch *f, struct err *e)
{
	struct layer *l = layer_of(f);
	int r;

	if (!is_ours(p, f))
		return 0;
	r = layer_start(&p->layers, f->layer, -1, e);
	if (r < 0)
		return r;
	f->transfer = (struct transfer){.kind = "blobs",
					.what = l->digest,
					.size = l->size,
					.take = on_bytes,
					.anew = on_anew,
					.arg = f};
	transfer_start(p->registry, &f->transfer);
	return 0;
}

/* What the processes say; the wrong blob of one host may be right at another. */
static int serve_layers(struct pulling *p, struct err *e)
{
	size_t i;
	int r = layer_set_serve(&p->layers, &i, e);

	if (r == 0)
		return 0;
	for (size_t k = 0; k < p->started; k++) {
		struct fetch *f = &p->fetches[k];

		if (f->layer != i)
			continue;
		if (!layer_of(f)->wrong_blob)
			return err_wrap(e, "layer %s", layer_of(f)->digest);
		transfer_reject(&f->transfer, e);
		*e = ERR_NULL;
	}
	return 0;
}

static int advance(struct pulling *p, unsigned *ret_under_way, bool *ret_all, struct err *e)
{
	int r;

	*ret_under_way = 0;
	*ret_all = p->started == p->n_fetches;
	for (size_t k = 0; k < p->started; k++) {
		struct fetch *f = &p->fetches[k];
		struct layer *l = layer_of(f);

		if (f->elsewhere && (r = start_fetch(p, f, e)) < 0)
			return r;
		if (l->state == LAYER_DONE || l->state == LAYER_HERE)
			continue;
		*ret_all = false;
		if (f->elsewhere)
			continue;
		if (!l->held)
			http_resume(&f->transfer.request);
		transfer_advance(&f->transfer);
		if (f->transfer.state == TRANSFER_FAILED) {
			*e = f->transfer.e;
			return err_wrap(e, "layer %s", l->digest);
		}
		if (f->transfer.state == TRANSFER_ARRIVED && !l->at_end) {
			worker_progress(l->digest, "unpacking", l->size, l->size);
			layer_feed_end(l);
		}
		*ret_under_way += f->transfer.state != TRANSFER_ARRIVED;
	}
	return 0;
}

/* Processes whose bytes have all come, but who wait or work on, do not hold up the others, up
 * to a point. */
static bool may_start(const struct pulling *p, unsigned under_way)
{
	unsigned alive = 0;

	for (size_t k = 0; k < p->started; k++)
		alive += p->layers.v[p->fetches[k].layer].state == LAYER_RUNNING;
	return p->started < p->n_fetches && under_way < p->parallel && alive < 2 * p->parallel;
}

static void tell_done(struct pulling *p, uint64_t *told)
{
	for (size_t k = 0; k < p->started; k++) {
		const struct layer *l = layer_of(&p->fetches[k]);

		if (l->state == LAYER_DONE && !(told[k / 64] & UINT64_C(1) << k % 64)) {
			told[k / 64] |= UINT64_C(1) << k % 64;
			worker_progress(l->digest, "done", l->size, l->size);
		}
	}
}

static int wait_for_something(struct pulling *p, struct err *e)
{
	struct pollfd fds[2 * IMAGE_LAYERS_MAX + 1];
	int timeout = 1000, r;
	unsigned n;
	bool done;

	r = http_perform(registry_http(p->registry), &done, e);
	if (r < 0 || done)
		return r;
	n = layer_set_poll(&p->layers, fds);
	fds[n++] = (struct pollfd){.fd = WORKER_DAEMON_FD, .events = POLLIN};
	for (size_t k = 0; k < p->started; k++)
		timeout = p->fetches[k].elsewhere
				  ? MIN(timeout, CLAIMS_LOOK_MS)
				  : transfer_timeout(&p->fetches[k].transfer, timeout);
	return http_wait(registry_http(p->registry), fds, n, timeout, e);
}

static int commit(struct pulling *p, bool with_image, struct ipc_out *reply, struct err *e)
{
	struct new_layer layers[IMAGE_LAYERS_MAX + 1];
	_cleanup_strv_ struct strv tags = STRV_NULL, digests = STRV_NULL;
	struct new_image im = {
		.layers = layers, .config = &p->config, .tags = &tags, .digests = &digests};

	for (size_t i = 0; i < p->layers.n; i++)
		if (with_image || p->layers.v[i].state == LAYER_DONE)
			layers[im.n_layers++] = p->layers.v[i].out;
	if (!with_image && im.n_layers == 0)
		return 0;
	if (p->ref.tag && !p->ref.digest)
		strv_addf(&tags, "%s:%s", p->ref.name, p->ref.tag);
	strv_addf(&digests, "%s@%s", p->ref.name, p->digest);
	im.info = with_image ? &p->info : NULL;
	im.artifact = p->manifest.artifact;
	im.checkpoint = p->manifest.checkpoint;
	return store_commit(&p->store, &im, 1, reply, e);
}

/* Layers that others wait for are put into the store before this image is whole: else two images
 * could wait for each other. */
static int give_to_others(struct pulling *p, struct err *e)
{
	bool wanted = false;
	int r;

	for (size_t k = 0; !wanted && k < p->started; k++) {
		const struct layer *l = layer_of(&p->fetches[k]);

		wanted = l->state == LAYER_DONE && claims_wanted(&p->claims, l->out.name);
	}
	if (!wanted)
		return 0;
	r = commit(p, false, NULL, e);
	for (size_t k = 0; r == 0 && k < p->started; k++) {
		struct layer *l = layer_of(&p->fetches[k]);

		if (l->state != LAYER_DONE)
			continue;
		l->state = LAYER_HERE; /* should somebody remove it: begin anew */
		l->out.unpacked = false;
		claims_give(&p->claims, l->out.name);
	}
	return r;
}

static int fetch_layers(struct pulling *p, struct err *e)
{
	uint64_t told[IMAGE_LAYERS_MAX / 64 + 1] = {0};
	unsigned under_way = 0;
	bool all = p->n_fetches == 0;
	int r = 0;

	while (r == 0 && !all) {
		while (r == 0 && may_start(p, under_way)) {
			struct fetch *f = &p->fetches[p->started++];

			r = start_fetch(p, f, e);
			under_way += layer_of(f)->state == LAYER_RUNNING;
		}
		if (r == 0)
			r = wait_for_something(p, e);
		if (r == 0)
			r = worker_check(e);
		if (r == 0)
			r = serve_layers(p, e);
		if (r == 0)
			r = advance(p, &under_way, &all, e);
		tell_done(p, told);
		if (r == 0 && !all)
			r = give_to_others(p, e);
	}
	return r;
}

/* --- the whole --- */

static void pulling_fini(struct pulling *p)
{
	for (size_t k = 0; k < p->started; k++)
		transfer_fini(&p->fetches[k].transfer);
	free(p->fetches);
	layer_set_fini(&p->layers);
	manifest_fini(&p->manifest);
	image_info_fini(&p->info);
	strbuf_fini(&p->config);
	registry_close(p->registry);
	reference_fini(&p->ref);
	store_close(&p->store);
	claims_close(&p->claims); /* what is left of them is nobody's now */
}

static int pull_all(struct pulling *p, struct ipc_out *reply, struct err *e)
{
	int r = find_manifest(p, e);

	if (r == 0 && !p->manifest.artifact)
		r = find_config(p, e);
	if (r == 0) {
		plan(p);
		r = fetch_layers(p, e);
	}
	worker_set_limit(0); /* what has come is put away */
	/* Whole layers are kept where the network failed: the next try does not need them again. */
	if (r < 0 && r != -ECANCELED)
		commit(p, false, NULL, NULL);
	return r < 0 ? r : commit(p, true, reply, e);
}

static void put_ill(struct registry *r, const struct ipc_in *in)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f))
		if (f.tag == WORKER_TAG_ILL && ipc_field_str(&f))
			registry_is_ill(r, ipc_field_str(&f));
}

static int pull_once(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct auth_config auth = {
		.username = ipc_get_str(in, WORKER_TAG_USERNAME),
		.password = ipc_get_str(in, WORKER_TAG_PASSWORD),
		.auth = ipc_get_str(in, WORKER_TAG_AUTH),
		.server = ipc_get_str(in, WORKER_TAG_SERVER),
		.identity_token = ipc_get_str(in, WORKER_TAG_IDENTITY_TOKEN),
		.registry_token = ipc_get_str(in, WORKER_TAG_REGISTRY_TOKEN),
	};
	struct pulling p = {.parallel = (unsigned)ipc_get_u64(in, WORKER_TAG_PARALLEL, 3)};
	int r = reference_parse(str_or_empty(ipc_get_str(in, WORKER_TAG_REFERENCE)), &p.ref, e);

	if (r == 0)
		r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &p.store, e);
	if (r == 0) {
		r = claims_open(p.store.root_fd, &p.claims, e);
		if (r < 0)
			store_close(&p.store);
	}
	if (r < 0) {
		reference_fini(&p.ref);
		return r;
	}
	r = registry_open(str_or_empty(ipc_get_str(in, WORKER_TAG_HOSTS_DIR)), p.ref.host,
			  p.ref.path, &auth, (unsigned)ipc_get_u64(in, WORKER_TAG_STALL, 60),
			  (unsigned)ipc_get_u64(in, WORKER_TAG_MIRROR_WAIT, 5), &p.registry, e);
	if (r == 0) {
		put_ill(p.registry, in);
		r = pull_all(&p, reply, e);
	}
	if (r < 0 && r != -ESTALE)
		err_wrap(e, "pull %s", p.ref.text);
	pulling_fini(&p);
	return r;
}

int do_pull(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	int r = -ESTALE;

	for (unsigned i = 0; r == -ESTALE && i < ATTEMPTS; i++) {
		*e = ERR_NULL;
		worker_set_limit(ipc_get_u64(in, WORKER_TAG_LIMIT, 0));
		r = pull_once(in, reply, e);
	}
	return r;
}
