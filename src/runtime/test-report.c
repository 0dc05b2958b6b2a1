/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "runtime/report.h"

static char dir[] = "/tmp/test-report-XXXXXX";
static char program[64], file[64];

static void script(const char *text)
{
	_cleanup_free_ char *all = xasprintf("#!/bin/sh\n%s\n", text);

	CHECK_INT(fs_write_atomic(AT_FDCWD, program, all, strlen(all), 0755, false), 0);
}

static void ask(const char *text, struct runtime_report *ret)
{
	const struct runtime_host host = {.seccomp = true, .userns = true, .mount_setattr = true};
	const struct runtime rt = {.path = program, .cancel_fd = -1};

	script(text);
	runtime_report_ask(&rt, &host, ret);
}

#define VERSION "if [ $1 = --version ]; then echo 'my version 9.1\nmore'; exit; fi\n"
#define DOC                                                                                        \
	"{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.3.0\",\"linux\":{\"netDevices\":"      \
	"{\"enabled\":true}}}"

static void test_asking(void)
{
	struct runtime_report r;

	ask(VERSION "echo '" DOC "'", &r);
	CHECK_STR(r.version, "9.1");
	CHECK_STR(r.path, program);
	CHECK_STR(r.problem, "");
	CHECK_STR(r.note, "");
	CHECK(r.caps.has & RCAP_BIT(RCAP_NET_DEVICES));
	runtime_report_fini(&r);

	ask(VERSION "echo no such thing >&2; exit 1", &r);
	CHECK_STR(r.problem, "");
	CHECK(strstr(r.note, "exit status 1: no such thing") != NULL);
	CHECK(r.caps.has & RCAP_BIT(RCAP_TERMINAL) && !(r.caps.has & RCAP_BIT(RCAP_NET_DEVICES)));
	runtime_report_fini(&r);

	ask("exit 3", &r);
	CHECK(strstr(r.problem, "--version: exit status 3") != NULL);
	CHECK(!r.caps.has);
	runtime_report_fini(&r);

	ask("exit 0", &r);
	CHECK(strstr(r.problem, "prints nothing") != NULL);
	runtime_report_fini(&r);
}

/* Megabytes, what is no JSON, what is deep: a note, and the runtime is what it is without. */
static void test_hostile(void)
{
	struct runtime_report r;

	ask(VERSION "printf '" DOC "'; head -c 9000000 /dev/zero | tr '\\0' ' '", &r);
	CHECK(strstr(r.note, "more than 262144 bytes") != NULL);
	CHECK(!(r.caps.has & RCAP_BIT(RCAP_NET_DEVICES)));
	runtime_report_fini(&r);
	ask(VERSION "head -c 200000 /dev/zero | tr '\\0' '['", &r);
	CHECK_STR(r.problem, "");
	CHECK(*r.note != '\0');
	runtime_report_fini(&r);
	ask("if [ $1 = --version ]; then head -c 3000000 /dev/zero | tr '\\0' v; fi", &r);
	CHECK_STR(r.problem, "");
	CHECK(strlen(r.version) <= 4096);
	runtime_report_fini(&r);
}

static char *key(const char *arg, bool userns)
{
	const struct runtime_host host = {.release = "6.1", .userns = userns};
	struct runtime rt = {.path = program};
	char *k;

	if (arg)
		strv_add(&rt.args, arg);
	k = runtime_key(&rt, &host);
	strv_fini(&rt.args);
	return k;
}

static void test_keys(void)
{
	_cleanup_free_ char *one = NULL, *same = NULL, *args = NULL, *other = NULL, *kernel = NULL;

	script("exit 0");
	one = key(NULL, true);
	same = key(NULL, true);
	args = key("--x", true);
	kernel = key(NULL, false); /* user.max_user_namespaces became 0 */
	script("exit 0");	   /* another file with the same bytes */
	other = key(NULL, true);
	CHECK_STR(one, same);
	CHECK(!streq(one, args) && !streq(one, kernel) && !streq(one, other));
}

static void test_files(void)
{
	_cleanup_runtime_report_ struct runtime_report r = RUNTIME_REPORT_NULL,
						       got = RUNTIME_REPORT_NULL;

	ask(VERSION "echo '" DOC "'", &r);
	CHECK_INT(runtime_report_load(file, r.key, &got), -ENOENT);
	CHECK_INT(runtime_report_save(file, &r), 0);
	CHECK_INT(runtime_report_load(file, r.key, &got), 0);
	CHECK_STR(got.version, "9.1");
	CHECK(got.caps.has == r.caps.has);
	CHECK_STR(runtime_caps_why(&got.caps, RCAP_CGROUP_SYSTEMD),
		  "systemd does not run this node");
	runtime_report_fini(&got);
	CHECK_INT(runtime_report_load(file, "other", &got), -ESTALE);
	free(r.problem);
	r.problem = xstrdup("broken");
	CHECK_INT(runtime_report_save(file, &r), 0);
	CHECK_INT(runtime_report_load(file, r.key, &got), -ESTALE);
	CHECK_INT(fs_write_atomic(AT_FDCWD, file, "{", 1, 0600, false), 0);
	CHECK_INT(runtime_report_load(file, r.key, &got), -ENOENT);
}

static void test_facilities(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_free_ char *name = NULL;
	struct err e = ERR_NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_INT(runtime_facility_check("file:/proc", &e), 0);
	CHECK(runtime_facility_check("file:/no/such", &e) < 0);
	CHECK_STR(e.msg, "needs file:/no/such: it is not there");
	CHECK_INT(runtime_facility_check("program:sh", &e), 0);
	CHECK(runtime_facility_check("program:no-such-program", &e) < 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", dir);
	name = xasprintf("unix:%s", a.sun_path);
	CHECK(runtime_facility_check(name, &e) < 0);
	CHECK_INT(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK(runtime_facility_check(name, &e) < 0); /* there, but nobody listens */
	CHECK_INT(listen(fd, 1), 0);
	CHECK_INT(runtime_facility_check(name, &e), 0);
	close(fd);
	CHECK(runtime_facility_check("horse", &e) < 0);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	snprintf(program, sizeof(program), "%s/program", dir);
	snprintf(file, sizeof(file), "%s/report.json", dir);
	TEST(asking);
	TEST(hostile);
	TEST(keys);
	TEST(files);
	TEST(facilities);
	fs_remove_tree(AT_FDCWD, dir);
	return test_done();
}
