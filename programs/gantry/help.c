/* SPDX-License-Identifier: Apache-2.0 */
/* Help, and the manual page's list of commands, out of the tables of commands. */
#include <ctype.h>

#include "cli.h"
#include "text.h"

#define HELP_COLUMN 30 /* where the explanation of an option begins */
#define HELP_WIDTH 88

/* Appends words, broken at HELP_WIDTH; lines after the first begin at `indent`. */
static void fill(struct strbuf *b, const char *s, size_t column, size_t indent)
{
	while (*s) {
		size_t n = strcspn(s, " ");

		if (column > indent && column + 1 + n > HELP_WIDTH) {
			strbuf_addf(b, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			strbuf_addc(b, ' ');
			column++;
		}
		strbuf_add(b, s, n);
		column += n;
		s += n + strspn(s + n, " ");
	}
	strbuf_addc(b, '\n');
}

/* Stands for the options of every command. */
static const struct command every = {.opts = cli_options};

static void option_words(const struct opt *o, struct strbuf *b)
{
	if (o->c)
		strbuf_addf(b, "-%c, ", o->c);
	else
		strbuf_adds(b, "    ");
	strbuf_addf(b, "--%s", o->name);
	if (o->metavar)
		strbuf_addf(b, " %s", o->metavar);
}

static void print_options(const struct command *c, struct strbuf *b)
{
	for (const struct opt *o = opt_next(c, NULL); o; o = opt_next(c, o)) {
		_cleanup_strbuf_ struct strbuf head = STRBUF_NULL, help = STRBUF_NULL;

		strbuf_adds(&head, "  ");
		option_words(o, &head);
		strbuf_adds(&help, o->help);
		if (o->many)
			strbuf_adds(&help, " (may be given more than once)");
		if (head.len + 2 > HELP_COLUMN)
			strbuf_addf(b, "%s\n%*s", head.s, HELP_COLUMN, "");
		else
			strbuf_addf(b, "%-*s", HELP_COLUMN, head.s);
		fill(b, help.s, HELP_COLUMN, HELP_COLUMN);
	}
}

static void usage(const struct command *c, struct strbuf *b)
{
	strbuf_addf(b, "gantry %s%s%s%s", c->name, c->opts ? " [OPTION]..." : "",
		    *c->operands ? " " : "", c->operands);
}

int help_command(const struct command *c)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const char *p = str_or_empty(c->text);

	strbuf_adds(&b, "Usage: ");
	usage(c, &b);
	strbuf_addf(&b, "\n%c%s.\n", toupper(c->summary[0]), c->summary + 1);
	while (*p) {
		size_t n = strcspn(p, "\n");
		_cleanup_free_ char *line = xstrndup(p, n);

		strbuf_addc(&b, '\n');
		fill(&b, line, 0, 0);
		p += n + (p[n] == '\n');
	}
	if (c->aliases)
		strbuf_addf(&b, "\nAlso: %s\n", c->aliases);
	if (c->subs)
		strbuf_adds(&b, "\nCommands:\n");
	for (size_t i = 0; c->subs && c->subs[i]; i++)
		strbuf_addf(&b, "  %-12s %s\n", command_word(c->subs[i]), c->subs[i]->summary);
	if (c->opts) {
		strbuf_adds(&b, "\nOptions:\n");
		print_options(c, &b);
	}
	strbuf_adds(&b, "\nOptions of every command:\n");
	print_options(&every, &b);
	if (c->examples) {
		strbuf_adds(&b, "\nExamples:\n");
		for (p = c->examples; *p; p += strcspn(p, "\n"), p += *p == '\n')
			strbuf_addf(&b, "  %.*s\n", (int)strcspn(p, "\n"), p);
	}
	cli_write(b.s, b.len);
	return EXIT_OK;
}

int help_overview(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	strbuf_adds(&b, "Usage: gantry [OPTION]... COMMAND [ARG]...\n"
			"Look at and manage the pods, containers and images of a gantry node.\n"
			"\nCommands:\n");
	for (size_t i = 0; cli_commands[i]; i++)
		strbuf_addf(&b, "  %-12s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	strbuf_adds(&b, "\nOptions:\n");
	print_options(&every, &b);
	strbuf_adds(&b,
		    "\nPods and containers are named by the beginning of their id, by NAME, by\n"
		    "POD/NAME or NAMESPACE/POD/NAME.\n"
		    "'gantry COMMAND --help' explains a command; see also gantry(1).\n");
	cli_write(b.s, b.len);
	return EXIT_OK;
}

/* --- roff --- */

/* Text with what roff would act on escaped. */
static void roff(struct strbuf *b, const char *s)
{
	bool start = true;

	for (; *s; s++) {
		if (*s == '\\')
			strbuf_adds(b, "\\e");
		else if (*s == '-')
			strbuf_adds(b, "\\-");
		else if (start && (*s == '.' || *s == '\''))
			strbuf_addf(b, "\\&%c", *s);
		else
			strbuf_addc(b, *s);
		start = *s == '\n';
	}
}

static void roff_option(struct strbuf *b, const struct opt *o)
{
	_cleanup_strbuf_ struct strbuf names = STRBUF_NULL;

	if (o->c)
		strbuf_addf(&names, "-%c, ", o->c);
	strbuf_addf(&names, "--%s", o->name);
	strbuf_adds(b, ".TP\n\\fB");
	roff(b, names.s);
	strbuf_adds(b, "\\fR");
	if (o->metavar) {
		strbuf_adds(b, " \\fI");
		roff(b, o->metavar);
		strbuf_adds(b, "\\fR");
	}
	strbuf_addc(b, '\n');
	roff(b, o->help);
	strbuf_adds(b, o->many ? " (may be given more than once)\n" : "\n");
}

static void roff_command(struct strbuf *b, const struct command *c)
{
	strbuf_adds(b, ".SS \"gantry ");
	roff(b, c->name);
	strbuf_adds(b, c->opts ? " [OPTION]..." : "");
	strbuf_adds(b, *c->operands ? " " : "");
	roff(b, c->operands);
	strbuf_addf(b, "\"\n%c", toupper(c->summary[0]));
	roff(b, c->summary + 1);
	strbuf_adds(b, ".\n");
	for (const char *p = str_or_empty(c->text); *p;) {
		size_t n = strcspn(p, "\n");
		_cleanup_free_ char *line = xstrndup(p, n);

		strbuf_adds(b, ".PP\n");
		roff(b, line);
		strbuf_addc(b, '\n');
		p += n + (p[n] == '\n');
	}
	if (c->aliases)
		strbuf_addf(b, ".PP\nAlso: %s\n", c->aliases);
	for (const struct opt *o = opt_next(c, NULL); o; o = opt_next(c, o))
		roff_option(b, o);
	if (c->examples) {
		strbuf_adds(b, ".PP\nExamples:\n.PP\n.nf\n");
		roff(b, c->examples);
		strbuf_adds(b, "\n.fi\n");
	}
}

void help_man(struct strbuf *to)
{
	strbuf_adds(to, ".SH OPTIONS\nEvery command takes these, before or after its name.\n");
	for (const struct opt *o = cli_options; o->name; o++)
		roff_option(to, o);
	strbuf_adds(to, ".SH COMMANDS\n");
	for (size_t i = 0; cli_commands[i]; i++) {
		if (!cli_commands[i]->subs)
			roff_command(to, cli_commands[i]);
		for (size_t k = 0; cli_commands[i]->subs && cli_commands[i]->subs[k]; k++)
			roff_command(to, cli_commands[i]->subs[k]);
	}
}
