/* SPDX-License-Identifier: Apache-2.0 */
/* Channels, or a tunnel, in WebSocket messages: see channels.h. */
#include "channels.h"

#include "base/mem.h"

#define CLOSE_SIGNAL 255
#define PIECE_MAX 3072 /* bytes that are decoded at a time */

static struct channels *of(struct mux *m)
{
	return container_of(m, struct channels, mux);
}

static void put(struct channels *w, const void *head, size_t n_head, const void *p, size_t n)
{
	w->mux.put(&w->mux, head, n_head, p, n);
}

static void put_control(struct channels *w, enum ws_op op, const void *p, size_t n)
{
	uint8_t frame[WS_CLOSE_MAX];

	put(w, frame, ws_put_control(frame, op, p, n, NULL), NULL, 0);
}

static void put_close(struct channels *w, enum ws_code code, const char *reason)
{
	uint8_t frame[WS_CLOSE_MAX];

	if (!w->closed)
		put(w, frame, ws_put_close(frame, code, reason, NULL), NULL, 0);
	w->closed = true;
}

/* --- out --- */

static void put_message(struct chan *c, const uint8_t *p, size_t n)
{
	struct channels *w = of(c->mux);
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	uint8_t head[WS_HEADER_MAX + 1];
	size_t k;

	if (w->mode == CHANNELS_BASE64) {
		strbuf_add_base64(&text, p, n);
		p = (const uint8_t *)text.s;
		n = text.len;
	}
	k = ws_put_header(head, w->mode == CHANNELS_BASE64 ? WS_TEXT : WS_BINARY, true, n + 1,
			  NULL);
	head[k++] = (uint8_t)(w->mode == CHANNELS_BASE64 ? '0' + c->id : c->id);
	put(w, head, k, p, n);
}

/*
 * Before version 5 there is no end of a channel: that of the connection has to do.  Clients of exec
 * and attach know none from this side in version 5 either; those of port-forward wait for it.
 */
static void op_send(struct chan *c, const uint8_t *p, size_t n, bool fin)
{
	const uint8_t signal[] = {CLOSE_SIGNAL, (uint8_t)c->id};
	uint8_t head[WS_HEADER_MAX];

	if (n)
		put_message(c, p, n);
	if (fin && of(c->mux)->closes && c->kind == CHAN_DATA)
		put(of(c->mux), head, ws_put_header(head, WS_BINARY, true, sizeof(signal), NULL),
		    signal, sizeof(signal));
}

static void op_nothing(struct chan *c)
{
}

static size_t op_window(const struct chan *c)
{
	return MUX_WINDOW_MAX;
}

static void op_finish(struct mux *m)
{
	put_close(of(m), WS_NORMAL, "");
}

static const struct mux_ops ops = {
	.send = op_send,
	.reset = op_nothing,
	.taken = op_nothing,
	.window = op_window,
	.finish = op_finish,
};

void channels_put(struct channels *w, const void *head, size_t n_head, const void *p, size_t n)
{
	uint8_t all[WS_HEADER_MAX + 64];
	size_t k = ws_put_header(all, WS_BINARY, true, n_head + n, NULL);

	if (n_head > sizeof(all) - k)
		abort();
	memcpy(all + k, head, n_head);
	put(w, all, k + n_head, p, n);
}

void channels_greet(struct chan *c)
{
	put_message(c, NULL, 0);
}

void channels_pong(struct channels *w)
{
	if (!w->closed)
		put_control(w, WS_PONG, NULL, 0);
}

/* --- in --- */

static int digit_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits to as many bytes as they are (RFC 4648 4); 0: they are none. */
static size_t decode_group(const uint8_t d[4], uint8_t out[3])
{
	size_t n = d[3] != '=' ? 3 : d[2] != '=' ? 2 : 1;
	uint32_t v = 0;

	for (size_t i = 0; i < 4; i++) {
		int x = i <= n ? digit_value(d[i]) : 0;

		if (x < 0)
			return 0;
		v = v << 6 | (uint32_t)x;
	}
	out[0] = (uint8_t)(v >> 16);
	out[1] = (uint8_t)(v >> 8);
	out[2] = (uint8_t)v;
	return n;
}

static void deliver(struct channels *w, const uint8_t *p, size_t n)
{
	if (n && w->to && !w->to->in_ended)
		mux_data(w->to, p, n);
}

static int deliver_base64(struct channels *w, const uint8_t *p, size_t n, struct err *e)
{
	uint8_t out[PIECE_MAX];
	size_t k = 0, got;

	for (; n; p++, n--) {
		w->digits[w->n_digits++] = *p;
		if (w->n_digits < 4)
			continue;
		w->n_digits = 0;
		got = w->padded ? 0 : decode_group(w->digits, out + k);
		if (!got)
			return err_set(e, -EBADMSG, GRPC_INVALID_ARGUMENT,
				       "a message is not in base64");
		w->padded = got < 3;
		k += got;
		if (k + 3 > sizeof(out)) {
			deliver(w, out, k);
			k = 0;
		}
	}
	deliver(w, out, k);
	return 0;
}

static void begin_message(struct channels *w, uint8_t first)
{
	uint32_t id = w->mode == CHANNELS_BASE64 ? (uint8_t)(first - '0') : first;

	w->has_channel = true;
	w->in_signal = w->closes && first == CLOSE_SIGNAL;
	w->n_signal = w->n_digits = 0;
	w->padded = false;
	w->to = w->in_signal ? NULL : mux_find(&w->mux, id);
}

static int end_message(struct channels *w, struct err *e)
{
	struct chan *c;

	w->has_channel = false;
	w->to = NULL;
	if (w->n_digits)
		return err_set(e, -EBADMSG, GRPC_INVALID_ARGUMENT, "a message is not in base64");
	if (!w->in_signal)
		return 0;
	w->in_signal = false;
	if (w->n_signal != 1)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
			       "a message that closes a channel does not name one");
	c = mux_find(&w->mux, w->signal);
	if (!c)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT,
			       "a message closes channel %u, which is none", w->signal);
	mux_in_end(c);
	return 0;
}

static int on_piece(struct channels *w, const struct ws_event *ev, struct err *e)
{
	const uint8_t *p = ev->data;
	size_t n = ev->n;
	int r = 0;

	if (w->mode == CHANNELS_TUNNEL) {
		if (ev->op != WS_BINARY)
			return err_set(e, -EOPNOTSUPP, GRPC_INVALID_ARGUMENT,
				       "a message of a tunnel is text");
		return n ? w->tunnel(w, p, n, e) : 0;
	}
	if (ev->begin)
		w->has_channel = false;
	if (!w->has_channel && n) {
		begin_message(w, *p++);
		n--;
	}
	if (w->in_signal) {
		if (n)
			w->signal = *p;
		w->n_signal += n;
	} else if (w->mode == CHANNELS_BASE64) {
		r = deliver_base64(w, p, n, e);
	} else {
		deliver(w, p, n);
	}
	return r == 0 && ev->end ? end_message(w, e) : r;
}

static int on_event(struct channels *w, const struct ws_event *ev, struct err *e)
{
	int r = 0;

	switch (ev->op) {
	case WS_PING:
		put_control(w, WS_PONG, ev->data, ev->n);
		return 0;
	case WS_PONG:
		return 0;
	case WS_CLOSE:
		put_close(w, WS_NORMAL, "");
		return -EPIPE;
	default:
		r = on_piece(w, ev, e);
	}
	if (r == 0 || w->mux.finished)
		return r;
	put_close(w,
		  r == -EBADMSG	     ? WS_BAD_DATA
		  : r == -EOPNOTSUPP ? WS_UNSUPPORTED
				     : WS_PROTOCOL_ERROR,
		  e->msg);
	w->mux.finished = true;
	return -EPROTO;
}

int channels_feed(struct channels *w, uint8_t *p, size_t n, struct err *e)
{
	while (n && !w->mux.finished) {
		struct ws_event ev;
		size_t used;
		int r = ws_next(&w->ws, p, n, &used, &ev, e);

		if (r < 0) {
			put_close(w, (enum ws_code)w->ws.error, e->msg);
			w->mux.finished = true;
			return -EPROTO;
		}
		p += used;
		n -= used;
		r = r ? on_event(w, &ev, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

void channels_init(struct channels *w, enum channels_mode mode, bool closes, struct loop *loop)
{
	*w = (struct channels){.mode = mode, .closes = closes};
	mux_init(&w->mux, &ops, loop);
	ws_init(&w->ws, WS_SERVER, WS_MESSAGE_MAX);
}

void channels_fini(struct channels *w)
{
	mux_fini(&w->mux);
}
