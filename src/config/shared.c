/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations that are shared, compared, and taken over in part: see config.h. */
#include "base/mem.h"
#include "config/config_internal.h"

int config_new(const struct config_flags *flags, const struct strbuf *text, struct config **ret,
	       struct err *e)
{
	struct config *c = xcalloc(1, sizeof(*c));
	int r = config_load_text(flags, text, c, e);

	if (r < 0) {
		free(c);
		return r;
	}
	c->refs = 1;
	*ret = c;
	return 0;
}

/* What everybody reads is counted nevertheless. */
static struct config *counted(const struct config *c)
{
	return (struct config *)(uintptr_t)c;
}

const struct config *config_ref(const struct config *c)
{
	counted(c)->refs++;
	return c;
}

const struct config *config_unref(const struct config *c)
{
	if (!c || --counted(c)->refs > 0)
		return NULL;
	config_fini(counted(c));
	free(counted(c));
	return NULL;
}

static bool equal(const void *a, const void *b, const struct config_key *k)
{
	_cleanup_strbuf_ struct strbuf x = STRBUF_NULL, y = STRBUF_NULL;

	config_print_value(&x, a, k);
	config_print_value(&y, b, k);
	return streq(str_or_empty(x.s), str_or_empty(y.s));
}

bool config_runtime_equal(const struct config_runtime *a, const struct config_runtime *b)
{
	for (size_t i = 0; i < config_n_runtime_keys; i++)
		if (!equal(a, b, &config_runtime_keys[i]))
			return false;
	return streq(a->name, b->name);
}

static const char *const *copy_vector(struct arena *a, const char *const *v)
{
	const char **copy;
	size_t n = 0;

	while (v[n])
		n++;
	copy = arena_calloc(a, n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = arena_strdup(a, v[i]);
	return copy;
}

static void copy_value(struct config *to, const struct config *from, const struct config_key *k)
{
	void *p = config_member(to, k);
	const void *q = config_member(from, k);

	switch (k->kind) {
	case STRING:
	case PATH:
		*(const char **)p = arena_strdup(&to->arena, *(const char *const *)q);
		break;
	case ULIMITS:
	case FACILITIES:
	case STRINGS:
	case PATHS:
		*(const char *const **)p = copy_vector(&to->arena, *(const char *const *const *)q);
		break;
	case LEVEL:
		*(enum log_level *)p = *(const enum log_level *)q;
		break;
	case DRIVER:
		*(enum config_cgroup_driver *)p = *(const enum config_cgroup_driver *)q;
		break;
	case ISOLATION:
		*(enum config_isolation *)p = *(const enum config_isolation *)q;
		break;
	case UNIT:
		*(enum config_unit *)p = *(const enum config_unit *)q;
		break;
	case BOOLEAN:
		*(bool *)p = *(const bool *)q;
		break;
	case NUMBER32:
		*(uint32_t *)p = *(const uint32_t *)q;
		break;
	case NUMBER64:
	case BYTES:
	case SECONDS:
		*(uint64_t *)p = *(const uint64_t *)q;
		break;
	}
}

void config_keep_fixed(const struct config *now, struct config *next, struct strbuf *ret_names)
{
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];

		if (!k->fixed || equal(now, next, k))
			continue;
		strbuf_addf(ret_names, "%s%s", ret_names->len ? ", " : "", k->name);
		copy_value(next, now, k);
	}
	next->instance = arena_strdup(&next->arena, now->instance); /* it follows from `state` */
}
