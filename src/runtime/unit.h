/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of runtimes whose unit is the pod, about containers that have no process of their
 * own on the host: `wait` and `kill`, as gVisor's runsc has them (docs/runtimes.md).  Blocking: for
 * jobs of the monitor.
 */
#pragma once

#include "runtime/runtime.h"

/* Annotations of the convention: CRI's of containerd, which CRI-O, Kata and gVisor have too. */
#define UNIT_TYPE "io.kubernetes.cri.container-type"
#define UNIT_SANDBOX_ID "io.kubernetes.cri.sandbox-id"

/* Waits for the container's end; its exit code, 0 to 255.  Also once it has ended, as often as it is
 * asked.  Fails where the runtime does not know. */
int runtime_wait(const struct runtime *rt, const char *id, uint64_t timeout_us, int *ret_code,
		 struct err *e);
/* The status that `state` tells: "created", "running", "stopped"; owned. */
int runtime_status(const struct runtime *rt, const char *id, char **ret, struct err *e);
/* Sends a signal: to the container's first process, with SIGKILL to all of them; or where `pid` is not 0
 * to that process, whose number `exec --internal-pid-file` gave.  `log` as runtime_call(). */
int runtime_kill(const struct runtime *rt, const char *id, int sig, int64_t pid, const char *log,
		 struct err *e);
/* Whether it can run a sandbox and a container in it on this host; `t` is the container's. */
int runtime_try_pod(const struct runtime *rt, const struct runtime_trial *t, struct err *e);
