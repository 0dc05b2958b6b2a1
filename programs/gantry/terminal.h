/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's terminal, as the other end of a terminal in a container: raw, and as it was again
 * on every way out, signals too (SIGKILL alone leaves it raw).
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/*
 * Makes standard input's terminal raw.  The signals that would end the program without a word
 * restore it first; stopped and continued (SIGTSTP, SIGCONT), it is the shell's meanwhile.
 */
int terminal_raw(struct err *e);
/* As it was; again and again, also where it was never raw. */
void terminal_restore(void);

/*
 * A descriptor that is readable once the size may have changed; terminal_size_seen() before it is
 * asked for.  static
 */
int terminal_watch_size(void);
void terminal_size_seen(void);
/* Of standard input, output or error, whichever is a terminal; false: none is. */
bool terminal_size(unsigned *ret_width, unsigned *ret_height);
