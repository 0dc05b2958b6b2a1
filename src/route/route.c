/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a runtime: see route.h. */
#include "route/route.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "config/pattern.h"
#include "image/reference.h"
#include "route/route_internal.h"
#include "runtime/caps.h"

const char *route_by_name(enum route_by by)
{
	static const char *const names[] = {
		[ROUTE_BY_HANDLER] = "handler",
		[ROUTE_BY_RULE] = "rule",
		[ROUTE_BY_POD] = "pod",
		[ROUTE_BY_DEFAULT] = "default",
	};

	return (size_t)by < ARRAY_SIZE(names) ? names[by] : "unknown";
}

/* --- making --- */

static void prepare_list(struct route *r, struct route_quick *q, enum route_subject subject,
			 const struct pattern *p, size_t n)
{
	if (!n || q->n == ROUTE_QUICK_MAX)
		return;
	q->list[q->n].first = (uint32_t)r->n_required;
	q->list[q->n].n = (uint16_t)n;
	q->list[q->n++].subject = (uint16_t)subject;
	r->used[subject] = true;
	r->required = xrealloc(r->required, (r->n_required + n) * sizeof(*r->required));
	for (size_t i = 0; i < n; i++)
		r->required[r->n_required++] = p[i].required;
}

static void prepare(struct route *r, struct route_quick *q, const struct config_rule *rule)
{
	q->of_container = rule->n_images || rule->n_containers;
	prepare_list(r, q, ROUTE_IMAGE, rule->images, rule->n_images);
	prepare_list(r, q, ROUTE_NAMESPACE, rule->namespaces, rule->n_namespaces);
	prepare_list(r, q, ROUTE_POD, rule->pods, rule->n_pods);
	if (rule->n_labels)
		prepare_list(r, q, ROUTE_LABELS, rule->labels->patterns, rule->labels->n);
	prepare_list(r, q, ROUTE_CONTAINER, rule->containers, rule->n_containers);
}

struct route *route_new(const struct config *c)
{
	struct route *r = xcalloc(1, sizeof(*r));

	r->config = c;
	r->quick = xcalloc(c->n_rules + 1, sizeof(*r->quick));
	for (size_t i = 0; i < c->n_rules; i++)
		prepare(r, &r->quick[i], &c->rules[i]);
	return r;
}

struct route *route_free(struct route *r)
{
	if (r) {
		free(r->quick);
		free(r->required);
		free(r);
	}
	return NULL;
}

int route_check_handler(const struct route *r, const char *handler, struct err *e)
{
	if (str_empty(handler) || config_runtime_find(r->config, handler))
		return 0;
	return err_invalid(e, "runtime_handler: no runtime \"%s\" is configured", handler);
}

/* --- rules --- */

/* What of an image patterns are matched with: all of them begin the text. */
static void look_at_image(struct route_view *v, const struct reference *image)
{
	v->image = image->text;
	v->name_len = strlen(image->name);
	v->tag_len = image->tag ? v->name_len + 1 + strlen(image->tag) : 0;
	v->text_len = strlen(image->text);
}

/* Adds the bytes of `s`; what no pattern fits in any case (NULL, too long) adds none. */
static void sign(struct pattern_signature *to, const char *s)
{
	size_t n = s ? strnlen(s, PATTERN_SUBJECT_MAX + 1) : 0;

	if (s && n <= PATTERN_SUBJECT_MAX)
		pattern_sign(to, s, n);
}

void route_view(const struct route *r, const struct route_facts *f, struct route_view *ret)
{
	*ret = (struct route_view){.f = f, .handler = str_or_empty(f->handler)};
	if (f->container && f->image)
		look_at_image(ret, f->image);
	if (r->used[ROUTE_IMAGE])
		sign(&ret->signatures[ROUTE_IMAGE], ret->image);
	if (r->used[ROUTE_NAMESPACE])
		sign(&ret->signatures[ROUTE_NAMESPACE], f->namespace);
	if (r->used[ROUTE_POD])
		sign(&ret->signatures[ROUTE_POD], f->pod);
	if (r->used[ROUTE_CONTAINER])
		sign(&ret->signatures[ROUTE_CONTAINER], f->container_name);
	for (size_t i = 0; r->used[ROUTE_LABELS] && i < f->n_labels; i++)
		sign(&ret->signatures[ROUTE_LABELS], f->labels[i].value);
}

/* False: one of its conditions cannot hold. */
static bool may_fit(const struct route *r, const struct route_quick *q, const struct route_view *v)
{
	for (size_t k = 0; k < q->n; k++) {
		const struct pattern_required *p = &r->required[q->list[k].first];
		const struct pattern_signature *s = &v->signatures[q->list[k].subject];
		bool any = false;

		for (size_t i = 0; !any && i < q->list[k].n; i++)
			any = pattern_may_fit(&p[i], s);
		if (!any)
			return false;
	}
	return true;
}

static bool any_fits(const struct pattern *p, size_t n, const char *s)
{
	size_t len = s ? strnlen(s, PATTERN_SUBJECT_MAX + 1) : 0;

	for (size_t i = 0; s && i < n; i++)
		if (pattern_match(&p[i], s, len))
			return true;
	return false;
}

static bool image_fits(const struct pattern *p, const struct route_view *v)
{
	switch (p->about) {
	case PATTERN_NAME:
		return pattern_match(p, v->image, v->name_len);
	case PATTERN_NAME_TAG:
		return v->tag_len && pattern_match(p, v->image, v->tag_len);
	case PATTERN_NAME_OR_TEXT:
		return pattern_match_either(p, v->image, v->text_len, v->name_len);
	default:
		return pattern_match(p, v->image, v->text_len);
	}
}

static bool images_fit(const struct config_rule *rule, const struct route_view *v)
{
	for (size_t k = 0; v->image && k < rule->n_images; k++)
		if (pattern_may_fit(&rule->images[k].required, &v->signatures[ROUTE_IMAGE]) &&
		    image_fits(&rule->images[k], v))
			return true;
	return false;
}

const char *route_pair_find(const struct route_pair *p, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (streq(p[i].key, key))
			return p[i].value;
	return NULL;
}

const struct config_match_pair *route_pairs_miss(const struct config_match_pair *want,
						 size_t n_want, const struct route_pair *have,
						 size_t n_have)
{
	for (size_t i = 0; i < n_want; i++)
		if (!any_fits(want[i].patterns, want[i].n,
			      route_pair_find(have, n_have, want[i].key)))
			return &want[i];
	return NULL;
}

static bool is_among(const char *const *v, const char *s)
{
	for (size_t i = 0; v[i]; i++)
		if (streq(v[i], s))
			return true;
	return false;
}

static bool bool_fits(enum config_match_bool want, bool is)
{
	return want == CONFIG_MATCH_ANY || (want == CONFIG_MATCH_TRUE) == is;
}

enum route_condition route_rule_miss(const struct route *r, size_t i, const struct route_view *v)
{
	const struct config_rule *rule = &r->config->rules[i];
	const struct route_facts *f = v->f;

	if (r->quick[i].of_container && !f->container)
		return ROUTE_MISS_STAGE;
	if (rule->n_images && !images_fit(rule, v))
		return ROUTE_MISS_IMAGE;
	if (rule->handlers && !is_among(rule->handlers, v->handler))
		return ROUTE_MISS_HANDLER;
	if (rule->n_namespaces && !any_fits(rule->namespaces, rule->n_namespaces, f->namespace))
		return ROUTE_MISS_NAMESPACE;
	if (rule->n_pods && !any_fits(rule->pods, rule->n_pods, f->pod))
		return ROUTE_MISS_POD;
	if (rule->n_containers &&
	    !any_fits(rule->containers, rule->n_containers, f->container_name))
		return ROUTE_MISS_CONTAINER;
	if (!bool_fits(rule->privileged, f->privileged))
		return ROUTE_MISS_PRIVILEGED;
	if (!bool_fits(rule->user_namespace, f->user_namespace))
		return ROUTE_MISS_USERNS;
	if (route_pairs_miss(rule->labels, rule->n_labels, f->labels, f->n_labels))
		return ROUTE_MISS_LABEL;
	if (route_pairs_miss(rule->annotations, rule->n_annotations, f->annotations,
			     f->n_annotations))
		return ROUTE_MISS_ANNOTATION;
	return ROUTE_FITS;
}

/* --- candidates --- */

bool route_obeys_rules(const struct route *r, const struct route_facts *f)
{
	const struct config_runtime *rt =
		str_empty(f->handler) ? NULL : config_runtime_find(r->config, f->handler);

	return !rt || rt->routes;
}

static void add(const struct route *r, const char *name, struct route_list *l)
{
	const struct config_runtime *rt = config_runtime_find(r->config, name);

	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i].name, name))
			return;
	l->v[l->n++] = (struct route_candidate){.name = name, .rt = rt};
}

/* The isolation that the request asks for. */
static enum config_isolation asked(const struct route *r, const struct route_facts *f,
				   const struct route_list *l)
{
	const struct config_runtime *handler =
		str_empty(f->handler) ? NULL : config_runtime_find(r->config, f->handler);
	enum config_isolation a = CONFIG_ISOLATION_PLAIN;

	if (l->v[0].rt)
		a = l->v[0].rt->isolation;
	if (handler)
		a = MAX(a, handler->isolation);
	if (f->bound)
		a = MAX(a, f->bound->isolation);
	return a;
}

void route_list(const struct route *r, const struct route_facts *f, const struct config_rule *rule,
		struct route_list *ret)
{
	const char *const *names = rule ? rule->runtimes : r->config->default_runtimes;
	bool handler = !rule && !str_empty(f->handler);

	ret->n = 0;
	ret->rule = rule;
	ret->by = rule ? ROUTE_BY_RULE : handler ? ROUTE_BY_HANDLER : ROUTE_BY_DEFAULT;
	if (!rule && f->bound && route_obeys_rules(r, f)) {
		ret->by = ROUTE_BY_POD;
		add(r, f->bound->runtime, ret);
	}
	if (handler)
		add(r, f->handler, ret);
	for (size_t i = 0; !handler && names[i] && ret->n < ROUTE_CANDIDATES_MAX; i++)
		add(r, names[i], ret);
	ret->asked = asked(r, f, ret);
}

static bool joins(const struct config_runtime *rt, const struct route_binding *b)
{
	if (!b || !b->firm || streq(rt->name, b->runtime))
		return true;
	return rt->unit != CONFIG_UNIT_POD && b->unit != CONFIG_UNIT_POD &&
	       rt->isolation == b->isolation;
}

enum route_drop route_judge(const struct route *r, const struct route_facts *f,
			    const struct route_state *states, const struct route_list *l,
			    const struct config_runtime *rt)
{
	const struct route_state *s;

	if (!rt)
		return ROUTE_DROP_GONE;
	s = &states[rt - r->config->runtimes];
	if (!s->available)
		return ROUTE_DROP_UNAVAILABLE;
	if (!joins(rt, f->bound))
		return ROUTE_DROP_JOIN;
	if (rt->isolation < l->asked && !(l->rule && l->rule->allow_weaker))
		return ROUTE_DROP_WEAKER;
	if (s->caps && runtime_caps_missing(s->caps, f->needs))
		return ROUTE_DROP_LACKS;
	if (s->failed)
		return ROUTE_DROP_FAILED;
	return s->set_aside ? ROUTE_DROP_SET_ASIDE : ROUTE_TAKEN;
}

/* --- the choice --- */

int route_decide(const struct route *r, const struct route_facts *f,
		 const struct route_state *states, const struct route_list *l,
		 struct route_choice *ret, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct config_runtime *rt = l->v[i].rt;

		if (route_judge(r, f, states, l, rt) != ROUTE_TAKEN)
			continue;
		*ret = (struct route_choice){
			.runtime = (size_t)(rt - r->config->runtimes),
			.by = l->by,
			.rule = l->rule,
			.fallback = i > 0,
			.weaker = rt->isolation < l->asked,
			.asked = l->asked,
		};
		return 0;
	}
	return route_refuse(r, f, states, l, e);
}

int route_choose(const struct route *r, const struct route_facts *f,
		 const struct route_state *states, struct route_choice *ret, struct err *e)
{
	const struct config_rule *rule = NULL;
	struct route_list l;
	int res = route_check_handler(r, f->handler, e);

	if (res < 0)
		return res;
	if (r->config->n_rules && route_obeys_rules(r, f)) {
		struct route_view v;
		size_t i = 0;

		route_view(r, f, &v);
		while (i < r->config->n_rules &&
		       !(may_fit(r, &r->quick[i], &v) && route_rule_miss(r, i, &v) == ROUTE_FITS))
			i++;
		if (i < r->config->n_rules)
			rule = &r->config->rules[i];
	}
	route_list(r, f, rule, &l);
	return route_decide(r, f, states, &l, ret, e);
}
