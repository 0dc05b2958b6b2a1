/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of runtimes by name and version: for those that have no `features` (crun before 1.8.6,
 * gVisor), and for what such a document has no member for.  Versions are those of the projects' own
 * release notes and sources.
 */
#include <stdio.h>

#include "base/mem.h"
#include "runtime/caps.h"

#define V(a, b, c) ((a) << 20 | (b) << 10 | (c))
#define NEVER UINT32_MAX

struct known {
	enum runtime_cap cap;
	uint32_t since;	 /* V(); NEVER */
	const char *why; /* it has it never; NULL: by its version */
};

static const struct known crun[] = {
	{RCAP_IDMAPPED_MOUNTS, V(1, 9, 0), NULL}, /* before: only as the user namespace maps */
	{RCAP_RRO_MOUNTS, V(1, 4, 0), NULL},
	{RCAP_RECURSIVE_OPTIONS, V(1, 4, 0), NULL},
	{RCAP_TMPCOPYUP, V(0, 9, 0), NULL},
	{RCAP_SECCOMP_KILL_PROCESS, V(0, 15, 0), NULL},
	{RCAP_SECCOMP_KILL_THREAD, V(0, 15, 0), NULL},
	{RCAP_SECCOMP_LOG, V(0, 15, 0), NULL},
	{RCAP_SECCOMP_TRACE, V(0, 1, 0), NULL},
	{RCAP_SECCOMP_NOTIFY, V(0, 19, 0), NULL},
	{RCAP_SECCOMP_FLAGS, V(0, 15, 0), NULL},
	{RCAP_SECCOMP_WAIT_KILLABLE, V(1, 7, 0), NULL},
	{RCAP_UNIFIED, V(0, 15, 0), NULL},
	{RCAP_RDMA, NEVER, "crun sets no limits of RDMA"},
	{RCAP_PERSONALITY, V(0, 11, 0), NULL},
	{RCAP_NEW_TIME, V(1, 8, 4), NULL},
	{RCAP_SCHEDULER, V(1, 8, 5), NULL},
	{RCAP_IO_PRIORITY, V(1, 8, 6), NULL},
	{RCAP_CPU_AFFINITY, V(1, 19, 0), NULL},
	{RCAP_INTEL_RDT, V(1, 10, 0), NULL},
	{RCAP_MEMORY_POLICY, V(1, 24, 0), NULL},
	{RCAP_NET_DEVICES, V(1, 22, 0), NULL},
	{RCAP_HOOK_CREATE_RUNTIME, V(0, 12, 0), NULL},
	{RCAP_HOOK_CREATE_CONTAINER, V(0, 12, 0), NULL},
	{RCAP_HOOK_START_CONTAINER, V(0, 12, 0), NULL},
};

static const struct known runc[] = {
	{RCAP_IDMAPPED_MOUNTS, V(1, 2, 0), NULL},
	{RCAP_RRO_MOUNTS, V(1, 1, 0), NULL},
	{RCAP_RECURSIVE_OPTIONS, V(1, 1, 0), NULL},
	{RCAP_TMPCOPYUP, V(1, 0, 0), NULL},
	{RCAP_SECCOMP_KILL_PROCESS, V(1, 1, 0), NULL},
	{RCAP_SECCOMP_KILL_THREAD, V(1, 1, 0), NULL},
	{RCAP_SECCOMP_LOG, V(1, 0, 0), NULL},
	{RCAP_SECCOMP_TRACE, V(1, 0, 0), NULL},
	{RCAP_SECCOMP_NOTIFY, V(1, 1, 0), NULL},
	{RCAP_SECCOMP_FLAGS, V(1, 2, 0), NULL},
	{RCAP_SECCOMP_WAIT_KILLABLE, V(1, 5, 0), NULL},
	{RCAP_UNIFIED, V(1, 0, 0), NULL},
	{RCAP_RDMA, V(1, 1, 0), NULL},
	{RCAP_PERSONALITY, V(1, 2, 0), NULL},
	{RCAP_NEW_TIME, V(1, 2, 0), NULL},
	{RCAP_SCHEDULER, V(1, 2, 0), NULL},
	{RCAP_IO_PRIORITY, V(1, 2, 0), NULL},
	{RCAP_CPU_AFFINITY, V(1, 3, 0), NULL},
	{RCAP_INTEL_RDT, V(1, 0, 0), NULL},
	{RCAP_MEMORY_POLICY, V(1, 4, 0), NULL},
	{RCAP_NET_DEVICES, V(1, 4, 0), NULL},
};

#define OWN_KERNEL "gVisor's containers have a kernel of their own"
#define NOT_PASSED "gVisor passes it over"

static const struct known runsc[] = {
	{RCAP_SECCOMP_DEFAULT, 0, NULL},
	{RCAP_APPARMOR_DEFAULT, 0, NULL},
	{RCAP_HOST_NETWORK, NEVER, OWN_KERNEL " and network stack"},
	{RCAP_USERNS_HOST_NETWORK, NEVER, OWN_KERNEL " and network stack"},
	{RCAP_HOST_PID, NEVER, OWN_KERNEL ", which does not see the node's processes"},
	{RCAP_HOST_IPC, NEVER, OWN_KERNEL ", which does not see the node's IPC objects"},
	{RCAP_JOIN_OTHER, NEVER, OWN_KERNEL},
	{RCAP_NEW_TIME, NEVER, NOT_PASSED},
	{RCAP_IDMAPPED_MOUNTS, NEVER, NOT_PASSED},
	{RCAP_RRO_MOUNTS, NEVER, NOT_PASSED},
	{RCAP_RECURSIVE_OPTIONS, NEVER, NOT_PASSED},
	{RCAP_TMPCOPYUP, NEVER, NOT_PASSED},
	{RCAP_SHARED_MOUNTS, NEVER, OWN_KERNEL ": mounts in them are not the node's"},
	{RCAP_SECCOMP_NOTIFY, NEVER, "gVisor's own filters have no listener"},
	{RCAP_SECCOMP_FLAGS, NEVER, NOT_PASSED},
	{RCAP_SECCOMP_WAIT_KILLABLE, NEVER, NOT_PASSED},
	{RCAP_APPARMOR, NEVER, NOT_PASSED},
	{RCAP_SELINUX, NEVER, "gVisor refuses SELinux labels"},
	{RCAP_UNIFIED, NEVER, NOT_PASSED},
	{RCAP_RDMA, NEVER, NOT_PASSED},
	{RCAP_AMBIENT_CAPS, NEVER, NOT_PASSED},
	{RCAP_PERSONALITY, NEVER, NOT_PASSED},
	{RCAP_SCHEDULER, NEVER, NOT_PASSED},
	{RCAP_IO_PRIORITY, NEVER, NOT_PASSED},
	{RCAP_CPU_AFFINITY, NEVER, NOT_PASSED},
	{RCAP_INTEL_RDT, NEVER, NOT_PASSED},
	{RCAP_MEMORY_POLICY, NEVER, NOT_PASSED},
	{RCAP_DEVICES, NEVER, OWN_KERNEL ": the node's devices are not in it"},
	{RCAP_NET_DEVICES, NEVER, NOT_PASSED},
	{RCAP_PRIVILEGED, NEVER, OWN_KERNEL ": there are no privileges on the node in it"},
	{RCAP_HOOK_CREATE_CONTAINER, NEVER, "gVisor skips hooks inside of containers"},
	{RCAP_HOOK_START_CONTAINER, NEVER, "gVisor skips hooks inside of containers"},
	{RCAP_UPDATE, NEVER, "runsc has no command update"},
	{RCAP_CHECKPOINT, NEVER, "gVisor's checkpoints are of another kind than CRIU's"},
	{RCAP_RESTORE, NEVER, "gVisor's checkpoints are of another kind than CRIU's"},
};

#define NO_FILTERS "youki (0.7) starts containers without the filter, or fails to"

static const struct known youki[] = {
	{RCAP_SECCOMP_DEFAULT, NEVER, NO_FILTERS},
	{RCAP_SECCOMP, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_KILL_PROCESS, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_KILL_THREAD, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_LOG, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_TRACE, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_NOTIFY, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_FLAGS, NEVER, NO_FILTERS},
	{RCAP_SECCOMP_WAIT_KILLABLE, NEVER, NO_FILTERS},
	/* The probe's container has none of the mounts that pods' have. */
	{RCAP_USERNS, NEVER, "youki (0.7) cannot make the mounts of a pod's container (EACCES)"},
	{RCAP_USERNS_HOST_NETWORK, NEVER,
	 "youki (0.7) cannot make the mounts of a pod's container (EACCES)"},
	{RCAP_CHECKPOINT, NEVER, "youki (0.7) restores no checkpoints"},
	{RCAP_RESTORE, NEVER, "youki (0.7) restores no checkpoints"},
};

static const struct program {
	const char *name;
	const struct known *v;
	size_t n;
} programs[] = {
	{"crun", crun, ARRAY_SIZE(crun)},
	{"runc", runc, ARRAY_SIZE(runc)},
	{"runsc", runsc, ARRAY_SIZE(runsc)},
	{"youki", youki, ARRAY_SIZE(youki)},
};

/* What the command line, and runtime-spec 1.0 for Linux, want of every runtime. */
static const enum runtime_cap ordinary[] = {
	RCAP_NEW_NETWORK,
	RCAP_NEW_PID,
	RCAP_NEW_IPC,
	RCAP_NEW_UTS,
	RCAP_NEW_CGROUP,
	RCAP_JOIN_NETWORK,
	RCAP_JOIN_PID,
	RCAP_JOIN_IPC,
	RCAP_JOIN_UTS,
	RCAP_JOIN_USER,
	RCAP_JOIN_OTHER,
	RCAP_HOST_NETWORK,
	RCAP_HOST_PID,
	RCAP_HOST_IPC,
	RCAP_USERNS,
	RCAP_USERNS_HOST_NETWORK,
	RCAP_SHARED_MOUNTS,
	RCAP_SECCOMP_DEFAULT,
	RCAP_SECCOMP,
	RCAP_CGROUP_V1,
	RCAP_CGROUP_V2,
	RCAP_CGROUP_SYSTEMD,
	RCAP_APPARMOR_DEFAULT,
	RCAP_APPARMOR,
	RCAP_SELINUX,
	RCAP_TERMINAL,
	RCAP_AMBIENT_CAPS,
	RCAP_DEVICES,
	RCAP_PRIVILEGED,
	RCAP_HOOK_PRESTART,
	RCAP_HOOK_CREATE_RUNTIME,
	RCAP_HOOK_CREATE_CONTAINER,
	RCAP_HOOK_START_CONTAINER,
	RCAP_HOOK_POSTSTART,
	RCAP_HOOK_POSTSTOP,
	RCAP_EXEC,
	RCAP_PAUSE,
	RCAP_UPDATE,
	RCAP_CHECKPOINT,
	RCAP_RESTORE,
};

void runtime_identify(const char *version_text, struct runtime_identity *ret)
{
	const char *line = version_text, *v = strstr(line, " version");
	size_t n = strcspn(line, "\n");

	*ret = (struct runtime_identity){0};
	if (!v || (size_t)(v - line) >= n)
		return;
	snprintf(ret->program, sizeof(ret->program), "%.*s", (int)MIN(v - line, 31), line);
	v += strlen(" version");
	v += strspn(v, ": "); /* "youki version: 0.7.0" */
	snprintf(ret->version, sizeof(ret->version), "%.*s", (int)MIN(strcspn(v, " \n"), 63u), v);
	/* No more than three digits each: a date ("release-20250203") is not one of these. */
	ret->knows_number = sscanf(ret->version, "%3u.%3u.%3u", &ret->number[0], &ret->number[1],
				   &ret->number[2]) >= 2;
	for (size_t i = 0; i < ARRAY_SIZE(ret->number); i++)
		ret->knows_number = ret->knows_number && ret->number[i] < 1000; /* "-1" */
}

static uint64_t take(const struct program *p, const struct runtime_identity *id,
		     struct runtime_caps *c)
{
	uint32_t have = V(id->number[0], id->number[1], id->number[2]);
	uint64_t sure = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct known *k = &p->v[i];

		if (k->since == NEVER)
			runtime_caps_lack(c, RCAP_BIT(k->cap), "%s", k->why);
		else if (!k->since || (id->knows_number && have >= k->since))
			runtime_caps_grant(c, k->cap);
		else
			runtime_caps_lack(c, RCAP_BIT(k->cap),
					  "%s has it since %u.%u.%u, this one is %s", p->name,
					  k->since >> 20, k->since >> 10 & 1023, k->since & 1023,
					  *id->version ? id->version : "of no known version");
		sure |= RCAP_BIT(k->cap);
	}
	return sure;
}

/* crun's `--version` ends with "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU +YAJL".  CRIU is
 * not looked at: runtime_checkpoint_check() asks for the command itself. */
static uint64_t take_build(const char *version_text, struct runtime_caps *c)
{
	static const struct {
		const char *flag;
		uint64_t bits;
	} flags[] = {
		{"+SYSTEMD", RCAP_BIT(RCAP_CGROUP_SYSTEMD)},
		{"+SELINUX", RCAP_BIT(RCAP_SELINUX)},
		{"+APPARMOR", RCAP_BIT(RCAP_APPARMOR) | RCAP_BIT(RCAP_APPARMOR_DEFAULT)},
		{"+SECCOMP", RCAP_SECCOMP_BITS},
	};
	uint64_t sure = 0;

	if (!strstr(version_text, "\n+") && !strstr(version_text, " +"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (!strstr(version_text, flags[i].flag)) {
			runtime_caps_lack(c, flags[i].bits, "this crun is built without %s",
					  flags[i].flag + 1);
			sure |= flags[i].bits;
		}
	return sure;
}

static bool has_arg(const char *const *args, const char *a)
{
	for (; args && *args; args++)
		if (streq(*args + (**args == '-' && (*args)[1] == '-'), a)) /* -a, --a */
			return true;
	return false;
}

/* Of gVisor's: by its flags. */
static uint64_t take_gvisor(const char *const *args, struct runtime_caps *c)
{
	const uint64_t filters = RCAP_SECCOMP_BITS & ~RCAP_BIT(RCAP_SECCOMP_DEFAULT);
	static const enum runtime_cap can[] = {RCAP_SECCOMP, RCAP_SECCOMP_KILL_PROCESS,
					       RCAP_SECCOMP_KILL_THREAD, RCAP_SECCOMP_TRACE};

	if (has_arg(args, "-oci-seccomp") || has_arg(args, "-oci-seccomp=true"))
		for (size_t i = 0; i < ARRAY_SIZE(can); i++)
			runtime_caps_grant(c, can[i]);
	runtime_caps_lack(c, filters & ~c->has,
			  "gVisor applies such filters only with --oci-seccomp");
	return filters;
}

uint64_t runtime_caps_known(const char *version_text, const char *const *args,
			    struct runtime_caps *c)
{
	struct runtime_identity id;
	uint64_t sure = 0;

	runtime_identify(version_text, &id);
	for (size_t i = 0; i < ARRAY_SIZE(ordinary); i++)
		runtime_caps_grant(c, ordinary[i]);
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (streq(id.program, programs[i].name))
			sure |= take(&programs[i], &id, c);
	if (streq(id.program, "crun"))
		sure |= take_build(version_text, c);
	if (streq(id.program, "runsc")) {
		runtime_caps_lack(c, RCAP_BIT(RCAP_SECCOMP),
				  "gVisor applies such filters only with --oci-seccomp");
		sure |= take_gvisor(args, c);
	}
	return sure;
}
