/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming: tokens for sessions that CRI's Exec, Attach and PortForward have allowed, and the
 * server that connections of clients come to.  docs/decisions/0014.
 *
 * It listens on TCP (settings streaming.*) and on a unix socket beside CRI's.  Each connection is
 * handed to a gantry-stream of its own; not a byte of it is read here.  The program asks in frames
 * (ipc/stream.h) what the client's token stands for, and for descriptors of a session in the pod's
 * monitor.  Sessions that run need this daemon no more, and outlive it.
 */
#pragma once

#include "ipc/stream.h"
#include "pod/pod.h"

#define STREAM_TOKENS_MAX 1024		      /* that nobody has used yet */
#define STREAM_TOKENS_BYTES_MAX (16u << 20)   /* of their commands together */
#define STREAM_TOKEN_LIFE (60 * USEC_PER_SEC) /* a token that nobody has used by then is void */
#define STREAM_TOKEN_BYTES 24		      /* random ones in a token: 192 bits */
#define STREAM_SOCKET_SUFFIX ".stream"	      /* of the unix socket, after CRI's path */

/* A session that a request has allowed. */
struct stream_offer {
	enum stream_kind kind;
	const char *id; /* of the container, or of the pod; whole */
	char *const *cmd;
	size_t n_cmd;
	bool tty, in, out, err;
	uint16_t width, height; /* of exec's terminal; 0: not known */
	const int32_t *ports;	/* none: any */
	size_t n_ports;
};

struct streams;

/* Blocking, before anything is served: INVALID_ARGUMENT and the like for files of TLS that are none. */
int streams_check(const struct config *c, struct err *e);
/* Listens, once containers are known.  FAILED_PRECONDITION where an address is in use. */
int streams_open(struct node *n, struct streams **ret, struct err *e);
/* No connections from now on; those that there are go on. */
void streams_drain(struct streams *s);
/* Forgets everything; programs that run are left to themselves. */
struct streams *streams_close(struct streams *s);

/* A token for the session; `ret_url` (owned) leads to it, once.  RESOURCE_EXHAUSTED. */
int streams_offer(struct streams *s, const struct stream_offer *o, char **ret_url, struct err *e);
/* The pod's ports are nobody's any more: ends programs that forward to them. */
void streams_end_forwards(struct streams *s, const char *pod_id);
