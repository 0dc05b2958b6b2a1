/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hosts.toml: the part of TOML 1.0 that such files use: tables, inline tables, strings,
 * booleans, numbers and lists.  What is of a wrong type is an error with its line: a mirror that
 * was mistyped must not be passed over in silence.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "hosts.h"

#define BARE_KEY "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

struct parser {
	const char *p, *file, *dir;
	unsigned line;
	struct hosts *h;
	struct host *host;   /* of the present table */
	struct host *server; /* the top of the file */
	bool in_header;	     /* a table of header fields */
	struct err *e;
};

struct toml_value {
	char kind; /* 's' string, 'b' boolean, 'n' number, 'a' list of strings, 'l' list of lists */
	char *s;   /* also a number's text */
	bool b;
	struct strv a; /* of 'l': of the first inner list */
};

static int bad(struct parser *k, const char *what)
{
	return err_invalid(k->e, "%s:%u: %s", k->file, k->line, what);
}

static void blanks(struct parser *k, bool lines)
{
	for (;; k->p++) {
		if (*k->p == '#')
			k->p += strcspn(k->p, "\n");
		if (*k->p == '\n' && lines)
			k->line++;
		else if (*k->p != ' ' && *k->p != '\t' && *k->p != '\r')
			return;
	}
}

static int escape(struct parser *k, struct strbuf *to)
{
	static const char from[] = "btnfr\"\\", is[] = "\b\t\n\f\r\"\\";
	const char *c = *k->p ? strchr(from, *k->p) : NULL;

	if (!c) /* \u: nothing here needs it */
		return bad(k, "an escape in a string is not known");
	strbuf_addc(to, is[c - from]);
	k->p++;
	return 0;
}

static int quoted(struct parser *k, char **ret)
{
	char quote = *k->p++;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (k->p[0] == quote && k->p[1] == quote)
		return bad(k, "strings of several lines are not known here");
	while (*k->p && *k->p != quote && *k->p != '\n') {
		if (quote == '"' && *k->p == '\\') {
			int r;

			k->p++;
			r = escape(k, &b);
			if (r < 0)
				return r;
		} else {
			strbuf_addc(&b, *k->p++);
		}
	}
	if (*k->p != quote)
		return bad(k, "a string does not end");
	k->p++;
	*ret = strbuf_take(&b);
	return 0;
}

/* A dotted key, "host.\"https://x\".header", as its parts. */
static int dotted(struct parser *k, struct strv *ret)
{
	for (;;) {
		char *part;
		int r;

		blanks(k, false);
		if (*k->p == '"' || *k->p == '\'') {
			r = quoted(k, &part);
			if (r < 0)
				return r;
		} else {
			size_t n = strspn(k->p, BARE_KEY);

			if (n == 0)
				return bad(k, "expected a key");
			part = xstrndup(k->p, n);
			k->p += n;
		}
		strv_take(ret, part);
		blanks(k, false);
		if (*k->p != '.')
			return 0;
		k->p++;
	}
}

static void value_fini(struct toml_value *v)
{
	free(v->s);
	strv_fini(&v->a);
}

static int list_item(struct parser *k, struct toml_value *v, unsigned depth);

static int list(struct parser *k, struct toml_value *v, unsigned depth)
{
	if (depth > HOSTS_NESTING_MAX)
		return bad(k, "lists are nested too deep");
	v->kind = 'a';
	k->p++;
	for (;;) {
		int r;

		blanks(k, true);
		if (*k->p == ']') {
			k->p++;
			return 0;
		}
		r = list_item(k, v, depth);
		if (r < 0)
			return r;
		blanks(k, true);
		if (*k->p == ',')
			k->p++;
		else if (*k->p != ']')
			return bad(k, "expected ',' or ']'");
	}
}

static int list_item(struct parser *k, struct toml_value *v, unsigned depth)
{
	char *s;
	int r;

	if (*k->p == '[') { /* pairs of client certificates */
		struct toml_value inner = {0};

		r = list(k, &inner, depth + 1);
		if (r == 0 && v->kind == 'a' && v->a.n == 0) {
			v->a = inner.a;
			inner.a = STRV_NULL;
		}
		v->kind = 'l';
		value_fini(&inner);
		return r;
	}
	if (*k->p != '"' && *k->p != '\'')
		return bad(k, "expected a string in the list");
	r = quoted(k, &s);
	if (r == 0)
		strv_take(&v->a, s);
	return r;
}

static int value(struct parser *k, struct toml_value *v)
{
	size_t n;

	blanks(k, false);
	if (*k->p == '"' || *k->p == '\'') {
		v->kind = 's';
		return quoted(k, &v->s);
	}
	if (*k->p == '[')
		return list(k, v, 0);
	n = strspn(k->p, BARE_KEY "+.:");
	v->s = xstrndup(k->p, n);
	k->p += n;
	v->b = streq(v->s, "true");
	v->kind = v->b || streq(v->s, "false") ? 'b' : 'n';
	return n ? 0 : bad(k, "expected a value");
}

/* --- what it means --- */

static char *without_slash(const char *s)
{
	size_t n = strlen(s);

	while (n > 0 && s[n - 1] == '/')
		n--;
	return xstrndup(s, n);
}

static bool url_good(const char *s)
{
	const char *name = strstr(s, "://");

	return (str_has_prefix(s, "http://") || str_has_prefix(s, "https://")) &&
	       !strchr("/:", name[3]) && strlen(s) < 1024 && !strpbrk(s, " \t\r\n@?#");
}

static int set_url(struct parser *k, struct host *h, const char *s)
{
	_cleanup_free_ char *full = strstr(s, "://") ? xstrdup(s) : xasprintf("https://%s", s);

	if (!url_good(full))
		return bad(k, "a host must be http:// or https:// and a name");
	free(h->url);
	h->url = without_slash(full);
	return 0;
}

static char *path_of(const struct parser *k, const char *s)
{
	return *s == '/' ? xstrdup(s) : xasprintf("%s/%s", k->dir, s);
}

static int add_field(struct parser *k, struct host *h, const char *key, const char *v)
{
	if (!*key || strpbrk(key, "\r\n: ") || strpbrk(v, "\r\n"))
		return bad(k, "a header field must be of one line");
	if (h->headers.n >= HOSTS_HEADERS_MAX)
		return bad(k, "too many header fields");
	strv_addf(&h->headers, "%s: %s", key, v);
	return 0;
}

static int take_header(struct parser *k, struct host *h, const char *key,
		       const struct toml_value *v)
{
	int r = 0;

	if (v->kind == 's')
		return add_field(k, h, key, v->s);
	if (v->kind != 'a')
		return bad(k, "a header field is a string or a list of strings");
	for (size_t i = 0; r == 0 && i < v->a.n; i++)
		r = add_field(k, h, key, v->a.v[i]);
	return r;
}

static int take_capabilities(struct parser *k, struct host *h, const struct toml_value *v)
{
	if (v->kind != 'a')
		return bad(k, "capabilities: expected a list of \"pull\", \"resolve\", \"push\"");
	for (size_t i = 0; i < v->a.n; i++)
		if (!streq(v->a.v[i], "pull") && !streq(v->a.v[i], "resolve") &&
		    !streq(v->a.v[i], "push") && !streq(v->a.v[i], "referrers"))
			return bad(k, "capabilities: expected a list of \"pull\", \"resolve\", "
				      "\"push\"");
	h->pull = strv_contains(&v->a, "pull");
	h->resolve = strv_contains(&v->a, "resolve");
	return 0;
}

static int take_ca(struct parser *k, struct host *h, const struct toml_value *v)
{
	if (v->kind == 's') {
		strv_take(&h->ca, path_of(k, v->s));
		return 0;
	}
	if (v->kind != 'a')
		return bad(k, "ca: expected a file or a list of files");
	for (size_t i = 0; i < v->a.n; i++)
		strv_take(&h->ca, path_of(k, v->a.v[i]));
	return 0;
}

/* "both.pem", ["cert.pem", "both.pem"], [["cert.pem", "key.pem"], ...]: the first is used. */
static int take_client(struct parser *k, struct host *h, const struct toml_value *v)
{
	const char *cert = v->kind == 's' ? v->s : v->a.n ? v->a.v[0] : NULL;

	if (!cert || v->kind == 'b' || v->kind == 'n')
		return bad(k, "client: expected a file or a list of [certificate, key]");
	free(h->client_cert);
	free(h->client_key);
	h->client_cert = path_of(k, cert);
	h->client_key = v->kind == 'l' && v->a.n > 1 && *v->a.v[1] ? path_of(k, v->a.v[1]) : NULL;
	return 0;
}

/* "5s", "300ms", "1m" */
static int take_timeout(struct parser *k, struct host *h, const struct toml_value *v)
{
	static const struct {
		const char *unit;
		unsigned ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}};
	size_t n = v->kind == 's' ? strspn(v->s, "0123456789") : 0;

	for (size_t i = 0; n > 0 && n < 5 && i < ARRAY_SIZE(units); i++)
		if (streq(v->s + n, units[i].unit))
			h->dial_timeout_ms = (unsigned)strtoul(v->s, NULL, 10) * units[i].ms;
	return h->dial_timeout_ms ? 0 : bad(k, "dial_timeout: expected a duration like \"5s\"");
}

static int take(struct parser *k, const char *key, const struct toml_value *v)
{
	struct host *h = k->host;

	if (k->in_header)
		return take_header(k, h, key, v);
	if (streq(key, "server") && h == k->server)
		return v->kind == 's' && *v->s ? set_url(k, h, v->s)
					       : bad(k, "server: expected a URL");
	if (streq(key, "capabilities"))
		return take_capabilities(k, h, v);
	if (streq(key, "ca"))
		return take_ca(k, h, v);
	if (streq(key, "client"))
		return take_client(k, h, v);
	if (streq(key, "dial_timeout"))
		return take_timeout(k, h, v);
	if (streq(key, "skip_verify") || streq(key, "override_path")) {
		if (v->kind != 'b')
			return bad(k, "expected true or false");
		*(*key == 's' ? &h->skip_verify : &h->override_path) = v->b;
		return 0;
	}
	/* The directory may be shared with others, which know more. */
	log_warn("%s:%u: %s is not known here and does nothing", k->file, k->line, key);
	return 0;
}

/* --- lines --- */

static struct host *find_host(struct parser *k, const char *name)
{
	_cleanup_free_ char *full = strstr(name, "://") ? without_slash(name) : NULL;
	struct host *h;

	if (!full) {
		_cleanup_free_ char *bare = without_slash(name);

		full = xasprintf("https://%s", bare);
	}
	for (size_t i = 0; i < k->h->n; i++)
		if (streq(k->h->v[i].url, full))
			return &k->h->v[i];
	if (k->h->n >= HOSTS_MAX) {
		bad(k, "too many hosts");
		return NULL;
	}
	h = &k->h->v[k->h->n];
	*h = (struct host){.pull = true, .resolve = true};
	if (set_url(k, h, name) < 0)
		return NULL;
	k->h->n++;
	return h;
}

/* [host."https://mirror"], [host."https://mirror".header], [header], [host] */
static int enter(struct parser *k, const struct strv *path)
{
	bool host = streq(path->v[0], "host");

	k->in_header = streq(path->v[path->n - 1], "header") && (path->n == 3) == host;
	if (host && path->n == 1)
		return 0;
	if (host && (path->n == 2 || (path->n == 3 && k->in_header))) {
		k->host = find_host(k, path->v[1]);
		return k->host ? 0 : k->e->errnum;
	}
	k->host = k->server;
	return path->n == 1 && k->in_header ? 0 : bad(k, "the table is not known");
}

static int table(struct parser *k)
{
	_cleanup_strv_ struct strv path = STRV_NULL;
	int r;

	k->p++;
	if (*k->p == '[')
		return bad(k, "lists of tables are not known here");
	r = dotted(k, &path);
	if (r == 0 && *k->p != ']')
		return bad(k, "expected ']'");
	if (r < 0)
		return r;
	k->p++;
	return enter(k, &path);
}

static int assignment(struct parser *k, unsigned depth);

/* header = { x = "a", y = ["b"] } */
static int inline_table(struct parser *k, const char *name, unsigned depth)
{
	bool outer = k->in_header;
	int r = 0;

	if (!streq(name, "header") || outer || depth > 0)
		return bad(k, "an inline table is possible for header only");
	k->p++;
	k->in_header = true;
	blanks(k, false);
	while (r == 0 && *k->p != '}') {
		r = assignment(k, depth + 1);
		blanks(k, false);
		if (r == 0 && *k->p == ',')
			k->p++;
		else if (r == 0 && *k->p != '}')
			r = bad(k, "expected ',' or '}'");
		blanks(k, false);
	}
	if (r == 0)
		k->p++;
	k->in_header = outer;
	return r;
}

static int assignment(struct parser *k, unsigned depth)
{
	_cleanup_strv_ struct strv key = STRV_NULL;
	struct toml_value v = {0};
	int r = dotted(k, &key);

	if (r == 0 && *k->p != '=')
		r = bad(k, "expected '='");
	if (r < 0)
		return r;
	k->p++;
	blanks(k, false);
	if (*k->p == '{')
		return inline_table(k, key.v[0], depth);
	r = value(k, &v);
	if (r == 0 && key.n == 2 && streq(key.v[0], "header") && !k->in_header)
		r = take_header(k, k->host, key.v[1], &v);
	else if (r == 0)
		r = key.n == 1 ? take(k, key.v[0], &v) : bad(k, "the key is not known");
	value_fini(&v);
	return r;
}

int hosts_toml(const char *text, const char *file, struct hosts *ret, struct host *server,
	       struct err *e)
{
	_cleanup_free_ char *dir = xstrdup(file);
	struct err mine = ERR_NULL;
	struct parser k = {.p = text,
			   .file = file,
			   .dir = dir,
			   .line = 1,
			   .h = ret,
			   .host = server,
			   .server = server,
			   .e = e ? e : &mine};
	int r = 0;

	if (strrchr(dir, '/'))
		*strrchr(dir, '/') = '\0';
	for (blanks(&k, true); r == 0 && *k.p; blanks(&k, true)) {
		r = *k.p == '[' ? table(&k) : assignment(&k, 0);
		if (r == 0) {
			blanks(&k, false);
			if (*k.p && *k.p != '\n')
				r = bad(&k, "expected the end of the line");
		}
	}
	return r;
}
