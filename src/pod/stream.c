/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming: tokens, and what the stream programs ask for.  See stream.h; listening and
 * starting them is stream_server.c. */
#include "pod/stream.h"

#include <arpa/inet.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "pod/life.h"
#include "pod/stream_internal.h"

/* --- tokens --- */

struct stream_token {
	struct list link; /* streams.tokens: the oldest first, so that the first expires first */
	char text[2 * STREAM_TOKEN_BYTES + 1];
	uint64_t expires; /* clock_mono_us() */
	struct stream_offer offer;
	char *id; /* owned, as are those below */
	struct strv cmd;
	int32_t *ports;
	size_t bytes; /* of STREAM_TOKENS_BYTES_MAX */
};

static void token_free(struct stream_token *t)
{
	if (!t)
		return;
	free(t->id);
	strv_fini(&t->cmd);
	free(t->ports);
	free(t);
}

static void token_take(struct streams *s, struct stream_token *t)
{
	list_remove(&t->link);
	map_remove(&s->by_text, t->text);
	s->token_bytes -= t->bytes;
}

static void on_expiry(struct loop_timer *timer);

/* Drops what has expired; the timer is set for the first that has not. */
static void expire(struct streams *s)
{
	uint64_t now = clock_mono_us();

	while (!list_empty(&s->tokens)) {
		struct stream_token *t = list_first(&s->tokens, struct stream_token, link);

		if (t->expires > now) {
			loop_timer_set(s->node->loop, &s->expiry, t->expires, on_expiry);
			return;
		}
		token_take(s, t);
		token_free(t);
	}
	loop_timer_clear(&s->expiry);
}

static void on_expiry(struct loop_timer *timer)
{
	expire(container_of(timer, struct streams, expiry));
}

void stream_tokens_drop(struct streams *s)
{
	while (!list_empty(&s->tokens)) {
		struct stream_token *t = list_first(&s->tokens, struct stream_token, link);

		token_take(s, t);
		token_free(t);
	}
	loop_timer_clear(&s->expiry);
}

static size_t bytes_of(const struct stream_offer *o)
{
	size_t n = sizeof(struct stream_token) + o->n_ports * sizeof(*o->ports);

	for (size_t i = 0; i < o->n_cmd; i++)
		n += strlen(o->cmd[i]) + 1 + sizeof(char *);
	return n;
}

static struct stream_token *token_new(struct streams *s, const struct stream_offer *o)
{
	struct stream_token *t = xcalloc(1, sizeof(*t));
	unsigned char raw[STREAM_TOKEN_BYTES];

	random_bytes(raw, sizeof(raw));
	hex_encode(raw, sizeof(raw), t->text);
	t->expires = clock_mono_us() +
		     FAULT_LIMIT("stream-token-ms", STREAM_TOKEN_LIFE / USEC_PER_MS) * USEC_PER_MS;
	t->offer = (struct stream_offer){.kind = o->kind,
					 .tty = o->tty,
					 .in = o->in,
					 .out = o->out,
					 .err = o->err,
					 .n_cmd = o->n_cmd,
					 .n_ports = o->n_ports};
	t->id = xstrdup(o->id);
	for (size_t i = 0; i < o->n_cmd; i++)
		strv_add(&t->cmd, o->cmd[i]);
	t->ports = o->n_ports ? xmemdup(o->ports, o->n_ports * sizeof(*o->ports)) : NULL;
	t->bytes = bytes_of(o);
	list_append(&s->tokens, &t->link);
	map_put(&s->by_text, t->text, t);
	s->token_bytes += t->bytes;
	return t;
}

int streams_offer(struct streams *s, const struct stream_offer *o, char **ret_url, struct err *e)
{
	static const char *const kinds[] = {
		[STREAM_EXEC] = "exec",
		[STREAM_ATTACH] = "attach",
		[STREAM_PORT_FORWARD] = "portforward",
	};

	expire(s);
	if (s->by_text.n >= FAULT_LIMIT("stream-tokens", STREAM_TOKENS_MAX) ||
	    s->token_bytes + bytes_of(o) > STREAM_TOKENS_BYTES_MAX)
		return err_set(e, -ENOSPC, GRPC_RESOURCE_EXHAUSTED,
			       "%zu streaming sessions have been asked for and not been begun yet",
			       s->by_text.n);
	*ret_url = xasprintf("%s/%s/%s", s->base_url, kinds[o->kind], token_new(s, o)->text);
	expire(s); /* sets the timer */
	return 0;
}

/* --- what a program asks for --- */

/* One request, in a coroutine of its own. */
struct stream_call {
	struct list link; /* stream_child.calls */
	struct stream_child *child;
	struct ipc_in in;
	struct co *co;
};

static void reply(struct stream_child *c, const struct ipc_in *q, const struct err *e)
{
	struct ipc_out o;

	ipc_out_reply(&o, q->seq, e);
	ipc_conn_send(&c->ipc, &o);
}

/* What the monitor has opened, as it is. */
static void reply_fds(struct stream_child *c, const struct ipc_in *q, struct ipc_in *from)
{
	struct ipc_out o;

	ipc_out_reply(&o, q->seq, NULL);
	for (unsigned i = 0; i < from->n_fds; i++)
		ipc_put_fd(&o, TAKE_FD(from->fds[i]));
	ipc_conn_send(&c->ipc, &o);
}

static bool is_kind(const struct stream_child *c, enum stream_kind a, enum stream_kind b)
{
	return c->token && (c->token->offer.kind == a || c->token->offer.kind == b);
}

static void open_token(struct stream_child *c, const struct ipc_in *q)
{
	const char *text = ipc_get_str(q, STREAM_TAG_TOKEN);
	uint64_t kind = ipc_get_u64(q, STREAM_TAG_KIND, 0);
	struct stream_token *t;
	struct err e = ERR_NULL;
	struct ipc_out o;

	expire(c->server);
	t = text && !c->token ? map_get(&c->server->by_text, text) : NULL;
	if (!t || t->offer.kind != kind) {
		err_not_found(&e, "there is no such session, or not any more");
		reply(c, q, &e);
		return;
	}
	token_take(c->server, t);
	c->token = t;
	ipc_out_reply(&o, q->seq, NULL);
	if (t->offer.kind != STREAM_PORT_FORWARD) {
		ipc_put_u64(&o, STREAM_TAG_TTY, t->offer.tty);
		ipc_put_u64(&o, STREAM_TAG_STDIN, t->offer.in);
		ipc_put_u64(&o, STREAM_TAG_STDOUT, t->offer.out);
		ipc_put_u64(&o, STREAM_TAG_STDERR, t->offer.err);
	}
	for (size_t i = 0; i < t->offer.n_ports; i++)
		ipc_put_u64(&o, STREAM_TAG_PORT, (uint64_t)t->ports[i]);
	ipc_conn_send(&c->ipc, &o);
	log_debug("gantry-stream %d serves %s", (int)c->child.pid, t->id);
}

static int start(struct stream_child *c, const struct ipc_in *q, struct ipc_in *ret, struct err *e)
{
	struct stream_token *t = c->token;
	struct container *ctr;
	int r = container_find(c->server->node, t->id, &ctr, e);

	if (r < 0)
		return r;
	if (t->offer.kind == STREAM_ATTACH)
		return life_attach(ctr, &t->offer, ret, e);
	t->offer.cmd = t->cmd.v;
	t->offer.width = (uint16_t)ipc_get_u64(q, STREAM_TAG_WIDTH, 0);
	t->offer.height = (uint16_t)ipc_get_u64(q, STREAM_TAG_HEIGHT, 0);
	return life_exec_stream(ctr, &t->offer, ret, e);
}

static bool port_offered(const struct stream_token *t, uint64_t port)
{
	bool found = t->offer.n_ports == 0;

	for (size_t i = 0; i < t->offer.n_ports; i++)
		found |= (uint64_t)t->ports[i] == port;
	return found;
}

static int connect_port(struct stream_child *c, const struct ipc_in *q, struct ipc_in *ret,
			struct err *e)
{
	uint64_t port = ipc_get_u64(q, STREAM_TAG_PORT, 0);
	struct pod *p;
	int r;

	if (port == 0 || port > UINT16_MAX)
		return err_invalid(e, "%llu is no port", (unsigned long long)port);
	if (!port_offered(c->token, port))
		return err_set(e, -EPERM, GRPC_PERMISSION_DENIED, "port %u was not asked for",
			       (unsigned)port);
	r = pod_find(c->server->node, c->token->id, &p, e);
	return r < 0 ? r : life_connect(p, (uint16_t)port, ret, e);
}

static void run_call(void *arg)
{
	struct stream_call *k = arg;
	struct stream_child *c = k->child;
	_cleanup_ipc_in_ struct ipc_in got = IPC_IN_NULL;
	struct err e = ERR_NULL;
	int r;

	k->co = co_self();
	r = k->in.type == STREAM_START ? start(c, &k->in, &got, &e)
				       : connect_port(c, &k->in, &got, &e);
	FAULT_POINT("daemon.stream.opened");
	/* Where the program has gone meanwhile the descriptors are closed, which ends the session. */
	if (r < 0)
		reply(c, &k->in, &e);
	else
		reply_fds(c, &k->in, &got);
	FAULT_POINT("daemon.stream.handed-over");
	if (r < 0 && k->in.type == STREAM_START)
		log_info("a streaming session of %s failed: %s", c->token->id, e.msg);
	else if (r < 0) /* as often as a client likes */
		log_debug("a port of %s was not connected to: %s", c->token->id, e.msg);
	list_remove(&k->link);
	c->n_calls--;
	ipc_in_fini(&k->in);
	free(k);
	stream_child_unref(c);
}

static void start_call(struct stream_child *c, struct ipc_in *in)
{
	struct stream_call *k = xcalloc(1, sizeof(*k));

	k->child = stream_child_ref(c);
	k->in = *in;
	*in = IPC_IN_NULL;
	list_append(&c->calls, &k->link);
	c->n_calls++;
	c->started |= k->in.type == STREAM_START;
	co_start(c->server->node->loop, run_call, k);
}

void stream_on_message(struct ipc_conn *ipc, struct ipc_in *in)
{
	struct stream_child *c = container_of(ipc, struct stream_child, ipc);
	struct err e = ERR_NULL;

	if (in->type == STREAM_OPEN) {
		open_token(c, in);
		return;
	}
	if (in->type == STREAM_START && is_kind(c, STREAM_EXEC, STREAM_ATTACH) && !c->started)
		;
	else if (in->type == STREAM_CONNECT && is_kind(c, STREAM_PORT_FORWARD, STREAM_PORT_FORWARD))
		;
	else
		err_precondition(&e, "request %u has no place here", in->type);
	if (!e.errnum && c->n_calls >= STREAM_CALLS_MAX)
		err_set(&e, -EBUSY, GRPC_RESOURCE_EXHAUSTED, "%u requests are under way already",
			c->n_calls);
	if (e.errnum)
		reply(c, in, &e);
	else
		start_call(c, in);
}

/* What it has asked for nobody wants: monitors undo it. */
void stream_cancel_calls(struct stream_child *c)
{
	struct stream_call *k;

	list_for_each (k, &c->calls, link)
		co_cancel(k->co, -ECANCELED);
}

struct stream_child *stream_child_ref(struct stream_child *c)
{
	c->refs++;
	return c;
}

void stream_child_unref(struct stream_child *c)
{
	if (--c->refs > 0)
		return;
	token_free(c->token);
	free(c);
}

bool stream_child_forwards(const struct stream_child *c, const char *pod_id)
{
	return is_kind(c, STREAM_PORT_FORWARD, STREAM_PORT_FORWARD) && streq(c->token->id, pod_id);
}
