/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <fcntl.h>
#include <limits.h>

#include "base/fs.h"
#include "base/mem.h"
#include "record.h"

static char dir[] = "/tmp/gantry-test-record-XXXXXX";

static struct record sample(const char *runtime)
{
	struct record r = {.runtime = xstrdup(runtime), .path = xstrdup("/usr/bin/crun")};

	strv_add(&r.args, "--debug");
	strv_add(&r.args, "a \"b\"");
	return r;
}

static void test_life(void)
{
	_cleanup_free_ char *root = xasprintf("%s/a/b", dir);
	_cleanup_record_ struct record w = sample("crun"), r = RECORD_NULL;
	_cleanup_strv_ struct strv ids = STRV_NULL;
	struct err e = ERR_NULL;

	CHECK(record_read(root, "x", &r, &e) == -ENOENT && e.code == GRPC_NOT_FOUND);
	CHECK_INT(record_write(root, "x", &w, &e), 0);
	CHECK_INT(record_read(root, "x", &r, &e), 0);
	CHECK_STR(r.runtime, "crun");
	CHECK_STR(r.path, "/usr/bin/crun");
	CHECK(r.args.n == 2 && !r.pod_unit);
	CHECK_STR(r.args.v[1], "a \"b\"");
	CHECK_INT(r.pid, getpid());
	CHECK(record_maker_runs(&r));
	r.started++;
	CHECK(!record_maker_runs(&r)); /* another process with that number */
	r.started--;
	record_list(root, &ids);
	CHECK(ids.n == 1 && strv_contains(&ids, "x"));
	record_remove(root, "x", NULL);
	record_remove(root, "x", NULL);
	CHECK(record_read(root, "x", &w, NULL) == -ENOENT);
}

static void test_replaced(void)
{
	_cleanup_record_ struct record a = sample("a"), b = sample("b"), r = RECORD_NULL,
				       was = RECORD_NULL;

	CHECK_INT(record_write(dir, "x", &a, NULL), 0);
	CHECK_INT(record_write(dir, "x", &b, NULL), 0);
	CHECK_INT(record_read(dir, "x", &r, NULL), 0);
	CHECK_STR(r.runtime, "b");
	CHECK_INT(record_read(dir, "x", &was, NULL), 0);
	was.pid = 1; /* of another maker: what is there now is not that one */
	record_remove(dir, "x", &was);
	record_fini(&was);
	CHECK(record_read(dir, "x", &was, NULL) == 0);
	record_remove(dir, "x", &r);
	CHECK(record_read(dir, "x", &b, NULL) == -ENOENT);
}

static void test_what_is_none(void)
{
	static const char *const bad[] = {"",
					  "{",
					  "[]",
					  "{}",
					  "{\"path\":\"relative\"}",
					  "{\"path\":1}",
					  "{\"path\":\"/p\",\"args\":[1]}"};
	_cleanup_free_ char *path = xasprintf("%s/" RECORD_PREFIX "cut", dir);
	struct record r = RECORD_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK(record_parse(bad[i], strlen(bad[i]), &r, NULL) < 0);
		CHECK_INT(fs_write_atomic(AT_FDCWD, path, bad[i], strlen(bad[i]), 0600, false), 0);
		CHECK_INT(record_read(dir, "cut", &r, NULL), -ENOENT);
	}
	CHECK_INT(unlink(path), 0);
}

static void test_ids(void)
{
	char longest[NAME_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[NAME_MAX + 1 - strlen(RECORD_PREFIX)] = '\0';
	CHECK(record_check_id("a", NULL) == 0 && record_check_id("A_b.c-d+1", NULL) == 0);
	CHECK(record_check_id(longest, NULL) < 0 && record_check_id(longest + 1, NULL) == 0);
	CHECK(record_check_id("", NULL) < 0 && record_check_id("..", NULL) < 0);
	CHECK(record_check_id("a/b", NULL) < 0 && record_check_id(RECORD_PREFIX "x", NULL) < 0);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	TEST(life);
	TEST(replaced);
	TEST(what_is_none);
	TEST(ids);
	(void)fs_remove_tree(AT_FDCWD, dir);
	return test_done();
}
