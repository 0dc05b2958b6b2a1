/* SPDX-License-Identifier: Apache-2.0 */
/* What files on the node add to a container: see edits.h. */
#include "pod/edits.h"

#include "base/mem.h"
#include "ipc/worker.h"
#include "spec/cdi.h"

#define EDITS_MAX (256u << 10) /* bytes, as the worker bounds them */

static void put_strings(struct ipc_out *o, uint16_t tag, const char *const *v)
{
	for (size_t i = 0; v[i]; i++)
		ipc_put_str(o, tag, v[i]);
}

static int ask(const struct container *c, struct ipc_out *o, jv **ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;
	int r = image_worker_answer(c->node->images, o, EDITS_MAX, &text, e);

	if (r == 0)
		r = jv_parse(str_or_empty(text.s), text.len, EDITS_MAX, "the worker's answer", &doc,
			     e);
	if (r == 0)
		*ret = TAKE_PTR(doc);
	return r;
}

static void put_annotation(struct ipc_out *o, const char *key, const char *value)
{
	struct ipc_out one;

	ipc_out_init(&one, 0, 0);
	ipc_put_str(&one, WORKER_TAG_NAME, key);
	ipc_put_str(&one, WORKER_TAG_TEXT, value);
	ipc_put_nested(o, WORKER_TAG_ANNOTATION, &one);
}

/* What hooks are chosen by: as CRI-O has it, annotations of the container and of its pod. */
static void put_subject(const struct container *c, const struct image_config *image,
			struct ipc_out *o)
{
	const Runtime__V1__ContainerConfig *cfg = c->config;
	const Runtime__V1__PodSandboxConfig *pod = c->pod->config;
	const char *command = cfg->n_command	    ? cfg->command[0]
			      : image->entrypoint.n ? image->entrypoint.v[0]
			      : cfg->n_args	    ? cfg->args[0]
			      : image->cmd.n	    ? image->cmd.v[0]
						    : "";

	put_strings(o, WORKER_TAG_HOOKS_DIR, c->node->config->hooks_dirs);
	for (size_t i = 0; i < cfg->n_annotations; i++)
		put_annotation(o, cfg->annotations[i]->key, cfg->annotations[i]->value);
	for (size_t i = 0; i < pod->n_annotations; i++)
		put_annotation(o, pod->annotations[i]->key, pod->annotations[i]->value);
	ipc_put_str(o, WORKER_TAG_COMMAND, command);
	ipc_put_u64(o, WORKER_TAG_HAS_BINDS, cfg->n_mounts > 0);
}

int edits_collect(const struct container *c, const struct image_config *image, jv **ret,
		  struct err *e)
{
	const struct config *cfg = c->node->config;
	_cleanup_strv_ struct strv devices = STRV_NULL;
	struct ipc_out o;

	*ret = NULL;
	spec_cdi_devices(c->config, &devices);
	if (!devices.n && !*cfg->hooks_dirs)
		return 0;
	image_worker_question(c->node->images, &o, WORKER_EDITS);
	put_strings(&o, WORKER_TAG_CDI_DIR, cfg->cdi.spec_dirs);
	for (size_t i = 0; i < devices.n; i++)
		ipc_put_str(&o, WORKER_TAG_CDI_DEVICE, devices.v[i]);
	if (*cfg->hooks_dirs)
		put_subject(c, image, &o);
	return ask(c, &o, ret, e);
}
