/* SPDX-License-Identifier: Apache-2.0 */
/* gantry inspect: all that the daemon knows of a pod, a container or an image. */
#include "cli.h"
#include "lookup.h"
#include "pbjson.h"
#include "wire/json.h"

#define INFO_MAX (16u << 20)

/* A verbose answer's info: JSON texts by key; one named "info" is spread out. */
static void print_info(struct jw *w, const void *entries, size_t n)
{
	Runtime__V1__StatusResponse__InfoEntry *const *list = entries;

	jw_key_object(w, "info");
	for (size_t i = 0; i < n; i++) {
		const char *text = list[i]->value;
		struct jv_iter it = JV_ITER_INIT;
		_cleanup_jv_ jv *doc = NULL;

		if (jv_parse(text, strlen(text), INFO_MAX, "info", &doc, NULL) < 0) {
			jw_key_string(w, list[i]->key, text);
		} else if (streq(list[i]->key, "info") && jv_is_object(doc)) {
			while (jv_next(doc, &it)) {
				_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

				jv_print(it.value, &b);
				jw_key(w, it.key);
				jw_raw(w, str_or_empty(b.s));
			}
		} else {
			jw_key(w, list[i]->key);
			jw_raw(w, text);
		}
	}
	jw_object_end(w);
}

static void print_object(struct jw *w, const char *type, const ProtobufCMessage *status,
			 const void *info, size_t n_info)
{
	jw_object_begin(w);
	jw_key_string(w, "type", type);
	jw_key(w, "status");
	pbjson_print(w, status);
	print_info(w, info, n_info);
}

static int inspect_container(struct cli *cli, const char *id, struct jw *w, struct err *e)
{
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *s;
	int r;

	q.container_id = (char *)(uintptr_t)id;
	q.verbose = true;
	r = rpc_call(cli, RUNTIME, "ContainerStatus", &q, &s, e);
	if (r == 0 && !s->status)
		r = err_not_found(e, "container %s has gone", id);
	if (r < 0)
		return r;
	print_object(w, "container", &s->status->base, s->info, s->n_info);
	jw_object_end(w);
	return 0;
}

static int print_check(struct cli *cli, const char *id, struct jw *w, struct err *e)
{
	Gantry__V1__CheckPodRequest q = GANTRY__V1__CHECK_POD_REQUEST__INIT;
	Gantry__V1__CheckPodResponse *m = NULL;
	struct rpc_stream s = {0};
	int r;

	q.pod_sandbox_id = (char *)(uintptr_t)id;
	r = rpc_open(cli, GANTRY, "CheckPod", &q, &s, e);
	r = r < 0 ? r : rpc_next(&s, &cli->arena, &m, e);
	rpc_close(&s);
	if (r <= 0)
		return r < 0 ? r : err_set(e, -EIO, GRPC_INTERNAL, "check pod %s: no answer", id);
	jw_key_object(w, "networkCheck");
	jw_key_bool(w, "ok", !*m->problem);
	if (*m->problem)
		jw_key_string(w, "problem", m->problem);
	jw_object_end(w);
	return 0;
}

static int inspect_pod(struct cli *cli, const char *id, bool check, struct jw *w, struct err *e)
{
	Runtime__V1__PodSandboxStatusRequest q = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
	Runtime__V1__PodSandboxStatusResponse *s;
	int r;

	q.pod_sandbox_id = (char *)(uintptr_t)id;
	q.verbose = true;
	r = rpc_call(cli, RUNTIME, "PodSandboxStatus", &q, &s, e);
	if (r == 0 && !s->status)
		r = err_not_found(e, "pod %s has gone", id);
	if (r < 0)
		return r;
	print_object(w, "pod", &s->status->base, s->info, s->n_info);
	jw_key_array(w, "containers");
	for (size_t i = 0; i < s->n_containers_statuses; i++)
		pbjson_print(w, &s->containers_statuses[i]->base);
	jw_array_end(w);
	r = check ? print_check(cli, id, w, e) : 0;
	jw_object_end(w);
	return r;
}

/* -ENOENT: no image has that name. */
static int inspect_image(struct cli *cli, const char *name, struct jw *w, struct err *e)
{
	Runtime__V1__ImageStatusRequest q = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ImageStatusResponse *s;
	int r;

	spec.image = (char *)(uintptr_t)name;
	q.image = &spec;
	q.verbose = true;
	r = rpc_call(cli, IMAGE, "ImageStatus", &q, &s, e);
	if (r == 0 && !s->image)
		r = err_not_found(e, "there is no image \"%s\"", name);
	if (r == -EREMOTEIO && e->code == GRPC_INVALID_ARGUMENT) /* no reference at all */
		r = -ENOENT;
	if (r < 0)
		return r;
	print_object(w, "image", &s->image->base, s->info, s->n_info);
	jw_object_end(w);
	return 0;
}

static int inspect_one(struct cli *cli, const struct inventory *v, const char *word,
		       const char *type, bool check, struct jw *w, struct err *e)
{
	int kinds = !type		       ? KIND_POD | KIND_CONTAINER
		    : streq(type, "pod")       ? KIND_POD
		    : streq(type, "container") ? KIND_CONTAINER
					       : 0;
	struct object o;
	int r = kinds ? inventory_find(cli, v, word, kinds, KIND_CONTAINER, &o, e) : -ENOENT;

	if (r == 0)
		return o.kind == KIND_POD ? inspect_pod(cli, o.id, check, w, e)
					  : inspect_container(cli, o.id, w, e);
	if (r != -ENOENT || (kinds && type))
		return r;
	r = inspect_image(cli, word, w, e);
	if (r == -ENOENT)
		return err_not_found(e,
				     type ? "there is no image \"%s\""
					  : "there is no pod, container or image \"%s\"",
				     word);
	return r;
}

static int inspect(struct cli *cli, const struct args *a)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);
	struct inventory v;
	struct err e = ERR_NULL;
	enum output how;
	int status = EXIT_OK;

	if (output_format(a, &how, &e) < 0 || inventory_load(cli, &v, &e) < 0)
		return cli_fail(cli, &e);
	jw_array_begin(&w);
	for (size_t i = 0; i < a->n && status != EXIT_INTERRUPTED; i++)
		if (inspect_one(cli, &v, a->v[i], args_get(a, "type"), args_has(a, "check"), &w,
				&e) < 0)
			status = cli_fail(cli, &e);
	jw_array_end(&w);
	if (b.len > strlen("[]") && status != EXIT_INTERRUPTED)
		output_json(how, b.s, b.len);
	return status;
}

static const struct opt inspect_options[] = {
	{.name = "type",
	 .metavar = "KIND",
	 .help = "what the names stand for: pod, container or image",
	 .words = "pod container image"},
	{.name = "check",
	 .help = "check the networks of pods, by CNI CHECK where they have one of CNI"},
	{.c = 'o',
	 .name = "output",
	 .metavar = "FORMAT",
	 .help = "json or yaml",
	 .words = "json yaml"},
	OPT_END,
};

const struct command cmd_inspect = {
	.name = "inspect",
	.operands = "POD|CONTAINER|IMAGE...",
	.summary = "show all that is known of pods, containers and images",
	.text = "Prints a list of objects, each with its type, its CRI status and what the daemon "
		"adds to it. Where a pod and its container have one name, the container is meant.",
	.examples = "gantry inspect web\n"
		    "gantry inspect --type pod web -o yaml",
	.opts = inspect_options,
	.complete = COMPLETE_OBJECT,
	.min = 1,
	.max = UNLIMITED,
	.run = inspect,
};
