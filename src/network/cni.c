/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod networks by CNI plugins (CNI spec 1.1.0, older versions included).
 *
 * What was used for a pod is kept in <state>/cni/POD.json, written before the first plugin
 * runs: DEL then uses the very configuration that ADD had, also when the files in conf_dir
 * have changed since, and also after a kill in the middle.  DEL runs all plugins in reverse
 * order, whatever each says, and succeeds only when all did.
 */
#include <dirent.h>
#include <fcntl.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "network/cni_conf.h"

#define CNI_IF "eth0"
#define RECORD_MAX (4u << 20)

/* --- one plugin --- */

static char *find_plugin(const struct network_config *c, const char *type)
{
	for (size_t i = 0; i < c->bin_dirs.n; i++) {
		char *path = xasprintf("%s/%s", c->bin_dirs.v[i], type);

		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* CNI_ARGS values must hold no ';' or '='; names and uids of Kubernetes have none. */
static bool arg_is_safe(const char *s)
{
	return s && !strpbrk(s, ";=");
}

static void put_args(const struct network_pod *p, struct strv *env)
{
	const char *const kv[][2] = {{"K8S_POD_NAMESPACE", p->namespace_},
				     {"K8S_POD_NAME", p->name},
				     {"K8S_POD_INFRA_CONTAINER_ID", p->id},
				     {"K8S_POD_UID", p->uid}};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	strbuf_adds(&b, "CNI_ARGS=IgnoreUnknown=1");
	for (size_t i = 0; i < ARRAY_SIZE(kv); i++)
		if (arg_is_safe(kv[i][1]))
			strbuf_addf(&b, ";%s=%s", kv[i][0], kv[i][1]);
	strv_add(env, b.s);
}

static void make_env(const struct network_config *c, const struct network_pod *p,
		     const char *command, struct strv *env)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_NULL;
	const char *own = getenv("PATH");

	for (size_t i = 0; i < c->bin_dirs.n; i++)
		strbuf_addf(&path, "%s%s", i ? ":" : "", c->bin_dirs.v[i]);
	strv_addf(env, "CNI_COMMAND=%s", command);
	strv_addf(env, "CNI_PATH=%s", str_or_empty(path.s));
	strv_addf(env, "PATH=%s", own ? own : "/usr/sbin:/usr/bin:/sbin:/bin");
	if (!p)
		return;
	strv_addf(env, "CNI_CONTAINERID=%s", p->id);
	strv_addf(env, "CNI_IFNAME=%s", CNI_IF);
	/* DEL of a namespace that is gone: empty, as the spec has it. */
	strv_addf(env, "CNI_NETNS=%s", p->netns_fd >= 0 ? p->netns : "");
	put_args(p, env);
}

static int plugin_failed(const char *type, const char *command, const struct network_config *c,
			 const struct spawn_result *out, struct err *e)
{
	_cleanup_free_ char *msg = cni_error_message(str_or_empty(out->out.s), out->out.len);

	if (out->cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "CNI plugin %s %s: cancelled", type,
			       command);
	if (out->timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "CNI plugin %s %s: no answer in %llu s (cni.timeout): killed", type,
			       command, (unsigned long long)(c->timeout_us / 1000000));
	if (msg)
		return err_set(e, -EIO, GRPC_INTERNAL, "CNI plugin %s %s: %.600s", type, command,
			       msg);
	return err_set(e, -EIO, GRPC_INTERNAL, "CNI plugin %s %s: exit status %d: %.300s%s%.300s",
		       type, command, out->status, str_or_empty(out->err.s),
		       out->err.len ? " " : "", str_or_empty(out->out.s));
}

/* Runs one plugin; what it printed goes to `ret_out`. */
static int run_plugin(const struct network_config *c, const struct network_pod *p, const char *type,
		      const char *command, const struct strbuf *input, struct strbuf *ret_out,
		      struct err *e)
{
	_cleanup_free_ char *path = find_plugin(c, type);
	_cleanup_strv_ struct strv env = STRV_NULL;
	const char *argv[] = {type, NULL};
	struct spawn s = SPAWN_INIT;
	struct spawn_result out = {0};
	int r;

	if (!path)
		return err_precondition(e, "CNI plugin %s is not in %s%s", type,
					c->bin_dirs.n ? c->bin_dirs.v[0]
						      : "any directory (cni.bin_dirs)",
					c->bin_dirs.n > 1 ? " or the other cni.bin_dirs" : "");
	make_env(c, p, command, &env);
	s.file = path;
	s.argv = argv;
	s.envp = (const char *const *)env.v;
	s.death_signal = 9;
	/* A cancelled ADD stops its plugin; DEL is what undoes it and is let finish. */
	s.cancel_fd = p && streq(command, "ADD") ? p->cancel_fd : -1;
	r = spawn_run(&s, input->s, input->len, c->timeout_us, CNI_RESULT_MAX, &out, e);
	if (r == 0 && (out.status != 0 || out.timed_out || out.cancelled))
		r = plugin_failed(type, command, c, &out, e);
	else if (r == 0 && out.truncated)
		r = err_set(e, -EFBIG, GRPC_INTERNAL, "CNI plugin %s %s printed more than %u bytes",
			    type, command, CNI_RESULT_MAX);
	else if (r == 0 && ret_out)
		strbuf_add(ret_out, str_or_empty(out.out.s), out.out.len);
	spawn_result_fini(&out);
	return r;
}

/* --- the record of a pod --- */

static char *record_path(const struct network_config *c, const char *pod_id)
{
	return xasprintf("%s/cni/%s.json", c->state, pod_id);
}

static int write_record(const struct network_config *c, const struct network_pod *p,
			const struct cni_list *l, const char *result, struct err *e)
{
	_cleanup_free_ char *path = record_path(c, p->id), *dir = xasprintf("%s/cni", c->state);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, conf = STRBUF_NULL;
	struct jw w = JW_INIT(&b);
	int r;

	jv_print(l->doc, &conf);
	jw_object_begin(&w);
	jw_key(&w, "config");
	jw_raw(&w, conf.s);
	jw_key(&w, "result");
	jw_raw(&w, result ? result : "null");
	jw_key_string(&w, "portMappings", p->port_mappings);
	jw_key_string(&w, "bandwidth", p->bandwidth);
	jw_key_string(&w, "dns", p->dns);
	jw_object_end(&w);
	r = fs_mkdir_p(AT_FDCWD, dir, 0700);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

struct record {
	jv *doc;
	struct cni_list list;
	struct strbuf result; /* empty: ADD did not finish */
};

static void record_fini(struct record *rec)
{
	cni_list_fini(&rec->list);
	strbuf_fini(&rec->result);
	jv_free(rec->doc);
}

/* -ENOENT: the pod has no CNI network. */
static int read_record(const struct network_config *c, const char *pod_id, struct record *ret,
		       struct err *e)
{
	_cleanup_free_ char *path = record_path(c, pod_id);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, conf = STRBUF_NULL;
	struct record rec = {0};
	int r = fs_read(AT_FDCWD, path, RECORD_MAX, &b);

	if (r < 0)
		return err_errno(e, r, "read %s", path);
	r = jv_parse(b.s, b.len, RECORD_MAX, path, &rec.doc, e);
	if (r < 0)
		return r;
	if (jv_is_object(jv_get(rec.doc, "config")))
		jv_print(jv_get(rec.doc, "config"), &conf);
	r = cni_list_parse(str_or_empty(conf.s), conf.len, path, &rec.list, e);
	if (r < 0) {
		jv_free(rec.doc);
		return r;
	}
	if (jv_is_object(jv_get(rec.doc, "result")))
		jv_print(jv_get(rec.doc, "result"), &rec.result);
	*ret = rec;
	return 0;
}

/* The pod with the capability arguments that its ADD had. */
static struct network_pod pod_of_record(const struct network_pod *p, const struct record *rec)
{
	struct network_pod q = *p;

	q.port_mappings = jv_string(rec->doc, "portMappings", NULL);
	q.bandwidth = jv_string(rec->doc, "bandwidth", NULL);
	q.dns = jv_string(rec->doc, "dns", NULL);
	return q;
}

/* --- operations on a list --- */

static int list_del(const struct network_config *c, const struct network_pod *p,
		    const struct cni_list *l, const char *result, struct err *e)
{
	int r = 0;

	for (size_t i = l->n_plugins; i-- > 0;) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;
		const char *prev = cni_version_at_least(l->version, 0, 4) ? result : NULL;
		int k;

		cni_plugin_input(l, i, p, prev, NULL, &in);
		k = run_plugin(c, p, jv_string(l->plugins[i], "type", ""), "DEL", &in, NULL,
			       r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	return r;
}

static int list_add(const struct network_config *c, const struct network_pod *p,
		    const struct cni_list *l, struct strbuf *result, struct strbuf *ret_ips,
		    struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL, out = STRBUF_NULL,
					       ips = STRBUF_NULL;
		const char *type = jv_string(l->plugins[i], "type", "");

		cni_plugin_input(l, i, p, result->s, NULL, &in);
		r = run_plugin(c, p, type, "ADD", &in, &out, e);
		if (r < 0)
			break;
		r = cni_result_parse(str_or_empty(out.s), out.len, &ips, e);
		if (r < 0) {
			err_wrap(e, "CNI plugin %s ADD", type);
			break;
		}
		strbuf_reset(result);
		strbuf_adds(result, out.s);
		strbuf_reset(ret_ips);
		strbuf_adds(ret_ips, str_or_empty(ips.s));
	}
	return r;
}

static int cni_teardown(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	_cleanup_free_ char *path = record_path(c, p->id);
	struct network_pod q;
	struct record rec;
	int r = read_record(c, p->id, &rec, e);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	q = pod_of_record(p, &rec);
	r = list_del(c, &q, &rec.list, rec.result.s, e);
	record_fini(&rec);
	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		r = err_errno(e, -errno, "remove %s", path);
	return r;
}

static int cni_setup(const struct network_config *c, const struct network_pod *p,
		     struct strbuf *ret_ips, struct err *e)
{
	_cleanup_strbuf_ struct strbuf result = STRBUF_NULL, ips = STRBUF_NULL;
	struct cni_list l;
	int r = cni_list_load(c->conf_dir, &l, e);

	if (r < 0)
		return r;
	r = write_record(c, p, &l, NULL, e);
	if (r == 0)
		r = list_add(c, p, &l, &result, &ips, e);
	if (r == 0)
		r = write_record(c, p, &l, result.s, e);
	if (r < 0)
		cni_teardown(c, p, NULL);
	else
		strbuf_adds(ret_ips, str_or_empty(ips.s));
	cni_list_fini(&l);
	return r;
}

static int cni_check(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	struct network_pod q;
	struct record rec;
	int r = read_record(c, p->id, &rec, e);

	if (r < 0)
		return r;
	q = pod_of_record(p, &rec);
	if (!rec.result.len)
		r = err_precondition(e, "the pod's network was never finished");
	else if (rec.list.disable_check || !cni_version_at_least(rec.list.version, 0, 4))
		r = 0;
	else
		for (size_t i = 0; r == 0 && i < rec.list.n_plugins; i++) {
			_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;

			cni_plugin_input(&rec.list, i, &q, rec.result.s, NULL, &in);
			r = run_plugin(c, &q, jv_string(rec.list.plugins[i], "type", ""), "CHECK",
				       &in, NULL, e);
		}
	record_fini(&rec);
	return r;
}

static int cni_status(const struct network_config *c, struct err *e)
{
	struct cni_list l = {0};
	int r = cni_list_load(c->conf_dir, &l, e);

	for (size_t i = 0; r == 0 && i < l.n_plugins; i++) {
		const char *type = jv_string(l.plugins[i], "type", "");
		_cleanup_free_ char *path = find_plugin(c, type);
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;

		if (!path) {
			r = err_precondition(
				e, "CNI plugin %s, which network %s needs, is not in cni.bin_dirs",
				type, l.name);
		} else if (cni_version_at_least(l.version, 1, 1)) {
			cni_plugin_input(&l, i, NULL, NULL, NULL, &in);
			r = run_plugin(c, NULL, type, "STATUS", &in, NULL, e);
		}
	}
	cni_list_fini(&l);
	return r;
}

/* What GC is told is alive: [{"containerID","ifname"}]. */
static void put_attachments(const struct strv *live, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_array_begin(&w);
	for (size_t i = 0; i < live->n; i++) {
		jw_object_begin(&w);
		jw_key_string(&w, "containerID", live->v[i]);
		jw_key_string(&w, "ifname", CNI_IF);
		jw_object_end(&w);
	}
	jw_array_end(&w);
}

/* Records of pods that are gone: their DEL was never finished. */
static int del_dead(const struct network_config *c, const struct strv *live, struct err *e)
{
	_cleanup_free_ char *dir = xasprintf("%s/cni", c->state);
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", dir);
	for (struct dirent *f; (f = readdir(d));) {
		_cleanup_free_ char *id = xstrdup(f->d_name);
		struct network_pod p = {.id = id, .netns = "", .netns_fd = -1, .cancel_fd = -1};
		int k;

		if (!str_has_suffix(id, ".json"))
			continue;
		id[strlen(id) - strlen(".json")] = '\0';
		if (strv_contains(live, id))
			continue;
		k = cni_teardown(c, &p, r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	closedir(d);
	return r;
}

static int cni_gc(const struct network_config *c, const struct strv *live, struct err *e)
{
	_cleanup_strbuf_ struct strbuf valid = STRBUF_NULL;
	struct cni_list l;
	int r = del_dead(c, live, e), k;

	if (cni_list_load(c->conf_dir, &l, NULL) < 0)
		return r;
	put_attachments(live, &valid);
	for (size_t i = 0; i < l.n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;

		if (l.disable_gc || !cni_version_at_least(l.version, 1, 1))
			break;
		cni_plugin_input(&l, i, NULL, NULL, valid.s, &in);
		k = run_plugin(c, NULL, jv_string(l.plugins[i], "type", ""), "GC", &in, NULL,
			       r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	cni_list_fini(&l);
	return r;
}

const struct network_ops network_cni = {
	.setup = cni_setup,
	.teardown = cni_teardown,
	.check = cni_check,
	.status = cni_status,
	.gc = cni_gc,
};
