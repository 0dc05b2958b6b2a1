/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a text is JSON: see json_check.h.
 *
 * json-c takes more than JSON even when told to be strict (-01, 1., NaN, 'a', bare control
 * characters), and not the same in each version.  What is accepted must not depend on the
 * library that happens to be installed, nor differ from what other tools read in a file.
 */
#include "wire/json_check.h"

#include <stdint.h>
#include <string.h>

#include "base/str.h"

struct scan {
	const char *p, *end;
	const char *why;
};

static bool bad(struct scan *s, const char *why)
{
	s->why = s->p == s->end ? "the text ends in the middle" : why;
	return false;
}

static bool at(const struct scan *s, char c)
{
	return s->p < s->end && *s->p == c;
}

static bool skip(struct scan *s, char c)
{
	if (!at(s, c))
		return false;
	s->p++;
	return true;
}

static void space(struct scan *s)
{
	while (at(s, ' ') || at(s, '\t') || at(s, '\n') || at(s, '\r'))
		s->p++;
}

static bool digit(const struct scan *s)
{
	return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static bool digits(struct scan *s)
{
	if (!digit(s))
		return bad(s, "a digit is missing");
	while (digit(s))
		s->p++;
	return true;
}

static bool number(struct scan *s)
{
	skip(s, '-');
	if (skip(s, '0')) {
		if (digit(s))
			return bad(s, "a number begins with 0");
	} else if (!digits(s)) {
		return false;
	}
	if (skip(s, '.') && !digits(s))
		return false;
	if (!skip(s, 'e') && !skip(s, 'E'))
		return true;
	if (!skip(s, '-'))
		skip(s, '+');
	return digits(s);
}

static bool escape(struct scan *s)
{
	if (s->p == s->end || !strchr("\"\\/bfnrtu", *s->p) || !*s->p)
		return bad(s, "unknown escape");
	if (*s->p++ != 'u')
		return true;
	for (int i = 0; i < 4; i++, s->p++)
		if (s->p == s->end || !strchr("0123456789abcdefABCDEF", *s->p) || !*s->p)
			return bad(s, "\\u wants four hexadecimal digits");
	return true;
}

static bool string(struct scan *s)
{
	const char *start;

	if (!skip(s, '"'))
		return bad(s, "a string is missing");
	start = s->p;
	while (s->p < s->end && *s->p != '"') {
		if ((unsigned char)*s->p < 0x20)
			return bad(s, "a control character in a string");
		if (!skip(s, '\\'))
			s->p++;
		else if (!escape(s))
			return false;
	}
	if (s->p == s->end)
		return bad(s, NULL);
	if (!str_is_utf8(start, (size_t)(s->p - start))) {
		s->p = start;
		return bad(s, "a string that is no UTF-8");
	}
	s->p++;
	return true;
}

static bool word(struct scan *s, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0)
		return bad(s, "a value is missing");
	s->p += n;
	return true;
}

static bool scalar(struct scan *s)
{
	if (at(s, '"'))
		return string(s);
	if (at(s, '-') || digit(s))
		return number(s);
	if (at(s, 't'))
		return word(s, "true");
	if (at(s, 'f'))
		return word(s, "false");
	return word(s, "null");
}

static bool key(struct scan *s)
{
	space(s);
	if (!string(s))
		return false;
	space(s);
	return skip(s, ':') || bad(s, "\":\" is missing");
}

/* What is open: a bit a level, 1 for an object. */
struct nest {
	uint64_t objects;
	unsigned depth;
};
_Static_assert(JSON_DEPTH_MAX <= 64, "a bit a level");

static bool in_object(const struct nest *n)
{
	return n->objects & 1;
}

/* After a value: closes what closes, up to the next value or the end (*ret_over). */
static bool after(struct scan *s, struct nest *n, bool *ret_over)
{
	for (;; n->depth--, n->objects >>= 1) {
		space(s);
		*ret_over = n->depth == 0;
		if (*ret_over)
			return true;
		if (skip(s, ','))
			return !in_object(n) || key(s);
		if (!skip(s, in_object(n) ? '}' : ']'))
			return bad(s, in_object(n) ? "\",\" or \"}\" is missing"
						   : "\",\" or \"]\" is missing");
	}
}

/* A value's beginning; *ret_inside: it opened, and its first value comes next. */
static bool begin(struct scan *s, struct nest *n, bool *ret_inside)
{
	bool object = at(s, '{');

	*ret_inside = false;
	if (!object && !at(s, '['))
		return scalar(s);
	if (n->depth == JSON_DEPTH_MAX)
		return bad(s, "nested too deep");
	s->p++;
	space(s);
	if (skip(s, object ? '}' : ']'))
		return true;
	n->objects = n->objects << 1 | object;
	n->depth++;
	*ret_inside = true;
	return !object || key(s);
}

static bool document(struct scan *s)
{
	struct nest n = {0};
	bool inside, over = false;

	while (!over) {
		space(s);
		if (!begin(s, &n, &inside))
			return false;
		if (!inside && !after(s, &n, &over))
			return false;
	}
	return s->p == s->end || bad(s, "something follows the value");
}

bool json_check(const char *text, size_t n, size_t *ret_at, const char **ret_why)
{
	struct scan s = {.p = text, .end = text + n};

	if (document(&s))
		return true;
	*ret_at = (size_t)(s.p - text);
	*ret_why = s.why;
	return false;
}
