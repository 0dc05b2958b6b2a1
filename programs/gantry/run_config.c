/* SPDX-License-Identifier: Apache-2.0 */
/* gantry run: its options, and the messages that they make. */
#include <ctype.h>
#include <fcntl.h>
#include <math.h>

#include "base/fs.h"
#include "run.h"
#include "session.h"
#include "text.h"

#define ENV_FILE_MAX (1u << 20) /* bytes of a file of --env-file */
#define CPU_PERIOD 100000	/* microseconds */

/* What other tools hide of /proc and /sys; CRI leaves it to the client. */
static const char *const masked[] = {
	"/proc/asound",	    "/proc/acpi",	 "/proc/interrupts",
	"/proc/kcore",	    "/proc/keys",	 "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
	"/proc/scsi",	    "/sys/firmware",	 "/sys/devices/virtual/powercap"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					"/proc/sysrq-trigger"};

const struct opt run_options[] = {
	{.name = "name",
	 .metavar = "NAME",
	 .help = "name of the pod and its container (made of the image's)"},
	{.name = "namespace", .metavar = "NAME", .help = "namespace of the pod (default)"},
	{.name = "pod",
	 .metavar = "POD",
	 .help = "put the container into a pod that is there",
	 .complete = COMPLETE_POD},
	{.c = 'd', .name = "detach", .help = "print the container's id and leave it running"},
	{.name = "rm",
	 .help = "remove pod and logs at the end (as it is without --detach or --keep)"},
	{.name = "keep", .help = "keep the pod, stopped, and its logs at the end"},
	{.c = 'e',
	 .name = "env",
	 .metavar = "NAME[=VALUE]",
	 .help = "set a variable; without VALUE to the caller's",
	 .many = true},
	{.name = "env-file",
	 .metavar = "FILE",
	 .help = "variables, one NAME=VALUE a line",
	 .complete = COMPLETE_FILE,
	 .many = true},
	{.c = 'v',
	 .name = "volume",
	 .metavar = "SRC:DST[:OPT]",
	 .help = "mount a file or directory; OPT: ro, rro, rslave, rshared, z",
	 .complete = COMPLETE_FILE,
	 .many = true},
	{.name = "mount",
	 .metavar = "type=TYPE,...",
	 .help = "mount an image (type=image,source=IMAGE,target=DST[,subpath=PATH]) or, as "
		 "--volume, a file or directory (type=bind,source=SRC,target=DST[,readonly])",
	 .many = true},
	{.c = 'p',
	 .name = "publish",
	 .metavar = "[IP:]HOST:PORT[/tcp]",
	 .help = "forward a port of the host",
	 .many = true},
	{.name = "network",
	 .metavar = "MODE",
	 .help = "pod (a network of its own) or host",
	 .words = "pod host"},
	{.name = "pid",
	 .metavar = "MODE",
	 .help = "processes: container, pod or host",
	 .words = "container pod host"},
	{.name = "ipc", .metavar = "MODE", .help = "pod or host", .words = "pod host"},
	{.name = "userns",
	 .metavar = "ID[:COUNT]",
	 .help = "a user namespace of the pod: its ids begin at ID on the node (65536 of them)"},
	{.name = "runtime",
	 .metavar = "HANDLER",
	 .help = "the runtime handler",
	 .complete = COMPLETE_HANDLER},
	{.name = "pull",
	 .metavar = "WHEN",
	 .help = "missing, always or never",
	 .words = "missing always never"},
	{.name = "creds", .metavar = "USER:PASSWORD", .help = "log in at the registry to pull"},
	{.c = 'w', .name = "workdir", .metavar = "DIR", .help = "working directory"},
	{.c = 'u',
	 .name = "user",
	 .metavar = "USER[:GROUP]",
	 .help = "user by name or id, group by id"},
	{.name = "group-add", .metavar = "GID", .help = "a supplemental group", .many = true},
	{.name = "entrypoint",
	 .metavar = "COMMAND",
	 .help = "run this instead of the image's entry point"},
	{.c = 't', .name = "tty", .help = "give the container a terminal"},
	{.c = 'i', .name = "interactive", .help = "pass standard input to the container"},
	{.name = "hostname", .metavar = "NAME", .help = "host name of the pod (its name)"},
	{.name = "dns", .metavar = "IP", .help = "a name server", .many = true},
	{.name = "dns-search", .metavar = "DOMAIN", .help = "a search domain", .many = true},
	{.name = "dns-option",
	 .metavar = "OPTION",
	 .help = "an option of resolv.conf",
	 .many = true},
	{.c = 'l',
	 .name = "label",
	 .metavar = "KEY=VALUE",
	 .help = "a label of pod and container",
	 .many = true},
	{.name = "annotation",
	 .metavar = "KEY=VALUE",
	 .help = "an annotation of pod and container",
	 .many = true},
	{.name = "sysctl", .metavar = "KEY=VALUE", .help = "a sysctl of the pod", .many = true},
	{.c = 'm', .name = "memory", .metavar = "SIZE", .help = "memory limit, such as 512m"},
	{.name = "memory-swap", .metavar = "SIZE", .help = "limit of memory and swap together"},
	{.name = "cpus", .metavar = "NUMBER", .help = "limit in processors, such as 1.5"},
	{.name = "cpu-shares", .metavar = "NUMBER", .help = "share of processor time (1024)"},
	{.name = "cpuset-cpus", .metavar = "LIST", .help = "processors it may use, such as 0-3"},
	{.name = "oom-score-adj", .metavar = "NUMBER", .help = "from -1000 to 1000"},
	{.name = "privileged", .help = "all capabilities and devices, nothing hidden"},
	{.name = "read-only", .help = "a root file system that cannot be written"},
	{.name = "cap-add", .metavar = "CAPABILITY", .help = "add a capability", .many = true},
	{.name = "cap-drop",
	 .metavar = "CAPABILITY",
	 .help = "drop a capability, or all",
	 .many = true},
	{.name = "device",
	 .metavar = "PATH[:PATH][:rwm]",
	 .help = "a device of the host",
	 .complete = COMPLETE_FILE,
	 .many = true},
	{.name = "security-opt",
	 .metavar = "OPTION",
	 .help = "seccomp=unconfined|FILE, apparmor=unconfined|NAME, no-new-privileges",
	 .many = true},
	{.name = "stop-signal", .metavar = "SIGNAL", .help = "the signal that asks it to end"},
	{.name = "stop-timeout",
	 .metavar = "DURATION",
	 .help = "between that signal and SIGKILL (10s)"},
	{.c = 'q', .name = "quiet", .help = "show no progress of a pull"},
	OPT_END,
};

/* --- lists and maps --- */

static size_t count(const struct args *a, const char *name)
{
	size_t n = 0, pos = 0;

	while (args_next(a, name, &pos))
		n++;
	return n;
}

static void strings(struct cli *cli, const struct args *a, const char *name, char ***ret,
		    size_t *ret_n)
{
	size_t pos = 0;
	const char *s;

	*ret = arena_calloc(&cli->arena, count(a, name) + 1, sizeof(**ret));
	while ((s = args_next(a, name, &pos)))
		(*ret)[(*ret_n)++] = arena_strdup(&cli->arena, s);
}

/* Entries of every map have one layout; the descriptor is what makes them of their type. */
typedef Runtime__V1__StatusResponse__InfoEntry entry;
#define MAP_OF(type) (&runtime__v1__##type##__descriptor)

static void map_add(struct cli *cli, const ProtobufCMessageDescriptor *type, void *entries,
		    size_t *n, const char *key, const char *value)
{
	entry ***list = entries, *x = arena_alloc(&cli->arena, sizeof(*x));
	entry **grown = arena_calloc(&cli->arena, *n + 1, sizeof(*grown));

	if (*n)
		memcpy(grown, *list, *n * sizeof(*grown));
	protobuf_c_message_init(type, x);
	x->key = (char *)(uintptr_t)key;
	x->value = (char *)(uintptr_t)value;
	grown[(*n)++] = x;
	*list = grown;
}

static int map_option(struct cli *cli, const struct args *a, const char *name,
		      const ProtobufCMessageDescriptor *type, void *entries, size_t *n,
		      struct err *e)
{
	size_t pos = 0;
	const char *s;

	while ((s = args_next(a, name, &pos))) {
		const char *eq = strchr(s, '=');

		if (!eq || eq == s)
			return err_invalid(e, "--%s: \"%s\", expected KEY=VALUE", name, s);
		map_add(cli, type, entries, n, arena_strndup(&cli->arena, s, (size_t)(eq - s)),
			eq + 1);
	}
	return 0;
}

/* --- the process --- */

static void env_add(struct cli *cli, Runtime__V1__ContainerConfig *c, const char *name, size_t n,
		    const char *value)
{
	Runtime__V1__KeyValue *kv = arena_alloc(&cli->arena, sizeof(*kv)), **grown;

	runtime__v1__key_value__init(kv);
	kv->key = arena_strndup(&cli->arena, name, n);
	kv->value.len = strlen(value);
	kv->value.data = arena_memdup(&cli->arena, value, strlen(value) + 1);
	for (size_t i = 0; i < c->n_envs; i++)
		if (streq(c->envs[i]->key, kv->key)) { /* the last one counts */
			c->envs[i] = kv;
			return;
		}
	grown = arena_calloc(&cli->arena, c->n_envs + 1, sizeof(Runtime__V1__KeyValue *));
	if (c->n_envs)
		memcpy(grown, c->envs, c->n_envs * sizeof(Runtime__V1__KeyValue *));
	grown[c->n_envs++] = kv;
	c->envs = grown;
}

/* NAME=VALUE, or NAME of our own environment (left out where it is not set). */
static int env_one(struct cli *cli, Runtime__V1__ContainerConfig *c, const char *s, struct err *e)
{
	size_t n = strcspn(s, "=");
	_cleanup_free_ char *name = xstrndup(s, n);
	const char *value = s[n] ? s + n + 1 : getenv(name);

	if (n == 0)
		return err_invalid(e, "--env: \"%s\", expected NAME=VALUE or NAME", s);
	if (value)
		env_add(cli, c, s, n, value);
	return 0;
}

static int env_file(struct cli *cli, Runtime__V1__ContainerConfig *c, const char *path,
		    struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char *save = NULL, *s;
	int r = fs_read(AT_FDCWD, path, ENV_FILE_MAX, &b);

	if (r < 0)
		return err_errno(e, r, "--env-file: read %s", path);
	for (s = strtok_r(b.s, "\n", &save); s && r == 0; s = strtok_r(NULL, "\n", &save)) {
		s += strspn(s, " \t");
		if (*s && *s != '#')
			r = env_one(cli, c, s, e);
	}
	return r;
}

static int set_env(struct cli *cli, const struct args *a, Runtime__V1__ContainerConfig *c,
		   struct err *e)
{
	size_t pos = 0;
	const char *s;
	int r = 0;

	while (r == 0 && (s = args_next(a, "env-file", &pos)))
		r = env_file(cli, c, s, e);
	for (pos = 0; r == 0 && (s = args_next(a, "env", &pos));)
		r = env_one(cli, c, s, e);
	return r;
}

static int stop_signal(const struct args *a, Runtime__V1__ContainerConfig *c, struct err *e)
{
	const char *s = args_get(a, "stop-signal");
	const ProtobufCEnumValue *v;
	char name[64];

	if (!s)
		return 0;
	snprintf(name, sizeof(name), "SIGNAL_SIG%s", strncasecmp(s, "SIG", 3) ? s : s + 3);
	for (char *p = name; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	v = protobuf_c_enum_descriptor_get_value_by_name(&runtime__v1__signal__descriptor, name);
	if (!v)
		return err_invalid(e,
				   "--stop-signal: \"%s\" is no signal, expected such as TERM or "
				   "SIGINT",
				   s);
	c->stop_signal = (Runtime__V1__Signal)v->value;
	return 0;
}

static int set_process(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	Runtime__V1__ContainerConfig *m = &c->container;
	const char *entry_point = args_get(a, "entrypoint");

	m->tty = args_has(a, "tty");
	m->stdin = args_has(a, "interactive");
	/* The end of ours is the container's; a terminal, or one that is left alone, has none. */
	m->stdin_once = m->stdin && !m->tty && !c->detach;
	if (!c->detach && session_check_terminal(m->stdin, m->tty, e) < 0)
		return e->errnum;
	m->working_dir = (char *)(uintptr_t)str_or_empty(args_get(a, "workdir"));
	if (*m->working_dir && *m->working_dir != '/')
		return err_invalid(e, "--workdir: \"%s\" is not absolute", m->working_dir);
	if (entry_point) {
		m->command = arena_calloc(&cli->arena, 2, sizeof(*m->command));
		m->command[m->n_command++] = (char *)(uintptr_t)entry_point;
	}
	m->n_args = a->n - 1;
	m->args = (char **)(uintptr_t)(a->v + 1);
	if (stop_signal(a, m, e) < 0)
		return e->errnum;
	return set_env(cli, a, m, e);
}

/* --- mounts, devices, ports --- */

#define MAKE_LIST(list, most) list = arena_calloc(&cli->arena, (most) + 1, sizeof(*list))

#define PARSE_ALL(option, parse, list, n)                                                          \
	do {                                                                                       \
		size_t _pos = 0;                                                                   \
		const char *_s;                                                                    \
		while ((_s = args_next(a, option, &_pos)))                                         \
			if (parse(&cli->arena, _s, &list[n], e) < 0)                               \
				return e->errnum;                                                  \
			else                                                                       \
				n++;                                                               \
	} while (0)

static int set_things(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	MAKE_LIST(c->container.mounts, count(a, "volume") + count(a, "mount"));
	MAKE_LIST(c->container.devices, count(a, "device"));
	MAKE_LIST(c->pod.port_mappings, count(a, "publish"));
	PARSE_ALL("volume", run_parse_volume, c->container.mounts, c->container.n_mounts);
	PARSE_ALL("mount", run_parse_mount, c->container.mounts, c->container.n_mounts);
	PARSE_ALL("device", run_parse_device, c->container.devices, c->container.n_devices);
	PARSE_ALL("publish", run_parse_port, c->pod.port_mappings, c->pod.n_port_mappings);
	if (c->pod.n_port_mappings && args_get(a, "network") &&
	    streq(args_get(a, "network"), "host"))
		return err_invalid(e, "--publish has no meaning with --network host: the "
				      "container's ports are the host's");
	return 0;
}

/* --- security --- */

static Runtime__V1__NamespaceMode mode(const char *s, Runtime__V1__NamespaceMode otherwise)
{
	if (!s)
		return otherwise;
	return streq(s, "host")	 ? RUNTIME__V1__NAMESPACE_MODE__NODE
	       : streq(s, "pod") ? RUNTIME__V1__NAMESPACE_MODE__POD
				 : RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
}

/* Of its volumes too: what the node's users own is the container's users'. */
static int set_userns(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	const char *text = args_get(a, "userns");
	Runtime__V1__IDMapping *m = arena_alloc(&cli->arena, sizeof(*m)),
			       **list = arena_alloc(&cli->arena, sizeof(*list));
	Runtime__V1__UserNamespace *u = arena_alloc(&cli->arena, sizeof(*u));
	int r;

	if (!text)
		return 0;
	runtime__v1__idmapping__init(m);
	r = run_parse_ids(text, m, e);
	if (r < 0)
		return r;
	*list = m;
	runtime__v1__user_namespace__init(u);
	u->uids = u->gids = list;
	u->n_uids = u->n_gids = 1;
	c->pod.linux->security_context->namespace_options->userns_options = u;
	for (size_t i = 0; i < c->container.n_mounts; i++) {
		Runtime__V1__Mount *v = c->container.mounts[i];

		v->uidmappings = v->gidmappings = list;
		v->n_uidmappings = v->n_gidmappings = 1;
	}
	return 0;
}

static Runtime__V1__NamespaceOption *namespaces(struct cli *cli, const struct args *a)
{
	Runtime__V1__NamespaceOption *o = arena_alloc(&cli->arena, sizeof(*o));

	runtime__v1__namespace_option__init(o);
	o->network = mode(args_get(a, "network"), RUNTIME__V1__NAMESPACE_MODE__POD);
	o->ipc = mode(args_get(a, "ipc"), RUNTIME__V1__NAMESPACE_MODE__POD);
	o->pid = mode(args_get(a, "pid"), RUNTIME__V1__NAMESPACE_MODE__CONTAINER);
	return o;
}

static Runtime__V1__SecurityProfile *profile(struct cli *cli)
{
	Runtime__V1__SecurityProfile *p = arena_alloc(&cli->arena, sizeof(*p));

	runtime__v1__security_profile__init(p);
	p->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
	return p;
}

static int set_profile(struct cli *cli, Runtime__V1__SecurityProfile *p, const char *value,
		       bool file, struct err *e)
{
	char *path = NULL;

	if (streq(value, "unconfined")) {
		p->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
		return 0;
	}
	if (file) {
		path = realpath(value, NULL);
		if (!path)
			return err_errno(e, -errno, "--security-opt: seccomp=%s", value);
		value = arena_strdup(&cli->arena, path);
		free(path);
	}
	p->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
	p->localhost_ref = (char *)(uintptr_t)value;
	return 0;
}

static int security_options(struct cli *cli, const struct args *a,
			    Runtime__V1__LinuxContainerSecurityContext *s, struct err *e)
{
	size_t pos = 0;
	const char *v;
	int r = 0;

	while (r == 0 && (v = args_next(a, "security-opt", &pos))) {
		if (str_has_prefix(v, "seccomp="))
			r = set_profile(cli, s->seccomp, v + strlen("seccomp="), true, e);
		else if (str_has_prefix(v, "apparmor="))
			r = set_profile(cli, s->apparmor, v + strlen("apparmor="), false, e);
		else if (streq(v, "no-new-privileges"))
			s->no_new_privs = true;
		else
			r = err_invalid(
				e,
				"--security-opt: \"%s\", expected seccomp=..., apparmor=... "
				"or no-new-privileges",
				v);
	}
	return r;
}

static Runtime__V1__Int64Value *number(struct cli *cli, int64_t v)
{
	Runtime__V1__Int64Value *m = arena_alloc(&cli->arena, sizeof(*m));

	runtime__v1__int64_value__init(m);
	m->value = v;
	return m;
}

static int set_user(struct cli *cli, const struct args *a,
		    Runtime__V1__LinuxContainerSecurityContext *s, struct err *e)
{
	const char *user = args_get(a, "user"), *colon = user ? strchr(user, ':') : NULL;
	size_t pos = 0, n = count(a, "group-add");
	const char *g;
	char *name;
	int64_t v;

	s->supplemental_groups = arena_calloc(&cli->arena, n + 1, sizeof(int64_t));
	while ((g = args_next(a, "group-add", &pos))) {
		if (!str_to_i64(g, &v) || v < 0)
			return err_invalid(e, "--group-add: \"%s\" is no group id", g);
		s->supplemental_groups[s->n_supplemental_groups++] = v;
	}
	if (!user)
		return 0;
	name = arena_strndup(&cli->arena, user, colon ? (size_t)(colon - user) : strlen(user));
	if (str_to_i64(name, &v) && v >= 0)
		s->run_as_user = number(cli, v);
	else
		s->run_as_username = name;
	if (!colon)
		return *name ? 0 : err_invalid(e, "--user: must not be empty");
	if (!*name || !str_to_i64(colon + 1, &v) || v < 0)
		return err_invalid(e, "--user: \"%s\", expected USER or USER:GID", user);
	s->run_as_group = number(cli, v);
	return 0;
}

static void set_capabilities(struct cli *cli, const struct args *a,
			     Runtime__V1__LinuxContainerSecurityContext *s)
{
	Runtime__V1__Capability *c = arena_alloc(&cli->arena, sizeof(*c));

	runtime__v1__capability__init(c);
	strings(cli, a, "cap-add", &c->add_capabilities, &c->n_add_capabilities);
	strings(cli, a, "cap-drop", &c->drop_capabilities, &c->n_drop_capabilities);
	for (size_t i = 0; i < c->n_add_capabilities; i++)
		for (char *p = c->add_capabilities[i]; *p; p++)
			*p = (char)toupper((unsigned char)*p);
	for (size_t i = 0; i < c->n_drop_capabilities; i++)
		for (char *p = c->drop_capabilities[i]; *p; p++)
			*p = (char)toupper((unsigned char)*p);
	s->capabilities = c;
}

static int set_security(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	Runtime__V1__LinuxContainerSecurityContext *s = arena_alloc(&cli->arena, sizeof(*s));
	Runtime__V1__LinuxSandboxSecurityContext *p = arena_alloc(&cli->arena, sizeof(*p));

	runtime__v1__linux_container_security_context__init(s);
	runtime__v1__linux_sandbox_security_context__init(p);
	c->container.linux->security_context = s;
	c->pod.linux->security_context = p;
	s->namespace_options = p->namespace_options = namespaces(cli, a);
	s->privileged = p->privileged = args_has(a, "privileged");
	s->readonly_rootfs = args_has(a, "read-only");
	if (set_userns(cli, a, c, e) < 0)
		return e->errnum;
	s->seccomp = profile(cli);
	s->apparmor = profile(cli);
	if (s->privileged) {
		s->seccomp->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
		s->apparmor->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
	} else {
		s->masked_paths = (char **)(uintptr_t)masked;
		s->n_masked_paths = ARRAY_SIZE(masked);
		s->readonly_paths = (char **)(uintptr_t)read_only;
		s->n_readonly_paths = ARRAY_SIZE(read_only);
	}
	set_capabilities(cli, a, s);
	if (set_user(cli, a, s, e) < 0)
		return e->errnum;
	return security_options(cli, a, s, e);
}

/* --- resources --- */

static int size_option(const struct args *a, const char *name, int64_t *ret, struct err *e)
{
	const char *s = args_get(a, name);
	uint64_t v;

	if (!s)
		return 0;
	if (!text_parse_size(s, &v) || v == 0)
		return err_invalid(e, "--%s: \"%s\", expected a size such as 512m or 2g", name, s);
	*ret = (int64_t)v;
	return 0;
}

static int cpus_option(const struct args *a, Runtime__V1__LinuxContainerResources *r, struct err *e)
{
	const char *s = args_get(a, "cpus");
	char *end;
	double v;

	if (!s)
		return 0;
	v = strtod(s, &end);
	if (end == s || *end || !isfinite(v) || v < 0.01 || v > 65536)
		return err_invalid(e, "--cpus: \"%s\", expected a number of processors such as 1.5",
				   s);
	r->cpu_period = CPU_PERIOD;
	r->cpu_quota = (int64_t)llround(v * CPU_PERIOD);
	return 0;
}

static int set_resources(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	Runtime__V1__LinuxContainerResources *m = arena_alloc(&cli->arena, sizeof(*m));
	int r;

	runtime__v1__linux_container_resources__init(m);
	c->container.linux->resources = m;
	m->cpuset_cpus = (char *)(uintptr_t)str_or_empty(args_get(a, "cpuset-cpus"));
	r = size_option(a, "memory", &m->memory_limit_in_bytes, e);
	if (r == 0)
		r = size_option(a, "memory-swap", &m->memory_swap_limit_in_bytes, e);
	if (r == 0)
		r = cpus_option(a, m, e);
	if (r == 0)
		r = args_number(a, "cpu-shares", 2, 262144, 0, &m->cpu_shares, e);
	if (r == 0)
		r = args_number(a, "oom-score-adj", -1000, 1000, 0, &m->oom_score_adj, e);
	return r;
}

/* --- pod --- */

static bool name_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= 63 && isalnum((unsigned char)*s) && isalnum((unsigned char)s[n - 1]) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-._"
			 "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == n;
}

/* "counter" of counter.tar.gz. */
static const char *stem(struct cli *cli, const struct run_config *c)
{
	const char *base = c->archive ? strrchr(c->image, '/') : NULL;

	return base ? arena_strndup(&cli->arena, base + 1, strcspn(base + 1, ".")) : c->image;
}

static int set_names(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	const char *host = args_get(a, "hostname"), *network = args_get(a, "network");

	c->name = args_get(a, "name") ? args_get(a, "name")
				      : run_name_of_image(&cli->arena, stem(cli, c));
	c->namespace_ = args_get(a, "namespace") ? args_get(a, "namespace") : "default";
	if (!name_valid(c->name))
		return err_invalid(e,
				   "--name: \"%s\", expected up to 63 letters, digits, '-', '.' "
				   "and '_'",
				   c->name);
	if (!name_valid(c->namespace_))
		return err_invalid(e,
				   "--namespace: \"%s\", expected up to 63 letters, digits, '-', "
				   "'.' and '_'",
				   c->namespace_);
	c->pod.metadata->name = (char *)(uintptr_t)c->name;
	c->pod.metadata->namespace_ = (char *)(uintptr_t)c->namespace_;
	/* The daemon refuses a second pod with the same name, namespace and uid: so nobody gets
	 * two pods of one name. */
	c->pod.metadata->uid = arena_printf(&cli->arena, "run-%s-%s", c->namespace_, c->name);
	c->container.metadata->name = (char *)(uintptr_t)c->name;
	c->container.log_path = arena_printf(&cli->arena, "%s.log", c->name);
	if (host) {
		c->pod.hostname = (char *)(uintptr_t)host;
	} else if (!network || !streq(network, "host")) {
		c->pod.hostname = arena_strdup(&cli->arena, c->name);
		for (char *p = c->pod.hostname; *p; p++)
			*p = *p == '_' ? '-' : *p;
	}
	return 0;
}

static void set_dns(struct cli *cli, const struct args *a, struct run_config *c)
{
	Runtime__V1__DNSConfig *d = arena_alloc(&cli->arena, sizeof(*d));

	runtime__v1__dnsconfig__init(d);
	strings(cli, a, "dns", &d->servers, &d->n_servers);
	strings(cli, a, "dns-search", &d->searches, &d->n_searches);
	strings(cli, a, "dns-option", &d->options, &d->n_options);
	if (d->n_servers || d->n_searches || d->n_options)
		c->pod.dns_config = d;
}

static int set_maps(struct cli *cli, const struct args *a, struct run_config *c, struct err *e)
{
	int r = map_option(cli, a, "label", MAP_OF(pod_sandbox_config__labels_entry),
			   &c->pod.labels, &c->pod.n_labels, e);

	if (r == 0)
		r = map_option(cli, a, "label", MAP_OF(container_config__labels_entry),
			       &c->container.labels, &c->container.n_labels, e);
	if (r == 0)
		r = map_option(cli, a, "annotation", MAP_OF(pod_sandbox_config__annotations_entry),
			       &c->pod.annotations, &c->pod.n_annotations, e);
	if (r == 0)
		r = map_option(cli, a, "annotation", MAP_OF(container_config__annotations_entry),
			       &c->container.annotations, &c->container.n_annotations, e);
	if (r == 0)
		r = map_option(cli, a, "sysctl", MAP_OF(linux_pod_sandbox_config__sysctls_entry),
			       &c->pod.linux->sysctls, &c->pod.linux->n_sysctls, e);
	return r;
}

void run_config_annotate(struct cli *cli, struct run_config *c, const char *key, const char *value)
{
	map_add(cli, MAP_OF(pod_sandbox_config__annotations_entry), &c->pod.annotations,
		&c->pod.n_annotations, key, value);
}

/* What belongs to a pod makes no sense for one that is there. */
static int check_join(const struct args *a, const struct run_config *c, struct err *e)
{
	static const char *const of_pod[] = {"publish",	 "network",   "ipc",	    "runtime",
					     "hostname", "dns",	      "dns-search", "dns-option",
					     "sysctl",	 "namespace", "userns"};

	for (size_t i = 0; c->join && i < ARRAY_SIZE(of_pod); i++)
		if (args_has(a, of_pod[i]))
			return err_invalid(e,
					   "--%s cannot be given with --pod: the pod is made "
					   "already",
					   of_pod[i]);
	if (c->detach && args_has(a, "rm"))
		return err_invalid(e, "--rm and --detach exclude each other: nobody would be there "
				      "to remove it");
	if (args_has(a, "rm") && c->keep)
		return err_invalid(e, "--rm and --keep exclude each other");
	return 0;
}

static void init(struct cli *cli, struct run_config *c)
{
	*c = (struct run_config){.handler = ""};
	runtime__v1__pod_sandbox_config__init(&c->pod);
	runtime__v1__container_config__init(&c->container);
	c->pod.metadata = arena_alloc(&cli->arena, sizeof(*c->pod.metadata));
	runtime__v1__pod_sandbox_metadata__init(c->pod.metadata);
	c->pod.linux = arena_alloc(&cli->arena, sizeof(*c->pod.linux));
	runtime__v1__linux_pod_sandbox_config__init(c->pod.linux);
	c->container.metadata = arena_alloc(&cli->arena, sizeof(*c->container.metadata));
	runtime__v1__container_metadata__init(c->container.metadata);
	c->container.linux = arena_alloc(&cli->arena, sizeof(*c->container.linux));
	runtime__v1__linux_container_config__init(c->container.linux);
	c->container.image = arena_alloc(&cli->arena, sizeof(*c->container.image));
	runtime__v1__image_spec__init(c->container.image);
}

/* A file, or where there is none of that name, an image. */
static void set_checkpoint(struct cli *cli, struct run_config *c)
{
	_cleanup_free_ char *path = realpath(c->image, NULL);

	c->archive = path || strchr("./", *c->image);
	if (path)
		c->image = arena_strdup(&cli->arena, path);
}

static void set_rest(struct cli *cli, const struct args *a, struct run_config *c)
{
	const char *creds = args_get(a, "creds"), *colon = creds ? strchr(creds, ':') : NULL;

	c->image = a->v[0];
	if (a->command == &cmd_restore)
		set_checkpoint(cli, c);
	c->container.image->image = (char *)(uintptr_t)c->image;
	c->handler = str_or_empty(args_get(a, "runtime"));
	c->join = args_get(a, "pod");
	c->pull = args_get(a, "pull") ? args_get(a, "pull") : "missing";
	c->detach = args_has(a, "detach") || a->command == &cmd_restore;
	c->keep = args_has(a, "keep");
	c->quiet = args_has(a, "quiet");
	if (creds) {
		c->username = arena_strndup(&cli->arena, creds,
					    colon ? (size_t)(colon - creds) : strlen(creds));
		c->password = colon ? colon + 1 : "";
	}
}

int run_config_parse(struct cli *cli, const struct args *a, struct run_config *ret, struct err *e)
{
	int r;

	init(cli, ret);
	set_rest(cli, a, ret);
	set_dns(cli, a, ret);
	r = check_join(a, ret, e);
	if (r == 0)
		r = set_names(cli, a, ret, e);
	if (r == 0)
		r = set_process(cli, a, ret, e);
	if (r == 0)
		r = set_things(cli, a, ret, e);
	if (r == 0)
		r = set_security(cli, a, ret, e);
	if (r == 0)
		r = set_resources(cli, a, ret, e);
	if (r == 0)
		r = set_maps(cli, a, ret, e);
	if (r == 0)
		r = args_duration(a, "stop-timeout", 10 * USEC_PER_SEC, &ret->stop_us, e);
	return r;
}
