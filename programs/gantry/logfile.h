/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers' logs in CRI's format: "TIME stdout|stderr F|P[:TAG...] CONTENT\n".
 *
 * A line of the program that was long is in several entries, all but the last with P.  What
 * is in another format is shown as it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define LOG_ENTRY_MAX (1u << 20) /* bytes; a longer one is shown in pieces */

struct log_entry {
	int64_t time_ns;
	const char *time; /* as it stands there */
	size_t time_len;
	bool to_stderr, partial;
	const char *text; /* without the newline */
	size_t len;
};

/* One line without its newline. False: it is in another format. borrowed */
bool log_entry_parse(const char *line, size_t n, struct log_entry *ret);

struct log_options {
	int64_t since_ns; /* entries before it are left out */
	int64_t until_ns; /* entries after it end the reading; INT64_MAX: none */
	int64_t tail;	  /* the last lines only; -1: all */
	bool timestamps;
	const char *prefix; /* before each line; NULL: none */
	bool out, err;	    /* the streams that are shown */
};
#define LOG_OPTIONS_ALL                                                                            \
	((struct log_options){.until_ns = INT64_MAX, .tail = -1, .out = true, .err = true})

/* Where text goes; < 0 ends the reading. */
typedef int log_write_fn(void *arg, bool to_stderr, const char *p, size_t n);

struct log_reader {
	const char *path; /* borrowed */
	struct log_options o;
	log_write_fn *write;
	void *arg;
	int fd;
	off_t offset;
	dev_t dev;
	ino_t ino;
	struct strbuf buf; /* the beginning of an entry */
	bool in_line[2];   /* of stdout, stderr: the last entry was partial */
	bool skipped[2];   /* the last entry was left out, so the rest of its line is */
	bool past_until;
	uint64_t foreign; /* lines in another format */
};

/* Opens the log where --tail begins. -ENOENT: not there (yet); the reader can be used. */
int log_reader_init(struct log_reader *r, const char *path, const struct log_options *o,
		    log_write_fn *write, void *arg);
/*
 * Shows what is there: to the end of the file, then, where another file has taken its place
 * (rotation), that one from its beginning.  A file that became shorter is read anew.
 */
int log_reader_read(struct log_reader *r);
/* What is left without a newline at the very end. */
int log_reader_finish(struct log_reader *r);
void log_reader_fini(struct log_reader *r);
#define _cleanup_log_reader_ __attribute__((cleanup(log_reader_fini)))

/* Where the last `lines` lines of the open file begin (whole lines, whatever their parts). */
int log_tail_offset(int fd, int64_t lines, off_t *ret);

/* Something may have happened to the log, or may have ended: what is waited for. */
struct log_watch {
	int inotify_fd;
	int more_fds[2]; /* -1: none. borrowed */
};
/* Watches the log's directory, which must be there. */
int log_watch_init(struct log_watch *w, const char *path);
/* Waits: 0, or -ETIMEDOUT; *ret: bit i: more_fds[i] is readable. */
int log_watch_wait(struct log_watch *w, int timeout_ms, unsigned *ret);
void log_watch_fini(struct log_watch *w);
#define _cleanup_log_watch_ __attribute__((cleanup(log_watch_fini)))
