/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>

#include "base/mem.h"
#include "base/test.h"
#include "channel.h"

static void test_path(void)
{
	CHECK_STR(channels_path("http://127.0.0.1:40001/exec/abc"), "/exec/abc");
	CHECK_STR(channels_path("https://[::1]:1/attach/x"), "/attach/x");
	CHECK_STR(channels_path("/exec/abc"), "/exec/abc");
	CHECK(!channels_path("http://host"));
	CHECK(!channels_path("exec"));
}

static void test_header(void)
{
	static const char head[] =
		"HTTP/1.1 101 X\r\nupgrade: a\r\nSec-WebSocket-Accept:\t b \t\r\n"
		"Empty:\r\nLast: c d";
	_cleanup_arena_ struct arena a = {0};

	CHECK_STR(channels_header(&a, head, "Upgrade"), "a");
	CHECK_STR(channels_header(&a, head, "sec-websocket-accept"), "b");
	CHECK_STR(channels_header(&a, head, "Empty"), "");
	CHECK_STR(channels_header(&a, head, "Last"), "c d");
	CHECK(!channels_header(&a, head, "Sec"));
	CHECK(!channels_header(&a, head, "HTTP/1.1 101 X"));
}

/* What the server sends, `step` bytes at a time: "1:[ab]" is a whole message, "1:[a" a piece. */
static char *read_all(const char *bytes, size_t n, size_t step, struct channels *c)
{
	struct strbuf said = STRBUF_NULL;
	struct channel_piece p;
	struct err e = ERR_NULL;
	int fds[2], last = -1;

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	*c = (struct channels){.fd = fds[0], .current = -1, .in = xmalloc(CHANNEL_BUFFER)};
	ws_init(&c->ws, WS_CLIENT, WS_MESSAGE_MAX);
	for (size_t at = 0; at < n; at += step) {
		CHECK(write(fds[1], bytes + at, MIN(step, n - at)) > 0);
		CHECK_INT(channels_read(c, &e), 0);
		while (channels_next(c, &p, &e) == 1) {
			if (last != p.channel)
				strbuf_addf(&said, "%d:", p.channel);
			strbuf_add(&said, p.data, p.n);
			last = p.end ? -1 : p.channel;
			if (p.end)
				strbuf_addc(&said, ';');
		}
	}
	close(fds[1]);
	return strbuf_take(&said);
}

static void test_read(void)
{
	static const char in[] = "\x82\x01\x01" /* a greeting */
				 "\x82\x03\x01"
				 "ab" /* output */
				 "\x02\x01\x02\x89\x01p\x80\x02"
				 "cd"		    /* in fragments, a ping within */
				 "\x82\x00"	    /* nobody's */
				 "\x82\x02\xff\x00" /* an end */
				 "\x88\x05\x03\xe8"
				 "bye"
				 "\x82\x02\x01x"; /* not heard any more */

	for (size_t step = 1; step < sizeof(in); step++) {
		struct channels c;
		_cleanup_free_ char *said = read_all(in, sizeof(in) - 1, step, &c);

		CHECK_STR(said, "1:;1:ab;2:cd;255:"); /* its NUL ends the text */
		CHECK(c.closed);
		CHECK_INT(c.code, WS_NORMAL);
		CHECK_STR(c.reason, "bye");
		CHECK_INT(channels_queued(&c), 2 + WS_KEY_SIZE + 1); /* the pong */
		channels_fini(&c);
	}
}

static void test_write(void)
{
	struct channels c = {.fd = -EBADF, .can_end = true};
	struct ws w;
	struct ws_event v;
	struct err e = ERR_NULL;
	size_t used;

	channels_send(&c, CHANNEL_STDIN, "in", 2);
	channels_send_size(&c, 80, 24);
	channels_send_end(&c, CHANNEL_STDIN);
	ws_init(&w, WS_SERVER, WS_MESSAGE_MAX);
	for (int i = 0; i < 3; i++) {
		static const char *const want[] = {"\0in", "\4{\"Width\":80,\"Height\":24}",
						   "\xff\0"};
		static const size_t size[] = {3, 25, 2};

		CHECK_INT(ws_next(&w, (uint8_t *)c.out.s + c.out_at, channels_queued(&c), &used, &v,
				  &e),
			  1);
		CHECK_INT(v.n, size[i]);
		CHECK(v.n == size[i] && memcmp(v.data, want[i], v.n) == 0);
		c.out_at += used;
	}
	CHECK_INT(channels_queued(&c), 0);
	c.can_end = false;
	channels_send_end(&c, CHANNEL_STDIN); /* there is no word for it */
	CHECK_INT(channels_queued(&c), 0);
	channels_fini(&c);
}

int main(void)
{
	TEST(path);
	TEST(header);
	TEST(read);
	TEST(write);
	return test_done();
}
