/* SPDX-License-Identifier: Apache-2.0 */
/* Resource limits as the configuration has them: see config.h. */
#include <string.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "base/str.h"
#include "config/config.h"

static const struct {
	const char *name, *type;
	int resource; /* getrlimit(2) */
} limits[] = {
	{"as", "RLIMIT_AS", RLIMIT_AS},
	{"core", "RLIMIT_CORE", RLIMIT_CORE},
	{"cpu", "RLIMIT_CPU", RLIMIT_CPU},
	{"data", "RLIMIT_DATA", RLIMIT_DATA},
	{"fsize", "RLIMIT_FSIZE", RLIMIT_FSIZE},
	{"locks", "RLIMIT_LOCKS", RLIMIT_LOCKS},
	{"memlock", "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
	{"msgqueue", "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
	{"nice", "RLIMIT_NICE", RLIMIT_NICE},
	{"nofile", "RLIMIT_NOFILE", RLIMIT_NOFILE},
	{"nproc", "RLIMIT_NPROC", RLIMIT_NPROC},
	{"rss", "RLIMIT_RSS", RLIMIT_RSS},
	{"rtprio", "RLIMIT_RTPRIO", RLIMIT_RTPRIO},
	{"rttime", "RLIMIT_RTTIME", RLIMIT_RTTIME},
	{"sigpending", "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
	{"stack", "RLIMIT_STACK", RLIMIT_STACK},
};

static bool parse_limit(const char *s, size_t n, uint64_t *ret)
{
	_cleanup_free_ char *text = xstrndup(s, n);

	if (streq(text, "unlimited") || streq(text, "-1")) {
		*ret = UINT64_MAX;
		return true;
	}
	return str_to_u64(text, ret);
}

bool config_ulimit_parse(const char *s, struct config_ulimit *ret)
{
	size_t name = strcspn(s, "="), soft;

	if (!s[name])
		return false;
	soft = strcspn(s + name + 1, ":");
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		const char *hard = s + name + 1 + soft;

		if (strlen(limits[i].name) != name || strncmp(limits[i].name, s, name) != 0)
			continue;
		ret->type = limits[i].type;
		ret->resource = limits[i].resource;
		if (!parse_limit(s + name + 1, soft, &ret->soft))
			return false;
		ret->hard = ret->soft;
		return (!*hard || parse_limit(hard + 1, strlen(hard + 1), &ret->hard)) &&
		       ret->soft <= ret->hard;
	}
	return false;
}
