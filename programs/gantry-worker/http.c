/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests on libcurl: see http.h. */
#include "http.h"

#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "worker.h"

#define CONNECT_TIMEOUT_S 30L
#define RECEIVE_BUFFER (256L * 1024)

struct http {
	CURLM *multi;
	long stall_s;
};

/* --- what libcurl calls --- */

static bool success(long status)
{
	return status == 200 || status == 206;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;
	size_t taken;
	long status = 0;

	(void)size;
	curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
	if (!success(status)) {
		strbuf_add(&r->error_body, p, MIN(n, HTTP_ERROR_BODY_MAX - r->error_body.len));
		return n;
	}
	if (!r->begun) {
		r->begun = true;
		if (r->on_begin && !r->on_begin(r->arg, status))
			return n + 1;
	}
	taken = r->on_body(r->arg, p, n);
	if (taken != HTTP_PAUSE)
		return taken;
	r->paused = true;
	return CURL_WRITEFUNC_PAUSE;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	static const char name[] = "www-authenticate:";
	struct http_request *r = arg;
	size_t have = strlen(r->challenge), len;

	(void)size;
	if (n <= strlen(name) || strncasecmp(p, name, strlen(name)) != 0)
		return n;
	p += strlen(name);
	len = n - strlen(name);
	while (len > 0 && (p[len - 1] == '\r' || p[len - 1] == '\n' || p[len - 1] == ' '))
		len--;
	/* Several fields are one list (RFC 9110, 5.3). */
	if (have + len + 3 < sizeof(r->challenge) && !memchr(p, '\0', len))
		snprintf(r->challenge + have, sizeof(r->challenge) - have, "%s%.*s",
			 have ? ", " : "", (int)len, p);
	return n;
}

/* --- requests --- */

static void set_tls(CURL *c, const struct host *h)
{
	if (h->skip_verify) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (h->ca_pem.len) { /* beside the system's own, which are a directory (CURLOPT_CAPATH) */
		struct curl_blob blob = {h->ca_pem.s, h->ca_pem.len, CURL_BLOB_NOCOPY};

		curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &blob);
	}
	if (h->client_cert) {
		curl_easy_setopt(c, CURLOPT_SSLCERT, h->client_cert);
		curl_easy_setopt(c, CURLOPT_SSLKEY, h->client_key ? h->client_key : h->client_cert);
	}
}

static void start(struct http_request *r)
{
	CURL *c = r->curl;

	curl_easy_setopt(c, CURLOPT_URL, r->url);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->away ? NULL : r->headers);
	if (r->away) { /* who this client is, is for its host alone too */
		curl_easy_setopt(c, CURLOPT_SSLCERT, NULL);
		curl_easy_setopt(c, CURLOPT_SSLKEY, NULL);
	}
	curl_multi_add_handle(r->http->multi, c);
}

void http_begin(struct http *h, struct http_request *r)
{
	CURL *c = curl_easy_init();
	long connect_s = r->host->dial_timeout_ms ? 0 : CONNECT_TIMEOUT_S;

	r->http = h;
	r->curl = c;
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	if (connect_s)
		curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, connect_s);
	else
		curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)r->host->dial_timeout_ms);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, h->stall_s);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "gantry/" GANTRY_VERSION);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->error);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
	curl_easy_setopt(c, CURLOPT_PRIVATE, r);
	if (r->post)
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->post);
	if (r->limit_s)
		curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)r->limit_s);
	if (r->from) {
		char range[32];

		snprintf(range, sizeof(range), "%llu-", (unsigned long long)r->from);
		curl_easy_setopt(c, CURLOPT_RANGE, range);
	}
	set_tls(c, r->host);
	start(r);
}

void http_resume(struct http_request *r)
{
	if (!r->paused || !r->curl)
		return;
	r->paused = false;
	curl_easy_pause(r->curl, CURLPAUSE_CONT);
}

void http_request_fini(struct http_request *r)
{
	if (r->curl) {
		curl_multi_remove_handle(r->http->multi, r->curl);
		curl_easy_cleanup(r->curl);
	}
	curl_slist_free_all(r->headers);
	free(r->url);
	free(r->post);
	strbuf_fini(&r->error_body);
	*r = (struct http_request){0};
}

/* "https://host:port" of a URL: what credentials belong to. */
static bool same_origin(const char *a, const char *b)
{
	size_t n = strcspn(strstr(a, "://") + 3, "/?#") + (size_t)(strstr(a, "://") + 3 - a);

	return strncasecmp(a, b, n) == 0 && strchr("/?#", b[n]) != NULL;
}

/* 1: on its way to where it was sent, 0: it stays, < 0: it must not go there. */
static int redirect(struct http_request *r)
{
	char *to = NULL;

	if (r->status != 301 && r->status != 302 && r->status != 303 && r->status != 307 &&
	    r->status != 308)
		return 0;
	if (curl_easy_getinfo(r->curl, CURLINFO_REDIRECT_URL, &to) != CURLE_OK || !to || r->post)
		return 0;
	if (++r->redirects > HTTP_REDIRECTS_MAX) {
		snprintf(r->error, sizeof(r->error), "more than %d redirects", HTTP_REDIRECTS_MAX);
		return -ELOOP;
	}
	if (!str_has_prefix(to, "https://") &&
	    (!str_has_prefix(to, "http://") || str_has_prefix(r->url, "https://"))) {
		snprintf(r->error, sizeof(r->error), "it redirects to %.200s", to);
		return -EPROTO;
	}
	r->away = r->away || !same_origin(r->url, to);
	free(r->url);
	r->url = xstrdup(to);
	strbuf_reset(&r->error_body);
	*r->challenge = '\0';
	start(r);
	return 1;
}

static void finished(struct http_request *r, CURLcode code)
{
	curl_off_t after = 0;

	r->code = code;
	curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &r->status);
	curl_easy_getinfo(r->curl, CURLINFO_RETRY_AFTER, &after);
	r->retry_after = after > 0 ? (uint64_t)after : 0;
	curl_multi_remove_handle(r->http->multi, r->curl);
	if (code == CURLE_OK) {
		int n = redirect(r);

		if (n > 0)
			return;
		if (n < 0)
			r->code = CURLE_TOO_MANY_REDIRECTS;
	}
	r->done = true;
}

int http_perform(struct http *h, bool *ret_done, struct err *e)
{
	int alive, left;
	CURLMsg *m;

	*ret_done = false;
	if (curl_multi_perform(h->multi, &alive) != CURLM_OK)
		return err_set(e, -EIO, GRPC_INTERNAL, "libcurl failed");
	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct http_request *r;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		finished(r, m->data.result);
		*ret_done = true; /* or it has begun anew */
	}
	return 0;
}

int http_wait(struct http *h, struct pollfd *fds, unsigned n, int timeout_ms, struct err *e)
{
	struct curl_waitfd extra[HTTP_FDS_MAX];

	n = MIN(n, (unsigned)ARRAY_SIZE(extra));
	for (unsigned i = 0; i < n; i++)
		extra[i] = (struct curl_waitfd){
			.fd = fds[i].fd,
			.events = (short)((fds[i].events & POLLIN ? CURL_WAIT_POLLIN : 0) |
					  (fds[i].events & POLLOUT ? CURL_WAIT_POLLOUT : 0))};
	if (curl_multi_poll(h->multi, extra, n, timeout_ms, NULL) != CURLM_OK)
		return err_set(e, -EIO, GRPC_INTERNAL, "libcurl failed");
	return 0;
}

int http_step(struct http *h, int timeout_ms, struct err *e)
{
	struct pollfd p = {.fd = WORKER_DAEMON_FD, .events = POLLIN};
	bool done;
	int r = http_perform(h, &done, e);

	if (r == 0 && !done)
		r = http_wait(h, &p, 1, timeout_ms, e);
	return r < 0 ? r : worker_check(e);
}

int http_run(struct http *h, struct http_request *r, struct err *e)
{
	int res = 0;

	http_begin(h, r);
	while (res == 0 && !r->done)
		res = http_step(h, 1000, e);
	return res;
}

int http_await(struct http *h, int fd, struct err *e)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN},
			     {.fd = WORKER_DAEMON_FD, .events = POLLIN}};
	int res = 0;

	while (res == 0 && poll(p, 1, 0) <= 0) {
		bool done;

		res = http_perform(h, &done, e);
		if (res == 0 && !done)
			res = http_wait(h, p, 2, 1000, e);
		if (res == 0)
			res = worker_check(e);
	}
	return res;
}

struct http *http_open(unsigned stall_s)
{
	struct http *h = xcalloc(1, sizeof(*h));

	curl_global_init(CURL_GLOBAL_DEFAULT);
	h->multi = curl_multi_init();
	h->stall_s = (long)stall_s;
	return h;
}

struct http *http_close(struct http *h)
{
	if (!h)
		return NULL;
	curl_multi_cleanup(h->multi);
	curl_global_cleanup();
	free(h);
	return NULL;
}
