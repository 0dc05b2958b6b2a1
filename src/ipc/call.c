/* SPDX-License-Identifier: Apache-2.0 */
/* ipc_call(): a request from a coroutine.  A file of its own: monitors have none. */
#include "base/mem.h"
#include "ipc/ipc_internal.h"
#include "loop/co.h"

struct call {
	struct ipc_pending p;
	struct co *co;
};

static void wake(struct ipc_pending *p)
{
	co_wake(container_of(p, struct call, p)->co);
}

static void send_cancel(struct ipc_conn *c, uint32_t seq)
{
	struct ipc_out o;

	ipc_out_init(&o, IPC_CANCEL, seq);
	ipc_conn_send(c, &o);
}

int ipc_call(struct ipc_conn *c, struct ipc_out *o, struct ipc_in *ret, struct err *e)
{
	struct call call = {.p = {.wake = wake}, .co = co_self()};
	struct ipc_header h;
	int r;

	if (!c->loop) {
		ipc_out_fini(o);
		return err_set(e, -ECONNRESET, GRPC_UNAVAILABLE, "the connection is closed");
	}
	if (o->too_large) {
		ipc_out_fini(o);
		return err_set(e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED,
			       "the request has more than %u bytes", IPC_BODY_MAX);
	}
	call.p.seq = c->next_seq++;
	if (c->next_seq == 0)
		c->next_seq = 1;
	memcpy(&h, o->b.s, sizeof(h));
	h.seq = call.p.seq;
	memcpy(o->b.s, &h, sizeof(h));
	list_append(&c->calls, &call.p.link);
	ipc_conn_send(c, o);
	while (!call.p.done && co_wait() == 0)
		;
	if (!call.p.done) { /* cancelled: the peer ends the work or undoes it, and says so */
		send_cancel(c, call.p.seq);
		co_shield(true);
		while (!call.p.done)
			co_wait();
		co_shield(false);
	}
	if (call.p.lost)
		return err_set(e, -ECONNRESET, GRPC_UNAVAILABLE, "the connection was lost");
	r = ipc_reply_error(&call.p.in, e);
	if (r < 0 || !ret)
		ipc_in_fini(&call.p.in);
	else
		*ret = call.p.in;
	return r;
}
