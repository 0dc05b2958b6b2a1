/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: see json.h.  The only file that knows json-c. */
#include "wire/json.h"

#include <inttypes.h>
#include <json-c/json.h>

#include "base/mem.h"
#include "wire/json_check.h"

#define JSON_KEY_MAX 256 /* of one step of a path */

int jv_parse(const char *text, size_t n, size_t max, const char *what, jv **ret, struct err *e)
{
	struct json_tokener *t;
	struct json_object *doc;
	enum json_tokener_error why;
	const char *reason;
	size_t at;

	if (n > max || n > INT32_MAX)
		return err_invalid(e, "%s: %zu bytes of JSON are more than the limit of %zu", what,
				   n, max);
	if (!json_check(text, n, &at, &reason))
		return err_invalid(e, "%s: no valid JSON at byte %zu: %s", what, at, reason);
	t = json_tokener_new_ex(JSON_DEPTH_MAX + 2); /* it counts differently */
	if (!t)
		return err_errno(e, -ENOMEM, "%s", what);
	doc = json_tokener_parse_ex(t, text, (int)n);
	why = json_tokener_get_error(t);
	if (why == json_tokener_continue) {
		/* A bare number at the very end waits for a byte that says it is over. */
		doc = json_tokener_parse_ex(t, "\n", 1);
		why = json_tokener_get_error(t);
	}
	json_tokener_free(t);
	if (why != json_tokener_success)
		return err_invalid(e, "%s: %s", what, json_tokener_error_desc(why));
	*ret = doc;
	return 0;
}

void jv_free(jv *doc)
{
	json_object_put(doc);
}

bool jv_is_object(const jv *v)
{
	return json_object_is_type(v, json_type_object);
}

bool jv_is_array(const jv *v)
{
	return json_object_is_type(v, json_type_array);
}

bool jv_is_string(const jv *v)
{
	return jv_as_string(v) != NULL;
}

jv *jv_get(const jv *v, const char *path)
{
	char key[JSON_KEY_MAX];
	struct json_object *found = (struct json_object *)(uintptr_t)v;

	while (*path) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(key) || !jv_is_object(found))
			return NULL;
		memcpy(key, path, n);
		key[n] = '\0';
		if (!json_object_object_get_ex(found, key, &found))
			return NULL;
		path += n + (path[n] == '.');
	}
	return found;
}

const char *jv_as_string(const jv *v)
{
	struct json_object *o = (struct json_object *)(uintptr_t)v;
	const char *s;

	if (!json_object_is_type(o, json_type_string))
		return NULL;
	s = json_object_get_string(o);
	return strlen(s) == (size_t)json_object_get_string_len(o) ? s : NULL;
}

const char *jv_string(const jv *v, const char *path, const char *otherwise)
{
	const char *s = jv_as_string(jv_get(v, path));

	return s ? s : otherwise;
}

int64_t jv_int(const jv *v, const char *path, int64_t otherwise)
{
	jv *found = jv_get(v, path);

	if (json_object_is_type(found, json_type_int))
		return json_object_get_int64(found);
	if (json_object_is_type(found, json_type_double)) { /* 1e3, as some writers have it */
		double d = json_object_get_double(found);

		if (d >= -9.0e18 && d <= 9.0e18)
			return (int64_t)d;
	}
	return otherwise;
}

bool jv_bool(const jv *v, const char *path, bool otherwise)
{
	jv *found = jv_get(v, path);

	return json_object_is_type(found, json_type_boolean) ? json_object_get_boolean(found)
							     : otherwise;
}

bool jv_as_bool(const jv *v)
{
	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

size_t jv_len(const jv *v)
{
	return jv_is_array(v) ? json_object_array_length(v) : 0;
}

jv *jv_at(const jv *v, size_t i)
{
	return i < jv_len(v) ? json_object_array_get_idx(v, i) : NULL;
}

bool jv_next(const jv *v, struct jv_iter *it)
{
	struct lh_entry *entry = it->entry;

	if (!jv_is_object(v))
		return false;
	entry = it->begun ? entry->next : json_object_get_object(v)->head;
	if (!entry)
		return false;
	it->begun = true;
	it->entry = entry;
	it->key = lh_entry_k(entry);
	it->value = (jv *)(uintptr_t)lh_entry_v(entry);
	return true;
}

void jv_print(const jv *v, struct strbuf *to)
{
	strbuf_adds(to, json_object_to_json_string_ext((struct json_object *)(uintptr_t)v,
						       JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* --- writing --- */

static void separate(struct jw *w)
{
	if (w->comma)
		strbuf_addc(w->b, ',');
	w->comma = true;
}

static void begin(struct jw *w, char c)
{
	separate(w);
	strbuf_addc(w->b, c);
	w->comma = false;
}

static void end(struct jw *w, char c)
{
	strbuf_addc(w->b, c);
	w->comma = true;
}

void jw_object_begin(struct jw *w)
{
	begin(w, '{');
}

void jw_object_end(struct jw *w)
{
	end(w, '}');
}

void jw_array_begin(struct jw *w)
{
	begin(w, '[');
}

void jw_array_end(struct jw *w)
{
	end(w, ']');
}

/* Length of the UTF-8 character at `s`, 0 where there is none. */
static size_t utf8_char(const char *s, size_t n)
{
	for (size_t len = 1; len <= 4 && len <= n; len++)
		if (str_is_utf8(s, len))
			return len;
	return 0;
}

/* The first bytes of `s` that stand for themselves. */
static size_t plain_bytes(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n && (unsigned char)s[i] >= 0x20 && (unsigned char)s[i] < 0x7f && s[i] != '"' &&
	       s[i] != '\\')
		i++;
	return i;
}

/* A control character, '"' or '\\', as it is written in a string. */
static void put_escaped(struct strbuf *b, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	char *text = strbuf_reserve(b, 6);

	memcpy(text, "\\u00", 4);
	text[4] = digits[c >> 4];
	text[5] = digits[c & 15];
	if (c == '"' || c == '\\')
		text[1] = (char)c;
	else if (c == '\n')
		text[1] = 'n';
	else if (c == '\t')
		text[1] = 't';
	b->len += text[1] == 'u' ? 6 : 2;
	b->s[b->len] = '\0';
}

static void put_quoted(struct strbuf *b, const char *s, size_t n)
{
	size_t len;

	strbuf_addc(b, '"');
	for (size_t i = 0; i < n; i += len) {
		len = plain_bytes(s + i, n - i);
		if (len) {
			strbuf_add(b, s + i, len);
		} else if ((unsigned char)s[i] < 0x80) {
			put_escaped(b, (unsigned char)s[i]);
			len = 1;
		} else if ((len = utf8_char(s + i, n - i)) > 0) {
			strbuf_add(b, s + i, len);
		} else {
			strbuf_adds(b, "\xef\xbf\xbd");
			len = 1;
		}
	}
	strbuf_addc(b, '"');
}

void jw_key(struct jw *w, const char *key)
{
	separate(w);
	put_quoted(w->b, key, strlen(key));
	strbuf_addc(w->b, ':');
	w->comma = false;
}

void jw_string_n(struct jw *w, const char *s, size_t n)
{
	separate(w);
	put_quoted(w->b, s, n);
}

void jw_string(struct jw *w, const char *s)
{
	if (s)
		jw_string_n(w, s, strlen(s));
	else
		jw_raw(w, "null");
}

void jw_int(struct jw *w, int64_t v)
{
	separate(w);
	strbuf_addf(w->b, "%" PRId64, v);
}

void jw_uint(struct jw *w, uint64_t v)
{
	separate(w);
	strbuf_addf(w->b, "%" PRIu64, v);
}

void jw_bool(struct jw *w, bool v)
{
	jw_raw(w, v ? "true" : "false");
}

void jw_raw(struct jw *w, const char *json)
{
	separate(w);
	strbuf_adds(w->b, json);
}

void jw_key_string(struct jw *w, const char *key, const char *s)
{
	jw_key(w, key);
	jw_string(w, s);
}

void jw_key_int(struct jw *w, const char *key, int64_t v)
{
	jw_key(w, key);
	jw_int(w, v);
}

void jw_key_uint(struct jw *w, const char *key, uint64_t v)
{
	jw_key(w, key);
	jw_uint(w, v);
}

void jw_key_bool(struct jw *w, const char *key, bool v)
{
	jw_key(w, key);
	jw_bool(w, v);
}

void jw_key_object(struct jw *w, const char *key)
{
	jw_key(w, key);
	jw_object_begin(w);
}

void jw_key_array(struct jw *w, const char *key)
{
	jw_key(w, key);
	jw_array_begin(w);
}
