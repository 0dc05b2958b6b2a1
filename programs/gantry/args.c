/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, by the tables of commands and options; and what was perhaps meant. */
#include "cli.h"
#include "text.h"

/* --- lookups --- */

static bool word_in(const char *words, const char *w)
{
	size_t n = strlen(w);

	while (words && *words) {
		size_t k = strcspn(words, " ");

		if (k == n && strncmp(words, w, n) == 0)
			return true;
		words += k + strspn(words + k, " ");
	}
	return false;
}

const struct command *command_find(const char *name)
{
	for (size_t i = 0; cli_commands[i]; i++)
		if (streq(cli_commands[i]->name, name) || word_in(cli_commands[i]->aliases, name))
			return cli_commands[i];
	return NULL;
}

const char *command_word(const struct command *c)
{
	const char *space = strrchr(c->name, ' ');

	return space ? space + 1 : c->name;
}

const struct command *command_find_sub(const struct command *c, const char *sub)
{
	for (size_t i = 0; c->subs && c->subs[i]; i++)
		if (streq(command_word(c->subs[i]), sub))
			return c->subs[i];
	return NULL;
}

static bool is_among(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = str_or_empty(words); *p; p += strcspn(p, " "), p += *p == ' ')
		if (strncmp(p, word, n) == 0 && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

const struct opt *opt_next(const struct command *c, const struct opt *o)
{
	for (o = o ? o + 1 : c ? c->opts : NULL; o && o->name; o++)
		if (!is_among(c->without, o->name))
			return o;
	return NULL;
}

const struct opt *opt_find(const struct command *c, const char *name)
{
	for (const struct opt *o = opt_next(c, NULL); o; o = opt_next(c, o))
		if (streq(o->name, name))
			return o;
	for (const struct opt *o = cli_options; o->name; o++)
		if (streq(o->name, name))
			return o;
	return NULL;
}

const struct opt *opt_find_short(const struct command *c, char letter)
{
	for (const struct opt *o = opt_next(c, NULL); o; o = opt_next(c, o))
		if (o->c == letter)
			return o;
	for (const struct opt *o = cli_options; o->name; o++)
		if (o->c == letter)
			return o;
	return NULL;
}

/* --- suggestions --- */

static void consider(const char *word, const char *known, unsigned *best, const char **ret)
{
	unsigned d = text_distance(word, known);

	/* a beginning of it is near, whatever is missing */
	if (d > 1 && strlen(word) > 1 && str_has_prefix(known, word))
		d = 1;
	if (d < *best && d <= 1 + strlen(word) / 4) {
		*best = d;
		*ret = known;
	}
}

const char *command_suggest(const char *name)
{
	/* what users of other tools write first */
	static const char *const other[][2] = {
		{"container", "ps"}, {"containers", "ps"}, {"prune", "image"},
		{"pod", "pods"},     {"delete", "rm"},	   {"remove", "rm"},
		{"kill", "stop"},    {"list", "ps"},	   {"status", "info"},
		{"log", "logs"},     {"top", "stats"},	   {"describe", "inspect"},
		{"create", "run"},   {"start", "run"},	   {"dump", "checkpoint"}};
	const char *ret = NULL;
	unsigned best = 99;

	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		if (streq(name, other[i][0]))
			return other[i][1];
	for (size_t i = 0; cli_commands[i]; i++)
		consider(name, cli_commands[i]->name, &best, &ret);
	return ret;
}

const char *opt_suggest(const struct command *c, const char *name)
{
	const char *ret = NULL;
	unsigned best = 99;

	for (const struct opt *o = opt_next(c, NULL); o; o = opt_next(c, o))
		consider(name, o->name, &best, &ret);
	for (const struct opt *o = cli_options; o->name; o++)
		consider(name, o->name, &best, &ret);
	return ret;
}

/* --- parsing --- */

struct parser {
	struct cli *cli;
	const struct command *c;
	int argc, i;
	char **argv;
	struct args *a;
};

static int unknown_option(const struct parser *p, const char *name, struct err *e)
{
	const char *near = opt_suggest(p->c, name);

	return err_invalid(e, "unknown option --%s%s%s%s", name, near ? "; did you mean --" : "",
			   str_or_empty(near), near ? "?" : "");
}

static int check_word(const struct opt *o, const char *value, struct err *e)
{
	if (!o->words || word_in(o->words, value))
		return 0;
	return err_invalid(e, "--%s: \"%s\" is none of: %s", o->name, value, o->words);
}

static int give(struct parser *p, const struct opt *o, const char *value, struct err *e)
{
	struct args *a = p->a;

	if (o->metavar && !value) {
		if (p->i + 1 >= p->argc)
			return err_invalid(e, "option --%s needs a value (%s)", o->name,
					   o->metavar);
		value = p->argv[++p->i];
	}
	a->given[a->n_given].opt = o;
	a->given[a->n_given++].value = value;
	return value ? check_word(o, value, e) : 0;
}

static int long_option(struct parser *p, char *s, struct err *e)
{
	char *eq = strchr(s, '=');
	_cleanup_free_ char *name = xstrndup(s, eq ? (size_t)(eq - s) : strlen(s));
	const struct opt *o = opt_find(p->c, name);

	if (!o)
		return unknown_option(p, name, e);
	if (eq && !o->metavar)
		return err_invalid(e, "option --%s takes no value", name);
	return give(p, o, eq ? eq + 1 : NULL, e);
}

/* "-x", "-xyz", "-xVALUE". */
static int short_options(struct parser *p, const char *s, struct err *e)
{
	for (; *s; s++) {
		const struct opt *o = opt_find_short(p->c, *s);
		int r;

		if (!o)
			return err_invalid(e, "unknown option -%c", *s);
		if (o->metavar)
			return give(p, o, s[1] ? s + 1 : NULL, e);
		r = give(p, o, NULL, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_count(const struct args *a, struct err *e)
{
	const struct command *c = a->command;

	if (args_has(a, "help"))
		return 0;
	if (a->n < c->min)
		return err_invalid(e, "too few arguments, expected: %s", c->operands);
	if (a->n > c->max)
		return err_invalid(e, "unexpected argument \"%s\"", a->v[c->max]);
	return 0;
}

int args_parse(struct cli *cli, const struct command *c, int argc, char **argv, struct args *ret,
	       struct err *e)
{
	struct parser p = {.cli = cli, .c = c, .argc = argc, .argv = argv, .a = ret};
	size_t room = 1;
	bool only_operands = false;

	for (int i = 0; i < argc; i++)
		room += strlen(argv[i]) + 1;
	*ret = (struct args){.command = c};
	ret->v = arena_calloc(&cli->arena, (size_t)argc + 1, sizeof(*ret->v));
	ret->given = arena_calloc(&cli->arena, room, sizeof(*ret->given));
	for (; p.i < argc; p.i++) {
		char *s = argv[p.i];
		int r = 0;

		if (only_operands || *s != '-' || !s[1]) {
			ret->v[ret->n++] = s;
			only_operands |= c->own_options_first;
		} else if (streq(s, "--")) {
			only_operands = true;
		} else {
			r = s[1] == '-' ? long_option(&p, s + 2, e) : short_options(&p, s + 1, e);
		}
		if (r < 0)
			return r;
	}
	return check_count(ret, e);
}

/* --- what was given --- */

bool args_has(const struct args *a, const char *name)
{
	for (size_t i = 0; i < a->n_given; i++)
		if (streq(a->given[i].opt->name, name))
			return true;
	return false;
}

const char *args_get(const struct args *a, const char *name)
{
	const char *ret = NULL;

	for (size_t i = 0; i < a->n_given; i++)
		if (streq(a->given[i].opt->name, name))
			ret = a->given[i].value;
	return ret;
}

const char *args_next(const struct args *a, const char *name, size_t *pos)
{
	while (*pos < a->n_given) {
		const struct given *g = &a->given[(*pos)++];

		if (streq(g->opt->name, name))
			return g->value;
	}
	return NULL;
}

int args_duration(const struct args *a, const char *name, uint64_t otherwise, uint64_t *ret_us,
		  struct err *e)
{
	const char *s = args_get(a, name);

	if (!s) {
		*ret_us = otherwise;
		return 0;
	}
	if (!text_parse_duration(s, ret_us))
		return err_invalid(e, "--%s: \"%s\", expected a duration such as 10s, 5m or 1h30m",
				   name, s);
	return 0;
}

int args_number(const struct args *a, const char *name, int64_t min, int64_t max, int64_t otherwise,
		int64_t *ret, struct err *e)
{
	const char *s = args_get(a, name);

	*ret = otherwise;
	if (!s)
		return 0;
	if (!str_to_i64(s, ret) || *ret < min || *ret > max)
		return err_invalid(e, "--%s: \"%s\", expected a number from %lld to %lld", name, s,
				   (long long)min, (long long)max);
	return 0;
}
