/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a file of CDI, JSON or (first byte odd) YAML: what is of use gives edits that are JSON,
 * or says what the node lacks. */
#include "base/fuzz.h"
#include "base/log.h"
#include "base/mem.h"
#include "cdi.h"
#include "dropins.h"

static void apply(const jv *doc, const char *device)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *edits = NULL;
	struct edits v = {0};
	struct err e = ERR_NULL;

	if (cdi_apply(doc, device, "f", &v, &e) < 0) {
		FUZZ_ASSERT(str_has_prefix(e.msg, "f: "));
	} else if (edits_print(&v, &b, &e) == 0) {
		FUZZ_ASSERT(jv_parse(b.s, b.len, EDITS_MAX, "edits", &edits, &e) == 0);
		FUZZ_ASSERT(jv_is_object(edits));
	}
	edits_fini(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path = size && *data & 1 ? "/d/f.yaml" : "/d/f.json";
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;

	log_init("fuzz", LOG_LEVEL_ERROR);
	if (!size)
		return 0;
	if (dropins_parse((const char *)data + 1, size - 1, path, &doc, &e) < 0) {
		FUZZ_ASSERT(strstr(e.msg, path));
		return 0;
	}
	if (cdi_check(doc, path, &e) < 0) {
		FUZZ_ASSERT(str_has_prefix(e.msg, path));
		return 0;
	}
	apply(doc, NULL);
	for (size_t i = 0; i < jv_len(jv_get(doc, "devices")); i++) {
		_cleanup_strbuf_ struct strbuf name = STRBUF_NULL;

		FUZZ_ASSERT(field_text(jv_get(jv_at(jv_get(doc, "devices"), i), "name"), &name));
		apply(doc, name.s);
	}
	return 0;
}
