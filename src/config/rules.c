/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of `routes:`: read, checked and printed.  See config.h, docs/routing.md. */
#include <inttypes.h>

#include "base/mem.h"
#include "config/config_reader.h"
#include "config/pattern.h"

struct rules_reader {
	struct config_reader *r;
	struct map names; /* of rules */
	size_t cost;	  /* of all patterns so far */
};

static const yaml_node_t *node(const struct rules_reader *rr, int id)
{
	return yaml_document_get_node(rr->r->doc, id);
}

static size_t items(const yaml_node_t *n)
{
	return (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
}

static int failed(struct rules_reader *rr, const yaml_node_t *n, const char *key)
{
	return err_wrap(rr->r->e, "%s:%zu: %s", rr->r->file, n->start_mark.line + 1, key);
}

/* --- values that rules have: one, or a list of them --- */

/* The nodes of one value or of a list; the number of them. */
static int one_or_more(struct rules_reader *rr, const yaml_node_t *n, const char *key,
		       const yaml_node_t *ret[static CONFIG_RULE_PATTERNS_MAX], size_t *ret_n)
{
	size_t count = 1;

	if (n->type == YAML_SEQUENCE_NODE)
		count = items(n);
	if (n->type == YAML_MAPPING_NODE || count == 0 || count > CONFIG_RULE_PATTERNS_MAX)
		return config_bad(rr->r, n, key, "one value, or a list of 1 to 64");
	for (size_t i = 0; i < count; i++)
		ret[i] = n->type == YAML_SEQUENCE_NODE ? node(rr, n->data.sequence.items.start[i])
						       : n;
	*ret_n = count;
	return 0;
}

static int read_pattern(struct rules_reader *rr, const yaml_node_t *n, const char *key, bool image,
			struct pattern *ret)
{
	const char *s = config_scalar(n);

	if (!s)
		return config_bad(rr->r, n, key, "a pattern");
	if (pattern_compile(&rr->r->c->arena, s, image, ret, rr->r->e) < 0)
		return failed(rr, n, key);
	rr->cost += pattern_cost(ret);
	if (rr->cost > CONFIG_PATTERN_COST_MAX)
		return config_bad(rr->r, n, key,
				  "fewer, or simpler, patterns: all together are too costly to "
				  "match");
	return 0;
}

static int read_patterns(struct rules_reader *rr, const yaml_node_t *n, const char *key, bool image,
			 const struct pattern **ret, size_t *ret_n)
{
	const yaml_node_t *v[CONFIG_RULE_PATTERNS_MAX];
	struct pattern *p;
	size_t count = 0;
	int r = one_or_more(rr, n, key, v, &count);

	if (r < 0)
		return r;
	p = arena_calloc(&rr->r->c->arena, count, sizeof(*p));
	for (size_t i = 0; r == 0 && i < count; i++)
		r = read_pattern(rr, v[i], key, image, &p[i]);
	*ret = p;
	*ret_n = count;
	return r;
}

/* Labels or annotations: KEY: PATTERN, or KEY: [PATTERN...]. */
static int read_pairs(struct rules_reader *rr, const yaml_node_t *n, const char *key,
		      const struct config_match_pair **ret, size_t *ret_n)
{
	struct config_match_pair *pairs;
	size_t count = 0;

	if (n->type == YAML_MAPPING_NODE)
		count = (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
	if (count == 0 || count > CONFIG_RULE_PATTERNS_MAX)
		return config_bad(rr->r, n, key, "a mapping of 1 to 64 keys to patterns");
	pairs = arena_calloc(&rr->r->c->arena, count, sizeof(*pairs));
	for (size_t i = 0; i < count; i++) {
		const yaml_node_pair_t *p = &n->data.mapping.pairs.start[i];
		const char *s = config_scalar(node(rr, p->key));
		int r;

		if (!s || !*s)
			return config_bad(rr->r, node(rr, p->key), key, "a key");
		for (size_t k = 0; k < i; k++)
			if (streq(pairs[k].key, s))
				return config_bad(rr->r, node(rr, p->key), key,
						  "each key only once");
		pairs[i].key = arena_strdup(&rr->r->c->arena, s);
		r = read_patterns(rr, node(rr, p->value), key, false, &pairs[i].patterns,
				  &pairs[i].n);
		if (r < 0)
			return r;
	}
	*ret = pairs;
	*ret_n = count;
	return 0;
}

static int read_bool(struct rules_reader *rr, const yaml_node_t *n, const char *key, bool *ret)
{
	const char *s = config_scalar(n);

	if (!s || (!streq(s, "true") && !streq(s, "false")))
		return config_bad(rr->r, n, key, "true or false");
	*ret = streq(s, "true");
	return 0;
}

static int read_match_bool(struct rules_reader *rr, const yaml_node_t *n, const char *key,
			   enum config_match_bool *ret)
{
	bool v = false;
	int r = read_bool(rr, n, key, &v);

	*ret = v ? CONFIG_MATCH_TRUE : CONFIG_MATCH_FALSE;
	return r;
}

/* Names of runtimes that there are; of handlers also "", and they must route. */
static int read_names(struct rules_reader *rr, const yaml_node_t *n, const char *key, bool handlers,
		      const char *const **ret)
{
	const yaml_node_t *v[CONFIG_RULE_PATTERNS_MAX];
	const char **names;
	size_t count = 0;
	int r = one_or_more(rr, n, key, v, &count);

	if (r < 0)
		return r;
	names = arena_calloc(&rr->r->c->arena, count + 1, sizeof(*names));
	for (size_t i = 0; i < count; i++) {
		const char *s = config_scalar(v[i]);
		const struct config_runtime *rt = s ? config_runtime_find(rr->r->c, s) : NULL;

		if (!rt && !(handlers && s && !*s))
			return config_bad(rr->r, v[i], key, "the name of one of the runtimes");
		if (rt && handlers && !rt->routes)
			return config_bad(
				rr->r, v[i], key,
				"a handler that says \"routes: true\" in runtimes: no rule "
				"overrules the others");
		for (size_t k = 0; k < i; k++)
			if (streq(names[k], s))
				return config_bad(rr->r, v[i], key, "each name only once");
		names[i] = rt ? rt->name : "";
	}
	*ret = names;
	return 0;
}

/* --- a rule --- */

#define MATCH "routes: match"

static int read_condition(struct rules_reader *rr, struct config_rule *rule, const yaml_node_t *k,
			  const yaml_node_t *v)
{
	const char *name = str_or_empty(config_scalar(k));
	const struct {
		const char *name, *key;
		const struct pattern **patterns;
		size_t *n;
	} texts[] = {
		{"image", MATCH ": image", &rule->images, &rule->n_images},
		{"namespace", MATCH ": namespace", &rule->namespaces, &rule->n_namespaces},
		{"pod", MATCH ": pod", &rule->pods, &rule->n_pods},
		{"container", MATCH ": container", &rule->containers, &rule->n_containers},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (streq(texts[i].name, name))
			return read_patterns(rr, v, texts[i].key, i == 0, texts[i].patterns,
					     texts[i].n);
	if (streq(name, "handler"))
		return read_names(rr, v, MATCH ": handler", true, &rule->handlers);
	if (streq(name, "labels"))
		return read_pairs(rr, v, MATCH ": labels", &rule->labels, &rule->n_labels);
	if (streq(name, "annotations"))
		return read_pairs(rr, v, MATCH ": annotations", &rule->annotations,
				  &rule->n_annotations);
	if (streq(name, "privileged"))
		return read_match_bool(rr, v, MATCH ": privileged", &rule->privileged);
	if (streq(name, "user_namespace"))
		return read_match_bool(rr, v, MATCH ": user_namespace", &rule->user_namespace);
	return config_bad(rr->r, k, MATCH,
			  "handler, image, namespace, pod, container, labels, annotations, "
			  "privileged or user_namespace");
}

/* Whether a key stands in a mapping before `p`. */
static bool is_twice(struct rules_reader *rr, const yaml_node_t *n, const yaml_node_pair_t *p)
{
	const char *s = config_scalar(node(rr, p->key));

	for (const yaml_node_pair_t *q = n->data.mapping.pairs.start; s && q < p; q++) {
		const char *other = config_scalar(node(rr, q->key));

		if (other && streq(s, other))
			return true;
	}
	return false;
}

static int read_match(struct rules_reader *rr, struct config_rule *rule, const yaml_node_t *n)
{
	if (n->type != YAML_MAPPING_NODE ||
	    n->data.mapping.pairs.start == n->data.mapping.pairs.top)
		return config_bad(rr->r, n, MATCH,
				  "at least one condition (namespace: \"*\" holds for every pod)");
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		int r = is_twice(rr, n, p)
				? config_bad(rr->r, node(rr, p->key), MATCH,
					     "each condition only once")
				: read_condition(rr, rule, node(rr, p->key), node(rr, p->value));

		if (r < 0)
			return r;
	}
	return 0;
}

static int read_rule_name(struct rules_reader *rr, struct config_rule *rule, const yaml_node_t *n)
{
	const char *s = config_scalar(n);
	size_t len = s ? strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "-._")
		       : 0;

	if (len == 0 || s[len] || len > CONFIG_RULE_NAME_MAX)
		return config_bad(rr->r, n, "routes: name",
				  "1 to 63 letters, digits, '-', '.' and '_'");
	if (map_get(&rr->names, s))
		return config_bad(rr->r, n, "routes: name", "a name that is not there twice");
	rule->name = arena_strdup(&rr->r->c->arena, s);
	(void)map_put(&rr->names, rule->name, rule);
	return 0;
}

static int read_rule_key(struct rules_reader *rr, struct config_rule *rule, const yaml_node_t *k,
			 const yaml_node_t *v, bool *matched)
{
	const char *name = str_or_empty(config_scalar(k));

	if (streq(name, "name"))
		return read_rule_name(rr, rule, v);
	if (streq(name, "match")) {
		*matched = true;
		return read_match(rr, rule, v);
	}
	if (streq(name, "runtimes"))
		return read_names(rr, v, "routes: runtimes", false, &rule->runtimes);
	if (streq(name, "allow_weaker"))
		return read_bool(rr, v, "routes: allow_weaker", &rule->allow_weaker);
	if (streq(name, "trust_annotations"))
		return read_bool(rr, v, "routes: trust_annotations", &rule->trust_annotations);
	return config_bad(rr->r, k, "routes",
			  "name, match, runtimes, allow_weaker or trust_annotations");
}

static int read_rule(struct rules_reader *rr, struct config_rule *rule, const yaml_node_t *n)
{
	bool matched = false;

	if (n->type != YAML_MAPPING_NODE)
		return config_bad(rr->r, n, "routes", "a mapping: name, match, runtimes");
	rule->line = (unsigned)n->start_mark.line + 1;
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		int r = is_twice(rr, n, p) ? config_bad(rr->r, node(rr, p->key), "routes",
							"each key only once")
					   : read_rule_key(rr, rule, node(rr, p->key),
							   node(rr, p->value), &matched);

		if (r < 0)
			return r;
	}
	if (!rule->name || !matched || !rule->runtimes)
		return config_bad(rr->r, n, "routes", "a rule with name, match and runtimes");
	if (rule->n_annotations && !rule->trust_annotations)
		return config_bad(
			rr->r, n, "routes: annotations",
			"\"trust_annotations: true\" in the rule: whoever may create pods "
			"writes their annotations");
	return 0;
}

int config_rules_read(struct config_reader *r, const yaml_node_t *n)
{
	struct rules_reader rr = {.r = r};
	size_t count = 0;
	int res = 0;

	if (r->c->rules)
		return config_bad(r, n, "routes", "the list of rules only once");
	if (n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0)
		return 0; /* "routes:" with nothing below it */
	if (n->type == YAML_SEQUENCE_NODE)
		count = items(n);
	if (n->type != YAML_SEQUENCE_NODE || count > CONFIG_RULES_MAX)
		return config_bad(r, n, "routes", "a list of at most 4096 rules");
	r->c->rules = arena_calloc(&r->c->arena, count + 1, sizeof(*r->c->rules));
	for (size_t i = 0; res == 0 && i < count; i++)
		res = read_rule(&rr, &r->c->rules[i], node(&rr, n->data.sequence.items.start[i]));
	r->c->n_rules = count;
	map_fini(&rr.names);
	return res;
}

/* --- printing --- */

static void print_patterns(struct strbuf *b, const char *key, const struct pattern *p, size_t n)
{
	if (n)
		strbuf_addf(b, "%s: [", key);
	for (size_t i = 0; i < n; i++) {
		strbuf_adds(b, i ? ", " : "");
		config_print_string(b, p[i].text);
	}
	strbuf_adds(b, n ? "]\n" : "");
}

static void print_condition(struct strbuf *b, const char *key, const struct pattern *p, size_t n)
{
	strbuf_adds(b, n ? "      " : "");
	print_patterns(b, key, p, n);
}

static void print_pairs(struct strbuf *b, const char *key, const struct config_match_pair *p,
			size_t n)
{
	if (n)
		strbuf_addf(b, "      %s:\n", key);
	for (size_t i = 0; i < n; i++) {
		strbuf_adds(b, "        ");
		config_print_string(b, p[i].key);
		print_patterns(b, "", p[i].patterns, p[i].n);
	}
}

static void print_names(struct strbuf *b, const char *key, const char *const *v)
{
	strbuf_addf(b, "%s: [", key);
	for (size_t i = 0; v[i]; i++) {
		strbuf_adds(b, i ? ", " : "");
		config_print_string(b, v[i]);
	}
	strbuf_adds(b, "]\n");
}

static void print_bool(struct strbuf *b, const char *key, enum config_match_bool v)
{
	if (v != CONFIG_MATCH_ANY)
		strbuf_addf(b, "      %s: %s\n", key, v == CONFIG_MATCH_TRUE ? "true" : "false");
}

void config_rules_print(const struct config *c, struct strbuf *b)
{
	strbuf_adds(b, "# rules: which runtimes a pod or container may have, in order; the first "
		       "rule decides whose\n# conditions hold: see docs/routing.md\n");
	strbuf_adds(b, c->n_rules ? "routes:\n" : "routes: []\n");
	for (size_t i = 0; i < c->n_rules; i++) {
		const struct config_rule *r = &c->rules[i];

		strbuf_adds(b, "  - name: ");
		config_print_string(b, r->name);
		strbuf_adds(b, "\n    match:\n");
		if (r->handlers)
			print_names(b, "      handler", r->handlers);
		print_condition(b, "image", r->images, r->n_images);
		print_condition(b, "namespace", r->namespaces, r->n_namespaces);
		print_condition(b, "pod", r->pods, r->n_pods);
		print_condition(b, "container", r->containers, r->n_containers);
		print_pairs(b, "labels", r->labels, r->n_labels);
		print_pairs(b, "annotations", r->annotations, r->n_annotations);
		print_bool(b, "privileged", r->privileged);
		print_bool(b, "user_namespace", r->user_namespace);
		print_names(b, "    runtimes", r->runtimes);
		strbuf_adds(b, r->allow_weaker ? "    allow_weaker: true\n" : "");
		strbuf_adds(b, r->trust_annotations ? "    trust_annotations: true\n" : "");
	}
}
