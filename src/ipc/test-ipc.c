/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/test.h"
#include "ipc/ipc_internal.h"
#include "loop/co.h"

static struct loop *l;
static struct ipc_conn a, b;

static void test_fields(void)
{
	struct ipc_out o;
	struct ipc_in in;
	int p[2], fd;

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ipc_out_init(&o, 77, 5);
	ipc_put_str(&o, 20, "hello");
	ipc_put_str(&o, 20, "twice");
	ipc_put_u64(&o, 21, UINT64_MAX);
	ipc_put_bytes(&o, 22, "ab", 2);
	ipc_put_fd(&o, fd);
	CHECK_INT(ipc_send(p[0], &o), 0);
	CHECK_INT(ipc_recv(p[1], &in), 0);
	CHECK_INT(in.type, 77);
	CHECK_INT(in.n_fds, 1);
	CHECK_STR(ipc_get_str(&in, 20), "hello");
	CHECK(ipc_get_u64(&in, 21, 0) == UINT64_MAX);
	CHECK(ipc_get_str(&in, 22) == NULL);   /* not terminated */
	CHECK_INT(ipc_get_u64(&in, 20, 9), 9); /* not a number */
	in.len -= 1;			       /* the last field is cut: it is not there */
	CHECK(!ipc_get_bytes(&in, 22, &(const void *){0}, &(size_t){0}));
	ipc_in_fini(&in);
	fd_close(p[0]);
	CHECK_INT(ipc_recv(p[1], &in), -EPIPE);
	fd_close(p[1]);
}

/* b answers: type 50 echoes, 51 waits for IPC_CANCEL, 52 hangs up. */
static void on_request(struct ipc_conn *c, struct ipc_in *in)
{
	static uint32_t held;
	struct err e = ERR_NULL;
	struct ipc_out o;

	if (in->type == 50) {
		ipc_out_reply(&o, in->seq, NULL);
		ipc_put_bytes(&o, 30, in->body, in->len);
		ipc_conn_send(c, &o);
	} else if (in->type == 51) {
		held = in->seq;
	} else if (in->type == 52) {
		ipc_conn_close(c);
	} else if (in->type == IPC_CANCEL && in->seq == held) {
		err_set(&e, -ECANCELED, GRPC_CANCELLED, "undone");
		ipc_out_reply(&o, held, &e);
		ipc_conn_send(c, &o);
	}
}

static int closed;

static void on_close(struct ipc_conn *c, int reason)
{
	CHECK_INT(reason, 0);
	closed++;
}

static void too_large(struct ipc_out *o, uint16_t type, size_t n)
{
	_cleanup_free_ char *bytes = xcalloc(1, n);

	ipc_out_init(o, type, 0);
	ipc_put_bytes(o, 20, bytes, n);
}

static void caller(void *arg)
{
	_cleanup_free_ char *big = xcalloc(1, 8 << 20);
	struct ipc_out o;
	struct ipc_in in;
	struct err e;

	ipc_out_init(&o, 50, 0);
	ipc_put_bytes(&o, 20, big, 8 << 20);
	CHECK_INT(ipc_call(&a, &o, &in, &e), 0);
	CHECK(in.len > 8 << 20);
	ipc_in_fini(&in);
	too_large(&o, 50, IPC_BODY_MAX - 8 + 1);
	CHECK_INT(ipc_call(&a, &o, NULL, &e), -EMSGSIZE);
	CHECK_INT(e.code, GRPC_RESOURCE_EXHAUSTED);
	too_large(&o, 50, IPC_BODY_MAX - 8); /* fits, but its echo does not */
	CHECK_INT(ipc_call(&a, &o, NULL, &e), -EMSGSIZE);
	CHECK_INT(e.code, GRPC_RESOURCE_EXHAUSTED);
	ipc_out_init(&o, 51, 0);
	CHECK_INT(ipc_call(&a, &o, NULL, &e), -ECANCELED);
	CHECK_STR(e.msg, "undone");
	ipc_out_init(&o, 52, 0);
	CHECK_INT(ipc_call(&a, &o, NULL, &e), -ECONNRESET);
	CHECK_INT(e.code, GRPC_UNAVAILABLE);
	loop_stop(l, 0);
}

static struct co *the_caller;

static void canceller(void *arg)
{
	co_sleep(50000);
	co_cancel(the_caller, -ECANCELED);
}

static void test_calls(void)
{
	int p[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
	CHECK_INT(ipc_conn_open(&a, l, p[0], NULL, on_close), 0);
	CHECK_INT(ipc_conn_open(&b, l, p[1], on_request, NULL), 0);
	the_caller = co_start(l, caller, NULL);
	co_start(l, canceller, NULL);
	CHECK_INT(loop_run(l), 0);
	CHECK_INT(closed, 1);
	ipc_conn_close(&a);
	ipc_conn_close(&b);
}

/* A peer that reads nothing: what waits for it is bounded. */
static void test_deaf_peer(void)
{
	struct ipc_out o;
	int p[2];

	closed = 0;
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
	CHECK_INT(ipc_conn_open(&a, l, p[0], NULL, on_close), 0);
	for (int i = 0; i < 10; i++) {
		too_large(&o, 60, 10 << 20);
		ipc_conn_send(&a, &o);
	}
	for (int i = 0; i < 10 && !closed; i++)
		loop_turn(l, 100000);
	CHECK_INT(closed, 1);
	fd_close(p[1]);
}

static void test_garbage(void)
{
	struct ipc_in in;
	char junk[64];
	int p[2];

	memset(junk, 0xff, sizeof(junk));
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
	CHECK_INT(write(p[0], junk, sizeof(junk)), sizeof(junk));
	CHECK_INT(ipc_recv(p[1], &in), -EBADMSG);
	fd_close(p[0]);
	fd_close(p[1]);
}

int main(void)
{
	CHECK_INT(loop_new(&l), 0);
	TEST(fields);
	TEST(garbage);
	TEST(calls);
	TEST(deaf_peer);
	loop_free(l);
	co_pool_free();
	return test_done();
}
