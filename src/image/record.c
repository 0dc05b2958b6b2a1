/* SPDX-License-Identifier: Apache-2.0 */
/* Records of images: see record.h. */
#include "image/record.h"

#include "base/id.h"
#include "base/mem.h"
#include "wire/json.h"

static void print_vector(struct jw *w, const char *key, const struct strv *v)
{
	jw_key_array(w, key);
	for (size_t i = 0; i < v->n; i++)
		jw_string(w, v->v[i]);
	jw_array_end(w);
}

void image_record_print(const struct image_record *r, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "id", r->id);
	print_vector(&w, "tags", &r->tags);
	print_vector(&w, "digests", &r->digests);
	print_vector(&w, "layers", &r->layers);
	jw_key_uint(&w, "size", r->size);
	jw_key_int(&w, "pulledAt", r->pulled_at);
	jw_key_int(&w, "taggedAt", r->tagged_at);
	if (!str_empty(r->artifact))
		jw_key_string(&w, "artifact", r->artifact);
	if (!str_empty(r->checkpoint))
		jw_key_string(&w, "checkpoint", r->checkpoint);
	if (!str_empty(r->damaged))
		jw_key_string(&w, "damaged", r->damaged);
	jw_key_object(&w, "config");
	print_vector(&w, "entrypoint", &r->config.entrypoint);
	print_vector(&w, "cmd", &r->config.cmd);
	print_vector(&w, "env", &r->config.env);
	print_vector(&w, "volumes", &r->config.volumes);
	jw_key_string(&w, "user", str_or_empty(r->config.user));
	jw_key_string(&w, "workingDir", str_or_empty(r->config.working_dir));
	jw_key_string(&w, "stopSignal", str_or_empty(r->config.stop_signal));
	jw_key_string(&w, "passwd", str_or_empty(r->config.passwd));
	jw_key_string(&w, "group", str_or_empty(r->config.group));
	jw_object_end(&w);
	jw_object_end(&w);
}

static int read_vector(const jv *doc, const char *path, size_t max, struct strv *to, struct err *e)
{
	const jv *a = jv_get(doc, path);

	if (jv_len(a) > max)
		return err_invalid(e, "image record: %zu %s, at most %zu are possible", jv_len(a),
				   path, max);
	for (size_t i = 0; i < jv_len(a); i++) {
		const char *s = jv_as_string(jv_at(a, i));

		if (!s)
			return err_invalid(e, "image record: %s: no string", path);
		strv_add(to, s);
	}
	return 0;
}

static bool layer_name_valid(const char *s)
{
	return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

int image_record_parse(const char *json, size_t n, struct image_record *ret, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	struct image_record r = {0};
	static const struct {
		const char *path;
		size_t offset, max;
	} vectors[] = {
		{"tags", offsetof(struct image_record, tags), IMAGE_NAMES_MAX},
		{"digests", offsetof(struct image_record, digests), IMAGE_NAMES_MAX},
		{"layers", offsetof(struct image_record, layers), IMAGE_LAYERS_MAX},
		{"config.entrypoint", offsetof(struct image_record, config.entrypoint), 65536},
		{"config.cmd", offsetof(struct image_record, config.cmd), 65536},
		{"config.env", offsetof(struct image_record, config.env), 65536},
		{"config.volumes", offsetof(struct image_record, config.volumes), 65536},
	};
	int res = jv_parse(json, n, IMAGE_RECORD_MAX, "image record", &doc, e);

	if (res < 0)
		return res;
	r.id = xstrdup(jv_string(doc, "id", ""));
	r.size = (uint64_t)jv_int(doc, "size", 0);
	r.pulled_at = jv_int(doc, "pulledAt", 0);
	r.tagged_at = jv_int(doc, "taggedAt", r.pulled_at);
	r.artifact = xstrdup(jv_string(doc, "artifact", ""));
	r.checkpoint = xstrdup(jv_string(doc, "checkpoint", ""));
	r.damaged = xstrdup(jv_string(doc, "damaged", ""));
	r.config.user = xstrdup(jv_string(doc, "config.user", ""));
	r.config.working_dir = xstrdup(jv_string(doc, "config.workingDir", ""));
	r.config.stop_signal = xstrdup(jv_string(doc, "config.stopSignal", ""));
	r.config.passwd = xstrdup(jv_string(doc, "config.passwd", ""));
	r.config.group = xstrdup(jv_string(doc, "config.group", ""));
	if (!id_valid(r.id))
		res = err_invalid(e, "image record: id \"%s\"", r.id);
	for (size_t i = 0; res == 0 && i < ARRAY_SIZE(vectors); i++)
		res = read_vector(doc, vectors[i].path, vectors[i].max,
				  (void *)((char *)&r + vectors[i].offset), e);
	for (size_t i = 0; res == 0 && i < r.layers.n; i++)
		if (!layer_name_valid(r.layers.v[i]))
			res = err_invalid(e, "image record: layer \"%s\"", r.layers.v[i]);
	if (res < 0)
		image_record_fini(&r);
	else
		*ret = r;
	return res;
}

void image_record_fini(struct image_record *r)
{
	free(r->id);
	free(r->artifact);
	free(r->checkpoint);
	free(r->damaged);
	strv_fini(&r->tags);
	strv_fini(&r->digests);
	strv_fini(&r->layers);
	strv_fini(&r->config.entrypoint);
	strv_fini(&r->config.cmd);
	strv_fini(&r->config.env);
	strv_fini(&r->config.volumes);
	free(r->config.user);
	free(r->config.working_dir);
	free(r->config.stop_signal);
	free(r->config.passwd);
	free(r->config.group);
	*r = (struct image_record){0};
}
