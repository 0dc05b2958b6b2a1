/* SPDX-License-Identifier: Apache-2.0 */
/* See record.h. */
#include "record.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "wire/json.h"

#define ARGS_MAX 256  /* of a runtime */
#define STAT_MAX 4096 /* bytes of /proc/PID/stat */
#define PUT_ROUNDS 16 /* of replacing a record while others do so too */

void record_fini(struct record *r)
{
	free(r->runtime);
	free(r->path);
	free(r->isolation);
	free(r->why);
	strv_fini(&r->args);
	*r = RECORD_NULL;
}

int record_check_id(const char *id, struct err *e)
{
	size_t n = strlen(id);

	if (!n || n > NAME_MAX - strlen(RECORD_PREFIX) || strchr(id, '/') || streq(id, ".") ||
	    streq(id, "..") || str_has_prefix(id, RECORD_PREFIX))
		return err_invalid(e, "\"%.100s\" is no id of a container", id);
	return 0;
}

static char *record_path(const char *root, const char *id)
{
	return xasprintf("%s/" RECORD_PREFIX "%s", root, id);
}

int record_parse(const char *text, size_t n, struct record *ret, struct err *e)
{
	_cleanup_record_ struct record r = RECORD_NULL;
	_cleanup_jv_ jv *v = NULL;
	int res = jv_parse(text, n, RECORD_MAX, "record", &v, e);
	const jv *args = jv_get(v, "args");

	if (res < 0)
		return res;
	r.runtime = xstrdup(jv_string(v, "runtime", ""));
	r.path = xstrdup(jv_string(v, "path", ""));
	r.isolation = xstrdup(jv_string(v, "isolation", ""));
	r.why = xstrdup(jv_string(v, "why", ""));
	r.pod_unit = jv_bool(v, "podUnit", false);
	r.pid = jv_int(v, "pid", 0);
	r.started = (uint64_t)jv_int(v, "started", 0);
	if (*r.path != '/' || jv_len(args) > ARGS_MAX)
		return err_invalid(e, "record: no runtime");
	for (size_t i = 0; i < jv_len(args); i++) {
		const char *s = jv_as_string(jv_at(args, i));

		if (!s)
			return err_invalid(e, "record: an argument is no string");
		strv_add(&r.args, s);
	}
	*ret = r;
	r = RECORD_NULL;
	return 0;
}

int record_read(const char *root, const char *id, struct record *ret, struct err *e)
{
	_cleanup_free_ char *path = record_path(root, id);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, RECORD_MAX, &b);

	if (r == -ENOENT)
		return err_not_found(e, "container \"%s\" is not known in %s", id, root);
	if (r < 0)
		return err_errno(e, r, "read %s", path);
	r = record_parse(str_or_empty(b.s), b.len, ret, e);
	return r < 0 ? err_not_found(e, "%s is no record", path) : 0;
}

/* The 22nd field of /proc/PID/stat, proc(5); 0: there is no such process. */
static uint64_t start_of(int64_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%lld/stat", (long long)pid);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char *s, *save = NULL;
	uint64_t v = 0;

	if (fs_read(AT_FDCWD, path, STAT_MAX, &b) < 0 || !b.s)
		return 0;
	s = strrchr(b.s, ')'); /* a program's name may hold anything */
	if (!s)
		return 0;
	s = strtok_r(s + 1, " ", &save);
	for (int field = 3; s && field < 22; field++)
		s = strtok_r(NULL, " ", &save);
	return s && str_to_u64(s, &v) ? v : 0;
}

bool record_maker_runs(const struct record *r)
{
	return r->pid > 0 && r->started && start_of(r->pid) == r->started;
}

static void print(const struct record *rec, struct strbuf *b)
{
	struct jw w = JW_INIT(b);

	jw_object_begin(&w);
	jw_key_string(&w, "runtime", rec->runtime);
	jw_key_string(&w, "path", rec->path);
	jw_key_array(&w, "args");
	for (size_t i = 0; i < rec->args.n; i++)
		jw_string(&w, rec->args.v[i]);
	jw_array_end(&w);
	jw_key_bool(&w, "podUnit", rec->pod_unit);
	jw_key_string(&w, "isolation", str_or_empty(rec->isolation));
	jw_key_string(&w, "why", str_or_empty(rec->why));
	jw_key_int(&w, "pid", getpid());
	jw_key_uint(&w, "started", start_of(getpid()));
	jw_object_end(&w);
	strbuf_addc(b, '\n');
}

/*
 * A file without a name that is given one when it is whole: nothing is left of it where this process
 * is killed.  -EOPNOTSUPP on file systems that have none.
 */
static int put(const char *root, const char *path, const struct strbuf *b)
{
	_cleanup_close_ int fd = open(root, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	_cleanup_free_ char *self = NULL;
	int r;

	if (fd < 0)
		return errno == EISDIR ? -EOPNOTSUPP : -errno;
	r = fs_write_all(fd, b->s, b->len);
	if (r < 0)
		return r;
	FAULT_POINT("oci.record.written");
	self = xasprintf("/proc/self/fd/%d", fd);
	for (int i = 0; i < PUT_ROUNDS; i++) {
		if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
		(void)unlink(path); /* of a container that is gone */
	}
	return -EEXIST;
}

int record_write(const char *root, const char *id, const struct record *rec, struct err *e)
{
	_cleanup_free_ char *path = record_path(root, id);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r;

	print(rec, &b);
	r = put(root, path, &b);
	if (r == -ENOENT && fs_mkdir_p(AT_FDCWD, root, 0700) == 0)
		r = put(root, path, &b);
	if (r == -EOPNOTSUPP)
		r = fs_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

void record_remove(const char *root, const char *id, const struct record *was)
{
	_cleanup_free_ char *path = record_path(root, id);
	_cleanup_record_ struct record now = RECORD_NULL;

	if (was && record_read(root, id, &now, NULL) == 0 &&
	    (now.pid != was->pid || now.started != was->started))
		return; /* somebody has made another container of that id meanwhile */
	(void)unlink(path);
}

void record_list(const char *root, struct strv *ret)
{
	DIR *d = opendir(root);
	const struct dirent *ent;

	while (d && (ent = readdir(d))) {
		const char *id = ent->d_name + strlen(RECORD_PREFIX);

		if (str_has_prefix(ent->d_name, RECORD_PREFIX) && *id)
			strv_add(ret, id);
	}
	if (d)
		closedir(d);
}
