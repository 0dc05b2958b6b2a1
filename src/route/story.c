/* SPDX-License-Identifier: Apache-2.0 */
/* A pod and its first container: see route.h. */
#include "base/mem.h"
#include "base/str.h"
#include "route/route_internal.h"
#include "wire/json.h"

int route_tell(const struct route *r, const struct route_facts *f, const struct route_state *states,
	       struct arena *a, struct route_story *ret, struct err *e)
{
	struct route_facts pod = *f, container = *f;
	struct route_binding bound;

	*ret = (struct route_story){.has_pod = !f->container || !f->bound};
	if (ret->has_pod) {
		const struct config_runtime *rt;

		pod.container = false;
		ret->pod_result = route_explain(r, &pod, states, a, &ret->pod, &ret->pod_choice, e);
		if (ret->pod_result < 0 || !f->container)
			return ret->pod_result;
		rt = &r->config->runtimes[ret->pod_choice.runtime];
		bound = (struct route_binding){rt->name, rt->isolation, rt->unit, false};
		container.bound = &bound;
	}
	ret->has_container = true;
	ret->container_result =
		route_explain(r, &container, states, a, &ret->container, &ret->container_choice, e);
	return ret->container_result;
}

const char *route_story_runtime(const struct route *r, const struct route_story *s)
{
	const struct route_choice *ch = s->has_container ? &s->container_choice : &s->pod_choice;

	if ((s->has_container ? s->container_result : s->pod_result) < 0)
		return NULL;
	return r->config->runtimes[ch->runtime].name;
}

static void print_candidates(const struct route_account *a, struct jw *w)
{
	jw_key_array(w, "candidates");
	for (size_t i = 0; i < a->n_candidates; i++) {
		const struct route_candidate_account *c = &a->candidates[i];

		jw_object_begin(w);
		jw_key_string(w, "runtime", c->runtime);
		jw_key_string(w, "isolation", config_isolation_name(c->isolation));
		jw_key_bool(w, "chosen", c->chosen);
		if (c->dropped)
			jw_key_string(w, "dropped", c->dropped);
		jw_object_end(w);
	}
	jw_array_end(w);
}

static void print_rules(const struct route_account *a, struct jw *w)
{
	jw_key_array(w, "rules");
	for (size_t i = 0; i < a->n_rules; i++) {
		const struct route_rule_account *x = &a->rules[i];

		jw_object_begin(w);
		jw_key_string(w, "name", x->rule->name);
		jw_key_uint(w, "line", x->rule->line);
		jw_key_bool(w, "fits", x->fits);
		jw_key_string(w, "why", x->why);
		jw_object_end(w);
	}
	jw_array_end(w);
}

static void print_choice(const struct route *r, const char *key, const struct route_account *a,
			 const struct route_choice *ch, int result, struct jw *w)
{
	jw_key_object(w, key);
	if (result == 0) {
		jw_key_string(w, "runtime", r->config->runtimes[ch->runtime].name);
		jw_key_bool(w, "fallback", ch->fallback);
		jw_key_bool(w, "weaker", ch->weaker);
	} else {
		jw_key_string(w, "refused", a->summary);
	}
	if (a->n_candidates) { /* else the handler is not known */
		jw_key_string(w, "by", route_by_name(a->by));
		jw_key_string(w, "asked", config_isolation_name(a->asked));
	}
	if (a->rule)
		jw_key_string(w, "rule", a->rule->name);
	jw_key_string(w, "summary", a->summary);
	print_rules(a, w);
	print_candidates(a, w);
	jw_object_end(w);
}

void route_story_print(const struct route *r, const struct route_story *s, struct jw *w)
{
	const char *runtime = route_story_runtime(r, s);

	jw_object_begin(w);
	if (runtime)
		jw_key_string(w, "runtime", runtime);
	jw_key_string(w, "summary", s->has_container ? s->container.summary : s->pod.summary);
	if (s->has_pod)
		print_choice(r, "pod", &s->pod, &s->pod_choice, s->pod_result, w);
	if (s->has_container)
		print_choice(r, "container", &s->container, &s->container_choice,
			     s->container_result, w);
	jw_object_end(w);
}
