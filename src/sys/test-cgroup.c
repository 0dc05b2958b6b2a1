/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
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

/* From open files as from closed ones, also after they were closed. */
static void test_kept(const struct cgroup_host *h, const char *mine)
{
	struct cgroup_files files = {0};
	struct cgroup_stats plain, kept;
	int first = dup(STDIN_FILENO), again;

	if (cgroup_stats_read(h, mine, NULL, &plain) < 0)
		return; /* the root of a hierarchy has few figures */
	close(first);
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

static void test_host(void)
{
	struct cgroup_host h;
	struct cgroup_stats s;
	_cleanup_free_ char *mine = NULL;
	struct err e = ERR_NULL;

	if (cgroup_host_init(&h, &e) < 0)
		TEST_SKIP(e.msg);
	CHECK_INT(cgroup_kill(&h, "/"), -EINVAL);
	CHECK_INT(cgroup_remove(&h, ""), -EINVAL);
	CHECK_INT(cgroup_remove(&h, "/gantry-test-nothing"), 0);
	CHECK_INT(cgroup_stats_read(&h, "/gantry-test-nothing", NULL, &s), -ENOENT);
	CHECK_INT(cgroup_of_process(&h, getpid(), &mine), 0);
	test_kept(&h, mine);
	cgroup_host_fini(&h);
}

int main(void)
{
	TEST(names);
	TEST(host);
	return test_done();
}
