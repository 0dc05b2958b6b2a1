/* SPDX-License-Identifier: Apache-2.0 */
/* See sandbox.h. */
#include "pod/sandbox.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "pod/choose.h"
#include "pod/monitor.h"
#include "pod/runtimes.h"

bool pod_sandbox_wanted(const struct node_runtime *rt)
{
	return rt->config->unit == CONFIG_UNIT_POD;
}

static int check(const struct pod *p, const struct node_runtime *rt, struct err *e)
{
	const char *what = !*p->netns ? "network" : !*p->ipcns ? "IPC" : NULL;

	if (what)
		return err_precondition(
			e,
			"runtime %s puts pods into sandboxes of their own: a pod in "
			"the node's %s namespace is not for it",
			rt->config->name, what);
	if (!str_empty(p->userns))
		return err_precondition(
			e,
			"runtime %s puts pods into sandboxes of their own, which have "
			"no user namespaces of the node",
			rt->config->name);
	return 0;
}

static void put_runtime(const struct pod *p, const struct node_runtime *rt, struct ipc_out *o)
{
	const struct config *cfg = p->node->config;
	_cleanup_free_ char *root = xasprintf("%s/runtime/%s", cfg->state, rt->config->name);

	ipc_put_str(o, MON_TAG_ID, p->id);
	ipc_put_str(o, MON_TAG_RUNTIME, rt->config->path);
	for (size_t i = 0; rt->config->args[i]; i++)
		ipc_put_str(o, MON_TAG_RUNTIME_ARG, rt->config->args[i]);
	ipc_put_str(o, MON_TAG_RUNTIME_ROOT, root);
}

static int create(struct pod *p, const struct node_runtime *rt, struct err *e)
{
	const struct node *n = p->node;
	_cleanup_free_ char *cgroup = cgroup_name_for(p->cgroup_parent, p->id, n->cgroup_systemd);
	_cleanup_strbuf_ struct strbuf config = STRBUF_NULL;
	const struct spec_sandbox s = {.pod = p->config,
				       .host = &n->host,
				       .pod_id = p->id,
				       .netns = p->netns,
				       .ipcns = p->ipcns,
				       .pidns = p->pidns,
				       .cgroups_path = cgroup,
				       .pod_annotations = rt->config->pod_annotations};
	struct ipc_out o;

	spec_sandbox_print(&s, &config);
	ipc_out_init(&o, MON_CREATE, 0);
	put_runtime(p, rt, &o);
	ipc_put_u64(&o, MON_TAG_SANDBOX, 1);
	ipc_put_bytes(&o, MON_TAG_CONFIG, config.s, config.len);
	ipc_put_u64(&o, MON_TAG_SYSTEMD_CGROUP, n->cgroup_systemd);
	ipc_put_str(&o, MON_TAG_CGROUP, cgroup);
	ipc_put_u64(&o, MON_TAG_TIMEOUT, n->config->container.create_timeout_us);
	return ipc_call(&p->monitor, &o, NULL, e);
}

static int start(struct pod *p, struct err *e)
{
	struct ipc_out o;

	ipc_out_init(&o, MON_START, 0);
	ipc_put_str(&o, MON_TAG_ID, p->id);
	return ipc_call(&p->monitor, &o, NULL, e);
}

int pod_sandbox_unbind(struct pod *p, const struct node_runtime *rt, struct err *e)
{
	struct ipc_out o;
	int r;

	if (!pod_sandbox_wanted(rt))
		return 0;
	co_shield(true);
	ipc_out_init(&o, MON_REMOVE, 0);
	put_runtime(p, rt, &o);
	r = pod_monitor_end(p, &o, NULL, e);
	co_shield(false);
	return r < 0 ? err_wrap(e, "remove the sandbox of pod %s", p->id) : 0;
}

int pod_sandbox_bind(struct pod *p, const struct node_runtime *rt, struct err *e)
{
	struct err again = ERR_NULL;
	int r;

	if (!pod_sandbox_wanted(rt))
		return 0;
	r = check(p, rt, e);
	if (r < 0)
		return r;
	r = create(p, rt, e);
	FAULT_POINT("daemon.bind.created");
	if (r == 0) {
		r = start(p, e);
		if (r == 0 && co_cancelled())
			r = err_set(e, co_cancelled(), GRPC_CANCELLED, "cancelled");
	}
	FAULT_POINT("daemon.bind.started");
	if (r == 0)
		return 0;
	if (pod_sandbox_unbind(p, rt, &again) < 0)
		log_error("%s", again.msg);
	return err_wrap(e, "the sandbox of runtime %s", rt->config->name);
}

/* --- from one runtime to another --- */

/* Of a pod that a past daemon has made: the one that it was made for, or its containers were. */
static void recall(struct pod *p)
{
	struct route_binding b;
	struct node_runtime *rt;

	if (p->sandbox_known)
		return;
	p->sandbox_known = true;
	pod_binding(p, NULL, &b);
	rt = b.unit == CONFIG_UNIT_POD ? node_runtime_named(p->node, b.runtime) : NULL;
	p->sandbox = rt ? node_runtime_ref(rt) : NULL;
}

static int drop(struct pod *p, struct err *e)
{
	int r = p->sandbox ? pod_sandbox_unbind(p, p->sandbox, e) : 0;

	if (r == 0)
		p->sandbox = node_runtime_unref(p->sandbox);
	return r;
}

int pod_sandbox_switch(struct pod *p, struct node_runtime *rt, struct err *e)
{
	struct node_runtime *want = pod_sandbox_wanted(rt) ? rt : NULL;
	int r = 0;

	recall(p);
	/* (After a reload the same may have other settings: what is in the old one stays there.) */
	if (p->sandbox == want ||
	    (p->sandbox && want && streq(p->sandbox->config->name, want->config->name)))
		return 0;
	r = drop(p, e);
	if (r == 0 && want)
		r = pod_sandbox_bind(p, want, e);
	if (r == 0 && want)
		p->sandbox = node_runtime_ref(want);
	return r;
}

void pod_sandbox_settle(struct pod *p)
{
	struct route_binding b;
	struct err e = ERR_NULL;

	pod_binding(p, NULL, &b);
	if (p->sandbox && b.unit != CONFIG_UNIT_POD && drop(p, &e) < 0)
		log_error("%s", e.msg);
}
