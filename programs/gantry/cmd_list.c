/* SPDX-License-Identifier: Apache-2.0 */
/* gantry pods, ps: what is there. */
#include "cli.h"
#include "lookup.h"
#include "table.h"
#include "text.h"

#define OPT_LABEL                                                                                  \
	{                                                                                          \
		.c = 'l', .name = "label", .metavar = "KEY[=VALUE]",                               \
		.help = "only those with the label", .many = true                                  \
	}
#define OPT_NAMESPACE                                                                              \
	{                                                                                          \
		.c = 'n', .name = "namespace", .metavar = "NAME",                                  \
		.help = "only those in pods of the namespace"                                      \
	}
#define OPT_NAME                                                                                   \
	{                                                                                          \
		.name = "name", .metavar = "TEXT", .help = "only those whose name holds the text"  \
	}
#define OPT_QUIET                                                                                  \
	{                                                                                          \
		.c = 'q', .name = "quiet", .help = "ids alone, one a line"                         \
	}

static void print_table(const struct table *t)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	table_print(t, &b);
	cli_write(b.s, b.len);
}

static bool has_text(const struct args *a, const char *option, const char *s)
{
	const char *want = args_get(a, option);

	return !want || strstr(s, want);
}

static bool in_namespace(const struct args *a, const Runtime__V1__PodSandbox *p)
{
	const char *want = args_get(a, "namespace");

	return !want || (p && p->metadata && streq(p->metadata->namespace_, want));
}

/* --- pods --- */

static bool pod_wanted(const struct args *a, const Runtime__V1__PodSandbox *p)
{
	const char *state = args_get(a, "state");
	bool ready = p->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;

	if (state && ready != streq(state, "ready"))
		return false;
	return in_namespace(a, p) && has_text(a, "name", p->metadata ? p->metadata->name : "") &&
	       labels_match(a, "label", p->labels, p->n_labels);
}

static size_t containers_of(const struct inventory *v, const char *pod, bool running)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n_containers; i++)
		n += streq(v->containers[i]->pod_sandbox_id, pod) &&
		     (!running ||
		      v->containers[i]->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING);
	return n;
}

static void pod_row(struct cli *cli, struct table *t, const struct inventory *v,
		    const Runtime__V1__PodSandbox *p, bool whole)
{
	bool ready = p->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
	char age[TEXT_MAX];

	table_add(t, text_id(&cli->arena, p->id, whole));
	table_add(t, p->metadata ? p->metadata->name : "");
	table_add(t, p->metadata ? p->metadata->namespace_ : "");
	table_add_style(t, ready ? "Ready" : "NotReady", ready ? STYLE_GOOD : STYLE_BAD);
	table_addf(t, "%zu/%zu", containers_of(v, p->id, true), containers_of(v, p->id, false));
	table_add(t, *p->runtime_handler ? p->runtime_handler : "(default)");
	table_add(t, text_age(p->created_at, clock_wall_ns(), age));
}

static int pods(struct cli *cli, const struct args *a)
{
	Runtime__V1__ListPodSandboxResponse out = RUNTIME__V1__LIST_POD_SANDBOX_RESPONSE__INIT;
	_cleanup_table_ struct table t = {0};
	bool whole = args_has(a, "no-trunc");
	struct inventory v = {0};
	struct err e = ERR_NULL;
	enum output how;

	if (output_format(a, &how, &e) < 0 || inventory_load(cli, &v, &e) < 0)
		return cli_fail(cli, &e);
	out.items = arena_calloc(&cli->arena, v.n_pods + 1, sizeof(*out.items));
	for (size_t i = 0; i < v.n_pods; i++)
		if (pod_wanted(a, v.pods[i]))
			out.items[out.n_items++] = v.pods[i];
	if (how != OUTPUT_TABLE) {
		output_message(how, &out.base);
		return EXIT_OK;
	}
	table_init(&t, "ID|NAME|NAMESPACE|STATE|RUNNING|RUNTIME|CREATED", cli->color);
	for (size_t i = 0; i < out.n_items; i++) {
		if (args_has(a, "quiet"))
			cli_print("%s\n", text_safe_dup(&cli->arena, out.items[i]->id));
		else
			pod_row(cli, &t, &v, out.items[i], whole);
	}
	if (!args_has(a, "quiet"))
		print_table(&t);
	return EXIT_OK;
}

static const struct opt pods_options[] = {
	OPT_NAME,
	OPT_NAMESPACE,
	OPT_LABEL,
	{.name = "state",
	 .metavar = "STATE",
	 .help = "ready or notready",
	 .words = "ready notready"},
	OPT_QUIET,
	OPT_NO_TRUNC,
	OPT_OUTPUT,
	OPT_END,
};

const struct command cmd_pods = {
	.name = "pods",
	.operands = "",
	.summary = "list pods, the newest first",
	.text = "RUNNING shows how many of a pod's containers run, and how many there are.",
	.examples = "gantry pods --state notready\n"
		    "gantry pods -n kube-system -o json",
	.opts = pods_options,
	.run = pods,
};

/* --- ps --- */

static const char *state_word(Runtime__V1__ContainerState s)
{
	switch (s) {
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED:
		return "created";
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING:
		return "running";
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED:
		return "exited";
	default:
		return "unknown";
	}
}

static bool container_wanted(const struct args *a, const struct inventory *v,
			     const struct object *only, const Runtime__V1__Container *c)
{
	const char *state = args_get(a, "state");

	if (state ? !streq(state, state_word(c->state))
		  : !args_has(a, "all") &&
			    c->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return false;
	if (only->id && !streq(only->id, c->pod_sandbox_id))
		return false;
	return in_namespace(a, inventory_pod(v, c->pod_sandbox_id)) &&
	       has_text(a, "name", c->metadata ? c->metadata->name : "") &&
	       labels_match(a, "label", c->labels, c->n_labels);
}

/* As it was asked for, not as the id that the kubelet makes of it. */
static const char *image_name(struct cli *cli, const Runtime__V1__Container *c, bool whole)
{
	const char *s = !c->image			  ? ""
			: *c->image->user_specified_image ? c->image->user_specified_image
							  : c->image->image;

	return str_has_prefix(s, "sha256:") ? text_id(&cli->arena, s, whole) : s;
}

/* The list has no exit codes: one more request for each that has ended. */
static void state_cell(struct cli *cli, struct table *t, const Runtime__V1__Container *c)
{
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *r;
	struct err e = ERR_NULL;
	const char *text;

	if (c->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING) {
		table_add_style(t, "Running", STYLE_GOOD);
		return;
	}
	if (c->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED) {
		table_add_style(t,
				c->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED
					? "Created"
					: "Unknown",
				STYLE_DIM);
		return;
	}
	q.container_id = c->id;
	if (rpc_call(cli, RUNTIME, "ContainerStatus", &q, &r, &e) < 0 || !r->status) {
		table_add_style(t, "Exited", STYLE_DIM); /* removed meanwhile */
		return;
	}
	text = streq(r->status->reason, "OOMKilled")
		       ? arena_printf(&cli->arena, "Exited (%d, out of memory)",
				      r->status->exit_code)
		       : arena_printf(&cli->arena, "Exited (%d)", r->status->exit_code);
	table_add_style(t, text, r->status->exit_code ? STYLE_BAD : STYLE_DIM);
}

static void container_row(struct cli *cli, struct table *t, const struct inventory *v,
			  const Runtime__V1__Container *c, bool whole)
{
	const Runtime__V1__PodSandbox *p = inventory_pod(v, c->pod_sandbox_id);
	char age[TEXT_MAX];

	table_add(t, text_id(&cli->arena, c->id, whole));
	table_add(t, c->metadata ? c->metadata->name : "");
	table_add(t, p && p->metadata ? p->metadata->name : "");
	table_add(t, p && p->metadata ? p->metadata->namespace_ : "");
	table_add(t, image_name(cli, c, whole));
	state_cell(cli, t, c);
	table_add(t, text_age(c->created_at, clock_wall_ns(), age));
}

static int ps(struct cli *cli, const struct args *a)
{
	Runtime__V1__ListContainersResponse out = RUNTIME__V1__LIST_CONTAINERS_RESPONSE__INIT;
	_cleanup_table_ struct table t = {0};
	struct inventory v = {0};
	struct object only = {0};
	struct err e = ERR_NULL;
	enum output how;

	if (output_format(a, &how, &e) < 0 || inventory_load(cli, &v, &e) < 0)
		return cli_fail(cli, &e);
	if (args_get(a, "pod") &&
	    inventory_find(cli, &v, args_get(a, "pod"), KIND_POD, KIND_POD, &only, &e) < 0)
		return cli_fail(cli, &e);
	out.containers = arena_calloc(&cli->arena, v.n_containers + 1, sizeof(*out.containers));
	for (size_t i = 0; i < v.n_containers; i++)
		if (container_wanted(a, &v, &only, v.containers[i]))
			out.containers[out.n_containers++] = v.containers[i];
	if (how != OUTPUT_TABLE) {
		output_message(how, &out.base);
		return EXIT_OK;
	}
	table_init(&t, "ID|NAME|POD|NAMESPACE|IMAGE|STATE|CREATED", cli->color);
	for (size_t i = 0; i < out.n_containers; i++) {
		if (args_has(a, "quiet"))
			cli_print("%s\n", text_safe_dup(&cli->arena, out.containers[i]->id));
		else
			container_row(cli, &t, &v, out.containers[i], args_has(a, "no-trunc"));
	}
	if (!args_has(a, "quiet"))
		print_table(&t);
	return EXIT_OK;
}

static const struct opt ps_options[] = {
	{.c = 'a', .name = "all", .help = "also those that do not run"},
	{.c = 'p',
	 .name = "pod",
	 .metavar = "POD",
	 .help = "only those in the pod",
	 .complete = COMPLETE_POD},
	OPT_NAME,
	OPT_NAMESPACE,
	OPT_LABEL,
	{.name = "state",
	 .metavar = "STATE",
	 .help = "created, running, exited or unknown",
	 .words = "created running exited unknown"},
	OPT_QUIET,
	OPT_NO_TRUNC,
	OPT_OUTPUT,
	OPT_END,
};

const struct command cmd_ps = {
	.name = "ps",
	.aliases = "ls",
	.operands = "",
	.summary = "list containers, the newest first",
	.text = "Shows the containers that run; with --all also the others.",
	.examples = "gantry ps -a\n"
		    "gantry ps --pod web -q",
	.opts = ps_options,
	.run = ps,
};
