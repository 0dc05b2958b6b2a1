/* SPDX-License-Identifier: Apache-2.0 */
/* How long things took, counted in steps from 100 us to two minutes.  Zeroed: empty. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 14
extern const uint64_t histogram_bounds[HISTOGRAM_BOUNDS]; /* microseconds, rising */

struct histogram {
	uint64_t n[HISTOGRAM_BOUNDS + 1]; /* each: those above the bound before, up to its own */
	uint64_t sum_us;
};

void histogram_add(struct histogram *h, uint64_t us);
