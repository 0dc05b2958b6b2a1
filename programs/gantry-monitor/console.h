/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals that a runtime makes and hands over (--console-socket). For jobs. */
#pragma once

#include "base/err.h"

/*
 * Listens on DIR/NAME, which is removed first where it is there.  Returns the socket, owned; -errno.
 */
int console_listen(const char *dir, const char *name);
/* What the runtime is told of it: a path by way of a descriptor of this process, which stays open, as the
 * path itself would not fit into an address; and absolute, as youki moves before it looks. owned */
char *console_path(const char *dir, const char *name);
/* The runtime has ended: the terminal's master that it sent, owned. INTERNAL where it sent none. */
int console_take(int listening, struct err *e);
