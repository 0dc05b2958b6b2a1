/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket (RFC 6455), version 13: the frames, of both sides.  No input or output, no memory.
 *
 * Reading is incremental: a message's payload is handed on in pieces as it comes, wherever frames
 * or reads cut it, so that no length that a peer names is ever allocated.  Control frames come
 * whole.  Extensions are not negotiated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"

#define WS_HEADER_MAX 14   /* bytes of a frame's header (5.2) */
#define WS_CONTROL_MAX 125 /* bytes of a control frame's payload (5.5) */
#define WS_KEY_SIZE 4	   /* of a masking key (5.3) */
#define WS_CLOSE_MAX (WS_HEADER_MAX + WS_CONTROL_MAX)
#define WS_MESSAGE_MAX (64 * MIB) /* what is a sensible limit of a message; see ws_init() */
#define WS_ACCEPT_MAX 29	  /* a Sec-WebSocket-Accept with its NUL */
#define WS_NONCE_MAX 64		  /* bytes of a Sec-WebSocket-Key that are looked at */

enum ws_op { /* 5.2, 11.8 */
	     WS_CONTINUATION = 0,
	     WS_TEXT = 1,
	     WS_BINARY = 2,
	     WS_CLOSE = 8,
	     WS_PING = 9,
	     WS_PONG = 10,
};

enum ws_code { /* 7.4.1 */
	       WS_NORMAL = 1000,
	       WS_GOING_AWAY = 1001,
	       WS_PROTOCOL_ERROR = 1002,
	       WS_UNSUPPORTED = 1003,
	       WS_NO_CODE = 1005, /* never on the wire: the close frame has none */
	       WS_BAD_DATA = 1007,
	       WS_POLICY = 1008,
	       WS_TOO_BIG = 1009,
	       WS_INTERNAL = 1011,
};

enum ws_role {
	WS_SERVER, /* reads from a client: its frames have to be masked (5.1) */
	WS_CLIENT, /* reads from a server: its frames must not be */
};

struct ws_event {
	enum ws_op op; /* of a piece of a message: WS_TEXT or WS_BINARY, also of a continuation */
	bool begin;    /* the first piece of a message; an empty message has one, too */
	bool end;      /* the last one */
	const uint8_t *data; /* unmasked; borrowed from what was given, or of the parser; CLOSE: the
				reason, UTF-8 */
	size_t n;
	uint16_t code; /* CLOSE: enum ws_code and whatever else the peer may say */
};

/* Everything in it is private, but for `error`. */
struct ws {
	enum ws_role role;
	uint64_t message_max;
	uint16_t error; /* after a failure: the code to close the connection with */

	uint8_t header[WS_HEADER_MAX];
	uint8_t n_header;
	bool in_payload, fin, closed;
	bool begun;	    /* the message under way: a piece of it has been handed on */
	enum ws_op op;	    /* of the frame */
	enum ws_op message; /* of the message under way; CONTINUATION: there is none */
	uint8_t key[WS_KEY_SIZE];
	uint64_t left, offset; /* bytes of the frame that are to come, and that came */
	uint64_t total;	       /* of the message, as its frames so far announced */
	uint8_t control[WS_CONTROL_MAX];
	uint8_t n_control;
	uint8_t utf8_more, utf8_low, utf8_high; /* of text: continuation bytes, range of the next */
};

/*
 * `message_max`: the most bytes that one message may have, over all its frames.  Nothing is kept
 * of it, so the limit is one of what makes sense, not of memory.
 */
void ws_init(struct ws *w, enum ws_role role, uint64_t message_max);

/*
 * Takes bytes that came: 1 and an event; 0: more is needed (all `n` are used; or, after a CLOSE,
 * are passed over, 5.5.1).  Call it again with the rest of the bytes.  `buf` is unmasked in place.
 * -EPROTO and -EMSGSIZE with a sentence for the log: the connection is to be closed with `error`,
 * and the parser gives nothing any more.
 */
int ws_next(struct ws *w, uint8_t *buf, size_t n, size_t *ret_used, struct ws_event *ret,
	    struct err *e);

/*
 * Writes the header of a frame with `n` bytes of payload; `key` (WS_KEY_SIZE bytes) of a client,
 * NULL of a server.  Returns its size.
 */
size_t ws_put_header(uint8_t out[WS_HEADER_MAX], enum ws_op op, bool fin, uint64_t n,
		     const uint8_t *key);

/* Masks, or unmasks, bytes that stand `offset` bytes after the beginning of the payload. */
void ws_mask(uint8_t *p, size_t n, const uint8_t key[WS_KEY_SIZE], uint64_t offset);

/*
 * A whole control frame (PING, PONG: with at most WS_CONTROL_MAX bytes; the rest is cut).
 * Returns its size.
 */
size_t ws_put_control(uint8_t out[WS_CLOSE_MAX], enum ws_op op, const void *p, size_t n,
		      const uint8_t *key);

/* A whole close frame; the reason is cut to what fits, never within a character. */
size_t ws_put_close(uint8_t out[WS_CLOSE_MAX], enum ws_code code, const char *reason,
		    const uint8_t *key);

/*
 * What a server answers to a Sec-WebSocket-Key (4.2.2), with a
 * NUL.  False: the key is none, that is not 16 bytes in base64.
 */
bool ws_accept(const char *key, char ret[WS_ACCEPT_MAX]);
