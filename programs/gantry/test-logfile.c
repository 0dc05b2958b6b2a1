/* SPDX-License-Identifier: Apache-2.0 */
#include "logfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/test.h"

#define T "2024-05-06T07:08:09.000000001Z "

static char dir[] = "/tmp/test-logfile-XXXXXX";
static char path[64], rotated[80];

static bool parse(const char *s, struct log_entry *x)
{
	return log_entry_parse(s, strlen(s), x);
}

static void test_entries(void)
{
	static const char *const bad[] = {"",
					  " ",
					  "text",
					  T,
					  T "stdout",
					  T "stdout F",
					  T "stdlog F x",
					  T "stdout X x",
					  T "stdout Fx x",
					  "2024-05-06 stdout F x",
					  "{\"log\":\"x\",\"stream\":\"stdout\"}"};
	struct log_entry x;

	CHECK(parse(T "stdout F hello world", &x));
	CHECK(!x.to_stderr && !x.partial && x.len == 11 && !strncmp(x.text, "hello world", 11));
	CHECK_INT(x.time_ns % NSEC_PER_SEC, 1);
	CHECK_INT(x.time_len, 30);
	CHECK(parse(T "stderr P part", &x) && x.to_stderr && x.partial);
	CHECK(parse(T "stdout F ", &x) && x.len == 0);
	CHECK(parse(T "stdout F:tag text", &x) && !x.partial && x.len == 4);
	CHECK(parse("2024-05-06T09:08:09+02:00 stdout F x", &x) && x.len == 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!parse(bad[i], &x));
}

/* --- reading --- */

struct sink {
	struct strbuf out, err;
};

static int write_sink(void *arg, bool to_stderr, const char *p, size_t n)
{
	struct sink *s = arg;

	strbuf_add(to_stderr ? &s->err : &s->out, p, n);
	return 0;
}

static void put(const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	CHECK(fd >= 0 && fs_write_all(fd, text, strlen(text)) == 0);
	fd_close(fd);
}

static void check_read(const struct log_options *o, const char *out, const char *err)
{
	struct sink s = {0};
	struct log_reader r;

	CHECK_INT(log_reader_init(&r, path, o, write_sink, &s), 0);
	CHECK_INT(log_reader_read(&r), 0);
	CHECK_INT(log_reader_finish(&r), 0);
	CHECK_STR(str_or_empty(s.out.s), out);
	CHECK_STR(str_or_empty(s.err.s), err);
	log_reader_fini(&r);
	strbuf_fini(&s.out);
	strbuf_fini(&s.err);
}

static void check_tail(int64_t n, const char *out)
{
	struct log_options o = LOG_OPTIONS_ALL;

	o.tail = n;
	check_read(&o, out, "");
}

static void test_reading(void)
{
	struct log_options o = LOG_OPTIONS_ALL;

	put("2024-01-01T00:00:01Z stdout F one\n"
	    "2024-01-01T00:00:02Z stdout P tw\n"
	    "2024-01-01T00:00:03Z stderr F bad\n"
	    "2024-01-01T00:00:04Z stdout F o\n"
	    "not CRI\n"
	    "2024-01-01T00:00:05Z stdout F three\n",
	    O_TRUNC);
	check_read(&o, "one\ntwo\nnot CRI\nthree\n", "bad\n");
	o.timestamps = true;
	o.err = false;
	check_read(&o,
		   "2024-01-01T00:00:01Z one\n2024-01-01T00:00:02Z two\nnot CRI\n"
		   "2024-01-01T00:00:05Z three\n",
		   "");
	o = LOG_OPTIONS_ALL;
	/* a line belongs to the time when it began */
	o.since_ns = INT64_C(1704067203) * NSEC_PER_SEC;
	check_read(&o, "not CRI\nthree\n", "bad\n");
	o = LOG_OPTIONS_ALL;
	o.until_ns = INT64_C(1704067203) * NSEC_PER_SEC;
	check_read(&o, "one\ntwo\nnot CRI\n", "bad\n");
	put("2024-01-01T00:00:01Z stdout F whole\n2024-01-01T00:00:02Z std", O_TRUNC);
	o = LOG_OPTIONS_ALL;
	check_read(&o, "whole\n2024-01-01T00:00:02Z std\n", "");
}

static void test_tail(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, want = STRBUF_NULL;

	put("", O_TRUNC);
	check_tail(5, "");
	for (int i = 0; i < 5000; i++) { /* several blocks, a line in parts across their borders */
		if (i % 100 == 99)
			strbuf_addf(&b, T "stdout P %*d\n", 3000, i);
		strbuf_addf(&b, T "stdout F line %d\n", i);
	}
	put(b.s, O_TRUNC);
	check_tail(0, "");
	strbuf_addf(&want, "%*dline 4999\n", 3000, 4999);
	check_tail(1, want.s);
	strbuf_reset(&want);
	strbuf_addf(&want, "line 4997\nline 4998\n%*dline 4999\n", 3000, 4999);
	check_tail(3, want.s);
	strbuf_reset(&want);
	for (int i = 3000; i < 5000; i++) {
		if (i % 100 == 99)
			strbuf_addf(&want, "%*d", 3000, i);
		strbuf_addf(&want, "line %d\n", i);
	}
	check_tail(2000, want.s);
	put(T "stdout F a\n" T "stdout P never ended", O_TRUNC);
	check_tail(1, "never ended"); /* no newline of the log: more of it may come */
	check_tail(2, "a\nnever ended");
	check_tail(0, "");
}

static void test_rotation(void)
{
	struct log_options o = LOG_OPTIONS_ALL;
	struct sink s = {0};
	struct log_reader r;

	unlink(path);
	CHECK_INT(log_reader_init(&r, path, &o, write_sink, &s), -ENOENT);
	CHECK_INT(log_reader_read(&r), 0); /* not there yet */
	put(T "stdout F 1\n" T "stdout F ha", O_TRUNC);
	CHECK_INT(log_reader_read(&r), 0);
	CHECK_STR(s.out.s, "1\n");
	put("lf\n", O_APPEND);
	CHECK_INT(log_reader_read(&r), 0);
	CHECK_STR(s.out.s, "1\nhalf\n");
	CHECK_INT(rename(path, rotated), 0);
	CHECK_INT(log_reader_read(&r), 0); /* the old one goes on until there is a new one */
	put(T "stdout F new\n", O_EXCL);
	{
		int fd = open(rotated, O_WRONLY | O_APPEND | O_CLOEXEC);

		CHECK_INT(fs_write_all(fd, T "stdout F late\n", strlen(T "stdout F late\n")), 0);
		fd_close(fd);
	}
	CHECK_INT(log_reader_read(&r), 0);
	CHECK_STR(s.out.s, "1\nhalf\nlate\nnew\n");
	put(T "stdout F x\n", O_TRUNC); /* shorter: truncated in place */
	CHECK_INT(log_reader_read(&r), 0);
	CHECK_STR(s.out.s, "1\nhalf\nlate\nnew\nx\n");
	log_reader_fini(&r);
	strbuf_fini(&s.out);
	unlink(rotated);
}

static void test_not_a_file(void)
{
	struct log_options o = LOG_OPTIONS_ALL;
	struct log_reader r;

	unlink(path);
	CHECK_INT(mkfifo(path, 0600), 0);
	CHECK_INT(log_reader_init(&r, path, &o, write_sink, NULL), -EINVAL);
	log_reader_fini(&r);
}

int main(void)
{
	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/0.log", dir);
	snprintf(rotated, sizeof(rotated), "%s.1", path);
	TEST(entries);
	TEST(reading);
	TEST(tail);
	TEST(rotation);
	TEST(not_a_file);
	fs_remove_tree(AT_FDCWD, dir);
	return test_done();
}
