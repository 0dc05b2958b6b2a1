/* SPDX-License-Identifier: Apache-2.0 */
/* hosts.toml: the part of TOML 1.0 that such files use.  See hosts.h. */
#include "hosts.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"

struct parser {
	const char *p, *file, *dir;
	unsigned line;
	struct hosts *h;
	struct host *host;   /* of the present table; NULL at the top */
	struct host server;  /* what the top of the file says */
	bool in_header;	     /* a table of header fields */
	bool ignore;	     /* a table that is not known */
	struct err *e;
};

struct toml_value {
	char kind; /* 's' string, 'b' boolean, 'a' array of strings, '?' something else */
	char *s;
	bool b;
	struct strv a;
};

static int bad(struct parser *k, const char *what)
{
	return err_invalid(k->e, "%s:%u: %s", k->file, k->line, what);
}

static void blanks(struct parser *k, bool lines)
{
	for (;; k->p++) {
		if (*k->p == '#') {
			while (*k->p && *k->p != '\n')
				k->p++;
		}
		if (*k->p == '\n' && lines)
			k->line++;
		else if (*k->p != ' ' && *k->p != '\t' && *k->p != '\r')
			return;
	}
}

static int quoted(struct parser *k, char **ret)
{
	char quote = *k->p++;
	struct strbuf b = STRBUF_NULL;

	while (*k->p && *k->p != quote && *k->p != '\n') {
		if (quote == '"' && *k->p == '\\' && k->p[1]) {
			k->p++;
			strbuf_addc(&b, *k->p == 'n' ? '\n' : *k->p == 't' ? '\t' : *k->p);
		} else {
			strbuf_addc(&b, *k->p);
		}
		k->p++;
	}
	if (*k->p != quote) {
		strbuf_fini(&b);
		return bad(k, "a string does not end");
	}
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
			size_t n = strspn(k->p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						"0123456789_-");

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

static int array(struct parser *k, struct toml_value *v)
{
	v->kind = 'a';
	k->p++;
	for (;;) {
		char *s;
		int r;

		blanks(k, true);
		if (*k->p == ']') {
			k->p++;
			return 0;
		}
		if (*k->p == '[') { /* pairs of client certificates: passed over as a whole */
			struct toml_value inner = {0};

			r = array(k, &inner);
			value_fini(&inner);
			v->kind = '?';
		} else if (*k->p == '"' || *k->p == '\'') {
			r = quoted(k, &s);
			if (r == 0)
				strv_take(&v->a, s);
		} else {
			r = bad(k, "expected a string in the list");
		}
		if (r < 0)
			return r;
		blanks(k, true);
		if (*k->p == ',')
			k->p++;
		else if (*k->p != ']')
			return bad(k, "expected ',' or ']'");
	}
}

static int value(struct parser *k, struct toml_value *v)
{
	blanks(k, false);
	if (*k->p == '"' || *k->p == '\'') {
		v->kind = 's';
		return quoted(k, &v->s);
	}
	if (*k->p == '[')
		return array(k, v);
	v->kind = '?';
	if (strncmp(k->p, "true", 4) == 0 || strncmp(k->p, "false", 5) == 0) {
		v->kind = 'b';
		v->b = *k->p == 't';
	}
	if (strchr("\n#", *k->p))
		return bad(k, "a value is missing");
	while (*k->p && *k->p != '\n' && *k->p != '#')
		k->p++;
	return 0;
}

static char *without_slash(const char *s)
{
	size_t n = strlen(s);

	while (n > 0 && s[n - 1] == '/')
		n--;
	return xstrndup(s, n);
}

static bool url_good(const char *s)
{
	return (str_has_prefix(s, "http://") || str_has_prefix(s, "https://")) &&
	       strlen(s) < 1024 && !strpbrk(s, " \t\r\n@");
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

static int add_ca(struct parser *k, struct host *h, const char *s)
{
	if (*s == '/')
		strv_add(&h->ca, s);
	else
		strv_addf(&h->ca, "%s/%s", k->dir, s);
	return 0;
}

static int take(struct parser *k, const char *key, const struct toml_value *v)
{
	struct host *h = k->host ? k->host : &k->server;

	if (k->ignore)
		return 0;
	if (k->in_header) {
		if (v->kind == 's' && !strpbrk(v->s, "\r\n") && !strpbrk(key, "\r\n:"))
			strv_addf(&h->headers, "%s: %s", key, v->s);
		for (size_t i = 0; v->kind == 'a' && i < v->a.n; i++)
			if (!strpbrk(v->a.v[i], "\r\n") && !strpbrk(key, "\r\n:"))
				strv_addf(&h->headers, "%s: %s", key, v->a.v[i]);
		return 0;
	}
	if (streq(key, "server") && !k->host && v->kind == 's')
		return set_url(k, &k->server, v->s);
	if (streq(key, "capabilities") && v->kind == 'a') {
		h->pull = strv_contains(&v->a, "pull");
		h->resolve = strv_contains(&v->a, "resolve");
	} else if (streq(key, "skip_verify") && v->kind == 'b') {
		h->skip_verify = v->b;
	} else if (streq(key, "override_path") && v->kind == 'b') {
		if (v->b)
			strv_add(&h->headers, ""); /* marks it: see finish() */
	} else if (streq(key, "ca")) {
		if (v->kind == 's')
			return add_ca(k, h, v->s);
		for (size_t i = 0; v->kind == 'a' && i < v->a.n; i++)
			add_ca(k, h, v->a.v[i]);
		if (v->kind != 'a')
			return bad(k, "ca: expected a file or a list of files");
	}
	return 0; /* what else there is says nothing to us */
}

static int table(struct parser *k)
{
	struct strv path = STRV_NULL;
	int r;

	k->p++;
	if (*k->p == '[')
		return bad(k, "lists of tables are not known here");
	r = dotted(k, &path);
	if (r == 0 && *k->p++ != ']')
		r = bad(k, "expected ']'");
	k->in_header = false;
	k->ignore = true;
	if (r == 0 && path.n >= 2 && streq(path.v[0], "host")) {
		struct host *h = NULL;
		_cleanup_free_ char *url = without_slash(path.v[1]);

		for (size_t i = 0; i < k->h->n; i++)
			if (streq(k->h->v[i].url, url))
				h = &k->h->v[i];
		if (!h && k->h->n >= HOSTS_MAX) {
			r = bad(k, "too many hosts");
		} else if (!h) {
			h = &k->h->v[k->h->n];
			*h = (struct host){.pull = true, .resolve = true};
			r = set_url(k, h, path.v[1]);
			if (r == 0)
				k->h->n++;
		}
		k->host = h;
		k->in_header = path.n == 3 && streq(path.v[2], "header");
		k->ignore = path.n > 2 && !k->in_header;
	} else if (r == 0 && path.n == 1 && streq(path.v[0], "header")) {
		k->host = NULL;
		k->in_header = true;
		k->ignore = false;
	} else if (r == 0 && path.n == 1 && streq(path.v[0], "host")) {
		k->ignore = true;
	}
	strv_fini(&path);
	return r;
}

static int assignment(struct parser *k)
{
	struct strv key = STRV_NULL;
	struct toml_value v = {0};
	int r = dotted(k, &key);

	if (r == 0 && *k->p++ != '=')
		r = bad(k, "expected '='");
	if (r == 0)
		r = value(k, &v);
	if (r == 0 && key.n == 1)
		r = take(k, key.v[0], &v);
	value_fini(&v);
	strv_fini(&key);
	return r;
}

/* "/v2" belongs to every host but one that overrides its path. */
static void finish(struct host *h)
{
	bool override = strv_contains(&h->headers, "");
	char *url;

	if (override || str_has_suffix(h->url, "/v2"))
		return;
	url = xasprintf("%s/v2", h->url);
	free(h->url);
	h->url = url;
}

static const char *default_server(const char *registry, char *buf, size_t n)
{
	bool loopback = str_has_prefix(registry, "localhost") ||
			str_has_prefix(registry, "127.") || str_has_prefix(registry, "[::1]");

	if (streq(registry, "docker.io"))
		registry = "registry-1.docker.io";
	snprintf(buf, n, "%s://%s", loopback ? "http" : "https", registry);
	return buf;
}

int hosts_parse(const char *text, const char *file, const char *registry, struct hosts *ret,
		struct err *e)
{
	_cleanup_free_ char *dir = xstrdup(file);
	struct parser k = {.p = text,
			   .file = file,
			   .dir = dir,
			   .line = 1,
			   .h = ret,
			   .server = {.pull = true, .resolve = true, .origin = true},
			   .e = e};
	char url[300];
	int r = 0;

	if (strrchr(dir, '/'))
		*strrchr(dir, '/') = '\0';
	for (blanks(&k, true); r == 0 && *k.p; blanks(&k, true)) {
		r = *k.p == '[' ? table(&k) : assignment(&k);
		if (r == 0) {
			blanks(&k, false);
			if (*k.p && *k.p != '\n')
				r = bad(&k, "expected the end of the line");
		}
	}
	if (r == 0 && !k.server.url)
		r = set_url(&k, &k.server, default_server(registry, url, sizeof(url)));
	if (r < 0) {
		free(k.server.url);
		strv_fini(&k.server.ca);
		strv_fini(&k.server.headers);
		return r;
	}
	ret->v[ret->n++] = k.server;
	for (size_t i = 0; i < ret->n; i++)
		finish(&ret->v[i]);
	return 0;
}

int hosts_find(const char *dir, const char *registry, struct hosts *ret, struct err *e)
{
	_cleanup_free_ char *plain = xasprintf("%s/%s/hosts.toml", dir, registry), *ported = NULL,
			    *fallback = xasprintf("%s/_default/hosts.toml", dir);
	const char *colon = strrchr(registry, ':');
	const char *files[4];
	size_t n = 0;
	int r;

	*ret = (struct hosts){0};
	files[n++] = plain;
	if (colon && !strchr(colon, ']')) {
		ported = xasprintf("%s/%.*s_%s_/hosts.toml", dir, (int)(colon - registry), registry,
				   colon + 1);
		files[n++] = ported;
	}
	files[n++] = fallback;
	for (size_t i = 0; i < n; i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		r = fs_read(AT_FDCWD, files[i], HOSTS_FILE_MAX, &b);
		if (r == -ENOENT || r == -ENOTDIR)
			continue;
		if (r < 0)
			return err_errno(e, r, "read %s", files[i]);
		r = hosts_parse(str_or_empty(b.s), files[i], registry, ret, e);
		if (r < 0)
			hosts_fini(ret);
		return r;
	}
	return hosts_parse("", "hosts.toml", registry, ret, e);
}

void hosts_fini(struct hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].url);
		strv_fini(&h->v[i].ca);
		strv_fini(&h->v[i].headers);
	}
	*h = (struct hosts){0};
}
