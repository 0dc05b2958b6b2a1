/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines: asynchronous code that reads top to bottom.
 *
 * Each request runs on a small stack of its own and gives the loop back at named points:
 * co_sleep(), co_lock(), co_event_wait(), ipc_call(), grpc_call_send().  Between two such
 * points nothing else runs, so no locks are needed for plain memory.  docs/decisions/0001
 * says why this and not operation objects.
 *
 * Cancellation (client gone, deadline passed) is an error that the wait returns:
 * -ECANCELED or -ETIMEDOUT.  It stays set, so every later wait returns it at once; code
 * that undoes or finishes regardless puts itself behind co_shield().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "loop/loop.h"

struct co;
typedef void co_fn(void *arg);

/* Starts fn(arg) on a new stack; runs until its first wait. It ends when fn returns.
 * May be called from a coroutine too. The result is borrowed and dies with the coroutine;
 * NULL when it has ended already. */
struct co *co_start(struct loop *l, co_fn *fn, void *arg);

/* The running coroutine, NULL outside of any. */
struct co *co_self(void);
struct loop *co_loop(void);

/* Makes the waits of `c` return `errnum` (-ECANCELED, -ETIMEDOUT). First call wins. */
void co_cancel(struct co *c, int errnum);
/* The errno it was cancelled with, or 0. Not hidden by a shield. */
int co_cancelled(void);
/* Counted. While above zero, cancellation does not end waits. */
void co_shield(bool on);

/* Lowest level: give up the processor until co_wake(). Returns 0, or the cancellation.
 * Spurious wakes happen: check your condition. */
int co_wait(void);
/* Wakes it in this turn of the loop; harmless when it does not wait. */
void co_wake(struct co *c);

int co_sleep(uint64_t us);

/* Waits for one thing to be over; may be awaited by many. */
struct co_event {
	struct list waiters;
	bool set;
};
void co_event_init(struct co_event *ev);
void co_event_set(struct co_event *ev); /* stays set; wakes all */
void co_event_reset(struct co_event *ev);
/* 0 when set; -ETIMEDOUT at `deadline` (clock_mono_us(), or USEC_FOREVER); cancellation. */
int co_event_wait(struct co_event *ev, uint64_t deadline);

/* A first-come lock, held across waits. */
struct co_lock {
	struct list waiters;
	struct co *owner;
};
void co_lock_init(struct co_lock *k);
int co_lock(struct co_lock *k); /* 0, or the cancellation (then not held) */
void co_unlock(struct co_lock *k);
bool co_lock_busy(const struct co_lock *k); /* held or waited for */

/* Frees pooled stacks. For the end of a program. */
void co_pool_free(void);
