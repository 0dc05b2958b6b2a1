/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as a config.json: what is taken gives facts that can be walked. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct needs_facts host = {.cgroup_v2 = size & 1};
	_cleanup_bundle_ struct bundle b = {0};
	struct err e = ERR_NULL;
	size_t bytes = 0;

	if (bundle_parse((const char *)data, size, &host, &b, &e) < 0) {
		FUZZ_ASSERT(e.msg[0] && !b.config);
		return 0;
	}
	FUZZ_ASSERT(b.facts.n_labels <= BUNDLE_LABELS_MAX);
	FUZZ_ASSERT(b.facts.n_annotations <= BUNDLE_LABELS_MAX);
	for (size_t i = 0; i < b.facts.n_labels; i++)
		bytes += strlen(b.facts.labels[i].key) + strlen(b.facts.labels[i].value);
	if (b.facts.image)
		FUZZ_ASSERT(b.facts.container && b.facts.image->name);
	FUZZ_ASSERT(bytes < size * 8 + 1);
	return 0;
}
