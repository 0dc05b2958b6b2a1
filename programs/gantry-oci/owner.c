/* SPDX-License-Identifier: Apache-2.0 */
/* Whose a container is: commands of one that is there. */
#include <sys/wait.h>

#include "base/fault.h"
#include "base/mem.h"
#include "oci.h"

/* No record: it was made without gantry-oci, or a crash of the machine took the record. */
static int ask_all(struct oci *o, const char *id, struct program *ret, struct err *e)
{
	struct program *list;
	size_t n;

	if (oci_configure(o, e) < 0)
		return e->errnum;
	n = program_list(o, &list);
	for (size_t i = 0; i < n; i++)
		if (program_has(o, &list[i], id) > 0) {
			*ret = list[i];
			return 0;
		}
	return err_not_found(e, "container \"%s\" does not exist", id);
}

static void remember(struct oci *o, const char *id, const struct program *p)
{
	struct record r = {.runtime = (char *)(uintptr_t)p->name,
			   .path = (char *)(uintptr_t)p->path,
			   .args = {.v = (char **)(uintptr_t)p->args},
			   .pod_unit = p->pod_unit,
			   .isolation = (char *)(uintptr_t)p->isolation,
			   .why = (char *)(uintptr_t) "found"};

	while (p->args[r.args.n])
		r.args.n++;
	(void)record_write(o->root, id, &r, NULL); /* it was found without, and will be again */
}

/* A runtime that is gone from where it was, and that the configuration still has by its name. */
static int moved(struct oci *o, const char *id, struct program *p, struct err *e)
{
	const char *name = p->name, *path = p->path;
	struct program *list;
	size_t n;

	if (oci_configure(o, e) < 0)
		return e->errnum;
	n = program_list(o, &list);
	for (size_t i = 0; i < n; i++)
		if (streq(list[i].name, name)) {
			*p = list[i];
			return 0;
		}
	return err_precondition(
		e, "%s, the runtime (%s) of container \"%s\", is not installed any more", path,
		name, id);
}

int owner_find(struct oci *o, const char *id, struct program *ret, struct err *e)
{
	_cleanup_record_ struct record rec = RECORD_NULL;
	int r = record_read(o->root, id, &rec, NULL);

	if (r == 0) {
		*ret = program_of_record(o, &rec);
		return access(ret->path, X_OK) == 0 ? 0 : moved(o, id, ret, e);
	}
	r = ask_all(o, id, ret, e);
	if (r == 0)
		remember(o, id, ret);
	return r;
}

/* The runtime whose words are those for a container that nobody knows. */
static int first(struct oci *o, struct program *ret, struct err *e)
{
	struct program *list;

	if (oci_configure(o, e) < 0)
		return e->errnum;
	if (program_list(o, &list) == 0)
		return err_precondition(e, "no runtime of the configuration is installed");
	*ret = list[0];
	return 0;
}

/* Gives 1 where it is of no one container: then the first runtime answers. */
static int find(struct oci *o, struct program *ret, struct err *e)
{
	const char *id = o->line.id;
	int r = -ENOENT;

	if (id && record_check_id(id, NULL) == 0)
		r = owner_find(o, id, ret, e);
	if (r == -ENOENT)
		r = first(o, ret, e);
	return r;
}

/* The same for each runtime (a pattern of ids). */
static int for_all(struct oci *o)
{
	struct err e = ERR_NULL;
	struct program *list;
	int worst = 0;
	size_t n;

	if (oci_configure(o, &e) < 0)
		return oci_fail(o, &e);
	n = program_list(o, &list);
	for (size_t i = 0; i < n; i++) {
		int status = 0;

		if (program_relay(o, &list[i], &status, &e) < 0)
			return oci_fail(o, &e);
		worst = MAX(worst, WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED);
	}
	owner_sweep(o);
	return worst;
}

int owner_command(struct oci *o)
{
	struct err e = ERR_NULL;
	struct program p;

	if (o->line.many)
		return for_all(o);
	if (find(o, &p, &e) == 0)
		(void)program_become(o, &p, &e);
	return oci_fail(o, &e);
}

int owner_delete(struct oci *o)
{
	const char *id = o->line.id && record_check_id(o->line.id, NULL) == 0 ? o->line.id : NULL;
	_cleanup_record_ struct record was = RECORD_NULL;
	struct err e = ERR_NULL;
	struct program p;
	int status;

	if (o->line.many)
		return for_all(o);
	if (find(o, &p, &e) < 0)
		return oci_fail(o, &e);
	if (id && record_read(o->root, id, &was, NULL) < 0)
		id = NULL;
	if (!id)
		(void)program_become(o, &p, &e);
	else if (program_relay(o, &p, &status, &e) == 0)
		return owner_ended(o, &p, id, &was, status);
	return oci_fail(o, &e);
}

int owner_ended(struct oci *o, const struct program *p, const char *id, const struct record *was,
		int status)
{
	FAULT_POINT("oci.ended");
	/* A failure may mean that it was gone already. */
	if (program_has(o, p, id) == 0)
		record_remove(o->root, id, was);
	FAULT_POINT("oci.ended.removed");
	return program_end_as(status);
}

void owner_sweep(struct oci *o)
{
	_cleanup_strv_ struct strv ids = STRV_NULL;

	record_list(o->root, &ids);
	for (size_t i = 0; i < ids.n; i++) {
		_cleanup_record_ struct record rec = RECORD_NULL;
		struct program p;

		if (record_read(o->root, ids.v[i], &rec, NULL) < 0 || record_maker_runs(&rec))
			continue;
		p = program_of_record(o, &rec);
		if (program_has(o, &p, ids.v[i]) == 0)
			record_remove(o->root, ids.v[i], &rec);
	}
}
