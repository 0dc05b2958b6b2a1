/* SPDX-License-Identifier: Apache-2.0 */
/* Running CNI plugins: see cni_internal.h. */
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "network/cni_internal.h"

#define VERSIONS_FILE_MAX 1024
#define SHOWN_MAX 300 /* bytes of a plugin's output in an error */

extern char **environ;

char *cni_plugin_find(const struct network_config *c, const char *type)
{
	for (size_t i = 0; i < c->bin_dirs.n; i++) {
		char *path = xasprintf("%s/%s", c->bin_dirs.v[i], type);

		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

static int not_found(const struct network_config *c, const char *type, struct err *e)
{
	_cleanup_strbuf_ struct strbuf dirs = STRBUF_NULL;

	for (size_t i = 0; i < c->bin_dirs.n; i++)
		strbuf_addf(&dirs, "%s%s", i ? ", " : "", c->bin_dirs.v[i]);
	return err_precondition(e, "CNI plugin %s is not in cni.bin_dirs (%s)", type,
				str_or_empty(dirs.s));
}

int cni_plugins_present(const struct network_config *c, const struct cni_list *l, struct err *e)
{
	for (size_t i = 0; i < l->n_plugins; i++) {
		const char *type = jv_string(l->plugins[i], "type", "");
		_cleanup_free_ char *path = cni_plugin_find(c, type);

		if (!path) {
			not_found(c, type, e);
			return err_wrap(e, "network %s", l->name);
		}
	}
	return 0;
}

/* --- environment --- */

/* CNI_ARGS is a list with ';' and '='; names and uids of Kubernetes hold neither. */
static bool arg_is_safe(const char *s)
{
	return !str_empty(s) && !strpbrk(s, ";=");
}

static void put_args(const struct cni_pod *p, struct strv *env)
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

/* Ours without what is CNI's, as other runtimes do it: plugins look for more than CNI_*. */
static void make_env(const struct network_config *c, const struct cni_pod *p, const char *command,
		     struct strv *env)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_NULL;

	for (char **v = environ; v && *v; v++)
		if (!str_has_prefix(*v, "CNI_"))
			strv_add(env, *v);
	if (!getenv("PATH"))
		strv_add(env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	for (size_t i = 0; i < c->bin_dirs.n; i++)
		strbuf_addf(&path, "%s%s", i ? ":" : "", c->bin_dirs.v[i]);
	strv_addf(env, "CNI_COMMAND=%s", command);
	strv_addf(env, "CNI_PATH=%s", str_or_empty(path.s));
	if (!p)
		return;
	strv_addf(env, "CNI_CONTAINERID=%s", p->id);
	strv_add(env, "CNI_IFNAME=" CNI_IF);
	strv_addf(env, "CNI_NETNS=%s", str_or_empty(p->netns));
	put_args(p, env);
}

/* --- failures --- */

/* One line of what a program printed, with nothing in it that a terminal would obey. */
static void put_printable(const struct strbuf *from, struct strbuf *to)
{
	size_t n = MIN(from->len, (size_t)SHOWN_MAX), begin = to->len;

	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)from->s[i];

		if (isgraph(ch) && ch < 0x80)
			strbuf_addc(to, (char)ch);
		else if (to->len > begin && to->s[to->len - 1] != ' ')
			strbuf_addc(to, ch >= 0x80 ? '?' : ' ');
	}
	while (to->len > begin && to->s[to->len - 1] == ' ')
		to->s[--to->len] = '\0';
}

static enum grpc_code code_of(int cni_code)
{
	switch (cni_code) {
	case 1: /* incompatible version */
	case 2: /* unsupported field in the configuration */
	case 7: /* invalid configuration */
		return GRPC_FAILED_PRECONDITION;
	case 11: /* try again later */
	case 50: /* the plugin is not available */
	case 51:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_INTERNAL;
	}
}

static int failed(const char *type, const char *command, const struct spawn_result *out,
		  struct err *e)
{
	_cleanup_strbuf_ struct strbuf msg = STRBUF_NULL, line = STRBUF_NULL;
	int code = cni_error_parse(str_or_empty(out->out.s), out->out.len, &msg);

	if (code < 0)
		code = cni_error_parse(str_or_empty(out->err.s), out->err.len, &msg);
	if (code >= 0) {
		put_printable(&msg, &line);
		return err_set(e, -EIO, code_of(code), "CNI plugin %s %s: %s", type, command,
			       str_or_empty(line.s));
	}
	put_printable(&out->err, &line);
	if (line.len && out->out.len)
		strbuf_addc(&line, ' ');
	put_printable(&out->out, &line);
	if (out->status > 128)
		return err_set(e, -EIO, GRPC_INTERNAL, "CNI plugin %s %s: ended by signal %d%s%s",
			       type, command, out->status - 128, line.len ? ": " : "",
			       str_or_empty(line.s));
	return err_set(e, -EIO, GRPC_INTERNAL, "CNI plugin %s %s: exit status %d%s%s", type,
		       command, out->status, line.len ? ": " : "", str_or_empty(line.s));
}

/* What the run came to, as an error or none. */
static int judge(const char *type, const char *command, uint64_t timeout_us,
		 const struct spawn_result *out, struct err *e)
{
	if (out->cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "CNI plugin %s %s: cancelled", type,
			       command);
	if (out->timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "CNI plugin %s %s: no answer in %llu s (cni.timeout): killed", type,
			       command, (unsigned long long)(timeout_us / 1000000));
	if (out->status != 0)
		return failed(type, command, out, e);
	if (out->truncated)
		return err_set(e, -EFBIG, GRPC_INTERNAL,
			       "CNI plugin %s %s: printed more than %u bytes", type, command,
			       CNI_RESULT_MAX);
	return 0;
}

int cni_plugin_run(const struct network_config *c, const struct cni_pod *p, const char *type,
		   const char *command, const struct strbuf *input, uint64_t timeout_us,
		   struct strbuf *ret_out, struct err *e)
{
	_cleanup_free_ char *path = cni_plugin_find(c, type);
	_cleanup_strv_ struct strv env = STRV_NULL;
	const char *argv[] = {path, NULL};
	struct spawn s = SPAWN_INIT;
	struct spawn_result out = {0};
	int r;

	if (!path)
		return not_found(c, type, e);
	make_env(c, p, command, &env);
	s.file = path;
	s.argv = argv;
	s.envp = (const char *const *)env.v;
	s.death_signal = SIGKILL;
	/* A cancelled ADD stops its plugin; DEL is what undoes it and is let finish. */
	s.cancel_fd = p && streq(command, "ADD") ? p->cancel_fd : -1;
	r = spawn_run(&s, input->s, input->len, timeout_us, CNI_RESULT_MAX, &out, e);
	if (r < 0)
		err_wrap(e, "CNI plugin %s %s", type, command);
	else
		r = judge(type, command, timeout_us, &out, e);
	if (r == 0 && ret_out)
		strbuf_add(ret_out, str_or_empty(out.out.s), out.out.len);
	spawn_result_fini(&out);
	return r;
}

/* --- versions --- */

/* What names this very program: a new one under the same name is asked anew. */
static int identity(const char *path, struct strbuf *to)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	strbuf_addf(to, "%llx:%llx:%llx:%llx.%lx", (unsigned long long)st.st_dev,
		    (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
		    (unsigned long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return 0;
}

/* "0.3.1 0.4.0", or "" for a plugin that does not say. */
static int ask_versions(const struct network_config *c, const char *type, struct strbuf *ret,
			struct err *e)
{
	static char text[] = "{\"cniVersion\":\"1.1.0\"}";
	struct strbuf in = {.s = text, .len = sizeof(text) - 1};
	_cleanup_strbuf_ struct strbuf out = STRBUF_NULL;
	int r = cni_plugin_run(c, NULL, type, "VERSION", &in, c->timeout_us, &out, e);

	if (r == -ETIMEDOUT)
		return r;
	if (r == 0)
		cni_versions_parse(str_or_empty(out.s), out.len, ret, NULL);
	return 0;
}

static int plugin_versions(const struct network_config *c, const char *type, struct strbuf *ret,
			   struct err *e)
{
	_cleanup_free_ char *path = cni_plugin_find(c, type),
			    *dir = xasprintf("%s/cni-versions", c->state),
			    *file = xasprintf("%s/%s", dir, type);
	_cleanup_strbuf_ struct strbuf id = STRBUF_NULL, have = STRBUF_NULL;
	int r = path ? identity(path, &id) : -ENOENT;

	if (r < 0)
		return not_found(c, type, e);
	if (fs_read(AT_FDCWD, file, VERSIONS_FILE_MAX, &have) == 0 && have.s &&
	    str_has_prefix(have.s, id.s) && have.s[id.len] == ' ') {
		strbuf_adds(ret, have.s + id.len + 1);
		return 0;
	}
	r = ask_versions(c, type, ret, e);
	if (r < 0)
		return r;
	strbuf_addf(&id, " %s", str_or_empty(ret->s));
	if (fs_mkdir_p(AT_FDCWD, dir, 0700) == 0) /* without it, it is only asked again */
		(void)fs_write_atomic(AT_FDCWD, file, id.s, id.len, 0600, false);
	return 0;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

int cni_choose_version(const struct network_config *c, struct cni_list *l, struct err *e)
{
	struct strbuf spoken[CNI_PLUGINS_MAX] = {0};
	bool found = false;
	size_t bad = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n_plugins; i++)
		r = plugin_versions(c, jv_string(l->plugins[i], "type", ""), &spoken[i], e);
	for (size_t v = 0; r == 0 && !found && v < l->n_versions; v++) {
		found = true;
		for (size_t i = 0; found && i < l->n_plugins; i++) {
			found = !spoken[i].len || has_word(spoken[i].s, l->versions[v]);
			bad = i;
		}
		l->version = l->versions[v];
	}
	if (r == 0 && !found)
		r = err_precondition(e, "network %s: CNI plugin %s speaks %s, but not %s", l->name,
				     jv_string(l->plugins[bad], "type", ""), spoken[bad].s,
				     l->version);
	for (size_t i = 0; i < l->n_plugins; i++)
		strbuf_fini(&spoken[i]);
	return r;
}
