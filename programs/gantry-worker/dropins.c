/* SPDX-License-Identifier: Apache-2.0 */
/* Files dropped into directories: see dropins.h. */
#include "dropins.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "yaml_json.h"

/* --- directories --- */

static bool is_wanted(const char *name, bool yaml)
{
	return *name != '.' &&
	       (str_has_suffix(name, ".json") || (yaml && str_has_suffix(name, ".yaml")));
}

static int add(struct dropins *d, const char *dir, const char *name, size_t number, struct err *e)
{
	struct dropin *f;

	if (d->n >= DROPINS_FILES_MAX)
		return err_set(e, -E2BIG, GRPC_RESOURCE_EXHAUSTED,
			       "%s: there are more than %d files", dir, DROPINS_FILES_MAX);
	d->v = xrealloc(d->v, (d->n + 1) * sizeof(*d->v));
	f = &d->v[d->n++];
	*f = (struct dropin){.path = xasprintf("%s/%s", dir, name), .dir = number};
	f->name = f->path + strlen(dir) + 1;
	return 0;
}

static int find_in(struct dropins *d, const char *dir, size_t number, bool yaml, struct err *e)
{
	DIR *open = opendir(dir);
	struct dirent *de;
	int r = 0;

	if (!open)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", dir);
	while (r == 0 && (de = readdir(open)))
		if (is_wanted(de->d_name, yaml))
			r = add(d, dir, de->d_name, number, e);
	closedir(open);
	return r;
}

static int compare(const void *a, const void *b)
{
	const struct dropin *x = a, *y = b;

	return x->dir != y->dir ? (x->dir > y->dir) - (x->dir < y->dir) : strcmp(x->name, y->name);
}

int dropins_find(const struct strv *dirs, bool yaml, struct dropins *ret, struct err *e)
{
	struct dropins d = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < dirs->n; i++)
		r = find_in(&d, dirs->v[i], i, yaml, e);
	if (r < 0) {
		dropins_fini(&d);
		return r;
	}
	if (d.n)
		qsort(d.v, d.n, sizeof(*d.v), compare);
	*ret = d;
	return 0;
}

void dropins_fini(struct dropins *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].path);
	free(d->v);
	*d = (struct dropins){0};
}

/* --- files --- */

int dropins_parse(const char *text, size_t n, const char *path, jv **ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf json = STRBUF_NULL;
	jv *doc;
	int r = 0;

	if (n > DROPINS_FILE_MAX)
		return err_invalid(e, "%s: it has more than %u bytes", path, DROPINS_FILE_MAX);
	if (str_has_suffix(path, ".yaml")) {
		r = yaml_to_json(text, n, path, &json, e);
		text = str_or_empty(json.s);
		n = json.len;
	}
	/* As JSON it may be longer than it was: control characters are written out. */
	if (r == 0)
		r = jv_parse(text, n, 8 * (size_t)DROPINS_FILE_MAX, path, &doc, e);
	if (r < 0)
		return r;
	if (!jv_is_object(doc)) {
		jv_free(doc);
		return err_invalid(e, "%s: it is no object", path);
	}
	*ret = doc;
	return 0;
}

/* Not one that would have to be waited for. */
static int open_file(const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "read %s", path);
	if (!S_ISREG(st.st_mode))
		return err_invalid(e, "%s: it is no file", path);
	return TAKE_FD(fd);
}

int dropins_read(struct dropins *d, const struct dropin *f, jv **ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	_cleanup_close_ int fd = open_file(f->path, e);
	int r;

	if (fd < 0)
		return fd;
	r = fs_read_fd(fd, DROPINS_FILE_MAX, &text);
	if (r < 0)
		return err_errno(e, r, "read %s", f->path);
	d->bytes += text.len;
	if (d->bytes > DROPINS_BYTES_MAX)
		return err_set(e, -E2BIG, GRPC_RESOURCE_EXHAUSTED,
			       "%s: the files that are read together have more than %u bytes",
			       f->path, DROPINS_BYTES_MAX);
	return dropins_parse(str_or_empty(text.s), text.len, f->path, ret, e);
}

/* --- fields --- */

static bool number_of(const jv *v, uint64_t *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (!v || jv_is_string(v) || jv_is_object(v) || jv_is_array(v))
		return false;
	jv_print(v, &b);
	return str_to_u64(str_or_empty(b.s), ret);
}

bool field_text(const jv *v, struct strbuf *to)
{
	const char *s = jv_as_string(v);
	uint64_t n;

	if (s)
		strbuf_adds(to, s);
	else if (number_of(v, &n))
		strbuf_addf(to, "%llu", (unsigned long long)n);
	return s || number_of(v, &n);
}

static bool is_kind(const jv *v, enum field_kind kind)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	uint64_t n;

	switch (kind) {
	case FIELD_STRING:
	case FIELD_STRINGS:
		return jv_as_string(v) != NULL;
	case FIELD_NAME:
	case FIELD_NAMES:
	case FIELD_WORDS:
		return field_text(v, &b);
	case FIELD_NUMBER:
	case FIELD_NUMBERS:
		return number_of(v, &n) && n <= FIELD_NUMBER_MAX;
	case FIELD_BOOL:
		jv_print(v, &b);
		return !jv_is_string(v) && (streq(b.s, "true") || streq(b.s, "false"));
	default:
		return jv_is_object(v);
	}
}

static bool is_words(const jv *v)
{
	struct jv_iter it = JV_ITER_INIT;

	if (!jv_is_object(v))
		return false;
	while (jv_next(v, &it))
		if (!is_kind(it.value, FIELD_WORDS))
			return false;
	return true;
}

static bool is_list(const jv *v, enum field_kind kind)
{
	if (!jv_is_array(v) || jv_len(v) > FIELD_LIST_MAX)
		return false;
	for (size_t i = 0; i < jv_len(v); i++)
		if (!is_kind(jv_at(v, i), kind))
			return false;
	return true;
}

static int check_field(const jv *v, const struct field *f, const char *where, struct err *e)
{
	static const char *const names[] = {
		[FIELD_STRING] = "a text",	[FIELD_STRINGS] = "a list of texts",
		[FIELD_NAME] = "a text",	[FIELD_NAMES] = "a list of texts",
		[FIELD_NUMBER] = "a number",	[FIELD_NUMBERS] = "a list of numbers",
		[FIELD_BOOL] = "true or false", [FIELD_WORDS] = "an object of texts",
		[FIELD_OBJECT] = "an object",	[FIELD_OBJECTS] = "a list of objects",
	};
	bool list = f->kind == FIELD_STRINGS || f->kind == FIELD_NAMES ||
		    f->kind == FIELD_NUMBERS || f->kind == FIELD_OBJECTS;
	bool good = list		     ? is_list(v, f->kind)
		    : f->kind == FIELD_WORDS ? is_words(v)
					     : is_kind(v, f->kind);

	if (!good)
		return err_invalid(e, "%s: %s: expected %s", where, f->name, names[f->kind]);
	if (f->required && (list ? !jv_len(v) : jv_is_string(v) && !*jv_as_string(v)))
		return err_invalid(e, "%s: %s: it must not be empty", where, f->name);
	return 0;
}

static const struct field *find_field(const struct field *fields, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(fields[i].name, name))
			return &fields[i];
	return NULL;
}

int fields_check(const jv *v, const struct field *fields, size_t n, bool strict, const char *where,
		 struct err *e)
{
	struct jv_iter it = JV_ITER_INIT;
	int r = 0;

	while (r == 0 && jv_next(v, &it)) {
		const struct field *f = find_field(fields, n, it.key);

		if (!f && strict)
			return err_invalid(e, "%s: %.100s: it is not known", where, it.key);
		if (f && it.value)
			r = check_field(it.value, f, where, e);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		if (fields[i].required && !jv_get(v, fields[i].name))
			r = err_invalid(e, "%s: %s: it must be given", where, fields[i].name);
	return r;
}
