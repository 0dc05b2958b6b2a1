/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets to listen on, where a setting says it. */
#pragma once

#include "config/listen.h"

/* As sock_listen_unix(), or a socket of TCP. */
int listen_at(const struct listen_address *a, int *ret, struct err *e);
