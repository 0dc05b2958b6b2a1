/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPDY/3.1 of a server, as what Kubernetes' clients speak of it (SPDY Protocol Draft 3.1): a mux.
 * Bytes come in by spdy_feed(), frames go out through the mux's put(); no input or output here.
 *
 * Windows.  The peer that Kubernetes has, moby/spdystream, knows none: it sends as it likes, passes
 * over WINDOW_UPDATE, and never sends one.  So a peer's windows count from when it shows, by
 * SETTINGS or WINDOW_UPDATE, that it has them; until then the connection is the only limit.  The
 * other way round, what was taken is told in WINDOW_UPDATEs, but no peer is reproached for
 * sending more: it is read no further (duct.h).  Then its own windows count no more, either: the
 * updates that would open them might stand behind what is not read.  The window of the whole
 * session is opened as bytes come: those of streams and the pause bound what is kept.
 */
#pragma once

#include <zlib.h>

#include "base/str.h"
#include "mux.h"

#define SPDY_CONTROL_MAX 16384 /* bytes of a control frame */
#define SPDY_HEADERS_MAX 16384 /* bytes of a header block, decompressed */
#define SPDY_FIELDS_MAX 64     /* header fields of a stream */
#define SPDY_WINDOW 65536      /* bytes that a stream, or the session, has at first (2.6.8) */

struct spdy {
	struct mux mux;
	uint8_t head[8]; /* private from here */
	unsigned n_head;
	bool control;
	uint8_t flags;
	uint16_t type;
	uint32_t id;   /* data: the stream's */
	uint32_t left; /* bytes of the frame that are to come */
	struct strbuf frame;
	z_stream inflate;
	bool inflating, replied, failed;
	uint32_t last_id; /* the highest stream of the client */
	bool windows, overrun;
	int64_t peer_window; /* of a new stream */
	uint64_t sent, granted, came, told;
};

/* Set put, room, out, user and session of s->mux afterwards. */
void spdy_init(struct spdy *s, struct loop *loop);
void spdy_fini(struct spdy *s); /* idempotent */

/*
 * Takes all of the bytes.  -EPROTO with a sentence for the log: the peer has been told so, and the
 * connection is to be closed.
 */
int spdy_feed(struct spdy *s, const uint8_t *p, size_t n, struct err *e);
