/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob as the bytes inside it: plain, gzip (RFC 1952, several members) or zstd (RFC 8878,
 * several frames), told apart by how it begins; and the digests of what goes in, which is the
 * blob's, and of what comes out, which is a layer's diff id.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define STREAM_OUT_MAX (UINT64_C(512) << 30)  /* bytes that one blob may become */
#define STREAM_RATIO_FREE (UINT64_C(1) << 30) /* bytes that it may become however small it is */
#define STREAM_RATIO_MAX 200u		      /* times its size that it may become beyond these */

struct stream;

/* Reads `fd` from its offset, at most `max_in` bytes (UINT64_MAX: to its end). borrowed.
 * `hash_input`: the digest of what goes in is wanted too. */
int stream_open(int fd, uint64_t max_in, bool hash_input, struct stream **ret, struct err *e);
/* The same for bytes that are not looked into, whatever they are. */
void stream_open_raw(int fd, uint64_t max_in, struct stream **ret);
struct stream *stream_close(struct stream *s);
/* The next bytes, 1 to n, in *ret until the next call; 0 at the end; DATA_LOSS for what cannot
 * be decompressed. */
ssize_t stream_next(struct stream *s, size_t n, const void **ret, struct err *e);
/* From now on all that is read is shown to fn too. */
void stream_tap(struct stream *s, void (*fn)(void *arg, const void *p, size_t n), void *arg);
/* Exactly n bytes, or DATA_LOSS. */
int stream_read_all(struct stream *s, void *p, size_t n, struct err *e);
int stream_skip(struct stream *s, uint64_t n, struct err *e);
/* Bytes that have been read of what is inside. */
uint64_t stream_offset(const struct stream *s);
bool stream_is_plain(const struct stream *s); /* not compressed */
/* Reads to the end and gives the digest of everything that came out: "sha256:...". */
int stream_finish(struct stream *s, char ret[72], struct err *e);
/* Reads the input to its end, decompressed or not, and gives its digest and length. */
int stream_finish_input(struct stream *s, char ret[72], uint64_t *ret_size, struct err *e);
