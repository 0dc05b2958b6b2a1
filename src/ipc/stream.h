/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gantryd, a gantry-stream and a pod's gantry-monitor say to each other, in frames (ipc.h).
 *
 * Start: `gantry-stream`, descriptor 3 is the daemon's connection, 4 the client's, which the
 * daemon has accepted and read nothing from.  Requests below go to the daemon.  A session outlives
 * the daemon: what START answers reaches past it.
 *
 * EXEC and ATTACH get a control connection (a socket that carries frames) to whoever runs the
 * session in the monitor, and descriptors for its streams:
 *
 *   - The stream program writes the client's bytes to standard input's descriptor and closes it at
 *     their end, saying STREAM_INPUT_END on the control connection, too.
 *   - It reads output from the others.  A client that reads slowly lets them fill up: the
 *     container, or the command, waits.  That is the flow control.
 *   - When the command or the container has ended, STREAM_END comes; all output is in the
 *     descriptors by then.  The stream program reads what is there, without waiting for an end
 *     that a grandchild may hold up, and tells the client.
 *   - A control connection that ends means that the other one has gone.  The monitor kills an
 *     exec's command with its children, and detaches a client from a container.  A client takes it
 *     for a failure.
 *   - With a terminal there is one stream: standard output's and input's descriptors are the
 *     terminal, and it comes once more for its size (TIOCSWINSZ).  Of an attached container
 *     only input's is: its output is also the log's.
 */
#pragma once

#define STREAM_CALLS_MAX 32 /* unanswered requests of one stream program; more are refused */

enum stream_kind {
	STREAM_EXEC = 1,
	STREAM_ATTACH = 2,
	STREAM_PORT_FORWARD = 3,
};

/* Requests of the stream program to the daemon, answered by IPC_REPLY. */
enum {
	/*
	 * KIND TOKEN: what the path of the client's request says.  Once per connection, first; a token
	 * is used up by it.  -> of EXEC and ATTACH TTY STDIN STDOUT STDERR (each 1 or 0); of
	 * PORT_FORWARD a PORT for each that was asked for, none: any.  NOT_FOUND: no such token, or not
	 * any more.
	 */
	STREAM_OPEN = 16,
	/*
	 * EXEC, ATTACH, once: the client has its streams.  Starts the command; in a terminal of WIDTH
	 * and HEIGHT, where EXEC says them.  -> descriptors in this
	 * order: control; input where STDIN; output where STDOUT; errors where STDERR; the terminal where
	 * TTY.  On failure the message is for the client.
	 */
	STREAM_START = 17,
	/* PORT_FORWARD, any number: PORT -> a descriptor: connected to that port of the pod, on its
	 * loopback interface.  UNAVAILABLE where nobody listens. */
	STREAM_CONNECT = 18,
};

/* Events (sequence 0) on a control connection. */
enum {
	STREAM_END = 64, /* to the stream program: EXIT_CODE, or IPC_TAG_CODE IPC_TAG_MESSAGE */
	STREAM_INPUT_END = 65, /* of it: the client's input has ended */
};

enum {
	STREAM_TAG_KIND = 16,  /* u64, enum stream_kind */
	STREAM_TAG_TOKEN = 17, /* string */
	STREAM_TAG_TTY = 18,   /* u64; also below */
	STREAM_TAG_STDIN = 19,
	STREAM_TAG_STDOUT = 20,
	STREAM_TAG_STDERR = 21,
	STREAM_TAG_PORT = 22,	   /* u64, 1..65535 */
	STREAM_TAG_EXIT_CODE = 23, /* u64, 0..255 */
	STREAM_TAG_WIDTH = 24,	   /* u64, characters, 0..65535 */
	STREAM_TAG_HEIGHT = 25,
};
