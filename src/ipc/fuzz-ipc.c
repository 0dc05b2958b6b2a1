/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that come: read blocking and on a loop, every field taken as everything. */
#include <sys/socket.h>

#include "base/fuzz.h"
#include "base/mem.h"
#include "ipc/ipc_internal.h"

static struct loop *l;
static unsigned n_frames, n_closed;

static void walk(const struct ipc_in *in, unsigned depth)
{
	struct ipc_field f;
	struct err e = ERR_NULL;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f)) {
		const char *s = ipc_field_str(&f);
		struct ipc_in nested = ipc_field_nested(&f);
		const void *p;
		size_t n;

		FUZZ_ASSERT((const uint8_t *)f.p >= in->body && f.n <= in->len);
		FUZZ_ASSERT(!s || strlen(s) < f.n);
		ipc_field_u64(&f);
		ipc_get_i64(in, f.tag, 0);
		FUZZ_ASSERT(ipc_get_bytes(in, f.tag, &p, &n));
		if (depth < 8)
			walk(&nested, depth + 1);
	}
	if (ipc_reply_error(in, &e) < 0)
		FUZZ_ASSERT(e.code != GRPC_OK && e.errnum < 0);
}

static void on_msg(struct ipc_conn *c, struct ipc_in *in)
{
	struct ipc_out o;

	n_frames++;
	walk(in, 0);
	ipc_out_init(&o, in->type, in->seq);
	ipc_put_fields(&o, in);
	ipc_conn_send(c, &o);
}

static void on_close(struct ipc_conn *c, int reason)
{
	(void)c;
	FUZZ_ASSERT(reason <= 0);
	n_closed++;
}

static int feed(const uint8_t *data, size_t size)
{
	int p[2], large = 1 << 20;

	FUZZ_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) == 0);
	setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	(void)!send(p[0], data, size, MSG_DONTWAIT);
	shutdown(p[0], SHUT_WR);
	fd_close(p[0]);
	return p[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipc_conn c;
	struct ipc_in in;
	unsigned blocking = 0;
	int fd = feed(data, size), r;

	if (!l)
		FUZZ_ASSERT(loop_new(&l) == 0);
	while ((r = ipc_recv(fd, &in)) == 0) {
		blocking++;
		walk(&in, 0);
		ipc_in_fini(&in);
	}
	FUZZ_ASSERT(r == -EPIPE || r == -EBADMSG || r == -ECONNRESET);
	fd_close(fd);
	n_frames = n_closed = 0;
	FUZZ_ASSERT(ipc_conn_open(&c, l, feed(data, size), on_msg, on_close) == 0);
	for (int i = 0; i < 100 && !n_closed; i++)
		loop_turn(l, 0);
	FUZZ_ASSERT(n_closed == 1);
	FUZZ_ASSERT(n_frames <= blocking); /* a reply that cannot be sent ends it sooner */
	return 0;
}
