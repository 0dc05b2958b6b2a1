/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as a record: what is taken has a program, and ends its memory. */
#include "base/fuzz.h"
#include "record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_record_ struct record r = RECORD_NULL;
	struct err e = ERR_NULL;

	if (record_parse((const char *)data, size, &r, &e) < 0)
		FUZZ_ASSERT(e.msg[0] && !r.path);
	else
		FUZZ_ASSERT(r.path[0] == '/' && r.runtime);
	return 0;
}
