/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a hook's file: what is of use can be matched, and becomes JSON. */
#include "base/fuzz.h"
#include "base/log.h"
#include "base/mem.h"
#include "dropins.h"
#include "hooks.h"

static void match(const jv *doc, const char *command, bool binds)
{
	static char *keys[] = {(char *)"io.kubernetes.pod.uid", (char *)"a"},
		    *values[] = {(char *)"f3c1-22", (char *)""};
	const struct hooks_subject s = {{keys, 2, 2}, {values, 2, 2}, command, binds};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *again = NULL;
	struct edits v = {0};
	struct err e = ERR_NULL;

	if (hooks_match(doc, &s))
		edits_add_hook(&v, 0, jv_get(doc, "hook"));
	if (edits_print(&v, &b, &e) == 0)
		FUZZ_ASSERT(jv_parse(b.s, b.len, EDITS_MAX, "edits", &again, &e) == 0);
	edits_fini(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;

	log_init("fuzz", LOG_LEVEL_ERROR);
	if (dropins_parse((const char *)data, size, "/d/f.json", &doc, &e) < 0 ||
	    hooks_check(doc, "/d/f.json", &e) < 0) {
		FUZZ_ASSERT(strstr(e.msg, "/d/f.json"));
		return 0;
	}
	match(doc, "/usr/bin/env", true);
	match(doc, "", false);
	return 0;
}
