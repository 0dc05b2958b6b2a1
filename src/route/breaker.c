/* SPDX-License-Identifier: Apache-2.0 */
/* A circuit breaker: see breaker.h. */
#include "route/breaker.h"

#include <stdio.h>

#include "base/mem.h"

static bool trial_under_way(const struct breaker *b, uint64_t now)
{
	return b->trial_at && now - b->trial_at < BREAKER_TRIAL_MAX;
}

bool breaker_allows(const struct breaker *b, uint64_t now)
{
	return b->state == BREAKER_CLOSED ||
	       (b->state == BREAKER_HALF_OPEN && !trial_under_way(b, now));
}

void breaker_begin(struct breaker *b, uint64_t now)
{
	if (b->state == BREAKER_HALF_OPEN)
		b->trial_at = MAX(now, (uint64_t)1);
}

static void close_it(struct breaker *b)
{
	b->state = BREAKER_CLOSED;
	b->failures = 0;
	b->rest = 0;
	b->trial_at = 0;
}

static void open_it(struct breaker *b, const struct breaker_limits *l, uint64_t now)
{
	b->rest = b->rest ? MIN(b->rest * 2, l->rest_max) : l->rest_min;
	b->until = now + b->rest;
	b->opened += b->state == BREAKER_CLOSED;
	b->state = BREAKER_OPEN;
	b->trial_at = 0;
}

void breaker_success(struct breaker *b)
{
	/* Of one that is open it is the outcome of a request that began before. */
	if (b->state == BREAKER_CLOSED || b->state == BREAKER_HALF_OPEN)
		close_it(b);
}

void breaker_failure(struct breaker *b, const struct breaker_limits *l, uint64_t now,
		     const char *why)
{
	b->failed++;
	snprintf(b->why, sizeof(b->why), "%s", why);
	if (b->state == BREAKER_HALF_OPEN) {
		open_it(b, l, now);
		return;
	}
	if (b->state != BREAKER_CLOSED)
		return;
	if (b->failures && now - b->first_at > BREAKER_WINDOW)
		b->failures = 0;
	if (b->failures++ == 0)
		b->first_at = now;
	if (l->failures && b->failures >= l->failures)
		open_it(b, l, now);
}

void breaker_nothing(struct breaker *b)
{
	b->trial_at = 0;
}

bool breaker_wants_probe(struct breaker *b, uint64_t now)
{
	if (b->state != BREAKER_OPEN || now < b->until)
		return false;
	b->state = BREAKER_PROBING;
	return true;
}

void breaker_probed(struct breaker *b, const struct breaker_limits *l, uint64_t now, bool works,
		    const char *why)
{
	if (b->state != BREAKER_PROBING)
		return;
	if (works) {
		b->state = BREAKER_HALF_OPEN;
		return;
	}
	snprintf(b->why, sizeof(b->why), "%s", why);
	open_it(b, l, now);
}

const char *breaker_state_name(enum breaker_state s)
{
	static const char *const names[] = {"closed", "open", "probing", "half open"};

	return names[s];
}
