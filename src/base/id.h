/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers: 64 lower-case hexadecimal digits, as Kubernetes tools expect. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_LEN 64
#define ID_SIZE (ID_LEN + 1)

/* A new random id from getrandom(2); aborts where the kernel has none. */
void id_new(char ret[ID_SIZE]);
/* True for a whole id: 64 characters of [0-9a-f]. */
bool id_valid(const char *s);
/* Fills `n` random bytes. */
void random_bytes(void *p, size_t n);
/* Lower-case hexadecimal of n bytes; `ret` has room for 2n+1. */
void hex_encode(const void *p, size_t n, char *ret);
