/* SPDX-License-Identifier: Apache-2.0 */
/* gantry checkpoint; gantry restore is a kind of run (cmd_run.c). */
#include <stdlib.h>

#include "cli.h"
#include "lookup.h"
#include "text.h"

/* The daemon has a working directory of its own; the file may not be there yet. */
static const char *absolute(struct cli *cli, const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	_cleanup_free_ char *dir = slash ? xstrndup(path, (size_t)(slash - path) + 1)
					 : xstrdup("."),
			    *real = realpath(dir, NULL);

	if (!real)
		err_errno(e, -errno, "%s", dir);
	else if (!*name || streq(name, ".") || streq(name, ".."))
		err_invalid(e, "%s is no name for a file", path);
	else
		return arena_printf(&cli->arena, "%s/%s", streq(real, "/") ? "" : real, name);
	return NULL;
}

static int make(struct cli *cli, const struct args *a, struct err *e)
{
	Runtime__V1__CheckpointContainerRequest q = RUNTIME__V1__CHECKPOINT_CONTAINER_REQUEST__INIT;
	const char *path = absolute(cli, a->v[1], e);
	struct inventory v;
	struct object o;
	void *done;
	int r = path ? inventory_load(cli, &v, e) : e->errnum;

	if (r == 0)
		r = inventory_find(cli, &v, a->v[0], KIND_CONTAINER, KIND_CONTAINER, &o, e);
	if (r < 0)
		return r;
	q.container_id = (char *)(uintptr_t)o.id;
	q.location = (char *)(uintptr_t)path;
	r = rpc_call(cli, RUNTIME, "CheckpointContainer", &q, &done, e);
	return r < 0 ? err_wrap(e, "checkpoint %s", object_name(cli, &o)) : 0;
}

static int checkpoint(struct cli *cli, const struct args *a)
{
	struct err e = ERR_NULL;

	return make(cli, a, &e) < 0 ? cli_fail(cli, &e) : EXIT_OK;
}

const struct command cmd_checkpoint = {
	.name = "checkpoint",
	.operands = "CONTAINER FILE",
	.summary = "write all that a running container is into an archive",
	.text = "Memory, open files and changes of its root file system, by CRIU; the container "
		"runs "
		"on. A file of that name is replaced. It is readable by root alone: it holds all "
		"that "
		"the container knows. 'gantry restore FILE' goes on from there.",
	.examples = "gantry checkpoint counter ./counter.tar",
	.complete = COMPLETE_RUNNING,
	.min = 2,
	.max = 2,
	.run = checkpoint,
};
