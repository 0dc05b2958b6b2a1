/* SPDX-License-Identifier: Apache-2.0 */
/* Private to runtime/. */
#pragma once

#include "runtime/runtime.h"

/* argv[0] and the options that stand before every command; `log` may be NULL. */
void runtime_put_options(const struct runtime *rt, const char *log, struct strv *argv);
/* config.json of a trial into its bundle; `type` and `sandbox` are annotations (unit.h), or NULL. */
int runtime_trial_write(const struct runtime_trial *t, const char *type, const char *sandbox,
			struct err *e);
/* What --pid-file holds. */
int runtime_trial_pid(const char *path, pid_t *ret, struct err *e);
/* Waits for the trial's process, of which this one is the subreaper: it is to end with 0. */
int runtime_trial_await(pid_t pid, uint64_t timeout_us, struct err *e);
