/* SPDX-License-Identifier: Apache-2.0 */
/* What CRI lacks and the `gantry` command needs: see proto/gantry.proto. */
#include "base/log.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "gantry.pb-c.h"
#include "image/reference.h"
#include "image/store.h"
#include "pod/choose.h"
#include "pod/node.h"
#include "route/route.h"
#include "wire/json.h"

static char *text(const char *s)
{
	return (char *)(uintptr_t)str_or_empty(s);
}

static void fill_progress(const struct image_progress *p, Gantry__V1__ImageProgress *m)
{
	m->layer = text(p->layer);
	m->state = text(p->state);
	m->done_bytes = p->done;
	m->total_bytes = p->total;
	m->image_id = text(p->image_id);
	m->image_name = text(p->image_name);
}

static int send_progress(void *arg, const struct image_progress *p, struct err *e)
{
	struct cri_call *c = arg;
	Gantry__V1__ImageProgress m = GANTRY__V1__IMAGE_PROGRESS__INIT;

	fill_progress(p, &m);
	return cri_send(c, &m.base, e);
}

static int pull(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__PullRequest *q = request;
	struct image_auth auth = {.username = q->username, .password = q->password};
	struct image_progress done = {.image_name = q->reference};
	char id[ID_SIZE];
	int r;

	c->about = q->reference;
	r = image_pull(c->node->images, q->reference, *q->username ? &auth : NULL, send_progress, c,
		       id, e);
	if (r < 0)
		return r;
	done.image_id = id;
	return send_progress(c, &done, e);
}

static int load(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__LoadRequest *q = request;

	c->about = q->path;
	return image_load(c->node->images, q->path, send_progress, c, e);
}

static int import(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__ImportRequest *q = request;
	const struct image_import im = {.path = q->path,
					.tags = q->tags,
					.n_tags = q->n_tags,
					.changes = q->changes,
					.n_changes = q->n_changes,
					.message = q->message};

	c->about = q->path;
	return image_import(c->node->images, &im, send_progress, c, e);
}

static int send_bytes(void *arg, const void *p, size_t n, uint64_t total, struct err *e)
{
	struct cri_call *c = arg;
	Gantry__V1__SaveResponse m = GANTRY__V1__SAVE_RESPONSE__INIT;

	m.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)p};
	m.total_bytes = total;
	return cri_send(c, &m.base, e);
}

static int save(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__SaveRequest *q = request;
	int r;

	c->about = q->n_images ? q->images[0] : "";
	r = image_save(c->node->images, q->images, q->n_images, send_bytes, c, e);
	if (r < 0 && e->code == GRPC_DATA_LOSS)
		log_error("%s; it is not used any more", e->msg);
	return r;
}

static int tag(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__TagRequest *q = request;
	Gantry__V1__TagResponse m = GANTRY__V1__TAG_RESPONSE__INIT;
	_cleanup_strv_ struct strv tags = STRV_NULL;
	char id[ID_SIZE];
	int r;

	c->about = q->source;
	r = image_tag(c->node->images, q->source, q->targets, q->n_targets, id, &tags, e);
	if (r < 0)
		return r;
	m.image_id = id;
	m.tags = tags.v;
	m.n_tags = tags.n;
	return cri_send(c, &m.base, e);
}

static int send_verify_progress(void *arg, const struct image_progress *p, struct err *e)
{
	struct cri_call *c = arg;
	Gantry__V1__ImageProgress progress = GANTRY__V1__IMAGE_PROGRESS__INIT;
	Gantry__V1__VerifyResponse m = GANTRY__V1__VERIFY_RESPONSE__INIT;

	fill_progress(p, &progress);
	m.progress = &progress;
	return cri_send(c, &m.base, e);
}

static int send_verdict(void *arg, const char *id, const struct image *im, const char *state,
			const char *problem, struct err *e)
{
	struct cri_call *c = arg;
	Gantry__V1__VerifyResponse m = GANTRY__V1__VERIFY_RESPONSE__INIT;
	const char *name = !im			  ? ""
			   : im->record.tags.n	  ? im->record.tags.v[0]
			   : im->record.digests.n ? im->record.digests.v[0]
						  : "";

	if (streq(state, "damaged"))
		log_error("image %s (%s) is damaged and not used any more: %s", id, name, problem);
	m.image_id = text(id);
	m.image_name = arena_strdup(c->arena, name);
	m.state = text(state);
	m.problem = text(problem);
	return cri_send(c, &m.base, e);
}

static int verify(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__VerifyRequest *q = request;

	c->about = q->n_images ? q->images[0] : "";
	return image_verify(c->node->images, q->images, q->n_images, send_verify_progress,
			    send_verdict, c, e);
}

struct pruning {
	struct cri_call *call;
	Gantry__V1__PruneResponse m;
	size_t room;
};

static void note_pruned(void *arg, const struct image *im)
{
	struct pruning *p = arg;
	struct arena *a = p->call->arena;
	Gantry__V1__PrunedImage *i = arena_alloc(a, sizeof(*i));

	gantry__v1__pruned_image__init(i);
	i->image_id = arena_strdup(a, im->record.id);
	i->names = arena_alloc(a, (im->record.tags.n + 1) * sizeof(*i->names));
	for (size_t k = 0; k < im->record.tags.n; k++)
		i->names[i->n_names++] = arena_strdup(a, im->record.tags.v[k]);
	if (p->m.n_images == p->room) {
		p->room = p->room ? 2 * p->room : 64;
		p->m.images = xrealloc(p->m.images, p->room * sizeof(*p->m.images));
	}
	p->m.images[p->m.n_images++] = i;
}

static int prune(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__PruneRequest *q = request;
	struct pruning p = {.call = c, .m = GANTRY__V1__PRUNE_RESPONSE__INIT};
	_cleanup_strv_ struct strv used = STRV_NULL;
	struct image_usage freed;
	int r;

	node_images_used(c->node, &used);
	r = image_prune(c->node->images, &used, q->all, q->dry_run, note_pruned, &p, &freed, e);
	if (r == 0) {
		p.m.freed_bytes = freed.bytes;
		p.m.freed_inodes = freed.inodes;
		r = cri_send(c, &p.m.base, e);
	}
	free(p.m.images);
	return r;
}

static int check_pod(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__CheckPodRequest *q = request;
	Gantry__V1__CheckPodResponse m = GANTRY__V1__CHECK_POD_RESPONSE__INIT;
	_cleanup_strbuf_ struct strbuf problem = STRBUF_NULL;
	struct pod *p;
	int r = pod_find(c->node, q->pod_sandbox_id, &p, e);

	c->about = q->pod_sandbox_id;
	r = r < 0 ? r : node_network_check(p, &problem, e);
	if (r < 0)
		return r;
	m.problem = (char *)(uintptr_t)str_or_empty(problem.s);
	return cri_send(c, &m.base, e);
}

static int metrics(struct cri_call *c, const void *request, struct err *e)
{
	Gantry__V1__MetricsResponse m = GANTRY__V1__METRICS_RESPONSE__INIT;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	cri_prometheus(grpc_call_server_arg(c->grpc), &b);
	m.text = b.s;
	return cri_send(c, &m.base, e);
}

/* --- Route --- */

static const struct route_pair *pairs(struct arena *a, void *entries, size_t n)
{
	struct cri_map_entry *const *e = entries;
	struct route_pair *p = arena_calloc(a, n + 1, sizeof(*p));

	for (size_t i = 0; i < n; i++)
		p[i] = (struct route_pair){e[i]->key, e[i]->value};
	return p;
}

static void fill_states(const struct node *n, struct route_state states[CONFIG_RUNTIMES_MAX])
{
	for (size_t i = 0; i < n->n_runtimes; i++) {
		const struct node_runtime *rt = n->runtimes[i];

		states[i] = (struct route_state){
			.available = rt->probed && rt->available,
			.reason = rt->probed ? rt->reason : "it has not been probed yet",
			.caps = rt->probed ? &rt->caps : NULL,
			.set_aside = node_runtime_set_aside(rt),
		};
	}
}

static void tell_route(struct cri_call *c, const struct route_facts *f, struct strbuf *to)
{
	struct node *n = c->node;
	struct route_state states[CONFIG_RUNTIMES_MAX];
	struct jw w = JW_INIT(to);
	struct route_story story;

	(void)node_runtimes_await(n);
	fill_states(n, states);
	(void)route_tell(n->route, f, states, c->arena, &story, &(struct err){0});
	route_story_print(n->route, &story, &w);
}

static const char *known(const char *s)
{
	return *s ? s : NULL;
}

static int route(struct cri_call *c, const void *request, struct err *e)
{
	const Gantry__V1__RouteRequest *q = request;
	Gantry__V1__RouteResponse m = GANTRY__V1__ROUTE_RESPONSE__INIT;
	_cleanup_reference_ struct reference image = REFERENCE_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct route_facts f = {
		.container = *q->image || *q->container,
		.handler = q->handler,
		.namespace = known(q->namespace_),
		.pod = known(q->pod),
		.container_name = known(q->container),
		.labels = pairs(c->arena, q->labels, q->n_labels),
		.annotations = pairs(c->arena, q->annotations, q->n_annotations),
		.n_labels = q->n_labels,
		.n_annotations = q->n_annotations,
		.privileged = q->privileged,
		.user_namespace = q->user_namespace,
		.needs = (q->user_namespace ? RCAP_BIT(RCAP_USERNS) : 0) |
			 (q->privileged ? RCAP_BIT(RCAP_PRIVILEGED) : 0),
	};
	int r = 0;

	c->about = q->image;
	if (*q->image)
		r = reference_parse(q->image, &image, e);
	if (r < 0)
		return r;
	if (image.text)
		f.image = &image;
	tell_route(c, &f, &b);
	m.json = b.s;
	return cri_send(c, &m.base, e);
}

const struct cri_method cri_methods_gantry[] = {
	{.path = "/gantry.v1.Gantry/Route",
	 .request = &gantry__v1__route_request__descriptor,
	 .response = &gantry__v1__route_response__descriptor,
	 .stream_fn = route,
	 .quiet = true},
	{.path = "/gantry.v1.Gantry/Metrics",
	 .request = &gantry__v1__metrics_request__descriptor,
	 .response = &gantry__v1__metrics_response__descriptor,
	 .stream_fn = metrics,
	 .quiet = true},
	{.path = "/gantry.v1.Gantry/CheckPod",
	 .request = &gantry__v1__check_pod_request__descriptor,
	 .response = &gantry__v1__check_pod_response__descriptor,
	 .stream_fn = check_pod},
	{.path = "/gantry.v1.Gantry/Pull",
	 .request = &gantry__v1__pull_request__descriptor,
	 .response = &gantry__v1__image_progress__descriptor,
	 .stream_fn = pull},
	{.path = "/gantry.v1.Gantry/Tag",
	 .request = &gantry__v1__tag_request__descriptor,
	 .response = &gantry__v1__tag_response__descriptor,
	 .stream_fn = tag},
	{.path = "/gantry.v1.Gantry/Verify",
	 .request = &gantry__v1__verify_request__descriptor,
	 .response = &gantry__v1__verify_response__descriptor,
	 .stream_fn = verify},
	{.path = "/gantry.v1.Gantry/Prune",
	 .request = &gantry__v1__prune_request__descriptor,
	 .response = &gantry__v1__prune_response__descriptor,
	 .stream_fn = prune},
	{.path = "/gantry.v1.Gantry/Load",
	 .request = &gantry__v1__load_request__descriptor,
	 .response = &gantry__v1__image_progress__descriptor,
	 .stream_fn = load},
	{.path = "/gantry.v1.Gantry/Import",
	 .request = &gantry__v1__import_request__descriptor,
	 .response = &gantry__v1__image_progress__descriptor,
	 .stream_fn = import},
	{.path = "/gantry.v1.Gantry/Save",
	 .request = &gantry__v1__save_request__descriptor,
	 .response = &gantry__v1__save_response__descriptor,
	 .stream_fn = save},
	{0},
};
