/* SPDX-License-Identifier: Apache-2.0 */
/* What a client's request agrees with, and the answer to it: see server.h. */
#include <strings.h>

#include "base/mem.h"
#include "server.h"

#define SPDY "SPDY/3.1"
#define SPDY_FIELD "X-Stream-Protocol-Version"
#define WEBSOCKET_FIELD "Sec-WebSocket-Protocol"
#define WEBSOCKET_VERSION "13"
#define TUNNEL SPDY "+portforward.k8s.io"
#define PROTOCOL_MAX 64 /* bytes of a name that is looked at */

struct protocol {
	const char *name;
	unsigned version; /* of remotecommand */
	enum channels_mode mode;
};

/* Of WebSocket "" is what a client gets that names none. */
static const struct protocol spdy_command[] = {{"v4.channel.k8s.io", 4, 0},
					       {"v3.channel.k8s.io", 3, 0},
					       {"v2.channel.k8s.io", 2, 0},
					       {"channel.k8s.io", 1, 0},
					       {NULL, 0, 0}};
static const struct protocol spdy_forward[] = {{"portforward.k8s.io", 0, 0}, {NULL, 0, 0}};
static const struct protocol websocket_command[] = {
	{"v5.channel.k8s.io", 5, CHANNELS_BINARY},
	{"v4.channel.k8s.io", 4, CHANNELS_BINARY},
	{"v4.base64.channel.k8s.io", 4, CHANNELS_BASE64},
	{"channel.k8s.io", 1, CHANNELS_BINARY},
	{"base64.channel.k8s.io", 1, CHANNELS_BASE64},
	{"", 1, CHANNELS_BINARY},
	{NULL, 0, 0}};
static const struct protocol websocket_forward[] = {
	{TUNNEL, 0, CHANNELS_TUNNEL},
	{"v5.channel.k8s.io", 5, CHANNELS_BINARY},
	{"v4.channel.k8s.io", 4, CHANNELS_BINARY},
	{"v4.base64.channel.k8s.io", 4, CHANNELS_BASE64},
	{"", 4, CHANNELS_BINARY},
	{NULL, 0, 0}};

static const struct protocol *by_name(const struct protocol *all, const char *name)
{
	for (; all->name; all++)
		if (streq(all->name, name))
			return all;
	return NULL;
}

/* The first of the client's that is known. */
static int agree(struct server *sv, const char *field, const struct protocol *all,
		 struct http_error *e)
{
	const struct protocol *p = NULL;
	struct http_list pos = {0};
	char name[PROTOCOL_MAX];
	bool any = false;

	while (!p && http_next(&sv->request, field, &pos, name, sizeof(name))) {
		any = true;
		p = by_name(all, name);
	}
	if (!any)
		p = by_name(all, "");
	if (!p && !any)
		return http_fail(e, 400, NULL, "the header names no protocol in \"%s\"", field);
	if (!p && sv->kind == STREAM_PORT_FORWARD)
		return http_fail(e, 403,
				 sv->websocket ? NULL
					       : "X-Accepted-Stream-Protocol-Versions: "
						 "portforward.k8s.io",
				 "none of the protocols in \"%s\" is known; known are "
				 "portforward.k8s.io with SPDY, and " TUNNEL
				 ", v5.channel.k8s.io, v4.channel.k8s.io, "
				 "v4.base64.channel.k8s.io with WebSocket",
				 field);
	if (!p)
		return http_fail(e, 403,
				 sv->websocket ? NULL
					       : "X-Accepted-Stream-Protocol-Versions: "
						 "v4.channel.k8s.io, v3.channel.k8s.io, "
						 "v2.channel.k8s.io, channel.k8s.io",
				 "none of the protocols in \"%s\" is known; known are "
				 "v4.channel.k8s.io and older ones, v5.channel.k8s.io with "
				 "WebSocket",
				 field);
	sv->protocol = p->name;
	sv->version = p->version;
	sv->mode = p->mode;
	sv->tunnel = sv->websocket && p->mode == CHANNELS_TUNNEL;
	return 0;
}

static int check_websocket(struct server *sv, struct http_error *e)
{
	const char *version = http_get(&sv->request, "sec-websocket-version");
	const char *key = http_get(&sv->request, "sec-websocket-key");

	sv->websocket = true;
	if (!sv->request.get)
		return http_fail(e, 405, "Allow: GET", "a WebSocket begins with GET");
	if (!version || !streq(version, WEBSOCKET_VERSION))
		return http_fail(e, 426, "Sec-WebSocket-Version: " WEBSOCKET_VERSION,
				 "WebSocket of version " WEBSOCKET_VERSION " is spoken here");
	if (!key || !ws_accept(key, sv->accept))
		return http_fail(e, 400, NULL, "Sec-WebSocket-Key is not 16 bytes in base64");
	return agree(sv, WEBSOCKET_FIELD,
		     sv->kind == STREAM_PORT_FORWARD ? websocket_forward : websocket_command, e);
}

int upgrade_check(struct server *sv, struct http_error *e)
{
	const struct http_request *r = &sv->request;

	sv->kind = r->kind;
	if (http_has(r, "connection", "upgrade") && http_has(r, "upgrade", "websocket"))
		return check_websocket(sv, e);
	if (http_has(r, "connection", "upgrade") && http_has(r, "upgrade", SPDY))
		return agree(sv, SPDY_FIELD,
			     sv->kind == STREAM_PORT_FORWARD ? spdy_forward : spdy_command, e);
	return http_fail(e, 426, "Connection: Upgrade\r\nUpgrade: " SPDY ", websocket",
			 "sessions want an upgrade of the connection to " SPDY " or WebSocket");
}

/* --- where frames go --- */

static void put_plain(struct mux *m, const void *head, size_t n_head, const void *p, size_t n)
{
	struct server *sv = m->out;

	link_put(&sv->client, head, n_head);
	if (n)
		link_put(&sv->client, p, n);
}

static void put_tunnelled(struct mux *m, const void *head, size_t n_head, const void *p, size_t n)
{
	channels_put(&((struct server *)m->out)->channels, head, n_head, p, n);
}

static size_t room(struct mux *m)
{
	return link_room(&((struct server *)m->out)->client);
}

void upgrade_answer(struct server *sv)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	strbuf_adds(&b, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
	if (sv->websocket)
		strbuf_addf(&b, "Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n", sv->accept);
	else
		strbuf_adds(&b, "Upgrade: " SPDY "\r\n");
	if (*sv->protocol)
		strbuf_addf(&b, "%s: %s\r\n", sv->websocket ? WEBSOCKET_FIELD : SPDY_FIELD,
			    sv->protocol);
	strbuf_adds(&b, "\r\n");
	link_put(&sv->client, b.s, b.len);
	if (sv->websocket) {
		channels_init(&sv->channels, sv->mode, sv->version >= 5, sv->loop);
		sv->channels.mux.put = put_plain;
	}
	spdy_init(&sv->spdy, sv->loop);
	sv->spdy.mux.put = sv->tunnel ? put_tunnelled : put_plain;
	sv->mux = sv->websocket && !sv->tunnel ? &sv->channels.mux : &sv->spdy.mux;
	sv->spdy.mux.room = sv->channels.mux.room = room;
	sv->spdy.mux.out = sv->channels.mux.out = sv;
}
