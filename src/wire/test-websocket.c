/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"
#include "wire/websocket.h"

#define LIMIT 70000

static const uint8_t key[WS_KEY_SIZE] = {0x37, 0xfa, 0x21, 0x3d};

/* What a parser says of `in`, given `step` bytes at a time: "B[a" begins, "b]" ends a message. */
static char *read_all(enum ws_role role, const void *in, size_t n, size_t step, int *ret_error)
{
	_cleanup_free_ uint8_t *copy = xmemdup(in, n);
	struct strbuf said = STRBUF_NULL;
	struct err e = ERR_NULL;
	struct ws w;
	int r = 0;

	ws_init(&w, role, LIMIT);
	for (size_t at = 0; at < n && r >= 0;) {
		size_t k = MIN(step, n - at), used;
		struct ws_event v;

		r = ws_next(&w, copy + at, k, &used, &v, &e);
		at += used;
		if (r != 1)
			continue;
		if (v.op >= WS_CLOSE)
			strbuf_addf(&said, "%s",
				    v.op == WS_CLOSE  ? "C"
				    : v.op == WS_PING ? "P"
						      : "O");
		else if (v.begin)
			strbuf_addf(&said, "%s[", v.op == WS_TEXT ? "T" : "B");
		if (v.op == WS_CLOSE)
			strbuf_addf(&said, "%u", v.code);
		strbuf_add(&said, v.data, v.n);
		if (v.end && v.op < WS_CLOSE)
			strbuf_addc(&said, ']');
	}
	*ret_error = r < 0 ? w.error : 0;
	return strbuf_take(&said);
}

#define READ(role, in, said, error)                                                                \
	for (size_t _step = 1; _step <= sizeof(in); _step++) {                                     \
		int _e;                                                                            \
		_cleanup_free_ char *_s = read_all(role, in, sizeof(in) - 1, _step, &_e);          \
		CHECK_STR(_s, said);                                                               \
		CHECK_INT(_e, error);                                                              \
	}

static void test_read(void)
{
	/* the examples of RFC 6455 section 5.7 */
	READ(WS_CLIENT, "\x81\x05Hello", "T[Hello]", 0);
	READ(WS_SERVER, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "T[Hello]", 0);
	READ(WS_CLIENT, "\x01\x03Hel\x80\x02lo", "T[Hello]", 0);
	READ(WS_CLIENT, "\x89\x05Hello", "PHello", 0);
	READ(WS_SERVER, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "OHello", 0);
	/* control frames within a message, empty frames and messages */
	READ(WS_CLIENT, "\x02\x01x\x89\x00\x00\x00\x80\x01y", "B[xPy]", 0);
	READ(WS_CLIENT, "\x82\x00\x82\x01z", "B[]B[z]", 0);
	READ(WS_CLIENT, "\x02\x00\x80\x00", "B[]", 0);
	READ(WS_SERVER, "\x82\x80\x37\xfa\x21\x3d", "B[]", 0);
	/* what comes after the end is passed over */
	READ(WS_CLIENT,
	     "\x88\x05\x03\xe8"
	     "bye\x82\x01x",
	     "C1000bye", 0);
	READ(WS_CLIENT, "\x88\x00\xff\xff", "C1005", 0);
	READ(WS_CLIENT, "\x02\x01x\x88\x02\x03\xf3", "B[xC1011", 0);
	/* a character across frames */
	READ(WS_CLIENT, "\x01\x02\xe2\x82\x89\x00\x80\x01\xac", "T[\xe2\x82P\xac]", 0);
}

static void test_refused(void)
{
	READ(WS_SERVER, "\x81\x05Hello", "", WS_PROTOCOL_ERROR);		/* not masked */
	READ(WS_CLIENT, "\x81\x85\x37\xfa\x21\x3d\x7f", "", WS_PROTOCOL_ERROR); /* masked */
	READ(WS_CLIENT, "\xc1\x00", "", WS_PROTOCOL_ERROR);			/* RSV1 */
	READ(WS_CLIENT, "\x83\x00", "", WS_PROTOCOL_ERROR);	    /* an unknown frame */
	READ(WS_CLIENT, "\x8b\x00", "", WS_PROTOCOL_ERROR);	    /* an unknown frame */
	READ(WS_CLIENT, "\x09\x00", "", WS_PROTOCOL_ERROR);	    /* half a ping */
	READ(WS_CLIENT, "\x89\x7e\x00\x80", "", WS_PROTOCOL_ERROR); /* a long ping */
	READ(WS_CLIENT, "\x80\x00", "", WS_PROTOCOL_ERROR);
	READ(WS_CLIENT, "\x01\x01x\x81\x01x", "T[x", WS_PROTOCOL_ERROR);
	READ(WS_CLIENT, "\x82\x7e\x00\x7d", "", WS_PROTOCOL_ERROR); /* 125 in two bytes */
	READ(WS_CLIENT, "\x82\x7f\0\0\0\0\0\0\xff\xff", "", WS_PROTOCOL_ERROR);
	READ(WS_CLIENT, "\x82\x7f\x80\0\0\0\0\1\0\0", "", WS_PROTOCOL_ERROR);
	READ(WS_CLIENT, "\x82\x7f\0\0\0\0\0\1\x11\x71", "", WS_TOO_BIG); /* LIMIT + 1 */
	READ(WS_CLIENT, "\x02\x01x\x80\x7f\0\0\0\0\0\1\x11\x70", "B[x", WS_TOO_BIG);
	READ(WS_CLIENT, "\x88\x01x", "", WS_PROTOCOL_ERROR);
	READ(WS_CLIENT, "\x88\x02\x03\xed", "", WS_PROTOCOL_ERROR); /* 1005 */
	READ(WS_CLIENT, "\x88\x03\x03\xe8\xff", "", WS_BAD_DATA);
}

static void test_text(void)
{
	static const char *const bad[] = {
		"\xff",	    "\xc1\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
		"\xf4\x90", "\xe2\x82", "\x80",		"\xe2x",	"\xf5\x80\x80\x80",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct strbuf b = STRBUF_NULL;
		_cleanup_free_ char *said = NULL;
		int error;

		strbuf_addf(&b, "\x81%c%s", (int)strlen(bad[i]), bad[i]);
		said = read_all(WS_CLIENT, b.s, b.len, b.len, &error);
		CHECK_INT(error, WS_BAD_DATA);
		strbuf_fini(&b);
	}
}

/* Each length of a header, masked and not, comes back as it was. */
static void test_write(void)
{
	static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536, LIMIT};
	static uint8_t frame[WS_HEADER_MAX + LIMIT];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		size_t n = sizes[i / 2], used, header;
		const uint8_t *k = i % 2 ? key : NULL;
		struct err e = ERR_NULL;
		struct ws_event v;
		struct ws w;

		header = ws_put_header(frame, WS_BINARY, true, n, k);
		memset(frame + header, 'x', n);
		if (k) { /* in two parts, as a writer may */
			ws_mask(frame + header, n / 3, k, 0);
			ws_mask(frame + header + n / 3, n - n / 3, k, n / 3);
		}
		ws_init(&w, k ? WS_SERVER : WS_CLIENT, LIMIT);
		CHECK_INT(ws_next(&w, frame, header + n, &used, &v, &e), 1);
		CHECK_INT(used, header + n);
		CHECK(v.begin && v.end && v.op == WS_BINARY);
		CHECK_INT(v.n, n);
		for (size_t j = 0; j < v.n; j++)
			if (v.data[j] != 'x') {
				CHECK(!"the payload is as it was");
				break;
			}
	}
}

static void test_control(void)
{
	uint8_t out[WS_CLOSE_MAX];
	char reason[200];
	size_t n;

	n = ws_put_close(out, WS_NORMAL, "bye", NULL);
	CHECK_INT(n, 7);
	CHECK(memcmp(out,
		     "\x88\x05\x03\xe8"
		     "bye",
		     n) == 0);
	memset(reason, 'r', sizeof(reason));
	memcpy(reason + 121, "\xe2\x82\xac", 3); /* would be cut */
	reason[sizeof(reason) - 1] = '\0';
	CHECK_INT(ws_put_close(out, WS_INTERNAL, reason, NULL), 2 + 2 + 121);
	memset(reason, 'r', 130);
	CHECK_INT(ws_put_close(out, WS_INTERNAL, reason, key), 6 + WS_CONTROL_MAX);
	n = ws_put_control(out, WS_PONG, "Hello", 5, key);
	CHECK_INT(n, 11);
	CHECK(memcmp(out, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", n) == 0);
	CHECK_INT(ws_put_control(out, WS_PING, reason, 199, NULL), 2 + WS_CONTROL_MAX);
}

static void test_accept(void)
{
	char answer[WS_ACCEPT_MAX];

	CHECK(ws_accept("dGhlIHNhbXBsZSBub25jZQ==", answer)); /* the example of section 1.3 */
	CHECK_STR(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	CHECK(!ws_accept("", answer));
	CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZQ=", answer));
	CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZQ===", answer));
	CHECK(!ws_accept("dGhlIHNhbXBsZSBub25j ZQ=", answer));
	CHECK(!ws_accept("dGhlIHNhbXBsZSBub25jZQA=", answer));
}

int main(void)
{
	TEST(read);
	TEST(refused);
	TEST(text);
	TEST(write);
	TEST(control);
	TEST(accept);
	return test_done();
}
