/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for people: what came from outside made safe for a terminal, sizes, ages, and the
 * durations, times and sizes that people write.
 *
 * Width needs LC_CTYPE of a UTF-8 locale (text_init()).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

void text_init(void);

/*
 * Appends `s` with everything that a terminal would act on, or that would not be seen,
 * written as an escape: control characters, bytes that are no UTF-8, marks that turn the
 * direction of writing or have no width of their own.
 */
void text_safe(struct strbuf *to, const char *s, size_t n);
/* The same, but lines stay lines: those after the first are indented, so that none of them
 * can pass for a message of ours. */
void text_safe_lines(struct strbuf *to, const char *s);
char *text_safe_dup(struct arena *a, const char *s); /* NULL as "" */
/* Columns of a string that text_safe() made. */
size_t text_width(const char *s);
/* True for what a terminal would act on or not show. */
bool text_hidden(uint32_t code_point);
/* The first character of s[0..n): its bytes, or 0 where it is no UTF-8. */
size_t text_decode(const char *s, size_t n, uint32_t *ret);

#define TEXT_MAX 32
char *text_size(uint64_t bytes, char buf[TEXT_MAX]);		     /* "1.5 MiB" */
char *text_duration(int64_t ns, char buf[TEXT_MAX]);		     /* "5 minutes" */
char *text_age(int64_t then_ns, int64_t now_ns, char buf[TEXT_MAX]); /* "5 minutes ago" */
/* 12 characters of an id, without "sha256:"; all of it with `whole`. */
char *text_id(struct arena *a, const char *id, bool whole);

/* "1h30m", "2d", "1.5s", "500ms"; a number alone is seconds. Not negative. */
bool text_parse_duration(const char *s, uint64_t *ret_us);
/* "2024-05-06T07:08:09.5Z", "...+02:00", "2024-05-06", "@1714979289.5", or a duration before
 * `now_ns`. */
bool text_parse_time(const char *s, int64_t now_ns, int64_t *ret_ns);
/* RFC 3339 alone, s[0..n). */
bool text_parse_rfc3339(const char *s, size_t n, int64_t *ret_ns);
/* "512m", "1.5GiB", "100": bytes, units of 1024. */
bool text_parse_size(const char *s, uint64_t *ret);
/* The command that was perhaps meant: edits between two words; more than 3 count as 99. */
unsigned text_distance(const char *a, const char *b);
