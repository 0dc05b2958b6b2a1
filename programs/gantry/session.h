/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams of a command or a container, joined to those of the caller: exec, attach, run.
 *
 * Flow control is that of the connection: input is read when what was read before has been
 * sent, and output is taken when what came before has been written.
 */
#pragma once

#include "channel.h"

struct session {
	struct cli *cli;
	bool tty;	   /* there is a terminal at the other end */
	bool input;	   /* standard input goes there */
	bool detach_keys;  /* ctrl-p ctrl-q ends the session (of a raw terminal) */
	bool redraw;	   /* what is on the screen of the other terminal shall be drawn anew */
	uint64_t limit_us; /* the session is given up after that long; 0: never */
	/* A signal came: 0 goes on, < 0 ends; NULL: it ends. */
	int (*on_signal)(struct session *s, struct err *e);
	void *arg;

	/* what is found */
	bool detached; /* by the keys */
	bool ended;    /* a Status came: what follows is of it */
	int exit_code; /* -1: the other side failed, and says so in: */
	const char *message;

	/* private */
	struct channels ch;
	struct channel_piece piece; /* under way to where it goes */
	struct strbuf status;
	uint64_t deadline;
	bool raw, prefix; /* the first of the detach keys came */
	bool established;
};

/* INVALID_ARGUMENT where -i and -t ask for a terminal that standard input is not. */
int session_check_terminal(bool input, bool tty, struct err *e);

/*
 * Connects to what Exec or Attach answered, and waits until the streams are joined: what happens
 * in the container from now on is seen.
 */
int session_open(struct session *s, const char *url, struct err *e);
/*
 * Moves bytes to the end: of the command or container, by the detach keys, or < 0.
 * CANCELLED when a signal came, DEADLINE_EXCEEDED after the limit, UNAVAILABLE when the
 * connection was lost.
 */
int session_run(struct session *s, struct err *e);
/* Ends the session; the other side learns it: an exec's command is killed. */
void session_close(struct session *s);
