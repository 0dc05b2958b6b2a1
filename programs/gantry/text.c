/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: see text.h. */
#include "text.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/mem.h"

#define SHORT_ID 12

void text_init(void)
{
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		setlocale(LC_CTYPE, "");
}

/* --- safe for a terminal --- */

size_t text_decode(const char *s, size_t n, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)s;
	size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint32_t c = p[0];

	if (len == 1) {
		*ret = c;
		return 1;
	}
	if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
		return 0;
	c &= 0xffu >> (len + 1);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret = c;
	return len;
}

bool text_hidden(uint32_t c)
{
	static const uint32_t ranges[][2] = {
		{0x00, 0x1f},	  {0x7f, 0x9f},	    {0xad, 0xad},	{0x61c, 0x61c},
		{0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e},	{0x2060, 0x206f},
		{0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		if (c >= ranges[i][0] && c <= ranges[i][1])
			return true;
	return false;
}

void text_safe(struct strbuf *to, const char *s, size_t n)
{
	while (n > 0) {
		uint32_t c;
		size_t k = text_decode(s, n, &c);

		if (k && !text_hidden(c))
			strbuf_add(to, s, k);
		else if (k <= 1)
			strbuf_addf(to, "\\x%02x", (unsigned char)*s);
		else
			strbuf_addf(to, "\\u%04" PRIx32, c);
		s += MAX(k, (size_t)1);
		n -= MAX(k, (size_t)1);
	}
}

void text_safe_lines(struct strbuf *to, const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "\n");

		text_safe(to, s, n);
		s += n;
		s += strspn(s, "\n");
		if (!*s)
			return;
		strbuf_adds(to, "\n    ");
	}
}

char *text_safe_dup(struct arena *a, const char *s)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	text_safe(&b, str_or_empty(s), strlen(str_or_empty(s)));
	return arena_strndup(a, str_or_empty(b.s), b.len);
}

size_t text_width(const char *s)
{
	size_t n = strlen(s), width = 0;

	while (n > 0) {
		uint32_t c;
		size_t k = text_decode(s, n, &c);
		int w = k ? wcwidth((wchar_t)c) : 1;

		width += w > 0 ? (size_t)w : w == 0 ? 0 : 1;
		s += MAX(k, (size_t)1);
		n -= MAX(k, (size_t)1);
	}
	return width;
}

/* --- written --- */

char *text_size(uint64_t bytes, char buf[TEXT_MAX])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1023.5 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, TEXT_MAX, u > 0 && v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
	return buf;
}

char *text_duration(int64_t ns, char buf[TEXT_MAX])
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{365 * 86400, "year"}, {30 * 86400, "month"}, {7 * 86400, "week"},
		     {86400, "day"},	    {3600, "hour"},	   {60, "minute"},
		     {1, "second"}};
	int64_t s = ns / NSEC_PER_SEC;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		int64_t n = s / units[i].seconds;

		/* weeks and months only where they are many: "10 days" says more than "1 week" */
		if (n >= (units[i].seconds >= 7 * 86400 ? 2 : 1)) {
			snprintf(buf, TEXT_MAX, "%" PRId64 " %s%s", n, units[i].name,
				 n == 1 ? "" : "s");
			return buf;
		}
	}
	snprintf(buf, TEXT_MAX, "less than a second");
	return buf;
}

char *text_age(int64_t then_ns, int64_t now_ns, char buf[TEXT_MAX])
{
	if (then_ns <= 0) {
		snprintf(buf, TEXT_MAX, "-");
		return buf;
	}
	if (now_ns < then_ns)
		now_ns = then_ns;
	text_duration(now_ns - then_ns, buf);
	strcat(buf, " ago");
	return buf;
}

char *text_id(struct arena *a, const char *id, bool whole)
{
	const char *hex = str_has_prefix(id, "sha256:") ? id + 7 : id;

	if (whole)
		return text_safe_dup(a, id);
	return text_safe_dup(a, arena_strndup(a, hex, MIN(strlen(hex), (size_t)SHORT_ID)));
}

/* --- read --- */

/* A number with a fraction, without sign, exponent or "inf". */
static const char *parse_number(const char *s, double *ret)
{
	double v = 0, scale = 1;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (*p - '0');
	if (p == s)
		return NULL;
	if (*p == '.') {
		const char *fraction = ++p;

		for (; *p >= '0' && *p <= '9'; p++)
			v += (*p - '0') * (scale /= 10);
		if (p == fraction)
			return NULL;
	}
	*ret = v;
	return p;
}

bool text_parse_duration(const char *s, uint64_t *ret_us)
{
	static const struct {
		const char *name;
		double us;
	} units[] = {{"us", 1},	    {"ms", 1e3},    {"s", 1e6},	    {"m", 60e6},
		     {"h", 3600e6}, {"d", 86400e6}, {"w", 604800e6}};
	double total = 0, v;

	if (!*s)
		return false;
	for (bool first = true; *s; first = false) {
		size_t n, i;

		s = parse_number(s, &v);
		if (!s)
			return false;
		n = strspn(s, "abcdefghijklmnopqrstuvwxyz");
		if (n == 0 && !*s && first) { /* a number alone */
			total = v * 1e6;
			break;
		}
		for (i = 0; i < ARRAY_SIZE(units); i++)
			if (strlen(units[i].name) == n && strncmp(s, units[i].name, n) == 0)
				break;
		if (i == ARRAY_SIZE(units))
			return false;
		total += v * units[i].us;
		s += n;
	}
	if (total > 9e15) /* 285 years: later sums stay in range */
		return false;
	*ret_us = (uint64_t)llround(total);
	return true;
}

static bool digits(const char *s, size_t n, size_t at, size_t count, int *ret)
{
	int v = 0;

	if (at + count > n)
		return false;
	for (size_t i = at; i < at + count; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (s[i] - '0');
	}
	*ret = v;
	return true;
}

/* "Z", "+02:00" or "-0730" at the end: seconds east of UTC. */
static bool parse_zone(const char *s, size_t n, long *ret)
{
	int h, m;

	if (n == 1 && (*s == 'Z' || *s == 'z')) {
		*ret = 0;
		return true;
	}
	if (n != 6 || (*s != '+' && *s != '-') || s[3] != ':' || !digits(s, n, 1, 2, &h) ||
	    !digits(s, n, 4, 2, &m) || h > 23 || m > 59)
		return false;
	*ret = (*s == '-' ? -1L : 1L) * (h * 3600L + m * 60L);
	return true;
}

bool text_parse_rfc3339(const char *s, size_t n, int64_t *ret_ns)
{
	struct tm tm = {0};
	int64_t fraction = 0, scale = NSEC_PER_SEC;
	size_t i = 19;
	long east;
	time_t t;

	if (!digits(s, n, 0, 4, &tm.tm_year) || !digits(s, n, 5, 2, &tm.tm_mon) ||
	    !digits(s, n, 8, 2, &tm.tm_mday) || !digits(s, n, 11, 2, &tm.tm_hour) ||
	    !digits(s, n, 14, 2, &tm.tm_min) || !digits(s, n, 17, 2, &tm.tm_sec))
		return false;
	if (s[4] != '-' || s[7] != '-' || !strchr("Tt ", s[10]) || s[13] != ':' || s[16] != ':')
		return false;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 || tm.tm_year < 1970 ||
	    tm.tm_year > 2200)
		return false;
	if (i < n && s[i] == '.')
		for (i++; i < n && s[i] >= '0' && s[i] <= '9'; i++)
			fraction += (s[i] - '0') * (scale /= 10);
	if (i >= n || !parse_zone(s + i, n - i, &east))
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	t = timegm(&tm);
	*ret_ns = ((int64_t)t - east) * NSEC_PER_SEC + fraction;
	return true;
}

bool text_parse_time(const char *s, int64_t now_ns, int64_t *ret_ns)
{
	_cleanup_free_ char *day = NULL;
	const char *end;
	uint64_t us;
	double v;

	if (*s == '@') {
		end = parse_number(s + 1, &v);
		if (!end || *end || v > 7e9)
			return false;
		*ret_ns = (int64_t)(v * 1e9);
		return true;
	}
	if (text_parse_rfc3339(s, strlen(s), ret_ns))
		return true;
	if (strlen(s) == 10) {
		day = xasprintf("%sT00:00:00Z", s);
		if (text_parse_rfc3339(day, strlen(day), ret_ns))
			return true;
	}
	if (!text_parse_duration(s, &us))
		return false;
	*ret_ns = us * 1000 > (uint64_t)now_ns ? 0 : now_ns - (int64_t)(us * 1000);
	return true;
}

bool text_parse_size(const char *s, uint64_t *ret)
{
	static const char letters[] = "bkmgt";
	const char *unit, *found;
	double v;

	s = parse_number(s, &v);
	if (!s)
		return false;
	unit = s;
	if (*unit) {
		char c = (char)(*unit | 0x20);

		found = strchr(letters, c);
		if (!found)
			return false;
		for (const char *p = letters; p < found; p++)
			v *= 1024;
		unit++;
		if (found != letters && (*unit == 'i' || *unit == 'I'))
			unit++;
		if (found != letters && (*unit == 'b' || *unit == 'B'))
			unit++;
		if (*unit)
			return false;
	}
	if (v > 9e18)
		return false;
	*ret = (uint64_t)v;
	return true;
}

#define DISTANCE_WORD_MAX 31

/* Levenshtein's, with two neighbours swapped as one edit. */
unsigned text_distance(const char *a, const char *b)
{
	unsigned d[DISTANCE_WORD_MAX + 1][DISTANCE_WORD_MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > DISTANCE_WORD_MAX || m > DISTANCE_WORD_MAX)
		return 99;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++)
		for (size_t j = 1; j <= m; j++) {
			unsigned v = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			v = MIN(v, d[i - 1][j] + 1);
			v = MIN(v, d[i][j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				v = MIN(v, d[i - 2][j - 2] + 1);
			d[i][j] = v;
		}
	return d[n][m] > 3 ? 99 : d[n][m];
}
