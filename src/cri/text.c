/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every string of a request, before anything looks at it: see cri_check_text() in cri.h.
 *
 * It has to be done on the encoded bytes.  Once decoded a string ends at its first NUL, so
 * that one way of looking at it (ours) and another (of whoever sent it) would differ; and a
 * text that is no UTF-8 would come back in lists that other clients then cannot decode.
 */
#include <inttypes.h>

#include "base/mem.h"
#include "cri/cri.h"

#define TAG_BITS 3
#define WIRE_VARINT 0
#define WIRE_64 1
#define WIRE_BYTES 2
#define WIRE_32 5

/* Where a message stands in the request. */
struct where {
	const struct where *up;
	const char *field;
};

static void add_path(struct strbuf *to, const struct where *w)
{
	if (w->up) {
		add_path(to, w->up);
		strbuf_addc(to, '.');
	}
	strbuf_adds(to, w->field);
}

static int bad(const struct where *w, const char *what, struct err *e)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_NULL;

	add_path(&path, w);
	return err_invalid(e, "%s: %s", path.s, what);
}

static bool take_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t byte = *(*p)++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

/* Steps over what is not length-delimited. */
static bool skip(const uint8_t **p, const uint8_t *end, unsigned wire)
{
	size_t n = wire == WIRE_64 ? 8 : 4;
	uint64_t v;

	if (wire == WIRE_VARINT)
		return take_varint(p, end, &v);
	if ((wire != WIRE_64 && wire != WIRE_32) || (size_t)(end - *p) < n)
		return false;
	*p += n;
	return true;
}

static int check(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n,
		 const struct where *up, struct err *e)
{
	const uint8_t *end = p + n;
	uint64_t tag, len;
	int r = 0;

	while (r == 0 && p < end) {
		const ProtobufCFieldDescriptor *f;
		struct where w = {up, NULL};

		if (!take_varint(&p, end, &tag))
			return err_invalid(e, "the request is no %s", d->name);
		if ((tag & 7) != WIRE_BYTES) {
			if (!skip(&p, end, tag & 7))
				return err_invalid(e, "the request is no %s", d->name);
			continue;
		}
		if (!take_varint(&p, end, &len) || len > (uint64_t)(end - p))
			return err_invalid(e, "the request is no %s", d->name);
		f = tag >> TAG_BITS > UINT32_MAX ? NULL
						 : protobuf_c_message_descriptor_get_field(
							   d, (unsigned)(tag >> TAG_BITS));
		w.field = f ? f->name : "";
		if (f && f->type == PROTOBUF_C_TYPE_MESSAGE)
			r = check(f->descriptor, p, len, &w, e);
		else if (f && f->type == PROTOBUF_C_TYPE_STRING && memchr(p, '\0', len))
			r = bad(&w, "holds a NUL", e);
		else if (f && f->type == PROTOBUF_C_TYPE_STRING &&
			 !str_is_utf8((const char *)p, len))
			r = bad(&w, "is not UTF-8", e);
		p += len;
	}
	return r;
}

int cri_check_text(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t n,
		   struct err *e)
{
	return check(d, bytes, n, NULL, e);
}
