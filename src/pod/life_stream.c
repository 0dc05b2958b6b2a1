/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming sessions of containers and pods, asked of their monitor: see life.h. */
#include "base/mem.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "pod/stream.h"
#include "spec/spec.h"

int life_need_running(const struct container *c, struct err *e)
{
	if (c->state != CONTAINER_RUNNING)
		return err_precondition(e, "container %s is %s, not running", c->id,
					container_state_name(c));
	return 0;
}

int life_need_attachable(const struct container *c, bool in, bool tty, struct err *e)
{
	if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_CREATED)
		return err_precondition(e, "container %s is %s, neither created nor running", c->id,
					container_state_name(c));
	if (tty != (bool)c->config->tty)
		return err_invalid(e, "tty: must be as the container's, %s",
				   c->config->tty ? "which has a terminal" : "which has none");
	if (in && !c->config->stdin)
		return err_invalid(e, "stdin: container %s was made without", c->id);
	return 0;
}

int life_need_ready(const struct pod *p, struct err *e)
{
	return p->state == POD_READY ? 0
				     : err_precondition(e, "pod sandbox %s is not ready", p->id);
}

static void put_streams(const struct stream_offer *o, struct ipc_out *to)
{
	ipc_put_u64(to, STREAM_TAG_TTY, o->tty);
	ipc_put_u64(to, STREAM_TAG_STDIN, o->in);
	ipc_put_u64(to, STREAM_TAG_STDOUT, o->out);
	ipc_put_u64(to, STREAM_TAG_STDERR, o->err);
}

/* Monitors that an older gantry started know no streams. */
static int ask(struct pod *p, struct ipc_out *q, struct ipc_in *ret, struct err *e)
{
	int r = pod_monitor_call(p, q, ret, e);

	if (r < 0 && e->code == GRPC_UNIMPLEMENTED)
		return err_precondition(e,
					"pod sandbox %s was made by an older gantry and has no "
					"streams: make it anew",
					p->id);
	return r;
}

int life_exec_stream(struct container *ctr, const struct stream_offer *o, struct ipc_in *ret,
		     struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	_cleanup_strbuf_ struct strbuf process = STRBUF_NULL;
	struct spec_terminal t = {o->width, o->height};
	struct ipc_out q;
	int r = life_need_running(c, e);

	if (r == 0)
		r = life_print_process(c, o->cmd, o->n_cmd, o->tty ? &t : NULL, &process, e);
	if (r < 0)
		return r;
	ipc_out_init(&q, MON_EXEC_STREAM, 0);
	ipc_put_str(&q, MON_TAG_ID, c->id);
	ipc_put_bytes(&q, MON_TAG_CONFIG, process.s, process.len);
	put_streams(o, &q);
	return ask(c->pod, &q, ret, e);
}

int life_attach(struct container *ctr, const struct stream_offer *o, struct ipc_in *ret,
		struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	struct ipc_out q;
	int r = life_need_attachable(c, o->in, o->tty, e);

	if (r < 0)
		return r;
	ipc_out_init(&q, MON_ATTACH, 0);
	ipc_put_str(&q, MON_TAG_ID, c->id);
	put_streams(o, &q);
	return ask(c->pod, &q, ret, e);
}

int life_connect(struct pod *pod, uint16_t port, struct ipc_in *ret, struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	struct ipc_out q;
	int r = life_need_ready(p, e);

	if (r < 0)
		return r;
	ipc_out_init(&q, MON_CONNECT, 0);
	ipc_put_u64(&q, STREAM_TAG_PORT, port);
	return ask(p, &q, ret, e);
}
