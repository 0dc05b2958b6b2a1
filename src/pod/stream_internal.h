/* SPDX-License-Identifier: Apache-2.0 */
/* What stream.c and stream_server.c share. */
#pragma once

#include "pod/stream.h"

struct stream_token;

struct stream_listener {
	struct loop_io io;
	struct loop_timer pause; /* no descriptors are left: until it is tried again */
	struct streams *server;
	int fd;	  /* -EBADF: none */
	bool tcp; /* else the unix socket, which never has TLS */
};

struct streams {
	struct node *node;
	struct list tokens;
	struct map by_text;
	size_t token_bytes;
	struct loop_timer expiry;
	char *base_url; /* "http://127.0.0.1:40001" */
	char *socket;	/* path, to be removed; NULL: not ours */
	struct stream_listener tcp, local;
	struct list children;
	unsigned n_children;
	uint64_t told_at; /* that there are too many; clock_mono_us() */
};

/* A gantry-stream. */
struct stream_child {
	struct list link; /* streams.children */
	struct streams *server;
	struct stream_listener *from;
	int client;    /* the connection, until a program has it */
	unsigned refs; /* one as long as the process lives, one for each call */
	struct ipc_conn ipc;
	struct loop_child child;
	struct stream_token *token; /* once it is open; owned */
	struct list calls;
	unsigned n_calls;
	bool started;
};

void stream_tokens_drop(struct streams *s);
void stream_on_message(struct ipc_conn *ipc, struct ipc_in *in);
void stream_cancel_calls(struct stream_child *c);
struct stream_child *stream_child_ref(struct stream_child *c);
void stream_child_unref(struct stream_child *c);
bool stream_child_forwards(const struct stream_child *c, const char *pod_id);
