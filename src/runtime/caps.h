/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runtime can do on this host, as a set, with the reason for whatever is not in it.
 *
 * The same bits say what a container needs (route/needs.h); a runtime is fit for a container when
 * none of the container's is missing.  What stands in a set comes from the runtime's own `features`
 * document (runtime-spec, features.md), or from what is known of its version where it has none
 *, less what this host and the trial with a container take away.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "wire/json.h"

/* X(member, name for machines and configurations, words for people) */
#define RUNTIME_CAPS_LIST(X)                                                                        \
	/* containers in user namespaces; such in the node's network */                             \
	X(USERNS, "user-namespaces", "user namespaces")                                             \
	X(USERNS_HOST_NETWORK, "user-namespaces-host-network",                                      \
	  "user namespaces in the node's network")                                                  \
	/* a namespace of the container's own */                                                    \
	X(NEW_NETWORK, "new-network", "a network namespace of its own")                             \
	X(NEW_PID, "new-pid", "a PID namespace of its own")                                         \
	X(NEW_IPC, "new-ipc", "an IPC namespace of its own")                                        \
	X(NEW_UTS, "new-uts", "a UTS namespace of its own")                                         \
	X(NEW_CGROUP, "new-cgroup", "a cgroup namespace of its own")                                \
	X(NEW_TIME, "new-time", "a time namespace of its own")                                      \
	/* one that is there, given by its path */                                                  \
	X(JOIN_NETWORK, "join-network", "joining a network namespace")                              \
	X(JOIN_PID, "join-pid", "joining a PID namespace")                                          \
	X(JOIN_IPC, "join-ipc", "joining an IPC namespace")                                         \
	X(JOIN_UTS, "join-uts", "joining a UTS namespace")                                          \
	X(JOIN_USER, "join-user", "joining a user namespace")                                       \
	X(JOIN_OTHER, "join-other", "joining a mount, cgroup or time namespace")                    \
	/* the host's */                                                                            \
	X(HOST_NETWORK, "host-network", "the node's network")                                       \
	X(HOST_PID, "host-pid", "the node's PID namespace")                                         \
	X(HOST_IPC, "host-ipc", "the node's IPC namespace")                                         \
	/* mounts */                                                                                \
	X(IDMAPPED_MOUNTS, "idmapped-mounts", "idmapped mounts")                                    \
	X(RRO_MOUNTS, "recursive-read-only-mounts", "recursive read-only mounts")                   \
	X(RECURSIVE_OPTIONS, "recursive-mount-options", "recursive mount options")                  \
	X(TMPCOPYUP, "tmpcopyup", "tmpfs mounts with a copy of what they cover")                    \
	X(SHARED_MOUNTS, "shared-mounts", "mounts that propagate to the node")                      \
	/* seccomp: the node's own profile, which a runtime that hands no system call to the node's
	 * kernel needs not have; any, with the plain actions (allow, errno, kill, trap); each of the
	 * others */ \
	X(SECCOMP_DEFAULT, "seccomp-default", "the node's seccomp profile")                         \
	X(SECCOMP, "seccomp", "seccomp filters")                                                    \
	X(SECCOMP_KILL_PROCESS, "seccomp-kill-process", "the seccomp action KILL_PROCESS")          \
	X(SECCOMP_KILL_THREAD, "seccomp-kill-thread", "the seccomp action KILL_THREAD")             \
	X(SECCOMP_TRACE, "seccomp-trace", "the seccomp action TRACE")                               \
	X(SECCOMP_LOG, "seccomp-log", "the seccomp action LOG")                                     \
	X(SECCOMP_NOTIFY, "seccomp-notify", "the seccomp action NOTIFY")                            \
	X(SECCOMP_FLAGS, "seccomp-flags", "flags of seccomp filters")                               \
	X(SECCOMP_WAIT_KILLABLE, "seccomp-wait-killable", "the seccomp flag WAIT_KILLABLE_RECV")    \
	/* cgroups */                                                                               \
	X(CGROUP_V1, "cgroup-v1", "cgroup v1")                                                      \
	X(CGROUP_V2, "cgroup-v2", "cgroup v2")                                                      \
	X(CGROUP_SYSTEMD, "cgroup-systemd", "cgroups made by systemd")                              \
	X(UNIFIED, "cgroup-unified", "cgroup v2 settings by their files' names")                    \
	X(RDMA, "cgroup-rdma", "limits of RDMA")                                                    \
	/* security modules; the node's own profile as with seccomp */                              \
	X(APPARMOR_DEFAULT, "apparmor-default", "the node's AppArmor profile")                      \
	X(APPARMOR, "apparmor", "AppArmor")                                                         \
	X(SELINUX, "selinux", "SELinux")                                                            \
	/* the process */                                                                           \
	X(TERMINAL, "terminal", "terminals")                                                        \
	X(AMBIENT_CAPS, "ambient-capabilities", "ambient capabilities")                             \
	X(PERSONALITY, "personality", "execution domains")                                          \
	X(SCHEDULER, "scheduler", "scheduling policies")                                            \
	X(IO_PRIORITY, "io-priority", "I/O priorities")                                             \
	X(CPU_AFFINITY, "exec-cpu-affinity", "the CPU affinity of commands")                        \
	X(INTEL_RDT, "intel-rdt", "Intel RDT")                                                      \
	X(MEMORY_POLICY, "memory-policy", "NUMA memory policies")                                   \
	/* the host's devices */                                                                    \
	X(DEVICES, "devices", "devices of the node")                                                \
	X(NET_DEVICES, "net-devices", "network devices of the node")                                \
	X(PRIVILEGED, "privileged", "privileged containers")                                        \
	/* hooks */                                                                                 \
	X(HOOK_PRESTART, "hook-prestart", "prestart hooks")                                         \
	X(HOOK_CREATE_RUNTIME, "hook-create-runtime", "createRuntime hooks")                        \
	X(HOOK_CREATE_CONTAINER, "hook-create-container", "createContainer hooks")                  \
	X(HOOK_START_CONTAINER, "hook-start-container", "startContainer hooks")                     \
	X(HOOK_POSTSTART, "hook-poststart", "poststart hooks")                                      \
	X(HOOK_POSTSTOP, "hook-poststop", "poststop hooks")                                         \
	/* what can be done with the container later */                                             \
	X(EXEC, "exec", "commands in running containers")                                           \
	X(PAUSE, "pause", "pausing")                                                                \
	X(UPDATE, "update", "updates of resources")                                                 \
	X(CHECKPOINT, "checkpoint", "checkpoints")                                                  \
	X(RESTORE, "restore", "restoring of checkpoints")

enum runtime_cap {
#define RUNTIME_CAPS_MEMBER(id, name, text) RCAP_##id,
	RUNTIME_CAPS_LIST(RUNTIME_CAPS_MEMBER)
#undef RUNTIME_CAPS_MEMBER
		RCAP_COUNT
};
_Static_assert(RCAP_COUNT <= 64, "capabilities are bits of a uint64_t");

#define RCAP_BIT(cap) (UINT64_C(1) << (cap))
#define RCAP_ALL (RCAP_COUNT == 64 ? UINT64_MAX : RCAP_BIT(RCAP_COUNT % 64) - 1)

/* All that is about seccomp. */
#define RCAP_SECCOMP_BITS                                                                          \
	(RCAP_BIT(RCAP_SECCOMP_DEFAULT) | RCAP_BIT(RCAP_SECCOMP) |                                 \
	 RCAP_BIT(RCAP_SECCOMP_KILL_PROCESS) | RCAP_BIT(RCAP_SECCOMP_KILL_THREAD) |                \
	 RCAP_BIT(RCAP_SECCOMP_TRACE) | RCAP_BIT(RCAP_SECCOMP_LOG) |                               \
	 RCAP_BIT(RCAP_SECCOMP_NOTIFY) | RCAP_BIT(RCAP_SECCOMP_FLAGS) |                            \
	 RCAP_BIT(RCAP_SECCOMP_WAIT_KILLABLE))

/* "user-namespaces", "user namespaces"; static. */
const char *runtime_cap_name(enum runtime_cap cap);
const char *runtime_cap_text(enum runtime_cap cap);
/* The one of that name; false where there is none. */
bool runtime_cap_find(const char *name, enum runtime_cap *ret);

/* Why one is missing; longer ones are cut. */
#define RUNTIME_WHY_MAX 512

struct runtime_caps {
	uint64_t has;	       /* RCAP_BIT()s */
	char *why[RCAP_COUNT]; /* of those that are missing; owned, NULL: nothing is known */
};
#define RUNTIME_CAPS_NULL ((struct runtime_caps){0})

void runtime_caps_fini(struct runtime_caps *c);
#define _cleanup_runtime_caps_ __attribute__((cleanup(runtime_caps_fini)))

/* It has that (the reason why not is dropped); those (bits) it lacks, for this reason, where it had
 * them or no reason is known yet. */
void runtime_caps_grant(struct runtime_caps *c, enum runtime_cap cap);
void runtime_caps_lack(struct runtime_caps *c, uint64_t bits, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Why it lacks that; "" where it has it.  borrowed */
const char *runtime_caps_why(const struct runtime_caps *c, enum runtime_cap cap);
/* Those of `needs` that it lacks, as bits. */
static inline uint64_t runtime_caps_missing(const struct runtime_caps *c, uint64_t needs)
{
	return needs & ~c->has;
}
/* "user namespaces: REASON; terminals: REASON" for `missing`, appended. */
void runtime_caps_explain(const struct runtime_caps *c, uint64_t missing, struct strbuf *to);
/* "user namespaces, terminals" for `bits`, appended. */
void runtime_caps_list(uint64_t bits, struct strbuf *to);

/* How a runtime names itself: "crun", and 1.8.1 as numbers; of what `--version` prints. */
struct runtime_identity {
	char program[32]; /* "" where the text has no "NAME version ..." */
	char version[64]; /* as printed */
	unsigned number[3];
	bool knows_number;
};
void runtime_identify(const char *version_text, struct runtime_identity *ret);

/*
 * What any program with the OCI runtime command line is taken for, and what is known of this one by
 * its name, version, build flags ("+SECCOMP") and arguments.  Returns the bits that are known for
 * sure, to be had or not: lists of `features` that leave them out change nothing.  `c` is empty before.
 */
uint64_t runtime_caps_known(const char *version_text, const char *const *args,
			    struct runtime_caps *c);

#define RUNTIME_FEATURES_MAX (256u << 10) /* bytes of such a document */
/*
 * What a `features` document says, over what `c` has.  Members that are absent or null say nothing
 * (features.md); a list that leaves a thing out takes it away, where it is not in `sure`; "enabled":
 * false always does.  INVALID_ARGUMENT for what is no such document, `c` is as before then.
 */
int runtime_caps_features(const char *text, size_t n, uint64_t sure, struct runtime_caps *c,
			  struct err *e);

/* What a kernel and its security modules have of what capabilities stand on. */
struct runtime_host {
	bool seccomp, apparmor, selinux, resctrl, timens;
	bool userns;	    /* there are any, and more than none may be made */
	bool mount_setattr; /* Linux 5.12 */
	bool cgroup_v2, cgroup_systemd;
	char seccomp_actions[256]; /* "kill_process kill_thread ...", "": not known */
	char release[128];	   /* of the kernel, and its build */
};
/* Takes away what this host has not. */
void runtime_caps_host(const struct runtime_host *h, struct runtime_caps *c);
/* Looks at the host that it runs on: reads a few files of /proc and /sys. cgroup_* are the caller's. */
void runtime_host_look(struct runtime_host *ret);

/*
 * As JSON: {"has":["terminal",...],"lacks":{"user-namespaces":"REASON",...}}, the value appended; and
 * read again, `ret` filled on success only.  Names that are not known are passed over: another
 * version wrote them.  INVALID_ARGUMENT.
 */
void runtime_caps_print(const struct runtime_caps *c, struct jw *w);
int runtime_caps_read(const jv *v, struct runtime_caps *ret, struct err *e);
