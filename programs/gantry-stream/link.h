/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's connection: bytes in, bytes out, on a loop; plain, or with TLS (tls.h).
 *
 * What is to be sent is queued.  The queue is bounded by those who fill it: they ask for
 * link_room() first, and hear of room again.  Only short answers (a pong, a reset) are put in
 * without asking; above LINK_OUT_STOP the client is read no further until it reads itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "loop/loop.h"

#define LINK_READ_MAX 32768	   /* bytes of one read */
#define LINK_OUT_MAX (128 * 1024)  /* bytes of streams that wait for the client */
#define LINK_OUT_STOP (192 * 1024) /* with answers that nobody asked room for */
#define LINK_OUT_KEEP 65536	   /* bytes of memory that an empty queue keeps */
#define LINK_LINGER_US 5000000	   /* for the client to close, when it has taken all */

struct link;
struct tls;
/* Takes all of the bytes; they may be changed. */
typedef void link_data_fn(struct link *l, uint8_t *p, size_t n);
typedef void link_room_fn(struct link *l);
/* The connection is over: 0: the client closed it, or we did, -errno. Once. */
typedef void link_gone_fn(struct link *l, int reason);

struct link {
	struct loop *loop;
	int fd; /* owned */
	link_data_fn *on_data;
	link_room_fn *on_room; /* half is free again, after link_room() said less */
	link_gone_fn *on_gone;
	uint64_t patience_us; /* for the client to take what is left after link_finish() */
	struct loop_io io;    /* private from here */
	struct loop_defer flush;
	struct loop_timer linger;
	struct tls *tls; /* owned; NULL: plain */
	struct strbuf out;
	size_t off;
	bool paused, full, finishing, shut, peer_ended, gone;
	uint64_t finished_at, taken_at;
};

/* Takes the descriptor and `tls` (may be NULL) over. */
int link_open(struct link *l, struct loop *loop, int fd, struct tls *tls);
/* Ends it at once, without on_gone. Idempotent. */
void link_close(struct link *l);

void link_put(struct link *l, const void *p, size_t n);
/* Bytes that a stream may add now. Less than LINK_OUT_MAX / 2: on_room comes. */
size_t link_room(struct link *l);
/* Reads on, or not. A client that closes is noticed all the same. */
void link_pause(struct link *l, bool paused);
/* Sends what is queued, however slow the client is, says that nothing more comes, and waits for the
 * client to close; on_gone. */
void link_finish(struct link *l);
