/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/test.h"
#include "channels.h"

static struct channels w;
static struct strbuf out, got[4];
static unsigned ended[4];
static struct err err;

static void put(struct mux *m, const void *head, size_t n_head, const void *p, size_t n)
{
	strbuf_add(&out, head, n_head);
	strbuf_add(&out, p, n);
}

static size_t room(struct mux *m)
{
	return 1 << 20;
}

static void on_data(struct mux *m, struct chan *c, const uint8_t *p, size_t n)
{
	strbuf_add(&got[c->id], p, n);
}

static void on_end(struct mux *m, struct chan *c)
{
	ended[c->id]++;
}

static void on_closed(struct mux *m, struct chan *c)
{
}

static const struct mux_user user = {.data = on_data, .end = on_end, .closed = on_closed};

static int on_tunnel(struct channels *c, const uint8_t *p, size_t n, struct err *e)
{
	strbuf_add(&got[0], p, n);
	return 0;
}

static void begin(enum channels_mode mode, bool closes)
{
	channels_init(&w, mode, closes, NULL);
	w.mux.put = put;
	w.mux.room = room;
	w.mux.user = &user;
	w.tunnel = on_tunnel;
	for (uint32_t i = 0; i < 4; i++) {
		mux_add(&w.mux, i);
		strbuf_fini(&got[i]);
		ended[i] = 0;
	}
	strbuf_fini(&out);
	err = ERR_NULL;
}

static void add(struct strbuf *b, enum ws_op op, bool fin, const void *p, size_t n)
{
	const uint8_t key[WS_KEY_SIZE] = {1, 2, 3, 4};
	uint8_t head[WS_HEADER_MAX];

	strbuf_add(b, head, ws_put_header(head, op, fin, n, key));
	strbuf_add(b, p, n);
	ws_mask((uint8_t *)b->s + b->len - n, n, key, 0);
}

static int feed(struct strbuf *b, size_t step)
{
	int r = 0;

	for (size_t i = 0; i < b->len && r == 0; i += step)
		r = channels_feed(&w, (uint8_t *)b->s + i, MIN(step, b->len - i), &err);
	strbuf_reset(b);
	return r;
}

static void test_binary(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	for (size_t step = 1; step < 40; step++) {
		begin(CHANNELS_BINARY, true);
		add(&b, WS_BINARY, true, "\0one", 4);
		add(&b, WS_BINARY, false, "\2t", 2);
		add(&b, WS_PING, true, "?", 1);
		add(&b, WS_CONTINUATION, false, "w", 1);
		add(&b, WS_CONTINUATION, true, "o", 1);
		add(&b, WS_BINARY, true, "", 0);
		add(&b, WS_BINARY, false, "", 0);
		add(&b, WS_CONTINUATION, true, "\0!", 2);
		add(&b, WS_BINARY, true, "\77 nobody's", 10);
		add(&b, WS_BINARY, true, "\377\0", 2);
		add(&b, WS_BINARY, true, "\0 after its end", 15);
		CHECK_INT(feed(&b, step), 0);
		CHECK(got[0].len == 4 && memcmp(got[0].s, "one!", 4) == 0);
		CHECK(got[2].len == 3 && memcmp(got[2].s, "two", 3) == 0);
		CHECK(ended[0] == 1 && ended[2] == 0);
		CHECK(out.len == 3 && memcmp(out.s, "\x8a\1?", 3) == 0);
		channels_fini(&w);
	}
}

static void test_base64(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	for (size_t step = 1; step < 30; step++) {
		begin(CHANNELS_BASE64, false);
		add(&b, WS_TEXT, true, "0b25l", 5);
		add(&b, WS_TEXT, false, "0dH", 3);
		add(&b, WS_CONTINUATION, true, "dv/w==", 6);
		add(&b, WS_TEXT, true, "1", 1);
		add(&b, WS_TEXT, true, "1eHg=", 5);
		CHECK_INT(feed(&b, step), 0);
		CHECK(got[0].len == 7 && memcmp(got[0].s, "onetwo\377", 7) == 0);
		CHECK(got[1].len == 2 && memcmp(got[1].s, "xx", 2) == 0);
		channels_fini(&w);
	}
	begin(CHANNELS_BASE64, false);
	mux_send(mux_find(&w.mux, 2), "any", 3, false);
	CHECK(out.len == 7 && memcmp(out.s,
				     "\x81\5"
				     "2YW55",
				     7) == 0);
	channels_fini(&w);
}

static void broken(enum channels_mode mode, struct strbuf *b, int code)
{
	CHECK_INT(feed(b, 1000), -EPROTO);
	CHECK(err.msg[0]);
	CHECK((uint8_t)out.s[0] == 0x88 && (uint8_t)out.s[2] << 8 | (uint8_t)out.s[3]);
	CHECK_INT((uint8_t)out.s[2] << 8 | (uint8_t)out.s[3], code);
	channels_fini(&w);
	begin(mode, true);
}

static void test_what_is_broken(void)
{
	static const char *const bad[] = {"0b25", "0b2=l", "0====", "0b2==b25l", "0b-5l"};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	begin(CHANNELS_BASE64, true);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		add(&b, WS_TEXT, true, bad[i], strlen(bad[i]));
		broken(CHANNELS_BASE64, &b, WS_BAD_DATA);
	}
	channels_fini(&w);
	begin(CHANNELS_BINARY, true);
	add(&b, WS_BINARY, true, "\377", 1);
	broken(CHANNELS_BINARY, &b, WS_PROTOCOL_ERROR);
	add(&b, WS_BINARY, true, "\377\1\1", 3);
	broken(CHANNELS_BINARY, &b, WS_PROTOCOL_ERROR);
	add(&b, WS_BINARY, true, "\377\11", 2);
	broken(CHANNELS_BINARY, &b, WS_PROTOCOL_ERROR);
	strbuf_add(&b, "\x82\1x", 3); /* not masked */
	broken(CHANNELS_TUNNEL, &b, WS_PROTOCOL_ERROR);
	add(&b, WS_TEXT, true, "x", 1);
	broken(CHANNELS_TUNNEL, &b, WS_UNSUPPORTED);
	channels_fini(&w);
}

static void test_tunnel(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	begin(CHANNELS_TUNNEL, false);
	add(&b, WS_BINARY, true, "\200\3", 2);
	add(&b, WS_BINARY, true, "", 0);
	add(&b, WS_BINARY, true, "\0\1", 2);
	CHECK_INT(feed(&b, 7), 0);
	CHECK(got[0].len == 4 && memcmp(got[0].s, "\200\3\0\1", 4) == 0);
	channels_put(&w, "ab", 2, "c", 1);
	CHECK(out.len == 5 && memcmp(out.s,
				     "\x82\3"
				     "abc",
				     5) == 0);
	channels_fini(&w);
}

static void test_goodbyes(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	begin(CHANNELS_BINARY, false);
	channels_greet(mux_find(&w.mux, 1));
	CHECK(out.len == 3 && memcmp(out.s, "\x82\1\1", 3) == 0);
	strbuf_reset(&out);
	add(&b, WS_CLOSE, true, "\3\350", 2);
	CHECK_INT(feed(&b, 100), -EPIPE);
	CHECK(out.len == 4 && memcmp(out.s, "\x88\2\3\350", 4) == 0);
	mux_finish(&w.mux);
	CHECK_INT(out.len, 4); /* once */
	channels_fini(&w);
}

int main(void)
{
	TEST(binary);
	TEST(base64);
	TEST(what_is_broken);
	TEST(tunnel);
	TEST(goodbyes);
	return test_done();
}
