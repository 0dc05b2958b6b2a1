/* SPDX-License-Identifier: Apache-2.0 */
/* config.json and process.json: see spec.h. */
#include "base/mem.h"
#include "spec/resources.h"

#define OCI_VERSION "1.0.2"

/* --- process --- */

/* Kubernetes: command replaces the entry point and the image's arguments, args only those. */
static int print_args(const struct spec_container *s, struct jw *w, struct err *e)
{
	const Runtime__V1__ContainerConfig *c = s->config;
	const struct strv *cmd = &s->image->cmd, *entry = &s->image->entrypoint;

	if (!c->n_command && !c->n_args && !entry->n && !cmd->n)
		return err_invalid(e,
				   "config.command: neither the request nor the image \"%s\" names "
				   "a command",
				   s->image_name);
	jw_key_array(w, "args");
	spec_env_print_help(s, w);
	if (c->n_command)
		spec_strings(w, c->command, c->n_command);
	else
		spec_strings(w, entry->v, entry->n);
	if (c->n_args)
		spec_strings(w, c->args, c->n_args);
	else if (!c->n_command)
		spec_strings(w, cmd->v, cmd->n);
	jw_array_end(w);
	return 0;
}

static void print_user(const struct spec_user *u, struct jw *w)
{
	jw_key_object(w, "user");
	jw_key_uint(w, "uid", u->uid);
	jw_key_uint(w, "gid", u->gid);
	if (u->n_groups) {
		jw_key_array(w, "additionalGids");
		for (size_t i = 0; i < u->n_groups; i++)
			jw_uint(w, u->groups[i]);
		jw_array_end(w);
	}
	jw_object_end(w);
}

static void print_cap_set(struct jw *w, const char *name, uint64_t caps)
{
	jw_key_array(w, name);
	for (unsigned i = 0; i < SPEC_CAPS; i++)
		if (caps & (UINT64_C(1) << i))
			jw_string(w, spec_cap_name(i));
	jw_array_end(w);
}

static void print_caps(const struct spec_container *s, struct jw *w)
{
	uint64_t caps = spec_caps_of(spec_security(s), s->host->caps), ambient = 0;
	const Runtime__V1__Capability *c = spec_security(s) ? spec_security(s)->capabilities : NULL;

	for (size_t i = 0; c && i < c->n_add_ambient_capabilities; i++) {
		int n = spec_cap_number(c->add_ambient_capabilities[i]);

		if (n >= 0)
			ambient |= UINT64_C(1) << n;
	}
	ambient &= caps;
	jw_key_object(w, "capabilities");
	print_cap_set(w, "bounding", caps);
	print_cap_set(w, "effective", caps);
	print_cap_set(w, "permitted", caps);
	if (ambient) { /* ambient ones must be inheritable (capabilities(7)) */
		print_cap_set(w, "inheritable", ambient);
		print_cap_set(w, "ambient", ambient);
	}
	jw_object_end(w);
}

const char *spec_apparmor_of(const Runtime__V1__LinuxContainerSecurityContext *sc,
			     const char *standard)
{
	const char *name = NULL;

	if (sc && sc->apparmor) {
		if (sc->apparmor->profile_type ==
		    RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined)
			return "unconfined";
		if (sc->apparmor->profile_type ==
		    RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost)
			name = sc->apparmor->localhost_ref;
	} else if (sc && (str_has_prefix(sc->apparmor_profile, "localhost/") ||
			  streq(sc->apparmor_profile, "unconfined"))) {
		name = sc->apparmor_profile;
	}
	if (!name)
		return standard;
	return str_has_prefix(name, "localhost/") ? name + strlen("localhost/") : name;
}

static void print_labels(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = spec_security(s);
	const Runtime__V1__SELinuxOption *se = sc ? sc->selinux_options : NULL;

	if (s->host->apparmor && !spec_privileged(s)) {
		const char *profile = spec_apparmor_of(sc, s->apparmor_default);

		if (!str_empty(profile))
			jw_key_string(w, "apparmorProfile", profile);
	}
	if (s->host->selinux && se) {
		_cleanup_free_ char *label =
			xasprintf("%s:%s:%s:%s", se->user, se->role, se->type, se->level);

		jw_key_string(w, "selinuxLabel", label);
	}
}

static void print_rlimit(struct jw *w, const char *type, uint64_t soft, uint64_t hard)
{
	jw_object_begin(w);
	jw_key_string(w, "type", type);
	jw_key_uint(w, "soft", soft);
	jw_key_uint(w, "hard", hard);
	jw_object_end(w);
}

static void print_limits(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerResources *r =
		s->config->linux ? s->config->linux->resources : NULL;
	const struct spec_host *h = s->host;
	bool files = false;

	jw_key_array(w, "rlimits");
	for (size_t i = 0; i < h->n_rlimits; i++) {
		print_rlimit(w, h->rlimits[i].type, h->rlimits[i].soft, h->rlimits[i].hard);
		files |= streq(h->rlimits[i].type, "RLIMIT_NOFILE");
	}
	if (!files) /* what the daemon itself was started with */
		print_rlimit(w, "RLIMIT_NOFILE", h->nofile_soft, h->nofile_hard);
	jw_array_end(w);
	if (r)
		jw_key_int(w, "oomScoreAdj",
			   MAX(r->oom_score_adj, (int64_t)s->host->oom_score_adj_min));
}

/* All of `process` but its arguments, into an object that is open. */
/* What of it a runtime has to know how to do. */
static void print_process_outline(const struct spec_container *s, bool tty, struct jw *w)
{
	jw_key_bool(w, "terminal", tty);
	print_caps(s, w);
	jw_key_bool(w, "noNewPrivileges", spec_security(s) && spec_security(s)->no_new_privs);
	print_labels(s, w);
	print_limits(s, w);
}

static void print_process(const struct spec_container *s, bool tty, struct jw *w)
{
	const char *cwd = s->config->working_dir;

	if (str_empty(cwd))
		cwd = str_empty(s->image->working_dir) ? "/" : s->image->working_dir;
	spec_env_print(s, tty, w);
	jw_key_string(w, "cwd", cwd);
	print_user(s->user, w);
	print_process_outline(s, tty, w);
}

/* The runtime sets it before the command begins. */
static void print_terminal_size(const struct spec_terminal *t, struct jw *w)
{
	if (!t || !t->width || !t->height)
		return;
	jw_key_object(w, "consoleSize");
	jw_key_uint(w, "height", t->height);
	jw_key_uint(w, "width", t->width);
	jw_object_end(w);
}

void spec_exec_print(const struct spec_container *s, char *const *argv, size_t n,
		     const struct spec_terminal *tty, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_array(&w, "args");
	spec_env_print_help(s, &w);
	spec_strings(&w, argv, n);
	jw_array_end(&w);
	print_process(s, tty != NULL, &w);
	print_terminal_size(tty, &w);
	jw_object_end(&w);
}

/* --- linux --- */

static void print_namespace(struct jw *w, const char *type, const char *path)
{
	jw_object_begin(w);
	jw_key_string(w, "type", type);
	if (!str_empty(path))
		jw_key_string(w, "path", path);
	jw_object_end(w);
}

static void print_namespaces(const struct spec_container *s, struct jw *w)
{
	jw_key_array(w, "namespaces");
	if (spec_mapped(s))
		print_namespace(w, "user", s->userns);
	print_namespace(w, "mount", NULL);
	if (s->own_pidns || !str_empty(s->pidns))
		print_namespace(w, "pid", s->own_pidns ? NULL : s->pidns);
	if (!str_empty(s->netns))
		print_namespace(w, "network", s->netns);
	if (!str_empty(s->ipcns))
		print_namespace(w, "ipc", s->ipcns);
	if (!str_empty(s->utsns))
		print_namespace(w, "uts", s->utsns);
	if (s->host->cgroup_v2 && !spec_privileged(s))
		print_namespace(w, "cgroup", NULL);
	jw_array_end(w);
}

const Runtime__V1__UserNamespace *spec_userns_of(const Runtime__V1__PodSandboxConfig *pod)
{
	const Runtime__V1__LinuxSandboxSecurityContext *sc =
		pod->linux ? pod->linux->security_context : NULL;
	const Runtime__V1__UserNamespace *u =
		sc && sc->namespace_options ? sc->namespace_options->userns_options : NULL;

	return u && u->mode == RUNTIME__V1__NAMESPACE_MODE__POD ? u : NULL;
}

static void print_mapping(struct jw *w, const char *key, Runtime__V1__IDMapping *const *v, size_t n)
{
	jw_key_array(w, key);
	for (size_t i = 0; i < n; i++) {
		jw_object_begin(w);
		jw_key_uint(w, "containerID", v[i]->container_id);
		jw_key_uint(w, "hostID", v[i]->host_id);
		jw_key_uint(w, "size", v[i]->length);
		jw_object_end(w);
	}
	jw_array_end(w);
}

/* Beside the namespace's path: runc before 1.2 finds its own root's ids outside only here. */
static void print_mappings(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__UserNamespace *u = spec_mapped(s) ? spec_userns_of(s->pod) : NULL;

	if (!u)
		return;
	print_mapping(w, "uidMappings", u->uids, u->n_uids);
	print_mapping(w, "gidMappings", u->gids, u->n_gids);
}

static void print_device_rule(struct jw *w, bool allow, const struct spec_device *d)
{
	char type[2] = {d ? d->type : 'a', '\0'};

	jw_object_begin(w);
	jw_key_bool(w, "allow", allow);
	if (d) {
		jw_key_string(w, "type", type);
		jw_key_int(w, "major", d->major);
		jw_key_int(w, "minor", d->minor);
	}
	jw_key_string(w, "access", d ? d->permissions : "rwm");
	jw_object_end(w);
}

static bool all_devices(const struct spec_container *s)
{
	return spec_privileged(s) && !s->privileged_without_host_devices;
}

static void print_devices(const struct spec_container *s, struct jw *w)
{
	if (!s->n_devices)
		return;
	jw_key_array(w, "devices");
	for (size_t i = 0; i < s->n_devices; i++) {
		const struct spec_device *d = &s->devices[i];
		char type[2] = {d->type, '\0'};

		jw_object_begin(w);
		jw_key_string(w, "path", d->path);
		jw_key_string(w, "type", type);
		if (d->type != 'p') {
			jw_key_int(w, "major", d->major);
			jw_key_int(w, "minor", d->minor);
		}
		jw_key_uint(w, "fileMode", d->mode & 07777);
		jw_key_uint(w, "uid", d->uid);
		jw_key_uint(w, "gid", d->gid);
		jw_object_end(w);
	}
	jw_array_end(w);
}

static void print_resources(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerResources *r =
		s->config->linux ? s->config->linux->resources : NULL;

	jw_key_object(w, "resources");
	jw_key_array(w, "devices");
	print_device_rule(w, all_devices(s), NULL);
	for (size_t i = 0; i < s->n_devices && !all_devices(s); i++)
		if (*s->devices[i].permissions && s->devices[i].type != 'p')
			print_device_rule(w, true, &s->devices[i]);
	jw_array_end(w);
	if (r)
		spec_resources_members(w, r, NULL, s->host);
	if (s->pids_limit > 0) {
		jw_key_object(w, "pids");
		jw_key_int(w, "limit", s->pids_limit);
		jw_object_end(w);
	}
	jw_object_end(w);
}

static void print_paths(struct jw *w, const char *key, char *const *v, size_t n)
{
	if (!n)
		return;
	jw_key_array(w, key);
	spec_strings(w, v, n);
	jw_array_end(w);
}

static void print_linux_outline(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = spec_security(s);
	const char *p = spec_root_propagation(s);

	print_namespaces(s, w);
	print_mappings(s, w);
	print_devices(s, w);
	jw_key_string(w, "cgroupsPath", s->cgroups_path);
	print_resources(s, w);
	spec_edits_print_linux(s, w);
	if (p)
		jw_key_string(w, "rootfsPropagation", p);
	if (s->host->selinux && sc && sc->selinux_options) {
		_cleanup_free_ char *label = xasprintf(
			"%s:%s:%s:%s", sc->selinux_options->user, sc->selinux_options->role,
			"container_file_t", sc->selinux_options->level);

		jw_key_string(w, "mountLabel", label);
	}
}

static void print_linux(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = spec_security(s);

	jw_key_object(w, "linux");
	print_linux_outline(s, w);
	if (s->seccomp && !spec_privileged(s)) {
		jw_key(w, "seccomp");
		jw_raw(w, s->seccomp);
	}
	if (sc && !sc->privileged) {
		print_paths(w, "maskedPaths", sc->masked_paths, sc->n_masked_paths);
		print_paths(w, "readonlyPaths", sc->readonly_paths, sc->n_readonly_paths);
	}
	jw_object_end(w);
}

int spec_container_print(const struct spec_container *s, struct strbuf *to, struct err *e)
{
	struct jw w = JW_INIT(to);
	int r;

	jw_object_begin(&w);
	jw_key_string(&w, "ociVersion", OCI_VERSION);
	jw_key_object(&w, "process");
	r = print_args(s, &w, e);
	if (r < 0)
		return r;
	print_process(s, s->config->tty, &w);
	jw_object_end(&w);
	jw_key_object(&w, "root");
	jw_key_string(&w, "path", "rootfs");
	jw_key_bool(&w, "readonly", spec_security(s) && spec_security(s)->readonly_rootfs);
	jw_object_end(&w);
	spec_mounts_print(s, &w);
	spec_edits_print(s, &w);
	spec_annotations_print(s, &w);
	print_linux(s, &w);
	jw_object_end(&w);
	return 0;
}

void spec_container_outline(const struct spec_container *s, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_object(&w, "process");
	print_process_outline(s, s->config->tty, &w);
	jw_object_end(&w);
	spec_mounts_print(s, &w);
	spec_edits_print(s, &w);
	jw_key_object(&w, "linux");
	print_linux_outline(s, &w);
	jw_object_end(&w);
	jw_object_end(&w);
}
