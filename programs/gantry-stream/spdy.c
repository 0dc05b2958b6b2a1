/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY/3.1 of a server: see spdy.h.  Numbers are sections of the draft. */
#include "spdy.h"

#include "base/mem.h"
#include "spdy_dictionary.h"

#define VERSION 3
#define FLAG_FIN 1
#define FLAG_UNIDIRECTIONAL 2
#define SETTING_INITIAL_WINDOW 7
#define TELL_AFTER (SPDY_WINDOW / 2) /* bytes taken, for a WINDOW_UPDATE */

enum { /* 2.6 */
       SYN_STREAM = 1,
       SYN_REPLY = 2,
       RST_STREAM = 3,
       SETTINGS = 4,
       PING = 6,
       GOAWAY = 7,
       HEADERS = 8,
       WINDOW_UPDATE = 9,
};

enum { /* 2.6.3 */
       RST_PROTOCOL_ERROR = 1,
       RST_INVALID_STREAM = 2,
       RST_REFUSED_STREAM = 3,
       RST_CANCEL = 5,
       RST_FLOW_CONTROL_ERROR = 7,
       RST_STREAM_ALREADY_CLOSED = 9,
};

enum { GOAWAY_OK = 0, GOAWAY_PROTOCOL_ERROR = 1 }; /* 2.6.6 */

static struct spdy *of(struct mux *m)
{
	return container_of(m, struct spdy, mux);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* --- frames that go out --- */

static void put_control(struct spdy *s, uint16_t type, const uint8_t *p, size_t n)
{
	uint8_t head[8] = {0x80, VERSION, 0, (uint8_t)type};

	put32(head + 4, (uint32_t)n); /* no flags */
	s->mux.put(&s->mux, head, sizeof(head), p, n);
}

static void put_two(struct spdy *s, uint16_t type, uint32_t a, uint32_t b)
{
	uint8_t p[8];

	put32(p, a);
	put32(p + 4, b);
	put_control(s, type, p, sizeof(p));
}

/*
 * Without header fields.  Compression is none: the block is stored, in a zlib stream (RFC 1950) that
 * begins with the first one, and an empty stored block ends each so that readers have all of it.
 */
static void put_reply(struct spdy *s, uint32_t id)
{
	static const uint8_t block[] = {0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	uint8_t p[4 + 6 + sizeof(block)];
	size_t n = 4;

	put32(p, id);
	if (!s->replied) {
		p[n++] = 0x78;
		p[n++] = 0x20; /* with a dictionary */
		put32(p + n, (uint32_t)adler32(adler32(0, NULL, 0), (const Bytef *)spdy_dictionary,
					       SPDY_DICTIONARY_SIZE));
		n += 4;
		s->replied = true;
	}
	memcpy(p + n, block, sizeof(block));
	put_control(s, SYN_REPLY, p, n + sizeof(block));
}

static void op_send(struct chan *c, const uint8_t *p, size_t n, bool fin)
{
	struct spdy *s = of(c->mux);
	uint8_t head[8];

	put32(head, c->id);
	put32(head + 4, (uint32_t)n | (fin ? FLAG_FIN << 24 : 0));
	s->sent += n;
	s->mux.put(&s->mux, head, sizeof(head), p, n);
}

static void op_reset(struct chan *c)
{
	put_two(of(c->mux), RST_STREAM, c->id, RST_CANCEL);
}

static void op_taken(struct chan *c)
{
	if (c->taken < TELL_AFTER)
		return;
	put_two(of(c->mux), WINDOW_UPDATE, c->id, c->taken);
	c->told += c->taken;
	c->taken = 0;
}

static size_t op_window(const struct chan *c)
{
	const struct spdy *s = of(c->mux);
	int64_t stream = s->peer_window + (int64_t)(c->granted - c->sent),
		all = SPDY_WINDOW + (int64_t)(s->granted - s->sent);

	if (!s->windows || s->overrun)
		return MUX_WINDOW_MAX;
	return stream > 0 && all > 0 ? (size_t)MIN(stream, all) : 0;
}

static void op_finish(struct mux *m)
{
	put_two(of(m), GOAWAY, of(m)->last_id, of(m)->failed ? GOAWAY_PROTOCOL_ERROR : GOAWAY_OK);
}

static const struct mux_ops ops = {
	.send = op_send,
	.reset = op_reset,
	.taken = op_taken,
	.window = op_window,
	.finish = op_finish,
};

/* --- header blocks (2.6.10) --- */

static int inflate_block(struct spdy *s, const uint8_t *p, size_t n, uint8_t *out, size_t *ret_n,
			 struct err *e)
{
	z_stream *z = &s->inflate;
	int r;

	if (!s->inflating && inflateInit(z) != Z_OK)
		abort();
	s->inflating = true;
	z->next_in = (Bytef *)(uintptr_t)p;
	z->avail_in = (uInt)n;
	z->next_out = out;
	z->avail_out = SPDY_HEADERS_MAX;
	r = inflate(z, Z_SYNC_FLUSH);
	if (r == Z_NEED_DICT) {
		r = inflateSetDictionary(z, (const Bytef *)spdy_dictionary, SPDY_DICTIONARY_SIZE);
		if (r == Z_OK)
			r = inflate(z, Z_SYNC_FLUSH);
	}
	if ((r != Z_OK && r != Z_BUF_ERROR) || z->avail_in || !z->avail_out)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
			       r == Z_OK || r == Z_BUF_ERROR
				       ? "a header block has more than %d bytes"
				       : "a header block cannot be decompressed (at most %d bytes)",
			       SPDY_HEADERS_MAX);
	*ret_n = SPDY_HEADERS_MAX - z->avail_out;
	return 0;
}

struct reader {
	const uint8_t *p;
	size_t n;
};

/* A length and as many bytes. */
static bool get_text(struct reader *r, const char **ret, size_t *ret_n)
{
	size_t n;

	if (r->n < 4)
		return false;
	n = get32(r->p);
	if (n > r->n - 4)
		return false;
	*ret = (const char *)r->p + 4;
	*ret_n = n;
	r->p += 4 + n;
	r->n -= 4 + n;
	return true;
}

static bool is(const char *p, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(p, word, n) == 0;
}

static enum chan_kind kind_of(const char *p, size_t n)
{
	static const char *const names[] = {
		[CHAN_ERROR] = "error",	  [CHAN_STDIN] = "stdin",   [CHAN_STDOUT] = "stdout",
		[CHAN_STDERR] = "stderr", [CHAN_RESIZE] = "resize", [CHAN_DATA] = "data"};

	for (size_t i = CHAN_ERROR; i < ARRAY_SIZE(names); i++)
		if (is(p, n, names[i]))
			return (enum chan_kind)i;
	return CHAN_UNKNOWN;
}

/* What a value says goes to the stream; `c` may be NULL. */
static void take_field(struct chan *c, const char *name, size_t n_name, const char *v, size_t n)
{
	char number[8] = "";
	uint64_t port;

	if (!c)
		return;
	if (is(name, n_name, "streamtype"))
		c->kind = kind_of(v, n);
	if (is(name, n_name, "port") && n < sizeof(number)) {
		memcpy(number, v, n);
		if (str_to_u64(number, &port) && port <= UINT16_MAX)
			c->port = (uint16_t)port;
	}
	if (is(name, n_name, "requestid") && n < sizeof(c->request) && !memchr(v, '\0', n)) {
		memcpy(c->request, v, n);
		c->request[n] = '\0';
	}
}

static int read_headers(struct spdy *s, const uint8_t *p, size_t n, struct chan *c, struct err *e)
{
	uint8_t out[SPDY_HEADERS_MAX];
	struct reader rd = {.p = out};
	const char *name, *value;
	size_t n_name, n_value;
	uint32_t fields;
	int r = inflate_block(s, p, n, out, &rd.n, e);

	if (r < 0)
		return r;
	if (rd.n < 4)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "a header block ends too soon");
	fields = get32(rd.p);
	rd.p += 4;
	rd.n -= 4;
	if (fields > SPDY_FIELDS_MAX)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
			       "a stream has more than %d header fields", SPDY_FIELDS_MAX);
	while (fields--) {
		if (!get_text(&rd, &name, &n_name) || !get_text(&rd, &value, &n_value))
			return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
				       "a header block ends too soon");
		take_field(c, name, n_name, value, n_value);
	}
	return 0;
}

/* --- frames that come --- */

static int broken(struct err *e, const char *what)
{
	return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "a %s frame is malformed", what);
}

static int on_syn_stream(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	uint32_t id;
	struct chan *c;
	int r;

	if (n < 10)
		return broken(e, "SYN_STREAM");
	id = get32(p) & INT32_MAX;
	if (id % 2 == 0 || id <= s->last_id) /* 2.3.2 */
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "stream %u comes after stream %u",
			       id, s->last_id);
	s->last_id = id;
	if (s->mux.leaving || s->mux.n_chans >= MUX_STREAMS_MAX ||
	    (s->flags & FLAG_UNIDIRECTIONAL)) {
		r = read_headers(s, p + 10, n - 10, NULL, e);
		if (r == 0)
			put_two(s, RST_STREAM, id, RST_REFUSED_STREAM);
		return r;
	}
	c = mux_add(&s->mux, id);
	r = read_headers(s, p + 10, n - 10, c, e);
	if (r < 0)
		return r;
	if (s->mux.user->open(&s->mux, c) < 0) {
		put_two(s, RST_STREAM, id, RST_REFUSED_STREAM);
		mux_drop(c);
		return 0;
	}
	put_reply(s, id);
	if (s->flags & FLAG_FIN)
		mux_in_end(c);
	return 0;
}

static int on_headers(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	struct chan *c;
	int r;

	if (n < 4)
		return broken(e, "HEADERS");
	r = read_headers(s, p + 4, n - 4, NULL, e); /* they have no meaning here, but a length */
	c = mux_find(&s->mux, get32(p) & INT32_MAX);
	if (r == 0 && c && s->type == HEADERS && (s->flags & FLAG_FIN))
		mux_in_end(c);
	return r;
}

static int on_rst(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	struct chan *c;

	if (n != 8)
		return broken(e, "RST_STREAM");
	c = mux_find(&s->mux, get32(p) & INT32_MAX);
	if (!c)
		return 0;
	mux_in_end(c);
	mux_drop(c);
	return 0;
}

static int on_settings(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	uint32_t k = n < 4 ? 0 : get32(p);

	if (n < 4 || k != (n - 4) / 8 || n != 4 + (size_t)k * 8)
		return broken(e, "SETTINGS");
	for (p += 4; k--; p += 8) {
		if ((get32(p) & 0xffffff) != SETTING_INITIAL_WINDOW)
			continue;
		if (get32(p + 4) > INT32_MAX)
			return broken(e, "SETTINGS");
		s->windows = true;
		s->peer_window = get32(p + 4);
		s->mux.user->room(&s->mux);
	}
	return 0;
}

static int on_window_update(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	uint32_t id, delta;
	struct chan *c;

	if (n != 8)
		return broken(e, "WINDOW_UPDATE");
	id = get32(p) & INT32_MAX;
	delta = get32(p + 4) & INT32_MAX;
	c = id ? mux_find(&s->mux, id) : NULL;
	if (!delta)
		return broken(e, "WINDOW_UPDATE");
	s->windows = true;
	if (!id) {
		s->granted += delta;
		if (SPDY_WINDOW + (int64_t)(s->granted - s->sent) > INT32_MAX)
			return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
				       "the session's window is larger than it can be");
	} else if (c) {
		c->granted += delta;
		if (s->peer_window + (int64_t)(c->granted - c->sent) > INT32_MAX) {
			put_two(s, RST_STREAM, id, RST_FLOW_CONTROL_ERROR);
			mux_drop(c);
		}
	}
	s->mux.user->room(&s->mux);
	return 0;
}

static int on_ping(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	if (n != 4)
		return broken(e, "PING");
	if (p[3] & 1) /* otherwise an answer, to nobody */
		put_control(s, PING, p, n);
	return 0;
}

static int on_control(struct spdy *s, struct err *e)
{
	const uint8_t *p = (const uint8_t *)s->frame.s;
	size_t n = s->frame.len;

	switch (s->type) {
	case SYN_STREAM:
		return on_syn_stream(s, p, n, e);
	case SYN_REPLY:
	case HEADERS:
		return on_headers(s, p, n, e);
	case RST_STREAM:
		return on_rst(s, p, n, e);
	case SETTINGS:
		return on_settings(s, p, n, e);
	case PING:
		return on_ping(s, p, n, e);
	case WINDOW_UPDATE:
		return on_window_update(s, p, n, e);
	case GOAWAY:
		s->mux.leaving = true;
		if (!s->mux.n_chans)
			s->mux.user->leave(&s->mux);
		return 0;
	default: /* 2.2.1 */
		return 0;
	}
}

/* A piece of a data frame; of a stream that is over it is thrown away. */
static int on_data(struct spdy *s, const uint8_t *p, size_t n, bool last, struct err *e)
{
	struct chan *c = mux_find(&s->mux, s->id);

	s->came += n;
	if (s->came - s->told >= TELL_AFTER) {
		put_two(s, WINDOW_UPDATE, 0, (uint32_t)(s->came - s->told));
		s->told = s->came;
	}
	if (!c && s->id > s->last_id)
		put_two(s, RST_STREAM, s->id, RST_INVALID_STREAM);
	if (!c)
		return 0;
	if (c->in_ended) {
		put_two(s, RST_STREAM, s->id, RST_STREAM_ALREADY_CLOSED);
		mux_drop(c);
		return 0;
	}
	c->came += n;
	if (c->came > SPDY_WINDOW + c->told && !s->overrun) {
		s->overrun = true;
		s->mux.user->room(&s->mux);
	}
	if (n)
		mux_data(c, p, n);
	if (last && (s->flags & FLAG_FIN))
		mux_in_end(c);
	return 0;
}

static int begin_frame(struct spdy *s, struct err *e)
{
	s->control = s->head[0] & 0x80;
	s->flags = s->head[4];
	s->left = get32(s->head + 4) & 0xffffff;
	strbuf_reset(&s->frame);
	if (!s->control) {
		s->id = get32(s->head) & INT32_MAX;
		if (!s->id)
			return broken(e, "data");
		return s->left ? 0 : on_data(s, NULL, 0, true, e);
	}
	s->type = (uint16_t)get32(s->head);
	if ((get32(s->head) >> 16 & 0x7fff) != VERSION)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "a frame is not of SPDY/3.1");
	if (s->left > SPDY_CONTROL_MAX)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
			       "a control frame has more than %d bytes", SPDY_CONTROL_MAX);
	return s->left ? 0 : on_control(s, e);
}

/* Some bytes, of one frame. Returns how many, or -EPROTO. */
static ssize_t feed_some(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	size_t k;
	int r = 0;

	if (s->n_head < sizeof(s->head)) {
		k = MIN(n, sizeof(s->head) - s->n_head);
		memcpy(s->head + s->n_head, p, k);
		s->n_head += (unsigned)k;
		if (s->n_head == sizeof(s->head))
			r = begin_frame(s, e);
	} else {
		k = MIN(n, (size_t)s->left);
		s->left -= (uint32_t)k;
		if (!s->control) {
			r = on_data(s, p, k, !s->left, e);
		} else {
			strbuf_add(&s->frame, p, k);
			if (!s->left)
				r = on_control(s, e);
		}
	}
	if (s->n_head == sizeof(s->head) && !s->left)
		s->n_head = 0;
	return r < 0 ? r : (ssize_t)k;
}

int spdy_feed(struct spdy *s, const uint8_t *p, size_t n, struct err *e)
{
	while (n && !s->mux.finished) {
		ssize_t k = feed_some(s, p, n, e);

		if (k < 0) {
			s->failed = true;
			mux_finish(&s->mux);
			return (int)k;
		}
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

void spdy_init(struct spdy *s, struct loop *loop)
{
	*s = (struct spdy){.peer_window = SPDY_WINDOW};
	mux_init(&s->mux, &ops, loop);
}

void spdy_fini(struct spdy *s)
{
	mux_fini(&s->mux);
	strbuf_fini(&s->frame);
	if (s->inflating)
		inflateEnd(&s->inflate);
	s->inflating = false;
}
