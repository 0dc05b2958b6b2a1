/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of one document, /metrics, over HTTP/1.x (RFC 9112) for whoever scrapes it.
 *
 * Nothing of a request but its first line means anything here; a body is not read.  Each connection
 * is for one request.  There are few of them, each with little memory and little time, so that
 * strangers cost nothing; docs/decisions/0015 says why this is in the daemon.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

#define SCRAPE_CONNECTIONS_MAX 8	/* at more, the oldest is closed */
#define SCRAPE_REQUEST_MAX 4096		/* bytes of a request's head */
#define SCRAPE_TIME (10 * USEC_PER_SEC) /* of a connection, from its beginning to its end */

/* Appends the document.  Must not wait. */
typedef void scrape_fn(void *arg, struct strbuf *to);

struct scrape_server;
/* Serves on a listening, non-blocking socket, which it takes over. */
int scrape_server_new(struct loop *l, int listen_fd, scrape_fn *fn, void *arg,
		      struct scrape_server **ret, struct err *e);
/* Closes all connections. */
struct scrape_server *scrape_server_free(struct scrape_server *s);

/* --- the parser, pure --- */

/*
 * What the head of a request asks for: the status of the answer.  200: the document; 0: more bytes
 * are needed; else 400, 404, 405, 505.  *ret_head: HEAD, the same without the document.
 */
int scrape_parse(const char *p, size_t n, bool *ret_head);
