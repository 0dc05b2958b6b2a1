/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One member of a gzip stream (RFC 1952) after the other, its checksum and length verified: by
 * ISA-L (gunzip_isal.c), or by zlib (gunzip_zlib.c) on machines for which there is none.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct gunzip;

struct gunzip *gunzip_new(void);
struct gunzip *gunzip_free(struct gunzip *g);
/* A member begins. */
void gunzip_begin(struct gunzip *g);
/* Takes from *in and puts to *out, as far as there is input and room, and moves them on.  1: it
 * was the end of the member, 0: it goes on, -EBADMSG: it is not well-formed, nothing is moved on. */
int gunzip_some(struct gunzip *g, const uint8_t **in, size_t *n_in, uint8_t **out, size_t *n_out);
