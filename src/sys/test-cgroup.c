/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"
#include "sys/cgroup.h"

static void expect_path(const char *name, bool systemd, const char *want)
{
	_cleanup_free_ char *got = NULL;

	CHECK_INT(cgroup_path_of(name, systemd, &got, NULL), 0);
	CHECK_STR(got, want);
}

static void test_names(void)
{
	_cleanup_free_ char *a = cgroup_name_for("/kubepods/burstable/podX", "id", false);
	_cleanup_free_ char *b = cgroup_name_for("kubepods-podX.slice", "id", true);
	_cleanup_free_ char *c = cgroup_name_for("/", "id", false);
	static const char *const bad[] = {"a",	      "-a.slice", "a--b.slice",
					  "a-.slice", ".slice",	  "x/y.slice"};
	char *s;

	CHECK_STR(a, "/kubepods/burstable/podX/id");
	CHECK_STR(b, "kubepods-podX.slice:gantry:id");
	CHECK_STR(c, "/id");
	expect_path(a, false, a);
	expect_path(b, true, "/kubepods.slice/kubepods-podX.slice/gantry-id.scope");
	expect_path("-.slice:gantry:id", true, "/gantry-id.scope");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(cgroup_expand_slice(bad[i], &s, NULL), -EINVAL);
	CHECK_INT(cgroup_path_of("nothing", true, &s, NULL), -EINVAL);
}

/* One of our own, in every hierarchy: what a root has is little. owned */
static char *make_cgroup(const struct cgroup_host *h)
{
	char *path = xasprintf("/gantry-test-%d", (int)getpid());
	_cleanup_free_ char *dir = xasprintf("%s%s", str_or_empty(h->mount), path);

	if (h->v2)
		CHECK_INT(mkdir(dir, 0755), 0);
	for (unsigned i = 0; i < h->n; i++) {
		_cleanup_free_ char *d = xasprintf("%s%s", h->v1[i].mount, path);

		CHECK_INT(mkdir(d, 0755), 0);
	}
	return path;
}

/* From open files as from closed ones, also after they were closed. */
static void test_kept(const struct cgroup_host *h, const char *mine)
{
	struct cgroup_files files = {0};
	struct cgroup_stats plain, kept;
	int first = dup(STDIN_FILENO), again;

	close(first);
	CHECK_INT(cgroup_stats_read(h, mine, NULL, &plain), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_INT(cgroup_stats_read(h, mine, &files, &kept), 0);
		CHECK(kept.memory_limit == plain.memory_limit);
		CHECK(kept.cpu_ns >= plain.cpu_ns);
		CHECK(kept.cpu_psi.known == plain.cpu_psi.known);
	}
	cgroup_files_close(&files);
	again = dup(STDIN_FILENO); /* the lowest free one: none was left open */
	CHECK_INT(again, first);
	close(again);
}

/* Opened for somebody else: the same figures, and nothing more is opened for them. */
static void test_given(const struct cgroup_host *h, const char *mine)
{
	struct cgroup_files files = {0};
	struct cgroup_stats plain, given;
	int fds[CGROUP_FILES_MAX], first = dup(STDIN_FILENO), again;
	uint64_t have;
	unsigned n;

	close(first);
	CHECK_INT(cgroup_stats_read(h, mine, NULL, &plain), 0);
	have = cgroup_files_open(h, mine, CGROUP_FILES_POD, fds);
	n = (unsigned)__builtin_popcountll(have);
	CHECK(n > 0 && (have & ~CGROUP_FILES_POD) == 0);
	CHECK_INT(cgroup_files_take(&files, CGROUP_FILES_POD, have, fds, n - 1), -EPROTO);
	CHECK_INT(cgroup_files_take(&files, have & (have - 1), have, fds, n), -EPROTO);
	CHECK(!cgroup_files_known(&files));
	CHECK_INT(cgroup_files_take(&files, CGROUP_FILES_POD, have, fds, n), 0);
	CHECK(cgroup_files_known(&files));
	CHECK_INT(cgroup_stats_read(h, "/gantry-test-nothing", &files, &given),
		  0); /* not by path */
	CHECK(given.memory_limit == plain.memory_limit && given.cpu_ns >= plain.cpu_ns);
	CHECK(given.cpu_psi.known == plain.cpu_psi.known);
	CHECK((cgroup_processes(h, "/gantry-test-nothing", &files) == CGROUP_ABSENT) ==
	      (cgroup_processes(h, mine, NULL) == CGROUP_ABSENT));
	cgroup_files_close(&files);
	CHECK(!cgroup_files_known(&files));
	again = dup(STDIN_FILENO);
	CHECK_INT(again, first);
	close(again);
}

static void test_host(void)
{
	struct cgroup_host h;
	struct cgroup_stats s;
	_cleanup_free_ char *mine = NULL;
	_cleanup_free_ char *ours = NULL;
	struct err e = ERR_NULL;

	if (cgroup_host_init(&h, &e) < 0)
		TEST_SKIP(e.msg);
	CHECK_INT(cgroup_kill(&h, "/"), -EINVAL);
	CHECK_INT(cgroup_remove(&h, ""), -EINVAL);
	CHECK_INT(cgroup_remove(&h, "/gantry-test-nothing"), 0);
	CHECK_INT(cgroup_stats_read(&h, "/gantry-test-nothing", NULL, &s), -ENOENT);
	CHECK_INT(cgroup_of_process(&h, getpid(), &mine), 0);
	if (geteuid() == 0) {
		ours = make_cgroup(&h);
		test_kept(&h, ours);
		test_given(&h, ours);
		CHECK_INT(cgroup_remove(&h, ours), 0);
	}
	cgroup_host_fini(&h);
}

int main(void)
{
	TEST(names);
	TEST(host);
	return test_done();
}
