/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP requests, several at once over one pool of connections (libcurl's multi interface).
 *
 * Redirects are followed here and not by libcurl: what a request carries for its host
 * (credentials, fields of hosts.toml, a client certificate) is not sent on to another one, and
 * nobody is led from https to http.
 */
#pragma once

#include <curl/curl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "hosts.h"

#define HTTP_REDIRECTS_MAX 10
#define HTTP_CHALLENGE_MAX 8192		/* bytes of WWW-Authenticate, all of them */
#define HTTP_ERROR_BODY_MAX (64u << 10) /* bytes kept of what comes with an error */
#define HTTP_FDS_MAX 256		/* of the caller's, in one step */
#define HTTP_PAUSE SIZE_MAX

struct http; /* the pool */

/* Bytes of a 200 or 206.  n: taken; HTTP_PAUSE: not now, http_resume() continues; anything
 * else ends the request. */
typedef size_t http_body_fn(void *arg, const char *p, size_t n);
/* Before the first byte of a 200 or 206; false ends the request. May be NULL. */
typedef bool http_begin_fn(void *arg, long status);

struct http_request {
	/* the caller's */
	const struct host *host;    /* TLS and timeouts; borrowed */
	char *url;		    /* owned: http_request_fini() */
	char *post;		    /* a form, NULL: GET; owned */
	unsigned limit_s;	    /* for all of it, 0: none */
	struct curl_slist *headers; /* for this host only; owned */
	uint64_t from;		    /* first byte that is wanted of the body, 0: all */
	http_begin_fn *on_begin;
	http_body_fn *on_body;
	void *arg;

	/* the outcome, once `done` */
	bool done;
	CURLcode code;
	long status;
	uint64_t retry_after; /* seconds, 0: none said */
	char challenge[HTTP_CHALLENGE_MAX];
	char error[CURL_ERROR_SIZE];
	struct strbuf error_body; /* of a status that is neither 200 nor 206 */

	/* private */
	struct http *http;
	CURL *curl;
	unsigned redirects;
	bool away, begun, paused;
};

/* Requests without a byte for `stall_s` seconds fail. */
struct http *http_open(unsigned stall_s);
struct http *http_close(struct http *h);

void http_begin(struct http *h, struct http_request *r);
void http_resume(struct http_request *r);
/* Ends it where it is under way and frees what it owns. Idempotent. */
void http_request_fini(struct http_request *r);

/* Moves everything on that can be. *ret_done: a request is done, somebody may want to look
 * before he waits. */
int http_perform(struct http *h, bool *ret_done, struct err *e);
/* Until there is something to do, one of `fds` is ready, or `timeout_ms`. What they are to be
 * ready for must be asked after http_perform(), which may change it. */
int http_wait(struct http *h, struct pollfd *fds, unsigned n, int timeout_ms, struct err *e);
/* Both, where nothing else is waited for but the daemon; CANCELLED. */
int http_step(struct http *h, int timeout_ms, struct err *e);
/* One request from begin to done; CANCELLED where the daemon wants the work given up. */
int http_run(struct http *h, struct http_request *r, struct err *e);
/* Until `fd` can be read, while requests go on; CANCELLED. */
int http_await(struct http *h, int fd, struct err *e);
