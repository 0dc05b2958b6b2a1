/* SPDX-License-Identifier: Apache-2.0 */
/* gantry exec. */
#include "cli.h"
#include "lookup.h"
#include "run.h"
#include "session.h"

/* What runtimes say of a command that is not there, or that is no program. */
int exec_failure_status(const struct err *e)
{
	if (strcasestr(e->msg, "not found in $PATH") ||
	    strcasestr(e->msg, "executable file not found") ||
	    (strcasestr(e->msg, "exec") && strcasestr(e->msg, "No such file or directory")))
		return EXIT_NO_COMMAND;
	if (strcasestr(e->msg, "exec") &&
	    (strcasestr(e->msg, "Permission denied") || strcasestr(e->msg, "Exec format error")))
		return EXIT_CANNOT_RUN;
	return EXIT_OURS;
}

static int exec_open(struct session *s, const struct args *a, const struct object *o, struct err *e)
{
	Runtime__V1__ExecRequest q = RUNTIME__V1__EXEC_REQUEST__INIT;
	Runtime__V1__ExecResponse *r;
	int res;

	q.container_id = (char *)(uintptr_t)o->id;
	q.n_cmd = a->n - 1;
	q.cmd = (char **)(uintptr_t)(a->v + 1);
	q.tty = s->tty;
	q.stdin = s->input;
	q.stdout = true;
	q.stderr = !s->tty; /* a terminal has one stream */
	res = rpc_call(s->cli, RUNTIME, "Exec", &q, &r, e);
	return res < 0 ? res : session_open(s, r->url, e);
}

/* Not ExecSync, without -i and -t either: output is seen as it comes, and however much it is. */
static int exec_stream(struct cli *cli, const struct args *a, const struct object *o,
		       uint64_t limit)
{
	struct session s = {.cli = cli,
			    .tty = args_has(a, "tty"),
			    .input = args_has(a, "interactive"),
			    .limit_us = limit};
	struct err e = ERR_NULL;
	int r = exec_open(&s, a, o, &e), status;

	if (r == 0) {
		r = session_run(&s, &e);
		session_close(&s);
	}
	if (r == 0 && s.exit_code >= 0)
		return s.exit_code;
	if (r == 0)
		err_set(&e, -EIO, GRPC_UNKNOWN, "%s", s.message);
	if (r == -EPIPE)
		return EXIT_OURS;
	status = exec_failure_status(&e);
	if (r != -ECANCELED)
		err_wrap(&e, "exec in %s", object_name(cli, o));
	return MAX(cli_fail(cli, &e), status);
}

static int exec(struct cli *cli, const struct args *a)
{
	bool input = args_has(a, "interactive"), tty = args_has(a, "tty");
	struct err e = ERR_NULL;
	uint64_t limit;
	struct object o;

	if (session_check_terminal(input, tty, &e) < 0 ||
	    args_duration(a, "limit", 0, &limit, &e) < 0)
		return cli_usage(a->command, &e);
	if (inventory_find_running(cli, a->v[0], &o, &e) < 0)
		return cli_fail(cli, &e);
	return exec_stream(cli, a, &o, limit);
}

static const struct opt exec_options[] = {
	{.c = 'i', .name = "interactive", .help = "pass standard input to the command"},
	{.c = 't', .name = "tty", .help = "give the command a terminal"},
	{.name = "limit", .metavar = "DURATION", .help = "kill the command after that long"},
	OPT_END,
};

const struct command cmd_exec = {
	.name = "exec",
	.operands = "CONTAINER COMMAND [ARG]...",
	.summary = "run a command in a container that runs",
	.text = "Waits for the command, shows its output, and ends with its exit status. Failures "
		"of gantry itself are 125, a command that is not there 127, one that cannot be "
		"executed 126.\n"
		"With -t the command has a terminal, which follows this one in its size; with -i, "
		"too, keys go to it as they are, and Ctrl-C is one of them. Without -t standard "
		"output and error stay apart, and Ctrl-C ends the command.",
	.examples = "gantry exec -it web sh\n"
		    "gantry exec -i db restore <dump\n"
		    "gantry exec web cat /etc/hostname\n"
		    "gantry exec web sh -c 'ls | wc -l'",
	.opts = exec_options,
	.complete = COMPLETE_RUNNING,
	.min = 2,
	.max = UNLIMITED,
	.own_options_first = true,
	.passes_status = true,
	.run = exec,
};
