/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines: see log.h.  One write(2) a line, so lines of several processes do not mix. */
#include "base/log.h"

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
	while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR)
		;
}
