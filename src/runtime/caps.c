/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of capabilities: see caps.h. */
#include "runtime/caps.h"

#include <stdarg.h>

#include "base/mem.h"

static const struct {
	const char *name, *text;
} table[] = {
#define RUNTIME_CAPS_ROW(id, name, text) [RCAP_##id] = {name, text},
	RUNTIME_CAPS_LIST(RUNTIME_CAPS_ROW)
#undef RUNTIME_CAPS_ROW
};

const char *runtime_cap_name(enum runtime_cap cap)
{
	return table[cap].name;
}

const char *runtime_cap_text(enum runtime_cap cap)
{
	return table[cap].text;
}

bool runtime_cap_find(const char *name, enum runtime_cap *ret)
{
	for (unsigned i = 0; i < RCAP_COUNT; i++)
		if (streq(table[i].name, name)) {
			*ret = i;
			return true;
		}
	return false;
}

void runtime_caps_fini(struct runtime_caps *c)
{
	for (unsigned i = 0; i < RCAP_COUNT; i++)
		free(c->why[i]);
	*c = RUNTIME_CAPS_NULL;
}

void runtime_caps_grant(struct runtime_caps *c, enum runtime_cap cap)
{
	c->has |= RCAP_BIT(cap);
	free(c->why[cap]);
	c->why[cap] = NULL;
}

void runtime_caps_lack(struct runtime_caps *c, uint64_t bits, const char *fmt, ...)
{
	char why[RUNTIME_WHY_MAX];
	va_list ap;

	va_start(ap, fmt);
	str_vformat(why, sizeof(why), fmt, ap);
	va_end(ap);
	for (unsigned i = 0; i < RCAP_COUNT; i++) {
		if (!(bits & RCAP_BIT(i)))
			continue;
		c->has &= ~RCAP_BIT(i);
		if (!c->why[i]) /* the first reason is the one to begin with */
			c->why[i] = xstrdup(why);
	}
}

const char *runtime_caps_why(const struct runtime_caps *c, enum runtime_cap cap)
{
	if (c->has & RCAP_BIT(cap))
		return "";
	return str_empty(c->why[cap]) ? "it is not known to have it" : c->why[cap];
}

void runtime_caps_explain(const struct runtime_caps *c, uint64_t missing, struct strbuf *to)
{
	const char *sep = "";

	for (unsigned i = 0; i < RCAP_COUNT; i++)
		if (missing & RCAP_BIT(i)) {
			strbuf_addf(to, "%s%s: %s", sep, table[i].text, runtime_caps_why(c, i));
			sep = "; ";
		}
}

void runtime_caps_list(uint64_t bits, struct strbuf *to)
{
	const char *sep = "";

	for (unsigned i = 0; i < RCAP_COUNT; i++)
		if (bits & RCAP_BIT(i)) {
			strbuf_addf(to, "%s%s", sep, table[i].text);
			sep = ", ";
		}
}

void runtime_caps_print(const struct runtime_caps *c, struct jw *w)
{
	jw_object_begin(w);
	jw_key_array(w, "has");
	for (unsigned i = 0; i < RCAP_COUNT; i++)
		if (c->has & RCAP_BIT(i))
			jw_string(w, table[i].name);
	jw_array_end(w);
	jw_key_object(w, "lacks");
	for (unsigned i = 0; i < RCAP_COUNT; i++)
		if (!(c->has & RCAP_BIT(i)))
			jw_key_string(w, table[i].name, runtime_caps_why(c, i));
	jw_object_end(w);
	jw_object_end(w);
}

int runtime_caps_read(const jv *v, struct runtime_caps *ret, struct err *e)
{
	const jv *has = jv_get(v, "has"), *lacks = jv_get(v, "lacks");
	_cleanup_runtime_caps_ struct runtime_caps c = RUNTIME_CAPS_NULL;
	struct jv_iter it = JV_ITER_INIT;
	enum runtime_cap cap;

	if (!jv_is_array(has) || !jv_is_object(lacks))
		return err_invalid(e, "capabilities of a runtime: no \"has\" and \"lacks\"");
	for (size_t i = 0; i < jv_len(has); i++) {
		const char *name = jv_as_string(jv_at(has, i));

		if (name && runtime_cap_find(name, &cap))
			runtime_caps_grant(&c, cap);
	}
	while (jv_next(lacks, &it)) {
		const char *why = jv_as_string(it.value);

		if (runtime_cap_find(it.key, &cap) && !str_empty(why))
			runtime_caps_lack(&c, RCAP_BIT(cap), "%s", why);
	}
	*ret = c;
	c = RUNTIME_CAPS_NULL; /* moved */
	return 0;
}
