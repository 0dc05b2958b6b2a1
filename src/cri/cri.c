/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a gRPC call to a handler and back: looks up the method, decodes, runs, encodes,
 * logs once.  Runs in the coroutine that wire/grpc.c started for the call.
 */
#include "cri/cri_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

static const struct cri_method *const tables[] = {
	cri_methods_runtime, cri_methods_sandbox, cri_methods_container, cri_methods_stats,
	cri_methods_image,   cri_methods_gantry,  cri_methods_runtimes,	 cri_methods_events,
	cri_methods_metrics, cri_methods_stream,
};

/* --- helpers of the handlers --- */

bool cri_labels_match(struct cri_map_entry *const *have, size_t n_have,
		      struct cri_map_entry *const *want, size_t n_want)
{
	for (size_t i = 0; i < n_want; i++) {
		bool found = false;

		for (size_t j = 0; j < n_have && !found; j++)
			found = streq(have[j]->key, want[i]->key) &&
				streq(have[j]->value, want[i]->value);
		if (!found)
			return false;
	}
	return true;
}

static void put_varint(struct strbuf *to, uint64_t v)
{
	while (v >= 0x80) {
		strbuf_addc(to, (char)(v | 0x80));
		v >>= 7;
	}
	strbuf_addc(to, (char)v);
}

void cri_put_message(struct strbuf *to, unsigned number, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	put_varint(to, (uint64_t)number << 3 | 2); /* wire type 2: length-delimited */
	put_varint(to, n);
	protobuf_c_message_pack(m, (uint8_t *)strbuf_reserve(to, n));
	to->len += n;
}

/* protobuf-c gives the entries of every map a type of its own, all of one layout. */
void cri_info(struct arena *a, const char *key, const char *json, void *ret_entries, size_t *ret_n)
{
	struct cri_map_entry ***ret = ret_entries;
	Runtime__V1__StatusResponse__InfoEntry *entry = arena_alloc(a, sizeof(*entry));
	struct cri_map_entry **list = arena_alloc(a, sizeof(*list));

	runtime__v1__status_response__info_entry__init(entry);
	entry->key = arena_strdup(a, key);
	entry->value = arena_strdup(a, json);
	list[0] = (struct cri_map_entry *)entry;
	*ret = list;
	*ret_n = 1;
}

/* --- dispatch --- */

static void *arena_cb_alloc(void *arena, size_t n)
{
	return arena_alloc(arena, n);
}

static void arena_cb_free(void *arena, void *p)
{
	(void)arena;
	(void)p;
}

static const char *short_name(const struct cri_method *m)
{
	return strrchr(m->path, '/') + 1;
}

static void log_call(const struct cri_call *c, const struct cri_method *m, int r,
		     const struct err *e, uint64_t started)
{
	uint64_t took = clock_mono_us() - started;
	const char *about = str_or_empty(c->about);

	if (r < 0)
		log_warn("%s%s%s failed after %llu.%03llu ms: %s: %s", short_name(m),
			 *about ? " " : "", about, (unsigned long long)(took / 1000),
			 (unsigned long long)(took % 1000), err_code_name(e->code), e->msg);
	else if (!m->quiet)
		log_info("%s%s%s took %llu.%03llu ms", short_name(m), *about ? " " : "", about,
			 (unsigned long long)(took / 1000), (unsigned long long)(took % 1000));
	else
		log_debug("%s%s%s took %llu us", short_name(m), *about ? " " : "", about,
			  (unsigned long long)took);
}

#define PIECE 65536 /* bytes of items that are gathered into one message of a stream */

/* Bytes of the first items (each: tag of field 1, length, message) that make a piece. */
static size_t piece(const uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at < n && at < PIECE) {
		size_t len = 0;
		unsigned shift = 0;

		at++; /* the tag */
		for (; p[at] & 0x80; shift += 7)
			len |= (size_t)(p[at++] & 0x7f) << shift;
		len |= (size_t)p[at++] << shift;
		at += len;
	}
	return at;
}

static int send_pieces(struct cri_call *c, struct err *e)
{
	const uint8_t *p = (const uint8_t *)c->raw.s;
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < c->raw.len; at += n) {
		n = piece(p + at, c->raw.len - at);
		r = grpc_call_send(c->grpc, p + at, n, e);
	}
	strbuf_reset(&c->raw);
	return r;
}

int cri_flush(struct cri_call *c, struct err *e)
{
	return c->in_pieces && c->raw.len >= PIECE ? send_pieces(c, e) : 0;
}

static void reply_unary(struct cri_call *c, const struct cri_method *m, const void *request,
			struct err *e, int *ret)
{
	ProtobufCMessage *response = arena_alloc(c->arena, m->response->sizeof_message);
	size_t n;

	m->response->message_init(response);
	*ret = m->fn(c, request, response, e);
	if (*ret < 0) {
		grpc_call_finish(c->grpc, e->code, e->msg);
		return;
	}
	if (!c->raw_used) {
		n = protobuf_c_message_get_packed_size(response);
		protobuf_c_message_pack(response, (uint8_t *)strbuf_reserve(&c->raw, n));
		c->raw.len += n;
	}
	if (!m->in_pieces) {
		grpc_call_reply(c->grpc, &c->raw);
		return;
	}
	*ret = send_pieces(c, e);
	grpc_call_finish(c->grpc, *ret < 0 ? e->code : GRPC_OK, *ret < 0 ? e->msg : "");
}

static void reply_stream(struct cri_call *c, const struct cri_method *m, const void *request,
			 struct err *e, int *ret)
{
	*ret = m->stream_fn(c, request, e);
	grpc_call_finish(c->grpc, *ret < 0 ? e->code : GRPC_OK, *ret < 0 ? e->msg : "");
}

int cri_send(struct cri_call *c, const ProtobufCMessage *m, struct err *e)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	strbuf_reset(&c->raw);
	protobuf_c_message_pack(m, (uint8_t *)strbuf_reserve(&c->raw, n));
	return grpc_call_send(c->grpc, c->raw.s, n, e);
}

static void count_call(struct cri_entry *m, int r, const struct err *e, uint64_t started)
{
	unsigned code = r < 0 ? (unsigned)e->code : GRPC_OK;

	m->in_flight--;
	m->codes[code < CRI_CODES ? code : GRPC_UNKNOWN]++;
	if (!m->method->lasts)
		histogram_add(&m->took, clock_mono_us() - started);
}

static void on_call(struct grpc_call *grpc, const void *entry)
{
	struct cri_entry *counted = (struct cri_entry *)(uintptr_t)entry;
	const struct cri_method *m = counted->method;
	struct cri *s = grpc_call_server_arg(grpc);
	struct arena *a = grpc_call_arena(grpc);
	ProtobufCAllocator alloc = {arena_cb_alloc, arena_cb_free, a};
	struct cri_call c = {.node = s->node, .grpc = grpc, .arena = a, .in_pieces = m->in_pieces};
	uint64_t started = clock_mono_us();
	const struct config *kept = config_ref(s->node->config); /* over a reload meanwhile */
	struct err e = ERR_NULL;
	ProtobufCMessage *request;
	const uint8_t *bytes;
	size_t n;
	int r;

	loop_note(c.node->loop, short_name(m));
	counted->in_flight++;
	bytes = grpc_call_request(grpc, &n);
	request = protobuf_c_message_unpack(m->request, &alloc, n, bytes);
	r = request ? cri_check_text(m->request, bytes, n, &e)
		    : err_invalid(&e, "the request is no %s", m->request->name);
	if (r < 0) {
		grpc_call_finish(grpc, e.code, e.msg);
	} else if (m->stream_fn) {
		reply_stream(&c, m, request, &e, &r);
	} else {
		reply_unary(&c, m, request, &e, &r);
	}
	count_call(counted, r, &e, started);
	log_call(&c, m, r, &e, started);
	strbuf_fini(&c.raw);
	config_unref(kept);
}

static const void *lookup(void *arg, const char *path)
{
	struct cri *s = arg;

	return map_get(&s->methods, path);
}

static void add_methods(struct cri *s)
{
	const struct cri_method *m;

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (m = tables[i]; m->path; m++)
			s->n_entries++;
	s->entries = xcalloc(s->n_entries, sizeof(*s->entries));
	s->n_entries = 0;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (m = tables[i]; m->path; m++) {
			s->entries[s->n_entries].method = m;
			map_put(&s->methods, m->path, &s->entries[s->n_entries++]);
		}
}

int cri_new(struct node *n, int listen_fd, struct cri **ret, struct err *e)
{
	struct grpc_server_config cfg = {.lookup = lookup,
					 .handler = on_call,
					 .max_requests = n->config->limits.max_requests};
	struct cri *s = xcalloc(1, sizeof(*s));
	int r;

	s->node = n;
	cfg.arg = s;
	s->started_at = clock_wall_ns();
	add_methods(s);
	r = grpc_server_new(n->loop, &cfg, listen_fd, &s->grpc, e);
	if (r < 0) {
		map_fini(&s->methods);
		free(s->entries);
		free(s);
		return r;
	}
	s->events = cri_events_new(n);
	*ret = s;
	return 0;
}

void cri_drain(struct cri *s, void (*fn)(void *arg), void *arg)
{
	cri_events_end(s->events);
	grpc_server_drain(s->grpc, fn, arg);
}

struct cri *cri_free(struct cri *s)
{
	if (!s)
		return NULL;
	grpc_server_free(s->grpc);
	cri_events_free(s->events);
	map_fini(&s->methods);
	free(s->entries);
	free(s);
	return NULL;
}
