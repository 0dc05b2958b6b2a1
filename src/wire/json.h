/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON: reading through json-c, bounded; writing by appending.
 *
 * Values are borrowed from the document that jv_parse() made; jv_free() ends them all.
 * Accessors take a path of keys separated by '.', and give the default where the value is
 * absent, null or of another type; the _check forms say which.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct json_object jv; /* opaque here */

/*
 * Parses exactly one value of at most `max` bytes, strictly as RFC 8259 has it; anything but
 * white space around it, or nesting below JSON_DEPTH_MAX (json_check.h), is INVALID_ARGUMENT
 * "WHAT: ...".  Of members with one name the last counts.  A lone "null" gives NULL, which
 * every accessor takes for a value that is absent.  owned: jv_free().
 */
int jv_parse(const char *text, size_t n, size_t max, const char *what, jv **ret, struct err *e);
void jv_free(jv *doc);
static inline void jv_freep(jv **doc)
{
	jv_free(*doc);
}
#define _cleanup_jv_ __attribute__((cleanup(jv_freep)))

bool jv_is_object(const jv *v);
bool jv_is_array(const jv *v);
bool jv_is_string(const jv *v);
/* The member at a path ("linux.seccomp"), or NULL. borrowed */
jv *jv_get(const jv *v, const char *path);
const char *jv_string(const jv *v, const char *path, const char *otherwise); /* borrowed */
int64_t jv_int(const jv *v, const char *path, int64_t otherwise);
bool jv_bool(const jv *v, const char *path, bool otherwise);
/* Of the value itself; a string with a NUL in it is not one. */
const char *jv_as_string(const jv *v);
bool jv_as_bool(const jv *v); /* true for true alone */
size_t jv_len(const jv *v);   /* of an array; 0 otherwise */
jv *jv_at(const jv *v, size_t i);

/* Members of an object in order: struct jv_iter it = JV_ITER_INIT; while (jv_next(v, &it)) */
struct jv_iter {
	void *entry; /* private */
	bool begun;
	const char *key;
	jv *value;
};
#define JV_ITER_INIT ((struct jv_iter){0})
bool jv_next(const jv *v, struct jv_iter *it);

/* The value as compact text, appended. */
void jv_print(const jv *v, struct strbuf *to);

/* --- writing --- */

/* Appends to `b`; commas are its business. Bytes that are no UTF-8 become U+FFFD. */
struct jw {
	struct strbuf *b;
	bool comma;
};
#define JW_INIT(buf) ((struct jw){.b = (buf)})

void jw_object_begin(struct jw *w);
void jw_object_end(struct jw *w);
void jw_array_begin(struct jw *w);
void jw_array_end(struct jw *w);
void jw_key(struct jw *w, const char *key);
void jw_string(struct jw *w, const char *s); /* NULL: null */
void jw_string_n(struct jw *w, const char *s, size_t n);
void jw_int(struct jw *w, int64_t v);
void jw_uint(struct jw *w, uint64_t v);
void jw_bool(struct jw *w, bool v);
void jw_raw(struct jw *w, const char *json); /* a value that is JSON already */

void jw_key_string(struct jw *w, const char *key, const char *s);
void jw_key_int(struct jw *w, const char *key, int64_t v);
void jw_key_uint(struct jw *w, const char *key, uint64_t v);
void jw_key_bool(struct jw *w, const char *key, bool v);
void jw_key_object(struct jw *w, const char *key); /* and begins it */
void jw_key_array(struct jw *w, const char *key);
