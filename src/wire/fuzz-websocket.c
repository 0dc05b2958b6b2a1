/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames out of any bytes, for both sides: what comes of them is the same however they were cut,
 * stays within the limit, and is well-formed.  The first byte tells the side and the size of the
 * cuts.
 */
#include "base/fuzz.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/websocket.h"

#define LIMIT 300

struct reader {
	struct ws w;
	struct strbuf said; /* what it made of it, without the cuts */
	uint64_t message;   /* bytes of the message under way */
	bool within, over;
};

static void hear(struct reader *r, const struct ws_event *v)
{
	FUZZ_ASSERT(!r->over);
	if (v->op >= WS_CLOSE) {
		FUZZ_ASSERT(v->n <= WS_CONTROL_MAX && v->begin && v->end);
		strbuf_addf(&r->said, "<%d %d>", v->op, v->code);
		r->over = v->op == WS_CLOSE;
		FUZZ_ASSERT(!r->over || v->n == 0 || memchr(v->data, 0, v->n) ||
			    str_is_utf8((const char *)v->data, v->n));
	} else {
		FUZZ_ASSERT(v->op == WS_TEXT || v->op == WS_BINARY);
		FUZZ_ASSERT(v->begin == !r->within);
		r->message = v->begin ? v->n : r->message + v->n;
		FUZZ_ASSERT(r->message <= LIMIT);
		r->within = !v->end;
		if (v->begin)
			strbuf_addf(&r->said, "<%d>", v->op);
		if (v->n == 0)
			FUZZ_ASSERT(v->end);
	}
	strbuf_add(&r->said, v->data, v->n);
	if (v->end)
		strbuf_adds(&r->said, "</>");
}

static void read_all(struct reader *r, enum ws_role role, const uint8_t *data, size_t n,
		     size_t step)
{
	_cleanup_free_ uint8_t *copy = n ? xmemdup(data, n) : xmalloc(1);
	struct err e = ERR_NULL;

	ws_init(&r->w, role, LIMIT);
	for (size_t at = 0; at < n;) {
		size_t k = MIN(step, n - at), used;
		struct ws_event v;
		int ret = ws_next(&r->w, copy + at, k, &used, &v, &e);

		FUZZ_ASSERT(used <= k && (ret < 0 || used > 0));
		if (ret < 0) {
			FUZZ_ASSERT(e.msg[0] && r->w.error);
			return;
		}
		FUZZ_ASSERT(ret == 1 || used == k);
		if (ret == 1)
			hear(r, &v);
		at += used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader whole = {0}, cut = {0};
	enum ws_role role;

	if (size == 0)
		return 0;
	role = data[0] & 1 ? WS_CLIENT : WS_SERVER;
	read_all(&whole, role, data + 1, size - 1, size);
	read_all(&cut, role, data + 1, size - 1, 1 + (data[0] >> 1));
	FUZZ_ASSERT(whole.w.error == cut.w.error);
	/* Bad text is noticed where it is, which a cut brings forward. */
	FUZZ_ASSERT(whole.w.error == WS_BAD_DATA ||
		    (whole.said.len == cut.said.len &&
		     (whole.said.len == 0 || memcmp(whole.said.s, cut.said.s, cut.said.len) == 0)));
	strbuf_fini(&whole.said);
	strbuf_fini(&cut.said);
	return 0;
}
