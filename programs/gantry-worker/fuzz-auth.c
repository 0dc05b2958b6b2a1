/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a challenge, and as what a token server answers. */
#include "auth.h"
#include "base/fuzz.h"
#include "base/mem.h"
#include "worker.h"

/* The worker's, which http.c asks. */
int worker_check(struct err *e)
{
	(void)e;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"realm", "service", "scope", ""};
	char *text = xstrndup((const char *)data, size), *token;
	struct err e = ERR_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *v = auth_parameter(text, names[i]);

		FUZZ_ASSERT(!v || (strlen(v) < strlen(text) && !strchr(v, '"')));
		free(v);
	}
	if (auth_token((const char *)data, size, "https://realm", &token, &e) == 0) {
		FUZZ_ASSERT(*token && !strpbrk(token, "\r\n \t"));
		free(token);
	} else {
		FUZZ_ASSERT(e.errnum < 0 && e.msg[0]);
	}
	free(text);
	return 0;
}
