/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: see str.h. */
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void strbuf_fini(struct strbuf *b)
{
	free(b->s);
	*b = STRBUF_NULL;
}

void strbuf_reset(struct strbuf *b)
{
	b->len = 0;
	if (b->s)
		b->s[0] = '\0';
}

char *strbuf_reserve(struct strbuf *b, size_t n)
{
	size_t need;

	if (__builtin_add_overflow(b->len, n, &need) || __builtin_add_overflow(need, 1, &need))
		abort();
	if (need > b->cap) {
		size_t cap = b->cap ? b->cap : 64;

		while (cap < need)
			cap = cap > SIZE_MAX / 2 ? need : cap * 2;
		b->s = xrealloc(b->s, cap);
		b->cap = cap;
	}
	return b->s + b->len;
}

void strbuf_add(struct strbuf *b, const void *p, size_t n)
{
	char *to = strbuf_reserve(b, n);

	if (n)
		memcpy(to, p, n);
	b->len += n;
	b->s[b->len] = '\0';
}

void strbuf_adds(struct strbuf *b, const char *s)
{
	strbuf_add(b, s, strlen(s));
}

void strbuf_addc(struct strbuf *b, char c)
{
	strbuf_add(b, &c, 1);
}

void strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	strbuf_reserve(b, (size_t)n);
	va_start(ap, fmt);
	vsnprintf(b->s + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void strbuf_add_base64(struct strbuf *b, const void *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *in = p;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16;

		v |= i + 1 < n ? (uint32_t)in[i + 1] << 8 : 0;
		v |= i + 2 < n ? in[i + 2] : 0;
		strbuf_addc(b, digits[v >> 18]);
		strbuf_addc(b, digits[v >> 12 & 63]);
		strbuf_addc(b, i + 1 < n ? digits[v >> 6 & 63] : '=');
		strbuf_addc(b, i + 2 < n ? digits[v & 63] : '=');
	}
}

char *strbuf_take(struct strbuf *b)
{
	char *s = b->s ? b->s : xstrdup("");

	*b = STRBUF_NULL;
	return s;
}

void strv_fini(struct strv *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->v[i]);
	free(v->v);
	*v = STRV_NULL;
}

void strv_take(struct strv *v, char *s)
{
	if (v->n + 2 > v->cap) {
		v->cap = v->cap ? v->cap * 2 : 8;
		v->v = xrealloc(v->v, v->cap * sizeof(*v->v));
	}
	v->v[v->n++] = s;
	v->v[v->n] = NULL;
}

void strv_add(struct strv *v, const char *s)
{
	strv_take(v, xstrdup(s));
}

void strv_addf(struct strv *v, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	strv_take(v, s);
}

bool strv_contains(const struct strv *v, const char *s)
{
	for (size_t i = 0; i < v->n; i++)
		if (streq(v->v[i], s))
			return true;
	return false;
}

bool str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && streq(s + n - m, suffix);
}

bool str_to_u64(const char *s, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end)
		return false;
	*ret = v;
	return true;
}

bool str_to_i64(const char *s, int64_t *ret)
{
	long long v;
	char *end;

	if ((*s < '0' || *s > '9') && !(*s == '-' && s[1] >= '0' && s[1] <= '9'))
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno || *end)
		return false;
	*ret = v;
	return true;
}

/* Length of the UTF-8 sequence that `p` starts, 0 where it starts none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	size_t len;

	if (p[0] == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if ((p[0] & 0xf0) == 0xe0)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
		return 0; /* overlong; surrogates */
	if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0; /* overlong; above U+10FFFF */
	return len;
}

bool str_is_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	while (n > 0) {
		size_t len = utf8_len(p, n);

		if (len == 0)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

#define FORMAT_MAX 512 /* bytes of a format whose strings are bounded */

/* `fmt` with a precision for each "%s"; false where there is no room for it. */
static bool bound_strings(const char *fmt, size_t precision, char *to, size_t room)
{
	size_t n = 0;

	for (; *fmt; fmt++) {
		if (n + 32 > room)
			return false;
		to[n++] = *fmt;
		if (*fmt == '%' && fmt[1] == '%')
			to[n++] = *++fmt;
		else if (*fmt == '%' && fmt[1] == 's')
			n += (size_t)snprintf(to + n, room - n, ".%zu", precision);
	}
	to[n] = '\0';
	return true;
}

/* `n`, or less where the last character is cut in two. */
static size_t whole_characters(const char *s, size_t n)
{
	size_t lead = n;

	while (lead > 0 && n - lead < 3 && (s[lead - 1] & 0xc0) == 0x80)
		lead--;
	if (lead > 0 && (s[lead - 1] & 0xc0) == 0xc0 && !str_is_utf8(s + lead - 1, n - lead + 1))
		return lead - 1;
	return n;
}

size_t str_vformat(char *buf, size_t n, const char *fmt, va_list ap)
{
	char bounded[FORMAT_MAX];
	size_t len;
	int m;

	if (bound_strings(fmt, n, bounded, sizeof(bounded)))
		fmt = bounded;
	m = vsnprintf(buf, n, fmt, ap);
	len = m < 0 ? 0 : MIN((size_t)m, n - 1);
	if (len == n - 1)
		len = whole_characters(buf, len);
	buf[len] = '\0';
	return len;
}
