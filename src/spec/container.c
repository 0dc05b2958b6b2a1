/* SPDX-License-Identifier: Apache-2.0 */
/* config.json and process.json: see spec.h. */
#include <inttypes.h>
#include <sys/mount.h>

#include "base/mem.h"
#include "spec/resources.h"

#define OCI_VERSION "1.0.2"

static const Runtime__V1__LinuxContainerSecurityContext *security(const struct spec_container *s)
{
	return s->config->linux ? s->config->linux->security_context : NULL;
}

static bool privileged(const struct spec_container *s)
{
	return security(s) && security(s)->privileged;
}

/* --- process --- */

static void strings(struct jw *w, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		jw_string(w, v[i]);
}

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
		strings(w, c->command, c->n_command);
	else
		strings(w, entry->v, entry->n);
	if (c->n_args)
		strings(w, c->args, c->n_args);
	else if (!c->n_command)
		strings(w, cmd->v, cmd->n);
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
	uint64_t caps = spec_caps_of(security(s), s->host->caps), ambient = 0;
	const Runtime__V1__Capability *c = security(s) ? security(s)->capabilities : NULL;

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
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(s);
	const Runtime__V1__SELinuxOption *se = sc ? sc->selinux_options : NULL;

	if (s->host->apparmor && !privileged(s)) {
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

static void print_limits(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerResources *r =
		s->config->linux ? s->config->linux->resources : NULL;

	jw_key_array(w, "rlimits");
	jw_object_begin(w);
	jw_key_string(w, "type", "RLIMIT_NOFILE");
	jw_key_uint(w, "soft", s->host->nofile_soft);
	jw_key_uint(w, "hard", s->host->nofile_hard);
	jw_object_end(w);
	jw_array_end(w);
	if (r)
		jw_key_int(w, "oomScoreAdj",
			   MAX(r->oom_score_adj, (int64_t)s->host->oom_score_adj_min));
}

/* All of `process` but its arguments, into an object that is open. */
static void print_process(const struct spec_container *s, bool tty, struct jw *w)
{
	const char *cwd = s->config->working_dir;

	if (str_empty(cwd))
		cwd = str_empty(s->image->working_dir) ? "/" : s->image->working_dir;
	jw_key_bool(w, "terminal", tty);
	spec_env_print(s, tty, w);
	jw_key_string(w, "cwd", cwd);
	print_user(s->user, w);
	print_caps(s, w);
	jw_key_bool(w, "noNewPrivileges", security(s) && security(s)->no_new_privs);
	print_labels(s, w);
	print_limits(s, w);
}

void spec_exec_print(const struct spec_container *s, char *const *argv, size_t n, bool tty,
		     struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_array(&w, "args");
	spec_env_print_help(s, &w);
	strings(&w, argv, n);
	jw_array_end(&w);
	print_process(s, tty, &w);
	jw_object_end(&w);
}

/* --- mounts --- */

static bool mapped(const struct spec_container *s)
{
	return !str_empty(s->userns);
}

static void mount_begin(struct jw *w, const char *destination, const char *type, const char *source)
{
	jw_object_begin(w);
	jw_key_string(w, "destination", destination);
	jw_key_string(w, "type", type);
	jw_key_string(w, "source", source);
	jw_key_array(w, "options");
}

static void mount_end(struct jw *w)
{
	jw_array_end(w);
	jw_object_end(w);
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void mount_fixed(struct jw *w, const char *destination, const char *type, const char *source,
			const char *const *options)
{
	mount_begin(w, destination, type, source);
	for (; *options; options++)
		jw_string(w, *options);
	mount_end(w);
}

/* Notes a mount that the caller makes.  Returns where it will be, owned. */
static char *add_bind(const struct spec_container *s, const char *source, const struct spec_bind *b)
{
	struct spec_binds *to = s->binds;

	if (to->n == to->cap) {
		to->cap = to->cap ? to->cap * 2 : 8;
		to->v = xrealloc(to->v, to->cap * sizeof(*to->v));
	}
	to->v[to->n] = *b;
	to->v[to->n].source = xstrdup(source);
	return xasprintf("%s/%zu", s->binds_dir, to->n++);
}

/* A mount of the host's in a container that has a user namespace: options are the caller's. */
static void mount_bind(const struct spec_container *s, struct jw *w, const char *destination,
		       const char *propagation, const char *source, const struct spec_bind *b)
{
	_cleanup_free_ char *at = add_bind(s, source, b);

	mount_fixed(w, destination, "bind", at, OPTIONS("rbind", propagation));
}

void spec_binds_fini(struct spec_binds *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].source);
	free(b->v);
	*b = (struct spec_binds){0};
}

/* The same place, whatever slashes it is written with. */
static bool same_path(const char *a, const char *b)
{
	for (;;) {
		while (*a == '/')
			a++;
		while (*b == '/')
			b++;
		if (!*a || !*b)
			return !*a && !*b;
		while (*a && *a != '/')
			if (*a++ != *b++)
				return false;
		if (*b && *b != '/')
			return false;
	}
}

/* What a request mounts takes the place of what would be there by default. */
static bool taken(const struct spec_container *s, const char *path)
{
	for (size_t i = 0; i < s->config->n_mounts; i++)
		if (same_path(s->config->mounts[i]->container_path, path))
			return true;
	return false;
}

/* In the container's own /dev; where that is a volume, nothing is left in it. */
const char *spec_env_path(const struct spec_container *s)
{
	return taken(s, "/dev") ? "/.gantry-env" : "/dev/.gantry-env";
}

/* The group of terminals, which a mapping must have for devpts to take it. */
#define TTY_GROUP 5

static bool has_tty_group(const struct spec_container *s)
{
	const Runtime__V1__UserNamespace *u = mapped(s) ? spec_userns_of(s->pod) : NULL;

	return !u || u->gids[0]->length > TTY_GROUP;
}

/* sysfs shows a network namespace, whose owner alone may mount it. */
static void mount_sys(const struct spec_container *s, struct jw *w, const char *mode)
{
	const struct spec_bind host = {.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					      MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
				       .deep = true};

	if (mapped(s) && str_empty(s->netns))
		mount_bind(s, w, "/sys", "rprivate", "/sys", &host);
	else
		mount_fixed(w, "/sys", "sysfs", "sysfs",
			    OPTIONS("nosuid", "noexec", "nodev", mode));
}

static void default_mounts(const struct spec_container *s, struct jw *w)
{
	const char *mode = privileged(s) ? "rw" : "ro";

	if (!taken(s, "/proc"))
		mount_fixed(w, "/proc", "proc", "proc", OPTIONS("nosuid", "noexec", "nodev"));
	if (!taken(s, "/dev"))
		mount_fixed(w, "/dev", "tmpfs", "tmpfs",
			    OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k"));
	if (!taken(s, "/dev/pts") && !taken(s, "/dev"))
		mount_fixed(w, "/dev/pts", "devpts", "devpts",
			    OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
				    has_tty_group(s) ? "gid=5" : NULL));
	if (!taken(s, "/dev/mqueue") && !taken(s, "/dev"))
		mount_fixed(w, "/dev/mqueue", "mqueue", "mqueue",
			    OPTIONS("nosuid", "noexec", "nodev"));
	if (!taken(s, "/sys"))
		mount_sys(s, w, mode);
	if (!taken(s, "/sys/fs/cgroup") && !taken(s, "/sys"))
		mount_fixed(w, "/sys/fs/cgroup", "cgroup", "cgroup",
			    OPTIONS("nosuid", "noexec", "nodev", "relatime", mode));
	if (!taken(s, "/dev/shm") && !taken(s, "/dev") && !str_empty(s->shm) && mapped(s))
		mount_bind(s, w, "/dev/shm", "rprivate", s->shm,
			   &(struct spec_bind){.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						      MOUNT_ATTR_NOEXEC});
	else if (!taken(s, "/dev/shm") && !taken(s, "/dev") && !str_empty(s->shm))
		mount_fixed(w, "/dev/shm", "bind", s->shm,
			    OPTIONS("rbind", "rprivate", "nosuid", "nodev", "noexec"));
}

static void pod_file(const struct spec_container *s, struct jw *w, const char *destination,
		     const char *source)
{
	bool ro = security(s) && security(s)->readonly_rootfs;
	const struct spec_bind b = {.set = ro ? MOUNT_ATTR_RDONLY : 0};

	if (taken(s, destination) || str_empty(source))
		return;
	if (mapped(s))
		mount_bind(s, w, destination, "rprivate", source, &b);
	else
		mount_fixed(w, destination, "bind", source,
			    OPTIONS("rbind", "rprivate", ro ? "ro" : "rw"));
}

static void pod_files(const struct spec_container *s, struct jw *w)
{
	pod_file(s, w, "/etc/resolv.conf", s->resolv_conf);
	pod_file(s, w, "/etc/hostname", s->hostname_file);
}

static const char *propagation(const Runtime__V1__Mount *m)
{
	switch (m->propagation) {
	case RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER:
		return "rslave";
	case RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL:
		return "rshared";
	default:
		return "rprivate";
	}
}

/* Options that a request may give a mount (cri/validate_container.c), as attributes. */
static const struct mount_option {
	const char *name;
	uint64_t set, clear;
} mount_options[] = {
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
	{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
	{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
};

static void add_attributes(struct spec_bind *b, const Runtime__V1__Mount *m)
{
	for (size_t i = 0; i < m->n_mount_options; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(mount_options); k++) {
			const struct mount_option *o = &mount_options[k];

			if (!streq(m->mount_options[i], o->name))
				continue;
			b->set = (b->set & ~o->clear) | o->set; /* the last one wins */
			b->clear = (b->clear & ~o->set) | o->clear;
		}
	}
}

static void print_attributes(uint64_t set, struct jw *w)
{
	for (size_t k = 0; k < ARRAY_SIZE(mount_options); k++)
		if (set & mount_options[k].set)
			jw_string(w, mount_options[k].name);
}

bool spec_mount_is_image(const Runtime__V1__Mount *m)
{
	return m->image && !str_empty(m->image->image);
}

/* An image is read-only in any case; its devices and privileges are not the container's, unless it
 * asks for them.  Its programs may be run (KEP-4639). */
static void print_image_mount(const struct spec_container *s, const Runtime__V1__Mount *m,
			      struct jw *w)
{
	struct spec_bind b = {.image = m,
			      .set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
			      .mapped = m->n_uidmappings > 0};
	_cleanup_free_ char *at = NULL;

	add_attributes(&b, m);
	at = add_bind(s, "", &b);
	mount_begin(w, m->container_path, "bind", at);
	jw_string(w, "rbind");
	jw_string(w, "rprivate");
	if (!mapped(s)) { /* crun 1.8 sets to what stands here whatever is not locked */
		jw_string(w, "ro");
		print_attributes(b.set, w);
	}
	mount_end(w);
}

static void print_mapped_mount(const struct spec_container *s, const Runtime__V1__Mount *m,
			       struct jw *w)
{
	struct spec_bind b = {.set = m->readonly ? MOUNT_ATTR_RDONLY : 0,
			      .deep = m->recursive_read_only,
			      .mapped = m->n_uidmappings > 0};

	add_attributes(&b, m);
	mount_bind(s, w, m->container_path, propagation(m), m->host_path, &b);
}

static void print_mount(const struct spec_container *s, const Runtime__V1__Mount *m, struct jw *w)
{
	if (spec_mount_is_image(m)) {
		print_image_mount(s, m, w);
		return;
	}
	if (mapped(s)) {
		print_mapped_mount(s, m, w);
		return;
	}
	mount_begin(w, m->container_path, "bind", m->host_path);
	jw_string(w, "rbind");
	jw_string(w, propagation(m));
	jw_string(w, m->recursive_read_only ? "rro" : m->readonly ? "ro" : "rw");
	strings(w, m->mount_options, m->n_mount_options);
	mount_end(w);
}

static unsigned depth(const char *path)
{
	unsigned n = 0;

	for (; *path; path++)
		n += *path == '/' && path[1] && path[1] != '/';
	return n;
}

/* Outer ones before what is mounted inside them; otherwise as they came. */
static void print_mounts(const struct spec_container *s, struct jw *w)
{
	unsigned deepest = 0;

	jw_key_array(w, "mounts");
	default_mounts(s, w);
	pod_files(s, w);
	for (size_t i = 0; i < s->config->n_mounts; i++)
		deepest = MAX(deepest, depth(s->config->mounts[i]->container_path));
	for (unsigned d = 0; d <= deepest; d++)
		for (size_t i = 0; i < s->config->n_mounts; i++)
			if (depth(s->config->mounts[i]->container_path) == d)
				print_mount(s, s->config->mounts[i], w);
	if (spec_env_needs_help(s) && mapped(s))
		mount_bind(s, w, spec_env_path(s), "rprivate", s->env_program,
			   &(struct spec_bind){.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
						      MOUNT_ATTR_NODEV});
	else if (spec_env_needs_help(s))
		mount_fixed(w, spec_env_path(s), "bind", s->env_program,
			    OPTIONS("bind", "rprivate", "ro", "nosuid", "nodev"));
	jw_array_end(w);
}

/* What a mount propagates must get through the container's root. */
static const char *root_propagation(const struct spec_container *s)
{
	const char *p = NULL;

	for (size_t i = 0; i < s->config->n_mounts; i++) {
		const char *q = propagation(s->config->mounts[i]);

		if (streq(q, "rshared"))
			return "shared";
		if (streq(q, "rslave"))
			p = "slave";
	}
	return p;
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
	if (mapped(s))
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
	if (s->host->cgroup_v2 && !privileged(s))
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
	const Runtime__V1__UserNamespace *u = mapped(s) ? spec_userns_of(s->pod) : NULL;

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
	return privileged(s) && !s->privileged_without_host_devices;
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
		jw_key_int(w, "major", d->major);
		jw_key_int(w, "minor", d->minor);
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
	strings(w, v, n);
	jw_array_end(w);
}

static void print_linux(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__LinuxContainerSecurityContext *sc = security(s);
	const char *p = root_propagation(s);

	jw_key_object(w, "linux");
	print_namespaces(s, w);
	print_mappings(s, w);
	print_devices(s, w);
	jw_key_string(w, "cgroupsPath", s->cgroups_path);
	print_resources(s, w);
	if (p)
		jw_key_string(w, "rootfsPropagation", p);
	if (s->seccomp && !privileged(s)) {
		jw_key(w, "seccomp");
		jw_raw(w, s->seccomp);
	}
	if (sc && !sc->privileged) {
		print_paths(w, "maskedPaths", sc->masked_paths, sc->n_masked_paths);
		print_paths(w, "readonlyPaths", sc->readonly_paths, sc->n_readonly_paths);
	}
	if (s->host->selinux && sc && sc->selinux_options) {
		_cleanup_free_ char *label = xasprintf(
			"%s:%s:%s:%s", sc->selinux_options->user, sc->selinux_options->role,
			"container_file_t", sc->selinux_options->level);

		jw_key_string(w, "mountLabel", label);
	}
	jw_object_end(w);
}

/* Annotations under these names steer runtimes and systemd's units: not for users to set. */
static bool annotation_passes(const char *key)
{
	static const char *const taken[] = {"run.oci.",
					    "krun.",
					    "org.systemd.property.",
					    "org.criu.",
					    "module.wasm.image/",
					    "io.kubernetes.cri."};

	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		if (str_has_prefix(key, taken[i]))
			return false;
	return true;
}

static void print_property(void *arg, const char *name, uint64_t value)
{
	_cleanup_free_ char *key = xasprintf("org.systemd.property.%s", name);
	_cleanup_free_ char *text = xasprintf("uint64 %" PRIu64, value);

	jw_key_string(arg, key, text);
}

static void print_annotations(const struct spec_container *s, struct jw *w)
{
	const Runtime__V1__PodSandboxMetadata *m = s->pod->metadata;

	jw_key_object(w, "annotations");
	for (size_t i = 0; i < s->config->n_annotations; i++)
		if (annotation_passes(s->config->annotations[i]->key))
			jw_key_string(w, s->config->annotations[i]->key,
				      s->config->annotations[i]->value);
	/* Else crun makes one more cgroup below systemd's scope, of whose limits systemd and
	 * whoever reads figures know nothing. */
	if (s->host->cgroup_v2)
		jw_key_string(w, "run.oci.systemd.subgroup", "");
	spec_unit_properties(s->config->linux ? s->config->linux->resources : NULL, s->host,
			     s->pids_limit, print_property, w);
	if (s->seccomp && s->seccomp_filter && !privileged(s))
		jw_key_string(w, "run.oci.seccomp_bpf_data", s->seccomp_filter);
	jw_key_string(w, "io.kubernetes.cri.container-type", "container");
	jw_key_string(w, "io.kubernetes.cri.container-name", s->config->metadata->name);
	jw_key_string(w, "io.kubernetes.cri.image-name", s->image_name);
	jw_key_string(w, "io.kubernetes.cri.sandbox-id", s->pod_id);
	jw_key_string(w, "io.kubernetes.cri.sandbox-name", m->name);
	jw_key_string(w, "io.kubernetes.cri.sandbox-namespace", m->namespace_);
	jw_key_string(w, "io.kubernetes.cri.sandbox-uid", m->uid);
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
	jw_key_bool(&w, "readonly", security(s) && security(s)->readonly_rootfs);
	jw_object_end(&w);
	print_mounts(s, &w);
	print_annotations(s, &w);
	print_linux(s, &w);
	jw_object_end(&w);
	return 0;
}
