/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as JSON and YAML: see pbjson.h. */
#include "pbjson.h"

#include <inttypes.h>
#include <stdio.h>
#include <yaml.h>

#include "base/mem.h"
#include "text.h"

#define JSON_MAX (256u << 20) /* bytes of a text that is turned into YAML */

/* --- JSON --- */

static void print_key(struct jw *w, const char *name)
{
	char buf[128];
	size_t n = 0;

	for (const char *p = name; *p && n + 1 < sizeof(buf); p++) {
		if (*p == '_' && p[1] >= 'a' && p[1] <= 'z')
			buf[n++] = (char)(*++p - 'a' + 'A');
		else
			buf[n++] = *p;
	}
	buf[n] = '\0';
	jw_key(w, buf);
}

static void print_base64(struct jw *w, const ProtobufCBinaryData *d)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	for (size_t i = 0; i < d->len; i += 3) {
		size_t k = MIN(d->len - i, (size_t)3);
		uint32_t v = (uint32_t)d->data[i] << 16;

		v |= k > 1 ? (uint32_t)d->data[i + 1] << 8 : 0;
		v |= k > 2 ? d->data[i + 2] : 0;
		for (size_t j = 0; j < 4; j++)
			strbuf_addc(&b, j <= k ? digits[v >> (18 - 6 * j) & 63] : '=');
	}
	jw_string(w, str_or_empty(b.s));
}

static void print_number(struct jw *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void print_number(struct jw *w, const char *fmt, ...)
{
	char buf[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	jw_string(w, buf);
}

static void print_enum(struct jw *w, const ProtobufCEnumDescriptor *d, int v)
{
	const ProtobufCEnumValue *name = protobuf_c_enum_descriptor_get_value(d, v);

	if (name)
		jw_string(w, name->name);
	else
		jw_int(w, v);
}

static void print_value(struct jw *w, const ProtobufCFieldDescriptor *f, const void *p)
{
	char buf[64];

	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		jw_string(w, str_or_empty(*(char *const *)p));
		break;
	case PROTOBUF_C_TYPE_BYTES:
		print_base64(w, p);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		jw_bool(w, *(const protobuf_c_boolean *)p);
		break;
	case PROTOBUF_C_TYPE_INT32:
		jw_int(w, *(const int32_t *)p);
		break;
	case PROTOBUF_C_TYPE_UINT32:
		jw_uint(w, *(const uint32_t *)p);
		break;
	case PROTOBUF_C_TYPE_INT64:
		print_number(w, "%" PRId64, *(const int64_t *)p);
		break;
	case PROTOBUF_C_TYPE_UINT64:
		print_number(w, "%" PRIu64, *(const uint64_t *)p);
		break;
	case PROTOBUF_C_TYPE_DOUBLE:
		snprintf(buf, sizeof(buf), "%.17g", *(const double *)p);
		jw_raw(w, buf);
		break;
	case PROTOBUF_C_TYPE_ENUM:
		print_enum(w, f->descriptor, *(const int *)p);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		pbjson_print(w, *(const ProtobufCMessage *const *)p);
		break;
	default: /* no other type is in CRI */
		jw_raw(w, "null");
	}
}

static size_t size_of(ProtobufCType t)
{
	switch (t) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return 4;
	}
}

/* The entries of map<string, string>: messages whose name ends so, with key and value. */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
	const ProtobufCMessageDescriptor *d = f->descriptor;

	return f->type == PROTOBUF_C_TYPE_MESSAGE && str_has_suffix(d->name, "Entry") &&
	       d->n_fields == 2 && streq(d->fields[0].name, "key") &&
	       d->fields[0].type == PROTOBUF_C_TYPE_STRING && streq(d->fields[1].name, "value");
}

static void print_map(struct jw *w, size_t n, ProtobufCMessage *const *entries)
{
	jw_object_begin(w);
	for (size_t i = 0; i < n; i++) {
		const ProtobufCFieldDescriptor *f = entries[i]->descriptor->fields;
		const char *base = (const char *)entries[i];

		jw_key(w, str_or_empty(*(char *const *)(const void *)(base + f[0].offset)));
		print_value(w, &f[1], base + f[1].offset);
	}
	jw_object_end(w);
}

static void print_repeated(struct jw *w, const ProtobufCFieldDescriptor *f, const char *base)
{
	size_t n = *(const size_t *)(const void *)(base + f->quantifier_offset);
	const char *p = *(const char *const *)(const void *)(base + f->offset);

	if (is_map(f)) {
		print_map(w, n, (ProtobufCMessage *const *)(const void *)p);
		return;
	}
	jw_array_begin(w);
	for (size_t i = 0; i < n; i++)
		print_value(w, f, p + i * size_of(f->type));
	jw_array_end(w);
}

void pbjson_print(struct jw *w, const ProtobufCMessage *m)
{
	const ProtobufCMessageDescriptor *d = m->descriptor;
	const char *base = (const char *)m;

	jw_object_begin(w);
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		const void *p = base + f->offset;

		if (f->type == PROTOBUF_C_TYPE_MESSAGE && f->label != PROTOBUF_C_LABEL_REPEATED &&
		    !*(const void *const *)p)
			continue;
		print_key(w, f->name);
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			print_repeated(w, f, base);
		else
			print_value(w, f, p);
	}
	jw_object_end(w);
}

/* --- pretty --- */

/* A string with its quotes; returns what follows it. */
static const char *pretty_string(const char *p, const char *end, struct strbuf *to)
{
	strbuf_addc(to, *p++);
	while (p < end && *p != '"') {
		uint32_t c;
		size_t k = *p == '\\' ? 2 : text_decode(p, (size_t)(end - p), &c);

		k = MIN(MAX(k, (size_t)1), (size_t)(end - p));
		if (*p != '\\' && text_hidden(c)) {
			if (c > 0xffff) /* as JSON has it: a pair of surrogates */
				strbuf_addf(to, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
					    0xdc00 + ((c - 0x10000) & 0x3ff));
			else
				strbuf_addf(to, "\\u%04x", c);
		} else {
			strbuf_add(to, p, k);
		}
		p += k;
	}
	if (p < end)
		strbuf_addc(to, *p++);
	return p;
}

static void new_line(struct strbuf *to, unsigned depth)
{
	strbuf_addc(to, '\n');
	while (depth-- > 0)
		strbuf_adds(to, "  ");
}

void pbjson_pretty(const char *json, size_t n, struct strbuf *to)
{
	const char *end = json + n;
	unsigned depth = 0;

	for (const char *p = json; p < end;) {
		char c = *p;

		if (c == '"') {
			p = pretty_string(p, end, to);
			continue;
		}
		p++;
		if ((c == '{' || c == '[') && p < end && (*p == '}' || *p == ']')) {
			strbuf_addc(to, c);
			strbuf_addc(to, *p++);
		} else if (c == '{' || c == '[') {
			strbuf_addc(to, c);
			new_line(to, ++depth);
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
			new_line(to, depth);
			strbuf_addc(to, c);
		} else if (c == ',') {
			strbuf_addc(to, c);
			new_line(to, depth);
		} else {
			strbuf_addc(to, c);
			if (c == ':')
				strbuf_addc(to, ' ');
		}
	}
	strbuf_addc(to, '\n');
}

/* --- YAML --- */

static int append(void *arg, unsigned char *p, size_t n)
{
	strbuf_add(arg, p, n);
	return 1;
}

static void emit_scalar(yaml_emitter_t *y, const char *s, size_t n, bool is_string)
{
	yaml_event_t ev;

	/* A string that reads as something else ("yes", "12") keeps its quotes. */
	yaml_scalar_event_initialize(
		&ev, NULL, NULL, (const yaml_char_t *)s, (int)n, !is_string, is_string,
		is_string ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE);
	yaml_emitter_emit(y, &ev);
}

static void emit_key(yaml_emitter_t *y, const char *s)
{
	bool plain = *s &&
		     strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(s);
	static const char *const words[] = {"y",   "n",	   "yes",   "no",  "on",
					    "off", "true", "false", "null"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		plain &= strcasecmp(s, words[i]) != 0;
	emit_scalar(y, s, strlen(s), !plain);
}

static void emit(yaml_emitter_t *y, const jv *v)
{
	struct jv_iter it = JV_ITER_INIT;
	yaml_event_t ev;

	if (jv_is_object(v)) {
		yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1, YAML_ANY_MAPPING_STYLE);
		yaml_emitter_emit(y, &ev);
		while (jv_next(v, &it)) {
			emit_key(y, it.key);
			emit(y, it.value);
		}
		yaml_mapping_end_event_initialize(&ev);
		yaml_emitter_emit(y, &ev);
	} else if (jv_is_array(v)) {
		yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1, YAML_ANY_SEQUENCE_STYLE);
		yaml_emitter_emit(y, &ev);
		for (size_t i = 0; i < jv_len(v); i++)
			emit(y, jv_at(v, i));
		yaml_sequence_end_event_initialize(&ev);
		yaml_emitter_emit(y, &ev);
	} else if (jv_is_string(v)) {
		const char *s = str_or_empty(jv_as_string(v));

		emit_scalar(y, s, strlen(s), true);
	} else {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		jv_print(v, &b);
		emit_scalar(y, str_or_empty(b.s), b.len, false);
	}
}

int pbjson_yaml(const char *json, size_t n, struct strbuf *to, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	yaml_emitter_t y;
	yaml_event_t ev;
	int r = jv_parse(json, n, JSON_MAX, "the daemon's answer", &doc, e);

	if (r < 0)
		return r;
	if (!yaml_emitter_initialize(&y))
		abort();
	yaml_emitter_set_output(&y, append, to);
	yaml_emitter_set_width(&y, -1);
	yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING);
	yaml_emitter_emit(&y, &ev);
	yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1);
	yaml_emitter_emit(&y, &ev);
	emit(&y, doc);
	yaml_document_end_event_initialize(&ev, 1);
	yaml_emitter_emit(&y, &ev);
	yaml_stream_end_event_initialize(&ev);
	r = yaml_emitter_emit(&y, &ev)
		    ? 0
		    : err_set(e, -EIO, GRPC_INTERNAL, "YAML: %s", str_or_empty(y.problem));
	yaml_emitter_delete(&y);
	return r;
}
