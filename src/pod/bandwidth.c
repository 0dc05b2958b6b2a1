/* SPDX-License-Identifier: Apache-2.0 */
/* See bandwidth.h. */
#include "pod/bandwidth.h"

#include <ctype.h>

#include "base/mem.h"

#define BANDWIDTH_MIN 1e3
#define BANDWIDTH_MAX 1e15

/* What follows the number: a decimal or binary prefix, or an exponent. */
static int read_scale(const char *s, long double *ret)
{
	static const struct {
		const char *suffix;
		long double times;
	} units[] = {
		{"", 1},	 {"m", 1e-3L},	  {"k", 1e3L},	   {"M", 1e6L},	    {"G", 1e9L},
		{"T", 1e12L},	 {"P", 1e15L},	  {"E", 1e18L},	   {"Ki", 0x1p10L}, {"Mi", 0x1p20L},
		{"Gi", 0x1p30L}, {"Ti", 0x1p40L}, {"Pi", 0x1p50L}, {"Ei", 0x1p60L},
	};
	char *end;
	long n;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (streq(s, units[i].suffix)) {
			*ret = units[i].times;
			return 0;
		}
	if (*s != 'e' && *s != 'E')
		return -EINVAL;
	n = strtol(s + 1, &end, 10);
	if (end == s + 1 || *end || isspace((unsigned char)s[1]) || n < -18 || n > 18)
		return -EINVAL;
	*ret = 1;
	for (; n > 0; n--)
		*ret *= 10;
	for (; n < 0; n++)
		*ret /= 10;
	return 0;
}

static int read_bits(const char *s, uint64_t *ret)
{
	size_t whole = strspn(s, "0123456789"),
	       part = s[whole] == '.' ? 1 + strspn(s + whole + 1, "0123456789") : 0;
	_cleanup_free_ char *number = xstrndup(s, whole + part);
	long double scale, v;

	if (whole + part == 0 || whole + part > 32 || (whole == 0 && part == 1) ||
	    read_scale(s + whole + part, &scale) < 0)
		return -EINVAL;
	v = strtold(number, NULL) * scale;
	if (!(v >= (long double)BANDWIDTH_MIN && v <= (long double)BANDWIDTH_MAX))
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

int bandwidth_read(const Runtime__V1__PodSandboxConfig *c, uint64_t *ret_ingress,
		   uint64_t *ret_egress, struct err *e)
{
	struct {
		const char *key;
		uint64_t v;
	} which[] = {{"kubernetes.io/ingress-bandwidth", 0}, {"kubernetes.io/egress-bandwidth", 0}};

	for (size_t i = 0; i < c->n_annotations; i++)
		for (size_t k = 0; k < ARRAY_SIZE(which); k++)
			if (streq(c->annotations[i]->key, which[k].key) &&
			    read_bits(c->annotations[i]->value, &which[k].v) < 0)
				return err_invalid(e,
						   "config.annotations: %s: \"%.80s\", expected a "
						   "quantity of bits a second from 1k to 1P",
						   which[k].key, c->annotations[i]->value);
	*ret_ingress = which[0].v;
	*ret_egress = which[1].v;
	return 0;
}
