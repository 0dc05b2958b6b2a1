/* SPDX-License-Identifier: Apache-2.0 */
/* gantry tag, image verify, image prune. */
#include "cli.h"
#include "progress.h"
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

/* --- image verify --- */

struct tally {
	struct cli *cli;
	bool quiet;
	size_t n, bad;
};

static void verdict(struct tally *t, const Gantry__V1__VerifyResponse *m)
{
	struct arena *a = &t->cli->arena;
	const char *name = str_empty(m->image_name) ? "an image without a name" : m->image_name;
	bool good = streq(m->state, "good") || streq(m->state, "gone");

	t->n++;
	t->bad += !good;
	if (good && t->quiet)
		return;
	cli_print("%s (%s): ", text_safe_dup(a, name), text_id(a, m->image_id, false));
	if (streq(m->state, "gone"))
		cli_print("removed or replaced meanwhile\n");
	else if (streq(m->state, "unknown"))
		cli_print("not verified: it was unpacked by an older version, which recorded "
			  "nothing to verify it by; remove it and pull it again\n");
	else if (streq(m->state, "damaged"))
		cli_print("damaged: %s\n", text_safe_dup(a, m->problem));
	else
		cli_print("%s\n", text_safe_dup(a, m->state));
}

static int verify_stream(struct cli *cli, const struct args *a, struct tally *t, struct err *e)
{
	Gantry__V1__VerifyRequest q = GANTRY__V1__VERIFY_REQUEST__INIT;
	_cleanup_progress_ struct progress *p = progress_new(t->quiet);
	struct rpc_stream s = {0};
	int r;

	q.images = (char **)(uintptr_t)a->v;
	q.n_images = a->n;
	r = rpc_open(cli, GANTRY, "Verify", &q, &s, e);
	while (r >= 0) {
		Gantry__V1__VerifyResponse *m;

		r = rpc_next(&s, &cli->arena, &m, e);
		if (r == 0)
			break;
		if (r > 0 && m->progress)
			progress_update(p, m->progress);
		else if (r > 0)
			verdict(t, m);
	}
	rpc_close(&s);
	return r < 0 ? err_wrap(e, "verify") : 0;
}

static int verify(struct cli *cli, const struct args *a)
{
	struct tally t = {.cli = cli, .quiet = args_has(a, "quiet")};
	struct err e = ERR_NULL;

	if (verify_stream(cli, a, &t, &e) < 0)
		return cli_fail(cli, &e);
	return t.bad ? EXIT_FAILED : EXIT_OK;
}

static const struct opt verify_options[] = {
	{.c = 'q', .name = "quiet", .help = "no progress, and only what is not good"},
	OPT_END,
};

static const struct command cmd_verify = {
	.name = "image verify",
	.operands = "[IMAGE]...",
	.summary = "read images from the disk and compare them with what was unpacked",
	.text = "Without IMAGE all of them. Prints a line for each, and fails when one is not good."
		"\n"
		"A damaged image is not used any more, and the next pull fetches what is damaged "
		"again. Containers that have it go on with what is there.",
	.opts = verify_options,
	.complete = COMPLETE_IMAGE,
	.max = UNLIMITED,
	.run = verify,
};

/* --- image prune --- */

static int prune(struct cli *cli, const struct args *a)
{
	Gantry__V1__PruneRequest q = GANTRY__V1__PRUNE_REQUEST__INIT;
	bool dry = args_has(a, "dry-run");
	Gantry__V1__PruneResponse *m;
	struct err e = ERR_NULL;
	char size[TEXT_MAX];

	q.all = args_has(a, "all");
	q.dry_run = dry;
	if (rpc_call(cli, GANTRY, "Prune", &q, &m, &e) < 0) {
		err_wrap(&e, "prune images");
		return cli_fail(cli, &e);
	}
	for (size_t i = 0; i < m->n_images; i++) {
		const Gantry__V1__PrunedImage *im = m->images[i];

		for (size_t k = 0; k < im->n_names; k++)
			cli_print("%s %s\n", dry ? "Would remove" : "Removed",
				  text_safe_dup(&cli->arena, im->names[k]));
		cli_print("%s sha256:%s\n", dry ? "Would remove" : "Removed",
			  text_safe_dup(&cli->arena, im->image_id));
	}
	cli_print("%s %s\n", dry ? "Would free" : "Freed", text_size(m->freed_bytes, size));
	return EXIT_OK;
}

static const struct opt prune_options[] = {
	{.c = 'a', .name = "all", .help = "also images that have a tag"},
	{.c = 'n', .name = "dry-run", .help = "only say what would be removed"},
	OPT_END,
};

static const struct command cmd_prune = {
	.name = "image prune",
	.operands = "",
	.summary = "remove images that no container has",
	.text = "Those that have no tag: another image took it, or they were pulled by digest. "
		"With "
		"--all any that no container has, running or not. Pinned images stay, "
		"damaged ones go. Says how much space that made free.",
	.opts = prune_options,
	.run = prune,
};

/* --- image --- */

static const struct command *const image_commands[] = {&cmd_verify, &cmd_prune, NULL};

static int image(struct cli *cli, const struct args *a)
{
	struct err e = ERR_NULL;

	(void)cli;
	if (a->n)
		err_invalid(&e,
			    "there is no command 'image %s', only: prune verify; "
			    "'gantry images' lists images",
			    a->v[0]);
	else
		err_invalid(&e,
			    "a command is needed: prune or verify; 'gantry images' lists images");
	return cli_usage(a->command, &e);
}

const struct command cmd_image = {
	.name = "image",
	.operands = "COMMAND",
	.summary = "verify or prune the images of the node",
	.subs = image_commands,
	.max = UNLIMITED,
	.run = image,
};
