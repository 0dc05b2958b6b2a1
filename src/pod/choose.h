/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of a runtime for one request: the engine of route/, fed with what is known of this node,
 * and told what has failed.  docs/routing.md.
 *
 * A pod is bound by the containers that it has, and until there are any, not firmly, by what it was
 * made for.  Nothing of that is kept but the containers' own runtimes.
 */
#pragma once

#include "image/reference.h"
#include "pod/pod.h"
#include "route/needs.h"
#include "route/route.h"
#include "runtime/blame.h"

#define CHOICE_FAILED_MAX 8 /* tries of one request that fail before it does */

struct choice_failure {
	char *runtime, *why; /* owned */
};

struct choice {
	struct node *node;
	/* What it is for; borrowed for as long as this lives. */
	const Runtime__V1__PodSandboxConfig *config;
	const char *handler;
	const struct container *container; /* NULL: a pod */
	const char *image;		   /* the reference that rules look at; NULL: none */
	uint64_t needs;			   /* RCAP_BIT()s; more may be added between two calls */

	struct node_runtime *rt; /* the choice; a reference; NULL: none yet */
	enum route_by by;
	char *rule; /* its name where one decided; owned */
	bool fallback, weaker;

	struct route_pair *labels, *annotations; /* owned; once rules are looked at */
	struct reference reference;
	bool described;
	struct choice_failure failed[CHOICE_FAILED_MAX];
	size_t n_failed;
};

/* For a pod; for a container of it `c`, which is linked. */
void choice_init(struct choice *k, struct node *n, const Runtime__V1__PodSandboxConfig *config,
		 const char *handler, const struct container *c);
void choice_fini(struct choice *k);
#define _cleanup_choice_ __attribute__((cleanup(choice_fini)))

/*
 * The best runtime of those that have not failed, in k->rt.  Waits for probes, where what they find may
 * make a choice possible.  INVALID_ARGUMENT for a handler that is not configured (FAILED_PRECONDITION
 * for a container: its pod was made when it was), FAILED_PRECONDITION with each candidate's reason.
 */
int choice_next(struct choice *k, struct err *e);
/* The runtime chosen is being tried; it works; it does not, which may be its own fault.  False: no other
 * is to be tried. */
void choice_begin(struct choice *k);
void choice_works(struct choice *k);
bool choice_failed(struct choice *k, const struct err *why);
/* It is not known how it went: cancelled, or the container's fault. */
void choice_abandon(struct choice *k);

/* What the choice was and why, as JSON; owned.  And in words, for the log; appended. */
char *choice_print(struct choice *k);
void choice_describe(struct choice *k, struct strbuf *to);

/* How anything that was asked of a runtime went; `blame` and `why` of a failure. */
void node_runtime_worked(struct node_runtime *rt);
void node_runtime_failed(struct node *n, struct node_runtime *rt, enum runtime_blame blame,
			 const char *why);
/* A probe of it has ended. */
void node_runtime_probed(struct node *n, struct node_runtime *rt);
/* Why it is set aside, NULL: it is not. borrowed */
const char *node_runtime_set_aside(const struct node_runtime *rt);

/* What the pod is bound to as `c` (NULL: nobody) sees it. */
void pod_binding(const struct pod *p, const struct container *c, struct route_binding *ret);
