/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people: see table.h. */
#include "table.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "text.h"

#define GAP 2

const char *style_on(enum style s)
{
	static const char *const escapes[] = {[STYLE_NONE] = "",
					      [STYLE_GOOD] = "\033[32m",
					      [STYLE_BAD] = "\033[31m",
					      [STYLE_DIM] = "\033[2m",
					      [STYLE_HEAD] = "\033[1m"};

	return escapes[s];
}

void table_init(struct table *t, const char *headers, bool color)
{
	*t = (struct table){.color = color};
	while (*headers) {
		size_t n = strcspn(headers, "|");
		bool right = *headers == '>';

		t->right[t->n_columns++] = right;
		table_add_style(t, arena_strndup(&t->arena, headers + right, n - right),
				STYLE_HEAD);
		headers += n + (headers[n] == '|');
	}
}

void table_add_style(struct table *t, const char *cell, enum style style)
{
	if (t->n_cells == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		t->cells = xrealloc(t->cells, t->cap * sizeof(*t->cells));
	}
	t->cells[t->n_cells].text = text_safe_dup(&t->arena, str_empty(cell) ? "-" : cell);
	t->cells[t->n_cells++].style = style;
}

void table_add(struct table *t, const char *cell)
{
	table_add_style(t, cell, STYLE_NONE);
}

void table_addf(struct table *t, const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	table_add(t, s);
}

static void pad(struct strbuf *to, size_t n)
{
	while (n-- > 0)
		strbuf_addc(to, ' ');
}

static void print_cell(const struct table *t, const struct cell *c, size_t column, size_t width,
		       struct strbuf *to)
{
	const char *on = t->color ? style_on(c->style) : "";
	size_t free_space = width - text_width(c->text);
	bool last = column + 1 == t->n_columns;

	if (t->right[column])
		pad(to, free_space);
	strbuf_adds(to, on);
	strbuf_adds(to, c->text);
	strbuf_adds(to, *on ? "\033[0m" : "");
	if (!t->right[column] && !last)
		pad(to, free_space);
	if (!last)
		pad(to, GAP);
}

void table_print(const struct table *t, struct strbuf *to)
{
	size_t width[TABLE_COLUMNS_MAX] = {0};

	for (size_t i = 0; i < t->n_cells; i++) {
		size_t k = i % t->n_columns, w = text_width(t->cells[i].text);

		width[k] = MAX(width[k], w);
	}
	for (size_t i = 0; i < t->n_cells; i++) {
		print_cell(t, &t->cells[i], i % t->n_columns, width[i % t->n_columns], to);
		if (i % t->n_columns == t->n_columns - 1)
			strbuf_addc(to, '\n');
	}
}

void table_fini(struct table *t)
{
	free(t->cells);
	arena_fini(&t->arena);
}
