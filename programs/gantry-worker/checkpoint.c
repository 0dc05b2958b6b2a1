/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of checkpoints: see checkpoint.h. */
#include "checkpoint.h"

#include <stdint.h>

#include "base/mem.h"
#include "wire/json.h"

#define TEXT_MAX 4096 /* bytes of a name, a reference or a path */

/* CRIU's images begin with two numbers in this machine's order of bytes (the inventory, which says so,
 * with its own alone), then comes the length of the first message. */
#define MAGIC_COMMON 0x54564319u
#define MAGIC_INVENTORY 0x58313116u
#define MAGIC_CORE 0x55053847u
#define CORE_MTYPE 0x08 /* protobuf: field 1, varint */

/* --- config.dump, spec.dump --- */

static int parse(const char *text, size_t n, const char *what, jv **ret, struct err *e)
{
	int r = jv_parse(text, n, CHECKPOINT_DOCUMENT_MAX, what, ret, e);

	if (r == 0 && !jv_is_object(*ret)) {
		jv_free(*ret);
		*ret = NULL;
		r = err_invalid(e, "%s: it is no JSON object", what);
	}
	return r;
}

static bool is_hex_id(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* What stands for one content is worth more than a name, which another image may have by now. */
static void print_images(const jv *config, bool exact, struct jw *w)
{
	static const char *const fields[] = {"rootfsImageRef", "rootfsImage", "rootfsImageName"};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const char *s = jv_string(config, fields[i], "");

		if (*s && strlen(s) <= TEXT_MAX && (is_hex_id(s) || strstr(s, "sha256:")) == exact)
			jw_string(w, s);
	}
}

static void print_config(const jv *config, struct jw *w)
{
	const char *name = jv_string(config, "name", "");

	jw_key_string(w, "name", strlen(name) <= TEXT_MAX ? name : "");
	jw_key_array(w, "images");
	print_images(config, true, w);
	jw_array_end(w);
	jw_key_array(w, "names");
	print_images(config, false, w);
	jw_array_end(w);
}

static bool has_namespace(const jv *spec, const char *type, bool *ret_joined)
{
	const jv *list = jv_get(spec, "linux.namespaces");

	for (size_t i = 0; i < jv_len(list); i++)
		if (streq(jv_string(jv_at(list, i), "type", ""), type)) {
			*ret_joined = *jv_string(jv_at(list, i), "path", "");
			return true;
		}
	return false;
}

static bool is_bind(const jv *mount)
{
	const jv *options = jv_get(mount, "options");

	for (size_t i = 0; i < jv_len(options); i++) {
		const char *s = str_or_empty(jv_as_string(jv_at(options, i)));

		if (streq(s, "bind") || streq(s, "rbind"))
			return true;
	}
	return streq(jv_string(mount, "type", ""), "bind");
}

static int print_binds(const jv *spec, struct jw *w, struct err *e)
{
	const jv *mounts = jv_get(spec, "mounts");
	size_t bytes = 0;

	if (jv_len(mounts) > CHECKPOINT_MOUNTS_MAX)
		return err_invalid(e, "spec.dump: %zu mounts, at most %d are possible",
				   jv_len(mounts), CHECKPOINT_MOUNTS_MAX);
	jw_key_array(w, "binds");
	for (size_t i = 0; i < jv_len(mounts); i++) {
		const char *to = jv_string(jv_at(mounts, i), "destination", "");

		if (*to != '/' || strlen(to) > TEXT_MAX)
			return err_invalid(
				e, "spec.dump: mounts: \"%.100s\" is no path to mount on", to);
		if (!is_bind(jv_at(mounts, i)))
			continue;
		bytes += strlen(to);
		if (bytes > CHECKPOINT_BINDS_BYTES)
			return err_invalid(e,
					   "spec.dump: the paths of its mounts have more than %u "
					   "bytes together",
					   CHECKPOINT_BINDS_BYTES);
		jw_string(w, to);
	}
	jw_array_end(w);
	return 0;
}

int checkpoint_describe(const char *config, size_t n_config, const char *spec, size_t n_spec,
			struct strbuf *to, struct err *e)
{
	_cleanup_jv_ jv *c = NULL, *s = NULL;
	struct jw w = JW_INIT(to);
	bool joined = false;
	int r = parse(config, n_config, "config.dump", &c, e);

	if (r == 0)
		r = parse(spec, n_spec, "spec.dump", &s, e);
	if (r < 0)
		return r;
	jw_object_begin(&w);
	print_config(c, &w);
	jw_key_bool(&w, "terminal", jv_bool(s, "process.terminal", false));
	jw_key_bool(&w, "ownPids", has_namespace(s, "pid", &joined) && !joined);
	jw_key_bool(&w, "userns", has_namespace(s, "user", &joined));
	r = print_binds(s, &w, e);
	jw_object_end(&w);
	return r;
}

/* --- deleted.files --- */

int checkpoint_deleted(const char *text, size_t n, struct strv *to, struct err *e)
{
	_cleanup_jv_ jv *list = NULL;
	int r = jv_parse(text, n, CHECKPOINT_DOCUMENT_MAX, "deleted.files", &list, e);

	if (r < 0 || !list)
		return r;
	if (!jv_is_array(list) || jv_len(list) > CHECKPOINT_DELETED_MAX)
		return err_invalid(e, "deleted.files: it is no list of at most %d names",
				   CHECKPOINT_DELETED_MAX);
	for (size_t i = 0; i < jv_len(list); i++) {
		const char *s = str_or_empty(jv_as_string(jv_at(list, i)));
		_cleanup_free_ char *name = NULL;
		size_t len;

		s += strspn(s, "/");
		len = strlen(s);
		while (len && s[len - 1] == '/')
			len--;
		if (!len || len > TEXT_MAX)
			return err_invalid(e, "deleted.files: \"%.100s\" is no name of a file", s);
		name = xstrndup(s, len);
		strv_take(to, TAKE_PTR(name));
	}
	return 0;
}

/* --- images --- */

static bool begins_with(const void *p, size_t n, uint32_t magic)
{
	uint32_t head[2];

	if (n < sizeof(head))
		return false;
	memcpy(head, p, sizeof(head));
	return head[0] == MAGIC_COMMON && head[1] == magic;
}

int checkpoint_check_inventory(const void *p, size_t n, struct err *e)
{
	uint32_t magic = 0;

	if (n >= sizeof(magic))
		memcpy(&magic, p, sizeof(magic));
	return magic == MAGIC_INVENTORY
		       ? 0
		       : err_invalid(e, "checkpoint/inventory.img is no image of CRIU's");
}

/* enum march of core.proto, as GOARCH has it. */
static const char *arch_name(unsigned char mtype)
{
	static const char *const names[] = {
		NULL, "amd64", "arm", "arm64", "ppc64le", "s390x", "mips64le", "loong64", "riscv64",
	};

	return mtype < ARRAY_SIZE(names) ? names[mtype] : NULL;
}

int checkpoint_check_core(const void *p, size_t n, const char *host_arch, struct err *e)
{
	const unsigned char *b = (const unsigned char *)p + 2 * sizeof(uint32_t);
	const char *arch;

	/* After the magic: the length of the message, and its first field. */
	if (!begins_with(p, n, MAGIC_CORE) || n < 14 || b[4] != CORE_MTYPE)
		return err_invalid(
			e, "its images of processes (checkpoint/core-*.img) are none of CRIU's");
	arch = arch_name(b[5]);
	if (!arch || !streq(arch, host_arch))
		return err_precondition(e,
					"it was made on a machine of another architecture (%s), "
					"this one is %s",
					arch ? arch : "unknown", host_arch);
	return 0;
}
