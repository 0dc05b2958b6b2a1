/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "base/test.h"

static void test_err(void)
{
	struct err e = ERR_NULL;
	char big[3 * ERR_MSG_MAX];

	CHECK_INT(err_errno(&e, -EACCES, "mount %s", "/x"), -EACCES);
	CHECK_STR(e.msg, "mount /x: Permission denied");
	CHECK_INT(e.code, GRPC_PERMISSION_DENIED);
	CHECK_INT(err_wrap(&e, "pod %s", "p"), -EACCES);
	CHECK_STR(e.msg, "pod p: mount /x: Permission denied");
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_wrap(&e, "%s", big);
	CHECK_INT(strlen(e.msg), ERR_MSG_MAX - 1);
	CHECK_INT(err_invalid(NULL, "no struct"), -EINVAL);
	CHECK_STR(err_code_name((enum grpc_code)99), "UNKNOWN");
}

static void test_str(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	uint64_t u;
	int64_t i;

	strbuf_addf(&b, "%s-%d", "a", 7);
	strbuf_addc(&b, '!');
	CHECK_STR(b.s, "a-7!");
	CHECK(str_to_u64("18446744073709551615", &u) && u == UINT64_MAX);
	CHECK(!str_to_u64("18446744073709551616", &u));
	CHECK(!str_to_u64("", &u) && !str_to_u64("-1", &u) && !str_to_u64("1x", &u));
	CHECK(str_to_i64("-5", &i) && i == -5);
	CHECK(str_is_utf8("\xc3\xa9", 2));
	CHECK(!str_is_utf8("\xc0\x80", 2) && !str_is_utf8("\xed\xa0\x80", 3));
	CHECK(!str_is_utf8("\xe2\x82", 2) && !str_is_utf8("a\0b", 3));
	CHECK(str_has_suffix("a.json", ".json") && !str_has_suffix("n", ".json"));
}

static size_t format(char *buf, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	n = str_vformat(buf, n, fmt, ap);
	va_end(ap);
	return n;
}

static void test_format(void)
{
	_cleanup_free_ char *large = xmalloc(16 << 20);
	struct err e = ERR_NULL;
	uint64_t start;
	char b[8];

	CHECK_INT(format(b, sizeof(b), "%d%%%s|%.2s", 1, "ab", "cde"), 7);
	CHECK_STR(b, "1%ab|cd");
	CHECK_INT(format(b, sizeof(b), "%s", "abcdef\xc3\xa4"), 6); /* not half of a letter */
	CHECK_INT(format(b, sizeof(b), "%s", "abcde\xc3\xa4x"), 7);
	CHECK_INT(format(b, sizeof(b), "%s", "abcd\xe2\x82\xac"), 7);
	CHECK_INT(format(b, sizeof(b), "%s", "abcde\xe2\x82\xac"), 5);
	CHECK_INT(format(b, sizeof(b), "%s", "abcdef\xff\xff"), 6);
	memset(large, 'x', (16 << 20) - 1);
	large[(16 << 20) - 1] = '\0';
	start = clock_mono_us();
	err_invalid(&e, "%s: %s", large, large);
	CHECK(clock_mono_us() - start < 5 * USEC_PER_MS);
	CHECK_INT(strlen(e.msg), ERR_MSG_MAX - 1);
	err_set(&e, -EIO, GRPC_INTERNAL, "again: %s", e.msg);
	CHECK(str_has_prefix(e.msg, "again: xxx"));
}

static void test_map(void)
{
	struct map m = MAP_NULL;
	char keys[500][8];
	size_t pos = 0, n = 0;

	for (int i = 0; i < 500; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%d", i);
		CHECK(!map_put(&m, keys[i], keys[i]));
	}
	for (int i = 0; i < 500; i += 2)
		CHECK(map_remove(&m, keys[i]) == keys[i]);
	for (int i = 0; i < 500; i++)
		CHECK((map_get(&m, keys[i]) != NULL) == (i % 2 == 1));
	while (map_next(&m, &pos))
		n++;
	CHECK_INT(n, 250);
	for (int round = 0; round < 5000; round++) { /* tombs do not fill the table */
		map_put(&m, keys[0], keys[0]);
		map_remove(&m, keys[0]);
	}
	CHECK(m.cap <= 4096);
	map_fini(&m);
}

static void test_arena(void)
{
	struct arena a = ARENA_NULL;

	for (int i = 0; i < 1000; i++) {
		char *s = arena_printf(&a, "%d", i);

		CHECK_INT(atoi(s), i);
		CHECK(((uintptr_t)s & 15) == 0);
	}
	memset(arena_alloc(&a, 1 << 20), 1, 1 << 20);
	arena_fini(&a);
	CHECK(!a.chunks);
}

static void test_clock(void)
{
	char buf[CLOCK_RFC3339_LEN];

	CHECK_STR(clock_rfc3339(INT64_C(1475713029669794202), buf),
		  "2016-10-06T00:17:09.669794202Z");
	CHECK_STR(clock_rfc3339(0, buf), "1970-01-01T00:00:00.000000000Z");
}

static void test_fs(void)
{
	char dir[] = "/tmp/gantry-test-XXXXXX";
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_close_ int d = -EBADF, in = -EBADF;

	CHECK(mkdtemp(dir) != NULL);
	d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(fs_mkdir_p(d, "a/b/c", 0755), 0);
	CHECK_INT(fs_mkdir_p(d, "a/b/c", 0755), 0);
	CHECK_INT(fs_write_atomic(d, "a/f", "hello", 5, 0600, true), 0);
	CHECK_INT(fs_write_atomic(d, "a/f", "again", 5, 0600, false), 0);
	CHECK_INT(fs_read(d, "a/f", 5, &b), 0);
	CHECK_STR(b.s, "again");
	CHECK_INT(fs_read(d, "a/f", 4, &b), -EFBIG);
	CHECK_INT(symlinkat("/../../../etc", d, "a/out"), 0);
	in = fs_open_in_root(d, "a/out/passwd", O_RDONLY, 0);
	CHECK_INT(in, -ENOENT); /* resolved inside the root, where there is no etc */
	CHECK_INT(symlinkat("/tmp", d, "a/link"), 0);
	CHECK_INT(fs_remove_tree(d, "a"), 0);
	CHECK_INT(fs_remove_tree(d, "a"), 0);
	CHECK(!fs_exists(d, "a"));
	CHECK(fs_exists(AT_FDCWD, "/tmp"));
	CHECK_INT(rmdir(dir), 0);
}

/* Deeper than there are descriptors, and than a path can be long. */
static void test_deep_tree(void)
{
	char dir[] = "/tmp/gantry-test-XXXXXX";
	struct rlimit had, few;
	int d;

	CHECK_INT(getrlimit(RLIMIT_NOFILE, &had), 0);
	few = (struct rlimit){256, had.rlim_max};
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
	CHECK(mkdtemp(dir) != NULL);
	d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 1500 && d >= 0; i++) {
		int sub;

		CHECK_INT(mkdirat(d, "directory", 0755), 0);
		CHECK(mkdirat(d, ".gantry-deep-0", 0755) == 0);
		sub = openat(d, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (i % 100 == 0)
			fd_close(openat(sub, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		fd_close(d);
		d = sub;
	}
	fd_close(d);
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
	CHECK(!fs_exists(AT_FDCWD, dir));
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &had), 0);
}

static int run(const char *script, const char *in, unsigned long us, size_t max,
	       struct spawn_result *r)
{
	const char *argv[] = {"sh", "-c", script, NULL};
	struct spawn s = SPAWN_INIT;

	s.file = "/bin/sh";
	s.argv = argv;
	return spawn_run(&s, in, in ? strlen(in) : 0, us, max, r, NULL);
}

static void test_spawn(void)
{
	struct spawn s = SPAWN_INIT;
	const char *argv[] = {"nothing", NULL};
	struct spawn_result r;
	struct err e = ERR_NULL;
	pid_t pid;

	CHECK_INT(run("cat; echo oops >&2; exit 3", "hi", USEC_FOREVER, 100, &r), 0);
	CHECK_INT(r.status, 3);
	CHECK_STR(r.out.s, "hi");
	CHECK_STR(r.err.s, "oops\n");
	spawn_result_fini(&r);
	CHECK_INT(run("head -c 100000 /dev/zero | tr '\\0' x", NULL, USEC_FOREVER, 10, &r), 0);
	CHECK(r.truncated);
	CHECK_STR(r.out.s, "xxxxxxxxxx");
	spawn_result_fini(&r);
	CHECK_INT(run("sleep 60 & sleep 60", NULL, 50000, 10, &r), 0);
	CHECK(r.timed_out);
	CHECK_INT(r.status, 128 + 9);
	spawn_result_fini(&r);
	/* One that writes on and on keeps nobody. */
	CHECK_INT(run("yes & sleep 0.1", NULL, USEC_FOREVER, 10, &r), 0);
	CHECK(r.truncated);
	spawn_result_fini(&r);
	CHECK_INT(run("sleep 60 & echo $!", NULL, USEC_FOREVER, 10, &r), 0); /* keeps the pipe */
	CHECK_INT(r.status, 0);
	kill(atoi(r.out.s), SIGKILL);
	spawn_result_fini(&r);
	s.file = "/nonexistent/program";
	s.argv = argv;
	CHECK_INT(spawn_start(&s, &pid, NULL, &e), -ENOENT);
	CHECK_STR(e.msg, "execute /nonexistent/program: No such file or directory");
}

static void test_base64(void)
{
	/* RFC 4648, section 10 */
	static const char *const vectors[][2] = {{"", ""},
						 {"f", "Zg=="},
						 {"fo", "Zm8="},
						 {"foo", "Zm9v"},
						 {"foob", "Zm9vYg=="},
						 {"fooba", "Zm9vYmE="},
						 {"foobar", "Zm9vYmFy"}};

	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		strbuf_add_base64(&b, vectors[i][0], strlen(vectors[i][0]));
		CHECK_STR(str_or_empty(b.s), vectors[i][1]);
	}
}

int main(void)
{
	char id[ID_SIZE];

	id_new(id);
	CHECK(id_valid(id) && !id_valid("x"));
	TEST(err);
	TEST(str);
	TEST(format);
	TEST(base64);
	TEST(map);
	TEST(arena);
	TEST(clock);
	TEST(fs);
	TEST(deep_tree);
	TEST(spawn);
	return test_done();
}
