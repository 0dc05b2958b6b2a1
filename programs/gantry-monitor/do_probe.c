/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runtime can do on this host, found by doing it:
 * "--probe DIR STORE CGROUPSPATH SYSTEMD PATH [ARG]...".  DIR is on the file system of bundles,
 * STORE on that of layers; both are made and removed again.
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
#include "runtime/runtime.h"
#include "snapshot/snapshot.h"
#include "sys/userns.h"
#include "wire/json.h"

#define PROBE_TIMEOUT (20 * USEC_PER_SEC)
#define NOT_WORKING "the runtime does not work"
#define PROBE_PROGRAM_MAX (256u << 20)

/* Ids outside, which nothing else should have. */
#define PROBE_HOST_ID 0x70000000
#define PROBE_IDS 65536

/* The static program that a container of the probe runs: this one, where it is static. */
#ifndef GANTRY_PROBE_INIT
#define GANTRY_PROBE_INIT "/proc/self/exe"
#endif

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
	struct cgroup_host host;
	char *cgroup; /* below the hierarchies' roots */
	const char *store;
	char *bundle, *rootfs, *lower;
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
	int r = runtime_try(&p->rt, &p->trial, e);

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

/* Runtimes that know of it say so (runtime-spec, features.md, netDevices). */
static bool has_net_devices(const struct probe *p)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;

	return runtime_features(&p->rt, &text, NULL) == 0 &&
	       jv_parse(str_or_empty(text.s), text.len, SIZE_MAX, "features", &doc, NULL) == 0 &&
	       jv_bool(doc, "linux.netDevices.enabled", false);
}

static void add_line(struct strbuf *b, const char *text)
{
	size_t from = b->len;

	strbuf_addf(b, "%s", text);
	for (size_t i = from; i < b->len; i++)
		b->s[i] = b->s[i] == '\n' ? ' ' : b->s[i];
	strbuf_addc(b, '\n');
}

static int probe(struct probe *p, struct strbuf *b)
{
	_cleanup_free_ char *version = NULL;
	struct err e = ERR_NULL, user = ERR_NULL, host = ERR_NULL, criu = ERR_NULL;
	int r = runtime_version(&p->rt, &version, &e);

	if (r == 0)
		r = probe_plain(p, &e);
	if (r == 0 && unshare(CLONE_NEWNS) < 0)
		err_errno(&user, -errno, "make a mount namespace");
	else if (r == 0)
		probe_userns(p, &user);
	p->trial.host_network = true;
	if (r == 0 && !*user.msg)
		probe_userns(p, &host);
	add_line(b, str_or_empty(version));
	add_line(b, r < 0 ? e.msg : "");
	add_line(b, r < 0 ? NOT_WORKING : user.msg);
	add_line(b, r < 0 ? NOT_WORKING : *user.msg ? user.msg : host.msg);
	if (r == 0)
		runtime_checkpoint_check(&p->rt, &criu);
	add_line(b, r < 0 ? NOT_WORKING : criu.msg);
	add_line(b, r == 0 && has_net_devices(p) ? "net devices" : "");
	return r;
}

/* Prints a line each: the version, and why not (empty: it does) the runtime works, with user
 * namespaces, with such in the network of the node, makes checkpoints; what else it can do. */
int do_probe(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *root = NULL;
	_cleanup_close_ int lock = -EBADF;
	struct probe p = {0};
	int r;

	if (argc < 5)
		return 2;
	lock = probe_lock(argv[0]);
	root = xasprintf("%s/root", argv[0]);
	p.store = argv[1];
	p.bundle = xasprintf("%s/bundle", argv[0]);
	p.rootfs = xasprintf("%s/rootfs", p.bundle);
	p.lower = xasprintf("%s/lower", p.bundle);
	p.trial = (struct runtime_trial){.dir = p.bundle, .cgroups_path = argv[2]};
	p.rt = (struct runtime){.path = argv[4],
				.root = root,
				.systemd_cgroup = streq(argv[3], "systemd"),
				.timeout_us = PROBE_TIMEOUT,
				.cancel_fd = -1};
	for (int i = 5; i < argc; i++)
		strv_add(&p.rt.args, argv[i]);
	if (cgroup_host_init(&p.host, NULL) == 0)
		cgroup_path_of(argv[2], p.rt.systemd_cgroup, &p.cgroup, NULL);
	remove_container(&p); /* of a probe that was killed */
	r = probe(&p, &b);
	fs_write_all(STDOUT_FILENO, b.s, b.len);
	fs_remove_tree(AT_FDCWD, argv[0]);
	strv_fini(&p.rt.args);
	free(p.bundle);
	free(p.rootfs);
	free(p.lower);
	free(p.cgroup);
	cgroup_host_fini(&p.host);
	return r < 0;
}
