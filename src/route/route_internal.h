/* SPDX-License-Identifier: Apache-2.0 */
/* What the choice (route.c) and the words about it (explain.c) share. Private to route/. */
#pragma once

#include "config/pattern.h"
#include "route/route.h"

/* What a pattern may be about, each with a signature of its own. */
enum route_subject {
	ROUTE_IMAGE,
	ROUTE_NAMESPACE,
	ROUTE_POD,
	ROUTE_CONTAINER,
	ROUTE_LABELS, /* the values of all */
	ROUTE_SUBJECTS
};

/* What tells most rules apart without a look at them: of each of these lists of patterns one has to
 * fit its subject. */
#define ROUTE_QUICK_MAX 2
struct route_quick {
	struct {
		uint32_t first; /* in route.required */
		uint16_t n;
		uint16_t subject;
	} list[ROUTE_QUICK_MAX];
	uint8_t n;
	bool of_container; /* looks at what only containers have */
};

struct route {
	const struct config *config;
	struct route_quick *quick; /* one for each rule */
	struct pattern_required *required;
	size_t n_required;
	bool used[ROUTE_SUBJECTS];
};

/* A request, looked at once for all rules. */
struct route_view {
	const struct route_facts *f;
	const char *handler; /* never NULL */
	const char *image;   /* name[:tag][@digest]; NULL: none */
	size_t name_len, tag_len, text_len;
	struct pattern_signature signatures[ROUTE_SUBJECTS];
};
void route_view(const struct route *r, const struct route_facts *f, struct route_view *ret);

/* The condition of a rule that does not hold. */
enum route_condition {
	ROUTE_FITS,
	ROUTE_MISS_STAGE,
	ROUTE_MISS_HANDLER,
	ROUTE_MISS_IMAGE,
	ROUTE_MISS_NAMESPACE,
	ROUTE_MISS_POD,
	ROUTE_MISS_CONTAINER,
	ROUTE_MISS_LABEL,
	ROUTE_MISS_ANNOTATION,
	ROUTE_MISS_PRIVILEGED,
	ROUTE_MISS_USERNS,
};
enum route_condition route_rule_miss(const struct route *r, size_t i, const struct route_view *v);
/* The value, or NULL; the first pair whose value does not fit, or NULL. */
const char *route_pair_find(const struct route_pair *p, size_t n, const char *key);
const struct config_match_pair *route_pairs_miss(const struct config_match_pair *want,
						 size_t n_want, const struct route_pair *have,
						 size_t n_have);

/* False: the pod names a handler that no rule overrules. */
bool route_obeys_rules(const struct route *r, const struct route_facts *f);

/* (default_runtimes has at most CONFIG_LIST_MAX entries, no more than there are runtimes that are
 * different; and the pod's own.) */
#define ROUTE_CANDIDATES_MAX (CONFIG_RUNTIMES_MAX + 1)
struct route_candidate {
	const char *name;
	const struct config_runtime *rt; /* NULL: not configured any more */
};
struct route_list {
	struct route_candidate v[ROUTE_CANDIDATES_MAX];
	size_t n;
	enum route_by by;
	const struct config_rule *rule;
	enum config_isolation asked;
};
void route_list(const struct route *r, const struct route_facts *f, const struct config_rule *rule,
		struct route_list *ret);

enum route_drop {
	ROUTE_TAKEN,
	ROUTE_DROP_GONE,
	ROUTE_DROP_UNAVAILABLE,
	ROUTE_DROP_JOIN,
	ROUTE_DROP_WEAKER,
	ROUTE_DROP_LACKS,
	ROUTE_DROP_FAILED,
	ROUTE_DROP_SET_ASIDE,
};
enum route_drop route_judge(const struct route *r, const struct route_facts *f,
			    const struct route_state *states, const struct route_list *l,
			    const struct config_runtime *rt);
int route_decide(const struct route *r, const struct route_facts *f,
		 const struct route_state *states, const struct route_list *l,
		 struct route_choice *ret, struct err *e);

/* explain.c: no candidate is left; the error. */
int route_refuse(const struct route *r, const struct route_facts *f,
		 const struct route_state *states, const struct route_list *l, struct err *e);
