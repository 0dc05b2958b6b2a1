/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables for people: columns as wide as their widest cell, counted as a terminal shows
 * them, two spaces between.  Cells are made safe here: callers give what came from outside
 * as it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"

#define TABLE_COLUMNS_MAX 16

enum style { STYLE_NONE, STYLE_GOOD, STYLE_BAD, STYLE_DIM, STYLE_HEAD };

struct table {
	struct arena arena;
	bool color;
	size_t n_columns, n_cells, cap;
	bool right[TABLE_COLUMNS_MAX];
	struct cell {
		char *text;
		enum style style;
	} * cells;
};

/* `headers` in order, separated by '|'; one that begins with '>' is aligned to the right. */
void table_init(struct table *t, const char *headers, bool color);
void table_add(struct table *t, const char *cell); /* copied; NULL or "": shown as "-" */
void table_add_style(struct table *t, const char *cell, enum style style);
void table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends all rows, header first. */
void table_print(const struct table *t, struct strbuf *to);
void table_fini(struct table *t);
#define _cleanup_table_ __attribute__((cleanup(table_fini)))

/* The escape that begins a style, "" where there is none. static */
const char *style_on(enum style s);
