/* SPDX-License-Identifier: Apache-2.0 */
/* gantry images, pull, rmi. */
#include <termios.h>

#include "cli.h"
#include "lookup.h"
#include "progress.h"
#include "table.h"
#include "text.h"

#define PASSWORD_MAX 65536 /* bytes of a password or token */

/* --- images --- */

/* "name:tag" and "name@digest" at the separator; false where there is none. */
static bool split(const char *s, char sep, char **ret_name, const char **ret_rest)
{
	const char *p = strrchr(s, sep), *slash = strrchr(s, '/');

	if (!p || (slash && p < slash))
		return false;
	*ret_name = xstrndup(s, (size_t)(p - s));
	*ret_rest = p + 1;
	return true;
}

/* The digest that goes with a name, of those that the image was pulled by. */
static const char *digest_for(const Runtime__V1__Image *im, const char *name)
{
	for (size_t i = 0; i < im->n_repo_digests; i++) {
		const char *s = im->repo_digests[i], *at = strchr(s, '@');

		if (at && (!name || (strlen(name) == (size_t)(at - s) &&
				     strncmp(s, name, strlen(name)) == 0)))
			return at + 1;
	}
	return "";
}

static void image_row(struct cli *cli, struct table *t, const struct args *a,
		      const Runtime__V1__Image *im, const char *name, const char *tag)
{
	char size[TEXT_MAX];

	table_add(t, str_empty(name) ? "<none>" : name);
	table_add(t, str_empty(tag) ? "<none>" : tag);
	table_add(t, text_id(&cli->arena, im->id, args_has(a, "no-trunc")));
	if (args_has(a, "digests"))
		table_add(t, digest_for(im, name));
	table_add(t, text_size(im->size, size));
	table_add(t, im->pinned ? "pinned" : "");
}

static void image_rows(struct cli *cli, struct table *t, const struct args *a,
		       const Runtime__V1__Image *im)
{
	_cleanup_free_ char *by_digest = NULL;
	const char *rest;

	for (size_t i = 0; i < im->n_repo_tags; i++) {
		_cleanup_free_ char *name = NULL;
		const char *tag = "";

		if (!split(im->repo_tags[i], ':', &name, &tag))
			name = xstrdup(im->repo_tags[i]);
		image_row(cli, t, a, im, name, tag);
	}
	if (im->n_repo_tags)
		return;
	if (im->n_repo_digests)
		split(im->repo_digests[0], '@', &by_digest, &rest);
	image_row(cli, t, a, im, by_digest, "");
}

static bool image_named(const Runtime__V1__Image *im, const char *text)
{
	for (size_t i = 0; i < im->n_repo_tags; i++)
		if (strstr(im->repo_tags[i], text))
			return true;
	for (size_t i = 0; i < im->n_repo_digests; i++)
		if (strstr(im->repo_digests[i], text))
			return true;
	return str_has_prefix(im->id + (str_has_prefix(im->id, "sha256:") ? 7 : 0), text);
}

static int list_images(struct cli *cli, Runtime__V1__ListImagesResponse **ret, struct err *e)
{
	Runtime__V1__ListImagesRequest q = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;

	return rpc_call(cli, IMAGE, "ListImages", &q, ret, e);
}

static int images(struct cli *cli, const struct args *a)
{
	Runtime__V1__ListImagesResponse out = RUNTIME__V1__LIST_IMAGES_RESPONSE__INIT, *all;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_table_ struct table t = {0};
	struct err e = ERR_NULL;
	enum output how;

	if (output_format(a, &how, &e) < 0 || list_images(cli, &all, &e) < 0)
		return cli_fail(cli, &e);
	out.images = arena_calloc(&cli->arena, all->n_images + 1, sizeof(*out.images));
	for (size_t i = 0; i < all->n_images; i++)
		if (a->n == 0 || image_named(all->images[i], a->v[0]))
			out.images[out.n_images++] = all->images[i];
	if (how != OUTPUT_TABLE) {
		output_message(how, &out.base);
		return EXIT_OK;
	}
	table_init(&t,
		   args_has(a, "digests") ? "IMAGE|TAG|ID|DIGEST|>SIZE|"
					  : "IMAGE|TAG|ID|>SIZE|NOTE",
		   cli->color);
	for (size_t i = 0; i < out.n_images; i++) {
		if (args_has(a, "quiet"))
			strbuf_addf(&b, "%s\n", text_safe_dup(&cli->arena, out.images[i]->id));
		else
			image_rows(cli, &t, a, out.images[i]);
	}
	if (!args_has(a, "quiet"))
		table_print(&t, &b);
	cli_write(b.s, b.len);
	return EXIT_OK;
}

static const struct opt images_options[] = {
	{.name = "digests", .help = "show the digests too"},
	{.c = 'q', .name = "quiet", .help = "ids alone, one a line"},
	OPT_NO_TRUNC,
	OPT_OUTPUT,
	OPT_END,
};

const struct command cmd_images = {
	.name = "images",
	.operands = "[TEXT]",
	.summary = "list images",
	.text = "With TEXT only those whose name holds it, or whose id begins with it.",
	.opts = images_options,
	.complete = COMPLETE_IMAGE,
	.max = 1,
	.run = images,
};

/* --- pull --- */

/* A line of standard input; from a terminal without echo. */
static int read_password(char **ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct termios old, quiet;
	bool tty = tcgetattr(STDIN_FILENO, &old) == 0;
	char c;
	int r;

	if (tty) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
		fputs("Password: ", stderr);
	}
	while ((r = (int)read(STDIN_FILENO, &c, 1)) == 1 && c != '\n' && b.len < PASSWORD_MAX)
		strbuf_addc(&b, c);
	if (tty) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	if (r < 0)
		return errno == EINTR ? err_set(e, -ECANCELED, GRPC_CANCELLED, "interrupted")
				      : err_errno(e, -errno, "read the password");
	if (b.len && b.s[b.len - 1] == '\r')
		b.s[--b.len] = '\0';
	*ret = strbuf_take(&b);
	return 0;
}

/* USER[:PASSWORD]; a password on the command line can be seen by others, so it may come from
 * standard input. */
static int credentials(struct cli *cli, const struct args *a, const char **ret_user,
		       const char **ret_password, struct err *e)
{
	const char *s = args_get(a, "creds"), *colon = s ? strchr(s, ':') : NULL;
	_cleanup_free_ char *typed = NULL;
	int r;

	*ret_user = *ret_password = NULL;
	if (!s)
		return 0;
	*ret_user = arena_strndup(&cli->arena, s, colon ? (size_t)(colon - s) : strlen(s));
	if (!**ret_user)
		return err_invalid(e, "--creds: \"%s\", expected USER or USER:PASSWORD", s);
	if (colon) {
		*ret_password = colon + 1;
		return 0;
	}
	r = read_password(&typed, e);
	if (r == 0)
		*ret_password = arena_strdup(&cli->arena, typed);
	return r;
}

static int pull(struct cli *cli, const struct args *a)
{
	const char *user, *password, *id = NULL;
	struct err e = ERR_NULL;

	if (credentials(cli, a, &user, &password, &e) < 0)
		return cli_fail(cli, &e);
	for (size_t i = 0; i < a->n; i++) {
		if (pull_image(cli, a->v[i], user, password, args_has(a, "quiet"), &id, &e) < 0) {
			return cli_fail(cli, &e);
		}
		cli_print("%s%s\n", str_has_prefix(id, "sha256:") ? "" : "sha256:",
			  text_safe_dup(&cli->arena, id));
	}
	return EXIT_OK;
}

static const struct opt pull_options[] = {
	{.name = "creds",
	 .metavar = "USER[:PASSWORD]",
	 .help = "log in at the registry; without a password it is read from standard input"},
	{.c = 'q', .name = "quiet", .help = "show no progress"},
	OPT_END,
};

const struct command cmd_pull = {
	.name = "pull",
	.operands = "IMAGE...",
	.summary = "fetch images from their registries",
	.text = "Prints the id of each image; how far it is goes to standard error. Mirrors, "
		"plain http and certificates of a registry are configured in its hosts.toml.",
	.examples = "gantry pull docker.io/library/busybox:1.36\n"
		    "gantry pull localhost:5000/app",
	.opts = pull_options,
	.min = 1,
	.max = UNLIMITED,
	.run = pull,
};

/* --- rmi --- */

static int image_status(struct cli *cli, const char *name, Runtime__V1__Image **ret, struct err *e)
{
	Runtime__V1__ImageStatusRequest q = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ImageStatusResponse *s;
	int r;

	spec.image = (char *)(uintptr_t)name;
	q.image = &spec;
	r = rpc_call(cli, IMAGE, "ImageStatus", &q, &s, e);
	if (r < 0)
		return r;
	if (!s->image)
		return err_not_found(e, "there is no image \"%s\" (gantry images lists all)", name);
	*ret = s->image;
	return 0;
}

static int remove_one(struct cli *cli, const char *name, struct err *e)
{
	Runtime__V1__RemoveImageRequest q = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__RemoveImageResponse *done;
	Runtime__V1__Image *im = NULL;
	int r = image_status(cli, name, &im, e);

	if (r < 0)
		return r;
	spec.image = im->id;
	q.image = &spec;
	r = rpc_call(cli, IMAGE, "RemoveImage", &q, &done, e);
	if (r < 0)
		return err_wrap(e, "remove image %s", name);
	for (size_t i = 0; i < im->n_repo_tags; i++)
		cli_print("Removed %s\n", text_safe_dup(&cli->arena, im->repo_tags[i]));
	cli_print("Removed %s\n", text_safe_dup(&cli->arena, im->id));
	return 0;
}

static bool image_used(const struct inventory *v, const Runtime__V1__Image *im)
{
	for (size_t i = 0; i < v->n_containers; i++)
		if (streq(v->containers[i]->image_id, im->id))
			return true;
	return im->pinned;
}

/* A failure with one does not keep the others. */
static int remove_many(struct cli *cli, const char *const *names, size_t n)
{
	int status = EXIT_OK;

	for (size_t i = 0; i < n; i++) {
		struct err e = ERR_NULL;

		if (remove_one(cli, names[i], &e) < 0)
			status = cli_fail(cli, &e);
		if (status == EXIT_INTERRUPTED)
			break;
	}
	return status;
}

static int rmi(struct cli *cli, const struct args *a)
{
	Runtime__V1__ListImagesResponse *all;
	struct inventory v;
	struct err e = ERR_NULL;
	const char **names;
	size_t n = 0;

	if (!args_has(a, "unused")) {
		if (a->n == 0)
			return cli_usage(a->command, (err_invalid(&e, "an image must be named, or "
								      "--unused given"),
						      &e));
		return remove_many(cli, a->v, a->n);
	}
	if (a->n)
		return cli_usage(a->command, (err_invalid(&e, "--unused takes no names"), &e));
	if (inventory_load(cli, &v, &e) < 0 || list_images(cli, &all, &e) < 0)
		return cli_fail(cli, &e);
	names = arena_calloc(&cli->arena, all->n_images + 1, sizeof(*names));
	for (size_t i = 0; i < all->n_images; i++)
		if (!image_used(&v, all->images[i]))
			names[n++] = all->images[i]->id;
	return remove_many(cli, names, n);
}

static const struct opt rmi_options[] = {
	{.name = "unused", .help = "all that no container has and that are not pinned"},
	OPT_END,
};

const struct command cmd_rmi = {
	.name = "rmi",
	.operands = "IMAGE...",
	.summary = "remove images",
	.text = "An image goes with all its names. One that a container has, running or not, "
		"stays.",
	.opts = rmi_options,
	.complete = COMPLETE_IMAGE,
	.max = UNLIMITED,
	.run = rmi,
};
