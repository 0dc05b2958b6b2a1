/* SPDX-License-Identifier: Apache-2.0 */
/* The server's SPDY against a client's bytes, which are made here. */
#include "base/mem.h"
#include "base/test.h"
#include "spdy.h"
#include "spdy_dictionary.h"

enum { SYN_STREAM = 1, SYN_REPLY = 2, RST = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, UPDATE = 9 };

/* --- the server --- */

static struct spdy s;
static struct strbuf out, got; /* frames; what the streams brought */
static struct chan *last;
static unsigned opened, ended, closed, roomed, left;
static bool refuse;
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

static int on_open(struct mux *m, struct chan *c)
{
	opened++;
	last = c;
	return refuse ? -EINVAL : 0;
}

static void on_data(struct mux *m, struct chan *c, const uint8_t *p, size_t n)
{
	strbuf_add(&got, p, n);
}

static void on_end(struct mux *m, struct chan *c)
{
	ended++;
}

static void on_closed(struct mux *m, struct chan *c)
{
	closed++;
}

static void on_room(struct mux *m)
{
	roomed++;
}

static void on_leave(struct mux *m)
{
	left++;
}

static const struct mux_user user = {on_open, on_data, on_end, on_closed, on_room, on_leave};

/* --- the client --- */

static z_stream deflater, inflater;

static void begin(void)
{
	deflater = inflater = (z_stream){0};
	deflateInit(&deflater, Z_DEFAULT_COMPRESSION);
	deflateSetDictionary(&deflater, (const Bytef *)spdy_dictionary, SPDY_DICTIONARY_SIZE);
	inflateInit(&inflater);
	spdy_init(&s, NULL);
	s.mux.put = put;
	s.mux.room = room;
	s.mux.user = &user;
	opened = ended = closed = roomed = left = 0;
	refuse = false;
	err = ERR_NULL;
}

static void end(void)
{
	deflateEnd(&deflater);
	inflateEnd(&inflater);
	spdy_fini(&s);
	spdy_fini(&s);
	strbuf_fini(&out);
	strbuf_fini(&got);
}

static void add32(struct strbuf *b, uint32_t v)
{
	const uint8_t p[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	strbuf_add(b, p, sizeof(p));
}

static void add_frame(struct strbuf *b, unsigned type, unsigned flags, const struct strbuf *body)
{
	add32(b, 0x80030000u | type);
	add32(b, flags << 24 | (uint32_t)body->len);
	strbuf_add(b, body->s, body->len);
}

static void add_text(struct strbuf *b, const char *text)
{
	add32(b, (uint32_t)strlen(text));
	strbuf_adds(b, text);
}

static void add_syn(struct strbuf *b, uint32_t id, unsigned flags, const struct strbuf *raw)
{
	_cleanup_strbuf_ struct strbuf body = STRBUF_NULL;
	size_t max = deflateBound(&deflater, raw->len) + 64;

	add32(&body, id);
	add32(&body, 0);
	strbuf_add(&body, "\0\0", 2);
	deflater.next_in = (Bytef *)raw->s;
	deflater.avail_in = (uInt)raw->len;
	deflater.next_out = (Bytef *)strbuf_reserve(&body, max);
	deflater.avail_out = (uInt)max;
	CHECK_INT(deflate(&deflater, Z_SYNC_FLUSH), Z_OK);
	body.len += max - deflater.avail_out;
	add_frame(b, SYN_STREAM, flags, &body);
}

static void add_stream(struct strbuf *b, uint32_t id, unsigned flags, const char *type)
{
	_cleanup_strbuf_ struct strbuf raw = STRBUF_NULL;

	add32(&raw, 3);
	add_text(&raw, "streamtype");
	add_text(&raw, type);
	add_text(&raw, "port");
	add_text(&raw, "8080");
	add_text(&raw, "requestid");
	add_text(&raw, "17");
	add_syn(b, id, flags, &raw);
}

static void add_two(struct strbuf *b, unsigned type, uint32_t x, uint32_t y)
{
	_cleanup_strbuf_ struct strbuf body = STRBUF_NULL;

	add32(&body, x);
	add32(&body, y);
	add_frame(b, type, 0, &body);
}

static void add_data(struct strbuf *b, uint32_t id, unsigned flags, const void *p, size_t n)
{
	add32(b, id);
	add32(b, flags << 24 | (uint32_t)n);
	strbuf_add(b, p, n);
}

static int feed(struct strbuf *b)
{
	int r = spdy_feed(&s, (const uint8_t *)b->s, b->len, &err);

	strbuf_reset(b);
	mux_reap(&s.mux);
	return r;
}

static uint32_t word(size_t at)
{
	const uint8_t *p = (const uint8_t *)out.s + at;

	return at + 4 > out.len
		       ? 0
		       : (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Takes the next frame off: true where it is that control frame. */
static bool said(unsigned type, uint32_t first, uint32_t second)
{
	bool same = word(0) == (0x80030000u | type) && word(8) == first &&
		    (second == UINT32_MAX || word(12) == second);
	size_t n = 8 + (word(4) & 0xffffff);

	if (out.len < n)
		return false;
	out.len -= n;
	memmove(out.s, out.s + n, out.len);
	return same;
}

static bool replied(uint32_t id)
{
	uint8_t block[64];

	inflater.next_in = (Bytef *)out.s + 12;
	inflater.avail_in = (uInt)(word(4) & 0xffffff) - 4;
	inflater.next_out = block;
	inflater.avail_out = sizeof(block);
	if (inflate(&inflater, Z_SYNC_FLUSH) == Z_NEED_DICT) {
		inflateSetDictionary(&inflater, (const Bytef *)spdy_dictionary,
				     SPDY_DICTIONARY_SIZE);
		inflate(&inflater, Z_SYNC_FLUSH);
	}
	return sizeof(block) - inflater.avail_out == 4 && memcmp(block, "\0\0\0\0", 4) == 0 &&
	       said(SYN_REPLY, id, UINT32_MAX);
}

/* --- tests --- */

static void test_streams(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	begin();
	add_stream(&b, 1, 0, "stdin");
	add_stream(&b, 3, 1, "error");
	add_data(&b, 1, 0, "some", 4);
	add_data(&b, 1, 1, "more", 4);
	for (size_t i = 0; i < b.len; i++) /* wherever it is cut */
		CHECK_INT(spdy_feed(&s, (const uint8_t *)b.s + i, 1, &err), 0);
	CHECK_INT(opened, 2);
	CHECK_INT(ended, 2);
	CHECK(last->kind == CHAN_ERROR && last->port == 8080 && streq(last->request, "17"));
	CHECK_INT(got.len, 8);
	CHECK(memcmp(got.s, "somemore", 8) == 0);
	CHECK(replied(1) && replied(3) && out.len == 0);
	mux_send(last, "bye", 3, true);
	CHECK(word(0) == 3 && word(4) == (1 << 24 | 3) && memcmp(out.s + 8, "bye", 3) == 0);
	mux_reap(&s.mux);
	CHECK_INT(closed, 1);
	CHECK_INT(s.mux.n_chans, 1);
	end();
}

static void test_what_is_refused(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	begin();
	refuse = true;
	add_stream(&b, 1, 0, "x");
	CHECK_INT(feed(&b), 0);
	CHECK(said(RST, 1, 3));
	refuse = false;
	add_stream(&b, 3, 2, "data"); /* of one direction */
	add_data(&b, 99, 0, "x", 1);  /* of none */
	add_data(&b, 1, 0, "x", 1);   /* of one that is over: it was on its way */
	CHECK_INT(feed(&b), 0);
	CHECK(said(RST, 3, 3) && said(RST, 99, 2) && out.len == 0);
	add_stream(&b, 5, 1, "data");
	add_data(&b, 5, 0, "x", 1); /* after its end */
	CHECK_INT(feed(&b), 0);
	CHECK(replied(5) && said(RST, 5, 9));
	CHECK_INT(closed, 2);
	for (uint32_t i = 0; i <= MUX_STREAMS_MAX; i++)
		add_stream(&b, 7 + 2 * i, 0, "data");
	CHECK_INT(feed(&b), 0);
	CHECK_INT(s.mux.n_chans, MUX_STREAMS_MAX);
	for (uint32_t i = 0; i < MUX_STREAMS_MAX; i++)
		CHECK(replied(7 + 2 * i));
	CHECK(said(RST, 7 + 2 * MUX_STREAMS_MAX, 3));
	end();
}

static void broken(struct strbuf *b, const char *why)
{
	CHECK_INT(feed(b), -EPROTO);
	CHECK(strstr(err.msg, why));
	CHECK(out.len >= 16);
	memmove(out.s, out.s + out.len - 16, 16);
	out.len = 16;
	CHECK(word(0) == (0x80030000u | GOAWAY) && word(12) == 1);
	CHECK_INT(spdy_feed(&s, (const uint8_t *)"xxxxxxxxxxxx", 12, &err), 0); /* passed over */
	end();
	begin();
}

static void test_what_is_broken(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, raw = STRBUF_NULL;

	begin();
	add_stream(&b, 2, 0, "data");
	broken(&b, "stream 2 comes after stream 0");
	add_stream(&b, 3, 0, "data");
	add_stream(&b, 3, 0, "data");
	broken(&b, "stream 3 comes after stream 3");
	add_data(&b, 0, 0, "x", 1);
	broken(&b, "data");
	add32(&b, 0x80020001);
	add32(&b, 0);
	broken(&b, "not of SPDY/3.1");
	add32(&b, 0x80030001);
	add32(&b, SPDY_CONTROL_MAX + 1);
	broken(&b, "control frame has more than");
	strbuf_adds(&raw, "0123456789 this is not compressed");
	raw.s[0] = raw.s[1] = raw.s[2] = 0;
	raw.s[3] = 1;
	add_frame(&b, SYN_STREAM, 0, &raw);
	broken(&b, "cannot be decompressed");
	strbuf_reset(&raw);
	add32(&raw, 1);
	add32(&raw, 1000000);
	add_syn(&b, 1, 0, &raw);
	broken(&b, "ends too soon");
	strbuf_reset(&raw);
	add32(&raw, SPDY_FIELDS_MAX + 1);
	add_syn(&b, 1, 0, &raw);
	broken(&b, "header fields");
	strbuf_reset(&raw);
	add32(&raw, 0);
	while (raw.len <= SPDY_HEADERS_MAX)
		strbuf_addc(&raw, 'x');
	add_syn(&b, 1, 0, &raw); /* a few bytes of deflate */
	CHECK(b.len < 200);
	broken(&b, "bytes");
	add_two(&b, UPDATE, 0, 0);
	broken(&b, "WINDOW_UPDATE");
	add_two(&b, UPDATE, 0, INT32_MAX);
	broken(&b, "window is larger");
	add_two(&b, SETTINGS, 2, 0);
	broken(&b, "SETTINGS");
	add_two(&b, PING, 1, 1);
	broken(&b, "PING");
	end();
}

static void test_small_frames(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, body = STRBUF_NULL;

	begin();
	add32(&body, 7);
	add_frame(&b, PING, 0, &body);
	body.s[3] = 8; /* an answer */
	add_frame(&b, PING, 0, &body);
	add_frame(&b, 77, 0, &body); /* of no known type */
	add_stream(&b, 1, 0, "data");
	add_two(&b, RST, 1, 5);
	CHECK_INT(feed(&b), 0);
	CHECK(said(PING, 7, UINT32_MAX) && replied(1) && out.len == 0);
	CHECK(ended == 1 && closed == 1);
	add_stream(&b, 3, 0, "data");
	add_two(&b, GOAWAY, 0, 0);
	add_stream(&b, 5, 0, "data"); /* after a goodbye */
	CHECK_INT(feed(&b), 0);
	CHECK(replied(3) && said(RST, 5, 3) && left == 0);
	mux_reset(mux_find(&s.mux, 3));
	mux_reap(&s.mux);
	CHECK(said(RST, 3, 5) && left > 0);
	mux_finish(&s.mux);
	CHECK(said(GOAWAY, 5, 0));
	end();
}

static void test_windows(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, body = STRBUF_NULL;
	static uint8_t some[SPDY_WINDOW];

	begin();
	add_stream(&b, 1, 0, "data");
	CHECK_INT(feed(&b), 0);
	CHECK(replied(1));
	CHECK(mux_room(last) == 1 << 20); /* no windows */
	add32(&body, 1);
	add32(&body, 7);
	add32(&body, 1000);
	add_frame(&b, SETTINGS, 0, &body);
	CHECK_INT(feed(&b), 0);
	CHECK(mux_room(last) == 1000 && roomed == 1);
	mux_send(last, some, 1000, false);
	strbuf_reset(&out);
	CHECK(mux_room(last) == 0);
	add_two(&b, UPDATE, 1, 70000);
	CHECK_INT(feed(&b), 0);
	CHECK(mux_room(last) == SPDY_WINDOW - 1000 && roomed == 2); /* the session's */
	add_two(&b, UPDATE, 0, 70000);
	CHECK_INT(feed(&b), 0);
	CHECK(mux_room(last) == 70000 && roomed == 3);
	/* Ours: of the session as bytes come, of the stream as they are taken. */
	add_data(&b, 1, 0, some, SPDY_WINDOW);
	CHECK_INT(feed(&b), 0);
	CHECK(said(UPDATE, 0, SPDY_WINDOW) && out.len == 0);
	mux_taken(last, SPDY_WINDOW / 2 - 1);
	CHECK(out.len == 0);
	mux_taken(last, 1);
	CHECK(said(UPDATE, 1, SPDY_WINDOW / 2));
	add_data(&b, 1, 0, some, SPDY_WINDOW / 2);
	CHECK_INT(feed(&b), 0);
	CHECK(mux_room(last) == 70000);
	add_data(&b, 1, 0, some, 1); /* beyond it */
	CHECK_INT(feed(&b), 0);
	CHECK(mux_room(last) == 1 << 20 && roomed == 4);
	add_two(&b, UPDATE, 1, INT32_MAX);
	CHECK_INT(feed(&b), 0);
	strbuf_reset(&body);
	CHECK_INT(closed, 1); /* FLOW_CONTROL_ERROR */
	end();
}

int main(void)
{
	TEST(streams);
	TEST(what_is_refused);
	TEST(what_is_broken);
	TEST(small_frames);
	TEST(windows);
	return test_done();
}
