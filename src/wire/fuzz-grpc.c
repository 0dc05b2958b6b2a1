/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gRPC server, fed through a socket: any bytes, after a good beginning or none, cut anywhere.
 * When the client is gone nothing of it may be left.
 *
 * The first byte: bit 0 puts the preface and SETTINGS before the rest, bit 1 makes the client
 * read nothing; the second: how many bytes are sent at a time.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fuzz.h"
#include "base/mem.h"
#include "wire/server.h"

static struct loop *l;
static struct grpc_server *server;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_len;

static const void *lookup(void *arg, const char *path)
{
	static const char *const methods[] = {"/t/Echo", "/t/Wait", "/t/Many"};

	(void)arg;
	FUZZ_ASSERT(strlen(path) < GRPC_PATH_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (streq(path, methods[i]))
			return methods[i];
	return NULL;
}

static void handler(struct grpc_call *c, const void *method)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	size_t n;
	const uint8_t *p = grpc_call_request(c, &n);
	int r = 0;

	if (streq(method, "/t/Echo")) {
		strbuf_add(&b, p, n);
		grpc_call_reply(c, &b);
		return;
	}
	if (streq(method, "/t/Wait"))
		r = co_sleep(3600 * USEC_PER_SEC);
	for (int i = 0; i < 300 && r == 0; i++)
		r = grpc_call_send(c, p, n, &e);
	grpc_call_finish(c, r < 0 ? GRPC_CANCELLED : GRPC_OK, r < 0 ? "over \xc3\xa4 %" : "");
}

static void setup(void)
{
	struct grpc_server_config cfg = {.lookup = lookup, .handler = handler, .max_requests = 20};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1);
	address_len += (socklen_t)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
					   "gantry-fuzz-%d", (int)getpid());
	FUZZ_ASSERT(bind(fd, (struct sockaddr *)&address, address_len) == 0);
	FUZZ_ASSERT(listen(fd, 8) == 0);
	FUZZ_ASSERT(loop_new(&l) == 0);
	FUZZ_ASSERT(grpc_server_new(l, &cfg, fd, &server, NULL) == 0);
}

/* Turns of the loop until it has nothing to do; what the server says is read, or not. */
static void turn(int fd, bool reads)
{
	static uint8_t sink[65536];

	for (int i = 0; i < 3; i++) {
		loop_turn(l, 0);
		while (reads && recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char good[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	size_t step;
	bool reads;
	int fd;

	if (!server)
		setup();
	if (size < 2)
		return 0;
	reads = !(data[0] & 2);
	step = data[1] ? data[1] : size;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	FUZZ_ASSERT(connect(fd, (struct sockaddr *)&address, address_len) == 0);
	if (data[0] & 1)
		FUZZ_ASSERT(send(fd, good, sizeof(good) - 1, MSG_NOSIGNAL) > 0);
	for (size_t i = 2; i < size; i += step) {
		if (send(fd, data + i, MIN(step, size - i), MSG_NOSIGNAL) < 0)
			break;
		turn(fd, reads);
	}
	turn(fd, reads);
	close(fd);
	for (int i = 0; i < 1000 && (server->n_conns || server->n_running); i++)
		loop_turn(l, 0);
	FUZZ_ASSERT(!server->n_conns && !server->n_running);
	FUZZ_ASSERT(!server->n_calls && !server->held);
	return 0;
}
