/* SPDX-License-Identifier: Apache-2.0 */
/* The registry client, on libcurl: see registry.h. */
#include "registry.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "wire/json.h"
#include "worker.h"

#define CONNECT_TIMEOUT_S 30L
#define STALL_TIMEOUT_S 60L /* without a byte */
#define REDIRECTS_MAX 10L
#define TRIES 3 /* of one request at one host, where trying again may help */
#define RETRY_DELAY_MS 300
#define TOKEN_MAX (64u << 10)
#define CHALLENGE_MAX 8192
#define ERROR_TEXT_MAX 300 /* of what a registry says */

#define ACCEPT                                                                                     \
	"Accept: application/vnd.oci.image.index.v1+json, "                                        \
	"application/vnd.oci.image.manifest.v1+json, "                                             \
	"application/vnd.docker.distribution.manifest.list.v2+json, "                              \
	"application/vnd.docker.distribution.manifest.v2+json"

struct registry {
	struct hosts hosts;
	char *tokens[HOSTS_MAX + 2]; /* "Authorization: ..." for each host, NULL none yet */
	char *host, *path;
	struct registry_auth auth;
	CURLM *multi;
};

/* --- one exchange --- */

struct exchange {
	CURL *curl;
	struct curl_slist *headers;
	struct strbuf *body; /* of a document, or of an error */
	size_t max;
	char challenge[CHALLENGE_MAX]; /* WWW-Authenticate */
	char error[CURL_ERROR_SIZE];
	struct fetch *fetch; /* the body goes into its file */
	EVP_MD_CTX *md;
	struct strbuf error_body;
	struct err *e;
};

static long status_of(const struct exchange *x)
{
	long status = 0;

	curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static size_t on_fetched(struct exchange *x, const char *p, size_t n)
{
	struct fetch *f = x->fetch;

	if (f->done + n > f->size) {
		err_set(x->e, -EBADMSG, GRPC_DATA_LOSS, "blob %s is longer than its %llu bytes",
			f->digest, (unsigned long long)f->size);
		return 0;
	}
	if (fs_write_all(f->fd, p, n) < 0) {
		err_errno(x->e, -errno, "write blob %s", f->digest);
		return 0;
	}
	EVP_DigestUpdate(x->md, p, n);
	f->done += n;
	worker_progress(f->digest, "fetching", f->done, f->size);
	return n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	struct strbuf *to = x->body ? x->body : &x->error_body;
	long status = status_of(x);

	(void)size;
	if (status != 200 && status != 206) { /* what the registry says of it, in short */
		strbuf_add(&x->error_body, p, MIN(n, TOKEN_MAX - MIN(x->error_body.len, TOKEN_MAX)));
		return n;
	}
	if (x->fetch)
		return on_fetched(x, p, n);
	if (to->len + n > x->max) {
		err_set(x->e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			"the registry's answer is longer than %zu bytes", x->max);
		return 0;
	}
	strbuf_add(to, p, n);
	return n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	static const char name[] = "www-authenticate:";
	struct exchange *x = arg;

	(void)size;
	if (n > strlen(name) && strncasecmp(p, name, strlen(name)) == 0) {
		size_t len = MIN(n - strlen(name), sizeof(x->challenge) - 1);

		/* Several may be offered: Bearer is the one to take. */
		if (!strcasestr(x->challenge, "bearer")) {
			memcpy(x->challenge, p + strlen(name), len);
			x->challenge[len] = '\0';
		}
	}
	return n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)arg, (void)a, (void)b, (void)c, (void)d;
	return worker_cancelled();
}

static CURL *new_handle(struct exchange *x, const struct host *h, const char *url)
{
	CURL *c = curl_easy_init();

	x->curl = c;
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	/* From https nobody is led to http. */
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
			 str_has_prefix(url, "https:") ? "https" : "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT_S);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "gantry/" GANTRY_VERSION);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
	if (h && h->skip_verify) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	} else if (h && h->ca.n) {
		curl_easy_setopt(c, CURLOPT_CAINFO, h->ca.v[0]);
	}
	return c;
}

static void exchange_fini(struct exchange *x)
{
	if (x->curl)
		curl_easy_cleanup(x->curl);
	curl_slist_free_all(x->headers);
	EVP_MD_CTX_free(x->md);
	strbuf_fini(&x->error_body);
}

/* --- access --- */

/* Credentials are for the registry that the reference names, or for the server that the
 * kubelet says they belong to. */
static bool credentials_for(const struct registry *r, const struct host *h)
{
	const char *server = str_or_empty(r->auth.server), *name;
	size_t n;

	if (!*server)
		return h->origin;
	name = strstr(server, "://") ? strstr(server, "://") + 3 : server;
	n = strcspn(name, "/");
	if (h->origin && strlen(r->host) == n && strncmp(name, r->host, n) == 0)
		return true;
	/* the index of Docker's hub goes by several names */
	if (h->origin && streq(r->host, "docker.io") && strncmp(name, "index.docker.io", n) == 0)
		return true;
	name = strndupa(name, n);
	return strlen(strstr(h->url, "://") + 3) >= n &&
	       strncmp(strstr(h->url, "://") + 3, name, n) == 0 &&
	       strchr("/", strstr(h->url, "://")[3 + n]) != NULL;
}

/* "USER:PASSWORD" of AuthConfig in base64, or NULL. owned */
static char *basic(const struct registry *r)
{
	if (!str_empty(r->auth.username)) {
		_cleanup_free_ char *plain = xasprintf("%s:%s", r->auth.username,
						       str_or_empty(r->auth.password));
		size_t n = strlen(plain);
		char *out = xmalloc(4 * ((n + 2) / 3) + 1);

		EVP_EncodeBlock((uint8_t *)out, (const uint8_t *)plain, (int)n);
		return out;
	}
	if (!str_empty(r->auth.auth) && !strpbrk(r->auth.auth, "\r\n"))
		return xstrdup(r->auth.auth);
	return NULL;
}

/* The value of a parameter: Bearer realm="https://...",service="x". owned, NULL: none */
static char *parameter(const char *challenge, const char *name)
{
	const char *p = challenge;
	size_t n = strlen(name);

	while ((p = strcasestr(p, name))) {
		if ((p == challenge || strchr(" ,\t", p[-1])) && p[n] == '=') {
			p += n + 1;
			if (*p == '"')
				return xstrndup(p + 1, strcspn(p + 1, "\""));
			return xstrndup(p, strcspn(p, ", \r\n"));
		}
		p += n;
	}
	return NULL;
}

static void add_query(CURL *c, struct strbuf *url, const char *key, const char *v)
{
	char *escaped = curl_easy_escape(c, v, 0);

	strbuf_addf(url, "%c%s=%s", url->s && strchr(url->s, '?') ? '&' : '?', key, escaped);
	curl_free(escaped);
}

/* Asks the server that issues tokens (distribution, token and OAuth2 authentication). */
static int ask_token(struct registry *r, size_t host, const char *challenge, struct err *e)
{
	const struct host *h = &r->hosts.v[host];
	bool ours = credentials_for(r, h);
	_cleanup_free_ char *realm = parameter(challenge, "realm"),
			    *service = parameter(challenge, "service"),
			    *scope = parameter(challenge, "scope"), *cred = ours ? basic(r) : NULL;
	_cleanup_strbuf_ struct strbuf url = STRBUF_NULL, body = STRBUF_NULL, form = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;
	struct exchange x = {.body = &body, .max = TOKEN_MAX, .e = e};
	const char *token;
	CURLcode code;
	long status;
	int res = 0;

	if (!realm || (!str_has_prefix(realm, "https://") && !str_has_prefix(realm, "http://")))
		return err_set(e, -EPROTO, GRPC_UNAUTHENTICATED,
			       "%s asks for a token, but does not say where to get it", h->url);
	/* Credentials do not leave an encrypted connection. */
	if (cred && str_has_prefix(h->url, "https://") && str_has_prefix(realm, "http://"))
		return err_set(e, -EPROTO, GRPC_UNAUTHENTICATED,
			       "%s wants the credentials sent without encryption, to %s", h->url,
			       realm);
	strbuf_adds(&url, realm);
	if (!scope)
		scope = xasprintf("repository:%s:pull", r->path);
	new_handle(&x, h, realm);
	if (ours && !str_empty(r->auth.identity_token)) {
		char *t = curl_easy_escape(x.curl, r->auth.identity_token, 0),
		     *s = curl_easy_escape(x.curl, scope, 0),
		     *v = curl_easy_escape(x.curl, str_or_empty(service), 0);

		strbuf_addf(&form,
			    "grant_type=refresh_token&client_id=gantry&service=%s&scope=%s&"
			    "refresh_token=%s",
			    v, s, t);
		curl_free(t);
		curl_free(s);
		curl_free(v);
		curl_easy_setopt(x.curl, CURLOPT_POSTFIELDS, form.s);
	} else {
		if (service)
			add_query(x.curl, &url, "service", service);
		add_query(x.curl, &url, "scope", scope);
		if (cred) {
			_cleanup_free_ char *a = xasprintf("Authorization: Basic %s", cred);

			x.headers = curl_slist_append(x.headers, a);
		}
	}
	curl_easy_setopt(x.curl, CURLOPT_URL, url.s);
	curl_easy_setopt(x.curl, CURLOPT_HTTPHEADER, x.headers);
	code = curl_easy_perform(x.curl);
	status = status_of(&x);
	if (code != CURLE_OK)
		res = err_set(e, -EIO, GRPC_UNAVAILABLE, "get a token from %s: %s", realm,
			      *x.error ? x.error : curl_easy_strerror(code));
	else if (status == 401 || status == 403)
		res = err_set(e, -EACCES, GRPC_UNAUTHENTICATED,
			      "%s gives no token: %s (HTTP %ld)", realm,
			      cred ? "the credentials are wrong or do not allow it"
				   : "credentials are needed",
			      status);
	else if (status != 200)
		res = err_set(e, -EIO, GRPC_UNAVAILABLE, "get a token from %s: HTTP %ld", realm,
			      status);
	if (res == 0)
		res = jv_parse(str_or_empty(body.s), body.len, TOKEN_MAX, realm, &doc, e);
	if (res == 0) {
		token = jv_string(doc, "token", jv_string(doc, "access_token", NULL));
		if (str_empty(token) || strpbrk(token, "\r\n"))
			res = err_set(e, -EPROTO, GRPC_UNAUTHENTICATED, "%s gave no token", realm);
		else
			r->tokens[host] = xasprintf("Authorization: Bearer %s", token);
	}
	exchange_fini(&x);
	return res;
}

/* After a 401: 0 when there is something new to try with. */
static int authenticate(struct registry *r, size_t host, const char *challenge, struct err *e)
{
	const struct host *h = &r->hosts.v[host];
	const char *c = challenge + strspn(challenge, " \t");
	_cleanup_free_ char *cred = credentials_for(r, h) ? basic(r) : NULL;

	if (r->tokens[host]) /* it was no use; a token may have got old */
		free(r->tokens[host]);
	r->tokens[host] = NULL;
	if (strncasecmp(c, "bearer", 6) == 0)
		return ask_token(r, host, c + 6, e);
	if (strncasecmp(c, "basic", 5) == 0 && cred) {
		r->tokens[host] = xasprintf("Authorization: Basic %s", cred);
		return 0;
	}
	return err_set(e, -EACCES, GRPC_UNAUTHENTICATED, "%s wants credentials (%.*s)", h->url,
		       (int)strcspn(c, "\r\n"), c);
}

/* --- requests --- */

static void add_headers(const struct registry *r, size_t host, struct exchange *x, bool accept)
{
	const struct host *h = &r->hosts.v[host];

	if (accept)
		x->headers = curl_slist_append(x->headers, ACCEPT);
	if (r->tokens[host])
		x->headers = curl_slist_append(x->headers, r->tokens[host]);
	for (size_t i = 0; i < h->headers.n; i++)
		if (*h->headers.v[i])
			x->headers = curl_slist_append(x->headers, h->headers.v[i]);
	curl_easy_setopt(x->curl, CURLOPT_HTTPHEADER, x->headers);
}

static char *url_of(const struct registry *r, size_t host, const char *kind, const char *what)
{
	const struct host *h = &r->hosts.v[host];

	/* A mirror is told whose image it is asked for. */
	return xasprintf("%s/%s/%s/%s%s%s", h->url, r->path, kind, what, h->origin ? "" : "?ns=",
			 h->origin ? "" : r->host);
}

/* What the registry wrote about its error, as one line. */
static void put_error_text(const struct exchange *x, struct strbuf *to)
{
	_cleanup_jv_ jv *doc = NULL;
	const char *m = NULL;

	if (x->error_body.s &&
	    jv_parse(x->error_body.s, x->error_body.len, TOKEN_MAX, "", &doc, NULL) == 0)
		m = jv_string(jv_at(jv_get(doc, "errors"), 0), "message", NULL);
	if (m)
		strbuf_addf(to, ": %.*s", ERROR_TEXT_MAX, m);
}

/* The outcome of a transfer as an error, or 0.  *again: trying once more may help. */
static int judge(struct registry *r, size_t host, struct exchange *x, CURLcode code,
		 const char *what, bool *again, struct err *e)
{
	_cleanup_strbuf_ struct strbuf said = STRBUF_NULL;
	const struct host *h = &r->hosts.v[host];
	long status = status_of(x);

	*again = false;
	if (worker_cancelled())
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	if (x->e->errnum)
		return x->e->errnum;
	if (code != CURLE_OK) {
		*again = code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_CONNECT &&
			 code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CONNECT_ERROR;
		return err_set(e, -EIO, GRPC_UNAVAILABLE, "%s: %s", h->url,
			       *x->error ? x->error : curl_easy_strerror(code));
	}
	if (status == 200)
		return 0;
	put_error_text(x, &said);
	if (status == 401)
		return err_set(e, -EACCES, GRPC_UNAUTHENTICATED,
			       "%s refuses %s: the credentials are missing or wrong%s (HTTP 401)",
			       h->url, what, str_or_empty(said.s));
	if (status == 403)
		return err_set(e, -EPERM, GRPC_PERMISSION_DENIED, "%s refuses %s%s (HTTP 403)",
			       h->url, what, str_or_empty(said.s));
	if (status == 404)
		return err_not_found(e, "%s has no %s%s", h->url, what, str_or_empty(said.s));
	*again = status >= 500 || status == 408 || status == 429;
	return err_set(e, -EIO, GRPC_UNAVAILABLE, "%s: %s: HTTP %ld%s", h->url, what, status,
		       str_or_empty(said.s));
}

static int get_at(struct registry *r, size_t host, const char *kind, const char *what, size_t max,
		  struct strbuf *ret, struct err *e)
{
	_cleanup_free_ char *url = url_of(r, host, kind, what),
			    *about = xasprintf("%s %s of %s", kind, what, r->path);
	bool asked = false;
	int res = 0;

	for (unsigned try = 0; try < TRIES; try++) {
		struct err why = ERR_NULL;
		struct exchange x = {.body = ret, .max = max, .e = &why};
		CURLcode code;
		bool again;

		strbuf_reset(ret);
		new_handle(&x, &r->hosts.v[host], url);
		add_headers(r, host, &x, streq(kind, "manifests"));
		code = curl_easy_perform(x.curl);
		if (code == CURLE_OK && status_of(&x) == 401 && !asked) {
			asked = true;
			res = authenticate(r, host, x.challenge, e);
			exchange_fini(&x);
			if (res < 0)
				return res;
			try--;
			continue;
		}
		res = judge(r, host, &x, code, about, &again, &why);
		exchange_fini(&x);
		if (res == 0)
			return 0;
		*e = why;
		if (!again)
			return res;
		usleep(RETRY_DELAY_MS * 1000u << try);
	}
	return res;
}

/* At each host in order, until one has it. */
static int get(struct registry *r, const char *kind, const char *what, size_t max,
	       struct strbuf *ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf all = STRBUF_NULL;
	struct err first = ERR_NULL;

	for (size_t i = 0; i < r->hosts.n; i++) {
		const struct host *h = &r->hosts.v[i];
		struct err why = ERR_NULL;
		int res;

		if (!h->pull || (!h->resolve && streq(kind, "manifests") && !digest_valid(what)))
			continue;
		res = get_at(r, i, kind, what, max, ret, &why);
		if (res == 0)
			return 0;
		if (res == -ECANCELED) {
			*e = why;
			return res;
		}
		strbuf_addf(&all, "%s%s", all.len ? "; " : "", why.msg);
		first = why; /* the registry itself comes last: its code counts */
	}
	if (!first.errnum)
		return err_precondition(e, "no host for %s may be asked", r->host);
	return err_set(e, first.errnum, first.code, "%s", all.s);
}

int registry_manifest(struct registry *r, const char *what, struct strbuf *ret, char *ret_digest,
		      struct err *e)
{
	int res = get(r, "manifests", what, MANIFEST_MAX, ret, e);

	if (res < 0)
		return res;
	digest_of(str_or_empty(ret->s), ret->len, ret_digest);
	if (digest_valid(what) && !streq(what, ret_digest))
		return err_set(e, -EBADMSG, GRPC_DATA_LOSS,
			       "the registry's manifest is %s, asked for was %s", ret_digest, what);
	return 0;
}

int registry_blob(struct registry *r, const char *digest, size_t max, struct strbuf *ret,
		  struct err *e)
{
	int res = get(r, "blobs", digest, max, ret, e);

	return res < 0 ? res
		       : digest_check(str_or_empty(ret->s), ret->len, digest, "the blob", e);
}

/* --- many blobs --- */

struct transfer {
	struct exchange x;
	struct fetch *f;
	size_t host;
	unsigned tries;
	bool asked;
	struct err why;
};

static void transfer_begin(struct registry *r, struct transfer *t)
{
	_cleanup_free_ char *url = url_of(r, t->host, "blobs", t->f->digest);

	exchange_fini(&t->x);
	t->why = ERR_NULL;
	t->x = (struct exchange){.fetch = t->f, .e = &t->why, .md = EVP_MD_CTX_new()};
	EVP_DigestInit_ex(t->x.md, EVP_sha256(), NULL);
	t->f->done = 0;
	(void)!ftruncate(t->f->fd, 0);
	lseek(t->f->fd, 0, SEEK_SET);
	new_handle(&t->x, &r->hosts.v[t->host], url);
	curl_easy_setopt(t->x.curl, CURLOPT_PRIVATE, t);
	add_headers(r, t->host, &t->x, false);
	curl_multi_add_handle(r->multi, t->x.curl);
}

static int check_fetched(struct transfer *t, struct err *e)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	char got[72] = "sha256:";

	if (t->f->done != t->f->size)
		return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "blob %s has %llu bytes, expected %llu",
			       t->f->digest, (unsigned long long)t->f->done,
			       (unsigned long long)t->f->size);
	EVP_DigestFinal_ex(t->x.md, hash, NULL);
	hex_encode(hash, 32, got + 7);
	if (!streq(got, t->f->digest))
		return err_set(e, -EBADMSG, GRPC_DATA_LOSS,
			       "the blob that came is %s, asked for was %s", got, t->f->digest);
	return 0;
}

/* 1: begun anew, 0: done, < 0. */
static int transfer_end(struct registry *r, struct transfer *t, CURLcode code, struct err *e)
{
	_cleanup_free_ char *about = xasprintf("blob %s of %s", t->f->digest, r->path);
	bool again = false;
	int res;

	curl_multi_remove_handle(r->multi, t->x.curl);
	if (code == CURLE_OK && status_of(&t->x) == 401 && !t->asked) {
		t->asked = true;
		res = authenticate(r, t->host, t->x.challenge, &t->why);
		if (res == 0) {
			transfer_begin(r, t);
			return 1;
		}
	} else {
		res = judge(r, t->host, &t->x, code, about, &again, &t->why);
	}
	if (res == 0)
		res = check_fetched(t, &t->why);
	if (res == 0)
		return 0;
	if (res == -ECANCELED) {
		*e = t->why;
		return res;
	}
	if (again && ++t->tries < TRIES) {
		usleep(RETRY_DELAY_MS * 1000u << t->tries);
		transfer_begin(r, t);
		return 1;
	}
	*e = t->why;
	while (++t->host < r->hosts.n) {
		if (!r->hosts.v[t->host].pull)
			continue;
		t->tries = 0;
		t->asked = false;
		transfer_begin(r, t);
		return 1;
	}
	return res;
}

static size_t first_host(const struct registry *r)
{
	for (size_t i = 0; i < r->hosts.n; i++)
		if (r->hosts.v[i].pull)
			return i;
	return 0;
}

static int take_finished(struct registry *r, fetch_fn *fn, void *arg, unsigned *running,
			 struct err *e)
{
	CURLMsg *m;
	int left, res = 0;

	while (res >= 0 && (m = curl_multi_info_read(r->multi, &left))) {
		struct transfer *t;
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		res = transfer_end(r, t, code, e);
		if (res == 0) {
			(*running)--;
			t->f->finished = true;
			exchange_fini(&t->x);
			t->x = (struct exchange){0};
			res = fn(arg, t->f, e);
		}
	}
	return res < 0 ? res : 0;
}

int registry_fetch(struct registry *r, struct fetch *v, size_t n, unsigned parallel, fetch_fn *fn,
		   void *arg, struct err *e)
{
	struct transfer *ts = xcalloc(n + 1, sizeof(*ts));
	unsigned running = 0;
	size_t next = 0;
	int res = 0, alive;

	while (res == 0 && (next < n || running > 0)) {
		while (next < n && running < parallel) {
			ts[next] = (struct transfer){.f = &v[next], .host = first_host(r)};
			transfer_begin(r, &ts[next]);
			next++;
			running++;
		}
		if (curl_multi_perform(r->multi, &alive) != CURLM_OK)
			res = err_set(e, -EIO, GRPC_INTERNAL, "libcurl failed");
		if (res == 0)
			res = take_finished(r, fn, arg, &running, e);
		if (res == 0 && running > 0)
			curl_multi_poll(r->multi, NULL, 0, 200, NULL);
		if (res == 0)
			res = worker_check(e);
	}
	for (size_t i = 0; i < next; i++) {
		if (ts[i].x.curl && res < 0)
			curl_multi_remove_handle(r->multi, ts[i].x.curl);
		exchange_fini(&ts[i].x);
	}
	free(ts);
	return res;
}

/* --- open --- */

int registry_open(const char *hosts_dir, const char *host, const char *path,
		  const struct registry_auth *auth, struct registry **ret, struct err *e)
{
	struct registry *r = xcalloc(1, sizeof(*r));
	int res;

	curl_global_init(CURL_GLOBAL_DEFAULT);
	res = hosts_find(hosts_dir, host, &r->hosts, e);
	if (res < 0) {
		free(r);
		return res;
	}
	r->host = xstrdup(host);
	r->path = xstrdup(path);
	r->auth = *auth;
	r->multi = curl_multi_init();
	for (size_t i = 0; i < r->hosts.n; i++)
		if (!str_empty(auth->registry_token) && credentials_for(r, &r->hosts.v[i]) &&
		    !strpbrk(auth->registry_token, "\r\n"))
			r->tokens[i] = xasprintf("Authorization: Bearer %s", auth->registry_token);
	*ret = r;
	return 0;
}

struct registry *registry_close(struct registry *r)
{
	if (!r)
		return NULL;
	curl_multi_cleanup(r->multi);
	for (size_t i = 0; i < ARRAY_SIZE(r->tokens); i++)
		free(r->tokens[i]);
	hosts_fini(&r->hosts);
	free(r->host);
	free(r->path);
	free(r);
	curl_global_cleanup();
	return NULL;
}
