/* SPDX-License-Identifier: Apache-2.0 */
/* gantry run --mount: a volume in words, as docker and podman have it. */
#include <limits.h>

#include "run.h"

/* What its words say. */
struct words {
	const char *type, *source, *target, *part, *propagation;
	bool read_only;
};

static bool flag(const char *value, bool *ret)
{
	if (!value || streq(value, "true") || streq(value, "1"))
		*ret = true;
	else if (streq(value, "false") || streq(value, "0"))
		*ret = false;
	else
		return false;
	return true;
}

/* One KEY[=VALUE]; false for what is not known, or has no value where it wants one. */
static bool word(struct words *w, char *s)
{
	char *eq = strchr(s, '=');
	const char *value = eq ? eq + 1 : NULL;
	const struct {
		const char *name;
		const char **to;
	} keys[] = {
		{"type", &w->type},
		{"source", &w->source},
		{"src", &w->source},
		{"target", &w->target},
		{"destination", &w->target},
		{"dst", &w->target},
		{"subpath", &w->part},
		{"image-subpath", &w->part},
		{"bind-propagation", &w->propagation},
	};

	if (eq)
		*eq = '\0';
	if (streq(s, "readonly") || streq(s, "ro"))
		return flag(value, &w->read_only);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (streq(s, keys[i].name) && !str_empty(value)) {
			*keys[i].to = value;
			return true;
		}
	return false;
}

static int read_words(char *list, const char *all, struct words *w, struct err *e)
{
	char *save = NULL;

	for (char *s = strtok_r(list, ",", &save); s; s = strtok_r(NULL, ",", &save))
		if (!word(w, s))
			return err_invalid(e,
					   "--mount: \"%s\": \"%s\" is none of type=, source=, "
					   "target=, subpath=, bind-propagation=, readonly",
					   all, s);
	if (!w->type || !w->source || !w->target || *w->target != '/')
		return err_invalid(e,
				   "--mount: \"%s\", expected type=image or type=bind, source= and "
				   "an absolute target=",
				   all);
	return 0;
}

static int bind_words(struct arena *a, const struct words *w, Runtime__V1__Mount **ret,
		      const char *all, struct err *e)
{
	const char *options = str_or_empty(w->propagation);
	char *volume = arena_printf(a, "%s:%s:%s%s%s", w->source, w->target,
				    w->read_only ? "ro" : "rw", *options ? "," : "", options);

	if (w->part)
		return err_invalid(e, "--mount: \"%s\": subpath= is for type=image", all);
	if (strchr(w->source, ':') || strchr(w->target, ':'))
		return err_invalid(e, "--mount: \"%s\": paths with ':' are not possible", all);
	return run_parse_volume(a, volume, ret, e);
}

static int image_words(struct arena *a, const struct words *w, Runtime__V1__Mount **ret,
		       const char *all, struct err *e)
{
	Runtime__V1__Mount *m = arena_alloc(a, sizeof(*m));

	if (w->propagation)
		return err_invalid(e, "--mount: \"%s\": bind-propagation= is for type=bind", all);
	runtime__v1__mount__init(m);
	m->image = arena_alloc(a, sizeof(*m->image));
	runtime__v1__image_spec__init(m->image);
	m->image->image = arena_strdup(a, w->source);
	m->image_sub_path = arena_strdup(a, str_or_empty(w->part));
	m->container_path = arena_strdup(a, w->target);
	m->readonly = true;
	*ret = m;
	return 0;
}

/* type=image,source=REF,target=DST[,subpath=PATH], type=bind,source=SRC,target=DST[,readonly] */
int run_parse_mount(struct arena *a, const char *s, Runtime__V1__Mount **ret, struct err *e)
{
	struct words w = {0};
	int r = read_words(arena_strdup(a, s), s, &w, e);

	if (r < 0)
		return r;
	if (streq(w.type, "image"))
		return image_words(a, &w, ret, s, e);
	if (streq(w.type, "bind"))
		return bind_words(a, &w, ret, s, e);
	return err_invalid(e, "--mount: \"%s\": the type is neither image nor bind", s);
}
