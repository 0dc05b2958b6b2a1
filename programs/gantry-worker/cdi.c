/* SPDX-License-Identifier: Apache-2.0 */
/* CDI: see cdi.h.  SPEC.md of the Container Device Interface, 1.1.0. */
#include "cdi.h"

#include <ctype.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "base/mem.h"
#include "dropins.h"

#define NAME_MAX_CDI 253 /* of a vendor, a class, a device */
#define RESCTRL "/sys/fs/resctrl/schemata"
#define CLOS_MAX 4095 /* the name of a class of service is a file's */

/* --- what there may be --- */

static const struct field spec_fields[] = {
	{"cdiVersion", FIELD_STRING, true},	 {"kind", FIELD_STRING, true},
	{"annotations", FIELD_WORDS, false},	 {"devices", FIELD_OBJECTS, true},
	{"containerEdits", FIELD_OBJECT, false},
};
static const struct field device_fields[] = {
	{"name", FIELD_NAME, true},
	{"annotations", FIELD_WORDS, false},
	{"containerEdits", FIELD_OBJECT, true},
};
static const struct field edit_fields[] = {
	{"env", FIELD_STRINGS, false},
	{"deviceNodes", FIELD_OBJECTS, false},
	{"mounts", FIELD_OBJECTS, false},
	{"hooks", FIELD_OBJECTS, false},
	{"additionalGids", FIELD_NUMBERS, false},
	{"additionalGIDs", FIELD_NUMBERS, false},
	{"intelRdt", FIELD_OBJECT, false},
	{"netDevices", FIELD_OBJECTS, false},
};
static const struct field node_fields[] = {
	{"path", FIELD_STRING, true},	      {"hostPath", FIELD_STRING, false},
	{"type", FIELD_STRING, false},	      {"major", FIELD_NUMBER, false},
	{"minor", FIELD_NUMBER, false},	      {"fileMode", FIELD_NUMBER, false},
	{"permissions", FIELD_STRING, false}, {"uid", FIELD_NUMBER, false},
	{"gid", FIELD_NUMBER, false},
};
static const struct field mount_fields[] = {
	{"hostPath", FIELD_STRING, true},
	{"containerPath", FIELD_STRING, true},
	{"type", FIELD_STRING, false},
	{"options", FIELD_STRINGS, false},
};
static const struct field hook_fields[] = {
	{"hookName", FIELD_STRING, true}, {"path", FIELD_STRING, true},
	{"args", FIELD_NAMES, false},	  {"env", FIELD_STRINGS, false},
	{"timeout", FIELD_NUMBER, false},
};
static const struct field rdt_fields[] = {
	{"closID", FIELD_STRING, false},	 {"l3CacheSchema", FIELD_STRING, false},
	{"memBwSchema", FIELD_STRING, false},	 {"schemata", FIELD_STRINGS, false},
	{"enableMonitoring", FIELD_BOOL, false}, {"enableCMT", FIELD_BOOL, false},
	{"enableMBM", FIELD_BOOL, false},
};
static const struct field net_fields[] = {
	{"hostInterfaceName", FIELD_NAME, true},
	{"name", FIELD_NAME, true},
};
#define CHECK(v, fields, where, e) fields_check(v, fields, ARRAY_SIZE(fields), true, where, e)

static const char *const versions[] = {"0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0",
				       "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"};
enum { V030 = 2, V040, V050, V060, V070, V080, V100, V110 };

static char *text_of(const jv *v, const char *path)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	field_text(jv_get(v, path), &b);
	return b.s ? strbuf_take(&b) : xstrdup("");
}

/* --- names --- */

/* A letter (or digit) first, a letter or digit last, some signs between them. */
static bool name_good(const char *s, size_t n, bool digit_first, const char *signs)
{
	if (n == 0 || n > NAME_MAX_CDI || !isascii(*s) || !isascii(s[n - 1]))
		return false;
	if (!(digit_first ? isalnum((unsigned char)*s) : isalpha((unsigned char)*s)) ||
	    !isalnum((unsigned char)s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isascii(s[i]) || (!isalnum((unsigned char)s[i]) && !strchr(signs, s[i])))
			return false;
	return true;
}

static bool kind_good(const char *s)
{
	size_t n = strcspn(s, "/");

	return s[n] && name_good(s, n, false, "_-.") &&
	       name_good(s + n + 1, strlen(s + n + 1), false, "_-.");
}

/* --- checks --- */

static int check_env(const jv *list, const char *where, struct err *e)
{
	for (size_t i = 0; i < jv_len(list); i++) {
		const char *s = str_or_empty(jv_as_string(jv_at(list, i)));

		if (*s == '=' || !strchr(s, '='))
			return err_invalid(e, "%s: env: \"%.100s\": expected NAME=VALUE", where, s);
	}
	return 0;
}

static int check_path(const jv *v, const char *key, const char *where, struct err *e)
{
	const char *s = jv_string(v, key, "/");

	if (*s != '/' || strlen(s) >= PATH_MAX)
		return err_invalid(e, "%s: %s: \"%.100s\" is no absolute path", where, key, s);
	return 0;
}

static int check_node(const jv *v, const char *where, struct err *e)
{
	const char *type = jv_string(v, "type", ""), *p = jv_string(v, "permissions", "");
	int r = CHECK(v, node_fields, where, e);

	if (r == 0)
		r = check_path(v, "path", where, e);
	if (r == 0)
		r = check_path(v, "hostPath", where, e);
	if (r == 0 && (strlen(type) > 1 || (*type && !strchr("bcup", *type))))
		r = err_invalid(e, "%s: type: \"%.100s\", expected b, c, u or p", where, type);
	if (r == 0 && !streq(p, "none") && (strspn(p, "rwm") != strlen(p) || strlen(p) > 3))
		r = err_invalid(e, "%s: permissions: \"%.100s\", expected some of rwm, or none",
				where, p);
	return r;
}

static int check_mount(const jv *v, const char *where, struct err *e)
{
	int r = CHECK(v, mount_fields, where, e);

	if (r == 0)
		r = check_path(v, "containerPath", where, e);
	return r;
}

static int check_hook(const jv *v, const char *where, struct err *e)
{
	int r = CHECK(v, hook_fields, where, e);

	if (r == 0 && edits_stage(jv_string(v, "hookName", "")) < 0)
		r = err_invalid(e, "%s: hookName: \"%.100s\" is none", where,
				jv_string(v, "hookName", ""));
	if (r == 0)
		r = check_path(v, "path", where, e);
	if (r == 0)
		r = check_env(jv_get(v, "env"), where, e);
	if (r == 0 && jv_get(v, "timeout") && jv_int(v, "timeout", 0) <= 0)
		r = err_invalid(e, "%s: timeout: it must be greater than 0", where);
	return r;
}

static int check_rdt(const jv *v, const char *where, struct err *e)
{
	const char *id = jv_string(v, "closID", "");
	int r = CHECK(v, rdt_fields, where, e);

	if (r == 0 && !streq(id, "/") &&
	    (strlen(id) > CLOS_MAX || streq(id, ".") || streq(id, "..") || strpbrk(id, "/\n")))
		r = err_invalid(e, "%s: closID: \"%.100s\" is no name of a class of service", where,
				id);
	return r;
}

static int check_net(const jv *v, const char *where, struct err *e)
{
	return CHECK(v, net_fields, where, e);
}

/* A host's interface, and a name inside, is there once. */
static int check_nets(const jv *list, const char *where, struct err *e)
{
	static const char *const keys[] = {"hostInterfaceName", "name"};

	for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
		for (size_t i = 0; i < jv_len(list); i++)
			for (size_t j = 0; j < i; j++) {
				_cleanup_free_ char *a = text_of(jv_at(list, i), keys[k]),
						    *b = text_of(jv_at(list, j), keys[k]);

				if (streq(a, b))
					return err_invalid(e,
							   "%s: netDevices: %s: \"%.100s\" is "
							   "there twice",
							   where, keys[k], a);
			}
	return 0;
}

static int check_each(const jv *edits, const char *key,
		      int (*check)(const jv *, const char *, struct err *), const char *where,
		      struct err *e)
{
	const jv *list = jv_get(edits, key);
	_cleanup_free_ char *at = xasprintf("%s: %s", where, key);
	int r = 0;

	for (size_t i = 0; r == 0 && i < jv_len(list); i++)
		r = check(jv_at(list, i), at, e);
	return r;
}

static int check_edits(const jv *v, const char *where, struct err *e)
{
	int r = CHECK(v, edit_fields, where, e);

	if (r == 0)
		r = check_env(jv_get(v, "env"), where, e);
	if (r == 0)
		r = check_each(v, "deviceNodes", check_node, where, e);
	if (r == 0)
		r = check_each(v, "mounts", check_mount, where, e);
	if (r == 0)
		r = check_each(v, "hooks", check_hook, where, e);
	if (r == 0 && jv_get(v, "intelRdt"))
		r = check_rdt(jv_get(v, "intelRdt"), where, e);
	if (r == 0)
		r = check_each(v, "netDevices", check_net, where, e);
	if (r == 0)
		r = check_nets(jv_get(v, "netDevices"), where, e);
	return r;
}

/* The number in `versions` that these edits need at least. */
static int edits_need(const jv *v)
{
	const jv *rdt = jv_get(v, "intelRdt");
	int need = V030;

	if (jv_len(jv_get(v, "netDevices")) || jv_get(rdt, "schemata") ||
	    jv_bool(rdt, "enableMonitoring", false))
		return V110;
	if (rdt || jv_len(jv_get(v, "additionalGids")) || jv_len(jv_get(v, "additionalGIDs")))
		return V070;
	for (size_t i = 0; i < jv_len(jv_get(v, "mounts")); i++)
		if (*jv_string(jv_at(jv_get(v, "mounts"), i), "type", ""))
			need = V040;
	for (size_t i = 0; i < jv_len(jv_get(v, "deviceNodes")); i++)
		if (*jv_string(jv_at(jv_get(v, "deviceNodes"), i), "hostPath", ""))
			need = V050;
	return need;
}

static bool has_members(const jv *v)
{
	struct jv_iter it = JV_ITER_INIT;

	return jv_next(v, &it);
}

static int document_needs(const jv *doc)
{
	const jv *devices = jv_get(doc, "devices");
	int need = edits_need(jv_get(doc, "containerEdits"));
	const char *class = strchr(jv_string(doc, "kind", "/"), '/');

	if (has_members(jv_get(doc, "annotations")) || (class && strchr(class, '.')))
		need = MAX(need, V060);
	for (size_t i = 0; i < jv_len(devices); i++) {
		_cleanup_free_ char *name = text_of(jv_at(devices, i), "name");

		need = MAX(need, edits_need(jv_get(jv_at(devices, i), "containerEdits")));
		if (isdigit((unsigned char)*name))
			need = MAX(need, V050);
		if (has_members(jv_get(jv_at(devices, i), "annotations")))
			need = MAX(need, V060);
	}
	return need;
}

static int check_version(const jv *doc, const char *what, struct err *e)
{
	const char *s = jv_string(doc, "cdiVersion", "");
	int need = document_needs(doc);

	s += *s == 'v';
	for (int i = 0; i < (int)ARRAY_SIZE(versions); i++) {
		if (!streq(s, versions[i]))
			continue;
		if (i < need && need > V030)
			return err_invalid(e,
					   "%s: cdiVersion: what it has needs %s at least, not %s",
					   what, versions[need], s);
		return 0;
	}
	return err_invalid(e, "%s: cdiVersion: \"%.100s\" is not known, the newest that is: %s",
			   what, s, versions[ARRAY_SIZE(versions) - 1]);
}

static bool named_before(const jv *devices, size_t i)
{
	_cleanup_free_ char *name = text_of(jv_at(devices, i), "name");

	for (size_t j = 0; j < i; j++) {
		_cleanup_free_ char *other = text_of(jv_at(devices, j), "name");

		if (streq(name, other))
			return true;
	}
	return false;
}

static int check_device(const jv *devices, size_t i, const char *what, struct err *e)
{
	const jv *d = jv_at(devices, i);
	_cleanup_free_ char *name = text_of(d, "name"),
			    *where = xasprintf("%s: device \"%.100s\"", what, name);
	int r = CHECK(d, device_fields, where, e);

	if (r == 0 && !name_good(name, strlen(name), true, "_-.:"))
		r = err_invalid(e, "%s: it is no name", where);
	if (r == 0 && named_before(devices, i))
		r = err_invalid(e, "%s: it is there twice", where);
	if (r == 0 && !has_members(jv_get(d, "containerEdits")))
		r = err_invalid(e, "%s: containerEdits: it must not be empty", where);
	if (r == 0)
		r = check_edits(jv_get(d, "containerEdits"), where, e);
	return r;
}

int cdi_check(const jv *doc, const char *what, struct err *e)
{
	const jv *devices = jv_get(doc, "devices");
	int r = CHECK(doc, spec_fields, what, e);

	if (r == 0 && !kind_good(jv_string(doc, "kind", "")))
		r = err_invalid(e, "%s: kind: \"%.100s\", expected VENDOR/CLASS", what,
				jv_string(doc, "kind", ""));
	if (r == 0 && jv_get(doc, "containerEdits"))
		r = check_edits(jv_get(doc, "containerEdits"), what, e);
	for (size_t i = 0; r == 0 && i < jv_len(devices); i++)
		r = check_device(devices, i, what, e);
	return r < 0 ? r : check_version(doc, what, e);
}

/* --- edits --- */

static void put_number(struct jw *w, const char *key, const jv *v, const char *from)
{
	if (jv_get(v, from))
		jw_key_int(w, key, jv_int(v, from, 0));
}

/* What the file leaves open is as on the host.  A file that says type and number needs no node
 * there. */
static int apply_node(const jv *v, const char *what, struct edits *to, struct err *e)
{
	const char *path = jv_string(v, "path", ""), *host = jv_string(v, "hostPath", ""),
		   *type = jv_string(v, "type", "");
	int64_t major_number = jv_int(v, "major", 0), minor_number = jv_int(v, "minor", 0);
	bool whole = *type && (major_number || *type == 'p');
	struct jw w;
	struct stat st;
	char found[2] = "";

	if (stat(*host ? host : path, &st) == 0) {
		*found = S_ISCHR(st.st_mode) ? 'c' : S_ISBLK(st.st_mode) ? 'b' : 'p';
		if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISFIFO(st.st_mode))
			*found = '\0';
	}
	if (!whole && !*found)
		return err_set(e, -ENOENT, GRPC_NOT_FOUND,
			       "%s: deviceNodes: \"%.200s\" is no device", what,
			       *host ? host : path);
	if (!whole && *type && *type != *found && !(*type == 'u' && *found == 'c'))
		return err_set(e, -ENOENT, GRPC_NOT_FOUND,
			       "%s: deviceNodes: \"%.200s\" is of type %s, expected %s", what,
			       *host ? host : path, found, type);
	if (!whole && !major_number) {
		major_number = major(st.st_rdev);
		minor_number = minor(st.st_rdev);
	}
	w = edits_next(&to->devices);
	jw_object_begin(&w);
	jw_key_string(&w, "path", path);
	jw_key_string(&w, "type", *type == 'u' ? "c" : *type ? type : found);
	jw_key_int(&w, "major", *type == 'p' || *found == 'p' ? 0 : major_number);
	jw_key_int(&w, "minor", *type == 'p' || *found == 'p' ? 0 : minor_number);
	if (jv_get(v, "fileMode"))
		jw_key_int(&w, "fileMode", jv_int(v, "fileMode", 0) & 07777);
	else if (*found)
		jw_key_int(&w, "fileMode", st.st_mode & 07777);
	put_number(&w, "uid", v, "uid");
	put_number(&w, "gid", v, "gid");
	jw_key_string(&w, "permissions",
		      *jv_string(v, "permissions", "") ? jv_string(v, "permissions", "") : "rwm");
	jw_object_end(&w);
	return 0;
}

static bool has_option(const jv *list, const char *option)
{
	for (size_t i = 0; i < jv_len(list); i++)
		if (streq(str_or_empty(jv_as_string(jv_at(list, i))), option))
			return true;
	return false;
}

/* Without a type it is a bind mount, also where the options do not say so. */
static int apply_mount(const jv *v, const char *what, struct edits *to, struct err *e)
{
	const char *type = jv_string(v, "type", ""), *source = jv_string(v, "hostPath", "");
	const jv *options = jv_get(v, "options");
	bool said = has_option(options, "bind") || has_option(options, "rbind"),
	     bind = said || !*type || streq(type, "bind") || streq(type, "none");
	struct stat st;
	struct jw w;

	if (bind && (*source != '/' || stat(source, &st) < 0))
		return err_set(e, -ENOENT, GRPC_NOT_FOUND,
			       "%s: mounts: hostPath \"%.200s\" is not there", what, source);
	w = edits_next(&to->mounts);
	jw_object_begin(&w);
	jw_key_string(&w, "destination", jv_string(v, "containerPath", ""));
	jw_key_string(&w, "source", source);
	jw_key_string(&w, "type", bind ? "bind" : type);
	jw_key_array(&w, "options");
	if (bind && !said)
		jw_string(&w, "rbind");
	for (size_t i = 0; i < jv_len(options); i++)
		jw_string(&w, str_or_empty(jv_as_string(jv_at(options, i))));
	jw_array_end(&w);
	jw_object_end(&w);
	return 0;
}

static int apply_hook(const jv *v, const char *what, struct edits *to, struct err *e)
{
	const char *path = jv_string(v, "path", "");
	struct stat st;

	/* At startContainer it is the container's. */
	if (!streq(jv_string(v, "hookName", ""), "startContainer") &&
	    (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111)))
		return err_set(e, -ENOENT, GRPC_NOT_FOUND, "%s: hooks: \"%.200s\" is no program",
			       what, path);
	edits_add_hook(to, edits_stage(jv_string(v, "hookName", "")), v);
	return 0;
}

/* Runtimes pass over what the kernel does not have. */
static int apply_rdt(const jv *v, const char *what, struct edits *to, struct err *e)
{
	static const char *const texts[] = {"closID", "l3CacheSchema", "memBwSchema"},
				 *const flags[] = {"enableCMT", "enableMBM", "enableMonitoring"};
	struct stat st;
	struct jw w;

	if (!v)
		return 0;
	if (stat(RESCTRL, &st) < 0)
		return err_set(e, -ENOENT, GRPC_NOT_FOUND,
			       "%s: intelRdt: this node has no file system resctrl (" RESCTRL ")",
			       what);
	strbuf_reset(&to->intel_rdt);
	w = edits_next(&to->intel_rdt);
	jw_object_begin(&w);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (*jv_string(v, texts[i], ""))
			jw_key_string(&w, texts[i], jv_string(v, texts[i], ""));
	edits_put_strings(&w, "schemata", jv_get(v, "schemata"));
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (jv_bool(v, flags[i], false))
			jw_key_bool(&w, flags[i], true);
	jw_object_end(&w);
	return 0;
}

static void apply_lists(const jv *v, struct edits *to)
{
	static const char *const gids[] = {"additionalGids", "additionalGIDs"};

	for (size_t i = 0; i < jv_len(jv_get(v, "env")); i++) {
		struct jw w = edits_next(&to->env);

		jw_string(&w, str_or_empty(jv_as_string(jv_at(jv_get(v, "env"), i))));
	}
	for (size_t k = 0; k < ARRAY_SIZE(gids); k++)
		for (size_t i = 0; i < jv_len(jv_get(v, gids[k])); i++) {
			_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

			jv_print(jv_at(jv_get(v, gids[k]), i), &b);
			if (!streq(b.s, "0")) {
				struct jw w = edits_next(&to->gids);

				jw_raw(&w, b.s);
			}
		}
	for (size_t i = 0; i < jv_len(jv_get(v, "netDevices")); i++) {
		const jv *d = jv_at(jv_get(v, "netDevices"), i);
		_cleanup_free_ char *host = text_of(d, "hostInterfaceName"),
				    *name = text_of(d, "name");
		struct jw w = edits_next(&to->net_devices);

		jw_key_object(&w, host);
		jw_key_string(&w, "name", name);
		jw_object_end(&w);
	}
}

static int apply_each(const jv *edits, const char *key,
		      int (*apply)(const jv *, const char *, struct edits *, struct err *),
		      const char *what, struct edits *to, struct err *e)
{
	const jv *list = jv_get(edits, key);
	int r = 0;

	for (size_t i = 0; r == 0 && i < jv_len(list); i++)
		r = apply(jv_at(list, i), what, to, e);
	return r;
}

static const jv *find_device(const jv *doc, const char *name)
{
	const jv *devices = jv_get(doc, "devices");

	for (size_t i = 0; i < jv_len(devices); i++) {
		_cleanup_free_ char *s = text_of(jv_at(devices, i), "name");

		if (streq(s, name))
			return jv_at(devices, i);
	}
	return NULL;
}

int cdi_apply(const jv *doc, const char *device, const char *what, struct edits *to, struct err *e)
{
	const jv *v = jv_get(device ? find_device(doc, device) : doc, "containerEdits");
	int r = apply_each(v, "deviceNodes", apply_node, what, to, e);

	if (r == 0)
		r = apply_each(v, "mounts", apply_mount, what, to, e);
	if (r == 0)
		r = apply_each(v, "hooks", apply_hook, what, to, e);
	if (r < 0)
		return r;
	apply_lists(v, to);
	return apply_rdt(jv_get(v, "intelRdt"), what, to, e);
}

/* --- directories --- */

struct spec {
	const struct dropin *file;
	jv *doc;
	bool applied; /* what is for all of its devices */
};

struct specs {
	struct spec *v;
	size_t n;
	struct dropins files;
	struct strbuf broken; /* why files are of no use */
};

static void specs_fini(struct specs *s)
{
	for (size_t i = 0; i < s->n; i++)
		jv_free(s->v[i].doc);
	free(s->v);
	dropins_fini(&s->files);
	strbuf_fini(&s->broken);
}

/* A file that is of no use takes nothing from the others. */
static int load(const struct strv *dirs, struct specs *s, struct err *e)
{
	int r = dropins_find(dirs, true, &s->files, e);

	if (r < 0)
		return r;
	s->v = xcalloc(s->files.n + 1, sizeof(*s->v));
	for (size_t i = 0; i < s->files.n; i++) {
		struct spec *spec = &s->v[s->n];
		struct err why = ERR_NULL;

		spec->file = &s->files.v[i];
		if (dropins_read(&s->files, spec->file, &spec->doc, &why) == 0) {
			s->n++;
			if (cdi_check(spec->doc, spec->file->path, &why) == 0)
				continue;
			jv_free(spec->doc);
			*spec = (struct spec){0};
			s->n--;
		}
		log_warn("CDI: %s", why.msg);
		strbuf_addf(&s->broken, "; %s", why.msg);
	}
	return 0;
}

static int find(struct specs *s, const char *device, struct spec **ret, struct err *e)
{
	const char *name = strchr(device, '=');
	_cleanup_free_ char *kind = name ? xstrndup(device, (size_t)(name - device)) : xstrdup("");
	struct spec *found = NULL, *other = NULL;

	for (size_t i = 0; name && i < s->n; i++) {
		if (!streq(jv_string(s->v[i].doc, "kind", ""), kind) ||
		    !find_device(s->v[i].doc, name + 1))
			continue;
		other = found && found->file->dir == s->v[i].file->dir ? found : NULL;
		found = &s->v[i];
	}
	if (other)
		return err_precondition(e, "CDI device \"%s\" is described twice, in %s and %s",
					device, other->file->path, found->file->path);
	if (!found)
		return err_set(e, -ENOENT, GRPC_NOT_FOUND,
			       "no file describes the CDI device \"%s\"%.400s", device,
			       str_or_empty(s->broken.s));
	*ret = found;
	return 0;
}

static int inject(struct specs *s, const char *device, struct edits *to, struct err *e)
{
	struct spec *spec = NULL;
	int r = find(s, device, &spec, e);

	if (r == 0 && !spec->applied)
		r = cdi_apply(spec->doc, NULL, spec->file->path, to, e);
	if (r < 0)
		return r;
	spec->applied = true;
	return cdi_apply(spec->doc, strchr(device, '=') + 1, spec->file->path, to, e);
}

int cdi_collect(const struct strv *dirs, const struct strv *devices, struct edits *to,
		struct err *e)
{
	struct specs s = {0};
	int r = load(dirs, &s, e);

	for (size_t i = 0; r == 0 && i < devices->n; i++)
		r = inject(&s, devices->v[i], to, e);
	specs_fini(&s);
	return r;
}
