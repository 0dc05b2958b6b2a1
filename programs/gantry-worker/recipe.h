/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a layer's tar is made again out of its files, layers/NAME.recipe (docs/decisions/0011):
 * written while the layer is unpacked, read by `gantry save`.  Below zstd (RFC 8878) it is a line of
 * its own, then records; numbers have 8 bytes, the lowest first:
 *
 *	'L' N BYTES		 the next N bytes of the tar
 *	'F' N PATH		 a file of the layer; files are numbered from 0
 *	'S' OFFSET N		 the next N bytes of the tar are that file's, from OFFSET on
 *	'K' NUMBER OFFSET N BYTES  what a file had there, which a later entry replaced
 *	'E' TOTAL		 the end: how many bytes the tar has
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

#define RECIPE_MAX (UINT64_C(1) << 30) /* bytes of one, compressed; else the layer has none */
#define RECIPE_BYTES_MAX (64u << 10)   /* of one record */
#define RECIPE_PATH_MAX 4096	       /* bytes of a path, NUL included, as openat2(2) takes it */
#define RECIPE_FILE_MAX (UINT64_C(1) << 42) /* where a file's bytes end at most */

/* --- writing --- */

struct recipe_writer;

/* Writes to `fd`, borrowed. What fails is told at the end. owned: recipe_free() */
struct recipe_writer *recipe_new(int fd);
struct recipe_writer *recipe_free(struct recipe_writer *w);
/* The next bytes of the tar, a function for stream_tap(): they are kept but where they are a
 * file's. */
void recipe_take(void *writer, const void *p, size_t n);
/* The file of the layer that bytes are said to be of from now on; `path` has no links in it.  False:
 * it is too long, they are kept. */
bool recipe_file(struct recipe_writer *w, const char *path, ino_t ino);
/* The next n bytes are that file's, from `offset` on. */
void recipe_content(struct recipe_writer *w, uint64_t offset, uint64_t n);
/* Whether it was told of the file. */
bool recipe_knows(const struct recipe_writer *w, ino_t ino);
/* It is about to be removed: what it has is kept. -errno of reading it. */
int recipe_keep(struct recipe_writer *w, int fd, ino_t ino);
/* The same by name, for a file that it knows; all else, and w = NULL, is nothing to do. */
int recipe_keep_file(struct recipe_writer *w, int dirfd, const char *name, const struct stat *st);
/* The same for all files below a directory of the layer. */
int recipe_keep_tree(struct recipe_writer *w, int layer, const char *path);
/* After the last byte.  ret: "sha256:..." of what was written, room for 72; "": it would have been
 * larger than RECIPE_MAX. */
int recipe_finish(struct recipe_writer *w, char *ret_digest, struct err *e);

/* --- reading --- */

struct recipe_reader;

struct recipe_record {
	char kind;
	uint64_t number, offset, size;
	/* L, K: the bytes; F: the path, with a NUL after it.  Until the next record. */
	const char *p;
};

/* Reads `fd` from its beginning, borrowed. DATA_LOSS for what is no recipe. owned: recipe_close() */
int recipe_open(int fd, struct recipe_reader **ret, struct err *e);
struct recipe_reader *recipe_close(struct recipe_reader *r);
/* The next record: 1; 0 after the end, which was where it had to be.  DATA_LOSS. */
int recipe_next(struct recipe_reader *r, struct recipe_record *ret, struct err *e);
/* After the end: the digest of the file. */
int recipe_digest(struct recipe_reader *r, char ret[72], struct err *e);
