/* SPDX-License-Identifier: Apache-2.0 */
/* CNI configuration and results: see cni_conf.h. */
#include "network/cni_conf.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"

#define CNI_IPS_MAX 64 /* addresses of one result */

bool cni_version_at_least(const char *version, unsigned major, unsigned minor)
{
	unsigned a, b;

	if (sscanf(version, "%u.%u", &a, &b) != 2)
		return false;
	return a > major || (a == major && b >= minor);
}

static bool name_is_safe(const char *s)
{
	return *s && strlen(s) < 256 && !strchr(s, '/') && *s != '.';
}

static int add_plugin(struct cni_list *l, jv *plugin, const char *what, struct err *e)
{
	const char *type = jv_string(plugin, "type", "");

	if (!name_is_safe(type))
		return err_invalid(e, "%s: plugin %zu: \"type\" must name a plugin", what,
				   l->n_plugins);
	if (l->n_plugins == CNI_PLUGINS_MAX)
		return err_invalid(e, "%s: more than %d plugins", what, CNI_PLUGINS_MAX);
	l->plugins[l->n_plugins++] = plugin;
	return 0;
}

int cni_list_parse(const char *text, size_t n, const char *what, struct cni_list *ret,
		   struct err *e)
{
	struct cni_list l = {0};
	jv *plugins;
	int r = jv_parse(text, n, CNI_CONF_MAX, what, &l.doc, e);

	if (r < 0)
		return r;
	l.name = jv_string(l.doc, "name", "");
	l.version = jv_string(l.doc, "cniVersion", "0.2.0");
	l.disable_check = jv_bool(l.doc, "disableCheck", false);
	l.disable_gc = jv_bool(l.doc, "disableGC", false);
	plugins = jv_get(l.doc, "plugins");
	if (!name_is_safe(l.name))
		r = err_invalid(e, "%s: \"name\" must name the network", what);
	else if (!cni_version_at_least(l.version, 0, 3))
		r = err_invalid(e, "%s: cniVersion \"%s\" is older than 0.3.0", what, l.version);
	else if (!plugins && (l.single = true))
		r = add_plugin(&l, l.doc, what, e);
	else if (!jv_len(plugins))
		r = err_invalid(e, "%s: \"plugins\" must be a list with at least one", what);
	for (size_t i = 0; r == 0 && i < jv_len(plugins); i++)
		r = add_plugin(&l, jv_at(plugins, i), what, e);
	if (r < 0) {
		jv_free(l.doc);
		return r;
	}
	*ret = l;
	return 0;
}

void cni_list_fini(struct cni_list *l)
{
	jv_free(l->doc);
	*l = (struct cni_list){0};
}

static int is_conf(const struct dirent *f)
{
	return f->d_name[0] != '.' &&
	       (str_has_suffix(f->d_name, ".conflist") || str_has_suffix(f->d_name, ".conf") ||
		str_has_suffix(f->d_name, ".json"));
}

int cni_list_load(const char *conf_dir, struct cni_list *ret, struct err *e)
{
	struct dirent **names = NULL;
	int n = scandir(conf_dir, &names, is_conf, alphasort);
	int r = err_precondition(e, "no CNI configuration in %s", conf_dir);
	bool found = false;

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", conf_dir, names[i]->d_name);
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		free(names[i]);
		if (found)
			continue;
		r = fs_read(AT_FDCWD, path, CNI_CONF_MAX, &b);
		if (r < 0)
			err_errno(e, r, "read %s", path);
		else
			r = cni_list_parse(str_or_empty(b.s), b.len, path, ret, e);
		found = r == 0;
	}
	free(names);
	return r;
}

static void put_capability(struct jw *w, const jv *plugin, const char *name, const char *json)
{
	_cleanup_free_ char *path = xasprintf("capabilities.%s", name);

	if (str_empty(json) || !jv_bool(plugin, path, false))
		return;
	jw_key(w, name);
	jw_raw(w, json);
}

void cni_plugin_input(const struct cni_list *l, size_t i, const struct network_pod *p,
		      const char *prev_result, const char *attachments, struct strbuf *to)
{
	const jv *plugin = l->plugins[i];
	struct jv_iter it = JV_ITER_INIT;
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "cniVersion", l->version);
	jw_key_string(&w, "name", l->name);
	while (jv_next(plugin, &it)) {
		static const char *const ours[] = {"cniVersion", "name", "capabilities",
						   "runtimeConfig", "prevResult"};
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;
		bool skip = false;

		for (size_t k = 0; k < ARRAY_SIZE(ours); k++)
			skip |= streq(it.key, ours[k]);
		if (skip)
			continue;
		jv_print(it.value, &v);
		jw_key(&w, it.key);
		jw_raw(&w, v.s);
	}
	jw_key_object(&w, "runtimeConfig");
	if (p) {
		put_capability(&w, plugin, "portMappings", p->port_mappings);
		put_capability(&w, plugin, "bandwidth", p->bandwidth);
		put_capability(&w, plugin, "dns", p->dns);
	}
	jw_object_end(&w);
	if (!str_empty(prev_result)) {
		jw_key(&w, "prevResult");
		jw_raw(&w, prev_result);
	}
	if (attachments) {
		jw_key(&w, "cni.dev/valid-attachments");
		jw_raw(&w, attachments);
	}
	jw_object_end(&w);
}

/* "10.1.2.3/24" checked and without its prefix. */
static int put_ip(const char *cidr, struct strbuf *to, struct err *e)
{
	const char *slash = strchr(cidr, '/');
	_cleanup_free_ char *ip = slash ? xstrndup(cidr, (size_t)(slash - cidr)) : xstrdup(cidr);
	uint8_t raw[16];

	if (inet_pton(strchr(ip, ':') ? AF_INET6 : AF_INET, ip, raw) != 1)
		return err_set(e, -EBADMSG, GRPC_INTERNAL,
			       "the CNI result holds \"%.80s\", which is no address", cidr);
	strbuf_addf(to, "%s%s", to->len ? " " : "", ip);
	return 0;
}

int cni_result_parse(const char *text, size_t n, struct strbuf *ret_ips, struct err *e)
{
	_cleanup_strbuf_ struct strbuf ips = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;
	jv *list;
	int r = jv_parse(text, n, CNI_RESULT_MAX, "CNI result", &v, e);

	if (r < 0)
		return err_set(e, -EBADMSG, GRPC_INTERNAL,
			       "the CNI plugin printed no result: %.200s", e ? e->msg : "");
	if (!jv_is_object(v))
		return err_set(e, -EBADMSG, GRPC_INTERNAL, "the CNI result is no object");
	list = jv_get(v, "ips");
	if (jv_len(list) > CNI_IPS_MAX)
		return err_set(e, -EBADMSG, GRPC_INTERNAL,
			       "the CNI result has more than %d addresses", CNI_IPS_MAX);
	for (size_t i = 0; i < jv_len(list); i++) {
		r = put_ip(jv_string(jv_at(list, i), "address", ""), &ips, e);
		if (r < 0)
			return r;
	}
	strbuf_adds(ret_ips, str_or_empty(ips.s));
	return 0;
}

char *cni_error_message(const char *text, size_t n)
{
	_cleanup_jv_ jv *v = NULL;
	const char *msg, *details;

	if (jv_parse(text, n, CNI_RESULT_MAX, "CNI error", &v, NULL) < 0)
		return NULL;
	msg = jv_string(v, "msg", NULL);
	details = jv_string(v, "details", "");
	if (!msg)
		return NULL;
	return xasprintf("%s%s%s (code %lld)", msg, *details ? ": " : "", details,
			 (long long)jv_int(v, "code", 0));
}
