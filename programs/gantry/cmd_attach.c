/* SPDX-License-Identifier: Apache-2.0 */
/* gantry attach. */
#include "attach.h"

#include "base/fs.h"
#include "follow.h"
#include "lookup.h"
#include "wire/json.h"

#define INFO_MAX (1u << 20)

/* Whether the container has a terminal, and standard input. */
static int ask_container(struct cli *cli, const char *id, bool *ret_tty, bool *ret_input,
			 struct err *e)
{
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *r;
	_cleanup_jv_ jv *doc = NULL;
	const char *info;

	q.container_id = (char *)(uintptr_t)id;
	q.verbose = true;
	if (rpc_call(cli, RUNTIME, "ContainerStatus", &q, &r, e) < 0)
		return e->errnum;
	info = str_or_empty(rpc_info(r->info, r->n_info, "info"));
	if (jv_parse(info, strlen(info), INFO_MAX, "info", &doc, e) < 0)
		return e->errnum;
	*ret_tty = jv_bool(doc, "tty", false);
	*ret_input = jv_bool(doc, "stdin", false);
	return 0;
}

int attach_open(struct session *s, const char *id, struct err *e)
{
	Runtime__V1__AttachRequest q = RUNTIME__V1__ATTACH_REQUEST__INIT;
	Runtime__V1__AttachResponse *r;
	int res;

	q.container_id = (char *)(uintptr_t)id;
	q.tty = s->tty;
	q.stdin = s->input;
	q.stdout = true;
	q.stderr = !s->tty; /* a terminal has one stream */
	res = rpc_call(s->cli, RUNTIME, "Attach", &q, &r, e);
	return res < 0 ? res : session_open(s, r->url, e);
}

/* The session's end is the container's: what became of it. */
static int exit_status(struct cli *cli, const struct object *o, int *ret, struct err *e)
{
	struct follow f = {.cli = cli, .id = o->id, .name = object_name(cli, o)};
	int r = follow_end(&f, e);

	if (r == 0)
		*ret = f.gone ? EXIT_OK : f.status->exit_code & 0xff;
	return e->code == GRPC_NOT_FOUND ? (*ret = EXIT_OK) : r;
}

static int run_session(struct session *s, const struct object *o, int *ret_status, struct err *e)
{
	int r = attach_open(s, o->id, e);

	if (r < 0)
		return err_wrap(e, "attach to %s", object_name(s->cli, o));
	r = session_run(s, e);
	session_close(s);
	if (r == 0 && s->detached) {
		attach_say_detached(s->cli, object_name(s->cli, o));
		*ret_status = EXIT_OK;
		return 0;
	}
	if (r == 0 && s->exit_code < 0)
		r = err_set(e, -EIO, GRPC_UNKNOWN, "%s", s->message);
	return r < 0 ? r : exit_status(s->cli, o, ret_status, e);
}

void attach_say_detached(struct cli *cli, const char *name)
{
	const char *s =
		arena_printf(&cli->arena, "\ngantry: detached from %s, which goes on\n", name);

	(void)fs_write_all(STDERR_FILENO, s, strlen(s));
}

static int attach(struct cli *cli, const struct args *a)
{
	struct session s = {.cli = cli, .detach_keys = true, .redraw = true};
	struct err e = ERR_NULL;
	int status = EXIT_OURS;
	struct object o;

	if (inventory_find_running(cli, a->v[0], &o, &e) < 0 ||
	    ask_container(cli, o.id, &s.tty, &s.input, &e) < 0)
		return cli_fail(cli, &e);
	s.input = s.input && !args_has(a, "no-stdin");
	if (session_check_terminal(s.input, s.tty, &e) < 0) {
		err_invalid(&e,
			    "%s has a terminal, and standard input is none: use --no-stdin to "
			    "see its output alone",
			    object_name(cli, &o));
		return cli_fail(cli, &e);
	}
	if (run_session(&s, &o, &status, &e) < 0 && e.errnum != -EPIPE)
		return cli_fail(cli, &e);
	return status;
}

static const struct opt attach_options[] = {
	{.name = "no-stdin", .help = "pass no input: watch"},
	OPT_END,
};

const struct command cmd_attach = {
	.name = "attach",
	.operands = "CONTAINER",
	.summary = "join the input and output of a container that runs",
	.text = "Shows what the container writes from now on ('gantry logs' has what it wrote "
		"before), passes it standard input where it takes any, and ends with its exit "
		"status. Of a container with a terminal, Ctrl-P Ctrl-Q detaches: it goes on. "
		"Otherwise Ctrl-C does. Failures of gantry itself are 125.",
	.examples = "gantry attach shell\n"
		    "gantry attach --no-stdin web",
	.opts = attach_options,
	.complete = COMPLETE_RUNNING,
	.min = 1,
	.max = 1,
	.passes_status = true,
	.run = attach,
};
