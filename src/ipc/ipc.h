/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames between the daemon and its monitors and workers.
 *
 * A frame is a header (length, type, sequence number, number of descriptors) and a body of
 * tagged fields, over a unix stream socket; descriptors travel beside it (SCM_RIGHTS).
 * Unknown tags are passed over, so that a newer daemon understands the monitors that an
 * older one started, and the other way round.  Both ends treat the other's bytes as
 * hostile: every length is checked against the frame, every string must end.
 *
 * A request carries a sequence number of its sender's choosing, not 0; the reply repeats
 * it.  Frames with sequence 0 are events.  Every reply has IPC_TAG_CODE (a gRPC code,
 * 0 is success) and on failure IPC_TAG_MESSAGE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "loop/loop.h"

#define IPC_BODY_MAX (24u << 20)  /* bytes of a frame's body; a larger one ends the connection */
#define IPC_FDS_MAX 16		  /* descriptors of one frame */
#define IPC_QUEUE_MAX (64u << 20) /* bytes that wait for a peer; more end the connection */

/* Types 1..15 and tags 1..15 belong to every protocol. */
enum {
	IPC_REPLY = 1,	/* answer to a request */
	IPC_CANCEL = 2, /* seq: the request to be given up; it is still answered */
};
enum {
	IPC_TAG_CODE = 1,    /* u64, enum grpc_code */
	IPC_TAG_MESSAGE = 2, /* string */
	IPC_TAG_ERRNO = 3,   /* u64, positive errno */
};

/* --- a frame being written --- */
struct ipc_in;

struct ipc_out {
	struct strbuf b;
	int fds[IPC_FDS_MAX]; /* owned: closed once sent or dropped */
	unsigned n_fds;
	bool too_large; /* fields above IPC_BODY_MAX were left out: it is not sent */
};

void ipc_out_init(struct ipc_out *o, uint16_t type, uint32_t seq);
void ipc_out_fini(struct ipc_out *o);
void ipc_put_u64(struct ipc_out *o, uint16_t tag, uint64_t v);
void ipc_put_i64(struct ipc_out *o, uint16_t tag, int64_t v);
void ipc_put_str(struct ipc_out *o, uint16_t tag, const char *s); /* NULL: nothing is put */
void ipc_put_bytes(struct ipc_out *o, uint16_t tag, const void *p, size_t n);
void ipc_put_fd(struct ipc_out *o, int fd); /* takes it over */
/* The fields of `sub` (its type and sequence do not matter) as one field; finishes `sub`. */
void ipc_put_nested(struct ipc_out *o, uint16_t tag, struct ipc_out *sub);
/* All fields of a frame that came, as they are. */
void ipc_put_fields(struct ipc_out *o, const struct ipc_in *in);
/* A reply to `seq` with the code and message of `e` (NULL: success). */
void ipc_out_reply(struct ipc_out *o, uint32_t seq, const struct err *e);

#define _cleanup_ipc_out_ __attribute__((cleanup(ipc_out_fini)))

/* --- a frame that came --- */
struct ipc_in {
	uint16_t type;
	uint32_t seq;
	uint8_t *body; /* owned */
	size_t len;
	int fds[IPC_FDS_MAX]; /* owned; take one with TAKE_FD() */
	unsigned n_fds;
};

#define IPC_IN_NULL ((struct ipc_in){0})
void ipc_in_fini(struct ipc_in *in);
#define _cleanup_ipc_in_ __attribute__((cleanup(ipc_in_fini)))

struct ipc_field {
	uint16_t tag;
	const void *p; /* borrowed from the frame */
	size_t n;
};
/* Walks the fields in order; start with *pos = 0. */
bool ipc_next(const struct ipc_in *in, size_t *pos, struct ipc_field *ret);
/* A field's value: a string that is NUL-terminated, or NULL where it is none. borrowed */
const char *ipc_field_str(const struct ipc_field *f);
uint64_t ipc_field_u64(const struct ipc_field *f); /* 0 where the size is wrong */
/* A nested field as fields of its own: for ipc_next(), ipc_get_*(). borrowed: no fini */
struct ipc_in ipc_field_nested(const struct ipc_field *f);

/* The first field with this tag. */
const char *ipc_get_str(const struct ipc_in *in, uint16_t tag); /* NULL: not there */
uint64_t ipc_get_u64(const struct ipc_in *in, uint16_t tag, uint64_t otherwise);
int64_t ipc_get_i64(const struct ipc_in *in, uint16_t tag, int64_t otherwise);
bool ipc_get_bytes(const struct ipc_in *in, uint16_t tag, const void **ret, size_t *ret_n);
/* Turns a reply's code and message into the return value and `e`. */
int ipc_reply_error(const struct ipc_in *in, struct err *e);

/* --- blocking, for workers and for jobs of the monitor --- */
/* Always finishes `o`. -EMSGSIZE: above IPC_BODY_MAX; a reply is sent with that error instead. */
int ipc_send(int fd, struct ipc_out *o);
/* -EPIPE at the end of the stream, -EBADMSG for what is no frame. */
int ipc_recv(int fd, struct ipc_in *ret);

/* --- on a loop --- */
struct ipc_conn;
typedef void ipc_msg_fn(struct ipc_conn *c, struct ipc_in *in); /* may TAKE parts of `in` */
/* The connection is over (reason: 0 peer closed it, else -errno). Already removed from the
 * loop; pending calls have failed. The owner frees its struct here or later. */
typedef void ipc_close_fn(struct ipc_conn *c, int reason);

struct ipc_conn {
	struct loop *loop; /* NULL: not open */
	struct loop_io io;
	int fd;		    /* owned */
	ipc_msg_fn *on_msg; /* requests and events; replies to ipc_call() do not come here */
	ipc_close_fn *on_close;
	struct list queue; /* private from here */
	struct list calls;
	size_t queued;
	struct strbuf rx;
	int rx_fds[IPC_FDS_MAX * 2];
	unsigned rx_n_fds;
	uint32_t next_seq;
};

/* Takes `fd` over and makes it non-blocking. */
int ipc_conn_open(struct ipc_conn *c, struct loop *l, int fd, ipc_msg_fn *on_msg,
		  ipc_close_fn *on_close);
/* Ends it without calling on_close; pending calls fail with UNAVAILABLE. Idempotent. */
void ipc_conn_close(struct ipc_conn *c);
/* Queues a frame and finishes `o`. One above IPC_BODY_MAX is dropped; of a reply the error is sent. */
void ipc_conn_send(struct ipc_conn *c, struct ipc_out *o);
/* True when all that was queued has been handed to the kernel (or the connection is over). */
bool ipc_conn_sent(const struct ipc_conn *c);

/*
 * From a coroutine: sends a request (its sequence number is set here, `o` is finished) and
 * waits for the reply.  Returns 0 with the reply in `ret`, or the error that the reply
 * carries, or UNAVAILABLE when the connection ends, or RESOURCE_EXHAUSTED for a request above
 * IPC_BODY_MAX.  When the coroutine is cancelled,
 * IPC_CANCEL is sent and the reply still awaited: when this returns, the peer has ended
 * the work or undone it.
 */
int ipc_call(struct ipc_conn *c, struct ipc_out *o, struct ipc_in *ret, struct err *e);
