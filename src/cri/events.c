/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRI: GetContainerEvents.  What happens to pods and containers, to whoever listens, each with
 * the status of that moment.  A listener that reads too slowly is cut off: it lists and begins
 * anew, which is what it would have to do after any lost event.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "pod/life.h"

#define EVENTS_SUBSCRIBERS_MAX 128
#define EVENTS_QUEUE_MAX 1000		   /* events that wait for one subscriber */
#define EVENTS_QUEUE_BYTES_MAX (16u << 20) /* the same, in bytes */

struct cri_events {
	struct node *node;
	struct list subscribers;
	unsigned n;
	uint64_t cut; /* listeners, ever */
	bool closing;
};

/* One for all that wait for it. */
struct event {
	unsigned refs;
	size_t n;
	char bytes[];
};

struct queued {
	struct list link;
	struct event *event;
};

struct subscriber {
	struct list link;
	struct co *co;
	struct co_event wake;
	struct list queue; /* struct queued */
	size_t n, bytes;
	bool cut;
};

static void event_unref(struct event *event)
{
	if (--event->refs == 0)
		free(event);
}

static void drop_first(struct subscriber *s)
{
	struct queued *q = list_first(&s->queue, struct queued, link);

	list_remove(&q->link);
	s->n--;
	s->bytes -= q->event->n;
	event_unref(q->event);
	free(q);
}

static void put(struct subscriber *s, struct event *event)
{
	struct queued *q;

	if (s->cut)
		return;
	if (s->n >= EVENTS_QUEUE_MAX || s->bytes + event->n > EVENTS_QUEUE_BYTES_MAX) {
		s->cut = true;
		co_cancel(s->co, -ECANCELED); /* it waits for its client perhaps */
		return;
	}
	q = xcalloc(1, sizeof(*q));
	q->event = event;
	event->refs++;
	list_append(&s->queue, &q->link);
	s->n++;
	s->bytes += event->n;
	co_event_set(&s->wake);
}

static void on_event(void *arg, struct pod *p, const char *id, enum node_event what)
{
	struct cri_events *ev = arg;
	Runtime__V1__ContainerEventResponse m = RUNTIME__V1__CONTAINER_EVENT_RESPONSE__INIT;
	struct arena a = ARENA_NULL;
	struct subscriber *s;
	struct event *event;
	size_t n;

	if (list_empty(&ev->subscribers))
		return;
	m.container_id = (char *)(uintptr_t)id;
	m.container_event_type = (Runtime__V1__ContainerEventType)what;
	m.created_at = pod_telling_time(p);
	m.pod_sandbox_status = cri_pod_status(&a, p);
	m.containers_statuses = cri_pod_containers(&a, p, &m.n_containers_statuses);
	n = runtime__v1__container_event_response__get_packed_size(&m);
	event = xmalloc(sizeof(*event) + n);
	event->refs = 1;
	event->n = n;
	runtime__v1__container_event_response__pack(&m, (uint8_t *)event->bytes);
	list_for_each (s, &ev->subscribers, link)
		put(s, event);
	event_unref(event);
	arena_fini(&a);
}

static int follow(struct cri_call *c, struct cri_events *ev, struct subscriber *s, struct err *e)
{
	int r = 0;

	while (r == 0 && !s->cut && !(ev->closing && list_empty(&s->queue))) {
		struct queued *q;

		if (list_empty(&s->queue)) {
			co_event_reset(&s->wake);
			r = co_event_wait(&s->wake, USEC_FOREVER);
			continue;
		}
		q = list_first(&s->queue, struct queued, link);
		r = grpc_call_send(c->grpc, q->event->bytes, q->event->n, e);
		drop_first(s);
	}
	if (s->cut)
		ev->cut++;
	if (s->cut)
		return err_set(e, -ENOBUFS, GRPC_RESOURCE_EXHAUSTED,
			       "more than %d events or %u bytes of them wait: list, and ask again",
			       EVENTS_QUEUE_MAX, EVENTS_QUEUE_BYTES_MAX);
	return 0; /* the client has gone, or the daemon goes */
}

static int get_container_events(struct cri_call *c, const void *request, struct err *e)
{
	struct cri_events *ev = c->node->on_event_arg;
	struct subscriber s = {.co = co_self()};
	int r;

	if (ev->n >= EVENTS_SUBSCRIBERS_MAX)
		return err_set(e, -EBUSY, GRPC_RESOURCE_EXHAUSTED,
			       "there are %d listeners to events already", EVENTS_SUBSCRIBERS_MAX);
	list_init(&s.queue);
	co_event_init(&s.wake);
	list_append(&ev->subscribers, &s.link);
	ev->n++;
	r = follow(c, ev, &s, e);
	while (!list_empty(&s.queue))
		drop_first(&s);
	list_remove(&s.link);
	ev->n--;
	return r;
}

struct cri_events *cri_events_new(struct node *n)
{
	struct cri_events *ev = xcalloc(1, sizeof(*ev));

	ev->node = n;
	list_init(&ev->subscribers);
	n->on_event = on_event;
	n->on_event_arg = ev;
	return ev;
}

unsigned cri_events_listeners(const struct cri_events *ev)
{
	return ev->n;
}

uint64_t cri_events_cut(const struct cri_events *ev)
{
	return ev->cut;
}

void cri_events_end(struct cri_events *ev)
{
	struct subscriber *s;

	ev->closing = true;
	list_for_each (s, &ev->subscribers, link)
		co_event_set(&s->wake);
}

struct cri_events *cri_events_free(struct cri_events *ev)
{
	if (!ev)
		return NULL;
	ev->node->on_event = NULL;
	ev->node->on_event_arg = NULL;
	free(ev);
	return NULL;
}

const struct cri_method cri_methods_events[] = {
	{.path = "/runtime.v1.RuntimeService/GetContainerEvents",
	 .request = &runtime__v1__get_events_request__descriptor,
	 .response = &runtime__v1__container_event_response__descriptor,
	 .stream_fn = get_container_events,
	 .lasts = true,
	 .quiet = true},
	{0},
};
