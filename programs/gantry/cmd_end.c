/* SPDX-License-Identifier: Apache-2.0 */
/* gantry stop, wait, rm: how pods and containers end. */
#include "cli.h"
#include "follow.h"
#include "lookup.h"
#include "rundir.h"
#include "text.h"

#define STOP_DEFAULT (10 * USEC_PER_SEC)

#define OPT_TYPE                                                                                   \
	{                                                                                          \
		.name = "type", .metavar = "KIND",                                                 \
		.help = "what the names stand for: pod or container", .words = "pod container"     \
	}

/* What is to be stopped or removed, and how that went. */
struct batch {
	struct cli *cli;
	const struct args *a;
	struct inventory v;
	struct object *v_objects;
	size_t n;
	bool *failed;
	const size_t *which; /* of the calls under way: their objects */
	const char *verb;
	int status;
};

static void batch_fail(struct batch *b, const struct err *e)
{
	int s = cli_fail(b->cli, e);

	b->status = s > b->status ? s : b->status;
}

static int kinds_of(const struct args *a)
{
	const char *s = args_get(a, "type");

	return !s ? KIND_POD | KIND_CONTAINER : streq(s, "pod") ? KIND_POD : KIND_CONTAINER;
}

static void batch_add(struct batch *b, const struct object *o)
{
	for (size_t i = 0; i < b->n; i++)
		if (streq(b->v_objects[i].id, o->id))
			return;
	b->v_objects[b->n++] = *o;
}

/* The objects that the operands name; what is not found is told, and the others go on. */
static int batch_init(struct batch *b, struct cli *cli, const struct args *a, int kinds,
		      struct err *e)
{
	int r;

	*b = (struct batch){.cli = cli, .a = a};
	r = inventory_load(cli, &b->v, e);
	if (r < 0)
		return r;
	b->v_objects = arena_calloc(&cli->arena, a->n + b->v.n_pods + b->v.n_containers + 1,
				    sizeof(*b->v_objects));
	for (size_t i = 0; i < a->n; i++) {
		struct err why = ERR_NULL;
		struct object o;

		if (inventory_find(cli, &b->v, a->v[i], kinds, KIND_POD, &o, &why) < 0)
			batch_fail(b, &why);
		else
			batch_add(b, &o);
	}
	b->failed =
		arena_calloc(&cli->arena, b->v.n_pods + b->v.n_containers + a->n + 1, sizeof(bool));
	return 0;
}

static void on_result(void *arg, size_t i, int r, const struct err *e)
{
	struct batch *b = arg;
	struct err why = *e;

	if (r >= 0 || e->code == GRPC_NOT_FOUND)
		return;
	b->failed[b->which[i]] = true;
	err_wrap(&why, "%s %s", b->verb, object_name(b->cli, &b->v_objects[b->which[i]]));
	batch_fail(b, &why);
}

/* --- stop --- */

/* Stops containers side by side: those that are named, and those of pods that are. */
static void stop_containers(struct batch *b, uint64_t grace_us)
{
	struct cli *cli = b->cli;
	size_t n = 0, *which = arena_calloc(&cli->arena, b->v.n_containers + 1, sizeof(*which));
	const ProtobufCMessage **q = arena_calloc(&cli->arena, b->v.n_containers + 1, sizeof(*q));

	for (size_t i = 0; i < b->v.n_containers; i++) {
		Runtime__V1__Container *c = b->v.containers[i];
		Runtime__V1__StopContainerRequest *m;
		size_t k = 0;

		while (k < b->n && !streq(b->v_objects[k].id, c->id) &&
		       !(b->v_objects[k].kind == KIND_POD &&
			 streq(b->v_objects[k].id, c->pod_sandbox_id)))
			k++;
		if (k == b->n || c->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
			continue;
		m = arena_alloc(&cli->arena, sizeof(*m));
		runtime__v1__stop_container_request__init(m);
		m->container_id = c->id;
		m->timeout = (int64_t)((grace_us + USEC_PER_SEC - 1) / USEC_PER_SEC);
		which[n] = k;
		q[n++] = &m->base;
	}
	b->which = which;
	b->verb = "stop";
	rpc_all(cli, RUNTIME, "StopContainer", q, n, on_result, b);
}

/* One method for all pods (or containers) of the batch that have not failed. */
static void call_for_kind(struct batch *b, int kind, const char *method, const char *verb)
{
	struct cli *cli = b->cli;
	size_t n = 0, *which = arena_calloc(&cli->arena, b->n + 1, sizeof(*which));
	const ProtobufCMessage **q = arena_calloc(&cli->arena, b->n + 1, sizeof(*q));

	for (size_t i = 0; i < b->n; i++) {
		/* Stop and remove of pods and containers all have the id alone, as field 1. */
		Runtime__V1__StopPodSandboxRequest *m;

		if (b->v_objects[i].kind != kind || b->failed[i])
			continue;
		m = arena_alloc(&cli->arena, sizeof(*m));
		runtime__v1__stop_pod_sandbox_request__init(m);
		m->pod_sandbox_id = (char *)(uintptr_t)b->v_objects[i].id;
		which[n] = i;
		q[n++] = &m->base;
	}
	b->which = which;
	b->verb = verb;
	rpc_all(cli, RUNTIME, method, q, n, on_result, b);
}

static void print_done(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (!b->failed[i])
			cli_print("%s\n", text_safe_dup(&b->cli->arena, b->v_objects[i].id));
}

static void add_all(struct batch *b, bool ended_only);

static int stop(struct cli *cli, const struct args *a)
{
	struct err e = ERR_NULL;
	uint64_t grace;
	struct batch b;

	if (args_duration(a, "time", STOP_DEFAULT, &grace, &e) < 0)
		return cli_usage(a->command, &e);
	if (a->n == 0 && !args_has(a, "all"))
		return cli_usage(
			a->command,
			(err_invalid(&e, "a pod or container must be named, or --all given"), &e));
	if (batch_init(&b, cli, a, kinds_of(a), &e) < 0)
		return cli_fail(cli, &e);
	if (args_has(a, "all"))
		add_all(&b, false);
	stop_containers(&b, grace);
	call_for_kind(&b, KIND_POD, "StopPodSandbox", "stop");
	print_done(&b);
	return b.status;
}

static const struct opt stop_options[] = {
	{.c = 'a', .name = "all", .help = "all pods"},
	{.c = 't',
	 .name = "time",
	 .metavar = "DURATION",
	 .help = "how long a container may take before it is killed (10s)"},
	OPT_TYPE,
	OPT_END,
};

const struct command cmd_stop = {
	.name = "stop",
	.operands = "POD|CONTAINER...",
	.summary = "stop pods and containers",
	.text = "A container gets its stop signal (SIGTERM, or what its image says), and SIGKILL "
		"when the time is over. A pod is stopped with all its containers, and loses its "
		"network. Where a pod and its container have one name, the pod is meant.",
	.opts = stop_options,
	.complete = COMPLETE_TARGET,
	.max = UNLIMITED,
	.run = stop,
};

/* --- rm --- */

static bool any_running(const struct inventory *v, const char *pod)
{
	for (size_t i = 0; i < v->n_containers; i++)
		if (streq(v->containers[i]->pod_sandbox_id, pod) &&
		    v->containers[i]->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED)
			return true;
	return false;
}

/* Over: a stopped pod, one of `gantry run` whose container has ended, an ended container. */
static bool is_over(const struct inventory *v, const struct object *o)
{
	if (o->kind == KIND_CONTAINER)
		return o->container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	if (o->pod->state != RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
		return true;
	return rundir_of_pod(o->pod) && !any_running(v, o->pod->id);
}

/* Every pod, or what is over: pods, and ended containers of the others. */
static void add_all(struct batch *b, bool ended_only)
{
	for (size_t i = 0; i < b->v.n_pods; i++) {
		struct object o = {KIND_POD, b->v.pods[i]->id, b->v.pods[i], NULL};

		if (!ended_only || is_over(&b->v, &o))
			batch_add(b, &o);
	}
	for (size_t i = 0; ended_only && i < b->v.n_containers; i++) {
		Runtime__V1__Container *c = b->v.containers[i];
		struct object o = {KIND_CONTAINER, c->id, inventory_pod(&b->v, c->pod_sandbox_id),
				   c};
		struct object in = {KIND_POD, c->pod_sandbox_id, o.pod, NULL};

		if (c->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED && o.pod &&
		    !is_over(&b->v, &in))
			batch_add(b, &o);
	}
}

/* Without --force only what is over goes. */
static void refuse_running(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct err e = ERR_NULL;

		if (is_over(&b->v, &b->v_objects[i]))
			continue;
		b->failed[i] = true;
		err_precondition(&e, "%s is %s: stop it first, or give --force",
				 object_name(b->cli, &b->v_objects[i]),
				 b->v_objects[i].kind == KIND_POD ? "ready" : "running");
		batch_fail(b, &e);
	}
}

static void forget_logs(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (!b->failed[i] && b->v_objects[i].kind == KIND_POD)
			rundir_remove(b->cli, rundir_of_pod(b->v_objects[i].pod));
}

static int rm(struct cli *cli, const struct args *a)
{
	bool force = args_has(a, "force"), all = args_has(a, "all");
	struct err e = ERR_NULL;
	uint64_t grace;
	struct batch b;

	if (args_duration(a, "time", 0, &grace, &e) < 0)
		return cli_usage(a->command, &e);
	if (a->n == 0 && !all)
		return cli_usage(
			a->command,
			(err_invalid(&e, "a pod or container must be named, or --all given"), &e));
	if (batch_init(&b, cli, a, kinds_of(a), &e) < 0)
		return cli_fail(cli, &e);
	if (all)
		add_all(&b, !force);
	if (!force)
		refuse_running(&b);
	else
		stop_containers(&b, grace);
	call_for_kind(&b, KIND_CONTAINER, "RemoveContainer", "remove");
	call_for_kind(&b, KIND_POD, "RemovePodSandbox", "remove");
	forget_logs(&b);
	print_done(&b);
	return b.status;
}

static const struct opt rm_options[] = {
	{.c = 'f', .name = "force", .help = "also what runs: it is killed"},
	{.c = 'a', .name = "all", .help = "all that is over; with --force every pod"},
	{.c = 't',
	 .name = "time",
	 .metavar = "DURATION",
	 .help = "with --force: how long a container may take before it is killed (0s)"},
	OPT_TYPE,
	OPT_END,
};

const struct command cmd_rm = {
	.name = "rm",
	.operands = "POD|CONTAINER...",
	.summary = "remove pods and containers",
	.text = "A pod goes with its containers. Without --force only what is over is removed: "
		"stopped pods, pods of 'gantry run' whose container has ended, and ended "
		"containers. Where a pod and its container have one name, the pod is meant.\n"
		"A kubelet that manages this node makes its pods again.",
	.examples = "gantry rm web\n"
		    "gantry rm -f --all",
	.opts = rm_options,
	.complete = COMPLETE_TARGET,
	.max = UNLIMITED,
	.run = rm,
};

/* --- wait --- */

static int wait_one(struct cli *cli, const struct object *o, struct err *e)
{
	struct follow f = {
		.cli = cli, .id = o->id, .name = object_name(cli, o), .options = LOG_OPTIONS_ALL};
	int r = follow_end(&f, e);

	if (r < 0)
		return r;
	if (f.gone)
		return err_not_found(e, "%s was removed", f.name);
	cli_print("%d\n", f.status->exit_code);
	return 0;
}

static int wait_all(struct cli *cli, const struct args *a)
{
	struct inventory v;
	struct err e = ERR_NULL;
	int r = inventory_load(cli, &v, &e);

	for (size_t i = 0; r == 0 && i < a->n; i++) {
		struct object o;

		r = inventory_find(cli, &v, a->v[i], KIND_CONTAINER, KIND_CONTAINER, &o, &e);
		if (r == 0)
			r = wait_one(cli, &o, &e);
	}
	return r < 0 ? cli_fail(cli, &e) : EXIT_OK;
}

const struct command cmd_wait = {
	.name = "wait",
	.operands = "CONTAINER...",
	.summary = "wait until containers have ended, and print their exit statuses",
	.complete = COMPLETE_RUNNING,
	.min = 1,
	.max = UNLIMITED,
	.run = wait_all,
};
