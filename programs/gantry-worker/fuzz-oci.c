/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a manifest, an index and a configuration. */
#include "artifact.h"
#include "base/fuzz.h"
#include "base/mem.h"
#include "worker.h"

static void check_blob(const struct manifest *m, const struct descriptor *d)
{
	const char *file = m->artifact ? artifact_file(d) : NULL;
	char name[33];

	FUZZ_ASSERT(digest_valid(d->digest));
	if (!m->artifact)
		return;
	artifact_layer_name(d, name);
	FUZZ_ASSERT(strlen(name) == 32);
	FUZZ_ASSERT(!file || (*file && strlen(file) <= ARTIFACT_TITLE_MAX && !strchr(file, '/') &&
			      !streq(file, ".") && !streq(file, "..")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct err e = ERR_NULL;
	struct descriptor d = {0};
	struct image_info i;
	struct manifest m;

	if (manifest_parse(text, size, &m, &e) == 0) {
		FUZZ_ASSERT(digest_valid(m.config.digest));
		FUZZ_ASSERT(m.artifact || m.config.size <= CONFIG_MAX);
		FUZZ_ASSERT(m.n_layers <= IMAGE_LAYERS_MAX);
		for (size_t k = 0; k < m.n_layers; k++)
			check_blob(&m, &m.layers[k]);
		manifest_fini(&m);
	} else {
		FUZZ_ASSERT(e.errnum < 0 && e.msg[0]);
	}
	if (index_choose(text, size, &d, &e) == 0)
		FUZZ_ASSERT(!d.digest || digest_valid(d.digest));
	descriptor_fini(&d);
	if (config_parse(text, size, &i, &e) == 0) {
		for (size_t k = 0; k < i.diff_ids.n; k++)
			FUZZ_ASSERT(digest_valid(i.diff_ids.v[k]));
		FUZZ_ASSERT(i.config.env.n <= CONFIG_STRINGS_MAX);
		image_info_fini(&i);
	}
	return 0;
}
