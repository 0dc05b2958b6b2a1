/* SPDX-License-Identifier: Apache-2.0 */
/* gantry runtimes. */
#include "cli.h"
#include "table.h"
#include "text.h"

static int fetch(struct cli *cli, const struct args *a, Gantry__V1__RuntimesResponse **ret,
		 struct err *e)
{
	Gantry__V1__RuntimesRequest q = GANTRY__V1__RUNTIMES_REQUEST__INIT;
	struct rpc_stream s = {0};
	int r;

	q.names = (char **)(uintptr_t)a->v;
	q.n_names = a->n;
	q.probe = args_has(a, "probe");
	r = rpc_open(cli, GANTRY, "Runtimes", &q, &s, e);
	r = r < 0 ? r : rpc_next(&s, &cli->arena, ret, e);
	rpc_close(&s);
	return r > 0   ? 0
	       : r < 0 ? r
		       : err_set(e, -EIO, GRPC_INTERNAL, "the daemon gives no answer");
}

static void print_table(struct cli *cli, const Gantry__V1__RuntimesResponse *m)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_table_ struct table t = {0};

	table_init(&t, "NAME|VERSION|ISOLATION|UNIT|DEFAULT|FEATURES|HEALTH|PATH", cli->color);
	for (size_t i = 0; i < m->n_runtimes; i++) {
		const Gantry__V1__RuntimeInfo *r = m->runtimes[i];
		size_t all = r->n_capabilities + r->n_lacks;
		bool good = streq(r->health, "available");

		table_add(&t, r->name);
		table_add(&t, r->version);
		table_add(&t, r->isolation);
		table_add(&t, r->unit);
		if (r->default_place)
			table_addf(&t, "%u", r->default_place);
		else
			table_add(&t, "");
		if (all)
			table_addf(&t, "%zu of %zu", r->n_capabilities, all);
		else
			table_add(&t, "");
		table_add_style(&t,
				*r->reason
					? arena_printf(&cli->arena, "%s: %s", r->health, r->reason)
					: r->health,
				good ? STYLE_GOOD : STYLE_BAD);
		table_add(&t, *r->program ? r->program : r->path);
	}
	table_print(&t, &b);
	cli_write(b.s, b.len);
}

static void line(const char *name, const char *value)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	text_safe_lines(&b, value);
	cli_print("%-12s %s\n", name, str_or_empty(b.s));
}

static void print_one(const Gantry__V1__RuntimeInfo *r)
{
	_cleanup_free_ char *place = xasprintf("%u", r->default_place);

	line("Name:", r->name);
	line("Version:", *r->version ? r->version : "-");
	line("Program:", *r->program ? r->program : r->path);
	for (size_t i = 0; i < r->n_args; i++)
		line(i ? "" : "Arguments:", r->args[i]);
	line("Isolation:", r->isolation);
	line("Unit:", r->unit);
	line("Default:", r->default_place ? place : "no");
	line("Health:", r->health);
	if (*r->reason)
		line("Reason:", r->reason);
	if (*r->features_problem)
		line("Features:", r->features_problem);
	for (size_t i = 0; i < r->n_capabilities; i++)
		line(i ? "" : "Has:", r->capabilities[i]);
	for (size_t i = 0; i < r->n_lacks; i++) {
		_cleanup_free_ char *s =
			xasprintf("%s: %s", r->lacks[i]->name, r->lacks[i]->reason);

		line(i ? "" : "Lacks:", s);
	}
}

static int runtimes(struct cli *cli, const struct args *a)
{
	Gantry__V1__RuntimesResponse *m = NULL;
	struct err e = ERR_NULL;
	enum output how;

	if (output_format(a, &how, &e) < 0 || fetch(cli, a, &m, &e) < 0)
		return cli_fail(cli, &e);
	if (how != OUTPUT_TABLE) {
		output_message(how, &m->base);
	} else if (!a->n) {
		print_table(cli, m);
	} else {
		for (size_t i = 0; i < m->n_runtimes; i++) {
			if (i)
				cli_print("\n");
			print_one(m->runtimes[i]);
		}
	}
	return EXIT_OK;
}

static const struct opt options[] = {
	{.name = "probe", .help = "try all of them anew first"},
	OPT_OUTPUT,
	OPT_END,
};

const struct command cmd_runtimes = {
	.name = "runtimes",
	.operands = "[RUNTIME...]",
	.summary = "show the runtimes of the node: version, isolation, features, health",
	.text = "Of runtimes that are named, what each can do is listed, and why not what it "
		"cannot.\n"
		"A runtime is available when its program is there, answers, has run a container on "
		"this "
		"node, and what it needs besides is there too. It is looked at again when its "
		"program "
		"changes, every minute, and with --probe.",
	.examples = "gantry runtimes\n"
		    "gantry runtimes crun\n"
		    "gantry runtimes -o json",
	.opts = options,
	.complete = COMPLETE_HANDLER,
	.max = UNLIMITED,
	.run = runtimes,
};
