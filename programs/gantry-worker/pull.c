/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pulling: manifest, configuration, then the layers that the store does not have, several
 * fetched at once and each unpacked by a process of its own as soon as those below it are.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "registry.h"
#include "worker.h"

#define ATTEMPTS 3 /* where a layer that was there is removed meanwhile */

struct pulling {
	struct store store;
	struct registry *registry;
	struct reference ref;
	struct image_info info;
	struct manifest manifest;
	struct strbuf config;
	char digest[72]; /* of what the reference names: an index's, or the manifest's */
	struct new_layer *layers;
	struct fetch *fetches; /* layers to be fetched, lowest first */
	size_t *fetch_layer;   /* which layer each is */
	size_t n_fetches, unpacked; /* unpacked: how many of them, in order */
};

static int find_manifest(struct pulling *p, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *chosen = NULL;
	char digest[72];
	int r = registry_manifest(p->registry, p->ref.digest ? p->ref.digest : p->ref.tag, &b,
				  p->digest, e);

	if (r == 0)
		r = index_choose(str_or_empty(b.s), b.len, &chosen, e);
	if (r == 0 && chosen)
		r = registry_manifest(p->registry, chosen, &b, digest, e);
	return r < 0 ? r : manifest_parse(str_or_empty(b.s), b.len, &p->manifest, e);
}

static int find_config(struct pulling *p, struct err *e)
{
	int r = registry_blob(p->registry, p->manifest.config.digest, CONFIG_MAX, &p->config, e);

	if (r == 0)
		r = config_parse(str_or_empty(p->config.s), p->config.len, &p->info, e);
	if (r == 0 && p->info.diff_ids.n != p->manifest.n_layers)
		r = err_invalid(e, "the manifest has %zu layers, the configuration names %zu",
				p->manifest.n_layers, p->info.diff_ids.n);
	return r;
}

/* --- unpacking, in children --- */

/* Layers below the i-th, lowest first. */
static void chain_below(const struct pulling *p, size_t layer, struct strv *ret)
{
	for (size_t i = 0; i < layer; i++)
		strv_add(ret, p->layers[i].name);
}

/*
 * Unpacks the k-th fetched layer.  In a child, so that one layer's bytes cannot reach beyond
 * it; its answer is the number of bytes, or an error.
 */
static int unpack(struct pulling *p, size_t k, struct err *e)
{
	size_t layer = p->fetch_layer[k];
	struct {
		int r;
		uint64_t bytes;
		struct err e;
	} answer = {0};
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	worker_progress(p->fetches[k].digest, "unpacking", p->fetches[k].size, p->fetches[k].size);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "make a pipe");
	pid = fork();
	if (pid == 0) {
		struct strv chain = STRV_NULL;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		chain_below(p, layer, &chain);
		lseek(p->fetches[k].fd, 0, SEEK_SET);
		answer.r = store_unpack(&p->store, p->fetches[k].fd, UINT64_MAX,
					p->info.diff_ids.v[layer], &chain, p->layers[layer].name,
					&answer.bytes, &answer.e);
		(void)!write(pipe_fds[1], &answer, sizeof(answer));
		_exit(0);
	}
	close(pipe_fds[1]);
	if (pid < 0) {
		close(pipe_fds[0]);
		return err_errno(e, -errno, "fork");
	}
	do
		n = read(pipe_fds[0], &answer, sizeof(answer));
	while (n < 0 && errno == EINTR);
	close(pipe_fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(answer))
		return err_set(e, -EIO, GRPC_INTERNAL, "unpacking layer %s died",
			       p->fetches[k].digest);
	if (answer.r < 0) {
		*e = answer.e;
		return err_wrap(e, "layer %s", p->fetches[k].digest);
	}
	p->layers[layer].bytes = answer.bytes;
	p->layers[layer].unpacked = true;
	worker_progress(p->fetches[k].digest, "done", p->fetches[k].size, p->fetches[k].size);
	return 0;
}

static int on_fetched(void *arg, struct fetch *f, struct err *e)
{
	struct pulling *p = arg;
	int r = 0;

	(void)f;
	while (r == 0 && p->unpacked < p->n_fetches && p->fetches[p->unpacked].finished) {
		r = unpack(p, p->unpacked, e);
		if (r == 0) { /* its space is free again */
			close(p->fetches[p->unpacked].fd);
			p->fetches[p->unpacked].fd = -EBADF;
			p->unpacked++;
		}
	}
	return r;
}

/* --- the whole --- */

static int plan(struct pulling *p, struct err *e)
{
	size_t n = p->manifest.n_layers;
	char id[72] = "";

	p->layers = xcalloc(n + 1, sizeof(*p->layers));
	p->fetches = xcalloc(n + 1, sizeof(*p->fetches));
	p->fetch_layer = xcalloc(n + 1, sizeof(*p->fetch_layer));
	for (size_t i = 0; i < n; i++) {
		const struct descriptor *d = &p->manifest.layers[i];
		struct fetch *f = &p->fetches[p->n_fetches];
		char parent[72];
		bool twice = false;

		memcpy(parent, id, sizeof(parent));
		chain_next(parent, p->info.diff_ids.v[i], id);
		chain_name(id, p->layers[i].name);
		for (size_t k = 0; k < i; k++)
			twice = twice || streq(p->layers[k].name, p->layers[i].name);
		if (twice || store_has_layer(&p->store, p->layers[i].name)) {
			worker_progress(d->digest, "exists", d->size, d->size);
			continue;
		}
		*f = (struct fetch){.digest = d->digest, .size = d->size};
		f->fd = store_temporary(&p->store, e);
		if (f->fd < 0)
			return f->fd;
		p->fetch_layer[p->n_fetches++] = i;
	}
	return 0;
}

/* What was unpacked before something failed is kept: the next try does not need it again. */
static void keep(struct pulling *p)
{
	struct new_layer *done = xcalloc(p->manifest.n_layers + 1, sizeof(*done));
	size_t n = 0;

	for (size_t i = 0; i < p->manifest.n_layers; i++)
		if (p->layers && p->layers[i].unpacked)
			done[n++] = p->layers[i];
	if (n)
		store_commit(&p->store, done, n, NULL, NULL, 0, NULL, NULL, NULL, NULL);
	free(done);
}

static int commit(struct pulling *p, struct ipc_out *reply, struct err *e)
{
	struct strv tags = STRV_NULL, digests = STRV_NULL;
	int r;

	if (p->ref.tag && !p->ref.digest)
		strv_addf(&tags, "%s:%s", p->ref.name, p->ref.tag);
	strv_addf(&digests, "%s@%s", p->ref.name, p->digest);
	r = store_commit(&p->store, p->layers, p->manifest.n_layers, &p->info, p->config.s,
			 p->config.len, &tags, &digests, reply, e);
	strv_fini(&tags);
	strv_fini(&digests);
	return r;
}

static void pulling_fini(struct pulling *p)
{
	for (size_t i = 0; i < p->n_fetches; i++)
		fd_close(p->fetches[i].fd);
	free(p->layers);
	free(p->fetches);
	free(p->fetch_layer);
	manifest_fini(&p->manifest);
	image_info_fini(&p->info);
	strbuf_fini(&p->config);
	registry_close(p->registry);
	reference_fini(&p->ref);
	store_close(&p->store);
}

static int pull_once(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	struct registry_auth auth = {
		.username = ipc_get_str(in, WORKER_TAG_USERNAME),
		.password = ipc_get_str(in, WORKER_TAG_PASSWORD),
		.auth = ipc_get_str(in, WORKER_TAG_AUTH),
		.server = ipc_get_str(in, WORKER_TAG_SERVER),
		.identity_token = ipc_get_str(in, WORKER_TAG_IDENTITY_TOKEN),
		.registry_token = ipc_get_str(in, WORKER_TAG_REGISTRY_TOKEN),
	};
	struct pulling p = {.store = {.tmp_fd = -EBADF, .root_fd = -EBADF, .layers_fd = -EBADF,
				      .images_fd = -EBADF}};
	int r = reference_parse(str_or_empty(ipc_get_str(in, WORKER_TAG_REFERENCE)), &p.ref, e);

	if (r == 0)
		r = store_open(str_or_empty(ipc_get_str(in, WORKER_TAG_ROOT)), &p.store, e);
	if (r < 0)
		return r;
	r = registry_open(str_or_empty(ipc_get_str(in, WORKER_TAG_HOSTS_DIR)), p.ref.host,
			  p.ref.path, &auth, &p.registry, e);
	if (r == 0)
		r = find_manifest(&p, e);
	if (r == 0)
		r = find_config(&p, e);
	if (r == 0)
		r = plan(&p, e);
	if (r == 0)
		r = registry_fetch(p.registry, p.fetches, p.n_fetches,
				   (unsigned)ipc_get_u64(in, WORKER_TAG_PARALLEL, 3), on_fetched, &p,
				   e);
	if (r == 0)
		r = commit(&p, reply, e);
	if (r < 0 && r != -ESTALE) {
		keep(&p);
		err_wrap(e, "pull %s", p.ref.text);
	}
	pulling_fini(&p);
	return r;
}

int do_pull(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	int r = -ESTALE;

	for (unsigned i = 0; r == -ESTALE && i < ATTEMPTS; i++)
		r = pull_once(in, reply, e);
	return r;
}
