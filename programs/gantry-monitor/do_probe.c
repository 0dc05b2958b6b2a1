/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runtime can do on this host, found by asking and by doing it: "--probe QUESTION", which is an
 * object of
 *   dir     on the file system of bundles, store on that of layers: made and removed again
 *   cgroup  of the trial, as cgroupsPath; systemd: it is systemd's
 *   path    of the program, and args before the command
 *   unit    "pod": a sandbox is tried, and a container in it
 *   needs   of the node besides (runtime_facility_check())
 *   kept    file that a report is kept in for the next time, which anew does without
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "mon.h"
#include "runtime/report.h"
#include "runtime/unit.h"
#include "snapshot/snapshot.h"
#include "sys/userns.h"
#include "wire/json.h"

#define PROBE_TIMEOUT (20 * USEC_PER_SEC)
#define QUESTION_MAX (256u << 10) /* bytes */
/* What a pod cannot share with the node when it is in a sandbox. */
#define NOT_IN_SANDBOXES                                                                           \
	(RCAP_BIT(RCAP_USERNS) | RCAP_BIT(RCAP_USERNS_HOST_NETWORK) |                              \
	 RCAP_BIT(RCAP_HOST_NETWORK) | RCAP_BIT(RCAP_HOST_PID) | RCAP_BIT(RCAP_HOST_IPC) |         \
	 RCAP_BIT(RCAP_JOIN_USER))
#define PROBE_PROGRAM_MAX (256u << 20)

/* Ids outside, which nothing else should have. */
#define PROBE_HOST_ID 0x70000000
#define PROBE_IDS 65536

/* A probe that an earlier daemon began and did not live to see the end of goes first: both use
 * one directory and one cgroup. */
static int probe_lock(const char *dir)
{
	_cleanup_free_ char *path = xasprintf("%s.lock", dir);
	int fd = fs_mkdir_p(AT_FDCWD, dir, 0711) < 0
			 ? -1
			 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
	return fd;
}

struct probe {
	struct runtime rt;
	bool pod; /* its unit: a sandbox is tried, and a container in it */
	struct cgroup_host host;
	char *cgroup; /* below the hierarchies' roots */
	const char *store;
	char *root, *bundle, *rootfs, *lower;
	struct runtime_trial trial;
};

/* A root of directories, and the program. */
static int make_root(const char *dir, bool program, struct err *e)
{
	static const char *const dirs[] = {"proc", "dev", "sys"};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *init = xasprintf("%s/init", dir);
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *p = xasprintf("%s/%s", dir, dirs[i]);

		r = fs_mkdir_p(AT_FDCWD, p, 0755);
	}
	if (r == 0 && program)
		r = fs_read(AT_FDCWD, GANTRY_PROBE_INIT, PROBE_PROGRAM_MAX, &b);
	if (r == 0 && program)
		r = fs_write_atomic(AT_FDCWD, init, b.s, b.len, 0755, false);
	return r < 0 ? err_errno(e, r, "make the probe's root in %s", dir) : 0;
}

/* What a runtime that fails, or is ended when its time is over, leaves of its container. */
static void remove_container(struct probe *p)
{
	if (p->cgroup)
		do_remove_cgroup(&p->host, p->cgroup);
	fs_remove_tree(AT_FDCWD, p->rt.root);
}

static int try_runtime(struct probe *p, struct err *e)
{
	int r = p->pod ? runtime_try_pod(&p->rt, &p->trial, e) : runtime_try(&p->rt, &p->trial, e);

	remove_container(p);
	return r;
}

static int probe_plain(struct probe *p, struct err *e)
{
	_cleanup_free_ char *init = realpath(GANTRY_PROBE_INIT, NULL);
	int r;

	if (!init)
		return err_errno(e, -errno, "find %s", GANTRY_PROBE_INIT);
	fs_remove_tree(AT_FDCWD, p->bundle);
	p->trial.init = init;
	r = make_root(p->rootfs, false, e);
	if (r == 0)
		r = try_runtime(p, e);
	p->trial.init = NULL;
	fs_remove_tree(AT_FDCWD, p->bundle);
	return r;
}

/*
 * With a seccomp filter, where it says that it has such: some accept one and go on without (youki that
 * is built without its feature "seccomp").  Where that fails, it is tried once more without, to
 * know whether it was for the filter.
 */
static int probe_first(struct probe *p, struct runtime_caps *caps, struct err *e)
{
	struct err filter = ERR_NULL;
	int r;

	p->trial.seccomp = !p->pod && caps->has & RCAP_BIT(RCAP_SECCOMP);
	r = probe_plain(p, &filter);
	if (r == 0)
		return 0;
	if (p->trial.seccomp) {
		p->trial.seccomp = false;
		r = probe_plain(p, e);
		if (r == 0)
			runtime_caps_lack(caps, RCAP_SECCOMP_BITS, "%s", filter.msg);
	} else {
		*e = filter;
	}
	return r;
}

/* As a container has it: an overlay over a layer whose ids are mapped. */
static int mount_root(struct probe *p, int userns, struct err *e)
{
	const struct snapshot_map map = {userns, PROBE_HOST_ID, PROBE_HOST_ID, p->lower};
	_cleanup_free_ char *writable = xasprintf("%s/writable", p->store),
			    *layer = xasprintf("%s/layer", p->store);
	_cleanup_strv_ struct strv layers = STRV_NULL;
	struct snapshot s = {p->store, &layers, writable, &map};
	int r;

	strv_add(&layers, "layer");
	r = make_root(layer, true, e);
	if (r == 0)
		r = snapshotter->prepare(&s, e);
	if (r < 0)
		return r;
	r = fs_mkdir_p(AT_FDCWD, p->rootfs, 0755);
	if (r == 0)
		r = fs_mkdir_p(AT_FDCWD, p->lower, 0755);
	if (r < 0)
		return err_errno(e, r, "make the probe's bundle in %s", p->bundle);
	return snapshotter->mount(&s, p->rootfs, e);
}

static int try_userns(struct probe *p, int userns, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/fd/%d", (int)getpid(), userns),
			    *mappings = xasprintf("[{\"containerID\":0,\"hostID\":%u,\"size\":%u}]",
						  PROBE_HOST_ID, PROBE_IDS);
	int r;

	p->trial.userns = path;
	p->trial.mappings = mappings;
	r = mount_root(p, userns, e);
	if (r == 0)
		r = try_runtime(p, e);
	umount2(p->rootfs, MNT_DETACH);
	fs_remove_tree(AT_FDCWD, p->bundle);
	fs_remove_tree(AT_FDCWD, p->store);
	return r;
}

static int probe_userns(struct probe *p, struct err *e)
{
	const struct userns_map map = {0, PROBE_HOST_ID, PROBE_IDS};
	struct userns_made made = USERNS_MADE_NULL;
	int r = userns_make(&map, &map, 0, NULL, NULL, &made, e);

	fs_remove_tree(AT_FDCWD, p->store);
	if (r == 0)
		r = try_userns(p, made.user, e);
	userns_made_fini(&made);
	return r;
}

/* One trial after the other; what fails is taken away with the runtime's own words. */
static void try_userns_pods(struct probe *p, struct runtime_caps *caps)
{
	const uint64_t users = RCAP_BIT(RCAP_USERNS) | RCAP_BIT(RCAP_USERNS_HOST_NETWORK);
	struct err e = ERR_NULL;
	int r = 0;

	if (!(caps->has & RCAP_BIT(RCAP_USERNS)))
		return;
	if (unshare(CLONE_NEWNS) < 0)
		r = err_errno(&e, -errno, "make a mount namespace");
	if (r == 0)
		r = probe_userns(p, &e);
	if (r < 0) {
		runtime_caps_lack(caps, users, "%s", e.msg);
		return;
	}
	p->trial.host_network = true;
	if (caps->has & RCAP_BIT(RCAP_USERNS_HOST_NETWORK) && probe_userns(p, &e) < 0)
		runtime_caps_lack(caps, RCAP_BIT(RCAP_USERNS_HOST_NETWORK), "%s", e.msg);
}

static void check_checkpoints(struct probe *p, struct runtime_caps *caps)
{
	const uint64_t both = RCAP_BIT(RCAP_CHECKPOINT) | RCAP_BIT(RCAP_RESTORE);
	struct err e = ERR_NULL;

	if (caps->has & both && runtime_checkpoint_check(&p->rt, &e) < 0)
		runtime_caps_lack(caps, both, "%s", e.msg);
}

/* A trial in another manner says nothing of this one. */
static void add_unit(const struct probe *p, char **key)
{
	char *more = p->pod && *key ? xasprintf("%s pod", *key) : NULL;

	if (more) {
		free(*key);
		*key = more;
	}
}

static int examine(struct probe *p, const struct runtime_host *host, struct runtime_report *ret)
{
	struct err e = ERR_NULL;
	int r;

	runtime_report_ask(&p->rt, host, ret);
	add_unit(p, &ret->key);
	if (*ret->problem)
		return -EINVAL;
	r = probe_first(p, &ret->caps, &e);
	p->trial.seccomp = false;
	if (r < 0) {
		free(ret->problem);
		ret->problem = xstrdup(e.msg);
		return -EINVAL;
	}
	if (p->pod)
		runtime_caps_lack(&ret->caps, NOT_IN_SANDBOXES,
				  "pods are in sandboxes of their own (unit: pod)");
	try_userns_pods(p, &ret->caps);
	check_checkpoints(p, &ret->caps);
	return 0;
}

static int check_needs(const jv *needs, struct err *e)
{
	for (size_t i = 0; i < jv_len(needs); i++) {
		int r = runtime_facility_check(str_or_empty(jv_as_string(jv_at(needs, i))), e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* By way of the probe's own directory: what is left there when it is killed, the next one removes. */
static void keep(const char *dir, const char *kept, const struct runtime_report *rep)
{
	_cleanup_free_ char *file = xasprintf("%s/report", dir);

	if (runtime_report_save(file, rep) == 0)
		(void)rename(file, kept);
}

/* What is known from the last time is good where it stands on the same, and nobody asks anew; a
 * failure is never kept. */
static int report(struct probe *p, const jv *q, struct runtime_report *ret)
{
	const char *kept = jv_string(q, "kept", "");
	struct runtime_host host;
	struct err e = ERR_NULL;
	_cleanup_free_ char *key = NULL;
	int r;

	if (check_needs(jv_get(q, "needs"), &e) < 0) {
		ret->path = runtime_find(p->rt.path);
		ret->problem = xstrdup(e.msg);
		return -EINVAL;
	}
	runtime_host_look(&host);
	host.cgroup_v2 = p->host.v2;
	host.cgroup_systemd = p->rt.systemd_cgroup;
	key = runtime_key(&p->rt, &host);
	add_unit(p, &key);
	if (!jv_bool(q, "anew", false) && runtime_report_load(kept, key, ret) == 0)
		return 0;
	unlink(kept);
	r = examine(p, &host, ret);
	if (r == 0 && *kept && streq(ret->key, key))
		keep(jv_string(q, "dir", ""), kept, ret);
	return r;
}

static void probe_fini(struct probe *p)
{
	strv_fini(&p->rt.args);
	free(p->root);
	free(p->bundle);
	free(p->rootfs);
	free(p->lower);
	free(p->cgroup);
	cgroup_host_fini(&p->host);
}

static void probe_init(struct probe *p, const jv *q)
{
	const char *dir = jv_string(q, "dir", "");
	const jv *args = jv_get(q, "args");

	*p = (struct probe){
		.rt = {.path = jv_string(q, "path", ""),
		       .systemd_cgroup = jv_bool(q, "systemd", false),
		       .timeout_us = PROBE_TIMEOUT,
		       .cancel_fd = -1},
		.pod = streq(jv_string(q, "unit", ""), "pod"),
		.store = jv_string(q, "store", ""),
		.root = xasprintf("%s/root", dir),
		.bundle = xasprintf("%s/bundle", dir),
	};
	p->rt.root = p->root;
	p->rootfs = xasprintf("%s/rootfs", p->bundle);
	p->lower = xasprintf("%s/lower", p->bundle);
	p->trial = (struct runtime_trial){.dir = p->bundle,
					  .cgroups_path = jv_string(q, "cgroup", "")};
	for (size_t i = 0; i < jv_len(args); i++)
		strv_add(&p->rt.args, str_or_empty(jv_as_string(jv_at(args, i))));
	if (cgroup_host_init(&p->host, NULL) == 0)
		cgroup_path_of(p->trial.cgroups_path, p->rt.systemd_cgroup, &p->cgroup, NULL);
}

/* Prints the report (runtime/report.h) as JSON.  Status 1: the runtime does not work. */
int do_probe(int argc, char **argv)
{
	_cleanup_runtime_report_ struct runtime_report rep = RUNTIME_REPORT_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_close_ int lock = -EBADF;
	_cleanup_jv_ jv *q = NULL;
	struct probe p;
	int r;

	if (argc != 1 || jv_parse(argv[0], strlen(argv[0]), QUESTION_MAX, "probe", &q, NULL) < 0 ||
	    !*jv_string(q, "dir", "") || !*jv_string(q, "store", ""))
		return 2;
	lock = probe_lock(jv_string(q, "dir", ""));
	probe_init(&p, q);
	remove_container(&p); /* of a probe that was killed */
	r = report(&p, q, &rep);
	runtime_report_print(&rep, &b);
	fs_write_all(STDOUT_FILENO, b.s, b.len);
	fs_remove_tree(AT_FDCWD, jv_string(q, "dir", ""));
	probe_fini(&p);
	return r < 0;
}
