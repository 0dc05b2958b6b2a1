/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a hosts.toml: every host has a URL that can be asked. */
#include "base/fuzz.h"
#include "base/log.h"
#include "base/mem.h"
#include "hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xstrndup((const char *)data, size);
	struct hosts h = {0};
	struct err e = ERR_NULL;

	log_init("fuzz", LOG_LEVEL_ERROR);
	if (hosts_parse(text, "/d/hosts.toml", "example.com:5000", &h, &e) == 0) {
		FUZZ_ASSERT(h.n >= 1 && h.n <= HOSTS_MAX + 1 && h.v[h.n - 1].origin);
		for (size_t i = 0; i < h.n; i++) {
			FUZZ_ASSERT(str_has_prefix(h.v[i].url, "http"));
			FUZZ_ASSERT(!strpbrk(h.v[i].url, " \r\n@?#"));
			for (size_t k = 0; k < h.v[i].headers.n; k++)
				FUZZ_ASSERT(!strpbrk(h.v[i].headers.v[k], "\r\n"));
		}
	} else {
		FUZZ_ASSERT(strstr(e.msg, "/d/hosts.toml:"));
	}
	hosts_fini(&h);
	free(text);
	return 0;
}
