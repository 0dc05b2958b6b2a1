/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint of a running container, as an archive: what CRIU dumps (checkpoint/), what it said of
 * it, the container's configurations (config.dump, spec.dump), and what its writable layer has and
 * takes away (rootfs-diff.tar, deleted.files).
 *
 * The container is paused meanwhile, so that memory and files are of one moment.  The parts are gathered
 * beside the writable layer, with which they would go if this job died; whoever finds them there lets the
 * container go on (do_thaw()).  The archive gets its name when it is whole.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "mon.h"
#include "runtime/runtime.h"
#include "snapshot/snapshot.h"
#include "tarball.h"
#include "wire/json.h"

#define LOG_MAX (1u << 20) /* bytes of CRIU's log that are looked through */
#define CONFIG_MAX (16u << 20)

struct checkpoint {
	struct job_context *j;
	char *dir;   /* where the parts are gathered */
	char *upper; /* the writable layer's files */
	const char *location;
};

static bool is_noise(const char *line)
{
	const char *rlimit = strstr(line, "rlimit:");

	return rlimit && (size_t)(rlimit - line) < strcspn(line, "\n");
}

void do_add_criu_words(const char *dir, const char *log, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, log);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const char *found = NULL;

	/* That it cannot have more descriptors is no reason by itself. */
	if (fs_read(AT_FDCWD, path, LOG_MAX, &b) == 0 && b.s)
		for (found = strstr(b.s, "Error"); found && is_noise(found);)
			found = strstr(found + 1, "Error");
	if (found)
		err_precondition(e, "CRIU: %.*s", (int)MIN(strcspn(found, "\n"), 400u), found);
}

static int tell(const struct checkpoint *k, const char *what, struct err *e)
{
	_cleanup_free_ char *log = xasprintf("%s/runtime.log", k->dir);
	const char *argv[] = {what, k->j->id, NULL};
	const int none[] = {-1, -1, -1};
	struct runtime rt;
	int r;

	do_read_runtime(k->j, &container_find(k->j->mon, k->j->id)->create, &rt);
	rt.cancel_fd = -1;
	r = runtime_call(&rt, argv, none, log, NULL, e);
	unlink(log);
	strv_fini(&rt.args);
	return r;
}

static int dump(const struct checkpoint *k, struct err *e)
{
	_cleanup_free_ char *images = xasprintf("%s/checkpoint", k->dir),
			    *log = xasprintf("%s/runtime.log", k->dir);
	const char *argv[] = {
		"checkpoint",	   "--image-path",	images,		"--work-path", k->dir,
		"--leave-running", "--tcp-established", "--file-locks", k->j->id,      NULL};
	const int none[] = {-1, -1, -1};
	struct runtime rt;
	int r;

	do_read_runtime(k->j, &container_find(k->j->mon, k->j->id)->create, &rt);
	rt.timeout_us = ipc_get_u64(k->j->in, MON_TAG_TIMEOUT, rt.timeout_us);
	rt.cancel_fd = -1; /* half of a dump is never to be left */
	r = runtime_call(&rt, argv, none, log, NULL, e);
	if (r < 0 && r != -ETIMEDOUT)
		do_add_criu_words(k->dir, "dump.log", e);
	unlink(log);
	strv_fini(&rt.args);
	return r;
}

static int write_part(const struct checkpoint *k, const char *name, const void *p, size_t n,
		      struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", k->dir, name);
	int r = fs_write_atomic(AT_FDCWD, path, p, n, 0600, false);

	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

static int add_configs(const struct checkpoint *k, struct err *e)
{
	_cleanup_free_ char *bundle = record_dir(k->j->mon->dir, k->j->id),
			    *path = xasprintf("%s/config.json", bundle);
	_cleanup_strbuf_ struct strbuf spec = STRBUF_NULL;
	const void *p = "";
	size_t n = 0;
	int r = fs_read(AT_FDCWD, path, CONFIG_MAX, &spec);

	if (r < 0)
		return err_errno(e, r, "read %s", path);
	ipc_get_bytes(k->j->in, MON_TAG_CONFIG, &p, &n);
	r = write_part(k, "config.dump", p, n, e);
	return r < 0 ? r : write_part(k, "spec.dump", str_or_empty(spec.s), spec.len, e);
}

static int add_deleted(const struct checkpoint *k, const struct strv *gone, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	if (!gone->n)
		return 0;
	jw_array_begin(&w);
	for (size_t i = 0; i < gone->n; i++)
		jw_string(&w, gone->v[i]);
	jw_array_end(&w);
	return write_part(k, "deleted.files", b.s, b.len, e);
}

static int add_files(const struct checkpoint *k, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/rootfs-diff.tar", k->dir);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	_cleanup_strv_ struct strv gone = STRV_NULL;
	int r = fd < 0 ? err_errno(e, -errno, "make %s", path)
		       : tarball_write(fd, k->upper, &gone, e);

	return r < 0 ? r : add_deleted(k, &gone, e);
}

/* The memory of a container is nobody else's to read. */
static int archive(const struct checkpoint *k, struct err *e)
{
	_cleanup_free_ char *part = xasprintf("%s.%s.part", k->location, k->j->id);
	_cleanup_close_ int fd =
		open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_errno(e, -errno, "make %s", part);
	r = tarball_write(fd, k->dir, NULL, e);
	if (r == 0 && (fsync(fd) < 0 || rename(part, k->location) < 0))
		r = err_errno(e, -errno, "write %s", k->location);
	if (r < 0)
		unlink(part);
	return r;
}

/* All but the archive itself. */
static int gather(const struct checkpoint *k, struct err *e)
{
	int r = tell(k, "pause", e), resumed;

	FAULT_POINT("job.checkpoint.paused");
	if (r == 0)
		r = dump(k, e);
	FAULT_POINT("job.checkpoint.dumped");
	if (r == 0)
		r = add_configs(k, e);
	if (r == 0)
		r = add_files(k, e);
	/* Also where it could not be paused, or not in time. */
	resumed = tell(k, "resume", r < 0 ? NULL : e);
	return r < 0 ? r : resumed;
}

int do_thaw(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	const char *writable =
		ipc_get_str(&container_find(j->mon, j->id)->create, MON_TAG_WRITABLE);
	const struct checkpoint k = {
		.j = j, .dir = xasprintf("%s/" DO_CHECKPOINT_PARTS, str_or_empty(writable))};
	int r = tell(&k, "resume", e);

	(void)reply;
	fs_remove_tree(AT_FDCWD, k.dir);
	return r;
}

int do_checkpoint(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	const char *writable = ipc_get_str(j->in, MON_TAG_WRITABLE);
	struct checkpoint k = {
		.j = j,
		.dir = xasprintf("%s/" DO_CHECKPOINT_PARTS, str_or_empty(writable)),
		.location = str_or_empty(ipc_get_str(j->in, MON_TAG_LOCATION)),
	};
	int r = snapshot_choose(ipc_get_str(j->in, MON_TAG_SNAPSHOTTER), e);

	(void)reply;
	if (r < 0)
		return r;
	k.upper = xasprintf("%s/%s", str_or_empty(writable), snapshotter->written);
	if (str_empty(writable) || *k.location != '/')
		return err_invalid(e, "no writable layer or location in the request");
	fs_remove_tree(AT_FDCWD, k.dir); /* of one that died */
	r = mkdir(k.dir, 0700) < 0 ? err_errno(e, -errno, "make %s", k.dir) : gather(&k, e);
	if (r == 0)
		r = archive(&k, e);
	fs_remove_tree(AT_FDCWD, k.dir);
	return r;
}
