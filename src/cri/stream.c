/* SPDX-License-Identifier: Apache-2.0 */
/* CRI: Exec, Attach, PortForward.  They answer where the client finds its session: pod/stream.h. */
#include "base/mem.h"
#include "cri/cri.h"
#include "cri/validate.h"
#include "pod/life.h"
#include "pod/stream.h"

static int offer(struct cri_call *c, const struct stream_offer *o, char **ret, struct err *e)
{
	_cleanup_free_ char *url = NULL;
	int r = streams_offer(c->node->streams, o, &url, e);

	if (r == 0)
		*ret = arena_strdup(c->arena, url);
	return r;
}

static int exec(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ExecRequest *q = request;
	Runtime__V1__ExecResponse *r = response;
	struct stream_offer o = {STREAM_EXEC,	 .cmd = q->cmd,	   .n_cmd = q->n_cmd, .tty = q->tty,
				 .in = q->stdin, .out = q->stdout, .err = q->stderr};
	struct container *ctr;
	int ret;

	c->about = q->container_id;
	ret = container_find(c->node, q->container_id, &ctr, e);
	if (ret == 0)
		ret = validate_command("cmd", q->cmd, q->n_cmd, e);
	if (ret == 0)
		ret = validate_streams(q->stdin, q->stdout, q->stderr, q->tty, e);
	if (ret == 0)
		ret = life_need_running(ctr, e);
	if (ret < 0)
		return ret;
	o.id = ctr->id;
	return offer(c, &o, &r->url, e);
}

static int attach(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__AttachRequest *q = request;
	Runtime__V1__AttachResponse *r = response;
	struct stream_offer o = {STREAM_ATTACH, .tty = q->tty, .in = q->stdin, .out = q->stdout,
				 .err = q->stderr};
	struct container *ctr;
	int ret;

	c->about = q->container_id;
	ret = container_find(c->node, q->container_id, &ctr, e);
	if (ret == 0)
		ret = validate_streams(q->stdin, q->stdout, q->stderr, q->tty, e);
	if (ret == 0)
		ret = life_need_attachable(ctr, q->stdin, q->tty, e);
	if (ret < 0)
		return ret;
	o.id = ctr->id;
	return offer(c, &o, &r->url, e);
}

static int port_forward(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__PortForwardRequest *q = request;
	Runtime__V1__PortForwardResponse *r = response;
	struct stream_offer o = {STREAM_PORT_FORWARD, .ports = q->port, .n_ports = q->n_port};
	struct pod *p;
	int ret;

	c->about = q->pod_sandbox_id;
	ret = pod_find(c->node, q->pod_sandbox_id, &p, e);
	if (ret == 0)
		ret = validate_ports("port", q->port, q->n_port, e);
	if (ret == 0)
		ret = life_need_ready(p, e);
	if (ret < 0)
		return ret;
	o.id = p->id;
	return offer(c, &o, &r->url, e);
}

const struct cri_method cri_methods_stream[] = {
	CRI_METHOD("Exec", exec, exec, false),
	CRI_METHOD("Attach", attach, attach, false),
	CRI_METHOD("PortForward", port_forward, port_forward, false),
	{0},
};
