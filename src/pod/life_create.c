/* SPDX-License-Identifier: Apache-2.0 */
/* How containers come into being: see life.h. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "ipc/worker.h"
#include "pod/choose.h"
#include "pod/device.h"
#include "pod/edits.h"
#include "pod/filter.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "pod/node.h"
#include "pod/restore.h"
#include "pod/runtimes.h"
#include "pod/sandbox.h"
#include "pod/stop_signal.h"
#include "pod/volume.h"
#include "wire/grpc.h"
#include "wire/json.h"

#define SECCOMP_PROFILE_MAX (1u << 20) /* bytes of a profile's file */

static const Runtime__V1__LinuxContainerSecurityContext *
security(const Runtime__V1__ContainerConfig *c)
{
	return c->linux ? c->linux->security_context : NULL;
}

/* --- create --- */

/* What of a creation lives only until it is done. */
struct creation {
	struct container *c;
	struct pod *pod;
	struct image *image;	    /* borrowed: not across a wait */
	struct image_record record; /* a copy of what is needed of it */
	struct spec_user user;
	struct spec_device *devices;
	size_t n_devices;
	struct strbuf seccomp, spec, outline; /* spec_container_outline() */
	struct volumes volumes;
	struct spec_binds binds;
	struct strv image_volumes; /* directories that the image wants in the root */
	bool volumes_mounted;
	char *binds_dir;
	jv *edits; /* what files on the node add; NULL: nothing */
	bool has_seccomp, seccomp_default;
	char *cgroups_path;
	const char *pidns;
	bool own_pidns;
	char *target_pidns;
	struct restore restore;
	struct choice choice;
	char *rule_image; /* the reference that rules look at; NULL: none */
	bool chosen;	  /* a runtime has been, and is being tried */
	bool recorded;	  /* it has a row, and the monitor may know of it */
};

static void creation_fini(struct creation *k)
{
	image_record_fini(&k->record);
	spec_user_fini(&k->user);
	strbuf_fini(&k->seccomp);
	strbuf_fini(&k->spec);
	strbuf_fini(&k->outline);
	jv_free(k->edits);
	volumes_fini(&k->volumes);
	spec_binds_fini(&k->binds);
	strv_fini(&k->image_volumes);
	free(k->binds_dir);
	free(k->cgroups_path);
	free(k->target_pidns);
	restore_fini(&k->restore);
	choice_fini(&k->choice);
	free(k->rule_image);
}

static int copy_image(struct creation *k, const struct image *im, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	image_record_print(&im->record, &b);
	return image_record_parse(b.s, b.len, &k->record, e);
}

/* config.image.image as the status shows it: a name, where there is one. */
static const char *image_name(const struct image_record *r)
{
	return r->digests.n ? r->digests.v[0] : r->tags.n ? r->tags.v[0] : r->id;
}

static int find_image(struct creation *k, struct err *e)
{
	struct container *c = k->c;
	struct image *im;
	int r = restore_find_image(c, &k->restore, &im, e);

	if (r < 0)
		return r;
	if (*im->record.artifact)
		return err_precondition(e,
					"config.image.image: \"%s\" is an OCI artifact (%s): it "
					"can be mounted, but is no image to make a container of",
					c->config->image->image, im->record.artifact);
	r = copy_image(k, im, e);
	if (r < 0)
		return r;
	free(c->image_id);
	free(c->image_ref);
	c->image_id = xasprintf("sha256:%s", k->record.id);
	c->image_ref = xstrdup(image_name(&k->record));
	return 0;
}

static int choose_pidns(struct creation *k, struct err *e)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(k->c->config);
	const Runtime__V1__NamespaceOption *o = sc ? sc->namespace_options : NULL;
	struct container *target;
	int r;

	k->pidns = "";
	switch (o ? o->pid : RUNTIME__V1__NAMESPACE_MODE__POD) {
	case RUNTIME__V1__NAMESPACE_MODE__CONTAINER:
		k->own_pidns = true;
		return 0;
	case RUNTIME__V1__NAMESPACE_MODE__NODE:
		return 0;
	case RUNTIME__V1__NAMESPACE_MODE__TARGET:
		r = container_find(k->pod->node, o->target_id, &target, e);
		if (r < 0)
			return err_wrap(e, "namespace_options.target_id");
		if (target->pod != k->pod)
			return err_invalid(
				e,
				"namespace_options.target_id: container %s is of another "
				"pod sandbox",
				target->id);
		if (target->state != CONTAINER_RUNNING || target->pid <= 0)
			return err_precondition(e,
						"namespace_options.target_id: container %s is not "
						"running",
						target->id);
		k->target_pidns = xasprintf("/proc/%d/ns/pid", (int)target->pid);
		k->pidns = k->target_pidns;
		return 0;
	default:
		k->pidns = k->pod->pidns;
		if (!*k->pidns)
			return err_precondition(e,
						"namespace_options.pid: POD, but pod sandbox %s "
						"was not made to share a PID namespace",
						k->pod->id);
		return 0;
	}
}

static int load_profile(struct creation *k, const char *path, struct err *e)
{
	struct strbuf text = STRBUF_NULL;
	jv *doc;
	int r = image_worker_read(k->pod->node->images, path, SECCOMP_PROFILE_MAX, &text, e);

	if (r == -ENOENT)
		err_precondition(e, "seccomp.localhost_ref: there is no profile \"%s\"", path);
	if (r < 0)
		return r;
	r = jv_parse(str_or_empty(text.s), text.len, SECCOMP_PROFILE_MAX, path, &doc, e);
	strbuf_fini(&text);
	if (r < 0)
		return r;
	jv_print(doc, &k->seccomp);
	jv_free(doc);
	return 0;
}

/* An absent profile is Unconfined, as the field has it; the kubelet always names one. */
static int choose_seccomp(struct creation *k, struct err *e)
{
	const struct node *n = k->pod->node;
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(k->c->config);
	const char *old = sc ? sc->seccomp_profile_path : "", *file = NULL;
	bool standard = false;
	int r = 0;

	if (!sc || sc->privileged || !n->host.seccomp)
		return 0;
	if (sc->seccomp) {
		standard = sc->seccomp->profile_type ==
			   RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
		if (sc->seccomp->profile_type ==
		    RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost)
			file = sc->seccomp->localhost_ref;
	} else if (streq(old, "runtime/default") || streq(old, "docker/default")) {
		standard = true;
	} else if (str_has_prefix(old, "localhost/")) {
		file = old + strlen("localhost/");
	}
	if (standard && *n->config->container.seccomp_default)
		file = n->config->container.seccomp_default;
	if (file)
		r = load_profile(k, file, e);
	else if (standard)
		spec_seccomp_default_print(spec_caps_of(sc, n->host.caps), &k->seccomp);
	k->has_seccomp = r == 0 && (file || standard);
	k->seccomp_default = standard;
	return r;
}

static void fill_spec(struct creation *k, struct spec_container *s, char *shm, char *resolv,
		      char *hostname_file)
{
	const struct pod *p = k->pod;
	const struct node *n = p->node;
	const struct config_runtime *rt = k->c->runtime ? k->c->runtime->config : NULL;

	*s = (struct spec_container){
		.pod = p->config,
		.config = k->c->config,
		.image = &k->record.config,
		.user = &k->user,
		.host = &n->host,
		.pod_id = p->id,
		.id = k->c->id,
		.image_name = k->c->image_ref,
		.hostname = p->config->hostname,
		.netns = p->netns,
		.ipcns = p->ipcns,
		.utsns = p->utsns,
		.userns = p->userns,
		.binds = &k->binds,
		.binds_dir = k->binds_dir,
		.pidns = k->pidns,
		.own_pidns = k->own_pidns,
		.shm = *p->ipcns ? shm : "/dev/shm",
		.resolv_conf = resolv,
		.hostname_file = hostname_file,
		.cgroups_path = k->cgroups_path,
		.seccomp = k->has_seccomp ? k->seccomp.s : NULL,
		.seccomp_filter = filter_find(n, k->c->runtime, k->seccomp.s),
		.apparmor_default = n->apparmor_default,
		.env_program = n->env_path,
		.pids_limit = n->config->container.pids_limit,
		.devices = k->devices,
		.n_devices = k->n_devices,
		.edits = k->edits,
		.privileged_without_host_devices = rt && rt->privileged_without_host_devices,
		.pod_annotations = rt ? rt->pod_annotations : NULL,
		.container_annotations = rt ? rt->container_annotations : NULL,
	};
}

static int print_spec(struct creation *k, struct err *e)
{
	_cleanup_free_ char *dir = pod_dir(k->pod), *shm = xasprintf("%s/shm", dir),
			    *resolv = xasprintf("%s/resolv.conf", dir),
			    *hostname = xasprintf("%s/hostname", dir);
	const Runtime__V1__DNSConfig *d = k->pod->config->dns_config;
	bool own_dns = d && (d->n_servers || d->n_searches || d->n_options);
	struct spec_container s;
	int r;

	free(k->binds_dir);
	k->binds_dir = xasprintf("%s/containers/%s/" MON_BINDS, dir, k->c->id);
	fill_spec(k, &s, shm, own_dns ? resolv : (char *)"/etc/resolv.conf", hostname);
	r = spec_volumes(&s, &k->image_volumes, e);
	k->volumes_mounted = spec_volumes_mounted(&s);
	if (r < 0)
		return r;
	spec_container_outline(&s, &k->outline);
	return spec_container_print(&s, &k->spec, e);
}

/* What a container asks for and starts without. */
static void tell_missing(const struct creation *k)
{
	const Runtime__V1__LinuxContainerResources *r =
		k->c->config->linux ? k->c->config->linux->resources : NULL;
	struct node *n = k->pod->node;
	bool limited = false;

	for (size_t i = 0; r && i < r->n_hugepage_limits; i++)
		limited |= r->hugepage_limits[i]->limit > 0;
	if (r && r->oom_score_adj < n->host.oom_score_adj_min && !n->told_oom) {
		log_warn("container %s asks for oom_score_adj %lld, gets %d: lowering it needs "
			 "CAP_SYS_RESOURCE, which gantryd does not have (said once)",
			 k->c->id, (long long)r->oom_score_adj, n->host.oom_score_adj_min);
		n->told_oom = true;
	}
	if (limited && !n->host.hugetlb && !n->told_hugetlb) {
		log_warn("container %s asks for limits of huge pages, gets none: no hugetlb cgroup "
			 "controller is mounted below /sys/fs/cgroup (said once)",
			 k->c->id);
		n->told_hugetlb = true;
	}
}

/* CDI devices and OCI hooks: beside the request's own. */
static int add_edits(struct creation *k, struct err *e)
{
	_cleanup_strbuf_ struct strbuf exec = STRBUF_NULL;
	struct container *c = k->c;
	int r = edits_collect(c, &k->record.config, &k->edits, e);

	if (r == 0)
		r = spec_edits_groups(k->edits, &k->user, e);
	if (r < 0 || !k->edits)
		return r;
	spec_edits_print_exec(k->edits, &exec);
	if (exec.len)
		c->edits = strbuf_take(&exec);
	return 0;
}

/* Everything that can be refused before a runtime is chosen. */
static int prepare(struct creation *k, struct err *e)
{
	struct container *c = k->c;
	const struct node *n = k->pod->node;
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(c->config);
	int r = find_image(k, e);

	if (r == 0)
		r = volumes_find(c, &k->volumes, e);
	if (r == 0)
		r = spec_user_resolve(&k->record.config, sc, &k->user, e);
	if (r == 0)
		r = choose_pidns(k, e);
	if (r == 0)
		r = add_edits(k, e);
	if (r == 0)
		r = spec_user_check(&k->user, k->pod->config, e);
	if (r == 0)
		r = choose_seccomp(k, e);
	if (r < 0)
		return r;
	k->cgroups_path = cgroup_name_for(k->pod->cgroup_parent, c->id, n->cgroup_systemd);
	free(c->cgroup);
	c->cgroup = NULL;
	r = cgroup_path_of(k->cgroups_path, n->cgroup_systemd, &c->cgroup, e);
	if (r == 0)
		tell_missing(k);
	c->stop_signal = signal_to_stop(c->config, &k->record.config);
	c->uid = k->user.uid;
	c->gid = k->user.gid;
	if (k->user.n_groups) /* (what its config.json is printed of, once or more, stays) */
		c->groups = xmemdup(k->user.groups, k->user.n_groups * sizeof(*c->groups));
	c->n_groups = k->user.n_groups;
	return r;
}

/* Its config.json, as the runtime chosen gets it. */
static int shape(struct creation *k, struct err *e)
{
	struct container *c = k->c;
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(c->config);
	bool all = sc && sc->privileged && !c->runtime->config->privileged_without_host_devices;
	int r;

	strbuf_reset(&k->spec);
	strbuf_reset(&k->outline);
	spec_binds_fini(&k->binds);
	k->binds = (struct spec_binds){0};
	strv_fini(&k->image_volumes);
	k->image_volumes = STRV_NULL;
	r = devices_collect(c->config, all, &c->arena, &k->devices, &k->n_devices, e);
	if (r < 0)
		return r;
	if (k->edits)
		spec_edits_devices(k->edits, &k->user, &c->arena, &k->devices, &k->n_devices);
	r = print_spec(k, e);
	if (r == 0 && k->restore.wanted)
		r = restore_check(&k->restore, c, &k->outline, e);
	return r;
}

static void create_request(struct creation *k, struct ipc_out *o)
{
	const struct node *n = k->pod->node;
	const struct config *cfg = n->config;
	struct container *c = k->c;
	const struct config_runtime *rt = c->runtime->config;
	_cleanup_free_ char *root = xasprintf("%s/runtime/%s", cfg->state, rt->name),
			    *layers = xasprintf("%s/layers", cfg->root),
			    *writable = xasprintf("%s/containers/%s", cfg->root, c->id);

	ipc_out_init(o, MON_CREATE, 0);
	ipc_put_str(o, MON_TAG_ID, c->id);
	ipc_put_bytes(o, MON_TAG_CONFIG, k->spec.s, k->spec.len);
	ipc_put_str(o, MON_TAG_RUNTIME, rt->path);
	for (size_t i = 0; rt->args[i]; i++)
		ipc_put_str(o, MON_TAG_RUNTIME_ARG, rt->args[i]);
	ipc_put_str(o, MON_TAG_RUNTIME_ROOT, root);
	ipc_put_u64(o, MON_TAG_SYSTEMD_CGROUP, n->cgroup_systemd);
	ipc_put_str(o, MON_TAG_LAYERS_DIR, layers);
	for (size_t i = 0; i < k->record.layers.n; i++)
		ipc_put_str(o, MON_TAG_LAYER, k->record.layers.v[i]);
	ipc_put_str(o, MON_TAG_WRITABLE, writable);
	ipc_put_str(o, MON_TAG_SNAPSHOTTER, n->config->image.snapshotter);
	ipc_put_u64(o, MON_TAG_TTY, c->config->tty);
	ipc_put_u64(o, MON_TAG_STDIN, c->config->stdin);
	ipc_put_u64(o, MON_TAG_STDIN_ONCE, c->config->stdin_once);
	ipc_put_str(o, MON_TAG_LOG_PATH, c->log_path);
	ipc_put_u64(o, MON_TAG_LOG_LINE_MAX, cfg->container.max_log_line);
	ipc_put_str(o, MON_TAG_CGROUP, k->cgroups_path);
	ipc_put_u64(o, MON_TAG_TIMEOUT, cfg->container.create_timeout_us);
	ipc_put_u64(o, MON_TAG_SHARED_PIDNS, !k->own_pidns);
	ipc_put_u64(o, MON_TAG_IN_SANDBOX, pod_sandbox_wanted(c->runtime));
	ipc_put_u64(o, MON_TAG_WANT_FILTER,
		    k->has_seccomp && !filter_find(n, c->runtime, k->seccomp.s));
	for (size_t i = 0; i < c->config->n_mounts; i++)
		if (!spec_mount_is_image(c->config->mounts[i]))
			ipc_put_str(o, MON_TAG_MOUNT_SOURCE, c->config->mounts[i]->host_path);
	volumes_put_binds(&k->volumes, &k->binds, o);
	for (size_t i = 0; i < k->image_volumes.n; i++)
		ipc_put_str(o, MON_TAG_VOLUME, k->image_volumes.v[i]);
	ipc_put_u64(o, MON_TAG_VOLUMES_MOUNTED, k->volumes_mounted);
	if (k->restore.wanted)
		ipc_put_str(o, MON_TAG_RESTORE, WORKER_RESTORE_DIR);
}

void life_take_process(struct container *c, const struct ipc_in *in)
{
	c->pid = (pid_t)ipc_get_u64(in, MON_TAG_PID, (uint64_t)c->pid);
	if (!str_empty(ipc_get_str(in, MON_TAG_CGROUP))) {
		free(c->cgroup);
		c->cgroup = xstrdup(ipc_get_str(in, MON_TAG_CGROUP));
	}
}

static int make(struct creation *k, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct container *c = k->c;
	struct ipc_out o;
	int r = container_record(c, e);

	k->recorded = true;
	FAULT_POINT("daemon.create.row");
	if (r < 0)
		return r;
	create_request(k, &o);
	r = pod_monitor_call(k->pod, &o, &in, e);
	FAULT_POINT("daemon.create.made");
	if (r == 0 && k->restore.wanted)
		r = restore_fill(&k->restore, c, &k->record.layers, e);
	if (r == 0 && co_cancelled()) /* it came too late: nobody waits for this container */
		r = err_set(e, co_cancelled(), GRPC_CANCELLED, "cancelled");
	if (r == 0 && !life_container_linked(c))
		r = err_precondition(e, "pod sandbox %s was removed meanwhile", k->pod->id);
	if (r < 0)
		return r;
	filter_keep(k->pod->node, c->runtime, k->seccomp.s, &in);
	life_take_process(c, &in);
	c->created_at = pod_creation_time(c->node, k->pod->config->metadata);
	if (c->state == CONTAINER_CREATING) /* its exit may have been told already */
		c->state = CONTAINER_CREATED;
	r = container_record(c, e);
	FAULT_POINT("daemon.create.recorded");
	if (r == 0)
		container_event(c, EVENT_CREATED);
	if (r == 0 && c->state == CONTAINER_EXITED)
		container_event(c, EVENT_STOPPED);
	return r;
}

/* A container that the monitor has undone, or shall remove now. */
static void forget(struct container *c)
{
	struct err e = ERR_NULL;
	struct ipc_out o;
	int r;

	co_shield(true);
	life_remove_request(c, &o);
	r = pod_monitor_end(c->pod, &o, NULL, &e); /* of a new monitor where the old one died */
	co_shield(false);
	if (r == 0)
		r = state_remove_container(c->node->state, c->id, &e);
	if (r < 0) /* the row stays: removed with the pod, or at the next start */
		log_error("undo container %s: %s", c->id, e.msg);
	container_unlink(c);
}

static char *log_path_of(const struct pod *p, const Runtime__V1__ContainerConfig *c)
{
	if (str_empty(c->log_path) || str_empty(p->config->log_directory))
		return xstrdup("");
	return xasprintf("%s/%s", p->config->log_directory, c->log_path);
}

static int wait_for(struct container *ctr, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	int r = co_lock(&c->lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED,
			       "cancelled while container %s of the same name was being made or "
			       "removed",
			       c->id);
	co_unlock(&c->lock);
	return 0;
}

/* Of a holder that is being made or removed (or undone) the outcome is awaited. */
static int link_container(struct container *c, struct err *e)
{
	for (;;) {
		struct container *holder = map_get(&c->node->container_names, c->name_key);
		int r;

		if (c->pod->state != POD_READY)
			return err_precondition(e, "pod sandbox %s is not ready", c->pod->id);
		if (!holder || life_container_listed(holder) || !co_lock_busy(&holder->lock))
			return container_link(c, e);
		r = wait_for(holder, e);
		if (r < 0)
			return r;
	}
}

static bool wants_default_profile(const Runtime__V1__ContainerConfig *c)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(c);

	return !(sc && sc->privileged) && !spec_apparmor_of(sc, NULL);
}

/* --- its runtime --- */

/* As its user wrote it; of one that is asked for by its id, a name that the image has. */
static char *image_for_rules(const struct creation *k)
{
	const Runtime__V1__ImageSpec *spec = k->c->config->image;
	const struct image_record *r = &k->record;

	if (*spec->user_specified_image)
		return xstrdup(spec->user_specified_image);
	if (!str_has_prefix(spec->image, "sha256:") && !str_has_prefix(r->id, spec->image))
		return xstrdup(spec->image);
	return r->tags.n ? xstrdup(r->tags.v[0]) : r->digests.n ? xstrdup(r->digests.v[0]) : NULL;
}

static void set_runtime(struct container *c, struct node_runtime *rt)
{
	node_runtime_unref(c->runtime);
	c->runtime = rt ? node_runtime_ref(rt) : NULL;
	free(c->runtime_name);
	c->runtime_name = xstrdup(rt ? rt->config->name : "");
}

/* Of the seccomp profile, which many containers have, it is known. */
static int add_needs(struct creation *k, struct err *e)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(k->c->config);
	const struct node *n = k->pod->node;
	const struct needs_facts f = {.cgroup_v2 = n->host.cgroup_v2,
				      .cgroup_systemd = n->cgroup_systemd,
				      .privileged = sc && sc->privileged,
				      .seccomp_default = k->seccomp_default,
				      .apparmor_default = wants_default_profile(k->c->config)};
	_cleanup_jv_ jv *doc = NULL;
	struct needs needs = NEEDS_NULL;
	int r = jv_parse(k->outline.s, k->outline.len, SIZE_MAX, "config.json", &doc, e);

	if (r < 0)
		return r;
	needs_add_config(&needs, doc, &f);
	k->choice.needs |= needs.bits;
	if (k->has_seccomp)
		k->choice.needs |= filter_needs(k->pod->node, k->seccomp.s, &f);
	return 0;
}

/*
 * The runtime and what it is given.  What is needed is known from the configuration that is made for it,
 * which another runtime may get otherwise: needs only become more, so this comes to an end.
 */
static int choose_and_shape(struct creation *k, struct err *e)
{
	struct container *c = k->c;
	struct node_runtime *had = NULL;
	int r;

	set_runtime(c, NULL);
	for (;;) {
		r = choice_next(&k->choice, e);
		if (r < 0 || k->choice.rt == had)
			return r;
		had = k->choice.rt;
		set_runtime(c, had);
		r = shape(k, e);
		if (r == 0)
			r = add_needs(k, e);
		if (r < 0)
			return r;
		if (!runtime_caps_missing(&had->caps, k->choice.needs))
			return 0;
	}
}

/* One container of a pod at a time: the first binds the others. */
static int place(struct creation *k, struct err *e)
{
	struct pod *p = k->pod;
	int r = co_lock(&p->place_lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED,
			       "cancelled while the runtime of another container of pod sandbox %s "
			       "was being chosen",
			       p->id);
	r = choose_and_shape(k, e);
	if (r == 0) {
		k->chosen = true;
		free(k->c->choice);
		k->c->choice = choice_print(&k->choice);
		choice_begin(&k->choice);
		r = pod_sandbox_switch(p, k->choice.rt, e);
	}
	if (r < 0)
		set_runtime(k->c, NULL);
	co_unlock(&p->place_lock);
	return r;
}

static void tell_choice(struct creation *k)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	choice_describe(&k->choice, &b);
	log_info("container %s of pod sandbox %s: runtime %s", k->c->id, k->pod->id, b.s);
}

/* The candidates in their order: the next where one has failed for what is not the container's fault.  A
 * try that fails has been undone before it says so. */
static int place_and_make(struct creation *k, struct err *e)
{
	struct container *c = k->c;
	struct err failed = ERR_NULL;
	int r;

	choice_init(&k->choice, c->node, k->pod->config, k->pod->handler, c);
	k->choice.needs = k->restore.wanted ? RCAP_BIT(RCAP_CHECKPOINT) : 0;
	k->choice.image = k->rule_image = c->node->config->n_rules ? image_for_rules(k) : NULL;
	for (;;) {
		struct err now = ERR_NULL;

		k->chosen = false;
		r = place(k, &now);
		if (r < 0 && !k->chosen) { /* no other is left: the first reason is told */
			*e = failed.errnum ? failed : now;
			return e->errnum;
		}
		if (r == 0)
			r = make(k, &now);
		if (r == 0)
			break;
		if (!failed.errnum)
			failed = now;
		if (co_cancelled() || !life_container_linked(c) ||
		    !choice_failed(&k->choice, &now)) {
			choice_abandon(&k->choice);
			*e = now;
			return r;
		}
		log_warn("container %s of pod sandbox %s: runtime %s failed, another is tried: %s",
			 c->id, k->pod->id, k->choice.rt->config->name, now.msg);
		FAULT_POINT("daemon.fallback.failed");
	}
	choice_works(&k->choice);
	tell_choice(k);
	return 0;
}

/* One that no row knows of, or that has been begun to be made. */
static void drop(struct creation *k)
{
	if (k->recorded)
		forget(k->c);
	else
		container_unlink(k->c);
	pod_sandbox_settle(k->pod);
}

int life_create_container(struct pod *pod, const Runtime__V1__ContainerConfig *config,
			  char ret_id[ID_SIZE], struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	size_t len = runtime__v1__container_config__get_packed_size(config);
	_cleanup_free_ uint8_t *bytes = xmalloc(len);
	_cleanup_container_ struct container *c = NULL;
	struct creation k = {.pod = p};
	char id[ID_SIZE];
	int r;

	/* What the first probes find (AppArmor's profile) is part of every container. */
	r = node_runtimes_known(p->node) ? 0 : co_event_wait(&p->node->probed, USEC_FOREVER);
	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED, "cancelled while the node was being probed");
	r = wants_default_profile(config) ? node_apparmor_need_default(p->node, e) : 0;
	if (r < 0)
		return r;
	if (p->state != POD_READY)
		return err_precondition(e, "pod sandbox %s is not ready", p->id);
	runtime__v1__container_config__pack(config, bytes);
	id_new(id);
	r = container_new(p, id, bytes, len, &c, e);
	if (r < 0)
		return r;
	free(c->log_path);
	c->log_path = log_path_of(p, config);
	c->created_at = pod_creation_time(p->node, p->config->metadata);
	r = link_container(c, e);
	if (r < 0)
		return r;
	k.c = c;
	co_lock(&c->lock); /* free: nobody knew of it */
	r = prepare(&k, e);
	if (r == 0)
		r = place_and_make(&k, e);
	if (r < 0 && life_container_linked(c))
		drop(&k);
	co_unlock(&c->lock);
	creation_fini(&k);
	if (r == 0)
		memcpy(ret_id, c->id, ID_SIZE);
	return r;
}

void life_container_derive(struct container *c)
{
	free(c->log_path);
	c->log_path = log_path_of(c->pod, c->config);
}

int life_print_process(struct container *c, char *const *cmd, size_t n,
		       const struct spec_terminal *tty, struct strbuf *to, struct err *e)
{
	struct creation k = {.c = c, .pod = c->pod, .pidns = ""};
	struct spec_container s;
	struct image *im;
	int r = image_find_any(c->node->images, c->image_id, &im, e);

	if (r == 0)
		r = copy_image(&k, im, e);
	if (r == 0)
		r = spec_user_resolve(&k.record.config, security(c->config), &k.user, e);
	if (r == 0 && c->edits)
		r = jv_parse(c->edits, strlen(c->edits), SIZE_MAX, "edits", &k.edits, e);
	if (r == 0)
		r = spec_edits_groups(k.edits, &k.user, e);
	if (r == 0) {
		fill_spec(&k, &s, NULL, NULL, NULL);
		spec_exec_print(&s, cmd, n, tty, to);
	}
	creation_fini(&k);
	return r;
}
