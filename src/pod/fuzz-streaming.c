/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a gantry-stream asks the daemon for, in any order: sessions that were and were not allowed, of
 * a pod that is not ready and of containers that are not there.  The bytes are requests: type, two
 * bytes of length, and so many of fields as ipc.h has them.
 */
#include "pod/stream.c" /* its requests are static */

#include "base/fuzz.h"

static struct node node;
static struct streams server;
static struct pod *pod;

static void setup(void)
{
	static const char pod_bytes[] = "\x0a\x03\x0a\x01p";
	static struct config config;
	struct config_flags flags = {.file = "/dev/null", .log_level = "error"};
	char id[ID_SIZE] = "";

	FUZZ_ASSERT(config_load(&flags, &config, NULL) == 0);
	log_init("fuzz", LOG_LEVEL_ERROR);
	node.config = &config;
	FUZZ_ASSERT(loop_new(&node.loop) == 0);
	memset(id, 'a', ID_LEN);
	FUZZ_ASSERT(pod_new(&node, id, pod_bytes, 5, &pod, NULL) == 0);
	pod->state = POD_NOTREADY;
	map_put(&node.pods, pod->id, pod);
	server.node = &node;
	list_init(&server.tokens);
	list_init(&server.children);
}

/* Known by the names "1", "2", "3". */
static void offer_sessions(void)
{
	static char word[] = "true";
	static char *const cmd[] = {word};
	static const int32_t ports[] = {80};

	for (int kind = STREAM_EXEC; kind <= STREAM_PORT_FORWARD; kind++) {
		struct stream_offer o = {kind,
					 .id = pod->id,
					 .cmd = cmd,
					 .n_cmd = 1,
					 .out = true,
					 .ports = ports,
					 .n_ports = kind == STREAM_PORT_FORWARD};
		struct stream_token *t = token_new(&server, &o);

		map_remove(&server.by_text, t->text);
		strcpy(t->text, kind == STREAM_EXEC ? "1" : kind == STREAM_ATTACH ? "2" : "3");
		map_put(&server.by_text, t->text, t);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_child *c;
	size_t at = 0;

	if (!pod)
		setup();
	offer_sessions();
	c = xcalloc(1, sizeof(*c));
	c->server = &server;
	list_init(&c->calls);
	stream_child_ref(c);
	while (size - at >= 3) {
		size_t n = MIN((size_t)(data[at + 1] | data[at + 2] << 8), size - at - 3);
		struct ipc_in in = {
			.type = data[at], .seq = 1, .body = xmemdup(data + at + 3, n), .len = n};

		stream_on_message(&c->ipc, &in);
		ipc_in_fini(&in);
		at += 3 + n;
		FUZZ_ASSERT(c->n_calls <= STREAM_CALLS_MAX);
	}
	FUZZ_ASSERT(c->n_calls == 0); /* nothing can be asked of a monitor here */
	stream_child_unref(c);
	stream_tokens_drop(&server);
	FUZZ_ASSERT(server.token_bytes == 0 && server.by_text.n == 0);
	return 0;
}
