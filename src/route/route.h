/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which runtime a pod or container is put on, and why (docs/routing.md).
 *
 * Pure: configuration, facts and the runtimes' state in, a choice or a refusal out; nothing is read,
 * waited for or kept.  The daemon, `gantry route` and gantry-oci decide with it.
 *
 * A request has candidates in an order:
 *   - a handler that the pod names and that does not route (`routes: false`): that runtime alone;
 *   - else those of the first rule all of whose conditions hold.  For a pod (RunPodSandbox) no rule
 *     with a condition on image or container name is looked at;
 *   - else the handler that the pod names; or what the pod is bound to, and after it `default_runtimes`.
 * The first that nothing speaks against is taken.  Against a candidate speaks that
 *   - it is not available, was set aside, or has just failed for this request;
 *   - it lacks what is needed;
 *   - it cannot join the pod: a bound pod is open to runtimes of the same isolation, and where one of
 *     the two makes whole pods (`unit: pod`), to the very same runtime;
 *   - its isolation is weaker than was asked for: that of the first candidate, of the handler that the
 *     pod names, and of what an empty pod was made with.  `allow_weaker` of the rule lifts this.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "config/config.h"

struct reference;
struct runtime_caps;
struct route;

struct route_pair {
	const char *key, *value;
};

/* What a pod is bound to since it has containers, or, not firmly, was made with. */
struct route_binding {
	const char *runtime; /* need not be configured any more */
	enum config_isolation isolation;
	enum config_unit unit;
	/* False: no container was made in it yet, and it can still be bound to another runtime. */
	bool firm;
};

/* All borrowed; texts that are not known are NULL, which no pattern fits. */
struct route_facts {
	bool container;	     /* else a pod: image and container name are not looked at */
	const char *handler; /* that the pod names; "" or NULL: none */
	/* As its user wrote it (CRI ImageSpec.user_specified_image; else image, where that is a
	 * reference; else the first tag, or digest, of the image's record). */
	const struct reference *image;
	const char *namespace, *pod, *container_name;
	const struct route_pair *labels, *annotations; /* of the pod; each key once */
	size_t n_labels, n_annotations;
	bool privileged, user_namespace;   /* of the container, or the pod */
	uint64_t needs;			   /* RCAP_BIT()s (runtime/caps.h) */
	const struct route_binding *bound; /* NULL: a pod that is being made */
};

/* How a runtime is now. Borrowed strings. */
struct route_state {
	bool available;
	const char *reason;		 /* why it is not */
	const struct runtime_caps *caps; /* NULL: it can everything */
	const char *set_aside;		 /* by the circuit breaker, why; NULL: it is not */
	const char *failed; /* with what it failed for this request; NULL: it did not */
};

enum route_by {
	ROUTE_BY_HANDLER, /* the pod named it */
	ROUTE_BY_RULE,
	ROUTE_BY_POD,	  /* the pod's own, no rule fits */
	ROUTE_BY_DEFAULT, /* default_runtimes */
};
const char *route_by_name(enum route_by by); /* "handler", "rule", "pod", "default"; static */

struct route_choice {
	size_t runtime; /* index in config.runtimes */
	enum route_by by;
	const struct config_rule *rule; /* ROUTE_BY_RULE; borrowed from the configuration */
	bool fallback;			/* not the first candidate */
	bool weaker;			/* than was asked for; the rule allows it */
	enum config_isolation asked;
};

/* Makes the engine of a configuration, which must live longer.  Does not fail. */
struct route *route_new(const struct config *c);
struct route *route_free(struct route *r); /* NULL */

/* INVALID_ARGUMENT for a handler that is not configured; "" and NULL are good. */
int route_check_handler(const struct route *r, const char *handler, struct err *e);

/*
 * The choice.  `states` has one entry for each of config.runtimes.  INVALID_ARGUMENT for an unknown
 * handler; FAILED_PRECONDITION where no candidate is left, with each one's reason.  No text is made
 * but that of an error.
 */
int route_choose(const struct route *r, const struct route_facts *f,
		 const struct route_state *states, struct route_choice *ret, struct err *e);

/* --- the same with everything that was looked at --- */

struct route_rule_account {
	const struct config_rule *rule;
	bool fits;
	const char *why; /* what did not hold, or that it fits; arena */
};
struct route_candidate_account {
	const char *runtime; /* borrowed; may not be configured any more (a pod's own) */
	enum config_isolation isolation;
	bool chosen;
	const char *dropped; /* why; arena. NULL: chosen, or not needed after one that was */
};
struct route_account {
	struct route_rule_account *rules; /* up to the one that fits */
	size_t n_rules;
	struct route_candidate_account *candidates;
	size_t n_candidates;
	enum route_by by; /* where the candidates come from */
	const struct config_rule *rule;
	enum config_isolation asked;
	const char *summary; /* one sentence: the choice, or the refusal; arena */
};
/* As route_choose(), whose choice and errors it has; `account` is filled in either way. */
int route_explain(const struct route *r, const struct route_facts *f,
		  const struct route_state *states, struct arena *a, struct route_account *account,
		  struct route_choice *ret, struct err *e);

/* --- a pod and its first container, as the kubelet asks for them --- */

struct route_story {
	struct route_account pod, container;
	struct route_choice pod_choice, container_choice;
	int pod_result, container_result; /* of route_explain() */
	bool has_pod, has_container;	  /* the choice is part of it */
};
/*
 * What would happen with a pod that is made now, and with a first container in it where
 * f->container; a pod that is there (f->bound) is not made.  Texts of `a`.  The result and the error
 * are those of the last choice.
 */
int route_tell(const struct route *r, const struct route_facts *f, const struct route_state *states,
	       struct arena *a, struct route_story *ret, struct err *e);
/* The runtime that came out; NULL: it was refused.  borrowed */
const char *route_story_runtime(const struct route *r, const struct route_story *s);
/*
 * As JSON, one value: {"runtime", "summary", "pod": CHOICE, "container": CHOICE}; CHOICE is {"runtime" or
 * "refused", "by", "rule", "asked", "fallback", "weaker", "summary", "rules": [{"name", "line", "fits",
 * "why"}], "candidates": [{"runtime", "isolation", "chosen", "dropped"}]}.
 */
struct jw;
void route_story_print(const struct route *r, const struct route_story *s, struct jw *w);
