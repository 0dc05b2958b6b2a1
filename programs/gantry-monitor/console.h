/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals that a runtime makes and hands over (--console-socket). For jobs. */
#pragma once

#include "base/err.h"

/*
 * Listens on DIR/NAME, which is removed first where it is there.  The runtime is told NAME and runs
 * in DIR: the path from / would not fit into an address.  Returns the socket, owned; -errno.
 */
int console_listen(const char *dir, const char *name);
/* The runtime has ended: the terminal's master that it sent, owned. INTERNAL where it sent none. */
int console_take(int listening, struct err *e);
