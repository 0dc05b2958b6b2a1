/* SPDX-License-Identifier: Apache-2.0 */
/* What all runtimes say together: `list`, `features`. */
#include "base/map.h"
#include "base/mem.h"
#include "oci.h"
#include "wire/json.h"

#define RUNTIMES_MAX (CONFIG_RUNTIMES_MAX + 64) /* and such that only records know of */
#define FEATURES_DEPTH 16			/* of the documents that are joined */

/* --- list --- */

struct listed {
	const char *id;
	int64_t pid;
	const char *status, *bundle, *rootfs, *created, *owner, *runtime;
	struct listed *next;
};

struct list {
	struct oci *o;
	struct map seen; /* of ids */
	struct listed *first, **end;
};

static const char *copy(struct list *l, const jv *v, const char *key, const char *otherwise)
{
	return arena_strdup(&l->o->arena, jv_string(v, key, otherwise));
}

/* What `list` of a runtime says of a container, or `state`. */
static void add_container(struct list *l, const struct program *p, const jv *v)
{
	const char *id = jv_string(v, "id", NULL);
	struct listed *c;

	if (!id || map_get(&l->seen, id))
		return;
	c = arena_calloc(&l->o->arena, 1, sizeof(*c));
	*c = (struct listed){.id = arena_strdup(&l->o->arena, id),
			     .pid = jv_int(v, "pid", 0),
			     .status = copy(l, v, "status", "unknown"),
			     .bundle = copy(l, v, "bundle", ""),
			     .rootfs = copy(l, v, "rootfs", ""),
			     .created = copy(l, v, "created", ""),
			     .owner = copy(l, v, "owner", ""),
			     .runtime = p->name};
	map_put(&l->seen, c->id, c);
	*l->end = c;
	l->end = &c->next;
}

/* False: it has no list in JSON. */
static bool ask_list(struct list *l, const struct program *p)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;

	if (program_ask(l->o, p, (const char *const[]){"list", "--format", "json", NULL}, &b) !=
		    0 ||
	    jv_parse(str_or_empty(b.s), b.len, ASK_OUTPUT_MAX, p->name, &v, NULL) < 0)
		return false;
	for (size_t i = 0; i < jv_len(v); i++)
		add_container(l, p, jv_at(v, i));
	return true;
}

static void ask_state(struct list *l, const struct program *p, const char *id)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;

	if (program_ask(l->o, p, (const char *const[]){"state", id, NULL}, &b) == 0 &&
	    jv_parse(str_or_empty(b.s), b.len, ASK_OUTPUT_MAX, p->name, &v, NULL) == 0)
		add_container(l, p, v);
}

struct asked {
	struct program p;
	bool lists;
};

/* Whether that runtime's list was good, asking it where it was not asked yet. */
static bool asked(struct list *l, struct asked *a, size_t *n, const struct program *p)
{
	for (size_t i = 0; i < *n; i++)
		if (program_same(&a[i].p, p))
			return a[i].lists;
	if (*n == RUNTIMES_MAX)
		return false;
	a[*n] = (struct asked){.p = *p, .lists = ask_list(l, p)};
	return a[(*n)++].lists;
}

/* Of the runtimes that are configured, and of those that records know of. */
static void gather(struct list *l)
{
	struct asked a[RUNTIMES_MAX];
	_cleanup_strv_ struct strv ids = STRV_NULL;
	struct program *list;
	size_t n = program_list(l->o, &list), n_asked = 0;

	for (size_t i = 0; i < n; i++)
		(void)asked(l, a, &n_asked, &list[i]);
	record_list(l->o->root, &ids);
	for (size_t i = 0; i < ids.n; i++) {
		_cleanup_record_ struct record rec = RECORD_NULL;
		struct program p;

		if (map_get(&l->seen, ids.v[i]) ||
		    record_read(l->o->root, ids.v[i], &rec, NULL) < 0)
			continue;
		p = program_of_record(l->o, &rec);
		if (!asked(l, a, &n_asked, &p))
			ask_state(l, &p, ids.v[i]);
	}
}

static void print_json(const struct list *l, struct strbuf *b)
{
	struct jw w = JW_INIT(b);

	jw_array_begin(&w);
	for (const struct listed *c = l->first; c; c = c->next) {
		jw_object_begin(&w);
		jw_key_string(&w, "ociVersion", "1.0.2");
		jw_key_string(&w, "id", c->id);
		jw_key_int(&w, "pid", c->pid);
		jw_key_string(&w, "status", c->status);
		jw_key_string(&w, "bundle", c->bundle);
		jw_key_string(&w, "rootfs", c->rootfs);
		jw_key_string(&w, "created", c->created);
		jw_key_string(&w, "owner", c->owner);
		jw_key_string(&w, "runtime", c->runtime);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	strbuf_addc(b, '\n');
}

/* The columns of runc's, and the runtime. */
static void print_table(const struct list *l, struct strbuf *b)
{
	size_t id = 12, bundle = 12;

	for (const struct listed *c = l->first; c; c = c->next) {
		id = MAX(id, strlen(c->id));
		bundle = MAX(bundle, strlen(c->bundle));
	}
	strbuf_addf(b, "%-*s %-11s %-11s %-*s %-30s %-11s %s\n", (int)id, "ID", "PID", "STATUS",
		    (int)bundle, "BUNDLE", "CREATED", "OWNER", "RUNTIME");
	for (const struct listed *c = l->first; c; c = c->next)
		strbuf_addf(b, "%-*s %-11lld %-11s %-*s %-30s %-11s %s\n", (int)id, c->id,
			    (long long)c->pid, c->status, (int)bundle, c->bundle, c->created,
			    c->owner, c->runtime);
}

int join_list(struct oci *o)
{
	const char *format = o->line.format ? o->line.format : "table";
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct list l = {.o = o, .seen = MAP_NULL};
	struct err e = ERR_NULL;

	l.end = &l.first;
	if (!streq(format, "table") && !streq(format, "json"))
		return oci_fail(o, (err_invalid(&e, "list --format: \"%s\", expected table or json",
						format),
				    &e));
	if (oci_configure(o, &e) < 0)
		return oci_fail(o, &e);
	owner_sweep(o);
	gather(&l);
	if (o->line.quiet)
		for (const struct listed *c = l.first; c; c = c->next)
			strbuf_addf(&b, "%s\n", c->id);
	else if (streq(format, "json"))
		print_json(&l, &b);
	else
		print_table(&l, &b);
	map_fini(&l.seen);
	oci_print(&b);
	return 0;
}

/* --- features --- */

/* Of versions the range that somebody has. */
static void join_version(const char *key, const jv *const *docs, size_t n, struct jw *w)
{
	bool smallest = str_has_suffix(key, "Min");
	const char *best = NULL;

	for (size_t i = 0; i < n; i++) {
		const char *s = jv_as_string(docs[i]);
		int order = s && best ? strverscmp(s, best) : 0;

		if (s && (!best || (smallest ? order < 0 : order > 0)))
			best = s;
	}
	jw_string(w, best);
}

static void join_arrays(const jv *const *docs, size_t n, struct jw *w)
{
	_cleanup_strv_ struct strv seen = STRV_NULL;

	jw_array_begin(w);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < jv_len(docs[i]); k++) {
			_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

			jv_print(jv_at(docs[i], k), &b);
			if (strv_contains(&seen, b.s))
				continue;
			strv_add(&seen, b.s);
			jw_raw(w, b.s);
		}
	jw_array_end(w);
}

static void join_values(const char *key, const jv *const *docs, size_t n, struct jw *w, int depth);

/* The members of all. */
static void join_objects(const jv *const *docs, size_t n, struct jw *w, int depth)
{
	_cleanup_strv_ struct strv seen = STRV_NULL;

	jw_object_begin(w);
	for (size_t i = 0; i < n && depth < FEATURES_DEPTH; i++) {
		struct jv_iter it = JV_ITER_INIT;

		while (jv_next(docs[i], &it)) {
			const jv *same[RUNTIMES_MAX];
			size_t m = 0;

			if (strv_contains(&seen, it.key))
				continue;
			strv_add(&seen, it.key);
			for (size_t k = i; k < n; k++) {
				struct jv_iter other = JV_ITER_INIT;

				while (jv_next(docs[k], &other))
					if (streq(other.key, it.key) && other.value)
						same[m++] = other.value;
			}
			jw_key(w, it.key);
			join_values(it.key, same, m, w, depth + 1);
		}
	}
	jw_object_end(w);
}

/* What at least one of them has: a container that needs it is given to that one. */
static void join_values(const char *key, const jv *const *docs, size_t n, struct jw *w, int depth)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	bool any = false;

	if (n && jv_is_object(docs[0])) {
		join_objects(docs, n, w, depth);
	} else if (n && jv_is_array(docs[0])) {
		join_arrays(docs, n, w);
	} else if (n && str_has_prefix(key, "ociVersion")) {
		join_version(key, docs, n, w);
	} else if (!n) {
		jw_string(w, NULL);
	} else {
		for (size_t i = 0; i < n; i++)
			any |= jv_as_bool(docs[i]);
		jv_print(docs[0], &b);
		jw_raw(w, any ? "true" : b.s);
	}
}

int join_features(struct oci *o)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	struct program *list;
	const jv *docs[RUNTIMES_MAX];
	jv *owned[RUNTIMES_MAX];
	struct jw w = JW_INIT(&b);
	size_t n, m = 0;

	if (oci_configure(o, &e) < 0)
		return oci_fail(o, &e);
	n = program_list(o, &list);
	for (size_t i = 0; i < n; i++) {
		_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;

		if (program_ask(o, &list[i], (const char *const[]){"features", NULL}, &text) == 0 &&
		    jv_parse(str_or_empty(text.s), text.len, ASK_OUTPUT_MAX, list[i].name,
			     &owned[m], NULL) == 0) {
			docs[m] = owned[m];
			m++;
		}
	}
	if (!m)
		return oci_fail(o, (err_set(&e, -EOPNOTSUPP, GRPC_UNIMPLEMENTED,
					    "no runtime of the configuration has features"),
				    &e));
	join_objects(docs, m, &w, 0);
	strbuf_addc(&b, '\n');
	for (size_t i = 0; i < m; i++)
		jv_free(owned[i]);
	oci_print(&b);
	return 0;
}
