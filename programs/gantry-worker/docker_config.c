/* SPDX-License-Identifier: Apache-2.0 */
/* Docker's config.json: see docker_config.h. */
#include "docker_config.h"

#include <string.h>

#include "base/mem.h"
#include "wire/json.h"

#define HUB "docker.io"
#define HUB_KEY "https://index.docker.io/v1/" /* Docker's name for its hub */
#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
#define NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define TOKEN_USER "<token>" /* a helper's secret is an identity token then */

void credentials_fini(struct credentials *c)
{
	free(c->username);
	free(c->password);
	free(c->auth);
	free(c->identity_token);
	free(c->registry_token);
	*c = (struct credentials){0};
}

void docker_entry_fini(struct docker_entry *d)
{
	free(d->helper);
	free(d->server);
	credentials_fini(&d->own);
	*d = (struct docker_entry){0};
}

/* --- keys --- */

static bool is_hub(const char *host, size_t n)
{
	static const char *const names[] = {HUB, "index." HUB, "registry-1." HUB};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == n && strncmp(names[i], host, n) == 0)
			return true;
	return false;
}

/* How much of host and path a key names, 0: it is of others. */
static size_t key_matches(const char *key, const char *host, const char *path)
{
	const char *at = strstr(key, "://"), *rest;
	size_t n, len;

	at = at ? at + 3 : key;
	n = strcspn(at, "/");
	if (!(strlen(host) == n && strncmp(at, host, n) == 0) &&
	    !(is_hub(host, strlen(host)) && is_hub(at, n)))
		return 0;
	rest = at + n + (at[n] == '/');
	len = strlen(rest);
	while (len > 0 && rest[len - 1] == '/')
		len--;
	/* The API's own path is no repository. */
	if (len == 0 || (len == 2 && (!strncmp(rest, "v1", 2) || !strncmp(rest, "v2", 2))))
		return 1;
	if (strncmp(path, rest, len) == 0 && (path[len] == '/' || !path[len]))
		return 1 + len;
	return 0;
}

/* The member that says most about the repository; NULL: none. */
static jv *best(const jv *map, const char *host, const char *path, const char **ret_key)
{
	struct jv_iter it = JV_ITER_INIT;
	jv *found = NULL;
	size_t most = 0;

	while (jv_next(map, &it)) {
		size_t n = key_matches(it.key, host, path);

		if (n > most) {
			most = n;
			found = it.value;
			*ret_key = it.key;
		}
	}
	return found;
}

/* --- values --- */

static int bad(struct err *e, const char *file, const char *key, const char *what)
{
	return err_invalid(e, "%s: %.200s: %s", file, key, what);
}

static char *copy(const jv *v, const char *name)
{
	const char *s = jv_string(v, name, "");

	return *s ? xstrdup(s) : NULL;
}

static int take_auth(const jv *v, const char *file, const char *key, struct credentials *c,
		     struct err *e)
{
	if (!jv_is_object(v))
		return bad(e, file, key, "it must be an object");
	c->identity_token = copy(v, "identitytoken");
	c->registry_token = copy(v, "registrytoken");
	if (c->identity_token || c->registry_token)
		return 0; /* a user beside it is for show */
	c->auth = copy(v, "auth");
	if (c->auth && strspn(c->auth, BASE64) != strlen(c->auth))
		return bad(e, file, key, "auth is not base64");
	c->username = copy(v, "username");
	c->password = copy(v, "password");
	return 0;
}

static int take_helper(const char *name, const char *file, const char *key, struct docker_entry *d,
		       struct err *e)
{
	size_t n = strspn(str_or_empty(name), NAME_LETTERS);

	if (n == 0 || name[n] || n > DOCKER_HELPER_NAME_MAX)
		return bad(e, file, key, "the name of a credential helper is wanted");
	d->helper = xstrdup(name);
	return 0;
}

static int find(const jv *doc, const char *file, const char *host, const char *path,
		struct docker_entry *d, struct err *e)
{
	const char *key = NULL;
	const jv *v;
	int r = 0;

	v = best(jv_get(doc, "credHelpers"), host, path, &key);
	if (v) {
		r = take_helper(jv_as_string(v), file, key, d, e);
		if (r == 0 && key_matches(key, host, path) > 1) /* of a part of the registry */
			d->server = xstrdup(key);
	} else if (!str_empty(jv_string(doc, "credsStore", ""))) {
		r = take_helper(jv_string(doc, "credsStore", ""), file, "credsStore", d, e);
	}
	if (r == 0 && d->helper && !d->server)
		d->server = xstrdup(is_hub(host, strlen(host)) ? HUB_KEY : host);
	v = best(jv_get(doc, "auths"), host, path, &key);
	if (r == 0 && v)
		r = take_auth(v, file, key, &d->own, e);
	return r;
}

int docker_config_find(const char *text, size_t n, const char *file, const char *host,
		       const char *path, struct docker_entry *ret, struct err *e)
{
	struct docker_entry d = {0};
	_cleanup_jv_ jv *doc = NULL;
	int r = jv_parse(text, n, DOCKER_CONFIG_MAX, file, &doc, e);

	if (r == 0 && !jv_is_object(doc))
		r = err_invalid(e, "%s: it must be an object", file);
	if (r == 0)
		r = find(doc, file, host, path, &d, e);
	if (r < 0)
		docker_entry_fini(&d);
	else
		*ret = d;
	return r;
}

int docker_helper_answer(const char *text, size_t n, const char *helper, struct credentials *ret,
			 struct err *e)
{
	struct credentials c = {0};
	_cleanup_jv_ jv *doc = NULL;

	if (jv_parse(text, n, DOCKER_CONFIG_MAX, helper, &doc, NULL) < 0 || !jv_is_object(doc))
		return err_invalid(e, "docker-credential-%s printed no JSON object", helper);
	c.username = copy(doc, "Username");
	c.password = copy(doc, "Secret");
	if (!c.username || !c.password) {
		credentials_fini(&c);
		return err_invalid(e, "docker-credential-%s printed no Username or no Secret",
				   helper);
	}
	if (streq(c.username, TOKEN_USER)) {
		c.identity_token = TAKE_PTR(c.password);
		free(c.username);
		c.username = NULL;
	}
	*ret = c;
	return 0;
}
