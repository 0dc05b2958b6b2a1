/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket (wire/websocket.h), in the two ways that Kubernetes uses it:
 *
 *   - a mux of numbered channels: the first byte of each message is its channel ("channel.k8s.io"
 *     and its versions), or the first character, with base64 after it ("base64.channel.k8s.io").
 *     From version 5 on a message of the byte 255 and a channel ends that channel.
 *   - a tunnel, whose messages carry SPDY wherever they are cut ("SPDY/3.1+portforward.k8s.io").
 */
#pragma once

#include "base/str.h"
#include "mux.h"
#include "wire/websocket.h"

#define CHANNELS_MAX 128 /* of a connection */

enum channels_mode { CHANNELS_BINARY, CHANNELS_BASE64, CHANNELS_TUNNEL };

struct channels {
	struct mux mux; /* of a tunnel only put, room and out count */
	enum channels_mode mode;
	bool closes; /* version 5 */
	/* A tunnel's bytes: 0, or -EPROTO. */
	int (*tunnel)(struct channels *w, const uint8_t *p, size_t n, struct err *e);
	struct ws ws; /* private from here */
	bool has_channel, in_signal;
	struct chan *to;   /* of the message under way; NULL: nobody's */
	uint8_t signal;	   /* the channel that is closed */
	size_t n_signal;   /* bytes after the 255: one */
	uint8_t digits[4]; /* of base64, that are less than a group */
	unsigned n_digits;
	bool padded, closed;
};

void channels_init(struct channels *w, enum channels_mode mode, bool closes, struct loop *loop);
void channels_fini(struct channels *w);
/* Takes all of the bytes, which are changed.  -EPROTO with a sentence; the peer has been told.
 * -EPIPE: it has closed. */
int channels_feed(struct channels *w, uint8_t *p, size_t n, struct err *e);
/* Frames of a tunnel: a binary message with these bytes. */
void channels_put(struct channels *w, const void *head, size_t n_head, const void *p, size_t n);
/* Tells the client that the channel is there: an empty message. */
void channels_greet(struct chan *c);
/* A sign of life, which nobody asked for (RFC 6455 5.5.3). */
void channels_pong(struct channels *w);
