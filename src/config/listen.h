/* SPDX-License-Identifier: Apache-2.0 */
/* Where a socket listens, as a setting says it. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

struct listen_address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} sa;
	socklen_t len;
};

/* "127.0.0.1:9464", "[::1]:9464", or "unix:/run/x.sock"; no names are looked up, port 0 is any.
 * INVALID_ARGUMENT "KEY: ..." */
int listen_parse(const char *key, const char *text, struct listen_address *ret, struct err *e);
