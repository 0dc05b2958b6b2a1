/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: epoll, timers, children by pidfd, signals, deferred calls.
 *
 * One thread.  Callbacks are level-triggered and must not block; a watchdog measures every
 * turn.  The loop never owns a descriptor: remove the source, then close.  A callback may
 * remove any source, its own included; an event already fetched for a removed source is
 * dropped.  All structs are embedded in their owner and start zeroed.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"

struct loop;

int loop_new(struct loop **ret); /* -errno; owned */
struct loop *loop_free(struct loop *l);

/* Runs until loop_stop(), which may come before; returns the value given there, or -errno. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int value);
/* One turn: waits at most `timeout_us` for an event, dispatches what is there. */
int loop_turn(struct loop *l, uint64_t timeout_us);

/* --- descriptors --- */
struct loop_io;
typedef void loop_io_fn(struct loop_io *io, uint32_t events); /* EPOLLIN | EPOLLOUT | ... */
struct loop_io {
	struct loop *loop; /* NULL: not added */
	loop_io_fn *fn;
	int fd;
	uint32_t events;
	uint32_t gen; /* private */
	uint32_t slot;
};
int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn);
int loop_io_mod(struct loop_io *io, uint32_t events);
void loop_io_del(struct loop_io *io); /* idempotent */

/* --- timers: one shot, monotonic microseconds --- */
struct loop_timer;
typedef void loop_timer_fn(struct loop_timer *t);
struct loop_timer {
	struct loop *loop; /* NULL: not armed */
	loop_timer_fn *fn;
	uint64_t when;
	size_t index; /* private: place in the heap */
};
/* Arms or re-arms for the absolute time `when` (clock_mono_us()). */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t when, loop_timer_fn *fn);
void loop_timer_clear(struct loop_timer *t); /* idempotent */

/* --- children --- */
struct loop_child;
/* status as spawn_wait(): 0..255, or 128+n for signal n. Called once; already removed. */
typedef void loop_child_fn(struct loop_child *c, int status);
struct loop_child {
	struct loop_io io;
	loop_child_fn *fn;
	pid_t pid;
	int pidfd; /* owned by the struct while it is added */
};
/* Takes the pidfd over. The child must be ours: it is reaped here. */
int loop_child_add(struct loop *l, struct loop_child *c, pid_t pid, int pidfd, loop_child_fn *fn);
void loop_child_del(struct loop_child *c); /* forgets it (no kill, no reaping); idempotent */

/* --- signals: blocked and read from a signalfd --- */
typedef void loop_signal_fn(struct loop *l, int signo, void *arg);
int loop_signal_add(struct loop *l, int signo, loop_signal_fn *fn, void *arg);

/*
 * --- deferred: called once, in order, at the end of the turn, or of the next ones where there
 * is more than a few milliseconds' work: none is held up by what all of them take ---
 */
struct loop_defer;
typedef void loop_defer_fn(struct loop_defer *d);
struct loop_defer {
	struct list link;
	loop_defer_fn *fn;
};
void loop_defer(struct loop *l, struct loop_defer *d, loop_defer_fn *fn); /* idempotent */
void loop_defer_cancel(struct loop_defer *d);

/*
 * Watchdog: `fn` is called after a turn whose callbacks took longer than `limit_us`, computing
 * or blocked; time without a processor on a busy machine does not count. 0 switches it off.
 * Set it from the thread that runs the loop.
 */
typedef void loop_watchdog_fn(struct loop *l, uint64_t took_us, const char *what);
void loop_watchdog(struct loop *l, uint64_t limit_us, loop_watchdog_fn *fn);
/* How long turns took that the watchdog watches, all time counted that went by. borrowed */
struct histogram;
const struct histogram *loop_turns(const struct loop *l);
/* Names what the present turn does, for the watchdog. static string */
void loop_note(struct loop *l, const char *what);
