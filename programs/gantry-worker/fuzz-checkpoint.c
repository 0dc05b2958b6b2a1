/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a checkpoint's documents, parted by NULs: config.dump, spec.dump, deleted.files, and the
 * head of an image. What is said of them is JSON that the daemon can read. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "checkpoint.h"
#include "wire/json.h"

struct part {
	const char *s;
	size_t n;
};

static struct part next(const uint8_t **data, size_t *left)
{
	const uint8_t *end = memchr(*data, '\0', *left);
	struct part p = {(const char *)*data, end ? (size_t)(end - *data) : *left};
	size_t used = p.n + (end != NULL);

	*data += used;
	*left -= used;
	return p;
}

static void describe(struct part config, struct part spec)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;

	if (checkpoint_describe(config.s, config.n, spec.s, spec.n, &b, &e) < 0) {
		FUZZ_ASSERT(strstr(e.msg, ".dump"));
		return;
	}
	FUZZ_ASSERT(jv_parse(b.s, b.len, 1u << 20, "it", &doc, &e) == 0);
	FUZZ_ASSERT(jv_is_array(jv_get(doc, "images")) && jv_is_array(jv_get(doc, "binds")));
	for (size_t i = 0; i < jv_len(jv_get(doc, "binds")); i++)
		FUZZ_ASSERT(*jv_as_string(jv_at(jv_get(doc, "binds"), i)) == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strv_ struct strv gone = STRV_NULL;
	struct part config, spec, deleted;
	struct err e = ERR_NULL;

	if (!size)
		return 0;
	config = next(&data, &size);
	spec = next(&data, &size);
	deleted = next(&data, &size);
	describe(config, spec);
	if (checkpoint_deleted(deleted.s, deleted.n, &gone, &e) == 0)
		for (size_t i = 0; i < gone.n; i++)
			FUZZ_ASSERT(*gone.v[i] && *gone.v[i] != '/');
	e = ERR_NULL;
	if (checkpoint_check_inventory(data, size, &e) == 0)
		FUZZ_ASSERT(size >= 4);
	if (checkpoint_check_core(data, size, "amd64", &e) == 0)
		FUZZ_ASSERT(size >= 14);
	return 0;
}
