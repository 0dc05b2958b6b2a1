/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRI v1 on gRPC: one table of methods; each handler is a coroutine of its own that gets a
 * decoded request and fills in a response, or an error.
 *
 * The idiom of a handler:
 *
 *	int cri_version(struct cri_call *c, const void *request, void *response, struct err *e)
 *	{
 *		Runtime__V1__VersionResponse *r = response;
 *
 *		r->version = arena_strdup(c->arena, "0.1.0");
 *		return 0;
 *	}
 *
 * Objects are found by pod_find() and the like, and held only as long as nothing is waited
 * for.  Request and response live in the call's arena (protobuf-c's allocator is the arena), so
 * nothing is freed.  A handler of a list may append the encoded response to c->raw instead.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "pod/pod.h"
#include "wire/grpc.h"

struct cri_call {
	struct node *node;
	struct grpc_call *grpc;
	struct arena *arena;
	struct strbuf raw; /* the encoded response; used instead of `response` when not empty */
	bool raw_used;	   /* set it where the encoded response may be empty */
	bool in_pieces;	   /* it goes out as a stream: see cri_flush() */
	const char *about; /* id of the object that the call is about, for the log; borrowed */
};

/* A unary method: < 0 with `e` set, or 0. */
typedef int cri_fn(struct cri_call *c, const void *request, void *response, struct err *e);
/* A server-streaming method: sends messages with cri_send(), returns at the end. */
typedef int cri_stream_fn(struct cri_call *c, const void *request, struct err *e);

struct cri_method {
	const char *path; /* "/runtime.v1.RuntimeService/Version" */
	const ProtobufCMessageDescriptor *request, *response;
	cri_fn *fn;
	cri_stream_fn *stream_fn; /* set for streaming methods only */
	bool in_pieces; /* the response of `fn`, a list in field 1, goes out as a stream of such */
	bool lasts;	/* for as long as the client listens */
	bool quiet;	/* asked many times a minute: logged at debug level only */
};

/* An entry of a table: CRI_METHOD("Version", version, handler, quiet). */
#define CRI_METHOD(name, type, handler, is_quiet)                                                  \
	{                                                                                          \
		.path = "/runtime.v1.RuntimeService/" name,                                        \
		.request = &runtime__v1__##type##_request__descriptor,                             \
		.response = &runtime__v1__##type##_response__descriptor, .fn = (handler),          \
		.quiet = (is_quiet)                                                                \
	}
#define CRI_IMAGE_METHOD(name, type, handler, is_quiet)                                            \
	{                                                                                          \
		.path = "/runtime.v1.ImageService/" name,                                          \
		.request = &runtime__v1__##type##_request__descriptor,                             \
		.response = &runtime__v1__##type##_response__descriptor, .fn = (handler),          \
		.quiet = (is_quiet)                                                                \
	}

/* The streamed form of a list, whose messages have the layout of the list's own. */
#define CRI_STREAM(service, name, type, handler)                                                   \
	{                                                                                          \
		.path = "/runtime.v1." service "/" name,                                           \
		.request = &runtime__v1__##type##_request__descriptor,                             \
		.response = &runtime__v1__##type##_response__descriptor, .fn = (handler),          \
		.in_pieces = true, .quiet = true                                                   \
	}

/* In a list that may be a stream: what is in c->raw goes out once it is a piece, so that a long one is
 * never in memory as a whole.  Waits for the client then. */
int cri_flush(struct cri_call *c, struct err *e);
/* Encodes and sends one message of a stream; waits for the client. */
int cri_send(struct cri_call *c, const ProtobufCMessage *m, struct err *e);

/* The tables, one per group of methods; each ends with an entry without path. */
extern const struct cri_method cri_methods_runtime[];	/* runtime.c: Version, Status, ... */
extern const struct cri_method cri_methods_sandbox[];	/* sandbox.c */
extern const struct cri_method cri_methods_container[]; /* container.c */
extern const struct cri_method cri_methods_stream[];	/* stream.c */
extern const struct cri_method cri_methods_stats[];	/* stats.c */
extern const struct cri_method cri_methods_image[];	/* image.c */
extern const struct cri_method cri_methods_runtimes[];	/* runtimes.c: of our own service */
extern const struct cri_method cri_methods_gantry[];	/* gantry.c: our own service */

extern const struct cri_method cri_methods_events[];  /* events.c */
extern const struct cri_method cri_methods_metrics[]; /* metrics.c */

/* Takes the node's events; handlers find it there. */
struct cri_events;
struct cri_events *cri_events_new(struct node *n);
unsigned cri_events_listeners(const struct cri_events *ev);
uint64_t cri_events_cut(const struct cri_events *ev); /* listeners that read too slowly */
void cri_events_end(struct cri_events *ev);	      /* what waits is sent, then the streams end */
struct cri_events *cri_events_free(struct cri_events *ev);

struct cri;
/* The gRPC server over `n`, on a listening socket that it takes over. */
int cri_new(struct node *n, int listen_fd, struct cri **ret, struct err *e);
/* Refuses new requests, lets those in flight end, then calls fn(arg). */
void cri_drain(struct cri *s, void (*fn)(void *arg), void *arg);
struct cri *cri_free(struct cri *s);
/* Appends the daemon's own figures in Prometheus' text format. */
void cri_prometheus(struct cri *s, struct strbuf *to);

/* INVALID_ARGUMENT "FIELD.PATH: ..." for a string of an encoded message of type `d` that holds
 * a NUL or is no UTF-8. */
int cri_check_text(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t n,
		   struct err *e);

/* --- helpers of the handlers --- */

/* An arena copy of a label or annotation map: `Runtime__V1__X__LabelsEntry **`. The entry
 * types of protobuf-c's maps all have the same layout: base, key, value. */
struct cri_map_entry {
	ProtobufCMessage base;
	char *key;
	char *value;
};
/* True when `have` holds every pair of `want`. */
bool cri_labels_match(struct cri_map_entry *const *have, size_t n_have,
		      struct cri_map_entry *const *want, size_t n_want);
/* Whether a listed container passes these filters; ids may be beginnings of one, "" any. */
bool cri_container_matches(const struct container *c, const char *id, const char *pod_id,
			   struct cri_map_entry *const *labels, size_t n_labels);
/* ContainerStatus of `c`; arena, partly borrowed from it. */
Runtime__V1__ContainerStatus *cri_container_status(struct arena *a, const struct container *c);
/* PodSandboxStatus of `p`, and ContainerStatus of each of its containers, those made last first: a
 * kubelet with evented PLEG takes the first of a name for the one that counts; as above. */
Runtime__V1__PodSandboxStatus *cri_pod_status(struct arena *a, const struct pod *p);
Runtime__V1__ContainerStatus **cri_pod_containers(struct arena *a, const struct pod *p,
						  size_t *ret_n);
/* A verbose reply's `info` map with one entry; arena. */
void cri_info(struct arena *a, const char *key, const char *json, void *ret_entries, size_t *ret_n);
/* Appends field `number` (length-delimited) holding `m` to `to`. */
void cri_put_message(struct strbuf *to, unsigned number, const ProtobufCMessage *m);
