/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML as JSON: one parser of documents is enough (wire/json.h).
 *
 * The core schema of YAML 1.2, and octal numbers as YAML 1.1 has them (file modes).  Aliases, tags
 * of other types, keys that are no scalars and second documents are refused: no configuration
 * needs them, and an alias can stand for any size.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define YAML_DEPTH_MAX 32 /* nested deeper is refused */

/* The one document in the text, appended as JSON.  INVALID_ARGUMENT "WHAT:LINE: ...". */
int yaml_to_json(const char *text, size_t n, const char *what, struct strbuf *to, struct err *e);
