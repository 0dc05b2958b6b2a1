/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox container of a pod, where the runtime that it is bound to sandboxes whole pods
 * (`unit: pod`; docs/decisions/0018).  It has the pod's id, no image and no place in any list; the
 * pod's monitor keeps it, and takes it away with the pod.  With the pod's lock or place_lock held.
 */
#pragma once

#include "pod/pod.h"

/* Whether that runtime wants one. */
bool pod_sandbox_wanted(const struct node_runtime *rt);

/*
 * Makes and starts it; nothing where the runtime wants none.  The pod has been set up.  Undone on
 * failure.  FAILED_PRECONDITION for a pod that is in one of the node's namespaces.
 */
int pod_sandbox_bind(struct pod *p, const struct node_runtime *rt, struct err *e);
/* Takes it away, of a pod without containers that is to be bound to another runtime. Idempotent. */
int pod_sandbox_unbind(struct pod *p, const struct node_runtime *rt, struct err *e);
/* Of a pod that is bound to `rt` from now on: its sandbox and no other. */
int pod_sandbox_switch(struct pod *p, struct node_runtime *rt, struct err *e);
/* None, where the pod is bound to no runtime that wants one; what cannot be done is logged. */
void pod_sandbox_settle(struct pod *p);
