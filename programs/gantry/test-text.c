/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/test.h"
#include "table.h"

static void check_safe(const char *in, const char *out)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	text_safe(&b, in, strlen(in));
	CHECK_STR(str_or_empty(b.s), out);
}

static void test_safe(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	check_safe("plain-name_1.2", "plain-name_1.2");
	check_safe("", "");
	check_safe("caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x90\xb3",
		   "caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x90\xb3");
	check_safe("\x1b[31m\a\n\t\x7f", "\\x1b[31m\\x07\\x0a\\x09\\x7f");
	check_safe("\xc2\x9b"
		   "2J",
		   "\\u009b2J"); /* C1: CSI */
	check_safe("a\xe2\x80\xae"
		   "b",
		   "a\\u202eb"); /* right to left */
	check_safe("a\xe2\x80\x8b"
		   "b\xef\xbb\xbf",
		   "a\\u200bb\\ufeff"); /* no width */
	check_safe("\xff\xc0\xaf\xed\xa0\x80\xe2\x82", "\\xff\\xc0\\xaf\\xed\\xa0\\x80\\xe2\\x82");
	text_safe(&b, "a\0b", 3);
	CHECK_STR(b.s, "a\\x00b");
	strbuf_reset(&b);
	text_safe_lines(&b, "one\ngantry: two\x1b\n\n");
	CHECK_STR(b.s, "one\n    gantry: two\\x1b");
}

static void test_width(void)
{
	CHECK_INT(text_width("abc"), 3);
	CHECK_INT(text_width("caf\xc3\xa9"), 4);
	CHECK_INT(text_width("\xe4\xb8\xad\xe6\x96\x87"), 4); /* wide */
	CHECK_INT(text_width("e\xcc\x81"), 1);		      /* combining */
}

static void test_table(void)
{
	_cleanup_table_ struct table t = {0};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	table_init(&t, "NAME|>SIZE|NOTE", false);
	table_add(&t, "caf\xc3\xa9");
	table_add(&t, "1 B");
	table_add(&t, "");
	table_add(&t, "\xe4\xb8\xad\xe6\x96\x87\x1b");
	table_addf(&t, "%d MiB", 100);
	table_add_style(&t, "last one", STYLE_GOOD);
	table_print(&t, &b);
	CHECK_STR(b.s, "NAME         SIZE  NOTE\n"
		       "caf\xc3\xa9          1 B  -\n"
		       "\xe4\xb8\xad\xe6\x96\x87\\x1b  100 MiB  last one\n");
	strbuf_reset(&b);
	t.color = true;
	table_print(&t, &b);
	CHECK(strstr(b.s, "\033[32mlast one\033[0m\n") != NULL);
	CHECK(strstr(b.s, "\033[1mNAME\033[0m ") != NULL);
}

static void check_size(uint64_t n, const char *s)
{
	char buf[TEXT_MAX];

	CHECK_STR(text_size(n, buf), s);
}

static void check_age(int64_t seconds, const char *s)
{
	char buf[TEXT_MAX];

	CHECK_STR(text_age(1, seconds * NSEC_PER_SEC + 1, buf), s);
}

static void test_written(void)
{
	char buf[TEXT_MAX];

	check_size(0, "0 B");
	check_size(1023, "1023 B");
	check_size(1024, "1.0 KiB");
	check_size(1536, "1.5 KiB");
	check_size(150 * MIB, "150 MiB");
	check_size(MIB - 1, "1.0 MiB");
	check_size(UINT64_MAX, "16.0 EiB");
	check_age(0, "less than a second ago");
	check_age(1, "1 second ago");
	check_age(119, "1 minute ago");
	check_age(3 * 3600, "3 hours ago");
	check_age(10 * 86400, "10 days ago");
	check_age(14 * 86400, "2 weeks ago");
	check_age(800 * 86400, "2 years ago");
	CHECK_STR(text_age(0, 5, buf), "-");
	CHECK_STR(text_age(10, 5, buf), "less than a second ago"); /* clocks differ */
}

static void check_duration(const char *s, int64_t us)
{
	uint64_t v = 0;
	bool ok = text_parse_duration(s, &v);

	if (us < 0) {
		CHECK(!ok);
		return;
	}
	CHECK(ok);
	CHECK_INT(v, us);
}

static void test_durations(void)
{
	static const char *const bad[] = {"",	"s",   "-1s", "1x",  "1s2",  "1 s",
					  "s1", "1.s", "1e3", "inf", "1h m", "99999999999999999d"};

	check_duration("0", 0);
	check_duration("10", 10000000);
	check_duration("1.5", 1500000);
	check_duration("10s", 10000000);
	check_duration("500ms", 500000);
	check_duration("1h30m", INT64_C(5400000000));
	check_duration("2d", INT64_C(172800000000));
	check_duration("1m0.25s", 60250000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		check_duration(bad[i], -1);
}

static void test_times(void)
{
	static const char *const bad[] = {"",
					  "yesterday",
					  "2024-13-01",
					  "2024-05-06T25:00:00Z",
					  "2024-05-06T07:08:09",
					  "2024-05-06T07:08:09+2",
					  "@",
					  "@x",
					  "2024-05-06x07:08:09Z"};
	int64_t now = INT64_C(1700000000) * NSEC_PER_SEC, v;
	char buf[CLOCK_RFC3339_LEN];

	CHECK(text_parse_time("2023-11-14T22:13:20Z", now, &v));
	CHECK_INT(v, now);
	CHECK(text_parse_time("2023-11-15T00:13:20.5+02:00", now, &v));
	CHECK_INT(v, now + NSEC_PER_SEC / 2);
	CHECK(text_parse_time("2023-11-14", now, &v));
	CHECK_INT(v, INT64_C(1699920000) * NSEC_PER_SEC);
	CHECK(text_parse_time("10m", now, &v));
	CHECK_INT(v, now - 600 * NSEC_PER_SEC);
	CHECK(text_parse_time("@1700000000", 0, &v));
	CHECK_INT(v, now);
	CHECK(text_parse_time(clock_rfc3339(now + 123456789, buf), 0, &v)); /* as logs have it */
	CHECK_INT(v, now + 123456789);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!text_parse_time(bad[i], now, &v));
}

static void test_sizes(void)
{
	static const char *const bad[] = {"", "m", "-1", "1x", "1mm", "1 m", "99999999999g", "1bi"};
	uint64_t v;

	CHECK(text_parse_size("100", &v) && v == 100);
	CHECK(text_parse_size("512m", &v) && v == 512 * MIB);
	CHECK(text_parse_size("1.5GiB", &v) && v == GIB + GIB / 2);
	CHECK(text_parse_size("4K", &v) && v == 4096);
	CHECK(text_parse_size("7b", &v) && v == 7);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!text_parse_size(bad[i], &v));
}

static void test_distance(void)
{
	CHECK_INT(text_distance("logs", "logs"), 0);
	CHECK_INT(text_distance("lgos", "logs"), 1); /* swapped */
	CHECK_INT(text_distance("log", "logs"), 1);
	CHECK_INT(text_distance("psx", "ps"), 1);
	CHECK_INT(text_distance("abcdef", "uvwxyz"), 99);
	CHECK_INT(text_distance("", "ps"), 2);
}

int main(void)
{
	text_init();
	TEST(safe);
	TEST(width);
	TEST(table);
	TEST(written);
	TEST(durations);
	TEST(times);
	TEST(sizes);
	TEST(distance);
	return test_done();
}
