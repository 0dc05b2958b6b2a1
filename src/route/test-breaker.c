/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker, by a clock of the test's own. */
#include "base/mem.h"
#include "base/test.h"
#include "route/breaker.h"

#define S 1000000ull
#define BREAKER_FAILURES 3u
#define BREAKER_REST_MIN (10 * S)
#define BREAKER_REST_MAX (600 * S)

static const struct breaker_limits limits = {BREAKER_FAILURES, BREAKER_REST_MIN, BREAKER_REST_MAX};

static void fail(struct breaker *b, unsigned n, uint64_t now)
{
	for (unsigned i = 0; i < n; i++) {
		breaker_begin(b, now);
		breaker_failure(b, &limits, now, "it crashed");
	}
}

static void test_opens_after_failures_in_a_row(void)
{
	struct breaker b = {0};

	fail(&b, BREAKER_FAILURES - 1, 5 * S);
	CHECK(breaker_allows(&b, 5 * S));
	breaker_success(&b); /* one that works begins the count anew */
	fail(&b, BREAKER_FAILURES - 1, 6 * S);
	CHECK(breaker_allows(&b, 6 * S));
	breaker_nothing(&b); /* one that fails for its own reasons does not */
	fail(&b, 1, 7 * S);
	CHECK(!breaker_allows(&b, 7 * S));
	CHECK_INT(b.state, BREAKER_OPEN);
	CHECK_INT((long long)b.opened, 1);
	CHECK_STR(b.why, "it crashed");
}

static void test_failures_far_apart_do_not_count(void)
{
	struct breaker b = {0};

	for (uint64_t i = 0; i < 10; i++)
		fail(&b, 1, S + i * (BREAKER_WINDOW / (BREAKER_FAILURES - 1) + S));
	CHECK_INT(b.state, BREAKER_CLOSED);
	CHECK_INT((long long)b.failed, 10);
}

static void test_rest_probe_trial(void)
{
	struct breaker b = {0};
	uint64_t now = S;

	fail(&b, BREAKER_FAILURES, now);
	CHECK(!breaker_wants_probe(&b, now + BREAKER_REST_MIN - 1));
	now += BREAKER_REST_MIN;
	CHECK(!breaker_allows(&b, now)); /* not before it was probed */
	CHECK(breaker_wants_probe(&b, now));
	CHECK(!breaker_wants_probe(&b, now)); /* once */
	CHECK(!breaker_allows(&b, now));
	breaker_probed(&b, &limits, now, true, "");
	CHECK(breaker_allows(&b, now));
	breaker_begin(&b, now);
	CHECK(!breaker_allows(&b, now)); /* one at a time */
	breaker_success(&b);
	CHECK_INT(b.state, BREAKER_CLOSED);
	CHECK(breaker_allows(&b, now));
	fail(&b, BREAKER_FAILURES, now); /* and the rest is the short one again */
	CHECK_INT((long long)(b.until - now), (long long)BREAKER_REST_MIN);
}

static void test_rests_double(void)
{
	struct breaker b = {0};
	uint64_t now = S, rest = BREAKER_REST_MIN;

	fail(&b, BREAKER_FAILURES, now);
	for (int i = 0; i < 12; i++) {
		CHECK_INT((long long)(b.until - now), (long long)rest);
		now = b.until;
		CHECK(breaker_wants_probe(&b, now));
		if (i % 2) { /* the probe fails, or the container after it */
			breaker_probed(&b, &limits, now, false, "no such program");
			CHECK_STR(b.why, "no such program");
		} else {
			breaker_probed(&b, &limits, now, true, "");
			fail(&b, 1, now);
		}
		CHECK_INT(b.state, BREAKER_OPEN);
		rest = MIN(rest * 2, BREAKER_REST_MAX);
	}
	CHECK_INT((long long)b.opened, 1); /* it was never closed meanwhile */
}

static void test_trial_without_outcome(void)
{
	struct breaker b = {0};
	uint64_t now = S;

	fail(&b, BREAKER_FAILURES, now);
	now = b.until;
	breaker_wants_probe(&b, now);
	breaker_probed(&b, &limits, now, true, "");
	breaker_begin(&b, now);
	breaker_nothing(&b); /* the container's fault: the next is the trial */
	CHECK(breaker_allows(&b, now));
	breaker_begin(&b, now);
	CHECK(!breaker_allows(&b, now + BREAKER_TRIAL_MAX - 1));
	CHECK(breaker_allows(&b, now + BREAKER_TRIAL_MAX)); /* it was lost */
}

/* Requests that began before it was set aside end when they end. */
static void test_late_outcomes(void)
{
	struct breaker b = {0};

	fail(&b, BREAKER_FAILURES + 4, S);
	CHECK_INT((long long)b.opened, 1);
	CHECK_INT((long long)b.until, (long long)(S + BREAKER_REST_MIN));
	breaker_success(&b);
	CHECK_INT(b.state, BREAKER_OPEN);
	breaker_probed(&b, &limits, S, true, ""); /* of somebody who looked at all of them */
	CHECK_INT(b.state, BREAKER_OPEN);
	CHECK_STR(breaker_state_name(b.state), "open");
}

static void test_can_be_off(void)
{
	static const struct breaker_limits off = {0, S, S};
	struct breaker b = {0};

	for (int i = 0; i < 100; i++)
		breaker_failure(&b, &off, S, "no");
	CHECK(breaker_allows(&b, S));
}

int main(void)
{
	TEST(opens_after_failures_in_a_row);
	TEST(failures_far_apart_do_not_count);
	TEST(rest_probe_trial);
	TEST(rests_double);
	TEST(trial_without_outcome);
	TEST(late_outcomes);
	TEST(can_be_off);
	return test_done();
}
