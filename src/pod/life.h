/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life cycle of pods and containers.  Coroutine functions; each takes the object's lock,
 * asks the pod's monitor, and records the outcome.  A request that is cancelled half-way is
 * undone before the function returns its error.
 *
 * The configuration has been validated (cri/validate.h); what can only be decided with the
 * image or the node is decided here, before anything is made.
 */
#pragma once

#include "pod/pod.h"

/* RunPodSandbox. `handler` "" is the default. On success `ret_id` is the new pod's. */
int life_run_pod(struct node *n, const Runtime__V1__PodSandboxConfig *config, const char *handler,
		 char ret_id[ID_SIZE], struct err *e);
/* Kills its containers, takes its network down. Idempotent. */
int life_stop_pod(struct pod *p, struct err *e);
/* Stops it where needed and removes it with all its containers. Idempotent. */
int life_remove_pod(struct pod *p, struct err *e);

/* Keeps what the pod may use in all from now on; its cgroup is set by whoever asked for it.  Both may
 * be NULL. FAILED_PRECONDITION where it is not ready. */
int life_update_pod(struct pod *p, const Runtime__V1__LinuxContainerResources *overhead,
		    const Runtime__V1__LinuxContainerResources *resources, struct err *e);

int life_create_container(struct pod *p, const Runtime__V1__ContainerConfig *config,
			  char ret_id[ID_SIZE], struct err *e);
int life_start_container(struct container *c, struct err *e);
/* Its stop signal, SIGKILL after `timeout_s` seconds. A second call with a shorter timeout
 * shortens the first. Returns when it is dead. Idempotent. */
int life_stop_container(struct container *c, int64_t timeout_s, struct err *e);
/* Kills it where it runs. Idempotent. */
int life_remove_container(struct container *c, struct err *e);
/* The same for one that a past daemon left half-made or half-removed (state REMOVING). */
int life_tear_down_container(struct container *c, struct err *e);

struct life_exec_result {
	int32_t exit_code;
	uint8_t *out, *err; /* arena */
	size_t out_len, err_len;
};
/* Runs `cmd` in the container; 0 seconds: no timeout. DEADLINE_EXCEEDED at the timeout. */
int life_exec_sync(struct container *c, char *const *cmd, size_t n_cmd, uint64_t timeout_s,
		   struct arena *a, struct life_exec_result *ret, struct err *e);
/*
 * Streaming sessions (pod/stream.h): in `ret` are the descriptors that STREAM_START and STREAM_CONNECT
 * answer.  FAILED_PRECONDITION by the same rules as the functions below; UNAVAILABLE where nobody
 * listens on the port.
 */
struct ipc_in;
struct stream_offer;
int life_exec_stream(struct container *c, const struct stream_offer *o, struct ipc_in *ret,
		     struct err *e);
int life_attach(struct container *c, const struct stream_offer *o, struct ipc_in *ret,
		struct err *e);
int life_connect(struct pod *p, uint16_t port, struct ipc_in *ret, struct err *e);
/* FAILED_PRECONDITION where it does not run; is neither created nor runs; is not ready. Attaching
 * to streams that the container has not is INVALID_ARGUMENT. */
int life_need_running(const struct container *c, struct err *e);
int life_need_attachable(const struct container *c, bool in, bool tty, struct err *e);
int life_need_ready(const struct pod *p, struct err *e);
int life_reopen_log(struct container *c, struct err *e);
/* Writes an archive of the running container to `location`, a path; it runs on.  timeout_s 0: that of a
 * runtime's call.  UNIMPLEMENTED with what is in the way, where it is not possible here. */
int life_checkpoint(struct container *c, const char *location, uint64_t timeout_s, struct err *e);
int life_update_container(struct container *c, const Runtime__V1__LinuxContainerResources *r,
			  struct err *e);

/* MON_REMOVE with all that is needed where the monitor's records are gone. Private to pod/. */
struct ipc_out;
void life_remove_request(const struct container *c, struct ipc_out *ret);

/* process.json of a command that gets what the container's own process has. Private to pod/. */
struct spec_terminal;
int life_print_process(struct container *c, char *const *cmd, size_t n,
		       const struct spec_terminal *tty, struct strbuf *to, struct err *e);

/* What follows from a container's configuration: the path of its log. */
void life_container_derive(struct container *c);
/* What follows from a pod's configuration and the node: its cgroups. */
int life_pod_derive(struct pod *p, struct err *e);

/* Created, running or exited: what lists and statuses show. */
bool life_container_listed(const struct container *c);
/* False once it has been removed, with its pod perhaps. */
bool life_container_linked(const struct container *c);
/* Its process and cgroup, where the monitor's reply has them. Private to pod/. */
struct ipc_in;
void life_take_process(struct container *c, const struct ipc_in *in);
