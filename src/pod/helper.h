/* SPDX-License-Identifier: Apache-2.0 */
/* Short-lived programs run from a coroutine: probes, and this daemon with --fold-index. */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

#define HELPER_OUTPUT_MAX 65536 /* bytes kept of what it prints */

/*
 * Runs the program to its end; its standard output is appended to `ret`.  Returns its status
 * (0..255, 128+n for a signal), or < 0.  Killed at `timeout_us` or when the coroutine is
 * cancelled (DEADLINE_EXCEEDED, CANCELLED).  It survives this daemon, to clean up after
 * itself, unless `death_signal` is one.
 */
int helper_run(struct loop *l, const char *const *argv, int death_signal, uint64_t timeout_us,
	       struct strbuf *ret, struct err *e);
