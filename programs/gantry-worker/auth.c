/* SPDX-License-Identifier: Apache-2.0 */
/* Access to registries: see auth.h. */
#include "auth.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "wire/json.h"

#define CLIENT_ID "gantry"
#define TOKEN_TRIES 3

/* The index of Docker's hub goes by several names. */
static const char *hub(const char *name)
{
	return streq(name, "index.docker.io") || streq(name, "registry-1.docker.io") ? "docker.io"
										     : name;
}

bool auth_given(const struct auth *a, const struct host *h)
{
	_cleanup_free_ char *server = NULL, *here = NULL;

	if (str_empty(a->config->username) && str_empty(a->config->auth) &&
	    str_empty(a->config->identity_token) && str_empty(a->config->registry_token))
		return false;
	if (str_empty(a->config->server))
		return h->origin;
	server = host_authority(a->config->server);
	here = host_authority(h->url);
	return (h->origin && streq(hub(server), a->registry)) || streq(server, here);
}

/* "USER:PASSWORD" in base64, or NULL. owned */
static char *basic(const struct auth_config *c)
{
	if (c && !str_empty(c->username)) {
		_cleanup_free_ char *plain =
			xasprintf("%s:%s", c->username, str_or_empty(c->password));
		size_t n = strlen(plain);
		char *out = xmalloc(4 * ((n + 2) / 3) + 1);

		EVP_EncodeBlock((uint8_t *)out, (const uint8_t *)plain, (int)n);
		return out;
	}
	if (c && !str_empty(c->auth) && !strpbrk(c->auth, "\r\n "))
		return xstrdup(c->auth);
	return NULL;
}

char *auth_first(const struct auth_config *c)
{
	const char *t = c ? c->registry_token : NULL;

	if (str_empty(t) || strpbrk(t, "\r\n"))
		return NULL;
	return xasprintf("Authorization: Bearer %s", t);
}

char *auth_parameter(const char *challenge, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = challenge; *p;) {
		p += strspn(p, " ,\t");
		if (strncasecmp(p, name, n) == 0 && p[n] == '=') {
			p += n + 1;
			return *p == '"' ? xstrndup(p + 1, strcspn(p + 1, "\""))
					 : xstrndup(p, strcspn(p, ", \t\""));
		}
		p += strcspn(p, " ,\t\"");
		if (*p == '"') { /* a value's commas are its own */
			p += 1 + strcspn(p + 1, "\"");
			p += *p == '"';
		}
	}
	return NULL;
}

int auth_token(const char *text, size_t n, const char *realm, char **ret, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	const char *token;
	int r = jv_parse(text, n, AUTH_TOKEN_MAX, realm, &doc, e);

	if (r < 0)
		return r;
	token = jv_string(doc, "token", "");
	if (!*token)
		token = jv_string(doc, "access_token", "");
	if (!*token)
		return err_set(e, -EPROTO, GRPC_UNAUTHENTICATED, "%s gave no token", realm);
	for (const char *p = token; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(e, -EPROTO, GRPC_UNAUTHENTICATED,
				       "%s gave a token with characters that a token has not",
				       realm);
	*ret = xstrdup(token);
	return 0;
}

/* --- asking a token server --- */

struct asking {
	const struct auth *a;
	const struct host *h;
	const struct auth_config *config;
	char *realm, *service, *scope, *cred;
	struct strbuf body;
};

static size_t on_body(void *arg, const char *p, size_t n)
{
	struct asking *k = arg;

	if (k->body.len + n > AUTH_TOKEN_MAX)
		return 0;
	strbuf_add(&k->body, p, n);
	return n;
}

static void add_pair(struct strbuf *to, char first, const char *key, const char *v)
{
	char *escaped = curl_easy_escape(NULL, v, 0);

	strbuf_addf(to, "%c%s=%s", first, key, escaped);
	curl_free(escaped);
}

/* GET: Basic credentials, or none for what is public. */
static void by_get(const struct asking *k, struct http_request *q)
{
	_cleanup_strbuf_ struct strbuf url = STRBUF_NULL;

	strbuf_adds(&url, k->realm);
	if (k->service)
		add_pair(&url, strchr(url.s, '?') ? '&' : '?', "service", k->service);
	add_pair(&url, strchr(url.s, '?') ? '&' : '?', "scope", k->scope);
	q->url = strbuf_take(&url);
	if (k->cred) {
		_cleanup_free_ char *f = xasprintf("Authorization: Basic %s", k->cred);

		q->headers = curl_slist_append(NULL, f);
	}
}

/* POST: an identity token for an access token. */
static void by_post(const struct asking *k, struct http_request *q)
{
	_cleanup_strbuf_ struct strbuf form = STRBUF_NULL;

	strbuf_adds(&form, "grant_type=refresh_token");
	add_pair(&form, '&', "client_id", CLIENT_ID);
	add_pair(&form, '&', "service", str_or_empty(k->service));
	add_pair(&form, '&', "scope", k->scope);
	add_pair(&form, '&', "refresh_token", k->config->identity_token);
	q->url = xstrdup(k->realm);
	q->post = strbuf_take(&form);
}

static int judge(const struct asking *k, const struct http_request *q, char **ret, struct err *e)
{
	_cleanup_free_ char *token = NULL;
	int r;

	if (q->code == CURLE_WRITE_ERROR)
		return err_set(e, -EFBIG, GRPC_RESOURCE_EXHAUSTED,
			       "%s: the answer is longer than %u bytes", k->realm, AUTH_TOKEN_MAX);
	if (q->code != CURLE_OK)
		return err_set(e, -EIO, GRPC_UNAVAILABLE, "get a token from %s: %s", k->realm,
			       *q->error ? q->error : curl_easy_strerror(q->code));
	if (q->status == 400 || q->status == 401 || q->status == 403)
		return err_set(e, -EACCES, GRPC_UNAUTHENTICATED, "%s gives no token: %s (HTTP %ld)",
			       k->realm,
			       k->cred || q->post ? "the credentials are wrong or do not allow it"
						  : "credentials are needed",
			       q->status);
	if (q->status != 200)
		return err_set(e, -EIO, GRPC_UNAVAILABLE, "get a token from %s: HTTP %ld", k->realm,
			       q->status);
	r = auth_token(str_or_empty(k->body.s), k->body.len, k->realm, &token, e);
	if (r == 0)
		*ret = xasprintf("Authorization: Bearer %s", token);
	return r;
}

static int ask(struct asking *k, bool identity, char **ret, struct err *e)
{
	int r = -EIO;

	for (unsigned i = 0; i < (k->h->origin ? TOKEN_TRIES : 1); i++) {
		struct http_request q = {.host = k->h,
					 .on_body = on_body,
					 .arg = k,
					 .limit_s =
						 k->h->origin ? AUTH_TOKEN_S : k->a->mirror_wait_s};
		bool again;

		strbuf_reset(&k->body);
		(identity ? by_post : by_get)(k, &q);
		r = http_run(k->a->http, &q, e);
		if (r == 0)
			r = judge(k, &q, ret, e);
		else if (r == -ECANCELED)
			i = TOKEN_TRIES;
		again = r < 0 && (q.status >= 500 || q.status == 429 ||
				  (q.code != CURLE_OK && q.code != CURLE_COULDNT_CONNECT));
		http_request_fini(&q);
		if (!again)
			break;
	}
	return r;
}

static int bearer(const struct auth *a, const struct host *h, const struct auth_config *c,
		  const char *challenge, char **ret, struct err *e)
{
	struct asking k = {.a = a,
			   .h = h,
			   .config = c,
			   .realm = auth_parameter(challenge, "realm"),
			   .service = auth_parameter(challenge, "service"),
			   .scope = auth_parameter(challenge, "scope"),
			   .cred = basic(c)};
	bool identity = c && !k.cred && !str_empty(c->identity_token);
	int r = 0;

	if (!k.scope)
		k.scope = xasprintf("repository:%s:pull", a->repository);
	if (!k.realm ||
	    (!str_has_prefix(k.realm, "https://") && !str_has_prefix(k.realm, "http://")))
		r = err_set(e, -EPROTO, GRPC_UNAUTHENTICATED,
			    "%s asks for a token, but does not say where to get it", h->url);
	else if ((k.cred || identity) && str_has_prefix(h->url, "https://") &&
		 str_has_prefix(k.realm, "http://"))
		r = err_set(e, -EPROTO, GRPC_UNAUTHENTICATED,
			    "%s wants the credentials sent without encryption, to %s", h->url,
			    k.realm);
	if (r == 0)
		r = ask(&k, identity, ret, e);
	free(k.realm);
	free(k.service);
	free(k.scope);
	free(k.cred);
	strbuf_fini(&k.body);
	return r;
}

/* Where a scheme begins in a list of challenges; NULL: it is not offered. */
static const char *find_scheme(const char *challenge, const char *scheme)
{
	size_t n = strlen(scheme);

	for (const char *p = challenge; (p = strcasestr(p, scheme)); p += n)
		if ((p == challenge || strchr(" ,\t", p[-1])) && strchr(" ,\t", p[n]))
			return p + n;
	return NULL;
}

int auth_answer(const struct auth *a, const struct host *h, const struct auth_config *c,
		const char *challenge, char **ret, struct err *e)
{
	const char *b = find_scheme(challenge, "bearer");
	_cleanup_free_ char *cred = basic(c);

	if (b)
		return bearer(a, h, c, b, ret, e);
	if (find_scheme(challenge, "basic") && cred) {
		*ret = xasprintf("Authorization: Basic %s", cred);
		return 0;
	}
	return err_set(e, -EACCES, GRPC_UNAUTHENTICATED, "%s wants credentials (%s)", h->url,
		       *challenge ? challenge : "it does not say which");
}
