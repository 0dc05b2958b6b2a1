/* SPDX-License-Identifier: Apache-2.0 */
/* The choice in words: see route.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/reference.h"
#include "route/route_internal.h"
#include "runtime/caps.h"

/* --- candidates --- */

static void add_drop(const struct route *r, const struct route_facts *f,
		     const struct route_state *states, const struct route_list *l,
		     const struct route_candidate *c, struct strbuf *b)
{
	const struct route_state *s = c->rt ? &states[c->rt - r->config->runtimes] : NULL;

	switch (route_judge(r, f, states, l, c->rt)) {
	case ROUTE_TAKEN:
		break;
	case ROUTE_DROP_GONE:
		strbuf_adds(b, "not configured any more");
		break;
	case ROUTE_DROP_UNAVAILABLE:
		strbuf_addf(b, "not available%s%s", str_empty(s->reason) ? "" : ": ",
			    str_or_empty(s->reason));
		break;
	case ROUTE_DROP_JOIN:
		strbuf_addf(b, "cannot join the pod, which is bound to %s (isolation %s%s)",
			    f->bound->runtime, config_isolation_name(f->bound->isolation),
			    f->bound->unit == CONFIG_UNIT_POD ? ", for whole pods" : "");
		break;
	case ROUTE_DROP_WEAKER:
		strbuf_addf(b, "isolation %s is weaker than %s, which was asked for%s",
			    config_isolation_name(c->rt->isolation),
			    config_isolation_name(l->asked),
			    l->rule ? "; the rule has no allow_weaker" : "");
		break;
	case ROUTE_DROP_LACKS:
		strbuf_adds(b, "lacks ");
		runtime_caps_explain(s->caps, runtime_caps_missing(s->caps, f->needs), b);
		break;
	case ROUTE_DROP_FAILED:
		strbuf_addf(b, "failed: %s", s->failed);
		break;
	case ROUTE_DROP_SET_ASIDE:
		strbuf_addf(b, "set aside: %s", s->set_aside);
		break;
	}
}

static void add_drops(const struct route *r, const struct route_facts *f,
		      const struct route_state *states, const struct route_list *l,
		      struct strbuf *b)
{
	for (size_t i = 0; i < l->n; i++) {
		strbuf_addf(b, "%s%s: ", i ? "; " : "", l->v[i].name);
		add_drop(r, f, states, l, &l->v[i], b);
	}
}

int route_refuse(const struct route *r, const struct route_facts *f,
		 const struct route_state *states, const struct route_list *l, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (l->by == ROUTE_BY_HANDLER) {
		add_drop(r, f, states, l, &l->v[0], &b);
		return err_precondition(e, "runtime_handler: \"%s\" cannot be used: %s",
					l->v[0].name, str_or_empty(b.s));
	}
	add_drops(r, f, states, l, &b);
	if (l->rule)
		return err_precondition(e, "no runtime of the rule \"%s\" can be used: %s",
					l->rule->name, str_or_empty(b.s));
	return err_precondition(e, "no runtime can be used: %s", str_or_empty(b.s));
}

/* --- rules --- */

static void add_pair(struct strbuf *b, const char *what, const struct config_match_pair *p,
		     const struct route_pair *have, size_t n)
{
	const char *value = route_pair_find(have, n, p->key);

	if (value)
		strbuf_addf(b, "%s %s is \"%s\"", what, p->key, value);
	else
		strbuf_addf(b, "there is no %s %s", what, p->key);
}

static void add_text(struct strbuf *b, const char *what, const char *is)
{
	if (is)
		strbuf_addf(b, "%s is \"%s\"", what, is);
	else
		strbuf_addf(b, "%s is not known", what);
}

static void add_miss(const struct config_rule *rule, const struct route_view *v,
		     enum route_condition miss, struct strbuf *b)
{
	const struct route_facts *f = v->f;

	switch (miss) {
	case ROUTE_FITS:
		strbuf_adds(b, "fits");
		break;
	case ROUTE_MISS_STAGE:
		strbuf_adds(b, "looks at containers, of which there is none yet");
		break;
	case ROUTE_MISS_HANDLER:
		add_text(b, "handler", v->handler);
		break;
	case ROUTE_MISS_IMAGE:
		add_text(b, "image", f->image ? f->image->text : NULL);
		break;
	case ROUTE_MISS_NAMESPACE:
		add_text(b, "namespace", f->namespace);
		break;
	case ROUTE_MISS_POD:
		add_text(b, "pod", f->pod);
		break;
	case ROUTE_MISS_CONTAINER:
		add_text(b, "container", f->container_name);
		break;
	case ROUTE_MISS_LABEL:
		add_pair(b, "label",
			 route_pairs_miss(rule->labels, rule->n_labels, f->labels, f->n_labels),
			 f->labels, f->n_labels);
		break;
	case ROUTE_MISS_ANNOTATION:
		add_pair(b, "annotation",
			 route_pairs_miss(rule->annotations, rule->n_annotations, f->annotations,
					  f->n_annotations),
			 f->annotations, f->n_annotations);
		break;
	case ROUTE_MISS_PRIVILEGED:
		strbuf_adds(b, f->privileged ? "privileged" : "not privileged");
		break;
	case ROUTE_MISS_USERNS:
		strbuf_adds(b, f->user_namespace ? "has a user namespace" : "no user namespace");
		break;
	}
}

static const struct config_rule *account_rules(const struct route *r, const struct route_facts *f,
					       struct arena *a, struct route_account *to)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct route_view v;

	route_view(r, f, &v);
	to->rules = arena_calloc(a, r->config->n_rules + 1, sizeof(*to->rules));
	for (size_t i = 0; i < r->config->n_rules; i++) {
		const struct config_rule *rule = &r->config->rules[i];
		enum route_condition miss = route_rule_miss(r, i, &v);

		strbuf_reset(&b);
		add_miss(rule, &v, miss, &b);
		to->rules[to->n_rules++] = (struct route_rule_account){
			.rule = rule,
			.fits = miss == ROUTE_FITS,
			.why = arena_strdup(a, str_or_empty(b.s)),
		};
		if (miss == ROUTE_FITS)
			return rule;
	}
	return NULL;
}

static void account_candidates(const struct route *r, const struct route_facts *f,
			       const struct route_state *states, const struct route_list *l,
			       struct arena *a, struct route_account *to)
{
	bool chosen = false;

	to->candidates = arena_calloc(a, l->n + 1, sizeof(*to->candidates));
	for (size_t i = 0; i < l->n; i++) {
		struct route_candidate_account *c = &to->candidates[to->n_candidates++];
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		c->runtime = l->v[i].name;
		c->isolation = l->v[i].rt ? l->v[i].rt->isolation : f->bound->isolation;
		add_drop(r, f, states, l, &l->v[i], &b);
		if (b.len)
			c->dropped = arena_strdup(a, b.s);
		else if (!chosen)
			c->chosen = chosen = true;
	}
}

static const char *source(const struct route_list *l, const struct route_facts *f, struct arena *a)
{
	switch (l->by) {
	case ROUTE_BY_HANDLER:
		return "the pod names this handler";
	case ROUTE_BY_RULE:
		return arena_printf(a, "rule \"%s\"", l->rule->name);
	case ROUTE_BY_POD:
		return arena_printf(a, "no rule fits, and the pod %s %s",
				    f->bound->firm ? "is bound to" : "was made with",
				    f->bound->runtime);
	default:
		return "no rule fits: default_runtimes";
	}
}

int route_explain(const struct route *r, const struct route_facts *f,
		  const struct route_state *states, struct arena *a, struct route_account *account,
		  struct route_choice *ret, struct err *e)
{
	const struct config_rule *rule = NULL;
	struct route_list l;
	int res = route_check_handler(r, f->handler, e);

	*account = (struct route_account){0};
	if (res < 0) {
		account->summary = arena_strdup(a, e ? e->msg : "no such handler");
		return res;
	}
	if (route_obeys_rules(r, f))
		rule = account_rules(r, f, a, account);
	route_list(r, f, rule, &l);
	account_candidates(r, f, states, &l, a, account);
	account->by = l.by;
	account->rule = rule;
	account->asked = l.asked;
	res = route_decide(r, f, states, &l, ret, e);
	if (res < 0)
		account->summary = arena_strdup(a, e ? e->msg : "no runtime can be used");
	else
		account->summary = arena_printf(
			a, "%s (%s%s%s)", r->config->runtimes[ret->runtime].name, source(&l, f, a),
			ret->fallback ? "; not the first candidate" : "",
			ret->weaker ? "; weaker isolation, as the rule allows" : "");
	return res;
}
