/* SPDX-License-Identifier: Apache-2.0 */
/* What may come next on a command line, out of the tables and what the daemon has. */
#pragma once

#include "cli.h"

/*
 * Appends a line "VALUE\tWHAT IT IS" for each word that may stand in the place of words[n-1]
 * (n >= 1, what follows "gantry"), or the line ":files" where a file's name may.
 */
void complete_words(struct cli *cli, const char *const *words, size_t n, struct strbuf *to);
/* Splits a line as a shell does (blanks, quotes, backslashes); the last word is what the
 * line ends in, perhaps "". */
void complete_split(const char *line, size_t n, struct strv *ret);
