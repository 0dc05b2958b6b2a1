/* SPDX-License-Identifier: Apache-2.0 */
/* --help, --version, and what completes words in shells. */
#include <ctype.h>

#include "base/mem.h"
#include "oci.h"

#define SPEC_VERSION "1.0.2" /* of the OCI runtime specification, for those who look for the line */
#define COLUMN 32	     /* where the explanation of an option begins */

static void options(struct strbuf *b, const struct oci_option *o)
{
	for (; o->name; o++) {
		_cleanup_strbuf_ struct strbuf head = STRBUF_NULL;

		if (o->c)
			strbuf_addf(&head, "  -%c, --%s", o->c, o->name);
		else
			strbuf_addf(&head, "      --%s", o->name);
		if (o->metavar)
			strbuf_addf(&head, " %s", o->metavar);
		if (head.len + 2 > COLUMN)
			strbuf_addf(b, "%s\n%*s%s\n", head.s, COLUMN, "", o->help);
		else
			strbuf_addf(b, "%-*s%s\n", COLUMN, head.s, o->help);
	}
}

static void overview(struct strbuf *b)
{
	strbuf_adds(b, "Usage: gantry-oci [OPTION]... COMMAND [OPTION]... [ARG]...\n"
		       "Run OCI containers, each on the runtime of the node that fits it.\n"
		       "\nCommands:\n");
	for (const struct oci_verb *v = oci_verbs; v->name; v++)
		if (v->summary)
			strbuf_addf(b, "  %-12s %s\n", v->name, v->summary);
	strbuf_adds(b, "\nOptions:\n");
	options(b, oci_globals);
	strbuf_adds(b,
		    "\n'gantry-oci COMMAND --help' explains a command; see also gantry-oci(8).\n");
}

static void of_verb(struct strbuf *b, const struct oci_verb *v)
{
	strbuf_addf(b, "Usage: gantry-oci [OPTION]... %s%s%s%s\n", v->name,
		    v->options->name ? " [OPTION]..." : "", *v->operands ? " " : "", v->operands);
	strbuf_addf(b, "%c%s.\n", toupper(v->summary[0]), v->summary + 1);
	if (v->options->name)
		strbuf_adds(b, "\nOptions:\n");
	options(b, v->options);
	strbuf_adds(b, "\nThe container's runtime is given the options as they are, and may have "
		       "more or fewer.\n");
}

int help_verb(struct oci *o)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const struct oci_verb *v = o->line.verb;
	struct err e = ERR_NULL;

	if (v && v->kind == VERB_HELP && o->line.id) {
		for (v = oci_verbs; v->name && !streq(v->name, o->line.id); v++)
			;
		if (!v->name || !v->summary)
			return oci_fail(
				o, (err_invalid(&e, "unknown command \"%s\"", o->line.id), &e));
		of_verb(&b, v);
	} else if (v && (v->kind != VERB_HELP || o->line.help)) {
		of_verb(&b, v);
	} else {
		overview(&b);
	}
	oci_print(&b);
	return 0;
}

/* Callers show these lines, or look for the ones that runc prints. */
int help_version(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	strbuf_adds(&b, "gantry-oci version " GANTRY_VERSION "\nspec: " SPEC_VERSION "\n");
	oci_print(&b);
	return 0;
}

/* --- completion --- */

static const char bash[] =
	"# bash completion for gantry-oci\n"
	"_gantry_oci() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} lines\n"
	"\tmapfile -t lines < <(\"${COMP_WORDS[0]}\" __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" "
	"2>/dev/null)\n"
	"\tif [[ ${lines[0]} == :files ]]; then\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\telse\n"
	"\t\tCOMPREPLY=(\"${lines[@]%%$'\\t'*}\")\n"
	"\tfi\n"
	"}\n"
	"complete -F _gantry_oci gantry-oci\n";

static const char zsh[] = "#compdef gantry-oci\n"
			  "_gantry_oci() {\n"
			  "\tlocal line\n"
			  "\tlocal -a lines values\n"
			  "\tlines=(\"${(@f)$(\"${words[1]}\" __complete "
			  "\"${(@Q)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
			  "\tif [[ $lines[1] == :files ]]; then\n"
			  "\t\t_files\n"
			  "\t\treturn\n"
			  "\tfi\n"
			  "\tfor line in $lines; do\n"
			  "\t\tvalues+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
			  "\tdone\n"
			  "\t_describe gantry-oci values\n"
			  "}\n"
			  "if [[ $funcstack[1] == _gantry-oci ]]; then\n"
			  "\t_gantry_oci \"$@\"\n"
			  "else\n"
			  "\tcompdef _gantry_oci gantry-oci\n"
			  "fi\n";

static const char fish[] =
	"# fish completion for gantry-oci\n"
	"function __gantry_oci_complete\n"
	"\tset -l words (commandline -opc)\n"
	"\tset -l current (commandline -ct)\n"
	"\tset -l lines ($words[1] __complete $words[2..-1] \"$current\" 2>/dev/null)\n"
	"\tif test \"$lines[1]\" = :files\n"
	"\t\t__fish_complete_path \"$current\"\n"
	"\telse\n"
	"\t\tprintf '%s\\n' $lines\n"
	"\tend\n"
	"end\n"
	"complete -c gantry-oci -f -a '(__gantry_oci_complete)'\n";

int help_completion(struct oci *o)
{
	static const struct {
		const char *name, *script;
	} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;

	for (size_t i = 0; o->line.id && i < ARRAY_SIZE(shells); i++)
		if (streq(o->line.id, shells[i].name)) {
			strbuf_adds(&b, shells[i].script);
			oci_print(&b);
			return 0;
		}
	err_invalid(&e, "completion: \"%s\" is none of: bash zsh fish", str_or_empty(o->line.id));
	return oci_fail(o, &e);
}

struct offers {
	const char *word; /* what there is of it already */
	struct strbuf b;
};

static void offer(struct offers *c, const char *prefix, const char *value, const char *what)
{
	_cleanup_free_ char *s = xasprintf("%s%s", prefix, value);

	if (str_has_prefix(s, c->word))
		strbuf_addf(&c->b, "%s\t%s\n", s, what);
}

/* __complete WORD...: a line "VALUE\tWHAT IT IS" for each that may stand in the place of the last, or
 * ":files". */
int help_complete(int argc, char **argv)
{
	char *empty[] = {argv[0], (char *)(uintptr_t) "", NULL};
	int n = argc > 2 ? argc - 1 : 2;
	char **words = argc > 2 ? argv + 1 : empty;
	_cleanup_cmdline_ struct cmdline line = {0};
	_cleanup_strv_ struct strv ids = STRV_NULL;
	struct offers c = {.word = words[n - 1]};
	const struct oci_option *opts;

	/* One whose last option wants a value: that is the word. */
	if (cmdline_parse(n - 1, words, &line, NULL) < 0) {
		oci_print(&(struct strbuf){.s = (char *)(uintptr_t) ":files\n", .len = 7});
		return 0;
	}
	opts = line.verb ? line.verb->options : oci_globals;
	for (; *c.word == '-' && opts->name; opts++)
		offer(&c, "--", opts->name, opts->help);
	for (const struct oci_verb *v = oci_verbs; !line.verb && v->name; v++)
		if (v->summary)
			offer(&c, "", v->name, v->summary);
	if (line.verb && line.verb->kind == VERB_COMPLETION)
		for (size_t i = 0; i < 3; i++)
			offer(&c, "", ((const char *const[]){"bash", "zsh", "fish"})[i], "shell");
	if (line.verb && !line.id && str_has_prefix(line.verb->operands, "ID"))
		record_list(line.root ? line.root : oci_default_root(), &ids);
	for (size_t i = 0; i < ids.n; i++)
		offer(&c, "", ids.v[i], "container");
	oci_print(&c.b);
	strbuf_fini(&c.b);
	return 0;
}
