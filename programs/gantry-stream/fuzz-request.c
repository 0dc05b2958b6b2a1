/* SPDX-License-Identifier: Apache-2.0 */
/* Any head: what is taken for a request has what the program goes on with. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *head = xmemdup(data, size ? size : 1);
	_cleanup_strbuf_ struct strbuf answer = STRBUF_NULL;
	size_t n = http_head_size(head, size);
	uint16_t ports[HTTP_PORTS_MAX];
	struct http_request r;
	struct http_error e;
	char element[64];
	unsigned k;

	FUZZ_ASSERT(n <= size);
	if (!n || http_parse(head, n, &r, &e) < 0) {
		if (n) {
			http_put_error(&answer, &e);
			FUZZ_ASSERT(e.status >= 400 && e.status < 600 && e.text[0]);
		}
		return 0;
	}
	FUZZ_ASSERT(r.kind && strlen(r.token) > 0 && strlen(r.token) <= HTTP_TOKEN_MAX);
	FUZZ_ASSERT(r.n_fields <= HTTP_FIELDS_MAX);
	for (unsigned i = 0; i < r.n_fields; i++) {
		struct http_list pos = {0};
		const char *name = r.fields[i].name;

		while (http_next(&r, name, &pos, element, sizeof(element)))
			FUZZ_ASSERT(element[0] && !strchr(element, ',') &&
				    http_has(&r, name, element));
	}
	if (http_query_ports(&r, ports, &k, &e) == 0)
		while (k--)
			FUZZ_ASSERT(ports[k]);
	return 0;
}
