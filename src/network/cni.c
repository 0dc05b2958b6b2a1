/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod networks by CNI plugins (CNI spec 1.1.0, older versions included).
 *
 * A pod's DEL uses the very configuration and arguments that its ADD had (cni_record.c), also
 * when the files in conf_dir have changed since.  DEL runs all plugins in reverse order,
 * whatever each says, and succeeds only when all did: what the others hold is given back, and
 * whoever asked asks again.
 */
#include "base/mem.h"
#include "network/cni_internal.h"

/* --- arguments --- */

static void put_raw(struct jw *w, const char *key, const char *json)
{
	if (str_empty(json))
		return;
	jw_key(w, key);
	jw_raw(w, json);
}

/* "10.1.0.0/24,fd00::/64" as [[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]] */
static void put_ranges(struct jw *w, const char *pod_cidr)
{
	_cleanup_free_ char *list = xstrdup(str_or_empty(pod_cidr));
	char *save = NULL;

	if (!*list)
		return;
	jw_key_array(w, "ipRanges");
	for (char *s = strtok_r(list, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
		jw_array_begin(w);
		jw_object_begin(w);
		jw_key_string(w, "subnet", s);
		jw_object_end(w);
		jw_array_end(w);
	}
	jw_array_end(w);
}

/* All that a plugin may ask for, by capability. */
static int put_capabilities(const struct network_config *c, const struct network_pod *p,
			    struct strbuf *to, jv **ret, struct err *e)
{
	struct jw w = JW_INIT(to);
	struct jv_iter it = JV_ITER_INIT;
	_cleanup_jv_ jv *more = NULL;
	int r = 0;

	if (!str_empty(p->capabilities))
		r = jv_parse(p->capabilities, strlen(p->capabilities), CNI_CONF_MAX, "capabilities",
			     &more, e);
	if (r < 0)
		return r;
	jw_object_begin(&w);
	put_raw(&w, "portMappings", p->port_mappings);
	put_raw(&w, "bandwidth", p->bandwidth);
	put_raw(&w, "dns", p->dns);
	put_ranges(&w, c->pod_cidr);
	while (jv_next(more, &it)) {
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

		jv_print(it.value, &v);
		put_raw(&w, it.key, v.s);
	}
	jw_object_end(&w);
	return jv_parse(to->s, to->len, CNI_CONF_MAX, "capabilities", ret, e);
}

static const char *type_of(const struct cni_list *l, size_t i)
{
	return jv_string(l->plugins[i], "type", "");
}

/* --- ADD, DEL --- */

static int list_del(const struct network_config *c, const struct cni_pod *p,
		    const struct cni_list *l, const jv *capabilities, const char *result,
		    struct err *e)
{
	bool with_result = cni_version_at_least(l->version, 0, 4);
	struct cni_input input = {.attachment = true,
				  .capabilities = capabilities,
				  .prev_result = with_result ? result : NULL};
	int r = 0;

	for (size_t i = l->n_plugins; i-- > 0;) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;
		int k;

		cni_plugin_input(l, i, &input, &in);
		k = cni_plugin_run(c, p, type_of(l, i), "DEL", &in, c->timeout_us, NULL,
				   r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	return r;
}

static int list_add(const struct network_config *c, const struct cni_pod *p,
		    const struct cni_list *l, const jv *capabilities, struct strbuf *result,
		    struct strbuf *ips, struct err *e)
{
	struct cni_input input = {.attachment = true, .capabilities = capabilities};
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL, out = STRBUF_NULL;

		input.prev_result = result->s;
		cni_plugin_input(l, i, &input, &in);
		r = cni_plugin_run(c, p, type_of(l, i), "ADD", &in, c->timeout_us, &out, e);
		if (r < 0)
			return r;
		r = cni_result_parse(str_or_empty(out.s), out.len, l->version, CNI_IF, result, ips,
				     e);
		if (r < 0)
			err_wrap(e, "CNI plugin %s ADD", type_of(l, i));
	}
	if (r == 0 && !ips->len)
		r = err_set(e, -EBADMSG, GRPC_INTERNAL, "CNI network %s gave " CNI_IF " no address",
			    l->name);
	return r;
}

/* DEL with today's configuration, as well as it goes: what was used then cannot be read. */
static int del_without_record(const struct network_config *c, const struct network_pod *p,
			      struct err *e)
{
	struct cni_pod pod = {.id = p->id,
			      .name = p->name,
			      .namespace_ = p->namespace_,
			      .uid = p->uid,
			      .netns = p->netns_fd >= 0 ? p->netns : "",
			      .cancel_fd = -1};
	struct cni_list l;
	int r;

	if (cni_list_load(c->conf_dir, &l, NULL) < 0)
		return 0;
	r = list_del(c, &pod, &l, NULL, NULL, e);
	cni_list_fini(&l);
	return r;
}

static int cni_teardown(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	struct cni_record rec;
	int r = cni_record_read(c, p->id, &rec, e);

	if (r == -ENOENT)
		return 0;
	if (r < 0 && r != -EBADMSG)
		return r;
	if (r == 0) {
		if (p->netns_fd < 0)
			rec.pod.netns = ""; /* it is gone: so the spec has it */
		r = list_del(c, &rec.pod, &rec.list, rec.capabilities, rec.result.s, e);
		cni_record_fini(&rec);
	} else {
		r = del_without_record(c, p, e);
	}
	return r < 0 ? r : cni_record_remove(c, p->id, e);
}

static int load(const struct network_config *c, struct cni_list *ret, struct err *e)
{
	int r = cni_list_load(c->conf_dir, ret, e);

	if (r < 0)
		return r;
	r = cni_plugins_present(c, ret, e);
	if (r == 0 && ret->n_versions > 1)
		r = cni_choose_version(c, ret, e);
	if (r < 0)
		cni_list_fini(ret);
	return r;
}

static int cni_setup(const struct network_config *c, const struct network_pod *p,
		     struct strbuf *ret_ips, struct err *e)
{
	_cleanup_strbuf_ struct strbuf result = STRBUF_NULL, ips = STRBUF_NULL, caps = STRBUF_NULL;
	struct cni_pod pod = {.id = p->id,
			      .name = p->name,
			      .namespace_ = p->namespace_,
			      .uid = p->uid,
			      .netns = p->netns,
			      .cancel_fd = p->cancel_fd};
	_cleanup_jv_ jv *capabilities = NULL;
	struct cni_list l;
	int r = load(c, &l, e);

	if (r < 0)
		return r;
	r = put_capabilities(c, p, &caps, &capabilities, e);
	if (r == 0)
		r = cni_record_write(c, &pod, &l, caps.s, NULL, e);
	if (r == 0)
		r = list_add(c, &pod, &l, capabilities, &result, &ips, e);
	if (r == 0)
		r = cni_record_write(c, &pod, &l, caps.s, result.s, e);
	if (r < 0)
		cni_teardown(c, p, NULL);
	else
		strbuf_adds(ret_ips, ips.s);
	cni_list_fini(&l);
	return r;
}

/* --- CHECK, STATUS --- */

static int list_check(const struct network_config *c, const struct cni_record *rec, struct err *e)
{
	struct cni_input input = {.attachment = true,
				  .capabilities = rec->capabilities,
				  .prev_result = rec->result.s};
	int r = 0;

	for (size_t i = 0; r == 0 && i < rec->list.n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;

		cni_plugin_input(&rec->list, i, &input, &in);
		r = cni_plugin_run(c, &rec->pod, type_of(&rec->list, i), "CHECK", &in,
				   c->timeout_us, NULL, e);
	}
	return r;
}

static int cni_check(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	struct cni_record rec;
	int r = cni_record_read(c, p->id, &rec, e);

	if (r < 0)
		return r;
	if (!rec.result.len)
		r = err_precondition(e, "the pod's network was never finished");
	else if (!rec.list.disable_check && cni_version_at_least(rec.list.version, 0, 4))
		r = list_check(c, &rec, e);
	cni_record_fini(&rec);
	return r;
}

static int cni_status(const struct network_config *c, struct err *e)
{
	struct cni_input input = {0};
	struct cni_list l;
	int r = cni_list_load(c->conf_dir, &l, e);

	if (r < 0)
		return r;
	r = cni_plugins_present(c, &l, e);
	if (r == 0)
		r = cni_choose_version(c, &l, e);
	for (size_t i = 0; r == 0 && cni_version_at_least(l.version, 1, 1) && i < l.n_plugins;
	     i++) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;

		cni_plugin_input(&l, i, &input, &in);
		r = cni_plugin_run(c, NULL, type_of(&l, i), "STATUS", &in, c->timeout_us, NULL, e);
	}
	cni_list_fini(&l);
	return r;
}

/* --- GC --- */

/* What is alive: [{"containerID","ifname"}]. */
static int put_attachments(const struct network_config *c, struct strbuf *to, struct err *e)
{
	_cleanup_strv_ struct strv ids = STRV_NULL;
	int r = cni_record_list(c, &ids, e);
	struct jw w = JW_INIT(to);

	if (r < 0)
		return r;
	jw_array_begin(&w);
	for (size_t i = 0; i < ids.n; i++) {
		if (!network_pod_is_live(c, ids.v[i]))
			continue;
		jw_object_begin(&w);
		jw_key_string(&w, "containerID", ids.v[i]);
		jw_key_string(&w, "ifname", CNI_IF);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	return 0;
}

/* Pods that are gone and whose DEL was never finished. */
static int del_dead(const struct network_config *c, struct err *e)
{
	_cleanup_strv_ struct strv ids = STRV_NULL;
	int r = cni_record_list(c, &ids, e);

	for (size_t i = 0; i < ids.n; i++) {
		struct network_pod p = {.id = ids.v[i], .netns_fd = -1, .cancel_fd = -1};
		int k;

		if (network_pod_is_live(c, ids.v[i]))
			continue;
		k = network_teardown(c, &p, r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	return r;
}

static int list_gc(const struct network_config *c, const struct cni_list *l, struct err *e)
{
	_cleanup_strbuf_ struct strbuf valid = STRBUF_NULL;
	_cleanup_close_ int lock = -EBADF;
	struct cni_input input = {0};
	int r;

	/* The spec: no ADD and no DEL may run meanwhile. */
	r = network_lock(c, NETWORK_GC_LOCK, true, -1, &lock, e);
	if (r == 0)
		r = put_attachments(c, &valid, e);
	if (r < 0)
		return r;
	input.valid = valid.s;
	for (size_t i = 0; i < l->n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;
		int k;

		cni_plugin_input(l, i, &input, &in);
		k = cni_plugin_run(c, NULL, type_of(l, i), "GC", &in,
				   MIN(c->timeout_us, CNI_GC_TIMEOUT_US), NULL, r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	return r;
}

static int cni_gc(const struct network_config *c, struct err *e)
{
	struct cni_list l;
	int r = del_dead(c, e), k = 0;

	if (!network_conf_present(c->conf_dir) || load(c, &l, NULL) < 0)
		return r; /* NetworkReady tells of it */
	if (!l.disable_gc && cni_version_at_least(l.version, 1, 1))
		k = list_gc(c, &l, r < 0 ? NULL : e);
	cni_list_fini(&l);
	return r < 0 ? r : k;
}

bool network_cni_has(const struct network_config *c, const char *pod_id)
{
	_cleanup_free_ char *path = xasprintf("%s/%s.json", c->cache, pod_id);

	return access(path, F_OK) == 0;
}

const struct network_ops network_cni = {
	.setup = cni_setup,
	.teardown = cni_teardown,
	.check = cni_check,
	.status = cni_status,
	.gc = cni_gc,
};
