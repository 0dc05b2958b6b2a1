/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of JSON (RFC 8259) to the letter.  Private to src/wire: see json.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH_MAX 64 /* nested deeper is refused */

/*
 * True when the bytes are exactly one value, in UTF-8, with white space around it.
 * Otherwise *ret_at is the offset of the first byte that does not belong, *ret_why what is
 * wrong there (static).
 */
bool json_check(const char *text, size_t n, size_t *ret_at, const char **ret_why);
