/* SPDX-License-Identifier: Apache-2.0 */
/* Server and client against each other: the server in a child process. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/test.h"
#include "loop/co.h"
#include "wire/grpc.h"
#include "wire/grpc_client.h"

static char path[64];
static unsigned cancelled;

static const void *lookup(void *arg, const char *p)
{
	(void)arg;
	return str_has_prefix(p, "/t.T/") ? xstrdup(p + 5) : NULL; /* of the test's life */
}

static void handler(struct grpc_call *c, const void *method)
{
	struct strbuf b = STRBUF_NULL;
	size_t n;
	const uint8_t *p = grpc_call_request(c, &n);

	if (streq(method, "Echo")) {
		strbuf_add(&b, p, n);
		grpc_call_reply(c, &b);
	} else if (streq(method, "Fail")) {
		grpc_call_finish(c, GRPC_NOT_FOUND, "nothing \"here\" \xc3\xa4 100%\n");
	} else if (streq(method, "Sleep")) {
		if (co_sleep(30 * USEC_PER_SEC) < 0)
			cancelled++;
		grpc_call_finish(c, GRPC_OK, "");
	} else if (streq(method, "Cancelled")) {
		strbuf_addf(&b, "%u", cancelled);
		grpc_call_reply(c, &b);
	} else if (streq(method, "Large")) {
		memset(strbuf_reserve(&b, (17u << 20)), 'x', 17u << 20);
		b.len = 17u << 20;
		grpc_call_reply(c, &b);
	} else {
		for (int i = 0; i < 1000; i++) {
			char text[16];
			int k = snprintf(text, sizeof(text), "%d", i);

			if (grpc_call_send(c, text, (size_t)k, NULL) < 0)
				return;
		}
		grpc_call_finish(c, GRPC_OK, "");
	}
	strbuf_fini(&b);
}

static _Noreturn void serve(int fd)
{
	struct grpc_server_config cfg = {.lookup = lookup, .handler = handler, .max_requests = 64};
	struct grpc_server *s;
	struct loop *l;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (loop_new(&l) < 0 || grpc_server_new(l, &cfg, fd, &s, NULL) < 0)
		_exit(1);
	loop_run(l);
	_exit(0);
}

static pid_t start_server(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	pid_t pid;

	snprintf(path, sizeof(path), "/tmp/gantry-grpc-%d", (int)getpid());
	strcpy(sa.sun_path, path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0)
		exit(1);
	pid = fork();
	if (pid == 0)
		serve(fd);
	close(fd);
	return pid;
}

static struct grpc_client *client(void)
{
	struct grpc_client *c = NULL;
	struct err e = ERR_NULL;

	CHECK_INT(grpc_client_connect(path, &c, &e), 0);
	return c;
}

static void test_unary(void)
{
	_cleanup_grpc_client_ struct grpc_client *c = client();
	struct strbuf b = STRBUF_NULL, big = STRBUF_NULL;
	struct err e = ERR_NULL;

	CHECK_INT(grpc_client_call(c, "/t.T/Echo", "hello", 5, USEC_FOREVER, &b, &e), 0);
	CHECK_STR(b.s, "hello");
	CHECK_INT(grpc_client_call(c, "/t.T/Echo", "", 0, USEC_PER_SEC, &b, &e), 0);
	CHECK_INT(b.len, 0);
	/* 16 MiB pass both ways, one byte more does not. */
	memset(strbuf_reserve(&big, GRPC_MESSAGE_MAX + 1), 'y', GRPC_MESSAGE_MAX + 1);
	CHECK_INT(grpc_client_call(c, "/t.T/Echo", big.s, GRPC_MESSAGE_MAX, USEC_FOREVER, &b, &e),
		  0);
	CHECK_INT(b.len, GRPC_MESSAGE_MAX);
	CHECK(grpc_client_call(c, "/t.T/Echo", big.s, GRPC_MESSAGE_MAX + 1, USEC_FOREVER, &b, &e) <
	      0);
	CHECK_INT(e.code, GRPC_RESOURCE_EXHAUSTED);
	CHECK(grpc_client_call(c, "/t.T/Large", "", 0, USEC_FOREVER, &b, &e) < 0);
	CHECK_INT(e.code, GRPC_RESOURCE_EXHAUSTED);
	CHECK_INT(grpc_client_call(c, "/t.T/Echo", "x", 1, USEC_FOREVER, &b, &e), 0);
	strbuf_fini(&b);
	strbuf_fini(&big);
}

static void test_errors(void)
{
	_cleanup_grpc_client_ struct grpc_client *c = client();
	struct strbuf b = STRBUF_NULL;
	struct grpc_client *none;
	struct err e = ERR_NULL;

	CHECK(grpc_client_call(c, "/t.T/Fail", "", 0, USEC_FOREVER, &b, &e) < 0);
	CHECK_INT(e.code, GRPC_NOT_FOUND);
	CHECK_STR(e.msg, "nothing \"here\" \xc3\xa4 100%\n");
	CHECK(grpc_client_call(c, "/no.Such/Method", "", 0, USEC_FOREVER, &b, &e) < 0);
	CHECK_INT(e.code, GRPC_UNIMPLEMENTED);
	CHECK_INT(grpc_client_connect("/nowhere/x", &none, &e), -ENOENT);
	CHECK_INT(e.code, GRPC_UNAVAILABLE);
	strbuf_fini(&b);
}

static void test_deadline_and_cancel(void)
{
	_cleanup_grpc_client_ struct grpc_client *c = client();
	struct strbuf b = STRBUF_NULL;
	struct grpc_stream *s;
	struct err e = ERR_NULL;
	uint64_t until = clock_mono_us() + 5 * USEC_PER_SEC;

	CHECK(grpc_client_call(c, "/t.T/Sleep", "", 0, 20000, &b, &e) < 0);
	CHECK_INT(e.code, GRPC_DEADLINE_EXCEEDED);
	CHECK_INT(grpc_client_stream_open(c, "/t.T/Sleep", "", 0, USEC_FOREVER, &s, &e), 0);
	CHECK_INT(grpc_client_call(c, "/t.T/Echo", "x", 1, USEC_FOREVER, &b, &e), 0);
	grpc_client_stream_close(s);
	do
		CHECK_INT(grpc_client_call(c, "/t.T/Cancelled", "", 0, USEC_FOREVER, &b, &e), 0);
	while (!streq(b.s, "2") && clock_mono_us() < until);
	CHECK_STR(b.s, "2");
	strbuf_fini(&b);
}

static void test_stream(void)
{
	_cleanup_grpc_client_ struct grpc_client *c = client();
	struct strbuf b = STRBUF_NULL;
	struct grpc_stream *s;
	struct err e = ERR_NULL;
	int n = 0;

	CHECK_INT(grpc_client_stream_open(c, "/t.T/Count", "", 0, USEC_FOREVER, &s, &e), 0);
	while (grpc_client_stream_next(s, &b, &e) > 0)
		CHECK_INT(atoi(b.s), n++);
	CHECK_INT(n, 1000);
	grpc_client_stream_close(s);
	strbuf_fini(&b);
}

/* What is no HTTP/2 ends the connection, and nothing else. */
static void test_garbage(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char buf[4096];

	strcpy(sa.sun_path, path);
	for (unsigned seed = 1; seed < 50; seed++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		CHECK_INT(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = (char)((seed * 2654435761u + i * 40503u) >> 7);
		if (seed % 2)
			memcpy(buf, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
		(void)!send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
		close(fd);
	}
	test_unary();
}

static void test_pieces(void)
{
	char buf[GRPC_TIMEOUT_LEN];
	uint64_t us;

	CHECK(grpc_parse_timeout("5010m", 5, &us) && us == 5010000);
	CHECK(grpc_parse_timeout("1H", 2, &us) && us == 3600 * USEC_PER_SEC);
	CHECK(!grpc_parse_timeout("m", 1, &us) && !grpc_parse_timeout("123456789m", 10, &us));
	CHECK(!grpc_parse_timeout("5x", 2, &us) && !grpc_parse_timeout("", 0, &us));
	CHECK_STR(grpc_format_timeout(1500000, buf), "1500000u");
	CHECK_STR(grpc_format_timeout(200 * USEC_PER_SEC, buf), "200000m");
}

int main(void)
{
	pid_t pid = start_server();

	TEST(pieces);
	TEST(unary);
	TEST(errors);
	TEST(deadline_and_cancel);
	TEST(stream);
	TEST(garbage);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
	return test_done();
}
