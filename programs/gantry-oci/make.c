/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that make a container: its runtime is chosen, written down, and executed. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "oci.h"

/*
 * A container of that id that is there, or that another call is making: its own runtime says so, in
 * its words.  1: it is to be called.
 */
static int taken(struct oci *o, const char *id, struct program *ret, struct err *e)
{
	_cleanup_record_ struct record rec = RECORD_NULL;
	_cleanup_free_ char *dir = NULL;

	if (record_read(o->root, id, &rec, NULL) == 0) {
		*ret = program_of_record(o, &rec);
		/* What was checkpointed is restored by who did it. */
		return streq(o->line.verb->name, "restore") || record_maker_runs(&rec) ||
		       program_has(o, ret, id) > 0;
	}
	if (!o->line.root)
		return 0;
	dir = xasprintf("%s/%s", o->root, id);
	if (!fs_exists(AT_FDCWD, dir))
		return 0;
	return owner_find(o, id, ret, e) == 0;
}

static int write_record(struct oci *o, const char *id, const struct program *p, struct err *e)
{
	_cleanup_record_ struct record rec = {
		.runtime = xstrdup(p->name),
		.path = xstrdup(p->path),
		.pod_unit = p->pod_unit,
		.isolation = xstrdup(str_or_empty(p->isolation)),
		.why = xstrdup(str_or_empty(p->why)),
	};

	for (size_t i = 0; p->args[i]; i++)
		strv_add(&rec.args, p->args[i]);
	return record_write(o->root, id, &rec, e);
}

/* It ends with its container: then there is something to do.  (systemd takes notifications of the
 * process that it has started alone: its container's record stays until the next `list`.) */
static bool stays(const struct oci *o)
{
	return !streq(o->line.verb->name, "create") && !o->line.detach && !o->line.keep &&
	       !getenv("NOTIFY_SOCKET");
}

static int go(struct oci *o, const struct program *p, struct err *e)
{
	_cleanup_record_ struct record rec = RECORD_NULL;
	const char *id = o->line.id;
	int status;

	if (!stays(o) || record_read(o->root, id, &rec, NULL) < 0)
		return program_become(o, p, e);
	if (program_relay(o, p, &status, e) < 0)
		return e->errnum;
	return owner_ended(o, p, id, &rec, status);
}

int make_command(struct oci *o)
{
	const char *id = o->line.id;
	struct err e = ERR_NULL;
	struct program p;
	int r;

	if (!id)
		return oci_fail(
			o, (err_invalid(&e, "%s wants the id of a container", o->line.verb->name),
			    &e));
	if (record_check_id(id, &e) < 0)
		return oci_fail(o, &e);
	if (taken(o, id, &p, &e)) {
		if (streq(o->line.verb->name, "restore"))
			(void)write_record(o, id, &p, NULL);
		(void)program_become(o, &p, &e);
		return oci_fail(o, &e);
	}
	if (oci_configure(o, &e) < 0 || choose(o, &p, &e) < 0 || write_record(o, id, &p, &e) < 0)
		return oci_fail(o, &e);
	FAULT_POINT("oci.make.recorded");
	r = go(o, &p, &e);
	if (r >= 0)
		return r;
	record_remove(o->root, id, NULL);
	return oci_fail(o, &e);
}
