/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion.  The shells' scripts call `gantry __complete`, which knows the tables of
 * commands and asks the daemon, for a second at most, for ids and names.
 *
 *	gantry __complete words -- WORD...		   lines "VALUE\tWHAT IT IS"
 *	gantry __complete bash LINE POINT WORDBREAKS	   values alone, cut as bash wants them
 */
#include "complete.h"

#include "lookup.h"
#include "text.h"

#define COMPLETE_TIMEOUT (1 * USEC_PER_SEC)
#define SHORT_ID 12

struct completion {
	struct cli *cli;
	const char *word;   /* what is typed of it */
	const char *before; /* put before each value: "--name=" */
	struct strbuf *to;
};

/* Only what no shell acts on: names come from outside. */
static bool harmless(const char *s)
{
	return *s && *s != '-' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:@-") ==
		       strlen(s);
}

/* A pod and its container may have one name. */
static bool offered(const struct completion *c, const char *value)
{
	size_t n = strlen(c->before), k = strlen(value);

	for (const char *p = str_or_empty(c->to->s); *p; p = strchr(p, '\n') + 1)
		if (strncmp(p, c->before, n) == 0 && strncmp(p + n, value, k) == 0 &&
		    (p[n + k] == '\t' || p[n + k] == '\n'))
			return true;
	return false;
}

static void offer(struct completion *c, const char *value, const char *what)
{
	if (!str_has_prefix(value, c->word) || offered(c, value))
		return;
	strbuf_addf(c->to, "%s%s", c->before, value);
	if (!str_empty(what)) {
		strbuf_addc(c->to, '\t');
		text_safe(c->to, what, strlen(what));
	}
	strbuf_addc(c->to, '\n');
}

static void offer_outside(struct completion *c, const char *value, const char *what)
{
	if (harmless(value))
		offer(c, value, what);
}

/* Ids only to one who types one: names are what people look for. */
static void offer_id(struct completion *c, const char *id, const char *what)
{
	char buf[SHORT_ID + 1];

	if (!*c->word)
		return;
	id += str_has_prefix(id, "sha256:") ? 7 : 0;
	snprintf(buf, sizeof(buf), "%s", id);
	offer_outside(c, strlen(c->word) > SHORT_ID ? id : buf, what);
}

static void offer_words(struct completion *c, const char *words)
{
	_cleanup_free_ char *copy = xstrdup(words);
	char *save = NULL;

	for (char *s = strtok_r(copy, " ", &save); s; s = strtok_r(NULL, " ", &save))
		offer(c, s, NULL);
}

static void offer_commands(struct completion *c)
{
	for (size_t i = 0; cli_commands[i]; i++)
		offer(c, cli_commands[i]->name, cli_commands[i]->summary);
}

static void offer_subs(struct completion *c, const struct command *of)
{
	for (size_t i = 0; of->subs[i]; i++)
		offer(c, command_word(of->subs[i]), of->subs[i]->summary);
}

static const struct command every = {.opts = cli_options};

static void offer_options(struct completion *c, const struct command *of)
{
	for (const struct opt *o = opt_next(of, NULL); o; o = opt_next(of, o)) {
		_cleanup_free_ char *s = xasprintf("--%s", o->name);

		offer(c, s, o->help);
		if (o->c && strlen(c->word) < 2) {
			free(s);
			s = xasprintf("-%c", o->c);
			offer(c, s, o->help);
		}
	}
}

/* --- what the daemon has --- */

static void offer_pods(struct completion *c, const struct inventory *v)
{
	for (size_t i = 0; i < v->n_pods; i++) {
		const Runtime__V1__PodSandbox *p = v->pods[i];
		_cleanup_free_ char *what = NULL, *full = NULL;

		if (!p->metadata)
			continue;
		what = xasprintf("pod in %s", p->metadata->namespace_);
		full = xasprintf("%s/%s", p->metadata->namespace_, p->metadata->name);
		offer_outside(c, p->metadata->name, what);
		if (strchr(c->word, '/'))
			offer_outside(c, full, what);
		offer_id(c, p->id, p->metadata->name);
	}
}

static void offer_containers(struct completion *c, const struct inventory *v, bool running)
{
	for (size_t i = 0; i < v->n_containers; i++) {
		const Runtime__V1__Container *x = v->containers[i];
		const Runtime__V1__PodSandbox *p = inventory_pod(v, x->pod_sandbox_id);
		_cleanup_free_ char *what = NULL, *full = NULL;

		if (!x->metadata || !p || !p->metadata ||
		    (running && x->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING))
			continue;
		what = xasprintf("container in %s", p->metadata->name);
		full = xasprintf("%s/%s", p->metadata->name, x->metadata->name);
		offer_outside(c, x->metadata->name, what);
		if (strchr(c->word, '/'))
			offer_outside(c, full, what);
		offer_id(c, x->id, x->metadata->name);
	}
}

static void offer_images(struct completion *c)
{
	Runtime__V1__ListImagesRequest q = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
	Runtime__V1__ListImagesResponse *r;
	struct err e = ERR_NULL;

	if (rpc_call(c->cli, IMAGE, "ListImages", &q, &r, &e) < 0)
		return;
	for (size_t i = 0; i < r->n_images; i++) {
		for (size_t j = 0; j < r->images[i]->n_repo_tags; j++)
			offer_outside(c, r->images[i]->repo_tags[j], "image");
		offer_id(c, r->images[i]->id, "image");
	}
}

static void offer_handlers(struct completion *c)
{
	Runtime__V1__StatusRequest q = RUNTIME__V1__STATUS_REQUEST__INIT;
	Runtime__V1__StatusResponse *r;
	struct err e = ERR_NULL;

	if (rpc_call(c->cli, RUNTIME, "Status", &q, &r, &e) < 0)
		return;
	for (size_t i = 0; i < r->n_runtime_handlers; i++)
		offer_outside(c, r->runtime_handlers[i]->name, "runtime handler");
}

static void offer_kind(struct completion *c, enum complete kind)
{
	struct inventory v = {0};
	struct err e = ERR_NULL;

	if (kind >= COMPLETE_CONTAINER && kind <= COMPLETE_OBJECT &&
	    inventory_load(c->cli, &v, &e) < 0)
		return;
	if (kind == COMPLETE_POD || kind == COMPLETE_TARGET || kind == COMPLETE_OBJECT)
		offer_pods(c, &v);
	if (kind == COMPLETE_CONTAINER || kind == COMPLETE_TARGET || kind == COMPLETE_OBJECT)
		offer_containers(c, &v, false);
	if (kind == COMPLETE_RUNNING)
		offer_containers(c, &v, true);
	if (kind == COMPLETE_IMAGE || kind == COMPLETE_OBJECT)
		offer_images(c);
	if (kind == COMPLETE_HANDLER)
		offer_handlers(c);
	if (kind == COMPLETE_COMMAND)
		offer_commands(c);
	if (kind == COMPLETE_FILE)
		strbuf_adds(c->to, ":files\n");
}

/* --- where on the line we are --- */

struct place {
	const struct command *command; /* NULL: not given yet */
	const struct opt *value_of;    /* the word is the value of it */
	size_t operands;	       /* before the word */
	bool no_options;	       /* after "--", or a program's own */
};

/* The option that a whole word gives, when its value is the next word. */
static const struct opt *wants_value(const struct command *c, const char *w)
{
	const struct opt *o;

	if (str_has_prefix(w, "--")) {
		o = strchr(w, '=') ? NULL : opt_find(c, w + 2);
		return o && o->metavar ? o : NULL;
	}
	for (w++; *w; w++) {
		o = opt_find_short(c, *w);
		if (o && o->metavar)
			return w[1] ? NULL : o;
	}
	return NULL;
}

static void note_value(struct completion *c, const struct opt *o, const char *value)
{
	if (streq(o->name, "address"))
		c->cli->address = value;
}

static void walk(struct completion *c, const char *const *words, size_t n, struct place *p)
{
	for (size_t i = 0; i + 1 < n; i++) {
		const char *w = words[i];

		if (p->value_of) {
			note_value(c, p->value_of, w);
			p->value_of = NULL;
		} else if (!p->no_options && streq(w, "--")) {
			p->no_options = true;
		} else if (!p->no_options && *w == '-' && w[1]) {
			p->value_of = wants_value(p->command, w);
			if (str_has_prefix(w, "--address="))
				note_value(c, opt_find(NULL, "address"), w + strlen("--address="));
		} else if (!p->command) {
			p->command = command_find(w);
			if (!p->command) { /* nothing is known of what follows */
				p->no_options = true;
				p->operands = UNLIMITED;
				return;
			}
		} else if (p->operands == 0 && command_find_sub(p->command, w)) {
			p->command = command_find_sub(p->command, w);
		} else {
			p->operands++;
			p->no_options |= p->command->own_options_first;
		}
	}
}

static void complete_value(struct completion *c, const struct opt *o)
{
	if (o->words)
		offer_words(c, o->words);
	else
		offer_kind(c, o->complete);
}

void complete_words(struct cli *cli, const char *const *words, size_t n, struct strbuf *to)
{
	struct completion c = {.cli = cli, .word = words[n - 1], .before = "", .to = to};
	const char *eq = strchr(c.word, '=');
	struct place p = {0};

	walk(&c, words, n, &p);
	if (p.value_of) {
		complete_value(&c, p.value_of);
	} else if (!p.no_options && str_has_prefix(c.word, "--") && eq) {
		_cleanup_free_ char *name = xstrndup(c.word + 2, (size_t)(eq - c.word - 2)),
				    *before = xstrndup(c.word, (size_t)(eq + 1 - c.word));
		const struct opt *o = opt_find(p.command, name);

		c.before = before;
		c.word = eq + 1;
		if (o && o->metavar)
			complete_value(&c, o);
	} else if (!p.no_options && *c.word == '-') {
		offer_options(&c, p.command);
		offer_options(&c, &every);
	} else if (!p.command && p.operands == 0) {
		offer_commands(&c);
	} else if (p.command && p.command->subs) {
		if (p.operands == 0)
			offer_subs(&c, p.command);
	} else if (p.command && p.operands < p.command->max &&
		   (p.operands == 0 || !p.command->own_options_first)) {
		if (p.command->words)
			offer_words(&c, p.command->words);
		else
			offer_kind(&c, p.command->complete);
	}
}

/* --- the shells --- */

void complete_split(const char *line, size_t n, struct strv *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	bool in_word = false;
	char quote = 0;

	for (size_t i = 0; i < n; i++) {
		char ch = line[i];

		if (quote) {
			if (ch == quote)
				quote = 0;
			else if (ch == '\\' && quote == '"' && i + 1 < n)
				strbuf_addc(&b, line[++i]);
			else
				strbuf_addc(&b, ch);
		} else if (ch == '\'' || ch == '"') {
			quote = ch;
			in_word = true;
		} else if (ch == ' ' || ch == '\t') {
			if (in_word)
				strv_add(ret, str_or_empty(b.s));
			strbuf_reset(&b);
			if (b.s)
				*b.s = '\0';
			in_word = false;
		} else {
			if (ch == '\\' && i + 1 < n)
				ch = line[++i];
			strbuf_addc(&b, ch);
			in_word = true;
		}
	}
	strv_add(ret, b.len ? b.s : "");
}

/* bash replaces what follows the last of its word breaks: the values lose what is before. */
static void print_for_bash(const char *word, const char *breaks, char *lines)
{
	size_t cut = 0;
	char *save = NULL;

	for (size_t i = 0; word[i]; i++)
		if (strchr(":=", word[i]) && strchr(breaks, word[i]))
			cut = i + 1;
	for (char *s = strtok_r(lines, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		s[strcspn(s, "\t")] = '\0';
		if (streq(s, ":files"))
			cli_print("%s\n", s);
		else if (strlen(s) >= cut)
			cli_print("%s\n", s + cut);
	}
}

static int for_bash(struct cli *cli, char **argv)
{
	_cleanup_strv_ struct strv words = STRV_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	uint64_t point;

	if (!str_to_u64(argv[1], &point))
		return EXIT_USAGE;
	complete_split(argv[0], MIN((size_t)point, strlen(argv[0])), &words);
	if (words.n < 2)
		return EXIT_OK;
	complete_words(cli, (const char *const *)words.v + 1, words.n - 1, &b);
	if (b.s)
		print_for_bash(words.v[words.n - 1], argv[2], b.s);
	return EXIT_OK;
}

int complete_main(struct cli *cli, int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	cli->timeout_us = COMPLETE_TIMEOUT;
	if (argc == 4 && streq(argv[0], "bash"))
		return for_bash(cli, argv + 1);
	if (argc < 3 || !streq(argv[0], "words") || !streq(argv[1], "--"))
		return EXIT_USAGE;
	complete_words(cli, (const char *const *)argv + 2, (size_t)argc - 2, &b);
	cli_write(str_or_empty(b.s), b.len);
	return EXIT_OK;
}
