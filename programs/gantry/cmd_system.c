/* SPDX-License-Identifier: Apache-2.0 */
/* gantry version, info, metrics, help. */
#include <inttypes.h>

#include "cli.h"
#include "lookup.h"
#include "text.h"
#include "wire/json.h"

#define INFO_MAX (1u << 20) /* bytes of the daemon's own account of itself */

/* --- version --- */

static int version(struct cli *cli, const struct args *a)
{
	Runtime__V1__VersionRequest q = RUNTIME__V1__VERSION_REQUEST__INIT;
	Runtime__V1__VersionResponse *v = NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);
	struct err e = ERR_NULL;
	enum output how;
	int r;

	if (output_format(a, &how, &e) < 0)
		return cli_fail(cli, &e);
	r = args_has(a, "client") ? 0 : rpc_call(cli, RUNTIME, "Version", &q, &v, &e);
	if (how == OUTPUT_TABLE) {
		cli_print("gantry   %s\n", GANTRY_VERSION);
		if (v)
			cli_print("%-8s %s (CRI %s, on %s)\n", "gantryd",
				  text_safe_dup(&cli->arena, v->runtime_version),
				  text_safe_dup(&cli->arena, v->runtime_api_version), cli->address);
	} else {
		jw_object_begin(&w);
		jw_key_string(&w, "clientVersion", GANTRY_VERSION);
		if (v) {
			jw_key_string(&w, "runtimeName", v->runtime_name);
			jw_key_string(&w, "runtimeVersion", v->runtime_version);
			jw_key_string(&w, "runtimeApiVersion", v->runtime_api_version);
		}
		jw_object_end(&w);
		output_json(how, b.s, b.len);
	}
	return r < 0 ? cli_fail(cli, &e) : EXIT_OK;
}

static const struct opt version_options[] = {
	{.name = "client", .help = "do not ask the daemon"},
	OPT_OUTPUT,
	OPT_END,
};

const struct command cmd_version = {
	.name = "version",
	.operands = "",
	.summary = "show the versions of gantry and of the daemon",
	.opts = version_options,
	.run = version,
};

/* --- info --- */

struct facts {
	Runtime__V1__VersionResponse *version;
	Runtime__V1__StatusResponse *status;
	Runtime__V1__ListImagesResponse *images;
	Runtime__V1__ImageFsInfoResponse *fs;
	struct inventory inventory;
};

static int gather(struct cli *cli, struct facts *f, struct err *e)
{
	Runtime__V1__VersionRequest vq = RUNTIME__V1__VERSION_REQUEST__INIT;
	Runtime__V1__StatusRequest sq = RUNTIME__V1__STATUS_REQUEST__INIT;
	Runtime__V1__ListImagesRequest iq = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
	Runtime__V1__ImageFsInfoRequest fq = RUNTIME__V1__IMAGE_FS_INFO_REQUEST__INIT;
	int r;

	sq.verbose = true;
	r = rpc_call(cli, RUNTIME, "Version", &vq, &f->version, e);
	if (r == 0)
		r = rpc_call(cli, RUNTIME, "Status", &sq, &f->status, e);
	if (r == 0)
		r = inventory_load(cli, &f->inventory, e);
	if (r == 0)
		r = rpc_call(cli, IMAGE, "ListImages", &iq, &f->images, e);
	if (r == 0)
		r = rpc_call(cli, IMAGE, "ImageFsInfo", &fq, &f->fs, e);
	return r;
}

static void line(const char *name, const char *value)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	text_safe_lines(&b, str_or_empty(value));
	cli_print("%-14s %s\n", name, str_or_empty(b.s));
}

static void print_conditions(struct cli *cli, const Runtime__V1__RuntimeStatus *s)
{
	for (size_t i = 0; s && i < s->n_conditions; i++) {
		const Runtime__V1__RuntimeCondition *c = s->conditions[i];
		_cleanup_free_ char *name = xasprintf("%s:", text_safe_dup(&cli->arena, c->type)),
				    *why = c->status
						   ? xstrdup("yes")
						   : xasprintf("no, %s: %s", c->reason, c->message);

		line(name, why);
	}
}

static void print_runtimes(const jv *cfg)
{
	const jv *list = jv_get(cfg, "runtimes");

	for (size_t i = 0; i < jv_len(list); i++) {
		const jv *r = jv_at(list, i);
		bool ok = jv_bool(r, "available", false);
		_cleanup_free_ char *s = xasprintf(
			"%s %s, %s%s%s", jv_string(r, "name", ""), jv_string(r, "version", ""),
			jv_string(r, "path", ""),
			ok ? "" : ": not available: ", ok ? "" : jv_string(r, "reason", ""));

		line(i ? "" : "Runtimes:", s);
	}
}

static uint64_t used(Runtime__V1__FilesystemUsage *const *v, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += v[i]->used_bytes ? v[i]->used_bytes->value : 0;
	return sum;
}

static void print_counts(const struct facts *f)
{
	const struct inventory *v = &f->inventory;
	size_t ready = 0, running = 0;
	char images[TEXT_MAX], layers[TEXT_MAX];

	for (size_t i = 0; i < v->n_pods; i++)
		ready += v->pods[i]->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
	for (size_t i = 0; i < v->n_containers; i++)
		running +=
			v->containers[i]->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	cli_print("%-14s %zu, %zu ready\n", "Pods:", v->n_pods, ready);
	cli_print("%-14s %zu, %zu running\n", "Containers:", v->n_containers, running);
	cli_print("%-14s %zu\n", "Images:", f->images->n_images);
	cli_print("%-14s %s of images, %s of containers\n", "Disk:",
		  text_size(used(f->fs->image_filesystems, f->fs->n_image_filesystems), images),
		  text_size(used(f->fs->container_filesystems, f->fs->n_container_filesystems),
			    layers));
}

static void print_table(struct cli *cli, const struct facts *f, const jv *cfg)
{
	_cleanup_free_ char *v = xasprintf("gantryd %s, CRI %s", f->version->runtime_version,
					   f->version->runtime_api_version);

	line("Daemon:", v);
	line("Socket:", cli->address);
	print_conditions(cli, f->status->status);
	print_runtimes(cfg);
	line("Network:", jv_string(cfg, "network", "-"));
	line("Cgroup driver:", jv_string(cfg, "cgroupDriver", "-"));
	line("Root:", jv_string(cfg, "rootDir", "-"));
	line("State:", jv_string(cfg, "stateDir", "-"));
	print_counts(f);
}

static void print_json(enum output how, const struct facts *f, const char *config)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_string(&w, "clientVersion", GANTRY_VERSION);
	jw_key_string(&w, "runtimeVersion", f->version->runtime_version);
	jw_key_array(&w, "conditions");
	for (size_t i = 0; f->status->status && i < f->status->status->n_conditions; i++) {
		const Runtime__V1__RuntimeCondition *c = f->status->status->conditions[i];

		jw_object_begin(&w);
		jw_key_string(&w, "type", c->type);
		jw_key_bool(&w, "status", c->status);
		jw_key_string(&w, "reason", c->reason);
		jw_key_string(&w, "message", c->message);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_key(&w, "config");
	jw_raw(&w, config);
	jw_key_uint(&w, "pods", f->inventory.n_pods);
	jw_key_uint(&w, "containers", f->inventory.n_containers);
	jw_key_uint(&w, "images", f->images->n_images);
	jw_key_uint(&w, "imageBytes", used(f->fs->image_filesystems, f->fs->n_image_filesystems));
	jw_key_uint(&w, "containerBytes",
		    used(f->fs->container_filesystems, f->fs->n_container_filesystems));
	jw_object_end(&w);
	output_json(how, b.s, b.len);
}

static int info(struct cli *cli, const struct args *a)
{
	struct facts f = {0};
	struct err e = ERR_NULL;
	_cleanup_jv_ jv *cfg = NULL;
	const char *text;
	enum output how;

	if (output_format(a, &how, &e) < 0 || gather(cli, &f, &e) < 0)
		return cli_fail(cli, &e);
	text = rpc_info(f.status->info, f.status->n_info, "config");
	text = text ? text : "{}";
	if (jv_parse(text, strlen(text), INFO_MAX, "the daemon's status", &cfg, &e) < 0)
		return cli_fail(cli, &e);
	if (how == OUTPUT_TABLE)
		print_table(cli, &f, cfg);
	else
		print_json(how, &f, text);
	return EXIT_OK;
}

static const struct opt info_options[] = {OPT_OUTPUT, OPT_END};

const struct command cmd_info = {
	.name = "info",
	.operands = "",
	.summary = "show how the daemon is, its runtimes, and what the node holds",
	.opts = info_options,
	.run = info,
};

/* --- metrics --- */

static int metrics(struct cli *cli, const struct args *a)
{
	Gantry__V1__MetricsRequest q = GANTRY__V1__METRICS_REQUEST__INIT;
	Gantry__V1__MetricsResponse *m;
	struct err e = ERR_NULL;

	if (rpc_call(cli, GANTRY, "Metrics", &q, &m, &e) < 0)
		return cli_fail(cli, &e);
	cli_write(m->text, strlen(m->text));
	return EXIT_OK;
}

const struct command cmd_metrics = {
	.name = "metrics",
	.operands = "",
	.summary = "print the daemon's own figures in Prometheus' text format",
	.text = "It is what gantryd serves over HTTP where the setting metrics.address is not "
		"empty: how long requests took and how they ended, pods, containers, pulls, "
		"memory, "
		"and delays of the event loop. Metrics of pods and containers are the kubelet's to "
		"serve; 'gantry stats' shows such figures.",
	.run = metrics,
};

/* --- help --- */

static int help(struct cli *cli, const struct args *a)
{
	_cleanup_strbuf_ struct strbuf man = STRBUF_NULL;
	const struct command *c = a->n ? command_find(a->v[0]) : NULL;
	struct err e = ERR_NULL;

	if (args_has(a, "roff")) {
		help_man(&man);
		cli_write(man.s, man.len);
		return EXIT_OK;
	}
	if (c && a->n > 1)
		c = command_find_sub(c, a->v[1]);
	if (a->n && !c) {
		err_invalid(&e, "there is no command '%s%s%s'", a->v[0], a->n > 1 ? " " : "",
			    a->n > 1 ? a->v[1] : "");
		return cli_fail(cli, &e);
	}
	return c ? help_command(c) : help_overview();
}

static const struct opt help_options[] = {
	{.name = "roff", .help = "print all of it as the manual page has it"},
	OPT_END,
};

const struct command cmd_help = {
	.name = "help",
	.operands = "[COMMAND [SUBCOMMAND]]",
	.summary = "explain a command, or list them all",
	.opts = help_options,
	.complete = COMPLETE_COMMAND,
	.max = 2,
	.run = help,
};
