/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/test.h"
#include "http.h"

static struct http_request req;
static struct http_error err;
static char head[HTTP_HEAD_MAX * 2];

/* The status of an error, 0: none. */
static int parse(const char *line, const char *fields)
{
	int n = snprintf(head, sizeof(head), "%s\r\n%s\r\n", line, fields);

	if (http_head_size(head, (size_t)n) != (size_t)n)
		return -1;
	return http_parse(head, (size_t)n, &req, &err) < 0 ? err.status : 0;
}

#define LINE "POST /exec/abc HTTP/1.1"
#define HOST "Host: x\r\n"

static void test_requests(void)
{
	CHECK_INT(parse("GET /attach/a-_9?x=1 HTTP/1.1", HOST), 0);
	CHECK(req.get && req.kind == STREAM_ATTACH);
	CHECK_STR(req.token, "a-_9");
	CHECK_STR(req.query, "x=1");
	CHECK_INT(parse("POST http://127.0.0.1:1/portforward/t HTTP/1.1", HOST), 0);
	CHECK(!req.get && req.kind == STREAM_PORT_FORWARD);
	CHECK_STR(req.token, "t");
	CHECK_STR(req.query, "");
	CHECK_INT(parse(LINE, HOST "A:b\r\nc: \t d e \t\r\nContent-Length: 0\r\n"), 0);
	CHECK_STR(http_get(&req, "a"), "b");
	CHECK_STR(http_get(&req, "C"), "d e");
	CHECK(!http_get(&req, "d"));
}

static void test_what_is_none(void)
{
	static const struct {
		int status;
		const char *line, *fields;
	} all[] = {
		{400, "", HOST},
		{400, "GET", HOST},
		{400, "GET /exec/a", HOST},
		{400, "GET  /exec/a HTTP/1.1", HOST},
		{400, "GET /exec/a HTTP/1.1 ", HOST},
		{400, "GET /exec/a  HTTP/1.1", HOST},
		{400, "G@T /exec/a HTTP/1.1", HOST},
		{400, "GET\t/exec/a HTTP/1.1", HOST},
		{400, "GET /exec/a\x01 HTTP/1.1", HOST},
		{400, "GET /exec/a SPDY/3.1", HOST},
		{505, "GET /exec/a HTTP/1.0", HOST},
		{505, "GET /exec/a HTTP/2.0", HOST},
		{405, "PUT /exec/a HTTP/1.1", HOST},
		{405, "get /exec/a HTTP/1.1", HOST},
		{404, "GET / HTTP/1.1", HOST},
		{404, "GET http://x HTTP/1.1", HOST},
		{404, "GET * HTTP/1.1", HOST},
		{404, "GET /exec HTTP/1.1", HOST},
		{404, "GET /exec/ HTTP/1.1", HOST},
		{404, "GET /exec/a/b HTTP/1.1", HOST},
		{404, "GET /exec/a%41 HTTP/1.1", HOST},
		{404, "GET /exec/../x HTTP/1.1", HOST},
		{400, LINE, ""},
		{400, LINE, HOST HOST},
		{400, LINE, HOST "x\r\n"},
		{400, LINE, HOST ": x\r\n"},
		{400, LINE, HOST "a : x\r\n"},
		{400, LINE, HOST "a: x\r\n b\r\n"},
		{400, LINE, HOST "a: x\x7f\r\n"},
		{400, LINE, HOST "a: x\ny: z\r\n"},
		{400, LINE, HOST "a: x\ry: z\r\n"},
		{400, LINE, HOST "Upgrade: x\r\nupgrade: y\r\n"},
		{400, LINE, HOST "Content-Length: 5\r\n"},
		{400, LINE, HOST "Content-Length: 0\r\nContent-Length: 0\r\n"},
		{400, LINE, HOST "Transfer-Encoding: chunked\r\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int status = parse(all[i].line, all[i].fields);

		if (status != all[i].status)
			fprintf(stderr, "%s: %d, not %d\n", all[i].line, status, all[i].status);
		CHECK_INT(status, all[i].status);
		CHECK(err.text[0]);
	}
}

static void test_limits(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char line[HTTP_TARGET_MAX + 64];

	snprintf(line, sizeof(line), "GET /exec/%0*d HTTP/1.1", HTTP_TOKEN_MAX, 0);
	CHECK_INT(parse(line, HOST), 0);
	snprintf(line, sizeof(line), "GET /exec/%0*d HTTP/1.1", HTTP_TOKEN_MAX + 1, 0);
	CHECK_INT(parse(line, HOST), 404);
	snprintf(line, sizeof(line), "GET /exec/a?%0*d HTTP/1.1", HTTP_TARGET_MAX - 8, 0);
	CHECK_INT(parse(line, HOST), 0);
	snprintf(line, sizeof(line), "GET /exec/a?%0*d HTTP/1.1", HTTP_TARGET_MAX - 7, 0);
	CHECK_INT(parse(line, HOST), 414);
	strbuf_adds(&b, HOST);
	for (int i = 1; i < HTTP_FIELDS_MAX; i++)
		strbuf_adds(&b, "a: b\r\n");
	CHECK_INT(parse(LINE, b.s), 0);
	strbuf_adds(&b, "a: b\r\n");
	CHECK_INT(parse(LINE, b.s), 431);
	CHECK_INT((int)http_head_size("GET / HTTP/1.1\r\n\r", 17), 0);
}

static void test_lists(void)
{
	struct http_list pos = {0};
	char s[8];

	CHECK_INT(parse(LINE, HOST "P: one,two , ,three\r\nx: y\r\np:\r\np: four too-long-one\r\n"
				   "P:five,"),
		  -1); /* does not end as it must */
	CHECK_INT(parse(LINE, HOST "P: one,two\t , ,three\r\nx: y\r\np:\r\np: far-too-long\r\n"
				   "P:five,\r\n"),
		  0);
	for (const char *const *w = (const char *const[]){"one", "two", "three", "five", NULL}; *w;
	     w++) {
		CHECK(http_next(&req, "p", &pos, s, sizeof(s)));
		CHECK_STR(s, *w);
	}
	CHECK(!http_next(&req, "p", &pos, s, sizeof(s)));
	CHECK(http_has(&req, "P", "THREE") && !http_has(&req, "p", "four") &&
	      !http_has(&req, "q", "one"));
}

static int ports(const char *query, uint16_t ret[HTTP_PORTS_MAX])
{
	char line[HTTP_TARGET_MAX];
	unsigned n;

	snprintf(line, sizeof(line), "GET /portforward/a?%s HTTP/1.1", query);
	CHECK_INT(parse(line, HOST), 0);
	return http_query_ports(&req, ret, &n, &err) < 0 ? -err.status : (int)n;
}

static void test_ports(void)
{
	uint16_t p[HTTP_PORTS_MAX];

	CHECK_INT(ports("", p), 0);
	CHECK_INT(ports("x=1&ported=2&por=3", p), 0);
	CHECK_INT(ports("port=80&ports=1,65535&a=b&port=7%2C8%2c9", p), 6);
	CHECK(p[0] == 80 && p[1] == 1 && p[2] == 65535 && p[3] == 7 && p[4] == 8 && p[5] == 9);
	CHECK_INT(ports("port=", p), -400);
	CHECK_INT(ports("port=1,", p), -400);
	CHECK_INT(ports("port=0", p), -400);
	CHECK_INT(ports("port=65536", p), -400);
	CHECK_INT(ports("port=123456789", p), -400);
	CHECK_INT(ports("port=1%31", p), -400);
	CHECK_INT(ports("port=%", p), -400);
	CHECK_INT(ports("port=1%2", p), -400);
}

static void test_errors(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	http_fail(&err, 405, "Allow: GET", "only %s", "GET");
	http_put_error(&b, &err);
	CHECK_STR(b.s, "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"
		       "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n"
		       "Connection: close\r\n\r\nonly GET\n");
}

int main(void)
{
	TEST(requests);
	TEST(what_is_none);
	TEST(limits);
	TEST(lists);
	TEST(ports);
	TEST(errors);
	return test_done();
}
