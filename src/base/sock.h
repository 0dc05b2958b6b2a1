/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets of the file system. */
#pragma once

#include "base/err.h"

/*
 * Listens on a unix stream socket, mode 0660, whose directory is made where it is missing.  A file
 * of it that nobody listens on is a dead process' and is replaced; INVALID_ARGUMENT for a path too
 * long for an address, FAILED_PRECONDITION where another process serves it or it is no socket.
 * The descriptor is owned, non-blocking.
 */
int sock_listen_unix(const char *path, int *ret, struct err *e);
