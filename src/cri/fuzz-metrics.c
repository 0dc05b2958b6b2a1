/* SPDX-License-Identifier: Apache-2.0 */
/* What a monitor says of figures: any bytes become metrics with the labels of their descriptors. */
#include "cri/metrics.c" /* what reads them is static */

#include "base/fuzz.h"

static struct node node;
static struct pod *pod;

static void setup(void)
{
	static const char pod_bytes[] = "\x0a\x03\x0a\x01p", bytes[] = "\x0a\x03\x0a\x01n";
	struct container *c;
	char id[ID_SIZE] = "";

	list_init(&node.pods_in_order);
	list_init(&node.containers_in_order);
	memset(id, 'a', ID_LEN);
	FUZZ_ASSERT(pod_new(&node, id, pod_bytes, 5, &pod, NULL) == 0);
	for (int i = 0; i < 2; i++) {
		id[0] = (char)('0' + i);
		FUZZ_ASSERT(container_new(pod, id, bytes, 5, &c, NULL) == 0);
		c->state = CONTAINER_RUNNING;
		free(c->cgroup);
		c->cgroup = xstrdup("/g");
		if (!list_linked(&c->in_pod))
			list_append(&pod->containers, &c->in_pod);
	}
	pod->state = POD_READY;
}

static void check(Runtime__V1__Metric *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct metric *m = NULL;

		for (size_t k = 0; k < ARRAY_SIZE(metrics) && !m; k++)
			m = streq(metrics[k].name, v[i]->name) ? &metrics[k] : NULL;
		FUZZ_ASSERT(m && v[i]->n_label_values == BASE_KEYS + extra_keys(m));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipc_in in = {.type = IPC_REPLY, .body = (uint8_t *)(uintptr_t)data, .len = size};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	Runtime__V1__ListPodSandboxMetricsResponse *r;

	if (!pod)
		setup();
	put_pod(&b, pod, &in);
	r = runtime__v1__list_pod_sandbox_metrics_response__unpack(NULL, b.len, (uint8_t *)b.s);
	FUZZ_ASSERT(r && r->n_pod_metrics == 1 && r->pod_metrics[0]->n_container_metrics == 2);
	check(r->pod_metrics[0]->metrics, r->pod_metrics[0]->n_metrics);
	for (size_t i = 0; i < 2; i++)
		check(r->pod_metrics[0]->container_metrics[i]->metrics,
		      r->pod_metrics[0]->container_metrics[i]->n_metrics);
	runtime__v1__list_pod_sandbox_metrics_response__free_unpacked(r, NULL);
	return 0;
}
