/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages as JSON, by their descriptors: the mapping of proto3 (names in camelCase, 64-bit
 * numbers as strings, enums by name, bytes in base64, maps as objects).  Absent messages are
 * left out, everything else is there, also where it is zero.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "wire/json.h"

void pbjson_print(struct jw *w, const ProtobufCMessage *m);
/* Compact JSON (as jw makes it) with lines and indentation; what a terminal would act on is
 * escaped. */
void pbjson_pretty(const char *json, size_t n, struct strbuf *to);
/* The same as YAML. */
int pbjson_yaml(const char *json, size_t n, struct strbuf *to, struct err *e);
