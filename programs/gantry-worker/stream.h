/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob as the bytes inside it: plain, gzip (RFC 1952, several members) or zstd (RFC 8878),
 * told apart by how it begins; and the digest of what comes out, which is a layer's diff id.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct stream;

/* Reads `fd` from its offset, at most `max_in` bytes (UINT64_MAX: to its end). borrowed */
int stream_open(int fd, uint64_t max_in, struct stream **ret, struct err *e);
struct stream *stream_close(struct stream *s);
/* Up to n bytes; 0 at the end; DATA_LOSS for what cannot be decompressed. */
ssize_t stream_read(struct stream *s, void *p, size_t n, struct err *e);
/* Exactly n bytes, or DATA_LOSS. */
int stream_read_all(struct stream *s, void *p, size_t n, struct err *e);
int stream_skip(struct stream *s, uint64_t n, struct err *e);
/* Bytes that have been read of what is inside. */
uint64_t stream_offset(const struct stream *s);
bool stream_is_plain(const struct stream *s); /* not compressed */
/* Reads to the end and gives the digest of everything: "sha256:...". */
int stream_finish(struct stream *s, char ret[72], struct err *e);
