/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of WebSockets: see websocket.h.  Numbers in comments are sections of RFC 6455. */
#include "wire/websocket.h"

#include <string.h>

#include "base/str.h"

#define BIT_FIN 0x80
#define BITS_RSV 0x70
#define BITS_OP 0x0f
#define BIT_MASK 0x80
#define BITS_LEN 0x7f
#define LEN_16 126 /* the length is in the next two bytes */
#define LEN_64 127 /* in the next eight */
#define OP_CONTROL 8
#define CLOSE_CODE_SIZE 2

void ws_init(struct ws *w, enum ws_role role, uint64_t message_max)
{
	*w = (struct ws){.role = role, .message_max = message_max};
}

static int broken(struct ws *w, struct err *e, const char *what)
{
	w->error = WS_PROTOCOL_ERROR;
	return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "WebSocket: %s", what);
}

static int bad_text(struct ws *w, struct err *e)
{
	w->error = WS_BAD_DATA;
	return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "WebSocket: text that is no UTF-8");
}

/* --- the header --- */

static bool is_control(enum ws_op op)
{
	return op & OP_CONTROL;
}

/* Bytes that the header has, as far as its first two tell. */
static size_t header_size(const struct ws *w)
{
	uint8_t len = w->header[1] & BITS_LEN;

	if (w->n_header < 2)
		return 2;
	return 2 +
	       (len == LEN_16	? 2
		: len == LEN_64 ? 8
				: 0) +
	       (w->header[1] & BIT_MASK ? WS_KEY_SIZE : 0);
}

/* Nothing of a frame is waited for that is wrong by its first two bytes. */
static int check_start(struct ws *w, struct err *e)
{
	enum ws_op op = w->header[0] & BITS_OP;
	bool fin = w->header[0] & BIT_FIN, masked = w->header[1] & BIT_MASK;

	if (w->header[0] & BITS_RSV)
		return broken(w, e, "reserved bits are set");
	if (op > WS_PONG || (op > WS_BINARY && op < WS_CLOSE))
		return broken(w, e, "an unknown kind of frame");
	if (masked != (w->role == WS_SERVER))
		return broken(w, e,
			      masked ? "a server's frame is masked"
				     : "a client's frame is not masked");
	if (is_control(op) && (!fin || (w->header[1] & BITS_LEN) > WS_CONTROL_MAX))
		return broken(w, e, "a control frame is long or fragmented");
	if (op == WS_CONTINUATION && !w->message)
		return broken(w, e, "a continuation without a beginning");
	if (!is_control(op) && op != WS_CONTINUATION && w->message)
		return broken(w, e, "a message begins within another");
	return 0;
}

static int read_length(struct ws *w, size_t *ret_at, struct err *e)
{
	uint8_t len = w->header[1] & BITS_LEN;
	size_t n = len == LEN_16 ? 2 : len == LEN_64 ? 8 : 0;

	w->left = n ? 0 : len;
	for (size_t i = 0; i < n; i++)
		w->left = w->left << 8 | w->header[2 + i];
	*ret_at = 2 + n;
	if (n == 8 && w->left >> 63)
		return broken(w, e, "a length of more than 63 bits");
	if ((n == 2 && w->left < LEN_16) || (n == 8 && w->left <= UINT16_MAX))
		return broken(w, e, "a length in more bytes than it needs");
	return 0;
}

static int begin_message(struct ws *w, struct err *e)
{
	if (w->op != WS_CONTINUATION) {
		w->message = w->op;
		w->total = 0;
		w->begun = false;
		w->utf8_more = 0;
	}
	if (w->left > w->message_max - w->total) {
		w->error = WS_TOO_BIG;
		return err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			       "WebSocket: a message of more than %llu bytes",
			       (unsigned long long)w->message_max);
	}
	w->total += w->left;
	return 0;
}

static int finish_header(struct ws *w, struct err *e)
{
	size_t at;

	if (read_length(w, &at, e) < 0)
		return -EPROTO;
	w->op = w->header[0] & BITS_OP;
	w->fin = w->header[0] & BIT_FIN;
	memset(w->key, 0, sizeof(w->key));
	if (w->header[1] & BIT_MASK)
		memcpy(w->key, w->header + at, WS_KEY_SIZE);
	w->n_header = 0;
	w->n_control = 0;
	w->offset = 0;
	w->in_payload = true;
	return is_control(w->op) ? 0 : begin_message(w, e);
}

static int take_header(struct ws *w, const uint8_t *p, size_t n, size_t *ret_used, struct err *e)
{
	size_t i = 0;
	int r = 0;

	while (i < n && r == 0 && !w->in_payload) {
		w->header[w->n_header++] = p[i++];
		if (w->n_header == 2)
			r = check_start(w, e);
		if (r == 0 && w->n_header >= 2 && w->n_header == header_size(w))
			r = finish_header(w, e);
	}
	*ret_used = i;
	return r;
}

/* --- the payload --- */

/* RFC 3629 section 4: how many bytes follow a first one, and what the second may be. */
static bool utf8_first(struct ws *w, uint8_t c)
{
	w->utf8_low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	w->utf8_high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	w->utf8_more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	return c < 0x80 || (c >= 0xc2 && c <= 0xf4);
}

/* Characters may be cut by pieces and frames, not by the end of the message. */
static bool check_text(struct ws *w, const uint8_t *p, size_t n, bool end)
{
	for (size_t i = 0; i < n; i++) {
		if (w->utf8_more == 0) {
			if (!utf8_first(w, p[i]))
				return false;
			continue;
		}
		if (p[i] < w->utf8_low || p[i] > w->utf8_high)
			return false;
		w->utf8_low = 0x80;
		w->utf8_high = 0xbf;
		w->utf8_more--;
	}
	return !end || w->utf8_more == 0;
}

/* Hands on what there is of a message.  0: nothing yet. */
static int message_piece(struct ws *w, uint8_t *p, size_t n, struct ws_event *ret, struct err *e)
{
	bool frame_end = w->left == 0, end = frame_end && w->fin;

	if (frame_end)
		w->in_payload = false;
	if (n == 0 && !end)
		return 0;
	*ret = (struct ws_event){
		.op = w->message, .begin = !w->begun, .end = end, .data = p, .n = n};
	w->begun = true;
	if (w->message == WS_TEXT && !check_text(w, p, n, end))
		return bad_text(w, e);
	if (end)
		w->message = WS_CONTINUATION;
	return 1;
}

/* 7.4: those that may be on the wire */
static bool is_close_code(unsigned code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
	       (code >= 3000 && code <= 4999);
}

static int close_frame(struct ws *w, struct ws_event *ret, struct err *e)
{
	w->closed = true;
	if (w->n_control == 0) {
		ret->code = WS_NO_CODE;
		return 1;
	}
	ret->code = (uint16_t)(w->n_control < 2 ? 0 : w->control[0] << 8 | w->control[1]);
	if (!is_close_code(ret->code))
		return broken(w, e, "a close frame without a valid code");
	ret->data = w->control + CLOSE_CODE_SIZE;
	ret->n = w->n_control - CLOSE_CODE_SIZE;
	w->utf8_more = 0; /* no message goes on after it */
	return check_text(w, ret->data, ret->n, true) ? 1 : bad_text(w, e);
}

static int control_piece(struct ws *w, const uint8_t *p, size_t n, struct ws_event *ret,
			 struct err *e)
{
	if (n)
		memcpy(w->control + w->n_control, p, n);
	w->n_control = (uint8_t)(w->n_control + n);
	if (w->left)
		return 0;
	w->in_payload = false;
	*ret = (struct ws_event){
		.op = w->op, .begin = true, .end = true, .data = w->control, .n = w->n_control};
	return w->op == WS_CLOSE ? close_frame(w, ret, e) : 1;
}

static int take_payload(struct ws *w, uint8_t *p, size_t n, size_t *ret_used, struct ws_event *ret,
			struct err *e)
{
	size_t k = (size_t)MIN((uint64_t)n, w->left);

	if (w->role == WS_SERVER)
		ws_mask(p, k, w->key, w->offset);
	w->offset += k;
	w->left -= k;
	*ret_used = k;
	return is_control(w->op) ? control_piece(w, p, k, ret, e) : message_piece(w, p, k, ret, e);
}

int ws_next(struct ws *w, uint8_t *buf, size_t n, size_t *ret_used, struct ws_event *ret,
	    struct err *e)
{
	size_t at = 0, k;
	int r = 0;

	*ret_used = n;
	if (w->error)
		return err_set(e, -EPROTO, GRPC_INVALID_ARGUMENT, "WebSocket: broken before");
	while (r == 0 && at < n && !w->closed) {
		r = take_header(w, buf + at, n - at, &k, e);
		at += k;
		/* An empty frame is complete with its header. */
		if (r == 0 && w->in_payload && (at < n || w->left == 0)) {
			r = take_payload(w, buf + at, n - at, &k, ret, e);
			at += k;
		}
	}
	if (r == 1)
		*ret_used = at;
	return r;
}

/* --- writing --- */

void ws_mask(uint8_t *p, size_t n, const uint8_t key[WS_KEY_SIZE], uint64_t offset)
{
	uint8_t turned[WS_KEY_SIZE];
	uint32_t word, four;
	size_t i = 0;

	for (size_t k = 0; k < WS_KEY_SIZE; k++)
		turned[k] = key[(offset + k) % WS_KEY_SIZE];
	memcpy(&word, turned, sizeof(word));
	for (; i + sizeof(four) <= n; i += sizeof(four)) {
		memcpy(&four, p + i, sizeof(four));
		four ^= word;
		memcpy(p + i, &four, sizeof(four));
	}
	for (; i < n; i++)
		p[i] ^= turned[i % WS_KEY_SIZE];
}

size_t ws_put_header(uint8_t out[WS_HEADER_MAX], enum ws_op op, bool fin, uint64_t n,
		     const uint8_t *key)
{
	size_t bytes = n < LEN_16 ? 0 : n <= UINT16_MAX ? 2 : 8, at = 2;

	out[0] = (uint8_t)((fin ? BIT_FIN : 0) | op);
	out[1] = (uint8_t)(bytes == 0 ? n : bytes == 2 ? LEN_16 : LEN_64);
	for (size_t i = bytes; i > 0; i--)
		out[at++] = (uint8_t)(n >> (8 * (i - 1)));
	if (key) {
		out[1] |= BIT_MASK;
		memcpy(out + at, key, WS_KEY_SIZE);
		at += WS_KEY_SIZE;
	}
	return at;
}

size_t ws_put_control(uint8_t out[WS_CLOSE_MAX], enum ws_op op, const void *p, size_t n,
		      const uint8_t *key)
{
	size_t at;

	n = MIN(n, (size_t)WS_CONTROL_MAX);
	at = ws_put_header(out, op, true, n, key);
	if (n)
		memcpy(out + at, p, n);
	if (key)
		ws_mask(out + at, n, key, 0);
	return at + n;
}

size_t ws_put_close(uint8_t out[WS_CLOSE_MAX], enum ws_code code, const char *reason,
		    const uint8_t *key)
{
	uint8_t text[WS_CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
	size_t n = strnlen(reason, WS_CONTROL_MAX - CLOSE_CODE_SIZE + 1);

	if (n > WS_CONTROL_MAX - CLOSE_CODE_SIZE)
		for (n--; n > 0 && (reason[n] & 0xc0) == 0x80;)
			n--;
	memcpy(text + CLOSE_CODE_SIZE, reason, n);
	return ws_put_control(out, WS_CLOSE, text, CLOSE_CODE_SIZE + n, key);
}
