/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client's connection from its first byte to its last: the request, the question to the daemon,
 * the upgrade, and then a session (exec.h, forward.h) on a mux (mux.h).
 */
#pragma once

#include "channels.h"
#include "http.h"
#include "ipc/ipc.h"
#include "ipc/stream.h"
#include "link.h"
#include "spdy.h"

#define SERVER_HEAD_TIMEOUT_S 30    /* for TLS and the request's head */
#define SERVER_CREATE_TIMEOUT_S 30  /* for the client to make its streams */
#define SERVER_IDLE_TIMEOUT_S 14400 /* without a byte of any stream */
#define SERVER_PONG_S 15	    /* between signs of life to a client that is not read */

struct server;

/* A request to the daemon. */
struct call {
	struct list link;
	uint32_t seq;
	bool queued; /* not sent yet: out */
	struct ipc_out out;
	/* `in` is NULL where it failed, for the reason in `e`. The call may be gone after it. */
	void (*done)(struct call *c, struct ipc_in *in, const struct err *e);
};

/* What a kind of session has. */
struct session_ops {
	void (*room)(struct server *sv);     /* the client's connection has room again */
	void (*idle)(struct server *sv);     /* the time is over; ends with server_finish() */
	void (*orphaned)(struct server *sv); /* the daemon has gone */
	void (*stop)(struct server *sv);     /* lets go of the container, or the pod. Idempotent */
	void (*free)(struct server *sv);
};

struct server_options {
	uint64_t create_timeout_us, idle_timeout_us; /* USEC_FOREVER: none */
};

struct server {
	struct loop *loop;
	struct server_options options;
	struct link client;
	struct ipc_conn daemon;
	struct list calls;
	unsigned n_asked; /* that the daemon has not answered */
	uint32_t last_seq;
	struct loop_timer timer; /* for the head, then for idleness */
	struct loop_timer pong;
	struct strbuf head, rest; /* rest: what came after the head */
	struct http_request request;
	struct call open;
	bool opening;
	enum stream_kind kind;
	unsigned version;     /* of remotecommand, 1..5 */
	const char *protocol; /* that was agreed upon. static */
	bool websocket, tunnel;
	char accept[WS_ACCEPT_MAX];
	enum channels_mode mode;
	struct channels channels; /* of WebSocket */
	struct spdy spdy;	  /* otherwise, or in a tunnel */
	struct mux *mux;	  /* NULL: there is none yet */
	const struct session_ops *ops;
	void *session; /* the ops' */
};

int server_open(struct server *sv, struct loop *l, int daemon_fd, int client_fd, struct tls *tls,
		const struct server_options *o);
void server_close(struct server *sv);

/* Sends a request; finishes `o`. */
void server_call(struct server *sv, struct call *c, struct ipc_out *o,
		 void (*done)(struct call *c, struct ipc_in *in, const struct err *e));
/* Forgets the call: its answer is thrown away. Idempotent. */
void server_uncall(struct call *c);
/* Says goodbye, sends what is queued, ends. */
void server_finish(struct server *sv);

/* upgrade.c: what the client's request agrees with; then the answer, and sv->mux. */
int upgrade_check(struct server *sv, struct http_error *e);
void upgrade_answer(struct server *sv);
