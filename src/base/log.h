/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines to standard error: "<priority>message" for the journal, or with time and
 * level for people.  Programs and the RPC layer log; library code returns errors.
 */
#pragma once

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* `program` is static. Journal form where JOURNAL_STREAM says stderr is the journal. */
void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);
bool log_level_parse(const char *name, enum log_level *ret); /* "error" "warn" "info" "debug" */
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                   \
	} while (0)
