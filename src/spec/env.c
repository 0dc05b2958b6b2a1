/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's environment and arguments.
 *
 * OCI configurations are JSON, and JSON is UTF-8; CRI's values are bytes.  A variable whose
 * value is no UTF-8 therefore goes around it: the command is run by gantry-env, which is
 * mounted into the container and is told the value in ASCII.
 */
#include "base/map.h"
#include "base/mem.h"
#include "spec/resources.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Variables in the order of their first mention; the last value counts. */
struct env {
	struct strv v;
	struct strv keys;
	struct map at; /* key to its place in v, plus one */
};

static void env_fini(struct env *env)
{
	strv_fini(&env->v);
	strv_fini(&env->keys);
	map_fini(&env->at);
}

/* Takes "KEY=VALUE". */
static void put(struct env *env, char *assignment)
{
	_cleanup_free_ char *key = xstrndup(assignment, strcspn(assignment, "="));
	uintptr_t place = (uintptr_t)map_get(&env->at, key);

	if (place) {
		free(env->v.v[place - 1]);
		env->v.v[place - 1] = assignment;
		return;
	}
	strv_take(&env->v, assignment);
	map_put(&env->at, key, (void *)(uintptr_t)env->v.n);
	strv_take(&env->keys, TAKE_PTR(key));
}

static void build(const struct spec_container *s, bool tty, struct env *env)
{
	const jv *added = jv_get(s->edits, "env");

	*env = (struct env){0};
	put(env, xstrdup(DEFAULT_PATH));
	if (!str_empty(s->hostname))
		put(env, xasprintf("HOSTNAME=%s", s->hostname));
	if (tty)
		put(env, xstrdup("TERM=xterm"));
	for (size_t i = 0; i < s->image->env.n; i++)
		put(env, xstrdup(s->image->env.v[i]));
	for (size_t i = 0; i < s->config->n_envs; i++) {
		const Runtime__V1__KeyValue *kv = s->config->envs[i];

		put(env, xasprintf("%s=%.*s", kv->key, (int)kv->value.len,
				   kv->value.len ? (char *)kv->value.data : ""));
	}
	for (size_t i = 0; i < jv_len(added); i++)
		put(env, xstrdup(str_or_empty(jv_as_string(jv_at(added, i)))));
	/* Always: without one the runtimes open the image's /etc/passwd, whatever that is. */
	if (!map_get(&env->at, "HOME"))
		put(env, xasprintf("HOME=%s", str_empty(s->user->home) ? "/" : s->user->home));
}

static bool is_text(const char *assignment)
{
	return str_is_utf8(assignment, strlen(assignment));
}

void spec_env_print(const struct spec_container *s, bool tty, struct jw *w)
{
	struct env env;

	build(s, tty, &env);
	jw_key_array(w, "env");
	for (size_t i = 0; i < env.v.n; i++)
		if (is_text(env.v.v[i]))
			jw_string(w, env.v.v[i]);
	jw_array_end(w);
	env_fini(&env);
}

bool spec_env_needs_help(const struct spec_container *s)
{
	for (size_t i = 0; i < s->config->n_envs; i++) {
		const ProtobufCBinaryData *v = &s->config->envs[i]->value;

		if (!str_is_utf8((const char *)v->data, v->len))
			return !str_empty(s->env_program);
	}
	return false;
}

static void print_encoded(const char *assignment, struct jw *w)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	size_t key = strcspn(assignment, "=");

	strbuf_add(&b, assignment, key);
	for (const char *p = assignment + key; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 0x20 || c >= 0x7f || c == '%')
			strbuf_addf(&b, "%%%02x", c);
		else
			strbuf_addc(&b, (char)c);
	}
	jw_string(w, b.s);
}

/* Before the command's own words. */
void spec_env_print_help(const struct spec_container *s, struct jw *w)
{
	struct env env;

	if (!spec_env_needs_help(s))
		return;
	build(s, false, &env);
	jw_string(w, spec_env_path(s));
	for (size_t i = 0; i < env.v.n; i++)
		if (!is_text(env.v.v[i]))
			print_encoded(env.v.v[i], w);
	jw_string(w, "--");
	env_fini(&env);
}
