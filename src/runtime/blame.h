/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose fault it is that a runtime's call has failed: what decides whether another runtime is tried
 * for the container, and whether this one is trusted with the next.
 *
 * A runtime that fails for its container's reasons says so in its log; what it says is known words.
 * Words that nobody knows are taken for the container's: another try would cost time and hide the
 * first reason.  No word at all is the runtime's.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>

#include "base/err.h"

enum runtime_blame {
	RUNTIME_BLAME_CONTAINER, /* what it was asked for cannot be done by any */
	RUNTIME_BLAME_ELSEWHERE, /* this runtime cannot do this; it says nothing of its health */
	RUNTIME_BLAME_RUNTIME, /* it does not run, crashes, does not answer, lacks what it needs */
};

/* Of errors for the latter two, on the whole way from a monitor's job to the daemon. */
#define RUNTIME_ERRNO_ELSEWHERE EPROTONOSUPPORT
#define RUNTIME_ERRNO_ITSELF EREMOTEIO

/* How a call has ended that did not end well. */
struct runtime_end {
	int status;	  /* 0..255, or 128+n: signal n */
	bool timed_out;	  /* it had to be killed */
	const char *said; /* the error in its log; NULL: nothing */
	const char *root; /* its --root; NULL */
};
enum runtime_blame runtime_blame_of(const struct runtime_end *end);

/* The negative errno of a failure; `otherwise` where it is the container's. */
int runtime_blame_errno(enum runtime_blame b, int otherwise);
enum runtime_blame runtime_blame_of_errno(int errnum);
const char *runtime_blame_name(enum runtime_blame b); /* "container", "elsewhere", "runtime" */
