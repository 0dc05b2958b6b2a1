/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of a pod's monitor: finding it, starting it, asking it, and taking over
 * what it says.  Private to pod/.
 */
#pragma once

#include "ipc/monitor.h"
#include "pod/pod.h"

/* <state>/pods/ID; owned */
char *pod_dir(const struct pod *p);

/* Starts the monitor of a new pod; its directory is made. */
int pod_monitor_start(struct pod *p, struct err *e);
/* Connects to the monitor that runs, or starts one that recovers; takes its state over. */
int pod_monitor_find(struct pod *p, struct err *e);
#define POD_CALLS_MAX 256 /* requests of one pod that its monitor has not answered */
#define POD_EXECS_MAX 64  /* no command is run beside so many: each may have 32 MiB of output */
#define POD_ENDS_MAX 64	  /* beyond the former, for such that end or remove something */

/* A request to the pod's monitor, which is found or recovered where the connection is gone.
 * Finishes `o`. As ipc_call(); RESOURCE_EXHAUSTED above POD_CALLS_MAX. */
int pod_monitor_call(struct pod *p, struct ipc_out *o, struct ipc_in *ret, struct err *e);
/* The same for commands in a container; they leave room for everything else. */
int pod_monitor_exec(struct pod *p, struct ipc_out *o, struct ipc_in *ret, struct err *e);
/* The same for requests that end or remove something: others do not keep them out. */
int pod_monitor_end(struct pod *p, struct ipc_out *o, struct ipc_in *ret, struct err *e);
/* Says goodbye: no notice is taken of the monitor's end. */
void pod_monitor_forget(struct pod *p);
/* Forgets the monitors that this daemon started; for its end. */
void pod_monitor_drop_children(struct node *n);
