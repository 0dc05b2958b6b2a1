/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines: see log.h.  One write(2) a line, so lines of several processes do not mix. */
#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define LOG_LINE_MAX 4096

static const char *log_program = "gantry";
static enum log_level log_level = LOG_LEVEL_INFO;
static bool log_journal;

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_level = level;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level level)
{
	log_level = level;
}

bool log_level_parse(const char *name, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} t[] = {
		{"error", LOG_LEVEL_ERROR},
		{"warn", LOG_LEVEL_WARN},
		{"info", LOG_LEVEL_INFO},
		{"debug", LOG_LEVEL_DEBUG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (streq(t[i].name, name)) {
			*ret = t[i].level;
			return true;
		}
	return false;
}

bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

static unsigned long log_dropped; /* lines, since one was last written */

/*
 * Whoever reads our lines may be slow or stuck, and nothing here waits for it: a pipe that
 * poll(2) calls writable takes a line of PIPE_BUF bytes, a socket one of our length.
 */
static bool writable(void)
{
	struct pollfd pf = {STDERR_FILENO, POLLOUT, 0};

	return poll(&pf, 1, 0) > 0 && !(pf.revents & POLLNVAL);
}

static void put(const char *line, size_t n)
{
	char text[64];
	int k = 0;

	if (log_dropped)
		k = snprintf(text, sizeof(text), "%s: %lu lines of the log were dropped\n",
			     log_program, log_dropped);
	log_dropped = 0;
	if (k > 0 && write(STDERR_FILENO, text, (size_t)k) < 0)
		return;
	if (k > 0 && !writable())
		log_dropped++;
	else
		while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
			;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARN] = "warn",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
	};
	char line[LOG_LINE_MAX], when[CLOCK_RFC3339_LEN];
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	if (log_journal)
		n = snprintf(line, sizeof(line), "<%d>", (int)level);
	else
		n = snprintf(line, sizeof(line),
			     "%s %s[%d] %s: ", clock_rfc3339(clock_wall_ns(), when), log_program,
			     (int)getpid(), names[level]);
	va_start(ap, fmt);
	n += (int)str_vformat(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	for (int i = 0; i < n; i++) /* one line stays one line, whatever is quoted in it */
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	line[n++] = '\n';
	if (writable())
		put(line, (size_t)n);
	else
		log_dropped++;
}
