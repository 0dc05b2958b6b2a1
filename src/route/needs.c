/* SPDX-License-Identifier: Apache-2.0 */
/* What a container needs: see needs.h; runtime-spec, config.md and config-linux.md, for the members
 * that are looked at. */
#include "route/needs.h"

#include "base/mem.h"

static void need_at(struct needs *n, enum runtime_cap cap, const char *where, int index,
		    const char *rest)
{
	if (n->bits & RCAP_BIT(cap))
		return;
	n->bits |= RCAP_BIT(cap);
	n->from[cap] = (struct needs_origin){where, index, rest};
}

void needs_add(struct needs *n, enum runtime_cap cap, const char *where)
{
	need_at(n, cap, where, -1, "");
}

static size_t look(const jv *list)
{
	return MIN(jv_len(list), (size_t)NEEDS_LOOK_MAX);
}

static bool has_members(const jv *v)
{
	struct jv_iter it = JV_ITER_INIT;

	return jv_len(v) > 0 || jv_next(v, &it);
}

/* --- namespaces --- */

static const struct {
	const char *type;
	enum runtime_cap fresh, joined;
} kinds[] = {
	{"network", RCAP_NEW_NETWORK, RCAP_JOIN_NETWORK},
	{"pid", RCAP_NEW_PID, RCAP_JOIN_PID},
	{"ipc", RCAP_NEW_IPC, RCAP_JOIN_IPC},
	{"uts", RCAP_NEW_UTS, RCAP_JOIN_UTS},
	{"user", RCAP_USERNS, RCAP_JOIN_USER},
	{"cgroup", RCAP_NEW_CGROUP, RCAP_JOIN_OTHER},
	{"time", RCAP_NEW_TIME, RCAP_JOIN_OTHER},
};

/* Bits of `kinds` by place, 0 for one that needs nothing special. */
static unsigned add_namespace(struct needs *n, const jv *ns, int i)
{
	const char *type = jv_string(ns, "type", ""), *path = jv_string(ns, "path", "");

	if (streq(type, "mount") && *path)
		need_at(n, RCAP_JOIN_OTHER, "linux.namespaces", i, ".path");
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (!streq(type, kinds[k].type))
			continue;
		if (*path)
			need_at(n, kinds[k].joined, "linux.namespaces", i, ".path");
		else
			need_at(n, kinds[k].fresh, "linux.namespaces", i, "");
		if (streq(type, "user"))
			need_at(n, RCAP_USERNS, "linux.namespaces", i, "");
		return 1U << k;
	}
	return 0;
}

static void add_namespaces(struct needs *n, const jv *config)
{
	const jv *list = jv_get(config, "linux.namespaces");
	unsigned found = 0;

	for (size_t i = 0; i < look(list); i++)
		found |= add_namespace(n, jv_at(list, i), (int)i);
	if (!(found & 1U << 0))
		needs_add(n, RCAP_HOST_NETWORK, "linux.namespaces: no network");
	if (!(found & 1U << 1))
		needs_add(n, RCAP_HOST_PID, "linux.namespaces: no pid");
	if (!(found & 1U << 2))
		needs_add(n, RCAP_HOST_IPC, "linux.namespaces: no ipc");
	if (!(found & 1U << 0) && n->bits & RCAP_BIT(RCAP_USERNS))
		needs_add(n, RCAP_USERNS_HOST_NETWORK, "linux.namespaces: user, no network");
}

/* --- mounts --- */

static const struct {
	const char *option;
	enum runtime_cap cap;
	const char *rest;
} options[] = {
	{"rro", RCAP_RRO_MOUNTS, ".options: rro"},
	{"tmpcopyup", RCAP_TMPCOPYUP, ".options: tmpcopyup"},
	{"shared", RCAP_SHARED_MOUNTS, ".options: shared"},
	{"rshared", RCAP_SHARED_MOUNTS, ".options: rshared"},
	{"idmap", RCAP_IDMAPPED_MOUNTS, ".options: idmap"},
	{"ridmap", RCAP_IDMAPPED_MOUNTS, ".options: ridmap"},
};

/* The forms of options for mounts below as well (runtime-spec, config.md, "Linux mount options"),
 * without rbind and the kinds of propagation, which are as old as mounts. */
static const char *const recursive[] = {
	"rrw",	       "rnosuid",      "rsuid",		 "rnodev",	"rdev",		"rnoexec",
	"rexec",       "rnoatime",     "ratime",	 "rnodiratime", "rdiratime",	"rrelatime",
	"rnorelatime", "rstrictatime", "rnostrictatime", "rsymfollow",	"rnosymfollow",
};

static void add_option(struct needs *n, const char *o, int i)
{
	if (str_has_prefix(o, "idmap=") || str_has_prefix(o, "ridmap="))
		need_at(n, RCAP_IDMAPPED_MOUNTS, "mounts", i, ".options: idmap");
	for (size_t k = 0; k < ARRAY_SIZE(options); k++)
		if (streq(o, options[k].option))
			need_at(n, options[k].cap, "mounts", i, options[k].rest);
	for (size_t k = 0; k < ARRAY_SIZE(recursive); k++)
		if (streq(o, recursive[k]))
			need_at(n, RCAP_RECURSIVE_OPTIONS, "mounts", i, ".options");
}

static void add_mounts(struct needs *n, const jv *config)
{
	const jv *list = jv_get(config, "mounts");
	const char *root = jv_string(config, "linux.rootfsPropagation", "");

	for (size_t i = 0; i < look(list); i++) {
		const jv *m = jv_at(list, i), *o = jv_get(m, "options");

		if (has_members(jv_get(m, "uidMappings")) || has_members(jv_get(m, "gidMappings")))
			need_at(n, RCAP_IDMAPPED_MOUNTS, "mounts", (int)i, ".uidMappings");
		for (size_t k = 0; k < look(o); k++)
			add_option(n, str_or_empty(jv_as_string(jv_at(o, k))), (int)i);
	}
	if (streq(root, "shared") || streq(root, "rshared"))
		needs_add(n, RCAP_SHARED_MOUNTS, "linux.rootfsPropagation");
}

/* --- seccomp --- */

static const struct {
	const char *action;
	enum runtime_cap cap;
	const char *rest;
} actions[] = {
	{"SCMP_ACT_KILL_PROCESS", RCAP_SECCOMP_KILL_PROCESS, ".action: SCMP_ACT_KILL_PROCESS"},
	{"SCMP_ACT_KILL_THREAD", RCAP_SECCOMP_KILL_THREAD, ".action: SCMP_ACT_KILL_THREAD"},
	{"SCMP_ACT_TRACE", RCAP_SECCOMP_TRACE, ".action: SCMP_ACT_TRACE"},
	{"SCMP_ACT_LOG", RCAP_SECCOMP_LOG, ".action: SCMP_ACT_LOG"},
	{"SCMP_ACT_NOTIFY", RCAP_SECCOMP_NOTIFY, ".action: SCMP_ACT_NOTIFY"},
};

static void add_action(struct needs *n, const char *action, const char *where, int i)
{
	for (size_t k = 0; k < ARRAY_SIZE(actions); k++)
		if (streq(action, actions[k].action))
			need_at(n, actions[k].cap, where, i, i < 0 ? "" : actions[k].rest);
}

static void add_seccomp(struct needs *n, const jv *config, const struct needs_facts *f)
{
	const jv *s = jv_get(config, "linux.seccomp"), *rules = jv_get(s, "syscalls"),
		 *flags = jv_get(s, "flags");

	if (!jv_is_object(s))
		return;
	if (f->seccomp_default) {
		needs_add(n, RCAP_SECCOMP_DEFAULT, "linux.seccomp");
		return;
	}
	needs_add(n, RCAP_SECCOMP, "linux.seccomp");
	add_action(n, jv_string(s, "defaultAction", ""), "linux.seccomp.defaultAction", -1);
	for (size_t i = 0; i < look(rules); i++)
		add_action(n, jv_string(jv_at(rules, i), "action", ""), "linux.seccomp.syscalls",
			   (int)i);
	if (*jv_string(s, "listenerPath", ""))
		needs_add(n, RCAP_SECCOMP_NOTIFY, "linux.seccomp.listenerPath");
	for (size_t i = 0; i < look(flags); i++) {
		const char *flag = str_or_empty(jv_as_string(jv_at(flags, i)));

		need_at(n,
			streq(flag, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
				? RCAP_SECCOMP_WAIT_KILLABLE
				: RCAP_SECCOMP_FLAGS,
			"linux.seccomp.flags", (int)i, "");
	}
}

/* --- process, devices, hooks --- */

static void add_process(struct needs *n, const jv *config, const struct needs_facts *f)
{
	const jv *p = jv_get(config, "process");
	const char *apparmor = jv_string(p, "apparmorProfile", "");

	if (jv_bool(p, "terminal", false))
		needs_add(n, RCAP_TERMINAL, "process.terminal");
	if (jv_len(jv_get(p, "capabilities.ambient")) > 0)
		needs_add(n, RCAP_AMBIENT_CAPS, "process.capabilities.ambient");
	if (has_members(jv_get(p, "scheduler")))
		needs_add(n, RCAP_SCHEDULER, "process.scheduler");
	if (has_members(jv_get(p, "ioPriority")))
		needs_add(n, RCAP_IO_PRIORITY, "process.ioPriority");
	if (has_members(jv_get(p, "execCPUAffinity")))
		needs_add(n, RCAP_CPU_AFFINITY, "process.execCPUAffinity");
	if (*apparmor && !streq(apparmor, "unconfined"))
		needs_add(n, f->apparmor_default ? RCAP_APPARMOR_DEFAULT : RCAP_APPARMOR,
			  "process.apparmorProfile");
	if (*jv_string(p, "selinuxLabel", ""))
		needs_add(n, RCAP_SELINUX, "process.selinuxLabel");
}

static const struct {
	const char *member; /* of `linux`, an object or a list that is not empty */
	enum runtime_cap cap;
	const char *where;
} linux_members[] = {
	{"personality", RCAP_PERSONALITY, "linux.personality"},
	{"memoryPolicy", RCAP_MEMORY_POLICY, "linux.memoryPolicy"},
	{"netDevices", RCAP_NET_DEVICES, "linux.netDevices"},
	{"timeOffsets", RCAP_NEW_TIME, "linux.timeOffsets"},
	{"resources.unified", RCAP_UNIFIED, "linux.resources.unified"},
	{"resources.rdma", RCAP_RDMA, "linux.resources.rdma"},
};

/* Those that every container has by itself (config-linux.md, "Default Devices"). */
static bool is_default_device(const char *path)
{
	static const char *const paths[] = {"/dev/null",    "/dev/zero",    "/dev/full",
					    "/dev/random",  "/dev/urandom", "/dev/tty",
					    "/dev/console", "/dev/ptmx"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (streq(path, paths[i]))
			return true;
	return false;
}

static void add_linux(struct needs *n, const jv *config)
{
	const jv *l = jv_get(config, "linux"), *devices = jv_get(l, "devices");

	for (size_t i = 0; i < ARRAY_SIZE(linux_members); i++)
		if (has_members(jv_get(l, linux_members[i].member)))
			needs_add(n, linux_members[i].cap, linux_members[i].where);
	for (size_t i = 0; i < look(devices); i++)
		if (!is_default_device(jv_string(jv_at(devices, i), "path", "")))
			need_at(n, RCAP_DEVICES, "linux.devices", (int)i, "");
	if (jv_is_object(jv_get(l, "intelRdt"))) /* {} is a request too */
		needs_add(n, RCAP_INTEL_RDT, "linux.intelRdt");
	if (*jv_string(l, "mountLabel", ""))
		needs_add(n, RCAP_SELINUX, "linux.mountLabel");
}

static void add_hooks(struct needs *n, const jv *config)
{
	static const struct {
		const char *member;
		enum runtime_cap cap;
		const char *where;
	} hooks[] = {
		{"prestart", RCAP_HOOK_PRESTART, "hooks.prestart"},
		{"createRuntime", RCAP_HOOK_CREATE_RUNTIME, "hooks.createRuntime"},
		{"createContainer", RCAP_HOOK_CREATE_CONTAINER, "hooks.createContainer"},
		{"startContainer", RCAP_HOOK_START_CONTAINER, "hooks.startContainer"},
		{"poststart", RCAP_HOOK_POSTSTART, "hooks.poststart"},
		{"poststop", RCAP_HOOK_POSTSTOP, "hooks.poststop"},
	};
	const jv *h = jv_get(config, "hooks");

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if (jv_len(jv_get(h, hooks[i].member)) > 0)
			needs_add(n, hooks[i].cap, hooks[i].where);
}

static void add_facts(struct needs *n, const struct needs_facts *f)
{
	if (f->cgroup_v2)
		needs_add(n, RCAP_CGROUP_V2, "the node has cgroup v2");
	else
		needs_add(n, RCAP_CGROUP_V1, "the node has cgroup v1");
	if (f->cgroup_systemd)
		needs_add(n, RCAP_CGROUP_SYSTEMD, "the node's cgroup driver");
	if (f->privileged)
		needs_add(n, RCAP_PRIVILEGED, "privileged");
}

void needs_add_config(struct needs *n, const jv *config, const struct needs_facts *f)
{
	add_facts(n, f);
	add_namespaces(n, config);
	add_mounts(n, config);
	add_seccomp(n, config, f);
	add_process(n, config, f);
	add_linux(n, config);
	add_hooks(n, config);
}

void needs_add_pod(struct needs *n, const struct needs_pod *p, const struct needs_facts *f)
{
	add_facts(n, f);
	if (p->userns) {
		needs_add(n, RCAP_USERNS, "the pod's user namespace");
		needs_add(n, RCAP_JOIN_USER, "the pod's user namespace");
	}
	if (p->userns && p->host_network)
		needs_add(n, RCAP_USERNS_HOST_NETWORK,
			  "the pod's user namespace and the node's network");
	if (p->host_network)
		needs_add(n, RCAP_HOST_NETWORK, "the pod is in the node's network");
	else
		needs_add(n, RCAP_JOIN_NETWORK, "the pod's network");
	if (p->host_pid)
		needs_add(n, RCAP_HOST_PID, "the pod has the node's PID namespace");
	else if (p->shared_pid)
		needs_add(n, RCAP_JOIN_PID, "the pod's PID namespace");
	else
		needs_add(n, RCAP_NEW_PID, "a PID namespace for each container");
	if (p->host_ipc)
		needs_add(n, RCAP_HOST_IPC, "the pod has the node's IPC namespace");
	else
		needs_add(n, RCAP_JOIN_IPC, "the pod's IPC namespace");
}

void needs_origin_print(const struct needs *n, enum runtime_cap cap, struct strbuf *to)
{
	const struct needs_origin *o = &n->from[cap];

	if (!(n->bits & RCAP_BIT(cap)))
		return;
	strbuf_adds(to, o->where);
	if (o->index >= 0)
		strbuf_addf(to, "[%d]", o->index);
	strbuf_adds(to, o->rest);
}

void needs_print(const struct needs *n, uint64_t bits, struct strbuf *to)
{
	const char *sep = "";

	for (unsigned i = 0; i < RCAP_COUNT; i++) {
		if (!(bits & n->bits & RCAP_BIT(i)))
			continue;
		strbuf_addf(to, "%s%s (", sep, runtime_cap_text(i));
		needs_origin_print(n, i, to);
		strbuf_addc(to, ')');
		sep = ", ";
	}
}
