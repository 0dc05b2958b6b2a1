/* SPDX-License-Identifier: Apache-2.0 */
/* `features` documents: see caps.h; runtime-spec, features.md and features-linux.md. */
#include <stdio.h>

#include "base/mem.h"
#include "runtime/caps.h"

struct reading {
	const jv *doc;
	uint64_t sure;
	struct runtime_caps *c;
};

/* The names of a list that stand for a capability each. */
struct listed {
	const char *name;
	enum runtime_cap cap;
};

static bool lists(const jv *list, const char *name)
{
	for (size_t i = 0; i < jv_len(list); i++) {
		const char *s = jv_as_string(jv_at(list, i));

		if (s && streq(s, name))
			return true;
	}
	return false;
}

static void take_list(const struct reading *r, const char *member, const struct listed *v, size_t n)
{
	const jv *list = jv_get(r->doc, member);

	if (!jv_is_array(list))
		return;
	for (size_t i = 0; i < n; i++)
		if (lists(list, v[i].name))
			runtime_caps_grant(r->c, v[i].cap);
		else if (!(r->sure & RCAP_BIT(v[i].cap)))
			runtime_caps_lack(r->c, RCAP_BIT(v[i].cap),
					  "its features list no \"%s\" in %s", v[i].name, member);
}

/* "enabled" of an object: `bits` go with false, `cap` comes with true. */
static void take_enabled(const struct reading *r, const char *member, enum runtime_cap cap,
			 uint64_t bits)
{
	const jv *v = jv_get(r->doc, member);

	if (!v)
		return;
	if (jv_as_bool(v))
		runtime_caps_grant(r->c, cap);
	else
		runtime_caps_lack(r->c, bits, "its features say %s: false", member);
}

static void take_namespaces(const struct reading *r)
{
	static const struct listed own[] = {
		{"network", RCAP_NEW_NETWORK}, {"pid", RCAP_NEW_PID},	    {"ipc", RCAP_NEW_IPC},
		{"uts", RCAP_NEW_UTS},	       {"cgroup", RCAP_NEW_CGROUP}, {"time", RCAP_NEW_TIME},
		{"user", RCAP_USERNS},
	};
	static const struct listed joined[] = {
		{"network", RCAP_JOIN_NETWORK}, {"pid", RCAP_JOIN_PID},	  {"ipc", RCAP_JOIN_IPC},
		{"uts", RCAP_JOIN_UTS},		{"user", RCAP_JOIN_USER},
	};
	bool unfit = r->sure & ~r->c->has & RCAP_BIT(RCAP_USERNS);
	_cleanup_free_ char *why = xstrdup(runtime_caps_why(r->c, RCAP_USERNS));

	take_list(r, "linux.namespaces", own, ARRAY_SIZE(own));
	if (unfit) /* it has such namespaces, and is known to fail in them */
		runtime_caps_lack(r->c, RCAP_BIT(RCAP_USERNS), "%s", why);
	take_list(r, "linux.namespaces", joined, ARRAY_SIZE(joined));
	if (!(r->c->has & RCAP_BIT(RCAP_USERNS)))
		runtime_caps_lack(r->c, RCAP_BIT(RCAP_USERNS_HOST_NETWORK), "%s",
				  runtime_caps_why(r->c, RCAP_USERNS));
}

static void take_mounts(const struct reading *r)
{
	static const struct listed options[] = {
		{"rro", RCAP_RRO_MOUNTS},
		{"rnosuid", RCAP_RECURSIVE_OPTIONS},
		{"tmpcopyup", RCAP_TMPCOPYUP},
	};

	take_list(r, "mountOptions", options, ARRAY_SIZE(options));
	take_enabled(r, "linux.mountExtensions.idmap.enabled", RCAP_IDMAPPED_MOUNTS,
		     RCAP_BIT(RCAP_IDMAPPED_MOUNTS));
}

static void take_seccomp(const struct reading *r)
{
	static const struct listed actions[] = {
		{"SCMP_ACT_KILL_PROCESS", RCAP_SECCOMP_KILL_PROCESS},
		{"SCMP_ACT_KILL_THREAD", RCAP_SECCOMP_KILL_THREAD},
		{"SCMP_ACT_TRACE", RCAP_SECCOMP_TRACE},
		{"SCMP_ACT_LOG", RCAP_SECCOMP_LOG},
		{"SCMP_ACT_NOTIFY", RCAP_SECCOMP_NOTIFY},
	};
	static const struct listed flags[] = {
		{"SECCOMP_FILTER_FLAG_LOG", RCAP_SECCOMP_FLAGS},
		{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", RCAP_SECCOMP_WAIT_KILLABLE},
	};
	const char *known = "linux.seccomp.knownFlags", *supported = "linux.seccomp.supportedFlags";

	take_list(r, "linux.seccomp.actions", actions, ARRAY_SIZE(actions));
	take_list(r, jv_get(r->doc, supported) ? supported : known, flags, ARRAY_SIZE(flags));
	take_enabled(r, "linux.seccomp.enabled", RCAP_SECCOMP, RCAP_SECCOMP_BITS);
}

static void take_rest(const struct reading *r)
{
	static const struct listed hooks[] = {
		{"prestart", RCAP_HOOK_PRESTART},
		{"createRuntime", RCAP_HOOK_CREATE_RUNTIME},
		{"createContainer", RCAP_HOOK_CREATE_CONTAINER},
		{"startContainer", RCAP_HOOK_START_CONTAINER},
		{"poststart", RCAP_HOOK_POSTSTART},
		{"poststop", RCAP_HOOK_POSTSTOP},
	};
	static const struct {
		const char *member;
		enum runtime_cap cap;
		uint64_t also;
	} enabled[] = {
		{"linux.cgroup.v1", RCAP_CGROUP_V1, 0},
		{"linux.cgroup.v2", RCAP_CGROUP_V2, RCAP_BIT(RCAP_UNIFIED)},
		{"linux.cgroup.systemd", RCAP_CGROUP_SYSTEMD, 0},
		{"linux.cgroup.rdma", RCAP_RDMA, 0},
		{"linux.apparmor.enabled", RCAP_APPARMOR, RCAP_BIT(RCAP_APPARMOR_DEFAULT)},
		{"linux.selinux.enabled", RCAP_SELINUX, 0},
		{"linux.intelRdt.enabled", RCAP_INTEL_RDT, 0},
		{"linux.netDevices.enabled", RCAP_NET_DEVICES, 0},
	};

	take_list(r, "hooks", hooks, ARRAY_SIZE(hooks));
	for (size_t i = 0; i < ARRAY_SIZE(enabled); i++)
		take_enabled(r, enabled[i].member, enabled[i].cap,
			     RCAP_BIT(enabled[i].cap) | enabled[i].also);
	if (jv_len(jv_get(r->doc, "linux.memoryPolicy.modes")) > 0)
		runtime_caps_grant(r->c, RCAP_MEMORY_POLICY);
}

/* What came with a version of the specification, for programs that nothing is known of. */
static void take_version(const struct reading *r)
{
	static const struct {
		unsigned since[3];
		enum runtime_cap cap;
	} versions[] = {
		{{1, 0, 2}, RCAP_PERSONALITY},	{{1, 1, 0}, RCAP_UNIFIED},
		{{1, 1, 0}, RCAP_SCHEDULER},	{{1, 1, 0}, RCAP_IO_PRIORITY},
		{{1, 2, 1}, RCAP_CPU_AFFINITY},
	};
	const char *max = jv_string(r->doc, "ociVersionMax", "");
	unsigned v[3] = {0};

	if (sscanf(max, "%3u.%3u.%3u", &v[0], &v[1], &v[2]) != 3)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		const unsigned *s = versions[i].since;
		bool older = v[0] != s[0] ? v[0] < s[0] : v[1] != s[1] ? v[1] < s[1] : v[2] < s[2];

		if (r->sure & RCAP_BIT(versions[i].cap))
			continue;
		if (older)
			runtime_caps_lack(
				r->c, RCAP_BIT(versions[i].cap),
				"it follows version %.32s of the specification, which has "
				"none",
				max);
		else
			runtime_caps_grant(r->c, versions[i].cap);
	}
}

/* Not in the specification: runc's annotation, which crun has too. */
static void take_annotations(const struct reading *r)
{
	static const char key[] = "org.opencontainers.runc.checkpoint.enabled";
	const uint64_t both = RCAP_BIT(RCAP_CHECKPOINT) | RCAP_BIT(RCAP_RESTORE);
	const jv *all = jv_get(r->doc, "annotations");
	struct jv_iter it = JV_ITER_INIT;

	while (jv_next(all, &it))
		if (streq(it.key, key) && streq(str_or_empty(jv_as_string(it.value)), "false"))
			runtime_caps_lack(r->c, both, "its features say %s: false", key);
}

int runtime_caps_features(const char *text, size_t n, uint64_t sure, struct runtime_caps *c,
			  struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	struct reading r = {.sure = sure, .c = c};
	int e2 = jv_parse(text, n, RUNTIME_FEATURES_MAX, "features", &doc, e);

	if (e2 < 0)
		return e2;
	if (!*jv_string(doc, "ociVersionMin", "") || !*jv_string(doc, "ociVersionMax", ""))
		return err_invalid(e, "features: no ociVersionMin and ociVersionMax");
	r.doc = doc;
	take_namespaces(&r);
	take_mounts(&r);
	take_seccomp(&r);
	take_rest(&r);
	take_version(&r);
	take_annotations(&r);
	return 0;
}
