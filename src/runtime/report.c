/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of runtimes: see report.h. */
#include "runtime/report.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"

#define VERSION_TEXT_MAX 4096 /* bytes of what `--version` prints */
#define KEY_FORMAT 1	      /* of what keys and reports consist of */

void runtime_report_fini(struct runtime_report *r)
{
	free(r->path);
	free(r->version);
	free(r->problem);
	free(r->note);
	free(r->key);
	runtime_caps_fini(&r->caps);
	*r = RUNTIME_REPORT_NULL;
}

/* --- asking --- */

/* `ret`: what it printed, cut at `max`.  FAILED_PRECONDITION where it did not end well. */
static int ask(const char *path, const char *word, size_t max, struct spawn_result *ret,
	       struct err *e)
{
	const char *argv[] = {path, word, NULL};
	struct spawn s = SPAWN_INIT;
	int r;

	s.file = path;
	s.argv = argv;
	r = spawn_run(&s, NULL, 0, RUNTIME_ASK_TIMEOUT, max, ret, e);
	if (r < 0)
		return r;
	if (ret->timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_FAILED_PRECONDITION,
			       "%s %s: no end in %llu s: killed", path, word,
			       (unsigned long long)(RUNTIME_ASK_TIMEOUT / USEC_PER_SEC));
	if (ret->status != 0)
		return err_set(e, -EIO, GRPC_FAILED_PRECONDITION, "%s %s: exit status %d: %.200s",
			       path, word, ret->status, str_or_empty(ret->err.s));
	return 0;
}

/* "1.8.1", or the whole first line of who says it in other words. */
static char *short_version(const char *text)
{
	const char *v = strstr(text, "version");
	size_t line = strcspn(text, "\n");

	v = v && (size_t)(v - text) < line ? v + strlen("version") : text;
	v += strspn(v, ": "); /* "youki version: 0.7.0" */
	return xstrndup(v, strcspn(v, "\n"));
}

static void take_features(const char *path, uint64_t sure, struct runtime_report *ret)
{
	struct spawn_result out = {0};
	struct err e = ERR_NULL;
	int r = ask(path, "features", RUNTIME_FEATURES_MAX, &out, &e);

	if (r == 0 && out.truncated)
		r = err_invalid(&e, "%s features: more than %u bytes", path, RUNTIME_FEATURES_MAX);
	if (r == 0)
		r = runtime_caps_features(str_or_empty(out.out.s), out.out.len, sure, &ret->caps,
					  &e);
	ret->note = xstrdup(r < 0 ? e.msg : "");
	spawn_result_fini(&out);
}

static int take_version(const struct runtime *rt, struct runtime_report *ret, uint64_t *ret_sure,
			struct err *e)
{
	struct spawn_result out = {0};
	int r = ask(ret->path, "--version", VERSION_TEXT_MAX, &out, e);

	if (r == 0 && !out.out.len)
		r = err_precondition(e, "%s --version: it prints nothing", ret->path);
	if (r == 0) {
		ret->version = short_version(out.out.s);
		*ret_sure =
			runtime_caps_known(out.out.s, (const char *const *)rt->args.v, &ret->caps);
	}
	spawn_result_fini(&out);
	return r;
}

void runtime_report_ask(const struct runtime *rt, const struct runtime_host *h,
			struct runtime_report *ret)
{
	struct err e = ERR_NULL;
	uint64_t sure = 0;
	int r = 0;

	*ret = RUNTIME_REPORT_NULL;
	ret->path = runtime_find(rt->path);
	ret->key = runtime_key(rt, h);
	if (!ret->path)
		r = err_precondition(&e, "not installed: no program %s", rt->path);
	if (r == 0)
		r = take_version(rt, ret, &sure, &e);
	if (r == 0)
		take_features(ret->path, sure, ret);
	if (r == 0)
		runtime_caps_host(h, &ret->caps);
	ret->problem = xstrdup(r < 0 ? e.msg : "");
}

/* --- keys --- */

static void put_file(struct strbuf *b, const char *path)
{
	struct stat st;

	if (!path || stat(path, &st) < 0)
		strbuf_adds(b, " -");
	else
		strbuf_addf(b, " %s %llx:%llx:%llx:%lld.%09ld:%lld.%09ld", path,
			    (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
			    (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
			    st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

char *runtime_key(const struct runtime *rt, const struct runtime_host *h)
{
	_cleanup_free_ char *path = runtime_find(rt->path), *criu = runtime_find("criu");
	struct strbuf b = STRBUF_NULL;

	strbuf_addf(&b, "%d %s", KEY_FORMAT, GANTRY_VERSION);
	put_file(&b, path);
	for (size_t i = 0; i < rt->args.n; i++)
		strbuf_addf(&b, " %s", rt->args.v[i]);
	put_file(&b, criu);
	strbuf_addf(&b, " %s %d%d%d%d%d%d%d%d%d %s", h->release, rt->systemd_cgroup, h->seccomp,
		    h->apparmor, h->selinux, h->resctrl, h->userns, h->timens, h->mount_setattr,
		    h->cgroup_v2, h->seccomp_actions);
	return strbuf_take(&b);
}

/* --- JSON --- */

void runtime_report_print(const struct runtime_report *r, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "path", str_or_empty(r->path));
	jw_key_string(&w, "version", str_or_empty(r->version));
	jw_key_string(&w, "problem", str_or_empty(r->problem));
	jw_key_string(&w, "note", str_or_empty(r->note));
	jw_key_string(&w, "key", str_or_empty(r->key));
	jw_key(&w, "capabilities");
	runtime_caps_print(&r->caps, &w);
	jw_object_end(&w);
}

int runtime_report_read(const char *text, size_t n, struct runtime_report *ret, struct err *e)
{
	_cleanup_runtime_report_ struct runtime_report got = RUNTIME_REPORT_NULL;
	_cleanup_jv_ jv *doc = NULL;
	int r = jv_parse(text, n, RUNTIME_REPORT_MAX, "a runtime's report", &doc, e);

	if (r == 0)
		r = runtime_caps_read(jv_get(doc, "capabilities"), &got.caps, e);
	if (r < 0)
		return r;
	got.path = xstrdup(jv_string(doc, "path", ""));
	got.version = xstrdup(jv_string(doc, "version", ""));
	got.problem = xstrdup(jv_string(doc, "problem", ""));
	got.note = xstrdup(jv_string(doc, "note", ""));
	got.key = xstrdup(jv_string(doc, "key", ""));
	*ret = got;
	got = RUNTIME_REPORT_NULL; /* moved */
	return 0;
}

int runtime_report_save(const char *file, const struct runtime_report *r)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	runtime_report_print(r, &b);
	return fs_write_atomic(AT_FDCWD, file, b.s, b.len, 0600, false);
}

int runtime_report_load(const char *file, const char *key, struct runtime_report *ret)
{
	_cleanup_runtime_report_ struct runtime_report got = RUNTIME_REPORT_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (fs_read(AT_FDCWD, file, RUNTIME_REPORT_MAX, &b) < 0 ||
	    runtime_report_read(str_or_empty(b.s), b.len, &got, NULL) < 0)
		return -ENOENT;
	if (!streq(got.key, key) || *got.problem)
		return -ESTALE;
	*ret = got;
	got = RUNTIME_REPORT_NULL; /* moved */
	return 0;
}
