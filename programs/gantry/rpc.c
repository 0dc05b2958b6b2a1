/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the daemon: typed by the services' descriptors, bytes by wire/grpc_client.h. */
#include "cli.h"

#define RPC_AT_ONCE 64 /* requests in flight of rpc_all() */

const ProtobufCServiceDescriptor *const RUNTIME = &runtime__v1__runtime_service__descriptor;
const ProtobufCServiceDescriptor *const IMAGE = &runtime__v1__image_service__descriptor;
const ProtobufCServiceDescriptor *const GANTRY = &gantry__v1__gantry__descriptor;

static int explain_unreachable(const struct cli *cli, struct err *e)
{
	const char *start =
		access("/run/systemd/system", F_OK) == 0 ? "systemctl start gantry" : "gantryd";

	switch (-e->errnum) {
	case ENOENT:
	case ECONNREFUSED:
		return err_set(e, e->errnum, GRPC_UNAVAILABLE,
			       "gantryd is not running: %s on the socket %s\n"
			       "start it with '%s', or name another socket with --address or "
			       "GANTRY_ADDRESS",
			       e->errnum == -ENOENT ? "there is nothing" : "nobody listens",
			       cli->address, start);
	case EACCES:
		return err_set(e, e->errnum, GRPC_PERMISSION_DENIED,
			       "no permission to use the socket %s of gantryd\n"
			       "run this as root, or as a member of the socket's group",
			       cli->address);
	default:
		return e->errnum;
	}
}

static int connect_daemon(struct cli *cli, struct err *e)
{
	if (!cli->client && grpc_client_connect(cli->address, &cli->client, e) < 0)
		return explain_unreachable(cli, e);
	grpc_client_set_cancel_fd(cli->client, cli->uncancellable ? -1 : cli->cancel_fd);
	return 0;
}

/* A connection that broke is not used again: the next request makes a new one. */
static int check_lost(struct cli *cli, int r, bool streams_open)
{
	if ((r == -ECONNRESET || r == -EIO) && !streams_open)
		cli->client = grpc_client_free(cli->client);
	return r;
}

static uint64_t timeout_of(const struct cli *cli, const char *method)
{
	static const char *const reads[] = {
		"List",		 "Version",	"Status",      "RuntimeConfig", "ContainerSta",
		"PodSandboxSta", "ImageStatus", "ImageFsInfo", "Metrics",	"Route"};

	if (cli->timeout_us)
		return cli->timeout_us;
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++)
		if (str_has_prefix(method, reads[i]))
			return CLI_READ_TIMEOUT;
	return USEC_FOREVER;
}

static void *cb_alloc(void *arena, size_t n)
{
	return arena_alloc(arena, n);
}

static void cb_free(void *arena, void *p)
{
}

static int decode(struct arena *a, const ProtobufCMessageDescriptor *type, const struct strbuf *b,
		  void *ret, struct err *e)
{
	ProtobufCAllocator alloc = {cb_alloc, cb_free, a};
	ProtobufCMessage *m = protobuf_c_message_unpack(type, &alloc, b->len,
							(const uint8_t *)(b->s ? b->s : ""));

	if (!m)
		return err_set(e, -EPROTO, GRPC_INTERNAL, "the daemon's answer is no %s",
			       type->name);
	*(ProtobufCMessage **)ret = m;
	return 0;
}

static void pack(const void *request, struct strbuf *to)
{
	size_t n = protobuf_c_message_get_packed_size(request);

	protobuf_c_message_pack(request, (uint8_t *)strbuf_reserve(to, n));
	to->len += n;
}

int rpc_open(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	     const void *request, struct rpc_stream *ret, struct err *e)
{
	const ProtobufCMethodDescriptor *m =
		protobuf_c_service_descriptor_get_method_by_name(service, method);
	_cleanup_free_ char *path = xasprintf("/%s/%s", service->name, method);
	_cleanup_strbuf_ struct strbuf q = STRBUF_NULL;
	int r = connect_daemon(cli, e);

	if (r < 0)
		return r;
	pack(request, &q);
	*ret = (struct rpc_stream){.cli = cli, .type = m->output};
	return grpc_client_stream_open(cli->client, path, q.s, q.len, timeout_of(cli, method),
				       &ret->s, e);
}

int rpc_next(struct rpc_stream *s, struct arena *a, void *ret, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = grpc_client_stream_next(s->s, &b, e);

	if (r > 0 && decode(a, s->type, &b, ret, e) < 0)
		return e->errnum;
	return r;
}

void rpc_close(struct rpc_stream *s)
{
	s->s = grpc_client_stream_close(s->s);
}

/* The one reply of a call that is under way, and its status. */
static int finish(struct rpc_stream *s, struct arena *a, void *ret, struct err *e)
{
	void *more;
	int r = rpc_next(s, a, ret, e);

	if (r == 0)
		return err_set(e, -EPROTO, GRPC_INTERNAL, "the daemon's answer is empty");
	return r < 0 ? r : rpc_next(s, a, &more, e);
}

int rpc_call_in(struct cli *cli, struct arena *a, const ProtobufCServiceDescriptor *service,
		const char *method, const void *request, void *ret, struct err *e)
{
	struct rpc_stream s = {0};
	int r = rpc_open(cli, service, method, request, &s, e);

	if (r == 0)
		r = finish(&s, a, ret, e);
	rpc_close(&s);
	return check_lost(cli, r, false);
}

int rpc_call(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	     const void *request, void *ret, struct err *e)
{
	return rpc_call_in(cli, &cli->arena, service, method, request, ret, e);
}

int rpc_all(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	    const ProtobufCMessage *const *requests, size_t n,
	    void (*fn)(void *arg, size_t i, int r, const struct err *e), void *arg)
{
	int worst = 0;

	for (size_t done = 0; done < n;) {
		struct rpc_stream s[RPC_AT_ONCE] = {0};
		size_t k = MIN(n - done, (size_t)RPC_AT_ONCE);
		struct err e[RPC_AT_ONCE] = {0};
		int r[RPC_AT_ONCE] = {0};
		bool lost = false;

		for (size_t i = 0; i < k; i++)
			r[i] = rpc_open(cli, service, method, requests[done + i], &s[i], &e[i]);
		for (size_t i = 0; i < k; i++) {
			void *reply;

			if (r[i] == 0)
				r[i] = finish(&s[i], &cli->arena, &reply, &e[i]);
			fn(arg, done + i, r[i], &e[i]);
			worst = r[i] < 0 ? r[i] : worst;
			lost |= r[i] == -ECONNRESET;
		}
		for (size_t i = 0; i < k; i++)
			rpc_close(&s[i]);
		if (lost)
			check_lost(cli, -ECONNRESET, false);
		done += k;
	}
	return worst;
}

/* protobuf-c gives the entries of every map a type of its own, all of one layout. */
const char *rpc_info(const void *entries, size_t n, const char *key)
{
	Runtime__V1__StatusResponse__InfoEntry *const *list = entries;

	for (size_t i = 0; i < n; i++)
		if (streq(list[i]->key, key))
			return list[i]->value;
	return NULL;
}
