/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of containers: see life.h. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "wire/json.h"

static int refuse(const struct container *c, const char *why, struct err *e)
{
	return err_set(e, -EOPNOTSUPP, GRPC_UNIMPLEMENTED,
		       "container %s cannot be checkpointed: runtime \"%s\": %s", c->id,
		       c->runtime_name, why);
}

/* As the probe of its runtime has found it. */
static int check_possible(const struct container *c, struct err *e)
{
	const struct node_runtime *rt = c->runtime;

	if (!rt || !rt->probed)
		return refuse(c, "it has not been probed", e);
	if (!(rt->caps.has & RCAP_BIT(RCAP_CHECKPOINT)))
		return refuse(c, runtime_caps_why(&rt->caps, RCAP_CHECKPOINT), e);
	if (*c->pod->userns)
		return refuse(c, "not in a pod with a user namespace", e);
	return 0;
}

static void put_time(struct jw *w, const char *key, int64_t wall_ns)
{
	time_t s = (time_t)(wall_ns / 1000000000);
	char text[40];
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%09lldZ", (long long)(wall_ns % 1000000000));
	jw_key_string(w, key, text);
}

/* config.dump, as other tools read it (checkpointctl, CRI-O). */
static void print_config(const struct container *c, struct strbuf *to)
{
	const char *image = c->config->image->image;
	struct jw w = JW_INIT(to);

	if (*image == '/') /* the checkpoint that it was made of itself */
		image = str_or_empty(c->image_ref);
	jw_object_begin(&w);
	jw_key_string(&w, "id", c->id);
	jw_key_string(&w, "name", c->config->metadata->name);
	jw_key_string(&w, "rootfsImage", str_or_empty(c->image_id));
	jw_key_string(&w, "rootfsImageRef", str_or_empty(c->image_ref));
	jw_key_string(&w, "rootfsImageName", image);
	jw_key_string(&w, "runtime", c->runtime_name);
	put_time(&w, "createdTime", c->created_at);
	put_time(&w, "checkpointedTime", clock_wall_ns());
	jw_object_end(&w);
}

int life_checkpoint(struct container *ctr, const char *location, uint64_t timeout_s, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	const struct config *cfg = c->node->config;
	_cleanup_free_ char *writable = xasprintf("%s/containers/%s", cfg->root, c->id);
	_cleanup_strbuf_ struct strbuf config = STRBUF_NULL;
	struct ipc_out o;
	int r = life_need_running(c, e);

	if (r == 0)
		r = check_possible(c, e);
	if (r < 0)
		return r;
	print_config(c, &config);
	ipc_out_init(&o, MON_CHECKPOINT, 0);
	ipc_put_str(&o, MON_TAG_ID, c->id);
	ipc_put_bytes(&o, MON_TAG_CONFIG, config.s, config.len);
	ipc_put_str(&o, MON_TAG_WRITABLE, writable);
	ipc_put_str(&o, MON_TAG_SNAPSHOTTER, cfg->image.snapshotter);
	ipc_put_str(&o, MON_TAG_LOCATION, location);
	if (timeout_s)
		ipc_put_u64(&o, MON_TAG_TIMEOUT, timeout_s * USEC_PER_SEC);
	return pod_monitor_call(c->pod, &o, NULL, e);
}
