/* SPDX-License-Identifier: Apache-2.0 */
/* The file of `gantry route test`: see route_cases.h. */
#include "route_cases.h"

#include <yaml.h>

#include "base/mem.h"

struct reader {
	struct arena *a;
	const char *file;
	yaml_document_t *doc;
	struct err *e;
};

static int bad(struct reader *r, const yaml_node_t *n, const char *key, const char *expected)
{
	const char *found = n->type == YAML_SCALAR_NODE	   ? (const char *)n->data.scalar.value
			    : n->type == YAML_MAPPING_NODE ? "a mapping"
							   : "a list";

	return err_invalid(r->e, "%s:%zu: %s: found \"%s\", expected %s", r->file,
			   n->start_mark.line + 1, key, found, expected);
}

static const yaml_node_t *node(const struct reader *r, int id)
{
	return yaml_document_get_node(r->doc, id);
}

static const char *scalar(const yaml_node_t *n)
{
	if (n->type != YAML_SCALAR_NODE ||
	    memchr(n->data.scalar.value, '\0', n->data.scalar.length))
		return NULL;
	return (const char *)n->data.scalar.value;
}

static int read_text(struct reader *r, const yaml_node_t *n, const char *key, const char **ret)
{
	const char *s = scalar(n);

	if (!s)
		return bad(r, n, key, "a string");
	*ret = arena_strdup(r->a, s);
	return 0;
}

static int read_bool(struct reader *r, const yaml_node_t *n, const char *key, bool *ret)
{
	const char *s = scalar(n);

	if (!s || (!streq(s, "true") && !streq(s, "false")))
		return bad(r, n, key, "true or false");
	*ret = streq(s, "true");
	return 0;
}

static int read_pairs(struct reader *r, const yaml_node_t *n, const char *key,
		      struct route_pair **ret, size_t *ret_n)
{
	struct route_pair *p;
	size_t count = 0;

	if (n->type == YAML_MAPPING_NODE)
		count = (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
	if (n->type != YAML_MAPPING_NODE || count > ROUTE_CASE_LIST_MAX)
		return bad(r, n, key, "a mapping of at most 64 keys to values");
	p = arena_calloc(r->a, count + 1, sizeof(*p));
	for (size_t i = 0; i < count; i++) {
		const yaml_node_pair_t *pair = &n->data.mapping.pairs.start[i];

		if (read_text(r, node(r, pair->key), key, &p[i].key) < 0 ||
		    read_text(r, node(r, pair->value), key, &p[i].value) < 0)
			return r->e->errnum;
	}
	*ret = p;
	*ret_n = count;
	return 0;
}

static int read_list(struct reader *r, const yaml_node_t *n, const char *key,
		     const char *const **ret)
{
	const char **v;
	size_t count = 0;

	if (n->type == YAML_SEQUENCE_NODE)
		count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
	if (n->type != YAML_SEQUENCE_NODE || count > ROUTE_CASE_LIST_MAX)
		return bad(r, n, key, "a list of at most 64 names");
	v = arena_calloc(r->a, count + 1, sizeof(*v));
	for (size_t i = 0; i < count; i++)
		if (read_text(r, node(r, n->data.sequence.items.start[i]), key, &v[i]) < 0)
			return r->e->errnum;
	*ret = v;
	return 0;
}

static int read_key(struct reader *r, struct route_case *c, const yaml_node_t *k,
		    const yaml_node_t *v)
{
	const char *name = str_or_empty(scalar(k));
	const struct {
		const char *name;
		const char **to;
	} texts[] = {
		{"name", &c->name},	  {"image", &c->image},
		{"handler", &c->handler}, {"namespace", &c->namespace},
		{"pod", &c->pod},	  {"container", &c->container},
		{"expect", &c->expect},	  {"refused", &c->refused},
		{"rule", &c->rule},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (streq(texts[i].name, name))
			return read_text(r, v, name, texts[i].to);
	if (streq(name, "labels"))
		return read_pairs(r, v, name, &c->labels, &c->n_labels);
	if (streq(name, "annotations"))
		return read_pairs(r, v, name, &c->annotations, &c->n_annotations);
	if (streq(name, "privileged"))
		return read_bool(r, v, name, &c->privileged);
	if (streq(name, "user_namespace"))
		return read_bool(r, v, name, &c->user_namespace);
	if (streq(name, "unavailable"))
		return read_list(r, v, name, &c->unavailable);
	return bad(r, k, "a case",
		   "name, image, handler, namespace, pod, container, labels, annotations, "
		   "privileged, user_namespace, unavailable, expect, refused or rule");
}

static int read_case(struct reader *r, struct route_case *c, const yaml_node_t *n)
{
	if (n->type != YAML_MAPPING_NODE)
		return bad(r, n, "a case", "a mapping");
	c->line = (unsigned)n->start_mark.line + 1;
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		int res = read_key(r, c, node(r, p->key), node(r, p->value));

		if (res < 0)
			return res;
	}
	if (!c->expect == !c->refused)
		return bad(r, n, "a case",
			   "one of \"expect\" (a runtime) and \"refused\" (words of the reason)");
	return 0;
}

static int read_cases(struct reader *r, const yaml_node_t *n, struct route_case **ret,
		      size_t *ret_n)
{
	struct route_case *c;
	size_t count = 0;
	int res = 0;

	if (n && n->type == YAML_SEQUENCE_NODE)
		count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
	if (!n)
		return err_invalid(r->e, "%s: there is nothing in it", r->file);
	if (count == 0 || count > ROUTE_CASES_MAX)
		return bad(r, n, "the file", "a list of 1 to 10000 cases");
	c = arena_calloc(r->a, count, sizeof(*c));
	for (size_t i = 0; res == 0 && i < count; i++)
		res = read_case(r, &c[i], node(r, n->data.sequence.items.start[i]));
	*ret = c;
	*ret_n = count;
	return res;
}

int route_cases_read(struct arena *a, const char *file, const struct strbuf *text,
		     struct route_case **ret, size_t *ret_n, struct err *e)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	struct reader r = {a, file, &doc, e};
	int res;

	if (!yaml_parser_initialize(&parser))
		abort();
	yaml_parser_set_input_string(&parser, (const unsigned char *)str_or_empty(text->s),
				     text->len);
	if (!yaml_parser_load(&parser, &doc)) {
		res = err_invalid(e, "%s:%zu: %s", file, parser.problem_mark.line + 1,
				  str_or_empty(parser.problem));
	} else {
		res = read_cases(&r, yaml_document_get_root_node(&doc), ret, ret_n);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	return res;
}
