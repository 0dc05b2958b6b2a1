/* SPDX-License-Identifier: Apache-2.0 */
/* A request for metrics: every beginning of it is parsed; once there is an answer it stays. */
#include "wire/scrape.h"

#include "base/fuzz.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int before = 0;

	for (size_t n = 0; n <= size && n <= SCRAPE_REQUEST_MAX; n++) {
		_cleanup_free_ char *p = xmemdup(data, n); /* exactly so many bytes */
		bool head;
		int status = scrape_parse(p, n, &head);

		FUZZ_ASSERT(status == 0 || status == 200 || status == 400 || status == 404 ||
			    status == 405 || status == 505);
		FUZZ_ASSERT(before == 0 || status == before);
		FUZZ_ASSERT(n < SCRAPE_REQUEST_MAX || status != 0);
		before = status;
	}
	return 0;
}
