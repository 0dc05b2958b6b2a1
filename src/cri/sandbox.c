/* SPDX-License-Identifier: Apache-2.0 */
/* CRI: pod sandboxes. */
#include "base/clock.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "cri/validate.h"
#include "pod/choose.h"
#include "pod/life.h"
#include "wire/json.h"

static Runtime__V1__PodSandboxState state_of(const struct pod *p)
{
	return p->state == POD_READY ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
				     : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

static bool listed(const struct pod *p)
{
	return p->state == POD_READY || p->state == POD_NOTREADY;
}

static int run_pod_sandbox(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__RunPodSandboxRequest *q = request;
	Runtime__V1__RunPodSandboxResponse *r = response;
	char id[ID_SIZE];
	int ret;

	if (!q->config)
		return err_invalid(e, "config: must be given");
	ret = validate_pod(c->node, q->config, e);
	if (ret == 0)
		ret = life_run_pod(c->node, q->config, q->runtime_handler, id, e);
	if (ret < 0)
		return ret;
	r->pod_sandbox_id = arena_strdup(c->arena, id);
	c->about = r->pod_sandbox_id;
	return 0;
}

/* Stop and remove are idempotent: what is not there is as it should be (api.proto). */
static int find_to_end(struct node *n, const char *id, struct pod **ret, struct err *e)
{
	int r = pod_find(n, id, ret, e);

	if (r == -ENOENT) {
		*ret = NULL;
		return 0;
	}
	return r;
}

static int stop_pod_sandbox(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__StopPodSandboxRequest *q = request;
	struct pod *p;
	int r = find_to_end(c->node, q->pod_sandbox_id, &p, e);

	c->about = q->pod_sandbox_id;
	return r < 0 || !p ? r : life_stop_pod(p, e);
}

static int remove_pod_sandbox(struct cri_call *c, const void *request, void *response,
			      struct err *e)
{
	const Runtime__V1__RemovePodSandboxRequest *q = request;
	struct pod *p;
	int r = find_to_end(c->node, q->pod_sandbox_id, &p, e);

	c->about = q->pod_sandbox_id;
	return r < 0 || !p ? r : life_remove_pod(p, e);
}

static int update_pod_sandbox_resources(struct cri_call *c, const void *request, void *response,
					struct err *e)
{
	const Runtime__V1__UpdatePodSandboxResourcesRequest *q = request;
	struct pod *p;
	int r = pod_find(c->node, q->pod_sandbox_id, &p, e);

	c->about = q->pod_sandbox_id;
	if (r == 0)
		r = validate_resources(c->node, "overhead", q->overhead, e);
	if (r == 0)
		r = validate_resources(c->node, "resources", q->resources, e);
	return r < 0 ? r : life_update_pod(p, q->overhead, q->resources, e);
}

/* --- list --- */

static const struct strbuf *list_item(struct pod *p)
{
	Runtime__V1__PodSandbox m = RUNTIME__V1__POD_SANDBOX__INIT;

	if (p->list_item.len)
		return &p->list_item;
	m.id = p->id;
	m.metadata = p->config->metadata;
	m.state = state_of(p);
	m.created_at = p->created_at;
	m.n_labels = p->config->n_labels;
	m.labels = (void *)p->config->labels;
	m.n_annotations = p->config->n_annotations;
	m.annotations = (void *)p->config->annotations;
	m.runtime_handler = p->handler;
	cri_put_message(&p->list_item, 1, &m.base);
	return &p->list_item;
}

static bool pod_matches(const struct pod *p, const Runtime__V1__PodSandboxFilter *f)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(p->id, f->id))
		return false;
	if (f->state && f->state->state != state_of(p))
		return false;
	return cri_labels_match((void *)p->config->labels, p->config->n_labels,
				(void *)f->label_selector, f->n_label_selector);
}

static int list_pod_sandbox(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ListPodSandboxRequest *q = request;
	struct pod *p;

	if (q->filter && q->filter->state &&
	    !protobuf_c_enum_descriptor_get_value(&runtime__v1__pod_sandbox_state__descriptor,
						  (int)q->filter->state->state))
		return err_invalid(e, "filter.state.state: %d is none",
				   (int)q->filter->state->state);
	c->raw_used = true;
	list_for_each (p, &c->node->pods_in_order, in_order) {
		const struct strbuf *item;

		if (!listed(p) || !pod_matches(p, q->filter))
			continue;
		item = list_item(p);
		strbuf_add(&c->raw, item->s, item->len);
	}
	return 0;
}

/* --- status --- */

static Runtime__V1__PodSandboxNetworkStatus *network_status(struct arena *a, const struct pod *p)
{
	Runtime__V1__PodSandboxNetworkStatus *net = arena_alloc(a, sizeof(*net));
	char *ips = arena_strdup(a, p->ips), *save = NULL, *ip;
	size_t max = strlen(ips) / 2 + 1;

	runtime__v1__pod_sandbox_network_status__init(net);
	net->additional_ips = arena_calloc(a, max, sizeof(*net->additional_ips));
	for (ip = strtok_r(ips, " ", &save); ip; ip = strtok_r(NULL, " ", &save)) {
		Runtime__V1__PodIP *more;

		if (str_empty(net->ip)) {
			net->ip = ip;
			continue;
		}
		more = arena_alloc(a, sizeof(*more));
		runtime__v1__pod_ip__init(more);
		more->ip = ip;
		net->additional_ips[net->n_additional_ips++] = more;
	}
	return net;
}

static Runtime__V1__LinuxPodSandboxStatus *linux_status(struct arena *a, const struct pod *p)
{
	Runtime__V1__LinuxPodSandboxStatus *l = arena_alloc(a, sizeof(*l));
	Runtime__V1__Namespace *ns = arena_alloc(a, sizeof(*ns));
	const Runtime__V1__LinuxPodSandboxConfig *cfg = p->config->linux;

	runtime__v1__linux_pod_sandbox_status__init(l);
	runtime__v1__namespace__init(ns);
	l->namespaces = ns;
	if (cfg && cfg->security_context && cfg->security_context->namespace_options) {
		ns->options = cfg->security_context->namespace_options;
	} else {
		ns->options = arena_alloc(a, sizeof(*ns->options));
		runtime__v1__namespace_option__init(ns->options);
	}
	return l;
}

Runtime__V1__PodSandboxStatus *cri_pod_status(struct arena *a, const struct pod *p)
{
	Runtime__V1__PodSandboxStatus *s = arena_alloc(a, sizeof(*s));

	runtime__v1__pod_sandbox_status__init(s);
	s->id = arena_strdup(a, p->id);
	s->metadata = p->config->metadata;
	s->state = state_of(p);
	s->created_at = p->created_at;
	s->network = network_status(a, p);
	s->linux = linux_status(a, p);
	s->n_labels = p->config->n_labels;
	s->labels = (void *)p->config->labels;
	s->n_annotations = p->config->n_annotations;
	s->annotations = (void *)p->config->annotations;
	s->runtime_handler = p->handler;
	return s;
}

static int newest_first(const void *a, const void *b)
{
	const Runtime__V1__ContainerStatus *x = *(void *const *)a, *y = *(void *const *)b;

	return x->created_at < y->created_at ? 1 : x->created_at > y->created_at ? -1 : 0;
}

Runtime__V1__ContainerStatus **cri_pod_containers(struct arena *a, const struct pod *p,
						  size_t *ret_n)
{
	Runtime__V1__ContainerStatus **all;
	struct container *c;
	size_t n = 0;

	list_for_each (c, &p->containers, in_pod)
		n++;
	all = arena_calloc(a, n + 1, sizeof(*all));
	*ret_n = 0;
	list_for_each (c, &p->containers, in_pod)
		if (life_container_listed(c))
			all[(*ret_n)++] = cri_container_status(a, c);
	qsort(all, *ret_n, sizeof(*all), newest_first);
	return all;
}

static void put_resources(const struct pod *p, const char *key,
			  const Runtime__V1__LinuxContainerResources *r, struct jw *w)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (!r)
		return;
	spec_resources_print(r, NULL, &p->node->host, &b);
	jw_key(w, key);
	jw_raw(w, b.s);
}

/* What `crictl inspectp` shows beyond the status: one JSON text under the key "info". */
static void pod_info(struct arena *a, const struct pod *p, Runtime__V1__PodSandboxStatusResponse *r)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct route_binding bound;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	pod_binding(p, NULL, &bound);
	jw_key_string(&w, "runtime", bound.runtime);
	jw_key_string(&w, "runtimeHandler", p->handler);
	jw_key_string(&w, "netns", p->netns);
	jw_key_string(&w, "cgroupParent", p->cgroup_parent);
	if (p->config->linux) {
		put_resources(p, "resources", p->config->linux->resources, &w);
		put_resources(p, "overhead", p->config->linux->overhead, &w);
	}
	jw_object_end(&w);
	cri_info(a, "info", b.s, &r->info, &r->n_info);
}

static int pod_sandbox_status(struct cri_call *c, const void *request, void *response,
			      struct err *e)
{
	const Runtime__V1__PodSandboxStatusRequest *q = request;
	Runtime__V1__PodSandboxStatusResponse *r = response;
	struct pod *p;
	int ret = pod_find(c->node, q->pod_sandbox_id, &p, e);

	c->about = q->pod_sandbox_id;
	if (ret < 0)
		return ret;
	if (!listed(p))
		return err_not_found(e, "pod_sandbox_id: pod sandbox %s is being made or removed",
				     p->id);
	r->status = cri_pod_status(c->arena, p);
	r->timestamp = pod_telling_time(p);
	r->containers_statuses = cri_pod_containers(c->arena, p, &r->n_containers_statuses);
	if (q->verbose)
		pod_info(c->arena, p, r);
	return 0;
}

const struct cri_method cri_methods_sandbox[] = {
	CRI_METHOD("RunPodSandbox", run_pod_sandbox, run_pod_sandbox, false),
	CRI_METHOD("StopPodSandbox", stop_pod_sandbox, stop_pod_sandbox, false),
	CRI_METHOD("RemovePodSandbox", remove_pod_sandbox, remove_pod_sandbox, false),
	CRI_METHOD("UpdatePodSandboxResources", update_pod_sandbox_resources,
		   update_pod_sandbox_resources, false),
	CRI_METHOD("PodSandboxStatus", pod_sandbox_status, pod_sandbox_status, true),
	CRI_METHOD("ListPodSandbox", list_pod_sandbox, list_pod_sandbox, true),
	CRI_STREAM("RuntimeService", "StreamPodSandboxes", list_pod_sandbox, list_pod_sandbox),
	{0},
};
