/* SPDX-License-Identifier: Apache-2.0 */
/* CNI configurations: see cni_conf.h. */
#include "network/cni_conf.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"

/* --- versions --- */

#define OLDEST 3000    /* 0.3.0: results as they are since, chained plugins */
#define NEWEST 1001000 /* 1.1.0 */

/* "1.0.0" -> 1000000, that is millions, thousands, ones; -1 for what is no such version. */
static long version_number(const char *s)
{
	unsigned v[3];
	int at = 0;

	if (sscanf(s, "%3u.%3u.%3u%n", &v[0], &v[1], &v[2], &at) != 3 || s[at] || !isdigit(*s))
		return -1;
	return v[0] * 1000000L + v[1] * 1000L + v[2];
}

bool cni_version_at_least(const char *version, unsigned major, unsigned minor)
{
	return version_number(version) >= major * 1000000L + minor * 1000L;
}

/* Keeps those that gantry speaks, newest first. */
static int add_version(struct cni_list *l, const char *v, const char *what, struct err *e)
{
	long n = v ? version_number(v) : -1;
	size_t at = 0;

	if (n < 0)
		return err_invalid(e, "%s: \"%s\" is no CNI version", what, str_or_empty(v));
	if (n < OLDEST || n > NEWEST)
		return 0;
	while (at < l->n_versions && version_number(l->versions[at]) > n)
		at++;
	if (at < l->n_versions && version_number(l->versions[at]) == n)
		return 0;
	memmove(&l->versions[at + 1], &l->versions[at],
		(l->n_versions - at) * sizeof(l->versions[0]));
	l->versions[at] = v;
	l->n_versions++;
	return 0;
}

static int read_versions(struct cni_list *l, const jv *doc, const char *what, struct err *e)
{
	const char *one = jv_string(doc, "cniVersion", NULL);
	const jv *all = jv_get(doc, "cniVersions");
	int r = one || !all ? add_version(l, one ? one : "0.2.0", what, e) : 0;

	if (jv_len(all) > CNI_VERSIONS_MAX)
		return err_invalid(e, "%s: cniVersions: more than %d", what, CNI_VERSIONS_MAX);
	for (size_t i = 0; r == 0 && i < jv_len(all); i++)
		r = add_version(l, jv_as_string(jv_at(all, i)), what, e);
	if (r == 0 && !l->n_versions)
		r = err_invalid(e, "%s: cniVersion \"%s\": gantry speaks 0.3.0 to 1.1.0", what,
				one ? one : "");
	if (r == 0)
		l->version = l->versions[0];
	return r;
}

/* --- lists --- */

/* A network's name, a plugin's type: parts of paths. */
static bool name_is_safe(const char *s)
{
	if (!isalnum((unsigned char)*s) || strlen(s) >= 256)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._-+", *s))
			return false;
	return true;
}

static int add_plugin(struct cni_list *l, jv *plugin, const char *what, struct err *e)
{
	const char *type = jv_string(plugin, "type", "");

	if (!name_is_safe(type))
		return err_invalid(e,
				   "%s: plugin %zu: \"type\" must name a plugin, found \"%.80s\"",
				   what, l->n_plugins, type);
	if (l->n_plugins == CNI_PLUGINS_MAX)
		return err_invalid(e, "%s: more than %d plugins", what, CNI_PLUGINS_MAX);
	l->plugins[l->n_plugins++] = plugin;
	return 0;
}

/* A boolean, also as the word in quotes: both are in use. */
static int read_flag(const jv *doc, const char *key, const char *what, bool *ret, struct err *e)
{
	const char *s = jv_string(doc, key, NULL);

	*ret = jv_bool(doc, key, false);
	if (!s)
		return 0;
	*ret = strcasecmp(s, "true") == 0;
	if (!*ret && strcasecmp(s, "false") != 0)
		return err_invalid(e, "%s: %s: \"%.40s\" is neither true nor false", what, key, s);
	return 0;
}

static int read_plugins(struct cni_list *l, jv *doc, const char *what, struct err *e)
{
	jv *plugins = jv_get(doc, "plugins");
	int r = 0;

	if (!plugins && jv_get(doc, "type"))
		return add_plugin(l, doc, what, e);
	if (!plugins && !l->only_inlined)
		return 0; /* all in the network's directory */
	if (!jv_len(plugins))
		return err_invalid(e, "%s: \"plugins\" must be a list with at least one", what);
	for (size_t i = 0; r == 0 && i < jv_len(plugins); i++)
		r = add_plugin(l, jv_at(plugins, i), what, e);
	return r;
}

int cni_list_parse(const char *text, size_t n, const char *what, struct cni_list *ret,
		   struct err *e)
{
	struct cni_list l = {0};
	jv *doc;
	int r = jv_parse(text, n, CNI_CONF_MAX, what, &doc, e);

	if (r < 0)
		return r;
	l.docs[l.n_docs++] = doc;
	l.name = jv_string(doc, "name", "");
	if (!name_is_safe(l.name))
		r = err_invalid(e, "%s: \"name\" must name the network, found \"%.80s\"", what,
				l.name);
	r = r < 0 ? r : read_versions(&l, doc, what, e);
	r = r < 0 ? r : read_flag(doc, "disableCheck", what, &l.disable_check, e);
	r = r < 0 ? r : read_flag(doc, "disableGC", what, &l.disable_gc, e);
	r = r < 0 ? r : read_flag(doc, "loadOnlyInlinedPlugins", what, &l.only_inlined, e);
	r = r < 0 ? r : read_plugins(&l, doc, what, e);
	if (r < 0)
		cni_list_fini(&l);
	else
		*ret = l;
	return r;
}

void cni_list_fini(struct cni_list *l)
{
	for (size_t i = 0; i < l->n_docs; i++)
		jv_free(l->docs[i]);
	*l = (struct cni_list){0};
}

void cni_list_print(const struct cni_list *l, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "cniVersion", l->version);
	jw_key_string(&w, "name", l->name);
	jw_key_bool(&w, "disableCheck", l->disable_check);
	jw_key_bool(&w, "disableGC", l->disable_gc);
	jw_key_bool(&w, "loadOnlyInlinedPlugins", true);
	jw_key_array(&w, "plugins");
	for (size_t i = 0; i < l->n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

		jv_print(l->plugins[i], &v);
		jw_raw(&w, v.s);
	}
	jw_array_end(&w);
	jw_object_end(&w);
}

/* --- files --- */

/* Hidden files are editors' own. */
static bool has_suffix(const struct dirent *f, const char *const *suffixes)
{
	for (; f->d_name[0] != '.' && f->d_type != DT_DIR && *suffixes; suffixes++)
		if (str_has_suffix(f->d_name, *suffixes))
			return true;
	return false;
}

static int is_conf(const struct dirent *f)
{
	static const char *const s[] = {".conflist", ".conf", ".json", NULL};

	return has_suffix(f, s);
}

static int is_plugin_conf(const struct dirent *f)
{
	static const char *const s[] = {".conf", NULL};

	return has_suffix(f, s);
}

bool network_conf_present(const char *conf_dir)
{
	DIR *d = opendir(conf_dir);
	bool found = false;

	if (!d)
		return false;
	for (struct dirent *f; !found && (f = readdir(d));)
		found = is_conf(f);
	closedir(d);
	return found;
}

static int add_plugin_file(struct cni_list *l, const char *dir, const char *name, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, CNI_CONF_MAX, &b);
	jv *doc;

	if (r < 0)
		return err_errno(e, r, "read %s", path);
	if (l->n_docs == ARRAY_SIZE(l->docs))
		return err_invalid(e, "%s: more than %d plugins", path, CNI_PLUGINS_MAX);
	r = jv_parse(str_or_empty(b.s), b.len, CNI_CONF_MAX, path, &doc, e);
	if (r < 0)
		return r;
	l->docs[l->n_docs++] = doc;
	return add_plugin(l, doc, path, e);
}

/* Plugins that others put beside the list: conf_dir/NAME/ *.conf. */
static int add_plugin_files(struct cni_list *l, const char *conf_dir, struct err *e)
{
	_cleanup_free_ char *dir = xasprintf("%s/%s", conf_dir, l->name);
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_plugin_conf, alphasort), r = 0;

	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = add_plugin_file(l, dir, names[i]->d_name, e);
		free(names[i]);
	}
	free(names);
	return r;
}

static int load_file(const char *conf_dir, const char *name, struct cni_list *ret, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", conf_dir, name);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct cni_list l;
	int r = fs_read(AT_FDCWD, path, CNI_CONF_MAX, &b);

	if (r < 0)
		return err_errno(e, r, "read %s", path);
	r = cni_list_parse(str_or_empty(b.s), b.len, path, &l, e);
	if (r < 0)
		return r;
	if (!l.only_inlined)
		r = add_plugin_files(&l, conf_dir, e);
	if (r == 0 && !l.n_plugins)
		r = err_invalid(e, "%s: no plugins", path);
	if (r < 0)
		cni_list_fini(&l);
	else
		*ret = l;
	return r;
}

int cni_list_load(const char *conf_dir, struct cni_list *ret, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandir(conf_dir, &names, is_conf, alphasort), r;

	if (n <= 0)
		return err_set(e, -ENOENT, GRPC_FAILED_PRECONDITION, "no CNI configuration in %s",
			       conf_dir);
	r = load_file(conf_dir, names[0]->d_name, ret, e);
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	if (r < 0 && e) /* the node's fault, not the request's */
		e->code = GRPC_FAILED_PRECONDITION;
	return r;
}

/* --- what a plugin is given --- */

static void put_runtime_config(struct jw *w, const jv *plugin, const jv *have)
{
	const jv *wanted = jv_get(plugin, "capabilities");
	struct jv_iter it = JV_ITER_INIT, in = JV_ITER_INIT;

	jw_key_object(w, "runtimeConfig");
	while (jv_next(have, &it)) {
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

		in = JV_ITER_INIT; /* names hold dots: no path */
		while (jv_next(wanted, &in) && !streq(in.key, it.key))
			;
		if (!in.key || !streq(in.key, it.key) || !jv_as_bool(in.value))
			continue;
		jv_print(it.value, &v);
		jw_key(w, it.key);
		jw_raw(w, v.s);
	}
	jw_object_end(w);
}

static bool is_ours(const char *key)
{
	static const char *const ours[] = {"cniVersion", "name", "capabilities", "runtimeConfig",
					   "prevResult"};

	for (size_t k = 0; k < ARRAY_SIZE(ours); k++)
		if (streq(key, ours[k]))
			return true;
	return str_has_prefix(key, "cni.dev/");
}

void cni_plugin_input(const struct cni_list *l, size_t i, const struct cni_input *in,
		      struct strbuf *to)
{
	const jv *plugin = l->plugins[i];
	struct jv_iter it = JV_ITER_INIT;
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "cniVersion", l->version);
	jw_key_string(&w, "name", l->name);
	while (jv_next(plugin, &it)) {
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

		if (is_ours(it.key))
			continue;
		jv_print(it.value, &v);
		jw_key(&w, it.key);
		jw_raw(&w, v.s);
	}
	if (in->attachment)
		put_runtime_config(&w, plugin, in->capabilities);
	if (!str_empty(in->prev_result)) {
		jw_key(&w, "prevResult");
		jw_raw(&w, in->prev_result);
	}
	if (in->valid) {
		jw_key(&w, "cni.dev/valid-attachments");
		jw_raw(&w, in->valid);
		jw_key(&w, "cni.dev/attachments"); /* its name in an early text of the spec */
		jw_raw(&w, in->valid);
	}
	jw_object_end(&w);
}
