/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings: a growing buffer, a vector of strings, and small predicates.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Grows by doubling; `s` is NUL-terminated whenever it is not NULL. */
struct strbuf {
	char *s;
	size_t len;
	size_t cap;
};

#define STRBUF_NULL ((struct strbuf){0})

void strbuf_fini(struct strbuf *b);
void strbuf_reset(struct strbuf *b); /* len = 0, keeps the memory */
void strbuf_add(struct strbuf *b, const void *p, size_t n);
void strbuf_adds(struct strbuf *b, const char *s);
void strbuf_addc(struct strbuf *b, char c);
void strbuf_addf(struct strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_add_base64(struct strbuf *b, const void *p, size_t n); /* RFC 4648, padded */
/* Room for `n` more bytes and the NUL; returns where they go. The caller adds to `len`. */
char *strbuf_reserve(struct strbuf *b, size_t n);
/* Gives the string away (owned by the caller, never NULL) and empties the buffer. */
char *strbuf_take(struct strbuf *b);

#define _cleanup_strbuf_ __attribute__((cleanup(strbuf_fini)))

/* A NULL-terminated vector of owned strings. */
struct strv {
	char **v;
	size_t n;
	size_t cap;
};

#define STRV_NULL ((struct strv){0})

void strv_fini(struct strv *v);
void strv_add(struct strv *v, const char *s); /* copies */
void strv_addf(struct strv *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strv_take(struct strv *v, char *s); /* takes ownership */
bool strv_contains(const struct strv *v, const char *s);

#define _cleanup_strv_ __attribute__((cleanup(strv_fini)))

bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);
static inline bool str_empty(const char *s)
{
	return !s || !*s;
}
/* `s`, or "" for NULL. borrowed */
static inline const char *str_or_empty(const char *s)
{
	return s ? s : "";
}

/* Whole-string decimal; false on anything else, overflow included. */
bool str_to_u64(const char *s, uint64_t *ret);
bool str_to_i64(const char *s, int64_t *ret);

/* True when the bytes are valid UTF-8 (RFC 3629) without NUL. */
bool str_is_utf8(const char *s, size_t n);

/*
 * vsnprintf(3) for what is cut anyway: of each "%s" no more than `n` bytes are looked at (glibc
 * before 2.37 walks all of a string that does not fit, 16 MiB in 30 ms), and no UTF-8 character
 * is cut in two.  Returns the length that `buf` has now.
 */
size_t str_vformat(char *buf, size_t n, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
