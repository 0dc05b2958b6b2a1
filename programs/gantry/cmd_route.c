/* SPDX-License-Identifier: Apache-2.0 */
/* gantry route explain, route test: which runtime a pod or container is put on, and why. */
#include <fcntl.h>

#include "base/fs.h"
#include "cli.h"
#include "config/config.h"
#include "image/reference.h"
#include "route/route.h"
#include "route_cases.h"
#include "table.h"
#include "text.h"
#include "wire/json.h"

#define ROUTE_JSON_MAX (16u << 20) /* bytes of an answer: thousands of rules */

/* --- the engine here, with a file and every runtime that is not said to be down --- */

struct engine {
	struct config config;
	struct route *route;
};

static int engine_open(const char *file, struct engine *ret, struct err *e)
{
	struct config_flags flags = {.file = file};
	int r = config_load(&flags, &ret->config, e);

	if (r == 0)
		ret->route = route_new(&ret->config);
	return r;
}

static void engine_close(struct engine *n)
{
	n->route = route_free(n->route);
	config_fini(&n->config);
}

static int tell(const struct engine *n, const struct route_facts *f, const char *const *unavailable,
		struct arena *a, struct route_story *ret, struct err *e)
{
	struct route_state states[CONFIG_RUNTIMES_MAX] = {0};

	for (size_t i = 0; i < n->config.n_runtimes; i++) {
		states[i].available = true;
		for (size_t k = 0; unavailable && unavailable[k]; k++)
			if (streq(unavailable[k], n->config.runtimes[i].name)) {
				states[i].available = false;
				states[i].reason = "taken as such";
			}
	}
	return route_tell(n->route, f, states, a, ret, e);
}

/* --- explain --- */

static void print_rules(struct cli *cli, const jv *choice)
{
	_cleanup_table_ struct table t = {0};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const jv *rules = jv_get(choice, "rules");

	if (!jv_len(rules))
		return;
	table_init(&t, "RULE|>LINE|FITS|WHY", cli->color);
	for (size_t i = 0; i < jv_len(rules); i++) {
		const jv *r = jv_at(rules, i);
		bool fits = jv_bool(r, "fits", false);

		table_add(&t, jv_string(r, "name", ""));
		table_addf(&t, "%lld", (long long)jv_int(r, "line", 0));
		table_add_style(&t, fits ? "yes" : "no", fits ? STYLE_GOOD : STYLE_DIM);
		table_add(&t, fits ? "" : jv_string(r, "why", ""));
	}
	table_print(&t, &b);
	cli_write(b.s, b.len);
}

static void print_candidates(struct cli *cli, const jv *choice)
{
	_cleanup_table_ struct table t = {0};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const jv *candidates = jv_get(choice, "candidates");

	if (!jv_len(candidates))
		return;
	cli_print("\n");
	table_init(&t, "CANDIDATE|ISOLATION|VERDICT", cli->color);
	for (size_t i = 0; i < jv_len(candidates); i++) {
		const jv *c = jv_at(candidates, i);
		const char *dropped = jv_string(c, "dropped", NULL);
		bool chosen = jv_bool(c, "chosen", false);

		table_add(&t, jv_string(c, "runtime", ""));
		table_add(&t, jv_string(c, "isolation", ""));
		table_add_style(&t,
				chosen	  ? "chosen"
				: dropped ? dropped
					  : "not needed",
				chosen	  ? STYLE_GOOD
				: dropped ? STYLE_BAD
					  : STYLE_DIM);
	}
	table_print(&t, &b);
	cli_write(b.s, b.len);
}

static void print_choice(struct cli *cli, const char *what, const jv *choice)
{
	bool refused = jv_string(choice, "refused", NULL) != NULL;

	if (!choice)
		return;
	cli_print("%s: %s%s%s%s\n", what,
		  cli->color ? style_on(refused ? STYLE_BAD : STYLE_GOOD) : "",
		  refused ? "refused: " : "",
		  text_safe_dup(&cli->arena, jv_string(choice, "summary", "")),
		  cli->color ? style_on(STYLE_NONE) : "");
	if (jv_len(jv_get(choice, "rules")))
		cli_print("\n");
	print_rules(cli, choice);
	print_candidates(cli, choice);
}

static int show(struct cli *cli, enum output how, const char *json)
{
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;

	if (jv_parse(json, strlen(json), ROUTE_JSON_MAX, "the choice", &doc, &e) < 0)
		return cli_fail(cli, &e);
	if (how == OUTPUT_TABLE) {
		print_choice(cli, "Pod", jv_get(doc, "pod"));
		if (jv_get(doc, "pod") && jv_get(doc, "container"))
			cli_print("\n");
		print_choice(cli, "Container", jv_get(doc, "container"));
	} else {
		output_json(how, json, strlen(json));
	}
	return jv_string(doc, "runtime", NULL) ? EXIT_OK : EXIT_FAILED;
}

/* Values of an option KEY=VALUE; for the daemon and for the engine here. */
static int read_pairs(struct cli *cli, const struct args *a, const char *option,
		      struct route_pair **ret, size_t *ret_n, struct err *e)
{
	struct route_pair *p = arena_calloc(&cli->arena, a->n_given + 1, sizeof(*p));
	size_t pos = 0, n = 0;
	const char *s;

	while ((s = args_next(a, option, &pos))) {
		const char *eq = strchr(s, '=');

		if (!eq || eq == s)
			return err_invalid(e, "--%s: \"%s\", expected KEY=VALUE", option, s);
		p[n++] = (struct route_pair){arena_strndup(&cli->arena, s, (size_t)(eq - s)),
					     eq + 1};
	}
	*ret = p;
	*ret_n = n;
	return 0;
}

static int facts(struct cli *cli, const struct args *a, struct route_facts *ret, struct err *e)
{
	struct route_pair *labels, *annotations;
	size_t n_labels, n_annotations;
	const char *ns = args_get(a, "namespace");
	int r = read_pairs(cli, a, "label", &labels, &n_labels, e);

	if (r == 0)
		r = read_pairs(cli, a, "annotation", &annotations, &n_annotations, e);
	if (r < 0)
		return r;
	*ret = (struct route_facts){
		.container = a->n || args_has(a, "container"),
		.handler = str_or_empty(args_get(a, "handler")),
		.namespace = ns ? ns : "default",
		.pod = args_get(a, "name"),
		.container_name = args_get(a, "container"),
		.labels = labels,
		.annotations = annotations,
		.n_labels = n_labels,
		.n_annotations = n_annotations,
		.privileged = args_has(a, "privileged"),
		.user_namespace = args_has(a, "userns"),
	};
	return 0;
}

static char *own(const char *s)
{
	return (char *)(uintptr_t)str_or_empty(s);
}

/* Entries of a map are alike but for their type. */
static void *entries(struct cli *cli, const ProtobufCMessageDescriptor *type,
		     const struct route_pair *p, size_t n)
{
	Gantry__V1__RouteRequest__LabelsEntry **v = arena_calloc(&cli->arena, n + 1, sizeof(*v));

	for (size_t i = 0; i < n; i++) {
		v[i] = arena_alloc(&cli->arena, sizeof(*v[i]));
		protobuf_c_message_init(type, v[i]);
		v[i]->key = own(p[i].key);
		v[i]->value = own(p[i].value);
	}
	return v;
}

static int ask_daemon(struct cli *cli, const struct route_facts *f, const char *image,
		      const char **ret, struct err *e)
{
	Gantry__V1__RouteRequest q = GANTRY__V1__ROUTE_REQUEST__INIT;
	Gantry__V1__RouteResponse *m;
	int r;

	q.image = own(image);
	q.handler = own(f->handler);
	q.namespace_ = own(f->namespace);
	q.pod = own(f->pod);
	q.container = own(f->container_name);
	q.labels = entries(cli, &gantry__v1__route_request__labels_entry__descriptor, f->labels,
			   f->n_labels);
	q.n_labels = f->n_labels;
	q.annotations = entries(cli, &gantry__v1__route_request__annotations_entry__descriptor,
				f->annotations, f->n_annotations);
	q.n_annotations = f->n_annotations;
	q.privileged = f->privileged;
	q.user_namespace = f->user_namespace;
	r = rpc_call(cli, GANTRY, "Route", &q, &m, e);
	if (r == 0)
		*ret = m->json;
	return r;
}

static int ask_file(struct cli *cli, const char *file, struct route_facts *f, const char *image,
		    const char **ret, struct err *e)
{
	_cleanup_reference_ struct reference ref = REFERENCE_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);
	struct route_story story;
	struct engine n;
	int r = image ? reference_parse(image, &ref, e) : 0;

	if (r == 0)
		r = engine_open(file, &n, e);
	if (r < 0)
		return r;
	f->image = image ? &ref : NULL;
	(void)tell(&n, f, NULL, &cli->arena, &story, e);
	route_story_print(n.route, &story, &w);
	*ret = arena_strdup(&cli->arena, b.s);
	f->image = NULL;
	engine_close(&n);
	return 0;
}

static int explain(struct cli *cli, const struct args *a)
{
	const char *image = a->n ? a->v[0] : NULL, *file = args_get(a, "config"), *json = NULL;
	struct err e = ERR_NULL;
	struct route_facts f;
	enum output how;
	int r;

	if (output_format(a, &how, &e) < 0 || facts(cli, a, &f, &e) < 0)
		return cli_usage(a->command, &e);
	r = file ? ask_file(cli, file, &f, image, &json, &e)
		 : ask_daemon(cli, &f, image, &json, &e);
	return r < 0 ? cli_fail(cli, &e) : show(cli, how, json);
}

static const struct opt explain_options[] = {
	{.name = "namespace", .metavar = "NAME", .help = "the pod's namespace (default)"},
	{.name = "name", .metavar = "NAME", .help = "the pod's name"},
	{.name = "container", .metavar = "NAME", .help = "the container's name"},
	{.c = 'l',
	 .name = "label",
	 .metavar = "KEY=VALUE",
	 .help = "a label of the pod",
	 .many = true},
	{.name = "annotation",
	 .metavar = "KEY=VALUE",
	 .help = "an annotation of the pod",
	 .many = true},
	{.name = "handler",
	 .metavar = "HANDLER",
	 .help = "the runtime handler that the pod names",
	 .complete = COMPLETE_HANDLER},
	{.name = "privileged", .help = "a privileged container"},
	{.name = "userns", .help = "a pod with a user namespace"},
	{.name = "config",
	 .metavar = "FILE",
	 .help = "by this configuration instead of the daemon's; every runtime counts as available",
	 .complete = COMPLETE_FILE},
	OPT_OUTPUT,
	OPT_END,
};

static const struct command cmd_route_explain = {
	.name = "route explain",
	.operands = "[IMAGE]",
	.summary = "show which runtime a pod and its first container would have, and why",
	.text = "Every rule that is looked at, every candidate, why it is dropped, and the choice: "
		"first for the pod, of which the image is not known, then for a container with "
		"that "
		"image; without IMAGE and --container for the pod alone. The daemon answers, with "
		"what it knows of its runtimes now.\n"
		"The exit status is 1 where no runtime is left.",
	.examples = "gantry route explain db-postgres --namespace shop\n"
		    "gantry route explain lxc/alpine --label tier=back -o json\n"
		    "gantry route explain --handler auto\n"
		    "gantry route explain vm-windows --config ./gantry.yaml",
	.opts = explain_options,
	.complete = COMPLETE_IMAGE,
	.max = 1,
	.run = explain,
};

/* --- test --- */

static int case_facts(const struct route_case *c, struct reference *image, struct route_facts *ret,
		      struct err *e)
{
	*ret = (struct route_facts){
		.container = c->image || c->container,
		.handler = str_or_empty(c->handler),
		.namespace = c->namespace ? c->namespace : "default",
		.pod = c->pod,
		.container_name = c->container,
		.labels = c->labels,
		.annotations = c->annotations,
		.n_labels = c->n_labels,
		.n_annotations = c->n_annotations,
		.privileged = c->privileged,
		.user_namespace = c->user_namespace,
	};
	if (c->image && reference_parse(c->image, image, e) < 0)
		return e->errnum;
	ret->image = c->image ? image : NULL;
	return 0;
}

/* What is wrong, or NULL; in `a`. */
static const char *verdict(const struct route_case *c, const char *runtime, const char *summary,
			   const struct config_rule *rule, struct arena *a)
{
	const char *name = rule ? rule->name : "";

	if (c->refused && runtime)
		return arena_printf(a, "expected a refusal, not %s", summary);
	if (c->refused && !strstr(summary, c->refused))
		return arena_printf(a, "expected a refusal with \"%s\", not: %s", c->refused,
				    summary);
	if (c->expect && (!runtime || !streq(runtime, c->expect)))
		return arena_printf(a, "expected %s, not %s%s", c->expect,
				    runtime ? "" : "a refusal: ", summary);
	if (c->rule && !streq(c->rule, name))
		return arena_printf(a, "expected %s%s, not %s: %s",
				    *c->rule ? "the rule " : "no rule", c->rule,
				    rule ? name : "none", summary);
	return NULL;
}

struct result {
	const char *name, *summary, *wrong; /* wrong NULL: as expected */
	unsigned line;
};

static void run_case(struct cli *cli, const struct engine *n, const struct route_case *c, size_t i,
		     struct result *ret)
{
	_cleanup_reference_ struct reference image = REFERENCE_NULL;
	struct route_story story = {0};
	struct err e = ERR_NULL;
	struct route_facts f;
	const struct route_account *last;

	ret->line = c->line;
	ret->name = c->name    ? c->name
		    : c->image ? c->image
			       : arena_printf(&cli->arena, "case %zu", i + 1);
	if (case_facts(c, &image, &f, &e) < 0) {
		ret->summary = arena_strdup(&cli->arena, e.msg);
		ret->wrong = verdict(c, NULL, ret->summary, NULL, &cli->arena);
		return;
	}
	(void)tell(n, &f, c->unavailable, &cli->arena, &story, &e);
	last = story.has_container ? &story.container : &story.pod;
	ret->summary = last->summary;
	ret->wrong = verdict(c, route_story_runtime(n->route, &story), last->summary, last->rule,
			     &cli->arena);
}

static void print_results(enum output how, const struct result *v, size_t n, size_t failed)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_uint(&w, "passed", n - failed);
	jw_key_uint(&w, "failed", failed);
	jw_key_array(&w, "cases");
	for (size_t i = 0; i < n; i++) {
		jw_object_begin(&w);
		jw_key_string(&w, "name", v[i].name);
		jw_key_uint(&w, "line", v[i].line);
		jw_key_bool(&w, "passed", !v[i].wrong);
		jw_key_string(&w, "summary", v[i].summary);
		if (v[i].wrong)
			jw_key_string(&w, "wrong", v[i].wrong);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_object_end(&w);
	output_json(how, b.s, b.len);
}

static void print_lines(struct cli *cli, const char *file, const struct result *v, size_t n,
			size_t failed)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *s = v[i].wrong ? xasprintf("%s (%s:%u): %s", v[i].name, file,
								v[i].line, v[i].wrong)
						    : xasprintf("%s: %s", v[i].name, v[i].summary);

		cli_print("%s%s%s %s\n",
			  cli->color ? style_on(v[i].wrong ? STYLE_BAD : STYLE_GOOD) : "",
			  v[i].wrong ? "not ok" : "ok", cli->color ? style_on(STYLE_NONE) : "",
			  text_safe_dup(&cli->arena, s));
	}
	cli_print("%zu of %zu as expected\n", n - failed, n);
}

static int read_file(struct cli *cli, const char *file, struct route_case **ret, size_t *ret_n,
		     struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, streq(file, "-") ? "/dev/stdin" : file, ROUTE_CASES_FILE_MAX,
			&text);

	if (r < 0)
		return err_errno(e, r, "read %s", file);
	return route_cases_read(&cli->arena, file, &text, ret, ret_n, e);
}

static int test(struct cli *cli, const struct args *a)
{
	struct route_case *cases;
	struct err e = ERR_NULL;
	struct result *results;
	size_t n, failed = 0;
	enum output how;
	struct engine engine = {0};

	if (output_format(a, &how, &e) < 0 || read_file(cli, a->v[0], &cases, &n, &e) < 0 ||
	    engine_open(args_get(a, "config"), &engine, &e) < 0)
		return cli_fail(cli, &e);
	results = arena_calloc(&cli->arena, n, sizeof(*results));
	for (size_t i = 0; i < n; i++) {
		run_case(cli, &engine, &cases[i], i, &results[i]);
		failed += results[i].wrong != NULL;
	}
	engine_close(&engine);
	if (how == OUTPUT_TABLE)
		print_lines(cli, a->v[0], results, n, failed);
	else
		print_results(how, results, n, failed);
	return failed ? EXIT_FAILED : EXIT_OK;
}

static const struct opt test_options[] = {
	{.name = "config",
	 .metavar = "FILE",
	 .help = "the configuration (/etc/gantry/config.yaml where it exists)",
	 .complete = COMPLETE_FILE},
	OPT_OUTPUT,
	OPT_END,
};

static const struct command cmd_route_test = {
	.name = "route test",
	.operands = "FILE",
	.summary = "check a configuration's rules against a table of expectations",
	.text = "FILE (- is standard input) is a list in YAML or JSON. Of each case, image, "
		"handler, "
		"namespace, pod, container, labels, annotations, privileged and user_namespace are "
		"what is asked, 'unavailable' names runtimes that do not work then, and 'expect' "
		"is "
		"the runtime, or 'refused' words of the reason; 'rule' may name the rule that has "
		"to decide. No daemon is asked: every other runtime counts as available.\n"
		"The exit status is 1 where one is not as expected.",
	.examples = "gantry route test routes-test.yaml --config gantry.yaml",
	.opts = test_options,
	.complete = COMPLETE_FILE,
	.min = 1,
	.max = 1,
	.run = test,
};

/* --- route --- */

static const struct command *const route_commands[] = {&cmd_route_explain, &cmd_route_test, NULL};

static int route(struct cli *cli, const struct args *a)
{
	struct err e = ERR_NULL;

	(void)cli;
	if (a->n)
		err_invalid(&e, "there is no command 'route %s', only: explain test", a->v[0]);
	else
		err_invalid(&e, "a command is needed: explain or test");
	return cli_usage(a->command, &e);
}

const struct command cmd_route = {
	.name = "route",
	.operands = "COMMAND",
	.summary = "explain or test which runtime a container is put on",
	.subs = route_commands,
	.max = UNLIMITED,
	.run = route,
};
