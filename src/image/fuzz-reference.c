/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a reference, and as an image's record: the canonical form is its own. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "image/record.h"
#include "image/reference.h"

static void check_reference(const char *s)
{
	_cleanup_reference_ struct reference r = REFERENCE_NULL, again = REFERENCE_NULL;
	struct err e = ERR_NULL;

	if (reference_parse(s, &r, &e) < 0) {
		FUZZ_ASSERT(e.code == GRPC_INVALID_ARGUMENT && e.msg[0]);
		return;
	}
	FUZZ_ASSERT(r.tag || r.digest);
	FUZZ_ASSERT(!strpbrk(r.text, " \t\r\n%?#\\\"'") && !strstr(r.path, ".."));
	FUZZ_ASSERT(*r.path != '/' && !strstr(r.path, "//"));
	FUZZ_ASSERT(reference_parse(r.text, &again, &e) == 0);
	FUZZ_ASSERT(streq(r.text, again.text) && streq(r.name, again.name));
}

static void check_record(const char *text, size_t n)
{
	_cleanup_strbuf_ struct strbuf one = STRBUF_NULL, two = STRBUF_NULL;
	struct image_record r, again;

	if (image_record_parse(text, n, &r, NULL) < 0)
		return;
	image_record_print(&r, &one);
	FUZZ_ASSERT(image_record_parse(one.s, one.len, &again, NULL) == 0);
	image_record_print(&again, &two);
	FUZZ_ASSERT(streq(one.s, two.s));
	image_record_fini(&r);
	image_record_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xstrndup((const char *)data, size);

	check_reference(text);
	check_record((const char *)data, size);
	free(text);
	return 0;
}
