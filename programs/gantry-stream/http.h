/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of the one HTTP/1.1 request of a connection (RFC 9112), which asks for an upgrade.
 * Strict: what two readers could take for different things is refused.  No input or output.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "ipc/stream.h"

#define HTTP_HEAD_MAX 16384  /* bytes of request line and header fields */
#define HTTP_TARGET_MAX 2048 /* bytes of the request's target */
#define HTTP_FIELDS_MAX 100
#define HTTP_TOKEN_MAX 128 /* characters of a session's token */
#define HTTP_PORTS_MAX 64  /* ports that a query may name */
#define HTTP_TEXT_MAX 512  /* bytes of an error's text, NUL included */

struct http_field {
	const char *name, *value;
};

struct http_request {
	bool get; /* otherwise POST */
	enum stream_kind kind;
	const char *token;
	const char *query; /* without "?"; "" where there is none */
	struct http_field fields[HTTP_FIELDS_MAX];
	unsigned n_fields;
};

/* What is answered to a request that is none. */
struct http_error {
	int status;
	const char *field; /* another field of the answer, "Name: value"; NULL: none. static */
	char text[HTTP_TEXT_MAX];
};

/* Sets the error and returns -EBADMSG. `field` is static. */
int http_fail(struct http_error *e, int status, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Bytes up to and with the empty line that ends a head; 0: it is not there yet. */
size_t http_head_size(const char *p, size_t n);

/*
 * Takes a whole head apart; `head` is changed and has to live as long as `ret`, which points into
 * it.  -EBADMSG and an error for the client.
 */
int http_parse(char *head, size_t n, struct http_request *ret, struct http_error *e);

/* The first field of that name (any case); NULL: none. */
const char *http_get(const struct http_request *r, const char *name);
/*
 * The elements of a comma-separated field, which may come more than once: start with *pos = 0.
 * False at the end.  An element that does not fit `ret` is passed over.
 */
struct http_list {
	unsigned field;
	size_t at;
};
bool http_next(const struct http_request *r, const char *name, struct http_list *pos, char *ret,
	       size_t max);
/* True when the list has the element (any case). */
bool http_has(const struct http_request *r, const char *name, const char *element);

/* The ports that the query names ("port" or "ports", repeated or with commas); -EBADMSG. */
int http_query_ports(const struct http_request *r, uint16_t ret[HTTP_PORTS_MAX], unsigned *ret_n,
		     struct http_error *e);

/* The whole answer to a request that failed. */
void http_put_error(struct strbuf *b, const struct http_error *e);
