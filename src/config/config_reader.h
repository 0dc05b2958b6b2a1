/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that read the configuration share. Private to config/. */
#pragma once

#include <yaml.h>

#include "base/map.h"
#include "base/str.h"
#include "config/config.h"

struct config_reader {
	struct config *c;
	void *base; /* the keys' offsets are of this */
	const char *file;
	yaml_document_t *doc;
	struct err *e;
};

/* "FILE:LINE: KEY: found "...", expected ..." */
int config_bad(struct config_reader *r, const yaml_node_t *n, const char *key,
	       const char *expected);
/* The text of a scalar without NUL, NULL for anything else. */
const char *config_scalar(const yaml_node_t *n);

/* rules.c: `routes:`, once all else is read; and printed. */
int config_rules_read(struct config_reader *r, const yaml_node_t *n);
void config_rules_print(const struct config *c, struct strbuf *b);
/* config.c: in double quotes. */
void config_print_string(struct strbuf *b, const char *s);
