/* SPDX-License-Identifier: Apache-2.0 */
/* See histogram.h. */
#include "base/histogram.h"

const uint64_t histogram_bounds[HISTOGRAM_BOUNDS] = {
	100,   500,    1000,   2500,	5000,	 10000,	   25000,
	50000, 100000, 500000, 1000000, 5000000, 30000000, 120000000,
};

void histogram_add(struct histogram *h, uint64_t us)
{
	size_t i = 0;

	while (i < HISTOGRAM_BOUNDS && us > histogram_bounds[i])
		i++;
	h->n[i]++;
	h->sum_us += us;
}
