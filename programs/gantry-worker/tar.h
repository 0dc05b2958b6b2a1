/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading tar: ustar and pax (POSIX.1-2017, pax), GNU's long names and its sparse files in all
 * four forms (GNU tar manual, Sparse Formats).  Hostile input: every number and length is
 * checked; names are given as they are, whoever uses them resolves them inside a root.
 */
#pragma once

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/str.h"
#include "stream.h"

#define TAR_PATH_MAX 4096	   /* bytes of a name or a link's target */
#define TAR_HEADERS_MAX (1u << 20) /* bytes of one extended header */
#define TAR_XATTRS_MAX 256	   /* of one entry */
#define TAR_SEGMENTS_MAX 65536	   /* of one sparse file */

struct tar_xattr {
	char *name;
	void *value;
	size_t len;
};

struct tar_segment {
	uint64_t offset, size;
};

struct tar_entry {
	char type;  /* '0' file, '1' hard link, '2' symbolic link, '3' '4' device, '5' directory,
		    * '6' fifo */
	char *path; /* without leading "/" and "./", without trailing '/'; "" is the root */
	char *link;
	uint64_t size;		      /* bytes that follow in the archive */
	uint64_t pad;		      /* bytes after them up to the next header */
	uint64_t real_size;	      /* of the file; more than `size` where it is sparse */
	struct tar_segment *segments; /* of a sparse file, in order; where its bytes belong */
	size_t n_segments;
	bool sparse;
	mode_t mode;
	uint32_t uid, gid;
	uint32_t dev_major, dev_minor;
	struct timespec mtime;
	struct tar_xattr *xattrs;
	size_t n_xattrs;
};

/* The next entry: 1, or 0 at the end.  Its content (entry.size bytes) must be read or skipped
 * with tar_data_done() before the next. */
int tar_next(struct stream *s, struct tar_entry *ret, struct err *e);
void tar_entry_fini(struct tar_entry *t);
/* Passes over the padding, and over what was not read of the content (`left`). */
int tar_data_done(struct stream *s, const struct tar_entry *t, uint64_t left, struct err *e);
