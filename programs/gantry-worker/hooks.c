/* SPDX-License-Identifier: Apache-2.0 */
/* OCI hooks by directories: see hooks.h. */
#include "hooks.h"

#include <ctype.h>
#include <limits.h>
#include <regex.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "dropins.h"

#define VERSION "1.0.0"
#define PATTERN_MAX 1024      /* bytes */
#define NODES_MAX (16u << 10) /* of a pattern whose repetitions are unrolled */
#define GROUPS_MAX 16	      /* in each other */

/* --- patterns --- */

/*
 * What is written for Go's regexp, as regcomp(3) takes it.  What would mean something else there is
 * refused.  regcomp() unrolls what is repeated, so its memory is counted before.
 */
struct pattern {
	const char *s; /* what is still to be read */
	struct strbuf out;
	uint64_t nodes[GROUPS_MAX]; /* of each open group */
	size_t depth;
	uint64_t last; /* nodes of what a repetition would repeat */
	int flags;
};

static bool add_nodes(struct pattern *p, uint64_t n)
{
	p->last = n;
	p->nodes[p->depth] += n;
	return p->nodes[p->depth] <= NODES_MAX;
}

static bool repeat_last(struct pattern *p, uint64_t times)
{
	uint64_t n = p->last * times;

	p->nodes[p->depth] += n - p->last;
	p->last = n;
	return times <= NODES_MAX && p->nodes[p->depth] <= NODES_MAX;
}

static bool escape(struct pattern *p, bool in_brackets)
{
	static const struct {
		char c;
		const char *plain, *in_brackets;
	} classes[] = {
		{'d', "[0-9]", "0-9"},
		{'D', "[^0-9]", NULL},
		{'s', "[[:space:]]", "[:space:]"},
		{'S', "[^[:space:]]", NULL},
		{'w', "[[:alnum:]_]", "[:alnum:]_"},
		{'W', "[^[:alnum:]_]", NULL},
		{'A', "^", NULL},
		{'z', "$", NULL},
		{'b', "\\b", NULL},
		{'B', "\\B", NULL},
		{'t', "\t", "\t"},
		{'n', "\n", "\n"},
	};
	char c = *++p->s;

	p->s += c != '\0';
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		const char *to = in_brackets ? classes[i].in_brackets : classes[i].plain;

		if (c == classes[i].c && to) {
			strbuf_adds(&p->out, to);
			return true;
		}
	}
	if (!ispunct((unsigned char)c))
		return false;
	if (in_brackets)
		strbuf_addf(&p->out, "[.%c.]", c);
	else
		strbuf_addf(&p->out, "\\%c", c);
	return true;
}

static bool brackets(struct pattern *p)
{
	strbuf_addc(&p->out, *p->s++);
	if (*p->s == '^')
		strbuf_addc(&p->out, *p->s++);
	if (*p->s == ']')
		strbuf_addc(&p->out, *p->s++);
	while (*p->s && *p->s != ']') {
		const char *end = p->s[0] == '[' && p->s[1] == ':' ? strstr(p->s, ":]") : NULL;

		if (end) { /* a class */
			strbuf_add(&p->out, p->s, (size_t)(end + 2 - p->s));
			p->s = end + 2;
		} else if (*p->s == '\\') {
			if (!escape(p, true))
				return false;
		} else if (*p->s == '[') {
			strbuf_adds(&p->out, "[.[.]");
			p->s++;
		} else {
			strbuf_addc(&p->out, *p->s++);
		}
	}
	if (*p->s)
		strbuf_addc(&p->out, *p->s++);
	return true;
}

static bool group(struct pattern *p)
{
	if (p->depth + 1 == GROUPS_MAX)
		return false;
	p->nodes[++p->depth] = 1;
	strbuf_addc(&p->out, '(');
	p->s++;
	if (*p->s != '?')
		return true;
	if (p->s[1] != ':')
		return false;
	p->s += 2;
	return true;
}

static bool group_end(struct pattern *p)
{
	if (!p->depth)
		return false;
	strbuf_addc(&p->out, *p->s++);
	p->depth--;
	return add_nodes(p, p->nodes[p->depth + 1]);
}

/* Of {N}, {N,}, {N,M}: its length, and how often at most; 0: the brace is meant as it stands. */
static size_t braces(const char *s, uint64_t *ret_times)
{
	size_t n = strcspn(s, "}");
	const char *comma = memchr(s, ',', n);

	if (!s[n] || n < 2 || n > 12 || strspn(s + 1, "0123456789,") != n - 1)
		return 0;
	*ret_times = strtoull(comma && comma[1] != '}' ? comma + 1 : s + 1, NULL, 10) + 1;
	return n + 1;
}

/* A lazy one ("+?") matches the same texts; one of a repetition is refused by Go as well. */
static bool repetition(struct pattern *p)
{
	uint64_t times = 2;
	size_t n = *p->s == '{' ? braces(p->s, &times) : 1;

	if (!n) {
		strbuf_adds(&p->out, "\\{");
		p->s++;
		return add_nodes(p, 1);
	}
	strbuf_add(&p->out, p->s, n);
	p->s += n;
	p->s += *p->s == '?';
	if (*p->s && strchr("*+?", *p->s))
		return false;
	return repeat_last(p, times) && !(*p->s == '{' && braces(p->s, &times));
}

static bool translate_one(struct pattern *p)
{
	switch (*p->s) {
	case '\\':
		return escape(p, false) && add_nodes(p, 1);
	case '[':
		return brackets(p) && add_nodes(p, 1);
	case '(':
		return group(p);
	case ')':
		return group_end(p);
	case '*':
	case '+':
	case '?':
	case '{':
		return repetition(p);
	default:
		strbuf_addc(&p->out, *p->s++);
		return add_nodes(p, 1);
	}
}

static bool translate(struct pattern *p)
{
	if (str_has_prefix(p->s, "(?i)")) {
		p->s += strlen("(?i)");
		p->flags |= REG_ICASE;
	}
	while (*p->s)
		if (!translate_one(p))
			return false;
	return true;
}

/* False for a pattern that cannot be used. */
static bool compile(const char *text, regex_t *ret)
{
	struct pattern p = {.s = text, .flags = REG_EXTENDED | REG_NOSUB};
	bool good = strlen(text) <= PATTERN_MAX && translate(&p) &&
		    regcomp(ret, str_or_empty(p.out.s), p.flags) == 0;

	strbuf_fini(&p.out);
	return good;
}

static bool pattern_good(const char *text)
{
	regex_t re;

	if (!text || !compile(text, &re))
		return false;
	regfree(&re);
	return true;
}

static bool any_matches(const char *pattern, char *const *v, size_t n)
{
	bool found = false;
	regex_t re;

	if (!compile(pattern, &re))
		return false;
	for (size_t i = 0; !found && i < n; i++)
		found = regexec(&re, v[i], 0, NULL, 0) == 0;
	regfree(&re);
	return found;
}

/* --- checks --- */

static const struct field file_fields[] = {
	{"version", FIELD_STRING, true},
	{"hook", FIELD_OBJECT, true},
	{"when", FIELD_OBJECT, true},
	{"stages", FIELD_STRINGS, true},
};
static const struct field hook_fields[] = {
	{"path", FIELD_STRING, true},
	{"args", FIELD_STRINGS, false},
	{"env", FIELD_STRINGS, false},
	{"timeout", FIELD_NUMBER, false},
};
static const struct field when_fields[] = {
	{"always", FIELD_BOOL, false},
	{"annotations", FIELD_WORDS, false},
	{"commands", FIELD_STRINGS, false},
	{"hasBindMounts", FIELD_BOOL, false},
};

static int check_hook(const jv *v, const char *what, struct err *e)
{
	_cleanup_free_ char *where = xasprintf("%s: hook", what);
	const char *path = jv_string(v, "path", "");
	int r = fields_check(v, hook_fields, ARRAY_SIZE(hook_fields), false, where, e);

	if (r == 0 && (*path != '/' || strlen(path) >= PATH_MAX))
		r = err_invalid(e, "%s: path: \"%.100s\" is no absolute path", where, path);
	for (size_t i = 0; r == 0 && i < jv_len(jv_get(v, "env")); i++) {
		const char *s = str_or_empty(jv_as_string(jv_at(jv_get(v, "env"), i)));

		if (*s == '=' || !strchr(s, '='))
			r = err_invalid(e, "%s: env: \"%.100s\": expected NAME=VALUE", where, s);
	}
	if (r == 0 && jv_get(v, "timeout") && jv_int(v, "timeout", 0) <= 0)
		r = err_invalid(e, "%s: timeout: it must be greater than 0", where);
	return r;
}

static int bad_pattern(const char *where, const char *key, const char *s, struct err *e)
{
	return err_invalid(e, "%s: %s: \"%.100s\" is no pattern that can be used", where, key,
			   str_or_empty(s));
}

static int check_when(const jv *v, const char *what, struct err *e)
{
	_cleanup_free_ char *where = xasprintf("%s: when", what);
	const jv *commands = jv_get(v, "commands"), *annotations = jv_get(v, "annotations");
	struct jv_iter it = JV_ITER_INIT;
	int r = fields_check(v, when_fields, ARRAY_SIZE(when_fields), false, where, e);

	for (size_t i = 0; r == 0 && i < jv_len(commands); i++)
		if (!pattern_good(jv_as_string(jv_at(commands, i))))
			r = bad_pattern(where, "commands", jv_as_string(jv_at(commands, i)), e);
	while (r == 0 && jv_next(annotations, &it)) {
		if (!pattern_good(it.key))
			r = bad_pattern(where, "annotations", it.key, e);
		else if (!pattern_good(jv_as_string(it.value)))
			r = bad_pattern(where, "annotations", jv_as_string(it.value), e);
	}
	return r;
}

int hooks_check(const jv *doc, const char *what, struct err *e)
{
	const jv *stages = jv_get(doc, "stages");
	int r = fields_check(doc, file_fields, ARRAY_SIZE(file_fields), false, what, e);

	if (r == 0 && !streq(jv_string(doc, "version", ""), VERSION))
		r = err_invalid(e, "%s: version: \"%.100s\", expected " VERSION, what,
				jv_string(doc, "version", ""));
	for (size_t i = 0; r == 0 && i < jv_len(stages); i++)
		if (edits_stage(str_or_empty(jv_as_string(jv_at(stages, i)))) < 0)
			r = err_invalid(e, "%s: stages: \"%.100s\" is none", what,
					str_or_empty(jv_as_string(jv_at(stages, i))));
	if (r == 0)
		r = check_hook(jv_get(doc, "hook"), what, e);
	return r < 0 ? r : check_when(jv_get(doc, "when"), what, e);
}

/* --- when --- */

static bool annotation_matches(const char *key, const char *value, const struct hooks_subject *s)
{
	regex_t re;
	bool found = false;

	if (!compile(key, &re))
		return false;
	for (size_t i = 0; !found && i < s->keys.n; i++)
		found = regexec(&re, s->keys.v[i], 0, NULL, 0) == 0 &&
			any_matches(value, &s->values.v[i], 1);
	regfree(&re);
	return found;
}

/* Everything that is said must be true of the container, and something must be said. */
bool hooks_match(const jv *doc, const struct hooks_subject *s)
{
	const jv *when = jv_get(doc, "when"), *commands = jv_get(when, "commands");
	struct jv_iter it = JV_ITER_INIT;
	char *command = (char *)(uintptr_t)s->command;
	bool said = false, found = false;

	if (jv_get(when, "always") && !jv_bool(when, "always", false))
		return false;
	said |= jv_bool(when, "always", false);
	if (jv_get(when, "hasBindMounts") &&
	    !(jv_bool(when, "hasBindMounts", false) && s->has_binds))
		return false;
	said |= jv_bool(when, "hasBindMounts", false);
	while (jv_next(jv_get(when, "annotations"), &it)) {
		if (!annotation_matches(it.key, str_or_empty(jv_as_string(it.value)), s))
			return false;
		said = true;
	}
	for (size_t i = 0; !found && i < jv_len(commands); i++)
		found = any_matches(str_or_empty(jv_as_string(jv_at(commands, i))), &command, 1);
	return jv_len(commands) ? found : said;
}

/* --- directories --- */

/* A program of the node's; what is run at startContainer is the container's. */
static int check_program(const jv *doc, const char *what, struct err *e)
{
	const char *path = jv_string(doc, "hook.path", "");
	const jv *stages = jv_get(doc, "stages");
	bool ours = false;
	struct stat st;

	for (size_t i = 0; i < jv_len(stages); i++)
		ours |= !streq(str_or_empty(jv_as_string(jv_at(stages, i))), "startContainer");
	if (ours && (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111)))
		return err_invalid(e, "%s: hook: path: \"%.200s\" is no program", what, path);
	return 0;
}

static int take(struct dropins *files, const struct dropin *f, const struct hooks_subject *s,
		struct edits *to, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	const jv *stages;
	int r = dropins_read(files, f, &doc, e);

	if (r == 0)
		r = hooks_check(doc, f->path, e);
	if (r == 0)
		r = check_program(doc, f->path, e);
	if (r < 0 || !hooks_match(doc, s))
		return r;
	stages = jv_get(doc, "stages");
	for (size_t i = 0; i < jv_len(stages); i++)
		edits_add_hook(to, edits_stage(str_or_empty(jv_as_string(jv_at(stages, i)))),
			       jv_get(doc, "hook"));
	return 0;
}

/* By name; of one name the file of the last directory is first. */
static int compare(const void *a, const void *b)
{
	const struct dropin *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : (y->dir > x->dir) - (y->dir < x->dir);
}

int hooks_collect(const struct strv *dirs, const struct hooks_subject *s, struct edits *to,
		  struct err *e)
{
	struct dropins files = {0};
	int r = dropins_find(dirs, false, &files, e);

	if (r < 0)
		return r;
	if (files.n)
		qsort(files.v, files.n, sizeof(*files.v), compare);
	for (size_t i = 0; i < files.n; i++) {
		struct err why = ERR_NULL;

		if (i > 0 && streq(files.v[i].name, files.v[i - 1].name))
			continue; /* hidden */
		/* A broken file must not keep containers from being made on the whole node. */
		if (take(&files, &files.v[i], s, to, &why) < 0)
			log_warn("hooks_dirs: %s", why.msg);
	}
	dropins_fini(&files);
	return 0;
}
