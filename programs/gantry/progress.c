/* SPDX-License-Identifier: Apache-2.0 */
/* How far a pull is: see progress.h. */
#include "progress.h"

#include <sys/ioctl.h>

#include "base/fs.h"
#include "text.h"

#define LAYERS_MAX 1024 /* shown of one image */
#define DRAW_EVERY (80 * USEC_PER_MS)
#define BAR_MIN 10
#define BAR_MAX 40

struct layer {
	char *digest, *state;
	uint64_t done, total;
};

struct progress {
	bool quiet, tty;
	struct layer *layers;
	size_t n, drawn; /* lines on the terminal */
	uint64_t last;
};

struct progress *progress_new(bool quiet)
{
	struct progress *p = xcalloc(1, sizeof(*p));
	const char *term = getenv("TERM");

	p->quiet = quiet;
	p->tty = isatty(STDERR_FILENO) && !str_empty(term) && !streq(term, "dumb");
	p->layers = xcalloc(LAYERS_MAX, sizeof(*p->layers));
	return p;
}

static void bar(uint64_t done, uint64_t total, size_t width, struct strbuf *to)
{
	size_t full =
		total ? (size_t)((double)MIN(done, total) / (double)total * (double)width) : 0;

	strbuf_addc(to, '[');
	for (size_t i = 0; i < width; i++)
		strbuf_addc(to, i < full ? '=' : i == full ? '>' : ' ');
	strbuf_addc(to, ']');
}

void progress_line(const char *layer, const char *state, uint64_t done, uint64_t total,
		   size_t width, struct strbuf *to)
{
	const char *hex = str_has_prefix(layer, "sha256:") ? layer + 7 : layer;
	char a[TEXT_MAX], b[TEXT_MAX];
	size_t room = width > 60 ? MIN(width - 50, (size_t)BAR_MAX) : BAR_MIN;

	text_safe(to, hex, MIN(strlen(hex), (size_t)12));
	strbuf_adds(to, "  ");
	text_safe(to, state, MIN(strlen(state), (size_t)16));
	if (!streq(state, "fetching") && !streq(state, "saving")) {
		if (total)
			strbuf_addf(to, "  %s", text_size(total, a));
		return;
	}
	strbuf_adds(to, "  ");
	bar(done, total, room, to);
	strbuf_addf(to, "  %s", text_size(done, a));
	if (total)
		strbuf_addf(to, " / %s", text_size(total, b));
}

static void erase(struct progress *p, struct strbuf *to)
{
	if (p->drawn)
		strbuf_addf(to, "\033[%zuA\033[J", p->drawn);
	p->drawn = 0;
}

static bool over(const struct layer *l)
{
	return streq(l->state, "done") || streq(l->state, "exists");
}

/* What is under way is shown first, where not all layers fit. */
static void draw(struct progress *p)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct winsize ws = {0};
	size_t rows, width, hidden = 0;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_row < 4 || ws.ws_col < 20)
		ws = (struct winsize){.ws_row = 24, .ws_col = 80};
	rows = ws.ws_row - 2u;
	width = ws.ws_col - 1u;
	erase(p, &b);
	for (size_t i = 0; i < p->n; i++) {
		const struct layer *l = &p->layers[i];
		_cleanup_strbuf_ struct strbuf line = STRBUF_NULL;

		if (p->drawn >= rows || (p->n > rows && over(l))) {
			hidden++;
			continue;
		}
		progress_line(l->digest, l->state, l->done, l->total, width, &line);
		strbuf_add(&b, line.s, MIN(line.len, width));
		strbuf_addc(&b, '\n');
		p->drawn++;
	}
	if (hidden) {
		strbuf_addf(&b, "and %zu more layers\n", hidden);
		p->drawn++;
	}
	(void)fs_write_all(STDERR_FILENO, str_or_empty(b.s), b.len);
	p->last = clock_mono_us();
}

static struct layer *layer_of(struct progress *p, const char *digest)
{
	for (size_t i = 0; i < p->n; i++)
		if (streq(p->layers[i].digest, digest))
			return &p->layers[i];
	if (p->n == LAYERS_MAX)
		return NULL;
	p->layers[p->n].digest = xstrdup(digest);
	p->layers[p->n].state = xstrdup("");
	return &p->layers[p->n++];
}

void progress_update(struct progress *p, const Gantry__V1__ImageProgress *m)
{
	_cleanup_strbuf_ struct strbuf line = STRBUF_NULL;
	struct layer *l;
	bool changed;

	if (p->quiet || str_empty(m->layer))
		return;
	l = layer_of(p, m->layer);
	if (!l)
		return;
	changed = !streq(l->state, m->state);
	if (changed) {
		free(l->state);
		l->state = xstrdup(m->state);
	}
	l->done = m->done_bytes;
	l->total = m->total_bytes;
	if (p->tty) {
		if (clock_mono_us() - p->last >= DRAW_EVERY)
			draw(p);
	} else if (changed) {
		const char *hex = str_has_prefix(l->digest, "sha256:") ? l->digest + 7 : l->digest;
		char size[TEXT_MAX];

		text_safe(&line, hex, MIN(strlen(hex), (size_t)12));
		strbuf_adds(&line, ": ");
		text_safe(&line, l->state, strlen(l->state));
		if (l->total)
			strbuf_addf(&line, ", %s", text_size(l->total, size));
		strbuf_addc(&line, '\n');
		(void)fs_write_all(STDERR_FILENO, line.s, line.len);
	}
}

struct progress *progress_free(struct progress *p)
{
	if (!p)
		return NULL;
	if (p->tty && p->n && !p->quiet)
		draw(p);
	for (size_t i = 0; i < p->n; i++) {
		free(p->layers[i].digest);
		free(p->layers[i].state);
	}
	free(p->layers);
	free(p);
	return NULL;
}

int pull_image(struct cli *cli, const char *reference, const char *username, const char *password,
	       bool quiet, const char **ret_id, struct err *e)
{
	Gantry__V1__PullRequest q = GANTRY__V1__PULL_REQUEST__INIT;
	_cleanup_progress_ struct progress *p = progress_new(quiet);
	const char *id = NULL;
	struct rpc_stream s = {0};
	int r;

	q.reference = (char *)(uintptr_t)reference;
	if (username) {
		q.username = (char *)(uintptr_t)username;
		q.password = (char *)(uintptr_t)str_or_empty(password);
	}
	r = rpc_open(cli, GANTRY, "Pull", &q, &s, e);
	while (r >= 0) {
		Gantry__V1__ImageProgress *m;
		struct arena a = ARENA_NULL;

		r = rpc_next(&s, &a, &m, e);
		if (r > 0 && !str_empty(m->image_id))
			id = arena_strdup(&cli->arena, m->image_id);
		else if (r > 0)
			progress_update(p, m);
		arena_fini(&a);
		if (r == 0)
			break;
	}
	rpc_close(&s);
	if (r == 0 && !id)
		r = err_set(e, -EPROTO, GRPC_INTERNAL, "the daemon named no image");
	if (r == 0)
		*ret_id = id;
	return r;
}
