/* SPDX-License-Identifier: Apache-2.0 */
/* gantry logs. */
#include "cli.h"
#include "follow.h"
#include "lookup.h"
#include "text.h"

/* A pod's name stands for its container, where it has one. */
static int only_container(struct cli *cli, const struct inventory *v, struct object *o,
			  struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const Runtime__V1__PodSandbox *p = o->pod;
	size_t n = 0;

	if (o->kind != KIND_POD)
		return 0;
	for (size_t i = 0; i < v->n_containers; i++) {
		Runtime__V1__Container *c = v->containers[i];

		if (!streq(c->pod_sandbox_id, p->id))
			continue;
		strbuf_addf(&b, "\n%s/%s", p->metadata ? p->metadata->name : "",
			    c->metadata ? c->metadata->name : "");
		if (n++ == 0)
			*o = (struct object){KIND_CONTAINER, c->id, p, c};
	}
	if (n == 1)
		return 0;
	if (n == 0)
		return err_not_found(e, "pod %s has no container",
				     text_id(&cli->arena, p->id, false));
	return err_invalid(e, "pod %s has %zu containers, name one of them:%s",
			   text_id(&cli->arena, p->id, false), n, b.s);
}

static int parse_times(const struct args *a, struct log_options *o, struct err *e)
{
	const char *since = args_get(a, "since"), *until = args_get(a, "until"), *bad = NULL;
	int64_t now = clock_wall_ns();

	if (since && !text_parse_time(since, now, &o->since_ns))
		bad = "since";
	if (until && !text_parse_time(until, now, &o->until_ns))
		bad = "until";
	if (!bad)
		return 0;
	return err_invalid(e,
			   "--%s: \"%s\", expected a time (2024-05-06T07:08:09Z), or how long ago "
			   "(10m, 1h30m)",
			   bad, args_get(a, bad));
}

static int parse_options(const struct args *a, struct log_options *o, struct err *e)
{
	const char *stream = args_get(a, "stream"), *tail = args_get(a, "tail");
	int r = 0;

	*o = LOG_OPTIONS_ALL;
	o->timestamps = args_has(a, "timestamps");
	if (stream)
		o->out = streq(stream, "stdout"), o->err = !o->out;
	if (!tail || !streq(tail, "all"))
		r = args_number(a, "tail", 0, INT64_MAX, -1, &o->tail, e);
	return r < 0 ? r : parse_times(a, o, e);
}

static int logs(struct cli *cli, const struct args *a)
{
	struct follow f = {.cli = cli, .forever = args_has(a, "follow")};
	struct inventory v;
	struct object o;
	struct err e = ERR_NULL;
	int r;

	if (parse_options(a, &f.options, &e) < 0)
		return cli_usage(a->command, &e);
	r = inventory_load(cli, &v, &e);
	if (r == 0)
		r = inventory_find(cli, &v, a->v[0], KIND_POD | KIND_CONTAINER, KIND_CONTAINER, &o,
				   &e);
	if (r == 0)
		r = only_container(cli, &v, &o, &e);
	if (r == 0) {
		f.id = o.id;
		f.name = object_name(cli, &o);
		r = follow_run(&f, &e);
	}
	if (r == -EPIPE)
		return EXIT_OK;
	return r < 0 ? cli_fail(cli, &e) : EXIT_OK;
}

static const struct opt logs_options[] = {
	{.c = 'f', .name = "follow", .help = "go on until the container has ended"},
	{.c = 'n', .name = "tail", .metavar = "LINES", .help = "the last lines only (all)"},
	{.name = "since",
	 .metavar = "TIME",
	 .help = "only from that time on: a date, or 10m for ten minutes ago"},
	{.name = "until", .metavar = "TIME", .help = "only up to that time"},
	{.c = 't', .name = "timestamps", .help = "show when each line was written"},
	{.name = "stream",
	 .metavar = "STREAM",
	 .help = "stdout or stderr alone",
	 .words = "stdout stderr"},
	OPT_END,
};

const struct command cmd_logs = {
	.name = "logs",
	.operands = "CONTAINER|POD",
	.summary = "show what a container wrote",
	.text = "Standard output and standard error of the container go to ours. The log is read "
		"from its file, on this machine; a log that is rotated is followed. Of a "
		"container's rotated logs the current one is shown.\n"
		"A pod's name will do where the pod has one container.",
	.examples = "gantry logs -f web\n"
		    "gantry logs --tail 20 -t default/web/nginx\n"
		    "gantry logs --since 10m web",
	.opts = logs_options,
	.complete = COMPLETE_TARGET,
	.min = 1,
	.max = 1,
	.run = logs,
};
