/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's world: directories, index, images, runtimes, and everything that a past
 * daemon left running.
 */
#pragma once

#include "pod/pod.h"

/*
 * Blocking, before the loop runs: makes the directories (root 0700, state 0711 and a private
 * mount of itself), opens the index and the image store, finds the helper programs, looks at
 * the host (cgroups, capabilities, security modules).  `nofile` are the limits of open files
 * that containers get.
 */
struct rlimit;
int node_open(struct loop *l, const struct config *c, const struct rlimit *nofile,
	      struct node **ret, struct err *e);
struct node *node_close(struct node *n);

/*
 * From a coroutine, once: loads the index, connects to the monitor of every pod and takes
 * over what happened meanwhile, tears down what is half-made or belongs to no pod, and
 * starts the probes of the runtimes (node->probed is set when they are done).
 */
int node_recover(struct node *n, struct err *e);

/* What a pod needs of a runtime beyond that it works. */
enum node_need {
	NODE_NEEDS_NOTHING = 0,
	NODE_NEEDS_USERNS,	/* user namespaces */
	NODE_NEEDS_USERNS_HOST, /* such, in the node's network */
	NODE_NEEDS_RRO,		/* recursive read-only mounts */
};

/* The runtime for a handler as far as is known now: the configured one of that name, or for "" the first of
 * default_runtimes that is available and has what is needed; what does not work is tried again
 * meanwhile.  INVALID_ARGUMENT for a name that is not configured, FAILED_PRECONDITION with the
 * probe's reason for one that does not work here.  (What is chosen for pods: choose.h.) */
int node_runtime_peek(struct node *n, const char *handler, enum node_need need,
		      struct node_runtime **ret, struct err *e);
/* The same as a question; false while nothing is known. */
bool node_runtime_can(struct node *n, const char *handler, enum node_need need);
/* Every runtime has been probed once. */
bool node_runtimes_known(const struct node *n);
/* The same, after a wait of a few seconds at most: for an answer that had better be right. */
bool node_runtimes_await(struct node *n);
/* Starts the probes of every runtime and of AppArmor, in the background; they are made anew, but for
 * the first ones, which may go by what a past daemon found. */
void node_probe(struct node *n);
/* node_probe(), and waits for its end. CANCELLED */
int node_probe_await(struct node *n, struct err *e);
/* Looks at every runtime, and probes those that may have changed since they were. */
void node_probe_check(struct node *n);
/* The same for runtimes that have not been probed yet: of a configuration that is new. */
void node_probe_new(struct node *n);
/* That of one runtime, unless it is under way. */
void node_probe_one(struct node *n, struct node_runtime *rt);
/* Every runtime, where one does not work and the last look at them is old. */
void node_probe_again(struct node *n);

/*
 * Another configuration is in force from now on, as a whole; a reference is taken.  Of settings that
 * need a restart it has the values that are in force (config_keep_fixed()).  Pods and containers that
 * there are keep what they were made with.
 */
void node_set_config(struct node *n, const struct config *c);

/* The default profile of AppArmor, where there is one, is loaded: ours is loaded anew where it was
 * removed, which waits.  FAILED_PRECONDITION where it cannot be. */
int node_apparmor_need_default(struct node *n, struct err *e);

/* Works out the network for pods made from now on, in node->network.config. */
void node_network_configure(struct node *n);
/* The same, with what a past daemon was told of it. Blocking, at the start. */
void node_network_load(struct node *n);
/* The node's range of pod addresses, "A" or "A,B"; "" changes nothing. INVALID_ARGUMENT. */
int node_network_set_pod_cidr(struct node *n, const char *cidr, struct err *e);
/* Checks the network of a pod (CNI CHECK); waits for it.  What is wrong is appended: nothing. */
int node_network_check(const struct pod *p, struct strbuf *ret_problem, struct err *e);
/* Frees in the background what pods that are gone have left in the network. */
void node_network_collect(struct node *n);
/* Whether pods can be given a network, as last probed (probed again when that is old); waits
 * some seconds for one that is under way where it was not ready.  *ret_why is set where not; borrowed. */
bool node_network_ready(struct node *n, const char **ret_why);

/* Ids of the images that containers have, in whatever state they are; for image_sweep(). */
struct strv;
void node_images_used(const struct node *n, struct strv *to);

/* Measures images and writable layers in the background, where the last measure is old. */
void node_measure(struct node *n);

/* Folds the index's log in a process of its own when it has grown. */
void node_fold_index(struct node *n);
