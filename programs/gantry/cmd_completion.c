/* SPDX-License-Identifier: Apache-2.0 */
/* gantry completion: the scripts for the shells.  What they offer comes from complete.c. */
#include "cli.h"

static const char bash[] =
	"# bash completion for gantry\n"
	"_gantry() {\n"
	"\tlocal IFS=$'\\n' lines\n"
	"\tlines=($(\"${COMP_WORDS[0]}\" __complete bash \"$COMP_LINE\" \"$COMP_POINT\" "
	"\"$COMP_WORDBREAKS\" 2>/dev/null))\n"
	"\tCOMPREPLY=()\n"
	"\tif [[ ${lines[0]} == :files ]]; then\n"
	"\t\tlocal cur=${COMP_WORDS[COMP_CWORD]}\n"
	"\t\t[[ $cur == = ]] && cur=\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n"
	"\telse\n"
	"\t\tCOMPREPLY=(\"${lines[@]}\")\n"
	"\tfi\n"
	"}\n"
	"complete -F _gantry gantry\n";

static const char zsh[] =
	"#compdef gantry\n"
	"_gantry() {\n"
	"\tlocal line\n"
	"\tlocal -a lines values\n"
	"\tlines=(\"${(@f)$(\"${words[1]}\" __complete words -- \"${(@Q)words[2,CURRENT]}\" "
	"2>/dev/null)}\")\n"
	"\tif [[ $lines[1] == :files ]]; then\n"
	"\t\t[[ $PREFIX == --*=* ]] && compset -P '*='\n"
	"\t\t_files\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tfor line in $lines; do\n"
	"\t\tvalues+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
	"\tdone\n"
	"\t_describe gantry values\n"
	"}\n"
	"if [[ $funcstack[1] == _gantry ]]; then\n"
	"\t_gantry \"$@\"\n"
	"else\n"
	"\tcompdef _gantry gantry\n"
	"fi\n";

static const char fish[] =
	"# fish completion for gantry\n"
	"function __gantry_complete\n"
	"\tset -l words (commandline -opc)\n"
	"\tset -l current (commandline -ct)\n"
	"\tset -l lines ($words[1] __complete words -- $words[2..-1] \"$current\" 2>/dev/null)\n"
	"\tif test \"$lines[1]\" = :files\n"
	"\t\t__fish_complete_path (string replace -r '^--[^=]*=' '' -- \"$current\")\n"
	"\telse\n"
	"\t\tprintf '%s\\n' $lines\n"
	"\tend\n"
	"end\n"
	"complete -c gantry -f -a '(__gantry_complete)'\n";

static int completion(struct cli *cli, const struct args *a)
{
	static const struct {
		const char *name, *script;
	} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
	struct err e = ERR_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (streq(a->v[0], shells[i].name)) {
			cli_write(shells[i].script, strlen(shells[i].script));
			return EXIT_OK;
		}
	return cli_usage(a->command,
			 (err_invalid(&e, "\"%s\" is none of: bash zsh fish", a->v[0]), &e));
}

const struct command cmd_completion = {
	.name = "completion",
	.operands = "bash|zsh|fish",
	.summary = "print the completion script for a shell",
	.text = "The package installs these scripts where the shells look for them. Completed are "
		"commands, options, and the ids, names and images that the daemon has.",
	.examples = "source <(gantry completion bash)\n"
		    "gantry completion fish > ~/.config/fish/completions/gantry.fish",
	.words = "bash zsh fish",
	.min = 1,
	.max = 1,
	.run = completion,
};
