/* SPDX-License-Identifier: Apache-2.0 */
/* gantry run: values of its options, each by itself. */
#include <ctype.h>
#include <limits.h>

#include "base/id.h"
#include "run.h"

#define NAME_MAX_LEN 50 /* of the image's part of a name */
#define USERNS_IDS 65536

/* --- ports --- */

static bool port_number(const char *s, size_t n, int32_t *ret)
{
	_cleanup_free_ char *copy = xstrndup(s, n);
	uint64_t v;

	if (!str_to_u64(copy, &v) || v < 1 || v > 65535)
		return false;
	*ret = (int32_t)v;
	return true;
}

static bool protocol(const char *s, Runtime__V1__Protocol *ret)
{
	static const char *const names[] = {"tcp", "udp", "sctp"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(s, names[i]) == 0) {
			*ret = (Runtime__V1__Protocol)i;
			return true;
		}
	return false;
}

/* ID[:COUNT]; the kernel's ids end before 2^32-1. */
int run_parse_ids(const char *s, Runtime__V1__IDMapping *ret, struct err *e)
{
	const char *colon = strchr(s, ':');
	_cleanup_free_ char *first = xstrndup(s, colon ? (size_t)(colon - s) : strlen(s));
	uint64_t id, n = USERNS_IDS;

	if (!str_to_u64(first, &id) || id == 0 || (colon && !str_to_u64(colon + 1, &n)) || n == 0 ||
	    id >= UINT32_MAX || n > UINT32_MAX - id)
		return err_invalid(
			e, "--userns: \"%s\", expected ID[:COUNT], ids of the node above 0", s);
	ret->host_id = (uint32_t)id;
	ret->container_id = 0;
	ret->length = (uint32_t)n;
	return 0;
}

/* [IP:]HOST:CONTAINER[/PROTOCOL], an IPv6 address in brackets. */
int run_parse_port(struct arena *a, const char *s, Runtime__V1__PortMapping **ret, struct err *e)
{
	Runtime__V1__PortMapping *m = arena_alloc(a, sizeof(*m));
	const char *slash = strchr(s, '/'), *end = slash ? slash : s + strlen(s), *p = s, *colon;

	runtime__v1__port_mapping__init(m);
	if (slash && !protocol(slash + 1, &m->protocol))
		return err_invalid(e, "--publish: \"%s\": the protocol must be tcp, udp or sctp",
				   s);
	if (*p == '[') {
		const char *close = memchr(p, ']', (size_t)(end - p));

		if (!close || close[1] != ':')
			goto malformed;
		m->host_ip = arena_strndup(a, p + 1, (size_t)(close - p - 1));
		p = close + 2;
	}
	colon = memrchr(p, ':', (size_t)(end - p));
	if (!colon || !port_number(colon + 1, (size_t)(end - colon - 1), &m->container_port))
		goto malformed;
	end = colon;
	colon = memrchr(p, ':', (size_t)(end - p));
	if (colon && (*m->host_ip || memchr(p, ':', (size_t)(colon - p))))
		goto malformed;
	if (colon) {
		m->host_ip = arena_strndup(a, p, (size_t)(colon - p));
		p = colon + 1;
	}
	if (!port_number(p, (size_t)(end - p), &m->host_port))
		goto malformed;
	*ret = m;
	return 0;
malformed:
	return err_invalid(e,
			   "--publish: \"%s\", expected [IP:]HOST_PORT:CONTAINER_PORT[/PROTOCOL], "
			   "ports from 1 to 65535",
			   s);
}

/* --- volumes --- */

static bool volume_option(Runtime__V1__Mount *m, const char *s)
{
	if (streq(s, "ro"))
		m->readonly = true;
	else if (streq(s, "rro"))
		m->readonly = m->recursive_read_only = true;
	else if (streq(s, "z") || streq(s, "Z"))
		m->selinux_relabel = true;
	else if (streq(s, "shared") || streq(s, "rshared"))
		m->propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL;
	else if (streq(s, "slave") || streq(s, "rslave"))
		m->propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER;
	else
		return streq(s, "rw") || streq(s, "private") || streq(s, "rprivate");
	return true;
}

static int volume_options(Runtime__V1__Mount *m, const char *list, const char *all, struct err *e)
{
	_cleanup_free_ char *copy = xstrdup(list);
	char *save = NULL;

	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save))
		if (!volume_option(m, s))
			return err_invalid(
				e,
				"--volume: \"%s\": option \"%s\" is none of ro, rw, rro, "
				"z, rslave, rshared, rprivate",
				all, s);
	return 0;
}

/* SOURCE:DESTINATION[:OPTIONS] */
int run_parse_volume(struct arena *a, const char *s, Runtime__V1__Mount **ret, struct err *e)
{
	Runtime__V1__Mount *m = arena_alloc(a, sizeof(*m));
	const char *colon = strchr(s, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
	char *source = arena_strndup(a, s, colon ? (size_t)(colon - s) : strlen(s));
	char real[PATH_MAX];

	runtime__v1__mount__init(m);
	if (!colon || colon[1] != '/' || !*source)
		return err_invalid(e,
				   "--volume: \"%s\", expected SOURCE:DESTINATION[:OPTIONS], the "
				   "destination absolute",
				   s);
	if (!strchr(source, '/') && *source != '.')
		return err_invalid(e,
				   "--volume: \"%s\": volumes with a name do not exist here; for a "
				   "directory write its path, such as ./%s",
				   s, source);
	if (!realpath(source, real))
		return err_errno(e, -errno, "--volume: \"%s\": %s", s, source);
	m->host_path = arena_strdup(a, real);
	m->container_path = second ? arena_strndup(a, colon + 1, (size_t)(second - colon - 1))
				   : arena_strdup(a, colon + 1);
	*ret = m;
	return second ? volume_options(m, second + 1, s, e) : 0;
}

/* --- devices --- */

/* PATH[:PATH_INSIDE][:PERMISSIONS] */
int run_parse_device(struct arena *a, const char *s, Runtime__V1__Device **ret, struct err *e)
{
	Runtime__V1__Device *d = arena_alloc(a, sizeof(*d));
	char *copy = arena_strdup(a, s), *save = NULL, *v[4] = {0};
	size_t n = 0;

	runtime__v1__device__init(d);
	for (char *p = strtok_r(copy, ":", &save); p && n < 4; p = strtok_r(NULL, ":", &save))
		v[n++] = p;
	if (n < 1 || n > 3 || *v[0] != '/' || (n == 3 && *v[1] != '/'))
		return err_invalid(e, "--device: \"%s\", expected PATH[:PATH_INSIDE][:PERMISSIONS]",
				   s);
	d->host_path = v[0];
	d->container_path = n > 1 && *v[1] == '/' ? v[1] : v[0];
	d->permissions = n == 3 ? v[2] : n == 2 && *v[1] != '/' ? v[1] : (char *)(uintptr_t) "rwm";
	*ret = d;
	return 0;
}

/* --- names --- */

char *run_name_of_image(struct arena *a, const char *image)
{
	const char *base = strrchr(image, '/');
	char buf[NAME_MAX_LEN + 1], hex[7];
	unsigned char bytes[3];
	size_t n = 0;

	base = base ? base + 1 : image;
	if (str_has_prefix(base, "sha256:"))
		base = "container";
	for (; *base && *base != ':' && *base != '@' && n < NAME_MAX_LEN; base++) {
		char c = (char)tolower((unsigned char)*base);

		if (isalnum((unsigned char)c) || (n > 0 && (c == '-' || c == '.')))
			buf[n++] = c;
	}
	while (n > 0 && !isalnum((unsigned char)buf[n - 1]))
		n--;
	buf[n] = '\0';
	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	return arena_printf(a, "%s-%s", n ? buf : "container", hex);
}
