/* SPDX-License-Identifier: Apache-2.0 */
/* gantry exec. */
#include "base/fs.h"
#include "cli.h"
#include "lookup.h"
#include "run.h"

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

static int find_container(struct cli *cli, const char *word, struct object *ret, struct err *e)
{
	struct inventory v;
	int r = inventory_load(cli, &v, e);

	if (r == 0)
		r = inventory_find(cli, &v, word, KIND_CONTAINER, KIND_CONTAINER, ret, e);
	if (r == 0 && ret->container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		r = err_precondition(e, "%s is not running", object_name(cli, ret));
	return r;
}

static int exec(struct cli *cli, const struct args *a)
{
	Runtime__V1__ExecSyncRequest q = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	Runtime__V1__ExecSyncResponse *r;
	struct err e = ERR_NULL;
	uint64_t limit;
	struct object o;

	if (args_has(a, "interactive") || args_has(a, "tty"))
		return cli_fail(cli,
				(err_set(&e, -ENOSYS, GRPC_UNIMPLEMENTED,
					 "-i and -t need the streaming server, which this version "
					 "of gantryd does not have\nwithout them the command gets "
					 "no input, and its output is shown when it has ended"),
				 &e));
	if (args_duration(a, "limit", 0, &limit, &e) < 0)
		return cli_usage(a->command, &e);
	if (find_container(cli, a->v[0], &o, &e) < 0)
		return cli_fail(cli, &e);
	q.container_id = (char *)(uintptr_t)o.id;
	q.n_cmd = a->n - 1;
	q.cmd = (char **)(uintptr_t)(a->v + 1);
	q.timeout = (int64_t)((limit + USEC_PER_SEC - 1) / USEC_PER_SEC);
	if (rpc_call(cli, RUNTIME, "ExecSync", &q, &r, &e) < 0) {
		int status = exec_failure_status(&e);

		err_wrap(&e, "exec in %s", object_name(cli, &o));
		return MAX(cli_fail(cli, &e), status);
	}
	(void)fs_write_all(STDERR_FILENO, r->stderr.data, r->stderr.len);
	cli_write(r->stdout.data, r->stdout.len);
	return r->exit_code & 0xff;
}

static const struct opt exec_options[] = {
	{.c = 'i', .name = "interactive", .help = "not possible in this version"},
	{.c = 't', .name = "tty", .help = "not possible in this version"},
	{.name = "limit", .metavar = "DURATION", .help = "kill the command after that long"},
	OPT_END,
};

const struct command cmd_exec = {
	.name = "exec",
	.operands = "CONTAINER COMMAND [ARG]...",
	.summary = "run a command in a container that runs",
	.text = "Waits for the command, shows its output when it has ended, and ends with its exit "
		"status. Failures of gantry itself are 125, a command that is not there 127, one "
		"that cannot be executed 126.\n"
		"Interactive sessions (-i, -t), attach and port-forward need the streaming server, "
		"which this version does not have.",
	.examples = "gantry exec web cat /etc/hostname\n"
		    "gantry exec web sh -c 'ls | wc -l'",
	.opts = exec_options,
	.complete = COMPLETE_RUNNING,
	.min = 2,
	.max = UNLIMITED,
	.own_options_first = true,
	.passes_status = true,
	.run = exec,
};
