/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as Docker's config.json, and as what a credential helper prints. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "docker_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const hosts[] = {"docker.io", "a.example", "127.0.0.1:5000"};
	const char *text = (const char *)data;
	struct credentials c;
	struct err e = ERR_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct docker_entry d;

		if (docker_config_find(text, size, "f", hosts[i], "a/b", &d, &e) == 0) {
			FUZZ_ASSERT(!d.helper || (d.server && !strchr(d.helper, '/')));
			FUZZ_ASSERT(!d.own.auth || !strpbrk(d.own.auth, "\r\n "));
			docker_entry_fini(&d);
		} else {
			FUZZ_ASSERT(e.errnum < 0 && e.msg[0]);
		}
	}
	if (docker_helper_answer(text, size, "x", &c, &e) == 0) {
		FUZZ_ASSERT(c.identity_token || (c.username && c.password));
		credentials_fini(&c);
	}
	return 0;
}
