/* SPDX-License-Identifier: Apache-2.0 */
/* See listen.h. */
#include "config/listen.h"

#include <arpa/inet.h>

#include "base/mem.h"
#include "base/str.h"

#define PREFIX "unix:"

static bool parse_unix(const char *path, struct listen_address *ret)
{
	if (*path != '/' || strlen(path) >= sizeof(ret->sa.un.sun_path))
		return false;
	ret->sa.un.sun_family = AF_UNIX;
	strcpy(ret->sa.un.sun_path, path);
	ret->len = sizeof(ret->sa.un);
	return true;
}

static bool parse_inet(const char *text, struct listen_address *ret)
{
	const char *colon = strrchr(text, ':');
	_cleanup_free_ char *host = colon ? xstrndup(text, (size_t)(colon - text)) : NULL;
	size_t n = host ? strlen(host) : 0;
	uint64_t port;

	if (!host || !str_to_u64(colon + 1, &port) || port > 65535)
		return false;
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		ret->sa.in6.sin6_family = AF_INET6;
		ret->sa.in6.sin6_port = htons((uint16_t)port);
		ret->len = sizeof(ret->sa.in6);
		return inet_pton(AF_INET6, host + 1, &ret->sa.in6.sin6_addr) == 1;
	}
	ret->sa.in.sin_family = AF_INET;
	ret->sa.in.sin_port = htons((uint16_t)port);
	ret->len = sizeof(ret->sa.in);
	return inet_pton(AF_INET, host, &ret->sa.in.sin_addr) == 1;
}

int listen_parse(const char *key, const char *text, struct listen_address *ret, struct err *e)
{
	struct listen_address a = {0};

	if (str_has_prefix(text, PREFIX) ? !parse_unix(text + strlen(PREFIX), &a)
					 : !parse_inet(text, &a))
		return err_invalid(e,
				   "%s: \"%s\", expected ADDRESS:PORT, [ADDRESS]:PORT, or unix: "
				   "and the absolute path of a socket",
				   key, text);
	*ret = a;
	return 0;
}
