/* SPDX-License-Identifier: Apache-2.0 */
/* Image references: see reference.h. */
#include "image/reference.h"

#include <string.h>

#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define TAG_MAX 128
#define NAME_MAX_LEN 255

bool digest_valid(const char *s)
{
	return str_has_prefix(s, "sha256:") && id_valid(s + 7);
}

/* alphanumerics, separated by one '.', one or two '_', or any number of '-' */
static bool component_valid(const char *s, size_t n)
{
	size_t i = 0;

	for (;;) {
		size_t start = i;

		while (i < n && strchr(LOWER DIGITS, s[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (s[i] == '.') {
			i++;
		} else if (s[i] == '_') {
			i += i + 1 < n && s[i + 1] == '_' ? 2 : 1;
		} else if (s[i] == '-') {
			while (i < n && s[i] == '-')
				i++;
		} else {
			return false;
		}
	}
}

static bool path_valid(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");

		if (!component_valid(s, n))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

/* A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port. */
static bool host_valid(const char *s)
{
	const char *port;

	if (*s == '[') {
		size_t n = strspn(s + 1, DIGITS "abcdefABCDEF:.");

		if (n < 2 || s[1 + n] != ']')
			return false;
		port = s + n + 2;
	} else {
		size_t n = strspn(s, LOWER UPPER DIGITS ".-");

		if (n == 0 || *s == '.' || *s == '-' || s[n - 1] == '.' || s[n - 1] == '-')
			return false;
		port = s + n;
	}
	if (!*port)
		return true;
	return *port == ':' && port[1] && strspn(port + 1, DIGITS) == strlen(port + 1) &&
	       strlen(port + 1) <= 5;
}

static bool tag_valid(const char *s)
{
	size_t n = strspn(s, LOWER UPPER DIGITS "_.-");

	return n > 0 && n <= TAG_MAX && !s[n] && *s != '.' && *s != '-';
}

static bool looks_like_host(const char *s, size_t n)
{
	return memchr(s, '.', n) || memchr(s, ':', n) || (n == 9 && !strncmp(s, "localhost", 9)) ||
	       *s == '[' || strcspn(s, UPPER) < n;
}

static void split_name(struct reference *r, char *name)
{
	char *slash = strchr(name, '/');

	if (slash && looks_like_host(name, (size_t)(slash - name))) {
		r->host = xstrndup(name, (size_t)(slash - name));
		r->path = xstrdup(slash + 1);
	} else {
		r->host = xstrdup("docker.io");
		r->path = xstrdup(name);
	}
	if (streq(r->host, "index.docker.io")) {
		free(r->host);
		r->host = xstrdup("docker.io");
	}
	if (streq(r->host, "docker.io") && !strchr(r->path, '/')) {
		char *p = xasprintf("library/%s", r->path);

		free(r->path);
		r->path = p;
	}
}

static int parse(struct reference *r, char *s, const char *all, struct err *e)
{
	char *at = strchr(s, '@'), *colon, *slash;

	if (at) {
		*at = '\0';
		r->digest = xstrdup(at + 1);
		if (!digest_valid(r->digest))
			return err_invalid(e,
					   "image reference \"%s\": the digest must be sha256: and "
					   "64 hexadecimal digits",
					   all);
	}
	colon = strrchr(s, ':');
	slash = strrchr(s, '/');
	if (colon && (!slash || colon > slash)) {
		*colon = '\0';
		r->tag = xstrdup(colon + 1);
		if (!tag_valid(r->tag))
			return err_invalid(e, "image reference \"%s\": \"%s\" is no tag", all,
					   r->tag);
	}
	split_name(r, s);
	if (!host_valid(r->host))
		return err_invalid(e, "image reference \"%s\": \"%s\" is no host", all, r->host);
	if (!path_valid(r->path) || strlen(r->path) + strlen(r->host) + 1 > NAME_MAX_LEN)
		return err_invalid(e,
				   "image reference \"%s\": \"%s\" is no repository (lower-case "
				   "letters, digits, separators . _ - and /)",
				   all, r->path);
	if (!r->tag && !r->digest)
		r->tag = xstrdup("latest");
	r->name = xasprintf("%s/%s", r->host, r->path);
	r->text = xasprintf("%s%s%s%s%s", r->name, r->tag ? ":" : "", str_or_empty(r->tag),
			    r->digest ? "@" : "", str_or_empty(r->digest));
	return 0;
}

int reference_parse(const char *s, struct reference *ret, struct err *e)
{
	struct reference r = REFERENCE_NULL;
	_cleanup_free_ char *copy = NULL;
	int res;

	if (str_empty(s))
		return err_invalid(e, "image reference: must not be empty");
	if (strlen(s) > REFERENCE_MAX)
		return err_invalid(e, "image reference: longer than %d bytes", REFERENCE_MAX);
	copy = xstrdup(s);
	res = parse(&r, copy, s, e);
	if (res < 0)
		reference_fini(&r);
	else
		*ret = r;
	return res;
}

void reference_fini(struct reference *r)
{
	free(r->name);
	free(r->host);
	free(r->path);
	free(r->tag);
	free(r->digest);
	free(r->text);
	*r = REFERENCE_NULL;
}
