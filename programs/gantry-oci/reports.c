/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runtimes can do here.  The daemon's reports are taken where there are such; else a runtime
 * is asked and tried once, and the report kept in STATE/oci until the program, its arguments or the
 * kernel change.  A problem is kept for REPORT_PROBLEM_AGE, so that not each container asks anew.
 */
#include "runtime/report.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "oci.h"
#include "route/needs.h"

#define REPORT_PROBLEM_AGE 30		  /* seconds */
#define TRIAL_TIMEOUT (20 * USEC_PER_SEC) /* of each call of a runtime in it */
#define CGROUP2_MAGIC 0x63677270
#define TRIAL "trial-" /* and the process id: what there is of a trial below STATE/oci */

/* What the container of a trial runs: a static program; this one, where it is static. */
#ifndef GANTRY_PROBE_INIT
#define GANTRY_PROBE_INIT "/proc/self/exe"
#endif

void reports_host(const struct oci *o, struct needs_facts *ret)
{
	struct statfs s;

	*ret = (struct needs_facts){.cgroup_systemd = o->line.systemd_cgroup};
	ret->cgroup_v2 = statfs("/sys/fs/cgroup", &s) == 0 && s.f_type == CGROUP2_MAGIC;
}

static char *directory(const struct oci *o)
{
	return geteuid() == 0 ? xasprintf("%s/oci", o->config.state) : xstrdup(oci_default_root());
}

/* What calls that were killed have left of their trials. */
static void sweep_trials(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *ent;
	uint64_t pid;

	while (d && (ent = readdir(d)))
		if (str_has_prefix(ent->d_name, TRIAL) &&
		    str_to_u64(ent->d_name + strlen(TRIAL), &pid) && pid < INT32_MAX &&
		    kill((pid_t)pid, 0) < 0 && errno == ESRCH)
			(void)fs_remove_tree(dirfd(d), ent->d_name);
	if (d)
		closedir(d);
}

/* A container that it really runs. */
static int try_it(struct runtime *rt, const char *dir, struct err *e)
{
	_cleanup_free_ char *bundle = xasprintf("%s/" TRIAL "%d", dir, (int)getpid()),
			    *init = realpath(GANTRY_PROBE_INIT, NULL),
			    *root = xasprintf("%s/root", bundle),
			    *cgroup = rt->systemd_cgroup
					      ? xasprintf("system.slice:gantry-oci:trial-%d",
							  (int)getpid())
					      : xasprintf("/gantry-oci-trial-%d", (int)getpid());
	static const char *const dirs[] = {"proc", "dev", "sys"};
	struct runtime_trial t = {.dir = bundle, .init = init, .cgroups_path = cgroup};
	int r = init ? 0 : -errno;

	sweep_trials(dir);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *p = xasprintf("%s/rootfs/%s", bundle, dirs[i]);

		r = fs_mkdir_p(AT_FDCWD, p, 0711);
	}
	rt->root = root;
	r = r < 0 ? err_errno(e, r, "make %s", bundle) : runtime_try(rt, &t, e);
	rt->root = NULL;
	FAULT_POINT("oci.trial");
	(void)fs_remove_tree(AT_FDCWD, bundle);
	return r;
}

static void examine(const struct oci *o, struct runtime *rt, const struct runtime_host *h,
		    const char *dir, const char *file, struct runtime_report *ret)
{
	struct err e = ERR_NULL;

	(void)fs_mkdir_p(AT_FDCWD, dir, 0711);
	runtime_report_ask(rt, h, ret);
	if (!*ret->problem && geteuid() == 0 && try_it(rt, dir, &e) < 0) {
		free(ret->problem);
		ret->problem = xstrdup(e.msg);
	}
	(void)runtime_report_save(file, ret); /* where it cannot be kept, it is asked again */
}

/* A problem that was found a moment ago. */
static bool load_problem(const char *file, const char *key, struct runtime_report *ret)
{
	_cleanup_runtime_report_ struct runtime_report got = RUNTIME_REPORT_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct stat st;
	time_t age;

	if (stat(file, &st) < 0 || fs_read(AT_FDCWD, file, RUNTIME_REPORT_MAX, &b) < 0 ||
	    runtime_report_read(str_or_empty(b.s), b.len, &got, NULL) < 0)
		return false;
	age = time(NULL) - st.st_mtime;
	if (!streq(got.key, key) || !*got.problem || age < 0 || age > REPORT_PROBLEM_AGE)
		return false;
	*ret = got;
	got = RUNTIME_REPORT_NULL; /* moved */
	return true;
}

/* What it needs of the node besides its program: looked at each time, it comes and goes. */
static int check_needs(const struct config_runtime *c, struct runtime_report *ret)
{
	struct err e = ERR_NULL;

	for (size_t i = 0; c->needs[i]; i++)
		if (runtime_facility_check(c->needs[i], &e) < 0) {
			*ret = RUNTIME_REPORT_NULL;
			ret->problem = xstrdup(e.msg);
			return -EINVAL;
		}
	return 0;
}

void reports_get(struct oci *o, const struct config_runtime *c, struct runtime_report *ret)
{
	_cleanup_free_ char *dir = directory(o),
			    *daemons = xasprintf("%s/runtime/report-%s", o->config.state, c->name),
			    *own = xasprintf("%s/report-%s%s", dir, c->name,
					     o->line.systemd_cgroup ? "-systemd" : "");
	struct runtime rt = {.path = c->path,
			     .systemd_cgroup = o->line.systemd_cgroup,
			     .timeout_us = TRIAL_TIMEOUT,
			     .cancel_fd = -1};
	_cleanup_free_ char *key = NULL;
	struct needs_facts facts;
	struct runtime_host h;

	if (check_needs(c, ret) < 0)
		return;
	for (size_t i = 0; c->args[i]; i++)
		strv_add(&rt.args, c->args[i]);
	reports_host(o, &facts);
	runtime_host_look(&h);
	h.cgroup_v2 = facts.cgroup_v2;
	h.cgroup_systemd = facts.cgroup_systemd;
	key = runtime_key(&rt, &h);
	if (runtime_report_load(daemons, key, ret) < 0 && runtime_report_load(own, key, ret) < 0 &&
	    !load_problem(own, key, ret))
		examine(o, &rt, &h, dir, own, ret);
	strv_fini(&rt.args);
}
