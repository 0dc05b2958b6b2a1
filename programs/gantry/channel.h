/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A streaming connection to the daemon: the channels of Kubernetes' WebSocket protocols
 * (v5.channel.k8s.io: the first byte of a message is its channel, 255 ends the one that follows).
 *
 * It goes over the daemon's second socket, CLI's address and ".stream", to the path of the URL
 * that Exec, Attach or PortForward answered.  What is behind it outlives the daemon.
 */
#pragma once

#include "cli.h"
#include "wire/websocket.h"

#define CHANNEL_BUFFER (64 * KIB)   /* bytes that are read at once */
#define CHANNEL_HEAD_MAX (16 * KIB) /* of the answer's header */
#define CHANNEL_OUT_MAX (256 * KIB) /* waiting to be sent: no more is read until they are */
#define CHANNEL_REASON_MAX 128	    /* of a close frame, NUL included */

enum {
	CHANNEL_STDIN = 0,
	CHANNEL_STDOUT = 1,
	CHANNEL_STDERR = 2,
	CHANNEL_ERROR = 3,  /* one message: a Status */
	CHANNEL_RESIZE = 4, /* {"Width":80,"Height":24} */
	CHANNEL_END = 255,  /* of the channel that the next byte names */
};

struct channels {
	int fd; /* non-blocking */
	struct ws ws;
	uint8_t *in;
	size_t in_at, in_n;
	struct strbuf out;
	size_t out_at;
	int current;   /* the channel of the message under way; -1: its first byte is to come */
	bool can_end;  /* v5: ends of channels can be told */
	bool closed;   /* by the other side; nothing comes any more */
	bool deaf;     /* the other side takes nothing any more */
	uint16_t code; /* of its close frame; 0: it had none */
	char reason[CHANNEL_REASON_MAX];
};

struct channel_piece {
	int channel;
	const uint8_t *data; /* borrowed until the next channels_read() */
	size_t n;
	bool end; /* of the message */
};

/*
 * Connects and upgrades.  `query` goes behind the path of the URL; NULL: none.  UNAVAILABLE where
 * nobody listens, NOT_FOUND for a session that is used up, CANCELLED when a signal came.
 */
int channels_open(struct cli *cli, const char *url, const char *query, struct channels *ret,
		  struct err *e);
void channels_fini(struct channels *c);

/* Reads what there is, once everything of before has been taken. -EAGAIN: nothing; 0 otherwise. */
int channels_read(struct channels *c, struct err *e);
/* 1 and a piece; 0: more has to be read, or the other side has closed (closed). */
int channels_next(struct channels *c, struct channel_piece *ret, struct err *e);

/* Queues a message. */
void channels_send(struct channels *c, int channel, const void *p, size_t n);
/* Queues the end of a channel, where the protocol has that. */
void channels_send_end(struct channels *c, int channel);
void channels_send_size(struct channels *c, unsigned width, unsigned height);
void channels_send_close(struct channels *c);
/* Sends what is queued and fits. */
int channels_flush(struct channels *c, struct err *e);
static inline size_t channels_queued(const struct channels *c)
{
	return c->out.len - c->out_at;
}

/* The path of a URL: "http://127.0.0.1:1/exec/x" -> "/exec/x"; NULL: it has none.  For the test. */
const char *channels_path(const char *url);
/* The value of a field in a header without its end; NULL: it is not there.  In `a`. */
const char *channels_header(struct arena *a, const char *head, const char *name);
