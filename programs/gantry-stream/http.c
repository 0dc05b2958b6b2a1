/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request: see http.h. */
#include "http.h"

#include <ctype.h>
#include <stdarg.h>
#include <strings.h>

#include "base/mem.h"

#define ELEMENT_MAX 256 /* bytes of an element that is compared */

int http_fail(struct http_error *e, int status, const char *field, const char *fmt, ...)
{
	va_list ap;

	*e = (struct http_error){.status = status, .field = field};
	va_start(ap, fmt);
	str_vformat(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

size_t http_head_size(const char *p, size_t n)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4);

	return end ? (size_t)(end - p) + 4 : 0;
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *s)
{
	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	return *s;
}

/* Cuts a line off; NULL where it does not end as it must, or has control characters. */
static char *cut_line(char **pos)
{
	char *line = *pos, *end = strchr(line, '\r');

	if (!end || end[1] != '\n')
		return NULL;
	for (const char *p = line; p < end; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return NULL;
	*end = '\0';
	*pos = end + 2;
	return line;
}

static int parse_path(char *target, struct http_request *ret, struct http_error *e)
{
	static const struct {
		const char *prefix;
		enum stream_kind kind;
	} kinds[] = {{"/exec/", STREAM_EXEC},
		     {"/attach/", STREAM_ATTACH},
		     {"/portforward/", STREAM_PORT_FORWARD}};
	char *query;

	if (str_has_prefix(target, "http://") || str_has_prefix(target, "https://")) {
		target = strchr(strchr(target, ':') + 3, '/');
		if (!target)
			return http_fail(e, 404, NULL, "there is nothing at this address");
	}
	query = strchr(target, '?');
	if (query)
		*query++ = '\0';
	ret->query = str_or_empty(query);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_has_prefix(target, kinds[i].prefix)) {
			ret->kind = kinds[i].kind;
			ret->token = target + strlen(kinds[i].prefix);
		}
	if (!ret->token)
		return http_fail(e, 404, NULL,
				 "there is nothing at this address: sessions are at /exec/TOKEN, "
				 "/attach/TOKEN and /portforward/TOKEN");
	if (!*ret->token || strlen(ret->token) > HTTP_TOKEN_MAX)
		return http_fail(e, 404, NULL, "no such session");
	for (const char *p = ret->token; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
			return http_fail(e, 404, NULL, "no such session");
	return 0;
}

static int parse_line(char *line, struct http_request *ret, struct http_error *e)
{
	char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version || strchr(version + 1, ' '))
		return http_fail(e, 400, NULL, "the first line is no request");
	*target++ = *version++ = '\0';
	if (!is_token(line) || !*target || strchr(line, '\t') || strchr(target, '\t'))
		return http_fail(e, 400, NULL, "the first line is no request");
	if (!streq(version, "HTTP/1.1"))
		return str_has_prefix(version, "HTTP/")
			       ? http_fail(e, 505, NULL, "HTTP/1.1 is spoken here")
			       : http_fail(e, 400, NULL, "the first line is no request");
	if (strlen(target) > HTTP_TARGET_MAX)
		return http_fail(e, 414, NULL, "the address has more than %d bytes",
				 HTTP_TARGET_MAX);
	ret->get = streq(line, "GET");
	if (!ret->get && !streq(line, "POST"))
		return http_fail(e, 405, "Allow: GET, POST", "the method is neither GET nor POST");
	return parse_path(target, ret, e);
}

static int parse_field(char *line, struct http_request *ret, struct http_error *e)
{
	char *colon = strchr(line, ':'), *value, *end;

	if (!colon)
		return http_fail(e, 400, NULL, "a line of the header is no field");
	*colon = '\0';
	if (!is_token(line)) /* also a line that continues the one before (obs-fold) */
		return http_fail(e, 400, NULL, "a line of the header is no field");
	value = colon + 1 + strspn(colon + 1, " \t");
	for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t');)
		*--end = '\0';
	if (ret->n_fields == HTTP_FIELDS_MAX)
		return http_fail(e, 431, NULL, "the header has more than %d fields",
				 HTTP_FIELDS_MAX);
	ret->fields[ret->n_fields++] = (struct http_field){line, value};
	return 0;
}

static unsigned count(const struct http_request *r, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n_fields; i++)
		n += strcasecmp(r->fields[i].name, name) == 0;
	return n;
}

/* A body would be taken for frames of the protocol that comes after. */
static int check_fields(const struct http_request *r, struct http_error *e)
{
	static const char *const once[] = {"upgrade", "sec-websocket-key", "sec-websocket-version",
					   "content-length"};
	const char *length = http_get(r, "content-length");

	if (count(r, "host") != 1)
		return http_fail(e, 400, NULL, "the header has not one Host");
	for (size_t i = 0; i < ARRAY_SIZE(once); i++)
		if (count(r, once[i]) > 1)
			return http_fail(e, 400, NULL, "the header has more than one \"%s\"",
					 once[i]);
	if (http_get(r, "transfer-encoding") || (length && !streq(length, "0")))
		return http_fail(e, 400, NULL, "a request for an upgrade has no body");
	return 0;
}

int http_parse(char *head, size_t n, struct http_request *ret, struct http_error *e)
{
	char *pos = head, *line;
	int r;

	*ret = (struct http_request){0};
	if (n < 4 || memchr(head, '\0', n))
		return http_fail(e, 400, NULL, "the request has a character that it must not have");
	head[n - 2] = '\0'; /* of the empty line */
	line = cut_line(&pos);
	if (!line)
		return http_fail(e, 400, NULL, "the first line is no request");
	r = parse_line(line, ret, e);
	while (r == 0 && *pos) {
		line = cut_line(&pos);
		if (!line)
			return http_fail(e, 400, NULL, "a line of the header is no field");
		r = parse_field(line, ret, e);
	}
	return r < 0 ? r : check_fields(ret, e);
}

const char *http_get(const struct http_request *r, const char *name)
{
	for (unsigned i = 0; i < r->n_fields; i++)
		if (strcasecmp(r->fields[i].name, name) == 0)
			return r->fields[i].value;
	return NULL;
}

bool http_next(const struct http_request *r, const char *name, struct http_list *pos, char *ret,
	       size_t max)
{
	for (; pos->field < r->n_fields; pos->field++, pos->at = 0) {
		const char *p = r->fields[pos->field].value;

		if (strcasecmp(r->fields[pos->field].name, name) != 0)
			continue;
		while (p[pos->at]) {
			size_t n;

			pos->at += strspn(p + pos->at, ", \t");
			n = strcspn(p + pos->at, ",");
			p += pos->at;
			pos->at += n;
			while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
				n--;
			if (n && n < max) {
				memcpy(ret, p, n);
				ret[n] = '\0';
				return true;
			}
			p = r->fields[pos->field].value;
		}
	}
	return false;
}

bool http_has(const struct http_request *r, const char *name, const char *element)
{
	struct http_list pos = {0};
	char s[ELEMENT_MAX];

	while (http_next(r, name, &pos, s, sizeof(s)))
		if (strcasecmp(s, element) == 0)
			return true;
	return false;
}

static int add_port(const char *p, size_t n, uint16_t ret[HTTP_PORTS_MAX], unsigned *ret_n,
		    struct http_error *e)
{
	char s[8] = "";
	uint64_t v;

	if (n < sizeof(s))
		memcpy(s, p, n);
	if (!str_to_u64(s, &v) || v < 1 || v > UINT16_MAX)
		return http_fail(e, 400, NULL, "a port of the query is no number from 1 to 65535");
	if (*ret_n == HTTP_PORTS_MAX)
		return http_fail(e, 400, NULL, "the query has more than %d ports", HTTP_PORTS_MAX);
	ret[(*ret_n)++] = (uint16_t)v;
	return 0;
}

int http_query_ports(const struct http_request *r, uint16_t ret[HTTP_PORTS_MAX], unsigned *ret_n,
		     struct http_error *e)
{
	const char *p = r->query;
	int err = 0;

	*ret_n = 0;
	while (*p && err == 0) {
		size_t n = strcspn(p, "&"), name = strcspn(p, "=");
		const char *v = p + name + 1, *end = p + n;

		if (name < n && ((name == 4 && memcmp(p, "port", 4) == 0) ||
				 (name == 5 && memcmp(p, "ports", 5) == 0)))
			while (v <= end && err == 0) {
				size_t len = 0;
				bool escaped;

				while (v + len < end && v[len] != ',' && v[len] != '%')
					len++;
				escaped = v + len < end && v[len] == '%';
				if (escaped && strncasecmp(v + len, "%2c", 3) != 0)
					len = 0; /* no digit has to be escaped */
				err = add_port(v, len, ret, ret_n, e);
				v += len + (escaped ? 3 : 1);
			}
		p = *end ? end + 1 : end;
	}
	return err;
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} all[] = {{400, "Bad Request"},
		   {403, "Forbidden"},
		   {404, "Not Found"},
		   {405, "Method Not Allowed"},
		   {408, "Request Timeout"},
		   {414, "URI Too Long"},
		   {426, "Upgrade Required"},
		   {431, "Request Header Fields Too Large"},
		   {500, "Internal Server Error"},
		   {503, "Service Unavailable"},
		   {505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].status == status)
			return all[i].text;
	return "Error";
}

void http_put_error(struct strbuf *b, const struct http_error *e)
{
	strbuf_addf(b, "HTTP/1.1 %d %s\r\n", e->status, reason(e->status));
	if (e->field)
		strbuf_addf(b, "%s\r\n", e->field);
	strbuf_addf(b,
		    "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
		    "Connection: close\r\n\r\n%s\n",
		    strlen(e->text) + 1, e->text);
}
