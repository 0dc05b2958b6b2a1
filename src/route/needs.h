/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container needs of its runtime, as the bits of runtime/caps.h, and where each need comes
 * from.  Pure: no system call, nothing is kept, nothing is allocated.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "runtime/caps.h"
#include "wire/json.h"

/* What an OCI configuration does not say. */
struct needs_facts {
	bool cgroup_v2;	     /* the host's version */
	bool cgroup_systemd; /* systemd makes the cgroups (--systemd-cgroup) */
	bool privileged;     /* CRI's privileged: the host's devices and all its capabilities */
	/* The profile is not the container's own wish, but what the node gives to all (RuntimeDefault):
	 * it protects the node's kernel, and needs not be had where no call goes to that. */
	bool seccomp_default, apparmor_default;
};

/* A pod, before any container of it is known: what each of them is going to need. */
struct needs_pod {
	bool userns;			       /* in a user namespace of its own */
	bool host_network, host_pid, host_ipc; /* the node's instead of its own */
	bool shared_pid; /* one PID namespace for all containers, or a container's */
};

/* Where a need comes from: "mounts", 3, ".options: rro" is "mounts[3].options: rro".  static */
struct needs_origin {
	const char *where;
	int index; /* -1: none */
	const char *rest;
};

struct needs {
	uint64_t bits;			      /* RCAP_BIT()s */
	struct needs_origin from[RCAP_COUNT]; /* of those; the first place that each was found */
};
#define NEEDS_NULL ((struct needs){0})

/*
 * Adds what a finished config.json needs.  `config` is the whole document; it may be anybody's: what
 * has another type than the specification wants counts as absent, because the runtime is who
 * refuses it, and no more than NEEDS_LOOK_MAX members of one list are looked at.
 */
#define NEEDS_LOOK_MAX 65536u
void needs_add_config(struct needs *n, const jv *config, const struct needs_facts *f);

/* Adds what every container of such a pod needs. */
void needs_add_pod(struct needs *n, const struct needs_pod *p, const struct needs_facts *f);

/* Adds one need by hand (a rule's, a command's); `where` is static. */
void needs_add(struct needs *n, enum runtime_cap cap, const char *where);

/* "mounts[3].options: rro" of a need, appended; nothing for one that is not needed. */
void needs_origin_print(const struct needs *n, enum runtime_cap cap, struct strbuf *to);
/* "user namespaces (linux.namespaces[5]), terminals (process.terminal)" for `bits`, appended. */
void needs_print(const struct needs *n, uint64_t bits, struct strbuf *to);
