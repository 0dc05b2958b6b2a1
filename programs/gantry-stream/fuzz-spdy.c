/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes of a client, cut anywhere: streams keep their order (open, data, end, closed), and the
 * session sends, takes and resets as the bytes have it.  The first byte says where they are cut, and
 * with its highest bit that they come without compression, which no fuzzer would find out.
 */
#include "base/fuzz.h"
#include "base/mem.h"
#include "spdy.h"
#include "spdy_dictionary.h"

#define CONTROL_SYN_STREAM 0x80030001u

static unsigned open_streams;

static void put(struct mux *m, const void *head, size_t n_head, const void *p, size_t n)
{
	FUZZ_ASSERT(n_head >= 8);
	*(size_t *)m->out += n_head + n;
}

static size_t room(struct mux *m)
{
	return 4096;
}

static int on_open(struct mux *m, struct chan *c)
{
	FUZZ_ASSERT(c->id % 2 && !c->dead && strlen(c->request) < CHAN_REQUEST_MAX);
	open_streams++;
	return c->port == 13 ? -EINVAL : 0;
}

static void on_data(struct mux *m, struct chan *c, const uint8_t *p, size_t n)
{
	static const uint8_t answer[64];

	FUZZ_ASSERT(n && !c->in_ended && !c->dead);
	if (p[0] == 'r')
		mux_reset(c);
	else if (p[0] == 's')
		mux_send(c, answer, MIN(sizeof(answer), mux_room(c)), false);
	else if (p[0] == 'f')
		mux_send(c, NULL, 0, true);
	mux_taken(c, n);
}

static void on_end(struct mux *m, struct chan *c)
{
	FUZZ_ASSERT(!c->dead);
}

static void on_closed(struct mux *m, struct chan *c)
{
	FUZZ_ASSERT(c->dead && open_streams);
	open_streams--;
}

static void on_room(struct mux *m)
{
	struct chan *c;

	list_for_each (c, &m->chans, link)
		(void)mux_room(c);
}

static void on_leave(struct mux *m)
{
	FUZZ_ASSERT(m->leaving);
}

static const struct mux_user user = {on_open, on_data, on_end, on_closed, on_room, on_leave};

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Frames as they are, but of SYN_STREAM the header block is compressed. */
static void compress_blocks(const uint8_t *p, size_t n, struct strbuf *to)
{
	z_stream z = {0};

	deflateInit(&z, Z_BEST_SPEED);
	deflateSetDictionary(&z, (const Bytef *)spdy_dictionary, SPDY_DICTIONARY_SIZE);
	while (n >= 8) {
		size_t len = MIN(n - 8, (size_t)(get32(p + 4) & 0xffffff)), at = to->len;

		if (get32(p) == CONTROL_SYN_STREAM && len > 10) {
			size_t max = deflateBound(&z, len) + 64;

			strbuf_add(to, p, 18);
			z.next_in = (Bytef *)(uintptr_t)p + 18;
			z.avail_in = (uInt)(len - 10);
			z.next_out = (Bytef *)strbuf_reserve(to, max);
			z.avail_out = (uInt)max;
			deflate(&z, Z_SYNC_FLUSH);
			to->len += max - z.avail_out;
			to->s[at + 5] = (char)((to->len - at - 8) >> 16);
			to->s[at + 6] = (char)((to->len - at - 8) >> 8);
			to->s[at + 7] = (char)(to->len - at - 8);
		} else {
			strbuf_add(to, p, 8 + len);
		}
		p += 8 + len;
		n -= 8 + len;
	}
	strbuf_add(to, p, n);
	deflateEnd(&z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	size_t sent = 0, step;
	struct spdy s;
	int r = 0;

	if (size < 2)
		return 0;
	step = 1 + (data[0] & 0x7f);
	if (data[0] & 0x80)
		compress_blocks(data + 1, size - 1, &b);
	else
		strbuf_add(&b, data + 1, size - 1);
	open_streams = 0;
	spdy_init(&s, NULL);
	s.mux.put = put;
	s.mux.room = room;
	s.mux.user = &user;
	s.mux.out = &sent;
	for (size_t i = 0; i < b.len && r == 0; i += step) {
		r = spdy_feed(&s, (const uint8_t *)b.s + i, MIN(step, b.len - i), &e);
		FUZZ_ASSERT(r == 0 || (r == -EPROTO && e.msg[0] && s.mux.finished));
		mux_reap(&s.mux);
		/* A stream whose header is broken has not been shown to the user. */
		FUZZ_ASSERT(s.mux.n_chans <= MUX_STREAMS_MAX &&
			    s.mux.n_chans <= open_streams + (r < 0));
		FUZZ_ASSERT(s.frame.len <= SPDY_CONTROL_MAX);
	}
	mux_finish(&s.mux);
	spdy_fini(&s);
	return 0;
}
