/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A circuit breaker for each runtime: one that keeps failing for reasons of its own is set aside, so
 * that containers do not wait for it to fail once more.
 *
 *   closed      it is used.  `failures` in a row, the first not longer ago than BREAKER_WINDOW: open
 *   open        it is not.  After a rest, which doubles each time: probing
 *   probing     a container of our own is tried on it (the probe).  It works: half open; else open
 *   half open   one container at a time is put on it.  The first that works closes, one that fails
 *               opens it
 *
 * Pure: the time comes from the caller (microseconds that never go back), who also makes the probe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_WINDOW (300ull * 1000000)    /* ... since the first of them */
#define BREAKER_TRIAL_MAX (300ull * 1000000) /* a trial that says nothing for so long is no trial */
#define BREAKER_WHY_MAX 256		     /* bytes of the reason that is kept */

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING, BREAKER_HALF_OPEN };

struct breaker {
	enum breaker_state state;
	unsigned failures; /* in a row */
	uint64_t first_at; /* when the first of them was */
	uint64_t rest;	   /* of the last time that it was open; 0: it was not since it closed */
	uint64_t until;	   /* open: the end of its rest */
	uint64_t trial_at; /* half open: the trial that is under way began; 0: none */
	uint64_t opened;   /* times, in all */
	uint64_t failed;   /* failures of its own, in all */
	char why[BREAKER_WHY_MAX];
};

struct breaker_limits {
	unsigned failures;	     /* in a row; 0: it is never set aside */
	uint64_t rest_min, rest_max; /* of its rests, which double */
};

/* Whether a container may be put on it now. */
bool breaker_allows(const struct breaker *b, uint64_t now);
/* A container is being put on it; breaker_allows() has said yes. */
void breaker_begin(struct breaker *b, uint64_t now);
/* How that went.  A failure that is not its own is neither: breaker_nothing(). */
void breaker_success(struct breaker *b);
void breaker_failure(struct breaker *b, const struct breaker_limits *l, uint64_t now,
		     const char *why);
void breaker_nothing(struct breaker *b);

/* Its rest is over, and it is to be probed; true once for each rest. */
bool breaker_wants_probe(struct breaker *b, uint64_t now);
/* Any probe of it has ended: of one that is probing, or that was made for another reason. */
void breaker_probed(struct breaker *b, const struct breaker_limits *l, uint64_t now, bool works,
		    const char *why);

const char *breaker_state_name(enum breaker_state s); /* "closed", "open", ...; static */
