/* SPDX-License-Identifier: Apache-2.0 */
/* The life cycle of pod sandboxes: see life.h. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "pod/bandwidth.h"
#include "pod/choose.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "pod/node.h"
#include "pod/runtimes.h"
#include "pod/sandbox.h"
#include "pod/stream.h"
#include "sys/userns.h"
#include "wire/json.h"

#define SHM_SIZE (64u << 20) /* bytes of a pod's /dev/shm, as the field has it */

static const Runtime__V1__NamespaceOption *namespaces(const Runtime__V1__PodSandboxConfig *c)
{
	if (!c->linux || !c->linux->security_context)
		return NULL;
	return c->linux->security_context->namespace_options;
}

static bool host_network(const Runtime__V1__PodSandboxConfig *c)
{
	return namespaces(c) && namespaces(c)->network == RUNTIME__V1__NAMESPACE_MODE__NODE;
}

/* --- what the monitor is told --- */

static void put_dns(struct ipc_out *o, const Runtime__V1__DNSConfig *d)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL, json = STRBUF_NULL;
	struct jw w = JW_INIT(&json);

	if (!d || (!d->n_servers && !d->n_searches && !d->n_options))
		return;
	jw_object_begin(&w);
	jw_key_array(&w, "servers");
	for (size_t i = 0; i < d->n_servers; i++) {
		strbuf_addf(&text, "nameserver %s\n", d->servers[i]);
		jw_string(&w, d->servers[i]);
	}
	jw_array_end(&w);
	jw_key_array(&w, "searches");
	for (size_t i = 0; i < d->n_searches; i++) {
		strbuf_addf(&text, "%s%s", i ? " " : "search ", d->searches[i]);
		jw_string(&w, d->searches[i]);
	}
	jw_array_end(&w);
	if (d->n_searches)
		strbuf_addc(&text, '\n');
	jw_key_array(&w, "options");
	for (size_t i = 0; i < d->n_options; i++) {
		strbuf_addf(&text, "%s%s", i ? " " : "options ", d->options[i]);
		jw_string(&w, d->options[i]);
	}
	jw_array_end(&w);
	if (d->n_options)
		strbuf_addc(&text, '\n');
	jw_object_end(&w);
	ipc_put_str(o, MON_TAG_RESOLV_CONF, text.s);
	ipc_put_str(o, MON_TAG_DNS, json.s);
}

static void put_ports(struct ipc_out *o, const Runtime__V1__PodSandboxConfig *c)
{
	static const char *const protocols[] = {"tcp", "udp", "sctp"};
	_cleanup_strbuf_ struct strbuf json = STRBUF_NULL;
	struct jw w = JW_INIT(&json);
	size_t n = 0;

	jw_array_begin(&w);
	for (size_t i = 0; i < c->n_port_mappings; i++) {
		const Runtime__V1__PortMapping *p = c->port_mappings[i];

		if (!p->host_port)
			continue;
		n++;
		jw_object_begin(&w);
		jw_key_int(&w, "hostPort", p->host_port);
		jw_key_int(&w, "containerPort", p->container_port);
		jw_key_string(&w, "protocol", protocols[p->protocol]);
		if (*p->host_ip)
			jw_key_string(&w, "hostIP", p->host_ip);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	if (n)
		ipc_put_str(o, MON_TAG_PORT_MAPPINGS, json.s);
}

/* The annotations that the kubelet's users know from the bandwidth plugin; checked before. */
static void put_bandwidth(struct ipc_out *o, const Runtime__V1__PodSandboxConfig *c)
{
	_cleanup_strbuf_ struct strbuf json = STRBUF_NULL;
	struct jw w = JW_INIT(&json);
	uint64_t in, out;

	if (bandwidth_read(c, &in, &out, NULL) < 0 || (!in && !out))
		return;
	jw_object_begin(&w);
	if (in) {
		jw_key_uint(&w, "ingressRate", in);
		jw_key_uint(&w, "ingressBurst", INT32_MAX);
	}
	if (out) {
		jw_key_uint(&w, "egressRate", out);
		jw_key_uint(&w, "egressBurst", INT32_MAX);
	}
	jw_object_end(&w);
	ipc_put_str(o, MON_TAG_BANDWIDTH, json.s);
}

/* What plugins may declare as capabilities besides CNI's conventions; containerd's names. */
static void put_capabilities(struct ipc_out *o, const struct pod *p)
{
	_cleanup_strbuf_ struct strbuf json = STRBUF_NULL;
	struct jw w = JW_INIT(&json);

	jw_object_begin(&w);
	if (p->config->n_annotations)
		jw_key_object(&w, "io.kubernetes.cri.pod-annotations");
	for (size_t i = 0; i < p->config->n_annotations; i++)
		jw_key_string(&w, p->config->annotations[i]->key, p->config->annotations[i]->value);
	if (p->config->n_annotations)
		jw_object_end(&w);
	jw_key_string(&w, "cgroupPath", str_or_empty(p->cgroup));
	jw_object_end(&w);
	ipc_put_str(o, MON_TAG_CAPABILITIES, json.s);
}

static void put_namespaces(const struct pod *p, struct ipc_out *o)
{
	const struct config *cfg = p->node->config;
	const Runtime__V1__NamespaceOption *ns = namespaces(p->config);
	bool net = host_network(p->config);
	_cleanup_free_ char *pin =
		xasprintf("%s/%s-%.16s", cfg->cni.netns_dir, cfg->instance, p->id);

	ipc_put_str(o, MON_TAG_NET_KIND, net ? "host" : "pod");
	ipc_put_str(o, MON_TAG_NETNS_PATH, pin);
	ipc_put_str(o, MON_TAG_NET_CONFIG, p->node->network.config);
	ipc_put_u64(o, MON_TAG_UTS_HOST, net);
	ipc_put_u64(o, MON_TAG_IPC_HOST, ns && ns->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE);
	ipc_put_u64(o, MON_TAG_PID_SHARED, !ns || ns->pid == RUNTIME__V1__NAMESPACE_MODE__POD);
	ipc_put_u64(o, MON_TAG_SHM_SIZE, SHM_SIZE);
}

static void put_map(struct ipc_out *o, uint16_t tag, const Runtime__V1__IDMapping *m)
{
	const struct userns_map map = {m->container_id, m->host_id, m->length};
	char text[USERNS_MAP_TEXT];

	userns_map_print(&map, text);
	ipc_put_str(o, tag, text);
}

static void put_userns(const struct pod *p, struct ipc_out *o)
{
	const Runtime__V1__UserNamespace *u = spec_userns_of(p->config);

	if (!u)
		return;
	put_map(o, MON_TAG_UID_MAP, u->uids[0]);
	put_map(o, MON_TAG_GID_MAP, u->gids[0]);
}

static void put_hostname(const struct pod *p, struct ipc_out *o)
{
	char name[256] = "";

	if (host_network(p->config))
		gethostname(name, sizeof(name) - 1);
	ipc_put_str(o, MON_TAG_HOSTNAME, *name ? name : p->config->hostname);
}

/* Stop and remove say it all once more: the records in the pod's directory may be gone. */
static void pod_request(const struct pod *p, struct ipc_out *o, uint16_t type)
{
	const Runtime__V1__PodSandboxConfig *c = p->config;

	ipc_out_init(o, type, 0);
	ipc_put_str(o, MON_TAG_POD_NAME, c->metadata->name);
	ipc_put_str(o, MON_TAG_POD_NAMESPACE, c->metadata->namespace_);
	ipc_put_str(o, MON_TAG_POD_UID, c->metadata->uid);
	put_namespaces(p, o);
	put_userns(p, o);
	put_hostname(p, o);
	put_dns(o, c->dns_config);
	put_ports(o, c);
	put_bandwidth(o, c);
	put_capabilities(o, p);
	ipc_put_str(o, MON_TAG_LOG_DIRECTORY, c->log_directory);
	for (size_t i = 0; c->linux && i < c->linux->n_sysctls; i++) {
		_cleanup_free_ char *s =
			xasprintf("%s=%s", c->linux->sysctls[i]->key, c->linux->sysctls[i]->value);

		ipc_put_str(o, MON_TAG_SYSCTL, s);
	}
	if (p->cgroup_owned)
		ipc_put_str(o, MON_TAG_CGROUP, p->cgroup);
	ipc_put_u64(o, MON_TAG_NETWORK_LATER, p->network_later);
}

/* --- run --- */

static int lock(struct pod *p, struct err *e)
{
	int r = co_lock(&p->lock);

	return r < 0 ? err_set(e, r, GRPC_CANCELLED,
			       "cancelled while another request for pod "
			       "sandbox %s was under way",
			       p->id)
		     : 0;
}

/* The kubelet's parent is honoured; pods without one get a cgroup of ours. */
static int choose_cgroup(struct pod *p, struct err *e)
{
	const struct node *n = p->node;
	const char *asked = p->config->linux ? p->config->linux->cgroup_parent : "",
		   *base = n->config->cgroup.parent;

	free(p->cgroup_parent);
	free(p->cgroup);
	p->cgroup = NULL;
	p->cgroup_owned = false;
	if (*asked) {
		const char *slash = strrchr(asked, '/');

		p->cgroup_parent = xstrdup(n->cgroup_systemd && slash ? slash + 1 : asked);
	} else if (n->cgroup_systemd) {
		p->cgroup_parent =
			*base ? xstrdup(base) : xasprintf("%s.slice", n->config->instance);
	} else {
		p->cgroup_parent = *base ? xasprintf("%s/%s", base, p->id)
					 : xasprintf("/%s/%s", n->config->instance, p->id);
		p->cgroup_owned = true;
	}
	if (n->cgroup_systemd)
		return cgroup_expand_slice(p->cgroup_parent, &p->cgroup, e);
	p->cgroup = xstrdup(p->cgroup_parent);
	return 0;
}

int life_pod_derive(struct pod *p, struct err *e)
{
	return choose_cgroup(p, e);
}

static void take(char **to, const struct ipc_in *in, uint16_t tag)
{
	free(*to);
	*to = xstrdup(str_or_empty(ipc_get_str(in, tag)));
}

/* The pod is for the runtime chosen; one that sandboxes whole pods makes its sandbox now, or else the
 * next candidate is taken. */
static int bind_runtime(struct pod *p, struct choice *k, struct err *e)
{
	struct err failed = ERR_NULL;
	int r = 0;

	while (pod_sandbox_wanted(k->rt)) {
		struct err now = ERR_NULL;

		choice_begin(k);
		r = pod_sandbox_switch(p, k->rt, &now);
		if (r == 0) {
			node_runtime_worked(k->rt);
			break;
		}
		if (!failed.errnum)
			failed = now;
		choice_abandon(k);
		if (co_cancelled() || !choice_failed(k, &now) || choice_next(k, &now) < 0) {
			*e = failed;
			return e->errnum;
		}
		log_warn("pod sandbox %s: another runtime is tried: %s", p->id, failed.msg);
	}
	free(p->runtime_name);
	p->runtime_name = xstrdup(k->rt->config->name);
	p->isolation = k->rt->config->isolation;
	p->unit = k->rt->config->unit;
	return 0;
}

static int set_up(struct pod *p, struct choice *k, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out o;
	int r = pod_monitor_start(p, e);

	if (r < 0)
		return r;
	pod_request(p, &o, MON_POD_SETUP);
	r = ipc_call(&p->monitor, &o, &in, e);
	FAULT_POINT("daemon.run-pod.set-up");
	if (r == 0 && co_cancelled()) /* it came too late: nobody waits for this pod */
		r = err_set(e, co_cancelled(), GRPC_CANCELLED, "cancelled");
	if (r < 0)
		return r;
	take(&p->ips, &in, MON_TAG_IPS);
	take(&p->netns, &in, MON_TAG_NETNS_PATH);
	take(&p->ipcns, &in, MON_TAG_IPCNS_PATH);
	take(&p->utsns, &in, MON_TAG_UTSNS_PATH);
	take(&p->pidns, &in, MON_TAG_PIDNS_PATH);
	take(&p->userns, &in, MON_TAG_USERNS_PATH);
	r = bind_runtime(p, k, e);
	if (r < 0)
		return r;
	return pod_set_state(p, POD_READY, e);
}

/* Only the index knows them where the records were on a tmpfs and the machine was restarted, or
 * what is a machine to us: a container of others has the boot of its host. */
static int remove_old_containers(struct pod *p, struct err *e)
{
	bool all = pod_is_of_past_boot(p);
	struct container *c;
	int r = all ? 0 : pod_monitor_find(p, e);

	if (r < 0)
		return r;
	list_for_each (c, &p->containers, in_pod) {
		struct ipc_out o;

		if (!all && !c->lost)
			continue;
		life_remove_request(c, &o);
		r = pod_monitor_end(p, &o, NULL, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * MON_POD_STOP or MON_POD_REMOVE.  Of a past boot there is nothing to be taken down but what
 * CNI plugins keep on disks.  Where a plugin cannot do that now (it has been uninstalled, or what
 * it talks to is not up yet), nobody has to wait for it: the record of its ADD stays, and
 * node_network_collect() tries again.
 */
static int end(struct pod *p, uint16_t type, struct err *e)
{
	struct err first = ERR_NULL;
	struct ipc_out o;
	int r;

	pod_request(p, &o, type);
	r = pod_monitor_end(p, &o, NULL, &first);
	if (r == 0) /* their connections would keep what is left of its network */
		streams_end_forwards(p->node->streams, p->id);
	if (r < 0 && pod_is_of_past_boot(p) && !p->network_later && !co_cancelled()) {
		log_warn("pod sandbox %s is of a past boot, its network is tried again later: %s",
			 p->id, first.msg);
		p->network_later = true;
		pod_request(p, &o, type);
		return pod_monitor_end(p, &o, NULL, e);
	}
	if (r < 0 && e)
		*e = first;
	return r;
}

/* Takes everything of a pod away: its monitor's work, the row, the name. */
static int tear_down(struct pod *p, struct err *e)
{
	struct container *c, *tmp;
	int r;

	co_shield(true);
	r = remove_old_containers(p, e);
	if (r == 0)
		r = end(p, MON_POD_REMOVE, e);
	FAULT_POINT("daemon.remove-pod.removed");
	if (r == 0) {
		pod_monitor_forget(p);
		r = state_remove_pod(p->node->state, p->id, e);
	}
	co_shield(false);
	if (r < 0)
		return r;
	FAULT_POINT("daemon.remove-pod.forgotten");
	list_for_each_safe (c, tmp, &p->containers, in_pod) {
		if (c->state != CONTAINER_EXITED) {
			container_set_exited(c, MON_EXIT_UNKNOWN, clock_wall_ns(), false);
			if (p->state == POD_REMOVING)
				container_event(c, EVENT_STOPPED);
		}
		if (p->state == POD_REMOVING)
			container_event(c, EVENT_DELETED);
		container_unlink(c);
	}
	if (p->state == POD_REMOVING)
		pod_event(p, EVENT_DELETED);
	if (p->network_later)
		node_network_collect(p->node);
	pod_unlink(p);
	return 0;
}

/* What could not be undone is listed, not ready: the kubelet removes it, as often as needed. */
static void undo(struct pod *p)
{
	struct err e = ERR_NULL;

	if (tear_down(p, &e) == 0)
		return;
	log_error("undo pod sandbox %s: %s", p->id, e.msg);
	if (pod_set_state(p, POD_NOTREADY, &e) < 0)
		log_error("pod sandbox %s: %s", p->id, e.msg);
}

static int run(struct pod *p, struct choice *k, struct err *e)
{
	int r = pod_set_state(p, POD_CREATING, e);

	FAULT_POINT("daemon.run-pod.row");
	if (r == 0)
		r = set_up(p, k, e);
	if (r < 0)
		undo(p);
	else
		FAULT_POINT("daemon.run-pod.ready");
	return r;
}

static int wait_for(struct pod *pod, struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	int r = lock(p, e);

	if (r == 0)
		co_unlock(&p->lock);
	return r;
}

/* Of a holder that is being made or removed (or undone) the outcome is awaited. */
static int link_pod(struct pod *p, struct err *e)
{
	for (;;) {
		struct pod *holder = map_get(&p->node->pod_names, p->name_key);
		int r;

		if (!holder || holder->state == POD_READY || holder->state == POD_NOTREADY ||
		    !co_lock_busy(&holder->lock))
			return pod_link(p, e);
		r = wait_for(holder, e);
		if (r < 0)
			return r;
	}
}

int life_run_pod(struct node *n, const Runtime__V1__PodSandboxConfig *config, const char *handler,
		 char ret_id[ID_SIZE], struct err *e)
{
	size_t len = runtime__v1__pod_sandbox_config__get_packed_size(config);
	_cleanup_free_ uint8_t *bytes = xmalloc(len);
	_cleanup_pod_ struct pod *p = NULL;
	_cleanup_choice_ struct choice choice;
	struct node_runtime *rt;
	char id[ID_SIZE];
	int r;

	choice_init(&choice, n, config, handler, NULL);
	r = choice_next(&choice, e);
	if (r < 0)
		return r;
	rt = choice.rt;
	*(choice.rule ? &rt->chosen_by_rule
	  : *handler  ? &rt->chosen_by_handler
		      : &rt->chosen_by_default) += 1;
	runtime__v1__pod_sandbox_config__pack(config, bytes);
	id_new(id);
	r = pod_new(n, id, bytes, len, &p, e);
	if (r < 0)
		return r;
	free(p->handler);
	free(p->runtime_name);
	p->handler = xstrdup(handler);
	p->runtime_name = xstrdup(rt->config->name);
	p->isolation = rt->config->isolation;
	p->unit = rt->config->unit;
	p->sandbox_known = true; /* none */
	p->created_at = pod_creation_time(n, p->config->metadata);
	r = choose_cgroup(p, e);
	if (r == 0)
		r = link_pod(p, e);
	if (r < 0)
		return r;
	co_lock(&p->lock); /* free: nobody knew of it */
	r = run(p, &choice, e);
	co_unlock(&p->lock);
	if (r < 0)
		return r;
	memcpy(ret_id, p->id, ID_SIZE);
	node_fold_index(n);
	return 0;
}

/* --- stop and remove --- */

static int stop(struct pod *p, struct err *e)
{
	struct err row = ERR_NULL;
	int r = end(p, MON_POD_STOP, e);

	FAULT_POINT("daemon.stop-pod.stopped");
	/* A row that cannot be written does not undo it: the monitor says so again. */
	if (r == 0 && p->state == POD_READY && pod_set_state(p, POD_NOTREADY, &row) < 0)
		log_error("pod sandbox %s: %s", p->id, row.msg);
	FAULT_POINT("daemon.stop-pod.row");
	return r < 0 ? err_wrap(e, "stop pod sandbox %s", p->id) : 0;
}

int life_stop_pod(struct pod *pod, struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	int r = lock(p, e);

	if (r < 0)
		return r;
	if (p->state == POD_READY || p->state == POD_NOTREADY)
		r = stop(p, e);
	co_unlock(&p->lock);
	return r;
}

int life_remove_pod(struct pod *pod, struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	struct err full = ERR_NULL;
	int r = lock(p, e);

	if (r < 0)
		return r;
	if (map_get(&p->node->pods, p->id) == p) {
		/* On a full disk too: what is removed is what makes room. */
		if (pod_set_state(p, POD_REMOVING, &full) < 0)
			log_warn("pod sandbox %s: %s", p->id, full.msg);
		FAULT_POINT("daemon.remove-pod.row");
		r = tear_down(p, e);
		if (r < 0) { /* still there, listed so that it is removed once more */
			pod_set_state(p, POD_NOTREADY, NULL);
			err_wrap(e, "remove pod sandbox %s", p->id);
		}
	}
	co_unlock(&p->lock);
	node_fold_index(p->node);
	return r;
}

/* --- update --- */

/* `with` laid over what is in force (either may be NULL), in `a`; NULL: there is neither. */
static Runtime__V1__LinuxContainerResources *
merged(const Runtime__V1__LinuxContainerResources *in_force,
       const Runtime__V1__LinuxContainerResources *with, struct arena *a)
{
	Runtime__V1__LinuxContainerResources *r;

	if (!in_force && !with)
		return NULL;
	r = arena_alloc(a, sizeof(*r));
	if (in_force)
		*r = *in_force;
	else
		runtime__v1__linux_container_resources__init(r);
	if (with)
		spec_resources_merge(r, with, a);
	return r;
}

/* Handlers hold nothing of a configuration across a wait, so the old one can go. */
static void keep_config(struct pod *p, const Runtime__V1__PodSandboxConfig *config)
{
	size_t len = runtime__v1__pod_sandbox_config__get_packed_size(config);
	uint8_t *bytes = xmalloc(len);
	struct arena arena = ARENA_NULL;
	ProtobufCAllocator alloc = pod_allocator(&arena);

	runtime__v1__pod_sandbox_config__pack(config, bytes);
	p->config = runtime__v1__pod_sandbox_config__unpack(&alloc, len, bytes);
	arena_fini(&p->arena);
	p->arena = arena;
	free(p->config_bytes);
	p->config_bytes = bytes;
	p->config_len = len;
}

static int update(struct pod *p, const Runtime__V1__LinuxContainerResources *overhead,
		  const Runtime__V1__LinuxContainerResources *resources, struct err *e)
{
	Runtime__V1__LinuxPodSandboxConfig linux_config =
		RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxConfig config = *p->config;
	_cleanup_arena_ struct arena a = ARENA_NULL;

	if (config.linux)
		linux_config = *config.linux;
	linux_config.overhead = merged(linux_config.overhead, overhead, &a);
	linux_config.resources = merged(linux_config.resources, resources, &a);
	config.linux = &linux_config;
	keep_config(p, &config);
	return pod_record(p, e);
}

int life_update_pod(struct pod *pod, const Runtime__V1__LinuxContainerResources *overhead,
		    const Runtime__V1__LinuxContainerResources *resources, struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	int r = lock(p, e);

	if (r < 0)
		return r;
	if (p->state != POD_READY)
		r = err_precondition(e, "pod sandbox %s is not ready", p->id);
	else
		r = update(p, overhead, resources, e);
	co_unlock(&p->lock);
	return r;
}
