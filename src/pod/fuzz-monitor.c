/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor says to the daemon: states and exits in any order, of containers in any state.
 * The bytes are fields as ipc.h has them; the first byte says which message they are.
 */
#include "pod/monitor.c" /* its decoding is static */

#include "base/fuzz.h"

static struct node node;
static struct pod *pod;
static struct container *containers[5]; /* one in each state */

static char dir[] = "/dev/shm/gantry-fuzz-XXXXXX";

static void clean_up(void)
{
	fs_remove_tree(AT_FDCWD, dir);
}

static void setup(void)
{
	static const char pod_bytes[] = "\x0a\x03\x0a\x01p", bytes[] = "\x0a\x03\x0a\x01n";
	static struct config config;
	struct config_flags flags = {.file = "/dev/null", .log_level = "error"};
	char id[ID_SIZE] = "";
	_cleanup_free_ char *path = NULL, *moved = NULL;

	FUZZ_ASSERT(config_load(&flags, &config, NULL) == 0);
	log_init("fuzz", LOG_LEVEL_ERROR);
	FUZZ_ASSERT(mkdtemp(dir) != NULL);
	path = xasprintf("%s/index.db", dir);
	node.config = &config;
	list_init(&node.pods_in_order);
	list_init(&node.containers_in_order);
	FUZZ_ASSERT(loop_new(&node.loop) == 0);
	FUZZ_ASSERT(state_open(path, &node.state, &moved, NULL) == 0);
	atexit(clean_up);
	memset(id, 'a', ID_LEN);
	FUZZ_ASSERT(pod_new(&node, id, pod_bytes, 5, &pod, NULL) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(containers); i++) {
		id[0] = (char)('0' + (int)i);
		FUZZ_ASSERT(container_new(pod, id, bytes, 5, &containers[i], NULL) == 0);
		map_put(&node.containers, containers[i]->id, containers[i]);
		if (!list_linked(&containers[i]->in_pod))
			list_append(&pod->containers, &containers[i]->in_pod);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipc_in in = {.type = MON_EVENT_EXIT};

	if (!pod)
		setup();
	if (size < 1)
		return 0;
	pod->state = POD_READY;
	for (size_t i = 0; i < ARRAY_SIZE(containers); i++)
		containers[i]->state = (enum container_state)i;
	in.body = (uint8_t *)(uintptr_t)(data + 1);
	in.len = size - 1;
	switch (data[0] % 4) {
	case 0:
		take_state(pod, &in);
		for (size_t i = 0; i < ARRAY_SIZE(containers); i++) /* known to it, or ended */
			FUZZ_ASSERT(containers[i]->state == CONTAINER_EXITED ||
				    containers[i]->state == (enum container_state)i ||
				    told_of(&in, containers[i]->id));
		break;
	case 1:
		in.type = MON_EVENT_POD;
		on_message(&pod->monitor, &in);
		break;
	default:
		on_message(&pod->monitor, &in);
	}
	FUZZ_ASSERT(containers[CONTAINER_CREATING]->state == CONTAINER_CREATING ||
		    containers[CONTAINER_CREATING]->state == CONTAINER_EXITED);
	FUZZ_ASSERT(containers[CONTAINER_REMOVING]->state == CONTAINER_REMOVING);
	return 0;
}
