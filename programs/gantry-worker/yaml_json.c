/* SPDX-License-Identifier: Apache-2.0 */
/* YAML as JSON: see yaml_json.h. */
#include "yaml_json.h"

#include <inttypes.h>
#include <math.h>
#include <yaml.h>

#include "base/mem.h"
#include "wire/json.h"

#define NUMBER_MAX 64 /* letters of one */

struct reading {
	yaml_parser_t parser;
	yaml_event_t event;
	struct jw w;
	const char *what;
	struct err *e;
};

static int bad(struct reading *y, const char *why)
{
	size_t line = y->event.type ? y->event.start_mark.line : y->parser.problem_mark.line;

	return err_invalid(y->e, "%s:%zu: %s", y->what, line + 1, why);
}

static int next(struct reading *y)
{
	yaml_event_delete(&y->event);
	if (!yaml_parser_parse(&y->parser, &y->event)) {
		memset(&y->event, 0, sizeof(y->event));
		return bad(y, y->parser.problem ? y->parser.problem : "it is no YAML");
	}
	return 0;
}

/* --- scalars --- */

static bool is_one_of(const char *s, const char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (streq(s, v[i]))
			return true;
	return false;
}

static bool parse_whole(const char *s, int64_t *ret)
{
	const char *digits = s + (*s == '-' || *s == '+');
	int base = 10;
	char *end;

	if (str_has_prefix(digits, "0x")) {
		base = 16;
		digits += 2;
	} else if (str_has_prefix(digits, "0o")) {
		base = 8;
		digits += 2;
	} else if (*digits == '0' && digits[1]) {
		base = 8;
	}
	if (!*digits || strspn(digits, "0123456789abcdefABCDEF") != strlen(digits))
		return false;
	errno = 0;
	*ret = strtoll(digits, &end, base);
	if (errno || *end)
		return false;
	if (*s == '-')
		*ret = -*ret;
	return true;
}

static bool parse_fraction(const char *s, double *ret)
{
	char *end;

	if (!*s || strspn(s, "0123456789+-.eE") != strlen(s) || !strpbrk(s, "0123456789"))
		return false;
	*ret = strtod(s, &end);
	return !*end && isfinite(*ret);
}

static void put_plain(struct reading *y, const char *s)
{
	static const char *const nothing[] = {"", "~", "null", "Null", "NULL"},
				 *const yes[] = {"true", "True", "TRUE"},
				 *const no[] = {"false", "False", "FALSE"};
	int64_t whole;
	double fraction;

	if (is_one_of(s, nothing, ARRAY_SIZE(nothing))) {
		jw_raw(&y->w, "null");
	} else if (is_one_of(s, yes, ARRAY_SIZE(yes)) || is_one_of(s, no, ARRAY_SIZE(no))) {
		jw_bool(&y->w, is_one_of(s, yes, ARRAY_SIZE(yes)));
	} else if (strlen(s) < NUMBER_MAX && parse_whole(s, &whole)) {
		jw_int(&y->w, whole);
	} else if (strlen(s) < NUMBER_MAX && parse_fraction(s, &fraction)) {
		char text[NUMBER_MAX];

		snprintf(text, sizeof(text), "%.17g", fraction);
		jw_raw(&y->w, text);
	} else {
		jw_string(&y->w, s);
	}
}

static int put_scalar(struct reading *y)
{
	const char *s = (const char *)y->event.data.scalar.value;
	const char *tag = (const char *)y->event.data.scalar.tag;
	bool text = tag && (streq(tag, YAML_STR_TAG) || streq(tag, "!"));

	if (tag && !text)
		return bad(y, "tags of types are not possible");
	if (strlen(s) != y->event.data.scalar.length)
		return bad(y, "it holds a NUL");
	if (text || y->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		jw_string(&y->w, s);
	else
		put_plain(y, s);
	return 0;
}

/* --- nodes --- */

static int put_node(struct reading *y, unsigned depth);

static int put_list(struct reading *y, unsigned depth)
{
	int r = next(y);

	jw_array_begin(&y->w);
	while (r == 0 && y->event.type != YAML_SEQUENCE_END_EVENT)
		r = put_node(y, depth + 1);
	jw_array_end(&y->w);
	return r;
}

static int put_mapping(struct reading *y, unsigned depth)
{
	int r = next(y);

	jw_object_begin(&y->w);
	while (r == 0 && y->event.type != YAML_MAPPING_END_EVENT) {
		if (y->event.type != YAML_SCALAR_EVENT)
			return bad(y, "a key must be a word");
		jw_key(&y->w, (const char *)y->event.data.scalar.value);
		r = next(y);
		if (r == 0)
			r = put_node(y, depth + 1);
	}
	jw_object_end(&y->w);
	return r;
}

/* The node that the current event begins; the event after it is the current one then. */
static int put_node(struct reading *y, unsigned depth)
{
	int r;

	if (depth > YAML_DEPTH_MAX)
		return bad(y, "it is nested too deeply");
	switch (y->event.type) {
	case YAML_SCALAR_EVENT:
		r = put_scalar(y);
		break;
	case YAML_SEQUENCE_START_EVENT:
		r = put_list(y, depth);
		break;
	case YAML_MAPPING_START_EVENT:
		r = put_mapping(y, depth);
		break;
	case YAML_ALIAS_EVENT:
		return bad(y, "aliases are not possible");
	default:
		return bad(y, "a value is missing");
	}
	return r < 0 ? r : next(y);
}

static int put_document(struct reading *y)
{
	int r = next(y);

	if (r == 0) /* the begin of the stream */
		r = next(y);
	if (r == 0 && y->event.type == YAML_STREAM_END_EVENT)
		return bad(y, "there is nothing in it");
	if (r == 0)
		r = next(y);
	if (r == 0)
		r = put_node(y, 0);
	if (r == 0) /* the end of the document */
		r = next(y);
	if (r == 0 && y->event.type != YAML_STREAM_END_EVENT)
		r = bad(y, "there is more than one document in it");
	return r;
}

int yaml_to_json(const char *text, size_t n, const char *what, struct strbuf *to, struct err *e)
{
	struct reading y = {.w = JW_INIT(to), .what = what, .e = e};
	int r;

	if (!yaml_parser_initialize(&y.parser))
		return err_set(e, -ENOMEM, GRPC_RESOURCE_EXHAUSTED, "%s: no memory", what);
	yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, n);
	r = put_document(&y);
	yaml_event_delete(&y.event);
	yaml_parser_delete(&y.parser);
	return r;
}
