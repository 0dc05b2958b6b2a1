/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming connections: see channel.h. */
#include "channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * The key and its answer of RFC 6455 1.3.  A key has to be random for the sake of caches between
 * client and server; a socket of this machine has none.
 */
#define NONCE "dGhlIHNhbXBsZSBub25jZQ=="
#define NONCE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define PROTOCOL_ENDS "v5.channel.k8s.io"
#define PROTOCOLS PROTOCOL_ENDS ", v4.channel.k8s.io"
#define SUFFIX ".stream"
#define BODY_MAX 1024 /* bytes of a refusal that are shown */

/* --- connecting --- */

static int connect_stream(struct cli *cli, int *ret_fd, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s" SUFFIX, cli->address);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_invalid(e, "the socket's path %s is too long", path);
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, -errno, "make a socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = -errno;
		return err_set(e, r, GRPC_UNAVAILABLE, "the daemon's streaming socket %s: %s%s",
			       path, strerror(-r),
			       r == -ENOENT || r == -ECONNREFUSED
				       ? "\nstreaming may be disabled in its configuration"
				       : "");
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(e, -errno, "make a socket non-blocking");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

const char *channels_path(const char *url)
{
	const char *host = strstr(url, "://");

	return host ? strchr(host + 3, '/') : *url == '/' ? url : NULL;
}

static int wait_for(struct cli *cli, int fd, uint64_t deadline, struct err *e)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN},
			     {.fd = cli->cancel_fd, .events = POLLIN}};
	uint64_t now = clock_mono_us();
	int r;

	if (now >= deadline)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "no answer came on the streaming socket");
	r = poll(p, 2, (int)MIN((deadline - now) / USEC_PER_MS + 1, (uint64_t)INT32_MAX));
	if (r > 0 && p[1].revents && !cli->uncancellable)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "interrupted");
	return r < 0 && errno != EINTR ? err_errno(e, -errno, "poll") : 0;
}

/* Reads until a header's end is in the buffer; what follows it stays there. */
static int read_head(struct cli *cli, struct channels *c, size_t *ret_head, struct err *e)
{
	uint64_t timeout = cli->timeout_us ? cli->timeout_us : CLI_READ_TIMEOUT,
		 deadline = clock_mono_us() + timeout;
	const uint8_t *end;
	ssize_t n;
	int r;

	while (!(end = memmem(c->in, c->in_n, "\r\n\r\n", 4))) {
		if (c->in_n >= CHANNEL_HEAD_MAX)
			return err_set(e, -EPROTO, GRPC_INTERNAL,
				       "the answer on the streaming socket is too long");
		r = wait_for(cli, c->fd, deadline, e);
		if (r < 0)
			return r;
		n = read(c->fd, c->in + c->in_n, CHANNEL_BUFFER - c->in_n);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return err_set(e, -ECONNRESET, GRPC_UNAVAILABLE,
				       "the streaming connection was closed without an answer: "
				       "gantryd may have too many (streaming.max_connections)");
		c->in_n += n > 0 ? (size_t)n : 0;
	}
	*ret_head = (size_t)(end - c->in);
	return 0;
}

const char *channels_header(struct arena *a, const char *head, const char *name)
{
	size_t n = strlen(name), k;

	for (const char *p = strstr(head, "\r\n"); p; p = strstr(p, "\r\n")) {
		p += 2;
		if (strncasecmp(p, name, n) != 0 || p[n] != ':')
			continue;
		p += n + 1;
		p += strspn(p, " \t");
		k = strcspn(p, "\r");
		while (k > 0 && strchr(" \t", p[k - 1]))
			k--;
		return arena_strndup(a, p, k);
	}
	return NULL;
}

/* Why there is no session: what the body says, as far as it has come. */
static int refused(struct cli *cli, const struct channels *c, const char *head, struct err *e)
{
	bool gone = strncmp(head + strcspn(head, " "), " 404", 4) == 0;
	size_t n = MIN(c->in_n - c->in_at, (size_t)BODY_MAX);
	const char *body = arena_strndup(&cli->arena, (const char *)c->in + c->in_at, n);

	return err_set(e, gone ? -ENOENT : -EPROTO, gone ? GRPC_NOT_FOUND : GRPC_UNAVAILABLE,
		       "the streaming connection was refused: %.*s",
		       (int)(*body ? strcspn(body, "\r\n") : strcspn(head, "\r\n")),
		       *body ? body : head);
}

static int check_head(struct cli *cli, struct channels *c, const char *head, struct err *e)
{
	const char *accept = channels_header(&cli->arena, head, "Sec-WebSocket-Accept"),
		   *protocol = channels_header(&cli->arena, head, "Sec-WebSocket-Protocol");

	if (!str_has_prefix(head, "HTTP/1.1 101 "))
		return refused(cli, c, head, e);
	if (!accept || !streq(accept, NONCE_ACCEPT) || !protocol || !strstr(PROTOCOLS, protocol))
		return err_set(e, -EPROTO, GRPC_INTERNAL,
			       "the answer on the streaming socket is no WebSocket of ours");
	c->can_end = streq(protocol, PROTOCOL_ENDS);
	return 0;
}

static int upgrade(struct cli *cli, struct channels *c, const char *path, const char *query,
		   struct err *e)
{
	size_t n = 0;
	int r;

	strbuf_addf(&c->out,
		    "GET %s%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
		    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		    "Sec-WebSocket-Key: " NONCE "\r\nSec-WebSocket-Protocol: " PROTOCOLS "\r\n\r\n",
		    path, str_or_empty(query));
	r = channels_flush(c, e);
	if (r == 0)
		r = read_head(cli, c, &n, e);
	if (r < 0)
		return r;
	c->in_at = n + 4;
	return check_head(cli, c, arena_strndup(&cli->arena, (const char *)c->in, n), e);
}

int channels_open(struct cli *cli, const char *url, const char *query, struct channels *ret,
		  struct err *e)
{
	struct channels c = {.fd = -EBADF, .current = -1};
	const char *path = channels_path(url);
	int r;

	if (!path)
		return err_set(e, -EPROTO, GRPC_INTERNAL, "the daemon's answer \"%s\" is no URL",
			       url);
	r = connect_stream(cli, &c.fd, e);
	if (r < 0)
		return r;
	c.in = xmalloc(CHANNEL_BUFFER);
	ws_init(&c.ws, WS_CLIENT, WS_MESSAGE_MAX);
	r = upgrade(cli, &c, path, query, e);
	if (r < 0)
		channels_fini(&c);
	else
		*ret = c;
	return r;
}

void channels_fini(struct channels *c)
{
	c->fd = fd_close(c->fd);
	free(c->in);
	c->in = NULL;
	strbuf_fini(&c->out);
}

/* --- reading --- */

int channels_read(struct channels *c, struct err *e)
{
	ssize_t n;

	if (c->in_at < c->in_n || c->closed)
		return 0;
	n = read(c->fd, c->in, CHANNEL_BUFFER);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n < 0 && errno != ECONNRESET)
		return err_errno(e, -errno, "read the streaming connection");
	c->closed = n <= 0;
	c->in_at = 0;
	c->in_n = n > 0 ? (size_t)n : 0;
	return 0;
}

static void take_close(struct channels *c, const struct ws_event *v)
{
	size_t n = MIN(v->n, sizeof(c->reason) - 1);

	c->closed = true;
	c->code = v->code;
	if (n)
		memcpy(c->reason, v->data, n);
	c->reason[n] = '\0';
}

static void take_control(struct channels *c, const struct ws_event *v)
{
	uint8_t frame[WS_CLOSE_MAX], key[WS_KEY_SIZE];

	if (v->op == WS_CLOSE)
		take_close(c, v);
	if (v->op != WS_PING || c->deaf)
		return;
	(void)!getrandom(key, sizeof(key), 0);
	strbuf_add(&c->out, frame, ws_put_control(frame, WS_PONG, v->data, v->n, key));
}

/* A piece of a message; its first byte is its channel, wherever it was cut. */
static bool take_piece(struct channels *c, const struct ws_event *v, struct channel_piece *ret)
{
	size_t skip = 0;

	if (v->begin)
		c->current = -1;
	if (c->current < 0 && v->n > 0) {
		c->current = v->data[0];
		skip = 1;
	}
	if (c->current < 0)
		return false; /* an empty message is nobody's */
	*ret = (struct channel_piece){
		.channel = c->current, .data = v->data + skip, .n = v->n - skip, .end = v->end};
	return true;
}

int channels_next(struct channels *c, struct channel_piece *ret, struct err *e)
{
	struct ws_event v;
	size_t used;
	int r;

	while (c->in_at < c->in_n && !c->closed && channels_queued(c) < CHANNEL_OUT_MAX) {
		r = ws_next(&c->ws, c->in + c->in_at, c->in_n - c->in_at, &used, &v, e);
		if (r < 0)
			return err_wrap(e, "the streaming connection is broken");
		c->in_at += used;
		if (r == 1 && v.op >= WS_CLOSE)
			take_control(c, &v);
		else if (r == 1 && take_piece(c, &v, ret))
			return 1;
	}
	return 0;
}

/* --- writing --- */

static void send_parts(struct channels *c, uint8_t first, const void *p, size_t n)
{
	uint8_t header[WS_HEADER_MAX], key[WS_KEY_SIZE];
	char *to;

	if (c->deaf)
		return;
	(void)!getrandom(key, sizeof(key), 0);
	strbuf_add(&c->out, header, ws_put_header(header, WS_BINARY, true, 1 + n, key));
	to = strbuf_reserve(&c->out, 1 + n);
	to[0] = (char)first;
	if (n)
		memcpy(to + 1, p, n);
	ws_mask((uint8_t *)to, 1 + n, key, 0);
	c->out.len += 1 + n;
}

void channels_send(struct channels *c, int channel, const void *p, size_t n)
{
	send_parts(c, (uint8_t)channel, p, n);
}

void channels_send_end(struct channels *c, int channel)
{
	uint8_t which = (uint8_t)channel;

	if (c->can_end)
		send_parts(c, CHANNEL_END, &which, 1);
}

void channels_send_size(struct channels *c, unsigned width, unsigned height)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "{\"Width\":%u,\"Height\":%u}", width, height);

	send_parts(c, CHANNEL_RESIZE, text, (size_t)n);
}

void channels_send_close(struct channels *c)
{
	uint8_t frame[WS_CLOSE_MAX], key[WS_KEY_SIZE];

	if (c->deaf)
		return;
	(void)!getrandom(key, sizeof(key), 0);
	strbuf_add(&c->out, frame, ws_put_close(frame, WS_NORMAL, "", key));
}

/* A peer that takes nothing any more may have sent what it had to say: that is still read. */
int channels_flush(struct channels *c, struct err *e)
{
	while (channels_queued(c) > 0) {
		ssize_t n = send(c->fd, c->out.s + c->out_at, channels_queued(c),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0 && errno != EPIPE && errno != ECONNRESET)
			return err_errno(e, -errno, "write to the streaming connection");
		c->deaf |= n < 0;
		c->out_at = n < 0 ? c->out.len : c->out_at + (size_t)n;
	}
	strbuf_reset(&c->out);
	c->out_at = 0;
	return 0;
}
