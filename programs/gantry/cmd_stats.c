/* SPDX-License-Identifier: Apache-2.0 */
/* gantry stats: what containers and pods use, again and again. */
#include <poll.h>

#include "base/map.h"
#include "cli.h"
#include "lookup.h"
#include "pbjson.h"
#include "table.h"
#include "text.h"
#include "wire/json.h"

#define INTERVAL_MIN (100 * USEC_PER_MS)

/* Two looks give the processor time between them. */
struct sample {
	char *id;
	uint64_t cpu_ns;
	int64_t at;
};

struct stats {
	struct cli *cli;
	const struct args *a;
	struct map before; /* id -> struct sample, owned */
	const char **only; /* ids; NULL: all */
	size_t n_only;
	bool pods;
	enum output how;
	bool clear; /* the terminal, before each table */
};

static uint64_t value(const Runtime__V1__UInt64Value *v)
{
	return v ? v->value : 0;
}

static bool wanted(const struct stats *s, const char *id)
{
	for (size_t i = 0; i < s->n_only; i++)
		if (streq(s->only[i], id))
			return true;
	return s->n_only == 0;
}

/* Processors in use since the look before; < 0: this is the first. */
static double cpu_since(struct stats *s, const char *id, const Runtime__V1__CpuUsage *cpu)
{
	struct sample *p = map_get(&s->before, id);
	double ret = -1;

	if (!cpu || !cpu->usage_core_nano_seconds)
		return -1;
	if (!p) {
		p = xcalloc(1, sizeof(*p));
		p->id = xstrdup(id);
		map_put(&s->before, p->id, p);
	} else if (cpu->timestamp > p->at && value(cpu->usage_core_nano_seconds) >= p->cpu_ns) {
		ret = (double)(value(cpu->usage_core_nano_seconds) - p->cpu_ns) /
		      (double)(cpu->timestamp - p->at);
	}
	p->cpu_ns = value(cpu->usage_core_nano_seconds);
	p->at = cpu->timestamp;
	return ret;
}

static void cpu_cell(struct table *t, double cpus)
{
	if (cpus < 0)
		table_add(t, "-");
	else
		table_addf(t, "%.1f%%", 100 * cpus);
}

static void memory_cells(struct table *t, const Runtime__V1__MemoryUsage *m)
{
	char a[TEXT_MAX];
	uint64_t used = m ? value(m->working_set_bytes) : 0, limit;

	table_add(t, m ? text_size(used, a) : "");
	if (!m || !m->available_bytes) {
		table_add(t, "-");
		table_add(t, "-");
		return;
	}
	limit = used + value(m->available_bytes);
	table_add(t, text_size(limit, a));
	if (limit)
		table_addf(t, "%.1f%%", 100.0 * (double)used / (double)limit);
	else
		table_add(t, "-");
}

/* --- containers --- */

static int list_containers(struct stats *s, struct arena *a,
			   Runtime__V1__ListContainerStatsResponse **ret, struct err *e)
{
	Runtime__V1__ListContainerStatsRequest q = RUNTIME__V1__LIST_CONTAINER_STATS_REQUEST__INIT;
	int r = rpc_call_in(s->cli, a, RUNTIME, "ListContainerStats", &q, ret, e);
	size_t n = 0;

	if (r < 0)
		return r;
	for (size_t i = 0; i < (*ret)->n_stats; i++)
		if ((*ret)->stats[i]->attributes && wanted(s, (*ret)->stats[i]->attributes->id))
			(*ret)->stats[n++] = (*ret)->stats[i];
	(*ret)->n_stats = n;
	return 0;
}

static void container_row(struct stats *s, struct table *t, const Runtime__V1__ContainerStats *c)
{
	char a[TEXT_MAX];
	const Runtime__V1__ContainerAttributes *at = c->attributes;

	table_add(t, text_id(&t->arena, at->id, args_has(s->a, "no-trunc")));
	table_add(t, at->metadata ? at->metadata->name : "");
	cpu_cell(t, cpu_since(s, at->id, c->cpu));
	memory_cells(t, c->memory);
	table_add(t, c->swap ? text_size(value(c->swap->swap_usage_bytes), a) : "");
	table_add(t, c->writable_layer ? text_size(value(c->writable_layer->used_bytes), a) : "");
}

static int look_at_containers(struct stats *s, struct arena *a, struct table *t,
			      const ProtobufCMessage **ret, struct err *e)
{
	Runtime__V1__ListContainerStatsResponse *list;
	int r = list_containers(s, a, &list, e);

	if (r < 0)
		return r;
	table_init(t, "ID|NAME|>CPU|>MEMORY|>LIMIT|>OF LIMIT|>SWAP|>DISK", s->cli->color);
	for (size_t i = 0; i < list->n_stats; i++)
		container_row(s, t, list->stats[i]);
	*ret = &list->base;
	return 0;
}

/* --- pods --- */

static void pod_row(struct stats *s, struct table *t, const Runtime__V1__PodSandboxStats *p)
{
	const Runtime__V1__LinuxPodSandboxStats *l = p->linux;
	const Runtime__V1__NetworkInterfaceUsage *net =
		l->network ? l->network->default_interface : NULL;
	char a[TEXT_MAX];

	table_add(t, text_id(&t->arena, p->attributes->id, args_has(s->a, "no-trunc")));
	table_add(t, p->attributes->metadata ? p->attributes->metadata->name : "");
	cpu_cell(t, cpu_since(s, p->attributes->id, l->cpu));
	table_add(t, l->memory ? text_size(value(l->memory->working_set_bytes), a) : "");
	table_add(t, net ? text_size(value(net->rx_bytes), a) : "");
	table_add(t, net ? text_size(value(net->tx_bytes), a) : "");
	table_addf(t, "%llu",
		   (unsigned long long)(l->process ? value(l->process->process_count) : 0));
	table_addf(t, "%zu", l->n_containers);
}

static int look_at_pods(struct stats *s, struct arena *a, struct table *t,
			const ProtobufCMessage **ret, struct err *e)
{
	Runtime__V1__ListPodSandboxStatsRequest q =
		RUNTIME__V1__LIST_POD_SANDBOX_STATS_REQUEST__INIT;
	Runtime__V1__ListPodSandboxStatsResponse *list;
	int r = rpc_call_in(s->cli, a, RUNTIME, "ListPodSandboxStats", &q, &list, e);
	size_t n = 0;

	if (r < 0)
		return r;
	for (size_t i = 0; i < list->n_stats; i++)
		if (list->stats[i]->attributes && list->stats[i]->linux &&
		    wanted(s, list->stats[i]->attributes->id))
			list->stats[n++] = list->stats[i];
	list->n_stats = n;
	table_init(t, "ID|NAME|>CPU|>MEMORY|>RECEIVED|>SENT|>PROCESSES|>CONTAINERS", s->cli->color);
	for (size_t i = 0; i < n; i++)
		pod_row(s, t, list->stats[i]);
	*ret = &list->base;
	return 0;
}

/* --- again and again --- */

/* One look; shown or, for a first that lacks the processor time, only taken. */
static int look(struct stats *s, bool show, struct err *e)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	_cleanup_table_ struct table t = {0};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const ProtobufCMessage *m;
	int r = s->pods ? look_at_pods(s, &a, &t, &m, e) : look_at_containers(s, &a, &t, &m, e);

	if (r < 0 || !show)
		return r;
	if (s->how != OUTPUT_TABLE && args_has(s->a, "no-stream")) {
		output_message(s->how, m);
		return 0;
	}
	if (s->how != OUTPUT_TABLE) { /* a stream: one object a line */
		struct jw w = JW_INIT(&b);

		pbjson_print(&w, m);
		strbuf_addc(&b, '\n');
	} else {
		if (s->clear)
			strbuf_adds(&b, "\033[H\033[J");
		table_print(&t, &b);
	}
	cli_write(b.s, b.len);
	return 0;
}

/* False: a signal came. */
static bool rest(struct stats *s, uint64_t us)
{
	struct pollfd p = {.fd = s->cli->cancel_fd, .events = POLLIN};

	return poll(&p, 1, (int)(us / USEC_PER_MS)) == 0;
}

static int find_only(struct stats *s, struct err *e)
{
	struct inventory v;
	int r = 0;

	if (s->a->n == 0)
		return 0;
	r = inventory_load(s->cli, &v, e);
	s->only = arena_calloc(&s->cli->arena, s->a->n, sizeof(*s->only));
	for (size_t i = 0; r == 0 && i < s->a->n; i++) {
		int kind = s->pods ? KIND_POD : KIND_CONTAINER;
		struct object o;

		r = inventory_find(s->cli, &v, s->a->v[i], kind, kind, &o, e);
		if (r == 0)
			s->only[s->n_only++] = o.id;
	}
	return r;
}

static void free_samples(struct map *m)
{
	struct sample *p;
	size_t pos = 0;

	while ((p = map_next(m, &pos))) {
		free(p->id);
		free(p);
	}
	map_fini(m);
}

static int stats(struct cli *cli, const struct args *a)
{
	struct stats s = {.cli = cli, .a = a, .pods = args_has(a, "pods")};
	bool once = args_has(a, "no-stream");
	struct err e = ERR_NULL;
	uint64_t interval;
	int r;

	if (args_duration(a, "interval", USEC_PER_SEC, &interval, &e) < 0 ||
	    output_format(a, &s.how, &e) < 0)
		return cli_usage(a->command, &e);
	if (!once && s.how == OUTPUT_YAML)
		return cli_usage(a->command,
				 (err_invalid(&e, "--output yaml needs --no-stream"), &e));
	interval = MIN(MAX(interval, INTERVAL_MIN), 3600 * USEC_PER_SEC);
	s.clear = cli->tty && !once;
	r = find_only(&s, &e);
	/* The use of processors needs two looks: a short while apart, the first time. */
	if (r == 0 && s.how == OUTPUT_TABLE) {
		r = look(&s, false, &e);
		if (r == 0 && !rest(&s, once ? interval : INTERVAL_MIN))
			return EXIT_INTERRUPTED;
	}
	do
		r = r < 0 ? r : look(&s, true, &e);
	while (r == 0 && !once && rest(&s, interval));
	free_samples(&s.before);
	if (r < 0)
		return cli_fail(cli, &e);
	return once ? EXIT_OK : EXIT_INTERRUPTED;
}

static const struct opt stats_options[] = {
	{.name = "pods", .help = "of pods: with network and processes"},
	{.name = "no-stream", .help = "show it once"},
	{.name = "interval", .metavar = "DURATION", .help = "time between two tables (1s)"},
	OPT_NO_TRUNC,
	OPT_OUTPUT,
	OPT_END,
};

const struct command cmd_stats = {
	.name = "stats",
	.operands = "[CONTAINER|POD]...",
	.summary = "show what running containers use",
	.text = "CPU is in percent of one processor, since the table before. MEMORY is the working "
		"set: what cannot be reclaimed at once. DISK is the container's writable layer.\n"
		"Goes on until it is interrupted, unless --no-stream is given; -o json then prints "
		"one object a line.",
	.examples = "gantry stats --no-stream\n"
		    "gantry stats --pods web",
	.opts = stats_options,
	.complete = COMPLETE_TARGET,
	.max = UNLIMITED,
	.run = stats,
};
