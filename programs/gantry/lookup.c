/* SPDX-License-Identifier: Apache-2.0 */
/* Pods and containers by what people call them: see lookup.h. */
#include "lookup.h"

#include "text.h"

#define CANDIDATES_SHOWN 8

static int newest_pod(const void *a, const void *b)
{
	const Runtime__V1__PodSandbox *p = *(Runtime__V1__PodSandbox *const *)a,
				      *q = *(Runtime__V1__PodSandbox *const *)b;

	return (p->created_at < q->created_at) - (p->created_at > q->created_at);
}

static int newest_container(const void *a, const void *b)
{
	const Runtime__V1__Container *p = *(Runtime__V1__Container *const *)a,
				     *q = *(Runtime__V1__Container *const *)b;

	return (p->created_at < q->created_at) - (p->created_at > q->created_at);
}

int inventory_load(struct cli *cli, struct inventory *ret, struct err *e)
{
	Runtime__V1__ListPodSandboxRequest pq = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__ListContainersRequest cq = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	Runtime__V1__ListPodSandboxResponse *pods;
	Runtime__V1__ListContainersResponse *containers;
	int r = rpc_call(cli, RUNTIME, "ListPodSandbox", &pq, &pods, e);

	if (r == 0)
		r = rpc_call(cli, RUNTIME, "ListContainers", &cq, &containers, e);
	if (r < 0)
		return r;
	if (pods->n_items)
		qsort(pods->items, pods->n_items, sizeof(*pods->items), newest_pod);
	if (containers->n_containers)
		qsort(containers->containers, containers->n_containers,
		      sizeof(*containers->containers), newest_container);
	*ret = (struct inventory){pods->items, pods->n_items, containers->containers,
				  containers->n_containers};
	return 0;
}

const Runtime__V1__PodSandbox *inventory_pod(const struct inventory *v, const char *id)
{
	for (size_t i = 0; i < v->n_pods; i++)
		if (streq(v->pods[i]->id, id))
			return v->pods[i];
	return NULL;
}

/* --- matching --- */

static const char *pod_name(const Runtime__V1__PodSandbox *p)
{
	return p && p->metadata ? p->metadata->name : "";
}

static const char *pod_namespace(const Runtime__V1__PodSandbox *p)
{
	return p && p->metadata ? p->metadata->namespace_ : "";
}

static const char *container_name(const Runtime__V1__Container *c)
{
	return c->metadata ? c->metadata->name : "";
}

/* The last part, or the last parts joined by '/', or all. */
static bool name_matches(const char *word, const char *const *parts, size_t n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	for (size_t first = n; first-- > 0;) {
		strbuf_reset(&b);
		for (size_t i = first; i < n; i++)
			strbuf_addf(&b, "%s%s", i > first ? "/" : "", parts[i]);
		if (b.len && streq(b.s, word))
			return true;
	}
	return false;
}

static bool names(const struct object *o, const char *word)
{
	const char *parts[] = {pod_namespace(o->pod), pod_name(o->pod),
			       o->container ? container_name(o->container) : ""};

	return streq(o->id, word) || name_matches(word, parts, o->container ? 3 : 2);
}

static bool id_begins(const struct object *o, const char *word)
{
	return str_has_prefix(o->id, word);
}

struct found {
	struct object *v;
	size_t n;
};

static bool same_but_attempt(const struct object *a, const struct object *b)
{
	return a->kind == KIND_CONTAINER && b->kind == KIND_CONTAINER && a->pod && b->pod &&
	       streq(pod_name(a->pod), pod_name(b->pod)) &&
	       streq(pod_namespace(a->pod), pod_namespace(b->pod)) &&
	       streq(container_name(a->container), container_name(b->container));
}

static void collect(struct cli *cli, const struct inventory *v, const char *word, int kinds,
		    bool (*match)(const struct object *, const char *), struct found *ret)
{
	ret->n = 0;
	ret->v = arena_calloc(&cli->arena, v->n_pods + v->n_containers + 1, sizeof(*ret->v));
	for (size_t i = 0; kinds & KIND_POD && i < v->n_pods; i++) {
		struct object o = {.kind = KIND_POD, .id = v->pods[i]->id, .pod = v->pods[i]};

		if (match(&o, word))
			ret->v[ret->n++] = o;
	}
	for (size_t i = 0; kinds & KIND_CONTAINER && i < v->n_containers; i++) {
		Runtime__V1__Container *c = v->containers[i];
		struct object o = {.kind = KIND_CONTAINER,
				   .id = c->id,
				   .pod = inventory_pod(v, c->pod_sandbox_id),
				   .container = c};
		bool older = false;

		if (!match(&o, word))
			continue;
		for (size_t j = 0; j < ret->n; j++) /* newest first: an older attempt */
			older |= match == names && same_but_attempt(&ret->v[j], &o);
		if (!older)
			ret->v[ret->n++] = o;
	}
}

/* A pod and the container in it that share the name: the preferred one alone. */
static void prefer(struct found *f, int preferred)
{
	const char *in;

	if (f->n != 2 || f->v[0].kind == f->v[1].kind)
		return;
	in = f->v[1].container->pod_sandbox_id; /* pods come first */
	if (!streq(in, f->v[0].id))
		return;
	f->n = 1;
	if (preferred == KIND_CONTAINER)
		f->v[0] = f->v[1];
}

static int ambiguous(struct cli *cli, const char *word, const struct found *f, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	for (size_t i = 0; i < f->n && i < CANDIDATES_SHOWN; i++) {
		const struct object *o = &f->v[i];

		strbuf_addf(&b, "\n%s %s  %s/%s%s%s",
			    o->kind == KIND_POD ? "pod      " : "container",
			    text_id(&cli->arena, o->id, false),
			    text_safe_dup(&cli->arena, pod_namespace(o->pod)),
			    text_safe_dup(&cli->arena, pod_name(o->pod)), o->container ? "/" : "",
			    o->container ? text_safe_dup(&cli->arena, container_name(o->container))
					 : "");
	}
	if (f->n > CANDIDATES_SHOWN)
		strbuf_addf(&b, "\nand %zu more", f->n - CANDIDATES_SHOWN);
	return err_invalid(e, "\"%s\" is ambiguous:%s", word, b.s);
}

int inventory_find(struct cli *cli, const struct inventory *v, const char *word, int kinds,
		   int preferred, struct object *ret, struct err *e)
{
	const char *what = kinds == KIND_POD	     ? "pod"
			   : kinds == KIND_CONTAINER ? "container"
						     : "pod or container";
	struct found f;

	if (!*word)
		return err_invalid(e, "a %s must be named: \"\" is no name", what);
	collect(cli, v, word, kinds, names, &f);
	if (f.n == 0)
		collect(cli, v, word, kinds, id_begins, &f);
	prefer(&f, preferred);
	if (f.n == 0)
		return err_not_found(e, "there is no %s \"%s\"%s", what, word,
				     kinds & KIND_CONTAINER ? " (gantry ps -a lists all)"
							    : " (gantry pods lists all)");
	if (f.n > 1)
		return ambiguous(cli, word, &f, e);
	*ret = f.v[0];
	return 0;
}

const char *object_name(struct cli *cli, const struct object *o)
{
	return arena_printf(&cli->arena, "%s %s (%s)", o->kind == KIND_POD ? "pod" : "container",
			    text_safe_dup(&cli->arena, o->kind == KIND_POD
							       ? pod_name(o->pod)
							       : container_name(o->container)),
			    text_id(&cli->arena, o->id, false));
}

/* --- labels --- */

/* protobuf-c gives the entries of every map a type of its own, all of one layout. */
const char *entry_get(const void *entries, size_t n, const char *key)
{
	return rpc_info(entries, n, key);
}

bool labels_match(const struct args *a, const char *option, const void *entries, size_t n)
{
	size_t pos = 0;
	const char *want;

	while ((want = args_next(a, option, &pos))) {
		_cleanup_free_ char *key = xstrndup(want, strcspn(want, "="));
		const char *have = entry_get(entries, n, key), *eq = strchr(want, '=');

		if (!have || (eq && !streq(have, eq + 1)))
			return false;
	}
	return true;
}

int inventory_find_running(struct cli *cli, const char *word, struct object *ret, struct err *e)
{
	struct inventory v;
	int r = inventory_load(cli, &v, e);

	if (r == 0)
		r = inventory_find(cli, &v, word, KIND_CONTAINER, KIND_CONTAINER, ret, e);
	if (r == 0 && ret->container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		r = err_precondition(e, "%s is not running", object_name(cli, ret));
	return r;
}
