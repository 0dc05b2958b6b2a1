/* SPDX-License-Identifier: Apache-2.0 */
/* The registry client: see registry.h. */
#include "registry.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "credentials.h"
#include "wire/json.h"
#include "worker.h"

#define ERROR_TEXT_MAX 300 /* bytes of what a registry says */

#define ACCEPT                                                                                     \
	"Accept: application/vnd.oci.image.index.v1+json, "                                        \
	"application/vnd.oci.image.manifest.v1+json, "                                             \
	"application/vnd.docker.distribution.manifest.list.v2+json, "                              \
	"application/vnd.docker.distribution.manifest.v2+json, */*"

struct registry {
	struct hosts hosts;
	struct access {
		char *field;	     /* "Authorization: ...", NULL none yet */
		unsigned generation; /* of the field */
		bool answered;	     /* it is there: that it refuses connections will pass */
		const struct auth_config *with; /* credentials in use, NULL: nobody's */
		bool ill;			/* a mirror that failed */
		bool looked;			/* for the node's own */
		struct credentials own;
		struct auth_config own_view;
	} access[HOSTS_MAX + 2];
	char *host, *path;
	unsigned mirror_wait_s;
	struct auth auth;
	struct http *http;
};

struct http *registry_http(struct registry *r)
{
	return r->http;
}

/* --- one try --- */

static const struct host *host_of(const struct transfer *t)
{
	return &t->registry->hosts.v[t->host];
}

static char *url_of(const struct transfer *t)
{
	const struct registry *r = t->registry;
	const struct host *h = host_of(t);

	/* A mirror is told whose image it is asked for. */
	return xasprintf("%s/%s/%s/%s%s%s", h->url, r->path, t->kind, t->what,
			 h->origin ? "" : "?ns=", h->origin ? "" : r->host);
}

static bool on_begin(void *arg, long status)
{
	struct transfer *t = arg;

	t->skip = status == 206 ? 0 : t->done; /* the whole again: pass over what is here */
	return true;
}

static size_t on_body(void *arg, const char *p, size_t n)
{
	struct transfer *t = arg;
	size_t skip = (size_t)MIN((uint64_t)n, t->skip), taken;

	t->came += n;
	if (n - skip > t->size - t->done) {
		if (t->size_is_limit)
			err_set(&t->e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
				"%s: %s %s is longer than %llu bytes", host_of(t)->url, t->kind,
				t->what, (unsigned long long)t->size);
		else
			err_set(&t->e, -EBADMSG, GRPC_DATA_LOSS,
				"%s: %s %s is longer than its %llu bytes", host_of(t)->url, t->kind,
				t->what, (unsigned long long)t->size);
		return n + 1;
	}
	if (skip == n) {
		t->skip -= n;
		return n;
	}
	taken = t->take(t->arg, p + skip, n - skip, &t->e);
	if (taken == HTTP_PAUSE)
		return HTTP_PAUSE;
	if (taken != n - skip)
		return n + 1;
	t->skip -= skip;
	t->done += n - skip;
	return n;
}

static void begin(struct transfer *t)
{
	struct registry *r = t->registry;
	const struct host *h = host_of(t);
	struct http_request *q = &t->request;

	http_request_fini(q);
	t->e = ERR_NULL;
	t->done_before = t->done;
	t->mark = t->came;
	t->mark_at = clock_mono_us();
	t->generation = r->access[t->host].generation;
	t->was_ill = r->access[t->host].ill;
	*q = (struct http_request){.host = h,
				   .url = url_of(t),
				   .from = t->done,
				   .on_begin = on_begin,
				   .on_body = on_body,
				   .arg = t};
	if (streq(t->kind, "manifests"))
		q->headers = curl_slist_append(q->headers, ACCEPT);
	if (r->access[t->host].field)
		q->headers = curl_slist_append(q->headers, r->access[t->host].field);
	for (size_t i = 0; i < h->headers.n; i++)
		q->headers = curl_slist_append(q->headers, h->headers.v[i]);
	http_begin(r->http, q);
	t->state = TRANSFER_RUNNING;
}

/* --- what became of it --- */

/* What the registry wrote about its error, as one line. */
static void put_error_text(const struct http_request *q, struct strbuf *to)
{
	_cleanup_jv_ jv *doc = NULL;
	const char *m = NULL;

	if (q->error_body.len &&
	    jv_parse(q->error_body.s, q->error_body.len, HTTP_ERROR_BODY_MAX, "", &doc, NULL) == 0)
		m = jv_string(jv_at(jv_get(doc, "errors"), 0), "message", NULL);
	if (m)
		strbuf_addf(to, ": %.*s", ERROR_TEXT_MAX, m);
}

/* A failure of the connection.  *again: trying once more may help. */
static int judge_failure(struct transfer *t, bool *again)
{
	const struct http_request *q = &t->request;

	switch (q->code) {
	case CURLE_COULDNT_CONNECT:
		*again = t->registry->access[t->host].answered;
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_URL_MALFORMAT:
		break;
	default:
		*again = true;
	}
	return err_set(&t->e, -EIO, GRPC_UNAVAILABLE, "%s: %s %s: %s", host_of(t)->url, t->kind,
		       t->what, *q->error ? q->error : curl_easy_strerror(q->code));
}

static int judge(struct transfer *t, bool *again)
{
	_cleanup_strbuf_ struct strbuf said = STRBUF_NULL;
	const struct http_request *q = &t->request;
	const char *url = host_of(t)->url;

	*again = false;
	if (t->e.errnum)
		return t->e.errnum;
	if (q->code != CURLE_OK)
		return judge_failure(t, again);
	put_error_text(q, &said);
	switch (q->status) {
	case 200:
	case 206:
		if (t->size_is_limit || t->done == t->size)
			return 0;
		*again = t->done > t->done_before;
		return err_set(&t->e, -EBADMSG, GRPC_DATA_LOSS,
			       "%s: %s %s has %llu bytes, not %llu", url, t->kind, t->what,
			       (unsigned long long)t->done, (unsigned long long)t->size);
	case 401:
		return err_set(
			&t->e, -EACCES, GRPC_UNAUTHENTICATED,
			"%s refuses %s %s: the credentials are missing or wrong%s (HTTP 401)", url,
			t->kind, t->what, str_or_empty(said.s));
	case 403:
		return err_set(&t->e, -EPERM, GRPC_PERMISSION_DENIED,
			       "%s refuses %s %s%s (HTTP 403)", url, t->kind, t->what,
			       str_or_empty(said.s));
	case 416: /* there is nothing from there on */
		return err_set(&t->e, -EBADMSG, GRPC_DATA_LOSS,
			       "%s: %s %s has %llu bytes, not %llu", url, t->kind, t->what,
			       (unsigned long long)t->done, (unsigned long long)t->size);
	case 404:
		return err_not_found(&t->e, "%s has no %s %s of %s%s", url, t->kind, t->what,
				     t->registry->path, str_or_empty(said.s));
	default:
		*again = q->status >= 500 || q->status == 408 || q->status == 429;
		return err_set(&t->e, -EIO, GRPC_UNAVAILABLE, "%s: %s %s: HTTP %ld%s", url, t->kind,
			       t->what, q->status, str_or_empty(said.s));
	}
}

/* The node's own credentials, after AuthConfig's: 0 where they are in use from now on. */
static int use_own(struct transfer *t, struct err *e)
{
	struct registry *r = t->registry;
	struct access *a = &r->access[t->host];
	_cleanup_free_ char *at = host_authority(host_of(t)->url);
	const struct credentials *c = &a->own;
	int res = -ENOENT;

	if (a->looked)
		return -ENOENT;
	a->looked = true;
	if (host_of(t)->origin)
		res = credentials_get(r->http, r->host, r->path, &a->own, e);
	if (res == -ENOENT && !(host_of(t)->origin && streq(at, r->host)))
		res = credentials_get(r->http, at, r->path, &a->own, e);
	if (res < 0)
		return res;
	a->own_view = (struct auth_config){.username = c->username,
					   .password = c->password,
					   .auth = c->auth,
					   .identity_token = c->identity_token,
					   .registry_token = c->registry_token};
	a->with = &a->own_view;
	return 0;
}

/* A field for the credentials in use. */
static int get_field(struct transfer *t, bool fresh, char **ret, struct err *e)
{
	struct registry *r = t->registry;
	const struct auth_config *c = r->access[t->host].with;

	*ret = fresh ? auth_first(c) : NULL;
	return *ret ? 0 : auth_answer(&r->auth, host_of(t), c, t->request.challenge, ret, e);
}

/* 1: there is something new to try with, 0: not. */
static int get_access(struct transfer *t)
{
	struct access *a = &t->registry->access[t->host];
	bool refused = t->asked, fresh = false;
	char *field = NULL;
	int r = -EACCES;

	/* Another transfer may have got it meanwhile. */
	if (t->generation != a->generation)
		return 1;
	t->asked = true;
	if (!refused && a->with) {
		r = get_field(t, false, &field, &t->e);
		refused = r == -EACCES;
	}
	if (refused || !a->with) {
		struct err e = ERR_NULL;

		r = use_own(t, &e);
		fresh = r == 0;
		if (fresh || (r == -ENOENT && !refused)) { /* or nobody's: it may be public */
			t->e = ERR_NULL;
			r = get_field(t, fresh, &field, &t->e);
		} else if (r != -ENOENT) {
			t->e = e;
		}
	}
	if (r < 0)
		return 0;
	free(a->field);
	a->field = field;
	a->generation++;
	return 1;
}

/* --- hosts --- */

static bool usable(const struct transfer *t, size_t i)
{
	const struct host *h = &t->registry->hosts.v[i];

	return h->pull && (h->resolve || !streq(t->kind, "manifests") || digest_valid(t->what));
}

/* The next that has not been tried; mirrors that failed come last. */
static size_t choose(const struct transfer *t)
{
	const struct registry *r = t->registry;
	size_t last = SIZE_MAX;

	for (size_t i = 0; i < r->hosts.n; i++) {
		if (t->tried[i] || !usable(t, i))
			continue;
		if (!r->access[i].ill)
			return i;
		if (last == SIZE_MAX)
			last = i;
	}
	return last;
}

/* A mirror beside others costs one short try. */
static bool is_brief(const struct transfer *t)
{
	if (host_of(t)->origin)
		return false;
	for (size_t i = 0; i < t->registry->hosts.n; i++)
		if (i != t->host && usable(t, i))
			return true;
	return false;
}

static void set_health(const struct transfer *t, const struct err *why)
{
	struct access *a = &t->registry->access[t->host];

	if (host_of(t)->origin || (!why && !a->ill))
		return;
	a->ill = why != NULL;
	worker_tell_host(host_of(t)->url, why ? why->msg : NULL);
}

/* That it has not got it, or not for us, is no fault of a mirror. */
static bool is_fault(const struct err *e)
{
	return e->code == GRPC_UNAVAILABLE || e->code == GRPC_DATA_LOSS ||
	       e->code == GRPC_RESOURCE_EXHAUSTED;
}

static void fail(struct transfer *t)
{
	t->state = TRANSFER_FAILED;
	if (!t->e.errnum) {
		err_precondition(&t->e, "no host for %s may be asked", t->registry->host);
	} else if (t->e.errnum != -ECANCELED) {
		if (t->origin_e.errnum && !host_of(t)->origin) { /* what the registry says counts */
			strbuf_addf(&t->said, "%s%s", t->said.len ? "; " : "", t->e.msg);
			t->e = t->origin_e;
		}
		if (t->said.len)
			err_wrap(&t->e, "%s", t->said.s);
	}
}

/* What the host said, for the person, should no other have it. */
static void leave_host(struct transfer *t)
{
	if (t->host == SIZE_MAX)
		return;
	if (host_of(t)->origin)
		t->origin_e = t->e;
	else
		strbuf_addf(&t->said, "%s%s", t->said.len ? "; " : "", t->e.msg);
}

static void next_host(struct transfer *t)
{
	size_t next = choose(t);

	http_request_fini(&t->request);
	if (t->host != SIZE_MAX && is_fault(&t->e))
		set_health(t, &t->e);
	if (next == SIZE_MAX) {
		fail(t);
		return;
	}
	leave_host(t);
	t->host = next;
	t->tried[next] = true;
	t->tries = 0;
	t->asked = false;
	if (t->done && t->anew && t->anew(t->arg, &t->e) < 0) {
		t->state = TRANSFER_FAILED;
		return;
	}
	t->done = 0;
	begin(t);
}

static void wait_and_retry(struct transfer *t)
{
	uint64_t ms = (uint64_t)REGISTRY_RETRY_MS << (t->tries - 1), said = t->request.retry_after;

	if (said)
		ms = MIN(said, (uint64_t)REGISTRY_RETRY_AFTER_MAX) * 1000;
	t->not_before = clock_mono_us() + ms * USEC_PER_MS;
	t->state = TRANSFER_WAITING;
	http_request_fini(&t->request);
}

static void ended(struct transfer *t)
{
	bool again, further;
	int r;

	if (t->request.code == CURLE_OK && t->request.status == 401 && !t->e.errnum) {
		if (get_access(t)) {
			begin(t);
			return;
		}
	}
	r = judge(t, &again);
	if (t->request.code == CURLE_OK || t->done > t->done_before)
		t->registry->access[t->host].answered = true;
	if (r == 0) {
		if (t->was_ill) /* not one that was on its way when another failed */
			set_health(t, NULL);
		t->state = TRANSFER_ARRIVED;
		http_request_fini(&t->request);
		return;
	}
	further = t->done - t->done_before >= REGISTRY_PROGRESS_MIN;
	if (further) { /* a try of its own */
		t->tries = 0;
		t->asked = false;
	}
	if (again && ++t->tries < REGISTRY_TRIES && (further || !is_brief(t)))
		wait_and_retry(t);
	else if (r == -ECANCELED)
		fail(t);
	else
		next_host(t);
}

/* --- transfers --- */

/* Whether a mirror has brought less in its time than it has to. */
static bool too_slow(struct transfer *t)
{
	uint64_t now = clock_mono_us();

	if (t->request.paused || t->came - t->mark >= REGISTRY_MIRROR_MIN) {
		t->mark = t->came;
		t->mark_at = now;
		return false;
	}
	return is_brief(t) && now - t->mark_at >= t->registry->mirror_wait_s * USEC_PER_SEC;
}

void transfer_start(struct registry *r, struct transfer *t)
{
	t->registry = r;
	t->host = SIZE_MAX;
	t->e = ERR_NULL;
	next_host(t);
}

void transfer_advance(struct transfer *t)
{
	if (t->state == TRANSFER_RUNNING && t->request.done) {
		ended(t);
	} else if (t->state == TRANSFER_RUNNING && too_slow(t)) {
		err_set(&t->e, -ETIMEDOUT, GRPC_UNAVAILABLE,
			"%s: %s %s: %llu bytes came in %u seconds (image.mirror_wait)",
			host_of(t)->url, t->kind, t->what, (unsigned long long)(t->came - t->mark),
			t->registry->mirror_wait_s);
		next_host(t);
	} else if (t->state == TRANSFER_WAITING && clock_mono_us() >= t->not_before) {
		begin(t);
	}
}

int transfer_timeout(const struct transfer *t, int most)
{
	uint64_t now = clock_mono_us();

	if (t->state != TRANSFER_WAITING)
		return most;
	return now >= t->not_before ? 0
				    : (int)MIN((uint64_t)most, (t->not_before - now) / 1000 + 1);
}

void transfer_reject(struct transfer *t, const struct err *why)
{
	t->e = *why;
	err_wrap(&t->e, "%s", host_of(t)->url);
	next_host(t);
}

void transfer_fini(struct transfer *t)
{
	http_request_fini(&t->request);
	strbuf_fini(&t->said);
}

/* --- documents --- */

struct document {
	struct strbuf *to;
};

static size_t document_take(void *arg, const char *p, size_t n, struct err *e)
{
	struct document *d = arg;

	(void)e;
	strbuf_add(d->to, p, n);
	return n;
}

static int document_anew(void *arg, struct err *e)
{
	struct document *d = arg;

	(void)e;
	strbuf_reset(d->to);
	return 0;
}

/* Until it has arrived or failed. */
static int run(struct registry *r, struct transfer *t, struct err *e)
{
	int res = 0;

	while (res == 0 && (t->state == TRANSFER_RUNNING || t->state == TRANSFER_WAITING)) {
		res = http_step(r->http, transfer_timeout(t, 1000), e);
		if (res == 0)
			transfer_advance(t);
	}
	if (res == 0 && t->state == TRANSFER_FAILED) {
		*e = t->e;
		res = e->errnum;
	}
	return res;
}

static int check_document(const struct transfer *t, const struct strbuf *b, char *ret_digest,
			  struct err *e)
{
	digest_of(str_or_empty(b->s), b->len, ret_digest);
	if (digest_valid(t->what) && !streq(t->what, ret_digest))
		return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "%s %s: what came is %s", t->kind,
			       t->what, ret_digest);
	return 0;
}

static int get(struct registry *r, const char *kind, const char *what, uint64_t size, size_t max,
	       struct strbuf *ret, char *ret_digest, struct err *e)
{
	struct document d = {ret};
	struct transfer t = {.kind = kind,
			     .what = what,
			     .take = document_take,
			     .anew = document_anew,
			     .arg = &d};
	int res;

	if (size != UINT64_MAX && size > max)
		return err_set(e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "%s %s has %llu bytes, at most %zu are possible", kind, what,
			       (unsigned long long)size, max);
	t.size = size == UINT64_MAX ? max : size;
	t.size_is_limit = size == UINT64_MAX;
	strbuf_reset(ret);
	transfer_start(r, &t);
	for (;;) {
		struct err why = ERR_NULL;

		res = run(r, &t, e);
		if (res < 0 || check_document(&t, ret, ret_digest, &why) == 0)
			break;
		transfer_reject(&t, &why);
	}
	transfer_fini(&t);
	return res;
}

int registry_manifest(struct registry *r, const char *what, uint64_t size, struct strbuf *ret,
		      char *ret_digest, struct err *e)
{
	return get(r, "manifests", what, size, MANIFEST_MAX, ret, ret_digest, e);
}

int registry_blob(struct registry *r, const char *digest, uint64_t size, struct strbuf *ret,
		  struct err *e)
{
	char got[72];

	return get(r, "blobs", digest, size, CONFIG_MAX, ret, got, e);
}

/* --- open --- */

int registry_open(const char *hosts_dir, const char *host, const char *path,
		  const struct auth_config *auth, unsigned stall_s, unsigned mirror_wait_s,
		  struct registry **ret, struct err *e)
{
	struct registry *r = xcalloc(1, sizeof(*r));
	int res = hosts_find(hosts_dir, host, &r->hosts, e);

	if (res < 0) {
		free(r);
		return res;
	}
	r->host = xstrdup(host);
	r->path = xstrdup(path);
	r->http = http_open(stall_s);
	r->mirror_wait_s = mirror_wait_s;
	r->auth = (struct auth){auth, r->host, r->path, r->http, mirror_wait_s};
	for (size_t i = 0; i < r->hosts.n; i++) {
		r->access[i].with = auth_given(&r->auth, &r->hosts.v[i]) ? auth : NULL;
		r->access[i].field = auth_first(r->access[i].with);
	}
	*ret = r;
	return 0;
}

void registry_is_ill(struct registry *r, const char *url)
{
	for (size_t i = 0; i < r->hosts.n; i++)
		if (!r->hosts.v[i].origin && streq(r->hosts.v[i].url, url))
			r->access[i].ill = true;
}

struct registry *registry_close(struct registry *r)
{
	if (!r)
		return NULL;
	http_close(r->http);
	for (size_t i = 0; i < ARRAY_SIZE(r->access); i++) {
		free(r->access[i].field);
		credentials_fini(&r->access[i].own);
	}
	hosts_fini(&r->hosts);
	free(r->host);
	free(r->path);
	free(r);
	return NULL;
}
