/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of containers that are there: see life.h. */
#include "base/mem.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "pod/node.h"

/* The configuration that is kept says what is in force, after a restart too. */
static int keep_resources(struct container *c, const Runtime__V1__LinuxContainerResources *with,
			  struct err *e)
{
	Runtime__V1__LinuxContainerConfig linux_config = RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerResources res = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	Runtime__V1__ContainerConfig cfg = *c->config;
	_cleanup_arena_ struct arena merged = ARENA_NULL;
	struct arena arena = ARENA_NULL;
	ProtobufCAllocator alloc;
	uint8_t *bytes;
	size_t len;

	if (cfg.linux)
		linux_config = *cfg.linux;
	if (linux_config.resources)
		res = *linux_config.resources;
	spec_resources_merge(&res, with, &merged);
	linux_config.resources = &res;
	cfg.linux = &linux_config;
	len = runtime__v1__container_config__get_packed_size(&cfg);
	bytes = xmalloc(len);
	runtime__v1__container_config__pack(&cfg, bytes);
	/* Handlers hold nothing of a configuration across a wait, so the old one can go. */
	alloc = pod_allocator(&arena);
	c->config = runtime__v1__container_config__unpack(&alloc, len, bytes);
	arena_fini(&c->arena);
	c->arena = arena;
	free(c->config_bytes);
	c->config_bytes = bytes;
	c->config_len = len;
	return container_record(c, e);
}

int life_update_container(struct container *ctr, const Runtime__V1__LinuxContainerResources *r,
			  struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	_cleanup_strbuf_ struct strbuf json = STRBUF_NULL;
	struct ipc_out o;
	int k;

	if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_CREATED)
		return err_precondition(e, "container %s is %s, neither created nor running", c->id,
					container_state_name(c));
	spec_resources_print(r, c->config->linux ? c->config->linux->resources : NULL,
			     &c->node->host, &json);
	ipc_out_init(&o, MON_UPDATE, 0);
	ipc_put_str(&o, MON_TAG_ID, c->id);
	ipc_put_bytes(&o, MON_TAG_CONFIG, json.s, json.len);
	k = pod_monitor_call(c->pod, &o, NULL, e);
	return k < 0 ? k : keep_resources(c, r, e);
}
