/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/test.h"
#include "state/state.h"

static char dir[] = "/tmp/gantry-state-XXXXXX";
static char *path;

static struct state *must_open(void)
{
	struct state *s = NULL;
	struct err e = ERR_NULL;
	char *moved;

	if (state_open(path, &s, &moved, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	CHECK(!moved);
	return s;
}

static void put(struct state *s, const char *id, int n)
{
	struct state_pod p = {
		.id = id, .config = "a\0b", .config_len = 3, .created_at = n, .state = n};
	char ctr[32];

	CHECK_INT(state_put_pod(s, &p, NULL), 0);
	snprintf(ctr, sizeof(ctr), "c-%s", id);
	CHECK_INT(state_put_container(s,
				      &(struct state_container){.id = ctr,
								.pod_id = id,
								.config = "x",
								.config_len = 1,
								.exit_code = -n,
								.created_at = n},
				      NULL),
		  0);
}

static int count_pod(void *arg, const struct state_pod *p)
{
	CHECK_INT(p->config_len, 3);
	CHECK(memcmp(p->config, "a\0b", 3) == 0);
	CHECK_STR(p->handler, "");
	(*(int *)arg)++;
	return 0;
}

static int count_ctr(void *arg, const struct state_container *c)
{
	(*(int *)arg)++;
	return 0;
}

static void expect(struct state *s, int pods, int ctrs)
{
	int p = 0, c = 0;

	CHECK_INT(state_each_pod(s, count_pod, &p, NULL), 0);
	CHECK_INT(state_each_container(s, count_ctr, &c, NULL), 0);
	CHECK_INT(p, pods);
	CHECK_INT(c, ctrs);
}

static void test_rows(void)
{
	struct state *s = must_open();

	put(s, "p1", 1);
	put(s, "p1", 2);
	put(s, "p2", 3);
	expect(s, 2, 2);
	CHECK_INT(state_remove_pod(s, "p1", NULL), 0);
	CHECK_INT(state_remove_pod(s, "p1", NULL), 0);
	expect(s, 1, 1);
	CHECK_INT(state_put_container(s, &(struct state_container){.id = "c", .pod_id = "none"},
				      NULL),
		  -EIO);
	state_close(s);
}

static void test_locked(void)
{
	struct state *s = must_open(), *t;
	struct err e = ERR_NULL;
	char *moved;

	CHECK_INT(state_open(path, &t, &moved, &e), -EBUSY);
	CHECK_INT(e.code, GRPC_FAILED_PRECONDITION);
	state_close(s);
}

/* kill -9 of a process that wrote: its rows are there. */
static void test_killed(void)
{
	struct state *s;
	pid_t pid = fork();

	if (pid == 0) {
		s = must_open();
		for (int i = 0; i < 500; i++) {
			char id[16];

			snprintf(id, sizeof(id), "k%d", i);
			put(s, id, i);
		}
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
	CHECK_INT(state_checkpoint(path, NULL), 0);
	s = must_open();
	expect(s, 501, 501);
	put(s, "after", 1);
	CHECK(state_log_bytes(s) > 0);
	state_close(s);
}

static size_t size_of(const char *file)
{
	struct stat st;

	return stat(file, &st) < 0 ? 0 : (size_t)st.st_size;
}

/* Nothing of a folded log is left behind the new one: a power cut can bring nothing of it back. */
static void test_begun_anew(void)
{
	_cleanup_free_ char *log = xasprintf("%s-wal", path);
	struct state *s = must_open();
	size_t before;

	for (int i = 0; i < 200; i++)
		put(s, "anew", i);
	before = size_of(log);
	CHECK(before > 200 * 4096);
	CHECK_INT(state_checkpoint(path, NULL), 0);
	put(s, "anew", 1000);
	CHECK(size_of(log) > 0 && size_of(log) < before / 10);
	state_close(s);
	s = must_open();
	expect(s, 503, 503);
	state_close(s);
}

/* What was folded is there, whatever becomes of the log: none, half of it, another's bytes. */
static void test_log_lost(void)
{
	static const struct {
		size_t keep, spoil;
	} how[] = {{0, 0}, {16, 0}, {5000, 0}, {20000, 0}, {SIZE_MAX, 40}, {SIZE_MAX, 30000}};
	_cleanup_free_ char *log = xasprintf("%s-wal", path);

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		struct state *s = must_open();
		int n = 0, fd;

		CHECK_INT(state_checkpoint(path, NULL), 0);
		for (int k = 0; k < 20; k++) {
			char id[32];

			snprintf(id, sizeof(id), "lost-%zu-%d", i, k);
			put(s, id, k);
		}
		state_close(s);
		fd = open(log, O_WRONLY | O_CLOEXEC);
		if (how[i].keep < size_of(log))
			CHECK_INT(ftruncate(fd, (off_t)how[i].keep), 0);
		if (how[i].spoil)
			CHECK_INT(pwrite(fd, "spoiled", 7, (off_t)how[i].spoil), 7);
		close(fd);
		s = must_open();
		CHECK_INT(state_each_pod(s, count_pod, &n, NULL), 0);
		CHECK(n >= 503 && n < 503 + 20 * (int)(i + 1));
		state_close(s);
	}
}

static void test_damaged(void)
{
	_cleanup_free_ char *moved = NULL, *log = xasprintf("%s-wal", path);
	struct state *s;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK_INT(unlink(log), 0); /* whose pages stand for those of the file */
	for (int i = 0; i < 64; i++)
		CHECK_INT(pwrite(fd, "garbage garbage garbage", 23, i * 100), 23);
	close(fd);
	CHECK_INT(state_open(path, &s, &moved, NULL), 0);
	CHECK(moved && fs_exists(AT_FDCWD, moved));
	expect(s, 0, 0);
	state_close(s);
}

/* The one of before is not kept beside it. */
static void test_half_of_it(void)
{
	_cleanup_free_ char *moved = NULL, *log = xasprintf("%s-wal", path),
			    *old = xasprintf("%s.damaged-1", path);
	struct state *s = must_open();

	for (int i = 0; i < 100; i++) {
		char id[16];

		snprintf(id, sizeof(id), "h%d", i);
		put(s, id, i);
	}
	state_close(s);
	CHECK_INT(state_checkpoint(path, NULL), 0);
	unlink(log);
	CHECK_INT(fs_write_atomic(AT_FDCWD, old, "x", 1, 0600, false), 0);
	CHECK_INT(truncate(path, (off_t)size_of(path) / 2 / 4096 * 4096), 0);
	CHECK_INT(state_open(path, &s, &moved, NULL), 0);
	CHECK(moved && fs_exists(AT_FDCWD, moved) && !fs_exists(AT_FDCWD, old));
	expect(s, 0, 0);
	state_close(s);
}

int main(void)
{
	CHECK(mkdtemp(dir) != NULL);
	path = xasprintf("%s/index.db", dir);
	TEST(rows);
	TEST(locked);
	TEST(killed);
	TEST(begun_anew);
	TEST(log_lost);
	TEST(damaged);
	TEST(half_of_it);
	fs_remove_tree(AT_FDCWD, dir);
	free(path);
	return test_done();
}
