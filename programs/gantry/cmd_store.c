/* SPDX-License-Identifier: Apache-2.0 */
/* gantry tag. */
#include "cli.h"
#include "text.h"

/* --- tag --- */

static int tag(struct cli *cli, const struct args *a)
{
	Gantry__V1__TagRequest q = GANTRY__V1__TAG_REQUEST__INIT;
	Gantry__V1__TagResponse *done;
	struct err e = ERR_NULL;

	q.source = (char *)(uintptr_t)a->v[0];
	q.targets = (char **)(uintptr_t)(a->v + 1);
	q.n_targets = a->n - 1;
	if (rpc_call(cli, GANTRY, "Tag", &q, &done, &e) < 0) {
		err_wrap(&e, "tag %s", a->v[0]);
		return cli_fail(cli, &e);
	}
	for (size_t i = 0; i < done->n_tags; i++)
		cli_print("Tagged %s as %s\n", text_id(&cli->arena, done->image_id, false),
			  text_safe_dup(&cli->arena, done->tags[i]));
	return EXIT_OK;
}

const struct command cmd_tag = {
	.name = "tag",
	.operands = "IMAGE TAG...",
	.summary = "give an image more names",
	.text = "TAG is a name such as app:2 or registry.example/team/app:2; ':latest' where it "
		"has "
		"no tag. An image that had the name loses it.",
	.examples = "gantry tag app:2 app:stable registry.example/team/app:2",
	.complete = COMPLETE_IMAGE,
	.min = 2,
	.max = UNLIMITED,
	.run = tag,
};
