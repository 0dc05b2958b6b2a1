/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"
#include "sys/figures.h"

static char dir[] = "/tmp/gantry-test-figures-XXXXXX";

/* One "WHAT [LABELS] VALUE;" after the other. */
static void note(void *arg, enum figure what, const char *labels, uint64_t value)
{
	strbuf_addf(arg, "%d%s%s=%llu;", what, *labels ? " " : "", labels,
		    (unsigned long long)value);
}

static void file(const char *path, const char *text)
{
	_cleanup_free_ char *p = xasprintf("%s/%s", dir, path), *parent = xstrdup(p);

	*strrchr(parent, '/') = '\0';
	CHECK_INT(fs_mkdir_p(AT_FDCWD, parent, 0755), 0);
	CHECK_INT(fs_write_atomic(AT_FDCWD, p, text, strlen(text), 0644, false), 0);
}

static bool told(const struct strbuf *b, const char *what)
{
	const char *at = strstr(b->s, what);

	if (!at)
		fprintf(stderr, "no \"%s\" in \"%s\"\n", what, b->s);
	return at && (at == b->s || at[-1] == ';');
}

static void test_v2(void)
{
	struct cgroup_host h = {.v2 = true, .mount = dir, .psi = dir};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	file("c/cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\n"
			   "nr_throttled 2\nthrottled_usec 5\n");
	file("c/memory.stat", "anon 11\nfile 12\nkernel_stack 1\npagetables 2\nslab 4\n"
			      "file_mapped 13\ninactive_file 20\nactive_file 14\npgfault 15\n"
			      "pgmajfault 16\n");
	file("c/memory.current", "100\n");
	file("c/memory.peak", "120\n");
	file("c/memory.swap.current", "30\n");
	file("c/memory.events", "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n");
	file("c/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nnonsense\n7:1\n"
			  "9999:1 rbytes=8 cost.usage=1\n");
	file("c/io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=70\n"
			      "full avg10=0.00 avg60=0.00 avg300=0.00 total=60\n");
	file("c/pids.max", "max\n");
	file("c/pids.current", "2\n");
	figures_of_cgroup(&h, "/c", note, &b);
	CHECK(told(&b, "1=7000;2=4000;3=3000;4=9;5=2;6=5000;"));
	CHECK(told(&b, "10=100;21=20;11=80;13=11;14=12;15=13;20=14;17=30;"));
	CHECK(told(&b, "19 pgfault\tcontainer=15;19 pgfault\thierarchy=15;"));
	CHECK(told(&b, "16=7;12=120;18=6;22=1;"));
	CHECK(told(&b, "30 9999:1\t9999\t1\tRead=8;31 9999:1=8;"));
	CHECK(told(&b, "64=70;65=60;"));
	CHECK(told(&b, "72=0;71=2;"));
	CHECK(strstr(b.s, "60=") == NULL); /* no cpu.pressure */
}

static void test_v1(void)
{
	struct cgroup_host h = {.n = 3};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char names[][12] = {"cpu,cpuacct", "memory", "blkio"};

	for (unsigned i = 0; i < h.n; i++) {
		h.v1[i].mount = dir;
		h.v1[i].controllers = names[i];
	}
	file("d/cpuacct.usage", "77\n");
	file("d/cpuacct.stat", "user 100\nsystem 200\n");
	file("d/cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n");
	file("d/memory.usage_in_bytes", "10\n");
	file("d/memory.stat", "pgfault 1\ntotal_inactive_file 20\ntotal_pgfault 2\ntotal_rss 3\n");
	file("d/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
	file("d/blkio.throttle.io_service_bytes_recursive", "9999:1 Read 512\n9999:1 Total 512\n"
							    "Total 512\n");
	file("d/blkio.throttle.io_serviced_recursive", "9999:1 Write 2\nTotal 2\n");
	figures_of_cgroup(&h, "/d", note, &b);
	CHECK(told(&b, "1=77;2=1000000000;3=2000000000;4=1;5=2;6=3;"));
	CHECK(told(&b, "10=10;21=20;11=0;13=3;17=0;"));
	CHECK(told(&b, "19 pgfault\tcontainer=1;19 pgfault\thierarchy=2;22=4;"));
	CHECK(told(&b, "30 9999:1\t9999\t1\tRead=512;31 9999:1=512;"
		       "30 9999:1\t9999\t1\tTotal=512;34 9999:1=2;"));
}

/* This process in one cgroup, and in one below it. */
static void test_processes(void)
{
	struct cgroup_host h = {.v2 = true, .mount = dir};
	_cleanup_free_ char *pid = xasprintf("%d\n999999999\n", (int)getpid());
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, again = STRBUF_NULL;
	int p[2];

	file("e/cgroup.procs", pid);
	file("e/below/cgroup.procs", pid);
	figures_of_processes(&h, "/e", getpid(), note, &b);
	CHECK(told(&b, "70=4;"));
	CHECK(told(&b, "75 max_open_files="));
	CHECK_INT(pipe(p), 0);
	figures_of_processes(&h, "/e", 0, note, &again);
	CHECK_INT(strtoull(strstr(again.s, ";73=") + 4, NULL, 10),
		  strtoull(strstr(b.s, ";73=") + 4, NULL, 10) + 4);
	CHECK(strstr(again.s, "75 ") == NULL);
	close(p[0]);
	close(p[1]);
}

static void test_fs(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	figures_of_fs(dir, note, &b);
	CHECK(told(&b, "43 "));
	CHECK(strstr(b.s, ";40 ") && strstr(b.s, ";41 ") && strstr(b.s, ";42 "));
	strbuf_reset(&b);
	figures_of_fs("/nonexistent", note, &b);
	CHECK_INT(b.len, 0);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	TEST(v2);
	TEST(v1);
	TEST(processes);
	TEST(fs);
	fs_remove_tree(AT_FDCWD, dir);
	return test_done();
}
