/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <cache>/POD.json: the configuration, arguments and result of a pod's ADD.  Written before
 * the first plugin runs, so that whoever comes after a kill knows what to undo; on a disk that
 * a reboot does not empty, so that what plugins keep on theirs is given back after one.
 */
#include <dirent.h>
#include <fcntl.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "network/cni_internal.h"

#define RECORD_MAX (8u << 20)

static char *record_path(const struct network_config *c, const char *pod_id)
{
	return xasprintf("%s/%s.json", c->cache, pod_id);
}

int cni_record_write(const struct network_config *c, const struct cni_pod *p,
		     const struct cni_list *l, const char *capabilities, const char *result,
		     struct err *e)
{
	_cleanup_free_ char *path = record_path(c, p->id);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, conf = STRBUF_NULL;
	struct jw w = JW_INIT(&b);
	int r;

	cni_list_print(l, &conf);
	jw_object_begin(&w);
	jw_key_string(&w, "name", p->name);
	jw_key_string(&w, "namespace", p->namespace_);
	jw_key_string(&w, "uid", p->uid);
	jw_key_string(&w, "netns", p->netns);
	jw_key(&w, "config");
	jw_raw(&w, conf.s);
	jw_key(&w, "capabilities");
	jw_raw(&w, capabilities);
	jw_key(&w, "result");
	jw_raw(&w, str_empty(result) ? "null" : result);
	jw_object_end(&w);
	r = fs_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, false);
	if (r == -ENOENT && fs_mkdir_p(AT_FDCWD, c->cache, 0700) == 0)
		r = fs_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

int cni_record_read(const struct network_config *c, const char *pod_id, struct cni_record *ret,
		    struct err *e)
{
	_cleanup_free_ char *path = record_path(c, pod_id);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, conf = STRBUF_NULL;
	struct cni_record rec = {.pod = {.id = pod_id, .cancel_fd = -1}};
	int r = fs_read(AT_FDCWD, path, RECORD_MAX, &b);

	if (r < 0 && r != -EFBIG)
		return err_errno(e, r, "read %s", path);
	if (r < 0 || jv_parse(str_or_empty(b.s), b.len, RECORD_MAX, path, &rec.doc, e) < 0)
		return -EBADMSG;
	if (jv_is_object(jv_get(rec.doc, "config")))
		jv_print(jv_get(rec.doc, "config"), &conf);
	if (cni_list_parse(str_or_empty(conf.s), conf.len, path, &rec.list, e) < 0 ||
	    !rec.list.n_plugins) {
		cni_record_fini(&rec);
		return -EBADMSG;
	}
	if (jv_is_object(jv_get(rec.doc, "result")))
		jv_print(jv_get(rec.doc, "result"), &rec.result);
	rec.pod.name = jv_string(rec.doc, "name", NULL);
	rec.pod.namespace_ = jv_string(rec.doc, "namespace", NULL);
	rec.pod.uid = jv_string(rec.doc, "uid", NULL);
	rec.pod.netns = jv_string(rec.doc, "netns", "");
	rec.capabilities = jv_get(rec.doc, "capabilities");
	*ret = rec;
	return 0;
}

void cni_record_fini(struct cni_record *r)
{
	cni_list_fini(&r->list);
	strbuf_fini(&r->result);
	if (r->doc)
		jv_free(r->doc);
	*r = (struct cni_record){0};
}

int cni_record_remove(const struct network_config *c, const char *pod_id, struct err *e)
{
	_cleanup_free_ char *path = record_path(c, pod_id);

	return unlink(path) < 0 && errno != ENOENT ? err_errno(e, -errno, "remove %s", path) : 0;
}

int cni_record_list(const struct network_config *c, struct strv *ret, struct err *e)
{
	DIR *d = opendir(c->cache);

	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", c->cache);
	for (struct dirent *f; (f = readdir(d));) {
		_cleanup_free_ char *id = xstrdup(f->d_name);
		char *dot = strchr(id, '.');

		if (!dot)
			continue;
		*dot = '\0';
		if (!id_valid(id))
			continue;
		if (streq(f->d_name + (dot - id), ".json"))
			strv_add(ret, id);
		else if (!network_pod_is_live(c, id)) /* half-written by one that was killed */
			unlinkat(dirfd(d), f->d_name, 0);
	}
	closedir(d);
	return 0;
}
