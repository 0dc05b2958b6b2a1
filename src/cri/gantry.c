/* SPDX-License-Identifier: Apache-2.0 */
/* What CRI lacks and the `gantry` command needs: see proto/gantry.proto. */
#include "base/mem.h"
#include "cri/cri.h"
#include "gantry.pb-c.h"
#include "image/store.h"
#include "pod/node.h"

static int send_progress(void *arg, const struct image_progress *p, struct err *e)
{
	struct cri_call *c = arg;
	Gantry__V1__ImageProgress m = GANTRY__V1__IMAGE_PROGRESS__INIT;

	m.layer = (char *)(uintptr_t)str_or_empty(p->layer);
	m.state = (char *)(uintptr_t)str_or_empty(p->state);
	m.done_bytes = p->done;
	m.total_bytes = p->total;
	m.image_id = (char *)(uintptr_t)str_or_empty(p->image_id);
	m.image_name = (char *)(uintptr_t)str_or_empty(p->image_name);
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

const struct cri_method cri_methods_gantry[] = {
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
	{.path = "/gantry.v1.Gantry/Load",
	 .request = &gantry__v1__load_request__descriptor,
	 .response = &gantry__v1__image_progress__descriptor,
	 .stream_fn = load},
	{0},
};
