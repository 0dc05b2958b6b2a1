/* SPDX-License-Identifier: Apache-2.0 */
/* ContainerConfig, field by field: see validate.h. */
#include <strings.h>

#include "cri/validate_internal.h"
#include "spec/cdi.h"
#include "spec/spec.h"
#include "sys/apparmor.h"

/* What the kernel takes as one argument or variable (execve(2), MAX_ARG_STRLEN). */
static int check_words(const char *field, char *const *v, size_t n, struct err *e)
{
	int r = check_count(field, n, VALIDATE_ARGS_MAX, e);

	for (size_t i = 0; r == 0 && i < n; i++)
		if (strlen(v[i]) > VALIDATE_ARG_MAX)
			r = err_invalid(e, "%s: number %zu has %zu bytes, at most %d are possible",
					field, i, strlen(v[i]), VALIDATE_ARG_MAX);
	return r;
}

static int check_env(const Runtime__V1__KeyValue *kv, struct err *e)
{
	if (!*kv->key || strchr(kv->key, '='))
		return err_invalid(e,
				   "config.envs.key: \"%s\" must be neither empty nor contain '='",
				   kv->key);
	if (kv->value.len && memchr(kv->value.data, '\0', kv->value.len))
		return err_invalid(e, "config.envs.value: of \"%s\" holds a NUL", kv->key);
	if (kv->value.len > VALIDATE_BINARY_MAX &&
	    !str_is_utf8((const char *)kv->value.data, kv->value.len))
		return err_invalid(e,
				   "config.envs.value: of \"%s\" is no UTF-8 and has %zu bytes, at "
				   "most %d are possible then",
				   kv->key, kv->value.len, VALIDATE_BINARY_MAX);
	if (strlen(kv->key) + 1 + kv->value.len > VALIDATE_ARG_MAX)
		return err_invalid(e,
				   "config.envs.value: \"%s\" and its value have %zu bytes, at "
				   "most %d are possible",
				   kv->key, strlen(kv->key) + 1 + kv->value.len, VALIDATE_ARG_MAX);
	return 0;
}

static size_t words_bytes(char *const *v, size_t n)
{
	size_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += strlen(v[i]) + 1;
	return all;
}

/* What the kernel takes in all with the usual stack limit. */
static int check_process_bytes(const Runtime__V1__ContainerConfig *c, struct err *e)
{
	size_t all = words_bytes(c->command, c->n_command) + words_bytes(c->args, c->n_args);

	for (size_t i = 0; i < c->n_envs; i++)
		all += strlen(c->envs[i]->key) + c->envs[i]->value.len + 2;
	if (all > VALIDATE_EXEC_BYTES_MAX)
		return err_invalid(e,
				   "config: command, args and envs have %zu bytes together, at "
				   "most %u are possible",
				   all, VALIDATE_EXEC_BYTES_MAX);
	return 0;
}

static int check_process(const Runtime__V1__ContainerConfig *c, struct err *e)
{
	int r = check_words("config.command", c->command, c->n_command, e);

	if (r == 0 && c->n_command && !*c->command[0])
		r = err_invalid(e, "config.command: its first word is empty");
	if (r == 0)
		r = check_words("config.args", c->args, c->n_args, e);
	if (r == 0 && *c->working_dir && *c->working_dir != '/')
		r = err_invalid(e, "config.working_dir: \"%s\" is not absolute", c->working_dir);
	if (r == 0)
		r = check_text("config.working_dir", c->working_dir, true, VALIDATE_PATH_MAX, e);
	if (r == 0)
		r = check_count("config.envs", c->n_envs, VALIDATE_ARGS_MAX, e);
	for (size_t i = 0; r == 0 && i < c->n_envs; i++)
		r = check_env(c->envs[i], e);
	return r < 0 ? r : check_process_bytes(c, e);
}

int validate_command(const char *field, char *const *v, size_t n, struct err *e)
{
	if (n == 0)
		return err_invalid(e, "%s: must not be empty", field);
	if (!*v[0])
		return err_invalid(e, "%s: its first word is empty", field);
	return check_words(field, v, n, e);
}

int validate_checkpoint(const Runtime__V1__CheckpointContainerRequest *q, struct err *e)
{
	int r = check_path("location", q->location, false, e);

	if (r == 0 && (q->timeout < 0 || q->timeout > INT32_MAX))
		r = err_invalid(e, "timeout: %" PRId64 ", expected 0 to %d seconds", q->timeout,
				INT32_MAX);
	return r;
}

/* --- mounts --- */

static bool option_known(const char *s)
{
	static const char *const known[] = {"noexec",	  "exec",	"nosuid",  "suid",
					    "nodev",	  "dev",	"noatime", "relatime",
					    "nodiratime", "strictatime"};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (streq(s, known[i]))
			return true;
	return false;
}

static int check_read_only(const struct node *n, const Runtime__V1__Mount *m, struct err *e)
{
	if (!m->recursive_read_only)
		return 0;
	if (!m->readonly)
		return err_invalid(e,
				   "config.mounts.recursive_read_only: needs readonly (mount of "
				   "\"%s\")",
				   m->container_path);
	if (m->propagation != RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE)
		return err_invalid(e,
				   "config.mounts.recursive_read_only: needs propagation PRIVATE "
				   "(mount of \"%s\")",
				   m->container_path);
	if (!n->has_rro)
		return err_invalid(e,
				   "config.mounts.recursive_read_only: this kernel has no "
				   "mount_setattr(2) (mount of \"%s\")",
				   m->container_path);
	return 0;
}

/* Either none, or those of the pod, which the kubelet gives both. */
static int check_mount_ids(const struct pod *p, const Runtime__V1__Mount *m, struct err *e)
{
	const Runtime__V1__UserNamespace *u = spec_userns_of(p->config);
	const char *which = "uidMappings";

	if (u && m->propagation == RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
		return err_invalid(e,
				   "config.mounts.propagation: BIDIRECTIONAL: mounts of a pod with "
				   "a user namespace cannot reach the node (mount of \"%s\")",
				   m->container_path);
	if (!m->n_uidmappings && !m->n_gidmappings)
		return 0;
	if (u && same_mapping(m->uidmappings, m->n_uidmappings, u->uids, u->n_uids))
		which = "gidMappings";
	if (!u)
		return err_invalid(e,
				   "config.mounts.%s: given, but pod sandbox %s has no user "
				   "namespace (mount of \"%s\")",
				   m->n_uidmappings ? which : "gidMappings", p->id,
				   m->container_path);
	if (streq(which, "uidMappings") ||
	    !same_mapping(m->gidmappings, m->n_gidmappings, u->gids, u->n_gids))
		return err_invalid(
			e,
			"config.mounts.%s: expected the mapping of pod sandbox %s (mount "
			"of \"%s\")",
			which, p->id, m->container_path);
	return 0;
}

static int check_sub_path(const Runtime__V1__Mount *m, struct err *e)
{
	static const char field[] = "config.mounts.image_sub_path";
	int r = check_text(field, m->image_sub_path, true, VALIDATE_PATH_MAX, e);

	if (r == 0 && (*m->image_sub_path == '/' || has_dot_dot(m->image_sub_path)))
		r = err_invalid(e, "%s: \"%s\" must be relative to the image and not leave it",
				field, m->image_sub_path);
	return r;
}

/* What is the image's own (api.proto: the kubelet leaves host_path empty then). */
static int check_image(const Runtime__V1__Mount *m, struct err *e)
{
	if (*m->host_path)
		return err_invalid(e,
				   "config.mounts.host_path: \"%s\" is given beside the image "
				   "\"%s\"",
				   m->host_path, m->image->image);
	if (!m->readonly)
		return err_invalid(e,
				   "config.mounts.readonly: must be true of an image (mount of "
				   "\"%s\")",
				   m->container_path);
	if (m->propagation != RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE)
		return err_invalid(e,
				   "config.mounts.propagation: must be PRIVATE of an image (mount "
				   "of \"%s\")",
				   m->container_path);
	return check_sub_path(m, e);
}

/* Where it is from. */
static int check_source(const Runtime__V1__Mount *m, struct err *e)
{
	if (spec_mount_is_image(m))
		return check_image(m, e);
	if (*m->image_sub_path)
		return err_invalid(e,
				   "config.mounts.image_sub_path: \"%s\" is given without an "
				   "image",
				   m->image_sub_path);
	return check_path("config.mounts.host_path", m->host_path, false, e);
}

static int check_mount(const struct node *n, const struct pod *p, const Runtime__V1__Mount *m,
		       struct err *e)
{
	int r = check_path("config.mounts.container_path", m->container_path, false, e);

	if (r == 0 && strspn(m->container_path, "/.") == strlen(m->container_path))
		r = err_invalid(e, "config.mounts.container_path: \"%s\" is the whole root",
				m->container_path);
	if (r == 0)
		r = check_source(m, e);
	if (r == 0 && (m->propagation < 0 ||
		       m->propagation > RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL))
		r = err_invalid(e, "config.mounts.propagation: %d is none", (int)m->propagation);
	if (r == 0)
		r = check_read_only(n, m, e);
	if (r == 0)
		r = check_mount_ids(p, m, e);
	for (size_t i = 0; r == 0 && i < m->n_mount_options; i++)
		if (!option_known(m->mount_options[i]))
			r = err_invalid(e, "config.mounts.mount_options: \"%s\" is not known",
					m->mount_options[i]);
	return r;
}

static int check_mounts(const struct node *n, const struct pod *p,
			const Runtime__V1__ContainerConfig *c, struct err *e)
{
	int r = check_count("config.mounts", c->n_mounts, VALIDATE_LIST_MAX, e);
	size_t images = 0;

	for (size_t i = 0; r == 0 && i < c->n_mounts; i++) {
		r = check_mount(n, p, c->mounts[i], e);
		images += spec_mount_is_image(c->mounts[i]);
		for (size_t j = 0; r == 0 && j < i; j++)
			if (streq(c->mounts[i]->container_path, c->mounts[j]->container_path))
				r = err_invalid(e,
						"config.mounts.container_path: \"%s\" is there "
						"twice",
						c->mounts[i]->container_path);
	}
	return r < 0 ? r : check_count("config.mounts.image", images, VALIDATE_VOLUMES_MAX, e);
}

static int check_devices(const Runtime__V1__ContainerConfig *c, struct err *e)
{
	int r = check_count("config.devices", c->n_devices, VALIDATE_LIST_MAX, e);

	for (size_t i = 0; r == 0 && i < c->n_devices; i++) {
		const Runtime__V1__Device *d = c->devices[i];

		r = check_path("config.devices.container_path", d->container_path, false, e);
		if (r == 0)
			r = check_path("config.devices.host_path", d->host_path, false, e);
		if (r == 0 && (strspn(d->permissions, "rwm") != strlen(d->permissions) ||
			       strlen(d->permissions) > 3))
			r = err_invalid(e,
					"config.devices.permissions: \"%s\", expected some of rwm",
					d->permissions);
	}
	return r;
}

static int check_cdi(const struct node *n, const Runtime__V1__ContainerConfig *c, struct err *e)
{
	_cleanup_strv_ struct strv names = STRV_NULL;
	int r;

	spec_cdi_devices(c, &names);
	r = check_count("config.CDI_devices", names.n, CDI_DEVICES_MAX, e);
	for (size_t i = 0; r == 0 && i < names.n; i++)
		if (!spec_cdi_name_good(names.v[i]))
			r = err_invalid(e,
					"config.CDI_devices: \"%.300s\": expected "
					"VENDOR/CLASS=NAME",
					names.v[i]);
	if (r == 0 && names.n && !*n->config->cdi.spec_dirs)
		r = err_precondition(e,
				     "config.CDI_devices: \"%s\": CDI is not configured on this "
				     "node (cdi.spec_dirs)",
				     names.v[0]);
	return r;
}

/* --- linux --- */

static int check_caps(const char *field, char *const *v, size_t n, bool all, struct err *e)
{
	int r = check_count(field, n, VALIDATE_LIST_MAX, e);

	for (size_t i = 0; r == 0 && i < n; i++)
		if (spec_cap_number(v[i]) < 0 && !(all && strcasecmp(v[i], "ALL") == 0))
			r = err_invalid(e, "%s: \"%s\" is no capability", field, v[i]);
	return r;
}

#define SC "config.linux.security_context."

static int check_capability(const Runtime__V1__Capability *c, struct err *e)
{
	int r = c ? check_caps(SC "capabilities.add_capabilities", c->add_capabilities,
			       c->n_add_capabilities, true, e)
		  : 0;

	if (r == 0 && c)
		r = check_caps(SC "capabilities.drop_capabilities", c->drop_capabilities,
			       c->n_drop_capabilities, true, e);
	if (r == 0 && c)
		r = check_caps(SC "capabilities.add_ambient_capabilities",
			       c->add_ambient_capabilities, c->n_add_ambient_capabilities, false,
			       e);
	return r;
}

/* It is the pod's, also where the container says nothing; what it says must not differ. */
static int check_user_namespace(const struct pod *p, const Runtime__V1__UserNamespace *c,
				struct err *e)
{
	const Runtime__V1__UserNamespace *u = spec_userns_of(p->config);
	static const char field[] = SC "namespace_options.userns_options";
	int r = check_userns(field, c, e);

	if (r < 0 || !c)
		return r;
	if ((c->mode == RUNTIME__V1__NAMESPACE_MODE__POD) != (u != NULL))
		return err_invalid(e, "%s.mode: %s, but pod sandbox %s has %s user namespace",
				   field, u ? "NODE" : "POD", p->id, u ? "a" : "no");
	if (u && (!same_mapping(c->uids, c->n_uids, u->uids, u->n_uids) ||
		  !same_mapping(c->gids, c->n_gids, u->gids, u->n_gids)))
		return err_invalid(e, "%s: its mappings are not those of pod sandbox %s", field,
				   p->id);
	return 0;
}

static int check_namespaces(const struct pod *p, const Runtime__V1__NamespaceOption *o,
			    struct err *e)
{
	if (!o)
		return 0;
	switch (o->pid) {
	case RUNTIME__V1__NAMESPACE_MODE__POD:
	case RUNTIME__V1__NAMESPACE_MODE__CONTAINER:
	case RUNTIME__V1__NAMESPACE_MODE__NODE:
		break;
	case RUNTIME__V1__NAMESPACE_MODE__TARGET:
		if (str_empty(o->target_id))
			return err_invalid(e, SC "namespace_options.target_id: must not be empty "
						 "(pid is TARGET)");
		break;
	default:
		return err_invalid(e, SC "namespace_options.pid: %d is none", (int)o->pid);
	}
	if (o->network != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    o->network != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e, SC "namespace_options.network: %d, expected POD or NODE",
				   (int)o->network);
	if (o->ipc != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    o->ipc != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e, SC "namespace_options.ipc: %d, expected POD or NODE",
				   (int)o->ipc);
	if (o->pid == RUNTIME__V1__NAMESPACE_MODE__NODE && spec_userns_of(p->config))
		return err_invalid(e,
				   SC "namespace_options.pid: NODE, but pod sandbox %s has a user "
				      "namespace",
				   p->id);
	if (o->network == RUNTIME__V1__NAMESPACE_MODE__NODE && *p->netns)
		return err_invalid(e,
				   SC "namespace_options.network: NODE, but pod sandbox %s has a "
				      "network of its own",
				   p->id);
	if (o->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE && *p->ipcns)
		return err_invalid(e,
				   SC "namespace_options.ipc: NODE, but pod sandbox %s has an "
				      "IPC namespace of its own",
				   p->id);
	return check_user_namespace(p, o->userns_options, e);
}

static int check_apparmor(const struct node *n, const Runtime__V1__LinuxContainerSecurityContext *s,
			  struct err *e)
{
	const char *name = spec_apparmor_of(s, NULL);

	if (!name || streq(name, "unconfined") || s->privileged)
		return 0;
	if (!n->has_apparmor)
		return err_invalid(e,
				   SC "apparmor: the profile \"%s\" is asked for, but AppArmor is "
				      "not enabled on this node",
				   name);
	if (apparmor_loaded(name) == 0)
		return err_precondition(e,
					SC "apparmor: the profile \"%s\" is not loaded on this "
					   "node",
					name);
	return 0;
}

static int check_paths(const char *field, char *const *v, size_t n, struct err *e)
{
	int r = check_count(field, n, VALIDATE_LIST_MAX, e);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = check_path(field, v[i], false, e);
	return r;
}

static int check_security(const struct node *n, const struct pod *p,
			  const Runtime__V1__LinuxContainerSecurityContext *s, struct err *e)
{
	int r = check_capability(s->capabilities, e);

	if (r == 0)
		r = check_namespaces(p, s->namespace_options, e);
	if (r == 0)
		r = check_selinux(SC "selinux_options", s->selinux_options, e);
	if (r == 0 && s->run_as_user && *s->run_as_username)
		r = err_invalid(e, SC "run_as_username: \"%s\" is given beside run_as_user",
				s->run_as_username);
	if (r == 0)
		r = check_text(SC "run_as_username", s->run_as_username, true, VALIDATE_NAME_MAX,
			       e);
	if (r == 0)
		r = check_ids("config.linux.security_context", s->run_as_user, s->run_as_group,
			      *s->run_as_username != '\0', s->supplemental_groups,
			      s->n_supplemental_groups, e);
	if (r == 0)
		r = check_policy(SC "supplemental_groups_policy",
				 (int)s->supplemental_groups_policy, e);
	if (r == 0)
		r = check_paths(SC "masked_paths", s->masked_paths, s->n_masked_paths, e);
	if (r == 0)
		r = check_paths(SC "readonly_paths", s->readonly_paths, s->n_readonly_paths, e);
	if (r == 0)
		r = check_profile(SC "seccomp", s->seccomp, true, e);
	if (r == 0)
		r = check_profile(SC "apparmor", s->apparmor, false, e);
	if (r == 0)
		r = check_old_profile(SC "seccomp_profile_path", s->seccomp_profile_path, e);
	if (r == 0)
		r = check_old_profile(SC "apparmor_profile", s->apparmor_profile, e);
	if (r == 0)
		r = check_apparmor(n, s, e);
	return r;
}

static int check_log_path(const struct pod *p, const char *s, struct err *e)
{
	if (!*s)
		return 0;
	if (*s == '/' || has_dot_dot(s))
		return err_invalid(
			e,
			"config.log_path: \"%s\" must be relative to the log directory of "
			"the pod sandbox and not leave it",
			s);
	if (strlen(s) + strlen(p->config->log_directory) + 1 > VALIDATE_PATH_MAX)
		return err_invalid(e, "config.log_path: longer than %d bytes", VALIDATE_PATH_MAX);
	if (!*p->config->log_directory)
		return err_invalid(e,
				   "config.log_path: \"%s\" is given, but pod sandbox %s has no "
				   "log_directory",
				   s, p->id);
	return 0;
}

static bool privileged_pod(const Runtime__V1__PodSandboxConfig *c)
{
	return c && c->linux && c->linux->security_context &&
	       c->linux->security_context->privileged;
}

/* The pod sandbox has to say that it will hold one (api.proto); the kubelet says so in the
 * configuration that comes with the request when the container was added to the pod later. */
static int check_privileged(const struct pod *p, const Runtime__V1__ContainerConfig *c,
			    const Runtime__V1__PodSandboxConfig *with, struct err *e)
{
	bool asked =
		c->linux && c->linux->security_context && c->linux->security_context->privileged;

	if (asked && !privileged_pod(p->config) && !privileged_pod(with))
		return err_invalid(e,
				   SC "privileged: true, but pod sandbox %s was not made for "
				      "privileged containers",
				   p->id);
	return 0;
}

int validate_container(const struct node *n, const struct pod *p,
		       const Runtime__V1__ContainerConfig *c,
		       const Runtime__V1__PodSandboxConfig *with, struct err *e)
{
	int r = c->metadata ? check_name("config.metadata.name", c->metadata->name, e)
			    : err_invalid(e, "config.metadata: must be given");

	if (r == 0 && (!c->image || str_empty(c->image->image)))
		r = err_invalid(e, "config.image.image: must not be empty");
	if (r == 0 && *c->image->image == '/') /* of a checkpoint's archive */
		r = check_path("config.image.image", c->image->image, false, e);
	if (r == 0)
		r = check_process(c, e);
	if (r == 0)
		r = check_mounts(n, p, c, e);
	if (r == 0)
		r = check_devices(c, e);
	if (r == 0)
		r = check_map("config.labels", (void *)c->labels, c->n_labels, e);
	if (r == 0)
		r = check_map("config.annotations", (void *)c->annotations, c->n_annotations, e);
	if (r == 0)
		r = check_log_path(p, c->log_path, e);
	if (r == 0 && c->linux)
		r = validate_resources(n, "config.linux.resources", c->linux->resources, e);
	if (r == 0 && c->linux && c->linux->security_context)
		r = check_security(n, p, c->linux->security_context, e);
	if (r == 0)
		r = check_privileged(p, c, with, e);
	if (r == 0 && c->windows)
		r = err_invalid(e, "config.windows: this node runs Linux");
	if (r == 0)
		r = check_cdi(n, c, e);
	if (r == 0 && !protobuf_c_enum_descriptor_get_value(&runtime__v1__signal__descriptor,
							    (int)c->stop_signal))
		r = err_invalid(e, "config.stop_signal: %d is none", (int)c->stop_signal);
	return r;
}
