/* SPDX-License-Identifier: Apache-2.0 */
/* CRI: containers. */
#include "base/clock.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "cri/validate.h"
#include "pod/life.h"
#include "pod/stop_signal.h"
#include "wire/json.h"

static Runtime__V1__ContainerState state_of(const struct container *c)
{
	switch (c->state) {
	case CONTAINER_CREATED:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
	case CONTAINER_RUNNING:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	case CONTAINER_EXITED:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	default:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN;
	}
}

static int create_container(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__CreateContainerRequest *q = request;
	Runtime__V1__CreateContainerResponse *r = response;
	char id[ID_SIZE];
	struct pod *p;
	int ret;

	c->about = q->pod_sandbox_id;
	if (!q->config)
		return err_invalid(e, "config: must be given");
	ret = pod_find(c->node, q->pod_sandbox_id, &p, e);
	if (ret == 0 && p->state != POD_READY)
		ret = err_precondition(e, "pod_sandbox_id: pod sandbox %s is not ready", p->id);
	if (ret == 0)
		ret = validate_container(c->node, p, q->config, q->sandbox_config, e);
	if (ret == 0)
		ret = life_create_container(p, q->config, id, e);
	if (ret < 0)
		return ret;
	r->container_id = arena_strdup(c->arena, id);
	c->about = r->container_id;
	return 0;
}

static int find(struct cri_call *c, const char *id, struct container **ret, struct err *e)
{
	c->about = id;
	return container_find(c->node, id, ret, e);
}

static int start_container(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__StartContainerRequest *q = request;
	struct container *ctr;
	int r = find(c, q->container_id, &ctr, e);

	return r < 0 ? r : life_start_container(ctr, e);
}

/* Stop and remove are idempotent: what is not there is as it should be (api.proto). */
static int stop_container(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__StopContainerRequest *q = request;
	struct container *ctr;
	int r = find(c, q->container_id, &ctr, e);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && q->timeout < 0)
		return err_invalid(e, "timeout: %lld must not be negative", (long long)q->timeout);
	return r < 0 ? r : life_stop_container(ctr, q->timeout, e);
}

static int remove_container(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__RemoveContainerRequest *q = request;
	struct container *ctr;
	int r = find(c, q->container_id, &ctr, e);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : life_remove_container(ctr, e);
}

/* --- list --- */

static Runtime__V1__ImageSpec image_spec(const struct container *c)
{
	Runtime__V1__ImageSpec s = RUNTIME__V1__IMAGE_SPEC__INIT;

	if (c->config->image)
		s = *c->config->image;
	return s;
}

static const struct strbuf *list_item(struct container *c)
{
	Runtime__V1__Container m = RUNTIME__V1__CONTAINER__INIT;
	Runtime__V1__ImageSpec image = image_spec(c);

	if (c->list_item.len)
		return &c->list_item;
	m.id = c->id;
	m.pod_sandbox_id = c->pod->id;
	m.metadata = c->config->metadata;
	m.image = &image;
	m.image_ref = c->image_ref;
	m.image_id = c->image_id;
	m.state = state_of(c);
	m.created_at = c->created_at;
	m.n_labels = c->config->n_labels;
	m.labels = (void *)c->config->labels;
	m.n_annotations = c->config->n_annotations;
	m.annotations = (void *)c->config->annotations;
	cri_put_message(&c->list_item, 1, &m.base);
	return &c->list_item;
}

bool cri_container_matches(const struct container *c, const char *id, const char *pod_id,
			   struct cri_map_entry *const *labels, size_t n_labels)
{
	if (!life_container_listed(c))
		return false;
	if (!str_empty(id) && !str_has_prefix(c->id, id))
		return false;
	if (!str_empty(pod_id) && !str_has_prefix(c->pod->id, pod_id))
		return false;
	return cri_labels_match((void *)c->config->labels, c->config->n_labels, labels, n_labels);
}

static bool matches(const struct container *c, const Runtime__V1__ContainerFilter *f)
{
	if (!f)
		return life_container_listed(c);
	if (f->state && f->state->state != state_of(c))
		return false;
	return cri_container_matches(c, f->id, f->pod_sandbox_id, (void *)f->label_selector,
				     f->n_label_selector);
}

static int list_containers(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ListContainersRequest *q = request;
	struct container *ctr;

	if (q->filter && q->filter->state &&
	    !protobuf_c_enum_descriptor_get_value(&runtime__v1__container_state__descriptor,
						  (int)q->filter->state->state))
		return err_invalid(e, "filter.state.state: %d is none",
				   (int)q->filter->state->state);
	c->raw_used = true;
	list_for_each (ctr, &c->node->containers_in_order, in_order) {
		const struct strbuf *item;

		if (!matches(ctr, q->filter))
			continue;
		item = list_item(ctr);
		strbuf_add(&c->raw, item->s, item->len);
	}
	return 0;
}

/* --- status --- */

static Runtime__V1__ContainerUser *user_of(struct arena *a, const struct container *c)
{
	Runtime__V1__ContainerUser *u = arena_alloc(a, sizeof(*u));
	Runtime__V1__LinuxContainerUser *l = arena_alloc(a, sizeof(*l));

	runtime__v1__container_user__init(u);
	runtime__v1__linux_container_user__init(l);
	u->linux = l;
	l->uid = c->uid;
	l->gid = c->gid;
	l->supplemental_groups = arena_calloc(a, c->n_groups + 1, sizeof(int64_t));
	for (size_t i = 0; i < c->n_groups; i++)
		l->supplemental_groups[l->n_supplemental_groups++] = c->groups[i];
	return u;
}

/* As they were asked for; images with the ids that their names had then (KEP-5365). */
static Runtime__V1__Mount **mounts_of(struct arena *a, const struct container *c)
{
	Runtime__V1__Mount **v = c->config->mounts;
	size_t n = 0;

	if (!c->volumes.n)
		return v;
	v = arena_memdup(a, v, c->config->n_mounts * sizeof(*v));
	for (size_t i = 0; i < c->config->n_mounts && n < c->volumes.n; i++) {
		Runtime__V1__ImageSpec *image;

		if (!spec_mount_is_image(v[i]))
			continue;
		image = arena_memdup(a, v[i]->image, sizeof(*image));
		image->image_ref = c->volumes.v[n++];
		v[i] = arena_memdup(a, v[i], sizeof(**v));
		v[i]->image = image;
	}
	return v;
}

Runtime__V1__ContainerStatus *cri_container_status(struct arena *a, const struct container *c)
{
	Runtime__V1__ContainerStatus *s = arena_alloc(a, sizeof(*s));

	runtime__v1__container_status__init(s);
	s->id = arena_strdup(a, c->id);
	s->metadata = c->config->metadata;
	s->state = state_of(c);
	s->created_at = c->created_at;
	s->started_at = c->started_at;
	s->finished_at = c->finished_at;
	s->exit_code = c->exit_code;
	s->image = arena_alloc(a, sizeof(*s->image));
	*s->image = image_spec(c);
	/* The kubelet asks for ids, and shows people what stands here. */
	if (!str_empty(s->image->user_specified_image))
		s->image->image = s->image->user_specified_image;
	s->image_ref = c->image_ref;
	s->image_id = c->image_id;
	s->reason = c->reason;
	s->message = c->message;
	s->n_labels = c->config->n_labels;
	s->labels = (void *)c->config->labels;
	s->n_annotations = c->config->n_annotations;
	s->annotations = (void *)c->config->annotations;
	s->n_mounts = c->config->n_mounts;
	s->mounts = mounts_of(a, c);
	s->log_path = c->log_path;
	s->user = user_of(a, c);
	s->stop_signal =
		c->config->stop_signal ? c->config->stop_signal : signal_to_cri(c->stop_signal);
	if (c->config->linux && c->config->linux->resources) {
		s->resources = arena_alloc(a, sizeof(*s->resources));
		runtime__v1__container_resources__init(s->resources);
		s->resources->linux = c->config->linux->resources;
	}
	return s;
}

/* What `crictl inspect` shows beyond the status: one JSON text under the key "info". */
static void container_info(struct arena *a, const struct container *c,
			   Runtime__V1__ContainerStatusResponse *r)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_string(&w, "sandboxID", c->pod->id);
	jw_key_string(&w, "runtime", c->runtime_name);
	if (c->choice) {
		jw_key(&w, "routing");
		jw_raw(&w, c->choice);
	}
	jw_key_string(&w, "cgroup", c->cgroup);
	jw_key_int(&w, "pid", c->pid);
	jw_key_bool(&w, "tty", c->config->tty); /* for who attaches */
	jw_key_bool(&w, "stdin", c->config->stdin);
	jw_object_end(&w);
	cri_info(a, "info", b.s, &r->info, &r->n_info);
}

static int container_status(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ContainerStatusRequest *q = request;
	Runtime__V1__ContainerStatusResponse *r = response;
	struct container *ctr;
	int ret = find(c, q->container_id, &ctr, e);

	if (ret < 0)
		return ret;
	if (!life_container_listed(ctr))
		return err_not_found(e, "container_id: container %s is being made or removed",
				     ctr->id);
	r->status = cri_container_status(c->arena, ctr);
	if (q->verbose)
		container_info(c->arena, ctr, r);
	return 0;
}

/* --- in a running container --- */

static int exec_sync(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ExecSyncRequest *q = request;
	Runtime__V1__ExecSyncResponse *r = response;
	struct life_exec_result out = {0};
	struct container *ctr;
	int ret = find(c, q->container_id, &ctr, e);

	if (ret == 0)
		ret = validate_command("cmd", q->cmd, q->n_cmd, e);
	if (ret == 0 && q->timeout < 0)
		ret = err_invalid(e, "timeout: %lld must not be negative", (long long)q->timeout);
	if (ret < 0)
		return ret;
	ret = life_exec_sync(ctr, q->cmd, q->n_cmd, (uint64_t)q->timeout, c->arena, &out, e);
	if (ret < 0)
		return ret;
	r->exit_code = out.exit_code;
	r->stdout.data = out.out;
	r->stdout.len = out.out_len;
	r->stderr.data = out.err;
	r->stderr.len = out.err_len;
	return 0;
}

static int checkpoint_container(struct cri_call *c, const void *request, void *response,
				struct err *e)
{
	const Runtime__V1__CheckpointContainerRequest *q = request;
	struct container *ctr;
	int r = find(c, q->container_id, &ctr, e);

	if (r == 0)
		r = validate_checkpoint(q, e);
	return r < 0 ? r : life_checkpoint(ctr, q->location, (uint64_t)q->timeout, e);
}

static int reopen_container_log(struct cri_call *c, const void *request, void *response,
				struct err *e)
{
	const Runtime__V1__ReopenContainerLogRequest *q = request;
	struct container *ctr;
	int r = find(c, q->container_id, &ctr, e);

	return r < 0 ? r : life_reopen_log(ctr, e);
}

static int update_container_resources(struct cri_call *c, const void *request, void *response,
				      struct err *e)
{
	const Runtime__V1__UpdateContainerResourcesRequest *q = request;
	struct container *ctr;
	int r = find(c, q->container_id, &ctr, e);

	if (r == 0 && q->windows)
		r = err_invalid(e, "windows: this node runs Linux");
	if (r == 0 && !q->linux)
		r = err_invalid(e, "linux: must be given");
	if (r == 0)
		r = validate_resources(c->node, "linux", q->linux, e);
	return r < 0 ? r : life_update_container(ctr, q->linux, e);
}

const struct cri_method cri_methods_container[] = {
	CRI_METHOD("CreateContainer", create_container, create_container, false),
	CRI_METHOD("StartContainer", start_container, start_container, false),
	CRI_METHOD("StopContainer", stop_container, stop_container, false),
	CRI_METHOD("RemoveContainer", remove_container, remove_container, false),
	CRI_METHOD("ListContainers", list_containers, list_containers, true),
	CRI_STREAM("RuntimeService", "StreamContainers", list_containers, list_containers),
	CRI_METHOD("ContainerStatus", container_status, container_status, true),
	CRI_METHOD("ExecSync", exec_sync, exec_sync, true),
	CRI_METHOD("CheckpointContainer", checkpoint_container, checkpoint_container, false),
	CRI_METHOD("ReopenContainerLog", reopen_container_log, reopen_container_log, false),
	CRI_METHOD("UpdateContainerResources", update_container_resources,
		   update_container_resources, false),
	{0},
};
