/* SPDX-License-Identifier: Apache-2.0 */
/* Lines as instructions for a configuration: what is printed of them can be parsed again. */
#include "base/fuzz.h"
#include "base/mem.h"
#include "change.h"
#include "worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const struct imported im = {
		.arch = host_arch(),
		.diff_id = "sha256:"
			   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		.message = "m",
		.created = 1};
	char *text = xstrndup((const char *)data, size), *save = NULL;
	struct changes c = {0};
	struct image_info info;
	struct err e = ERR_NULL;

	for (char *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
		struct err why = ERR_NULL;
		int r = changes_apply(&c, p, &why);

		FUZZ_ASSERT(r == 0 || (r == -EINVAL && why.msg[0]));
	}
	changes_print(&c, &im, &b);
	FUZZ_ASSERT(config_parse(b.s, b.len, &info, &e) == 0);
	FUZZ_ASSERT(info.config.cmd.n == c.cmd.n && info.config.env.n == c.env.n);
	image_info_fini(&info);
	changes_fini(&c);
	free(text);
	return 0;
}
