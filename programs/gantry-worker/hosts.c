/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of hosts: see hosts.h.  What a hosts.toml says is read in hosts_toml.c. */
#include "hosts.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"

/* This machine itself: there http is as good as https. */
static bool is_loopback(const char *registry)
{
	_cleanup_free_ char *name = NULL;
	struct in_addr a;

	if (*registry == '[')
		return str_has_prefix(registry, "[::1]");
	name = xstrndup(registry, strcspn(registry, ":"));
	if (streq(name, "localhost"))
		return true;
	return inet_pton(AF_INET, name, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
}

char *host_authority(const char *url)
{
	const char *at = strstr(url, "://");

	at = at ? at + 3 : url;
	return xstrndup(at, strcspn(at, "/?#"));
}

/* The registry itself, as the last that is asked. */
static void add_default_server(const char *registry, struct hosts *ret)
{
	const char *at = streq(registry, "docker.io") ? "registry-1.docker.io" : registry;

	ret->v[ret->n++] = (struct host){
		.url = xasprintf("%s://%s/v2", is_loopback(registry) ? "http" : "https", at),
		.pull = true,
		.resolve = true,
		.origin = true};
}

/* "/v2" belongs to every host but one that overrides its path. */
static void complete_url(struct host *h)
{
	char *url;

	if (h->override_path || str_has_suffix(h->url, "/v2"))
		return;
	url = xasprintf("%s/v2", h->url);
	free(h->url);
	h->url = url;
}

int hosts_parse(const char *text, const char *file, const char *registry, struct hosts *ret,
		struct err *e)
{
	struct host server = {.pull = true, .resolve = true, .origin = true};
	int r = hosts_toml(text, file, ret, &server, e);

	if (r == 0 && !server.url) { /* what else the top of the file says is about it too */
		add_default_server(registry, ret);
		server.url = TAKE_PTR(ret->v[--ret->n].url);
		server.override_path = true; /* complete */
	}
	ret->v[ret->n++] = server;
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		complete_url(&ret->v[i]);
	if (r < 0)
		hosts_fini(ret);
	return r;
}

/* --- directories --- */

static int read_ca(struct host *h, struct err *e)
{
	for (size_t i = 0; i < h->ca.n; i++) {
		int r = fs_read(AT_FDCWD, h->ca.v[i], HOSTS_CA_MAX - h->ca_pem.len, &h->ca_pem);

		if (r < 0)
			return err_errno(e, r, "read the certificate authority %s of %s",
					 h->ca.v[i], h->url);
		strbuf_addc(&h->ca_pem, '\n');
		if (h->ca_pem.len >= HOSTS_CA_MAX)
			return err_invalid(e, "%s: more than %u bytes of certificates", h->url,
					   HOSTS_CA_MAX);
	}
	return 0;
}

/* Docker's way: the certificates of one registry, named by what they end in. */
static int read_certificates(const char *dir, const char *registry, struct hosts *ret,
			     struct err *e)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	struct host *h;

	if (!d)
		return err_errno(e, -errno, "open %s", dir);
	add_default_server(registry, ret);
	h = &ret->v[0];
	while ((de = readdir(d))) {
		const char *n = de->d_name;

		if (str_has_suffix(n, ".crt")) {
			strv_addf(&h->ca, "%s/%s", dir, n);
		} else if (str_has_suffix(n, ".cert") && !h->client_cert) {
			h->client_cert = xasprintf("%s/%s", dir, n);
			h->client_key = xasprintf("%s/%.*s.key", dir, (int)strlen(n) - 5, n);
		}
	}
	closedir(d);
	if ((h->ca.n || h->client_cert) && str_has_prefix(h->url, "http:")) {
		char *url = xasprintf("https%s", h->url + strlen("http"));

		free(h->url);
		h->url = url;
	}
	return 0;
}

static int read_dir(const char *dir, const char *registry, struct hosts *ret, struct err *e)
{
	_cleanup_free_ char *file = xasprintf("%s/hosts.toml", dir);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, file, HOSTS_FILE_MAX, &b);

	if (r == -ENOENT)
		return read_certificates(dir, registry, ret, e);
	if (r < 0)
		return err_errno(e, r, "read %s", file);
	if (b.len && !str_is_utf8(b.s, b.len))
		return err_invalid(e, "%s: it is no UTF-8 text", file);
	return hosts_parse(str_or_empty(b.s), file, registry, ret, e);
}

int hosts_find(const char *dir, const char *registry, struct hosts *ret, struct err *e)
{
	_cleanup_strv_ struct strv dirs = STRV_NULL;
	const char *colon = strrchr(registry, ':');
	bool found = false;
	int r = 0;

	*ret = (struct hosts){0};
	if (colon && !strchr(colon, ']'))
		strv_addf(&dirs, "%s/%.*s_%s_", dir, (int)(colon - registry), registry, colon + 1);
	strv_addf(&dirs, "%s/%s", dir, registry);
	strv_addf(&dirs, "%s/_default", dir);
	for (size_t i = 0; !found && i < dirs.n; i++) {
		struct stat st;

		found = stat(dirs.v[i], &st) == 0 && S_ISDIR(st.st_mode);
		if (found)
			r = read_dir(dirs.v[i], registry, ret, e);
	}
	if (!found)
		add_default_server(registry, ret);
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		r = read_ca(&ret->v[i], e);
	if (r < 0)
		hosts_fini(ret);
	return r;
}

void hosts_fini(struct hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].url);
		free(h->v[i].client_cert);
		free(h->v[i].client_key);
		strv_fini(&h->v[i].ca);
		strbuf_fini(&h->v[i].ca_pem);
		strv_fini(&h->v[i].headers);
	}
	*h = (struct hosts){0};
}
