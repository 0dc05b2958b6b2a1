/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRI: metrics of pods and containers under cAdvisor's names, labels and units, which the kubelet
 * serves at /metrics/cadvisor instead of its own.  docs/metrics.md lists them.
 *
 * The figures are read by each pod's monitor, several pods' at once; what a pod's monitor does not
 * say in time is left out.  Pods are encoded one by one, in their order.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "ipc/monitor.h"
#include "pod/monitor.h"
#include "pod/node.h"
#include "sys/figures.h"

#define ASKED_AT_ONCE 16		/* pods whose monitors are asked at the same time */
#define FIGURES_WAIT (2 * USEC_PER_SEC) /* for one pod's monitor, from its turn on */
#define TURN_MAX (5 * USEC_PER_MS)	/* of one turn of the loop */
#define FIGURES_MAX 4096		/* of one container that are passed on */
#define SAMPLES_FIRST 64
#define CPU_PERIOD_DEFAULT 100000     /* the kernel's, us */
#define UNLIMITED (UINT64_C(1) << 62) /* cAdvisor tells limits from there on as 0 */

#define BASE_KEYS 6
static const char *const base_keys[BASE_KEYS] = {"container", "id",	   "image",
						 "name",      "namespace", "pod"};
#define EXTRA_KEYS_MAX 4

/* What no monitor is asked for; after enum figure. */
enum {
	OWN_LAST_SEEN = 1000,
	OWN_START_TIME,
	OWN_FS_USAGE,
	OWN_CPU_PERIOD,
	OWN_CPU_QUOTA,
	OWN_CPU_SHARES,
	OWN_MEMORY_LIMIT,
	OWN_MEMORY_RESERVATION,
	OWN_SWAP_LIMIT,
	OWN_NET_RX_BYTES, /* of pods; from here in this order */
	OWN_NET_RX_PACKETS,
	OWN_NET_RX_DROPPED,
	OWN_NET_RX_ERRORS,
	OWN_NET_TX_BYTES,
	OWN_NET_TX_PACKETS,
	OWN_NET_TX_DROPPED,
	OWN_NET_TX_ERRORS,
};

struct metric {
	unsigned what; /* enum figure, or OWN_* */
	bool counter;
	bool with_quota; /* of containers with a quota of processor time only */
	uint32_t divide; /* the figure by this, 0: by nothing */
	const char *name, *help;
	const char *keys[EXTRA_KEYS_MAX]; /* after the base keys */
	const char *label;		  /* the one that is always the same */
};

#define NS 1000000000
#define US 1000000
#define GAUGE(w, n, h, ...)                                                                        \
	{                                                                                          \
		.what = (w), .name = (n), .help = (h), __VA_ARGS__                                 \
	}
#define COUNTER(w, n, h, ...)                                                                      \
	{                                                                                          \
		.what = (w), .name = (n), .help = (h), .counter = true, __VA_ARGS__                \
	}

static const struct metric metrics[] = {
	GAUGE(OWN_LAST_SEEN, "container_last_seen", "When the container was last seen, Unix time."),
	GAUGE(OWN_START_TIME, "container_start_time_seconds",
	      "When the container was started, Unix time."),
	/* processor */
	COUNTER(FIGURE_CPU_USAGE_NS, "container_cpu_usage_seconds_total",
		"Processor time used, in seconds.", .divide = NS, .keys = {"cpu"},
		.label = "total"),
	COUNTER(FIGURE_CPU_USER_NS, "container_cpu_user_seconds_total",
		"Processor time used in user mode, in seconds.", .divide = NS),
	COUNTER(FIGURE_CPU_SYSTEM_NS, "container_cpu_system_seconds_total",
		"Processor time used in the kernel, in seconds.", .divide = NS),
	COUNTER(FIGURE_CFS_PERIODS, "container_cpu_cfs_periods_total",
		"Periods of the processor quota that have passed.", .with_quota = true),
	COUNTER(FIGURE_CFS_THROTTLED_PERIODS, "container_cpu_cfs_throttled_periods_total",
		"Periods in which the quota was used up.", .with_quota = true),
	COUNTER(FIGURE_CFS_THROTTLED_NS, "container_cpu_cfs_throttled_seconds_total",
		"Time for which the container was throttled, in seconds.", .with_quota = true,
		.divide = NS),
	/* memory */
	GAUGE(FIGURE_MEMORY_USAGE, "container_memory_usage_bytes",
	      "Memory in use, the page cache included, in bytes."),
	GAUGE(FIGURE_MEMORY_WORKING_SET, "container_memory_working_set_bytes",
	      "Memory in use without inactive page cache, in bytes."),
	GAUGE(FIGURE_MEMORY_MAX_USAGE, "container_memory_max_usage_bytes",
	      "The most memory that was in use, in bytes."),
	GAUGE(FIGURE_MEMORY_RSS, "container_memory_rss", "Anonymous memory, in bytes."),
	GAUGE(FIGURE_MEMORY_CACHE, "container_memory_cache", "Page cache, in bytes."),
	GAUGE(FIGURE_MEMORY_MAPPED_FILE, "container_memory_mapped_file",
	      "Files mapped into memory, in bytes."),
	GAUGE(FIGURE_MEMORY_KERNEL, "container_memory_kernel_usage",
	      "Memory of the kernel's for the container, in bytes."),
	GAUGE(FIGURE_MEMORY_SWAP, "container_memory_swap", "Swap in use, in bytes."),
	COUNTER(FIGURE_MEMORY_FAILCNT, "container_memory_failcnt",
		"How often the memory limit was met."),
	COUNTER(FIGURE_MEMORY_FAILURES, "container_memory_failures_total", "Page faults, by kind.",
		.keys = {"failure_type", "scope"}),
	GAUGE(FIGURE_MEMORY_ACTIVE_FILE, "container_memory_total_active_file_bytes",
	      "Active page cache, in bytes."),
	GAUGE(FIGURE_MEMORY_INACTIVE_FILE, "container_memory_total_inactive_file_bytes",
	      "Inactive page cache, in bytes."),
	COUNTER(FIGURE_OOM_KILLS, "container_oom_events_total",
		"Processes killed for want of memory."),
	/* disks */
	COUNTER(FIGURE_IO_BYTES, "container_blkio_device_usage_total",
		"Bytes moved to and from a block device.",
		.keys = {"device", "major", "minor", "operation"}),
	COUNTER(FIGURE_IO_READ_BYTES, "container_fs_reads_bytes_total",
		"Bytes read from a block device.", .keys = {"device"}),
	COUNTER(FIGURE_IO_READS, "container_fs_reads_total", "Reads from a block device.",
		.keys = {"device"}),
	COUNTER(FIGURE_IO_WRITE_BYTES, "container_fs_writes_bytes_total",
		"Bytes written to a block device.", .keys = {"device"}),
	COUNTER(FIGURE_IO_WRITES, "container_fs_writes_total", "Writes to a block device.",
		.keys = {"device"}),
	GAUGE(OWN_FS_USAGE, "container_fs_usage_bytes",
	      "What the container's writable layer holds, in bytes.", .keys = {"device"}),
	GAUGE(FIGURE_FS_LIMIT, "container_fs_limit_bytes",
	      "Size of the file system with the writable layer, or its quota, in bytes.",
	      .keys = {"device"}),
	GAUGE(FIGURE_FS_INODES, "container_fs_inodes_total",
	      "Inodes of the file system with the writable layer.", .keys = {"device"}),
	GAUGE(FIGURE_FS_INODES_FREE, "container_fs_inodes_free",
	      "Inodes that are free in the file system with the writable layer.",
	      .keys = {"device"}),
	/* huge pages */
	GAUGE(FIGURE_HUGETLB_USAGE, "container_hugetlb_usage_bytes", "Huge pages in use, in bytes.",
	      .keys = {"pagesize"}),
	GAUGE(FIGURE_HUGETLB_MAX_USAGE, "container_hugetlb_max_usage_bytes",
	      "The most huge pages that were in use, in bytes.", .keys = {"pagesize"}),
	/* pressure */
	COUNTER(FIGURE_PSI_CPU_WAITING_US, "container_pressure_cpu_waiting_seconds_total",
		"Time in which some process waited for a processor, in seconds.", .divide = US),
	COUNTER(FIGURE_PSI_CPU_STALLED_US, "container_pressure_cpu_stalled_seconds_total",
		"Time in which all processes waited for a processor, in seconds.", .divide = US),
	COUNTER(FIGURE_PSI_MEMORY_WAITING_US, "container_pressure_memory_waiting_seconds_total",
		"Time in which some process waited for memory, in seconds.", .divide = US),
	COUNTER(FIGURE_PSI_MEMORY_STALLED_US, "container_pressure_memory_stalled_seconds_total",
		"Time in which all processes waited for memory, in seconds.", .divide = US),
	COUNTER(FIGURE_PSI_IO_WAITING_US, "container_pressure_io_waiting_seconds_total",
		"Time in which some process waited for a disk, in seconds.", .divide = US),
	COUNTER(FIGURE_PSI_IO_STALLED_US, "container_pressure_io_stalled_seconds_total",
		"Time in which all processes waited for a disk, in seconds.", .divide = US),
	/* processes */
	GAUGE(FIGURE_PROCESSES, "container_processes", "Processes."),
	GAUGE(FIGURE_THREADS, "container_threads", "Threads."),
	GAUGE(FIGURE_THREADS_MAX, "container_threads_max",
	      "How many threads there may be, 0 where there is no limit."),
	GAUGE(FIGURE_DESCRIPTORS, "container_file_descriptors", "Open file descriptors."),
	GAUGE(FIGURE_SOCKETS, "container_sockets", "Open sockets."),
	GAUGE(FIGURE_ULIMIT_SOFT, "container_ulimits_soft",
	      "Soft limits of the container's first process.", .keys = {"ulimit"}),
	/* what was asked for */
	GAUGE(OWN_CPU_PERIOD, "container_spec_cpu_period",
	      "Period of the processor quota, in microseconds."),
	GAUGE(OWN_CPU_QUOTA, "container_spec_cpu_quota", "Processor quota, in microseconds.",
	      .with_quota = true),
	GAUGE(OWN_CPU_SHARES, "container_spec_cpu_shares", "Processor shares."),
	GAUGE(OWN_MEMORY_LIMIT, "container_spec_memory_limit_bytes",
	      "Memory limit in bytes, 0 where there is none."),
	GAUGE(OWN_MEMORY_RESERVATION, "container_spec_memory_reservation_limit_bytes",
	      "Memory that is kept for the container, in bytes."),
	GAUGE(OWN_SWAP_LIMIT, "container_spec_memory_swap_limit_bytes",
	      "Limit of memory and swap in bytes, 0 where there is none."),
	/* network, of pods */
	COUNTER(OWN_NET_RX_BYTES, "container_network_receive_bytes_total", "Bytes received.",
		.keys = {"interface"}),
	COUNTER(OWN_NET_RX_PACKETS, "container_network_receive_packets_total", "Packets received.",
		.keys = {"interface"}),
	COUNTER(OWN_NET_RX_DROPPED, "container_network_receive_packets_dropped_total",
		"Packets dropped while receiving.", .keys = {"interface"}),
	COUNTER(OWN_NET_RX_ERRORS, "container_network_receive_errors_total",
		"Errors while receiving.", .keys = {"interface"}),
	COUNTER(OWN_NET_TX_BYTES, "container_network_transmit_bytes_total", "Bytes sent.",
		.keys = {"interface"}),
	COUNTER(OWN_NET_TX_PACKETS, "container_network_transmit_packets_total", "Packets sent.",
		.keys = {"interface"}),
	COUNTER(OWN_NET_TX_DROPPED, "container_network_transmit_packets_dropped_total",
		"Packets dropped while sending.", .keys = {"interface"}),
	COUNTER(OWN_NET_TX_ERRORS, "container_network_transmit_errors_total",
		"Errors while sending.", .keys = {"interface"}),
};

static const struct metric *metric_of(uint64_t what)
{
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++)
		if (metrics[i].what == what)
			return &metrics[i];
	return NULL;
}

static size_t extra_keys(const struct metric *m)
{
	size_t n = 0;

	while (n < EXTRA_KEYS_MAX && m->keys[n])
		n++;
	return n;
}

/* --- descriptors --- */

static int list_metric_descriptors(struct cri_call *c, const void *request, void *response,
				   struct err *e)
{
	Runtime__V1__ListMetricDescriptorsResponse *r = response;

	r->descriptors = arena_calloc(c->arena, ARRAY_SIZE(metrics), sizeof(*r->descriptors));
	r->n_descriptors = ARRAY_SIZE(metrics);
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
		Runtime__V1__MetricDescriptor *d = arena_alloc(c->arena, sizeof(*d));
		size_t extra = extra_keys(&metrics[i]);

		runtime__v1__metric_descriptor__init(d);
		d->name = (char *)(uintptr_t)metrics[i].name;
		d->help = (char *)(uintptr_t)metrics[i].help;
		d->n_label_keys = BASE_KEYS + extra;
		d->label_keys = arena_calloc(c->arena, d->n_label_keys, sizeof(*d->label_keys));
		memcpy(d->label_keys, base_keys, sizeof(base_keys));
		memcpy(d->label_keys + BASE_KEYS, metrics[i].keys, extra * sizeof(char *));
		r->descriptors[i] = d;
	}
	return 0;
}

/* --- samples --- */

/* The samples of a pod, or of a container of it; all in an arena. */
struct samples {
	struct arena *arena;
	const char *base[BASE_KEYS]; /* values of base_keys */
	bool has_quota;
	Runtime__V1__Metric **v;
	size_t n, room;
};

static void keep(struct samples *s, Runtime__V1__Metric *m)
{
	if (s->n == s->room) {
		Runtime__V1__Metric **more;

		s->room = s->room ? 2 * s->room : SAMPLES_FIRST;
		more = arena_calloc(s->arena, s->room, sizeof(*more));
		if (s->n)
			memcpy(more, s->v, s->n * sizeof(*more));
		s->v = more;
	}
	s->v[s->n++] = m;
}

/* Base labels, then those of `labels` (tabs between them); NULL where it is another number. */
static char **label_values(const struct samples *s, const struct metric *m, const char *labels,
			   size_t *ret_n)
{
	size_t want = extra_keys(m), n = 0;
	char **v = arena_calloc(s->arena, BASE_KEYS + want, sizeof(*v));

	memcpy(v, s->base, sizeof(s->base));
	for (const char *p = *labels ? labels : NULL; p; n++) {
		size_t len = strcspn(p, "\t");

		if (n >= want || !str_is_utf8(p, len))
			return NULL;
		v[BASE_KEYS + n] = arena_strndup(s->arena, p, len);
		p = p[len] ? p + len + 1 : NULL;
	}
	*ret_n = BASE_KEYS + want;
	return n == want ? v : NULL;
}

/* `at`: when it was measured, 0: just now (CRI's Metric.timestamp). */
static void put_at(struct samples *s, uint64_t what, const char *labels, uint64_t value, int64_t at)
{
	const struct metric *m = metric_of(what);
	Runtime__V1__Metric *sample;
	size_t n;
	char **v;

	if (!m || s->n >= FIGURES_MAX || (m->with_quota && !s->has_quota))
		return;
	v = label_values(s, m, m->label ? m->label : labels, &n);
	if (!v)
		return;
	sample = arena_alloc(s->arena, sizeof(*sample));
	runtime__v1__metric__init(sample);
	sample->name = (char *)(uintptr_t)m->name;
	sample->timestamp = at;
	sample->metric_type =
		m->counter ? RUNTIME__V1__METRIC_TYPE__COUNTER : RUNTIME__V1__METRIC_TYPE__GAUGE;
	sample->n_label_values = n;
	sample->label_values = v;
	sample->value = arena_alloc(s->arena, sizeof(*sample->value));
	runtime__v1__uint64_value__init(sample->value);
	sample->value->value = m->divide ? value / m->divide : value;
	keep(s, sample);
}

static void put(struct samples *s, uint64_t what, uint64_t value)
{
	put_at(s, what, "", value, 0);
}

/* --- one container --- */

static uint64_t limit(int64_t v)
{
	return v < 0 || (uint64_t)v >= UNLIMITED ? 0 : (uint64_t)v;
}

static uint64_t reservation(const Runtime__V1__LinuxContainerResources *r)
{
	uint64_t v = 0;

	for (size_t i = 0; i < r->n_unified; i++)
		if (streq(r->unified[i]->key, "memory.min") &&
		    !str_to_u64(r->unified[i]->value, &v))
			v = 0; /* "max" */
	return v < UNLIMITED ? v : 0;
}

static void put_spec(struct samples *s, const Runtime__V1__LinuxContainerResources *r)
{
	put(s, OWN_CPU_PERIOD, r->cpu_period > 0 ? (uint64_t)r->cpu_period : CPU_PERIOD_DEFAULT);
	put(s, OWN_CPU_QUOTA, limit(r->cpu_quota));
	put(s, OWN_CPU_SHARES, limit(r->cpu_shares));
	put(s, OWN_MEMORY_LIMIT, limit(r->memory_limit_in_bytes));
	put(s, OWN_MEMORY_RESERVATION, reservation(r));
	put(s, OWN_SWAP_LIMIT, limit(r->memory_swap_limit_in_bytes));
}

static void put_figures(struct samples *s, const struct container *c, const struct ipc_in *figures)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(figures, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);
		uint64_t what;
		const char *labels;

		if (f.tag != MON_TAG_FIGURE)
			continue;
		what = ipc_get_u64(&sub, MON_TAG_FIGURE_WHAT, 0);
		labels = str_or_empty(ipc_get_str(&sub, MON_TAG_FIGURE_LABELS));
		if (what == FIGURE_FS_DEVICE)
			put_at(s, OWN_FS_USAGE, labels, c->usage_bytes,
			       c->usage_at ? c->usage_at : c->created_at);
		else if (what < OWN_LAST_SEEN)
			put_at(s, what, labels, ipc_get_u64(&sub, MON_TAG_FIGURE_VALUE, 0), 0);
	}
}

static const char *image_name(const struct container *c)
{
	const Runtime__V1__ImageSpec *i = c->config->image;

	return !i ? "" : !str_empty(i->user_specified_image) ? i->user_specified_image : i->image;
}

static Runtime__V1__ContainerMetrics *container_metrics(struct arena *a, const struct container *c,
							const struct ipc_in *figures)
{
	static const Runtime__V1__LinuxContainerResources none =
		RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	const Runtime__V1__LinuxContainerResources *r =
		c->config->linux && c->config->linux->resources ? c->config->linux->resources
								: &none;
	const Runtime__V1__PodSandboxMetadata *pod = c->pod->config->metadata;
	Runtime__V1__ContainerMetrics *m = arena_alloc(a, sizeof(*m));
	struct samples s = {.arena = a,
			    .base = {c->config->metadata->name, c->cgroup, image_name(c), c->id,
				     pod->namespace_, pod->name},
			    .has_quota = r->cpu_quota > 0};

	runtime__v1__container_metrics__init(m);
	put(&s, OWN_LAST_SEEN, (uint64_t)(clock_wall_ns() / NSEC_PER_SEC));
	put(&s, OWN_START_TIME, (uint64_t)(c->started_at / NSEC_PER_SEC));
	put_spec(&s, r);
	put_figures(&s, c, figures);
	m->container_id = (char *)(uintptr_t)c->id;
	m->metrics = s.v;
	m->n_metrics = s.n;
	return m;
}

/* --- one pod --- */

static void put_interface(struct samples *s, const struct ipc_in *in)
{
	static const uint16_t tags[] = {MON_TAG_NET_RX_BYTES,	MON_TAG_NET_RX_PACKETS,
					MON_TAG_NET_RX_DROPPED, MON_TAG_NET_RX_ERRORS,
					MON_TAG_NET_TX_BYTES,	MON_TAG_NET_TX_PACKETS,
					MON_TAG_NET_TX_DROPPED, MON_TAG_NET_TX_ERRORS};
	const char *name = ipc_get_str(in, MON_TAG_NET_NAME);

	for (size_t i = 0; name && i < ARRAY_SIZE(tags); i++)
		put_at(s, OWN_NET_RX_BYTES + i, name, ipc_get_u64(in, tags[i], 0), 0);
}

static const struct container *container_of_pod(const struct pod *p, const char *id)
{
	struct container *c;

	list_for_each (c, &p->containers, in_pod)
		if (c->state == CONTAINER_RUNNING && streq(c->id, id))
			return c;
	return NULL;
}

static size_t running(const struct pod *p)
{
	struct container *c;
	size_t n = 0;

	list_for_each (c, &p->containers, in_pod)
		n += c->state == CONTAINER_RUNNING;
	return n;
}

static void add_container(Runtime__V1__PodSandboxMetrics *m, const struct pod *p, struct arena *a,
			  const struct ipc_in *in, size_t max)
{
	const char *id = ipc_get_str(in, MON_TAG_ID);
	const struct container *c = id ? container_of_pod(p, id) : NULL;

	for (size_t i = 0; c && i < m->n_container_metrics; i++)
		if (streq(m->container_metrics[i]->container_id, c->id))
			return;
	if (c && m->n_container_metrics < max)
		m->container_metrics[m->n_container_metrics++] = container_metrics(a, c, in);
}

/* Containers that the monitor says nothing of (it hangs, or is of an earlier version) still have
 * what is known here. */
static void add_others(Runtime__V1__PodSandboxMetrics *m, const struct pod *p, struct arena *a,
		       size_t max)
{
	struct ipc_in nothing = IPC_IN_NULL;
	struct container *c;

	list_for_each (c, &p->containers, in_pod) {
		bool there = c->state != CONTAINER_RUNNING || m->n_container_metrics >= max;

		for (size_t i = 0; !there && i < m->n_container_metrics; i++)
			there = streq(m->container_metrics[i]->container_id, c->id);
		if (!there)
			m->container_metrics[m->n_container_metrics++] =
				container_metrics(a, c, &nothing);
	}
}

/* `in`: what its monitor said. */
static void put_pod(struct strbuf *to, const struct pod *p, const struct ipc_in *in)
{
	Runtime__V1__PodSandboxMetrics m = RUNTIME__V1__POD_SANDBOX_METRICS__INIT;
	const Runtime__V1__PodSandboxMetadata *meta = p->config->metadata;
	_cleanup_arena_ struct arena a = ARENA_NULL; /* its own: all pods' together are megabytes */
	struct samples s = {
		.arena = &a,
		.base = {"", str_or_empty(p->cgroup), "", p->id, meta->namespace_, meta->name}};
	size_t max = running(p), pos = 0;
	struct ipc_field f;

	m.pod_sandbox_id = (char *)(uintptr_t)p->id;
	m.container_metrics = arena_calloc(&a, max + 1, sizeof(*m.container_metrics));
	while (ipc_next(in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);

		if (f.tag == MON_TAG_NET_IF)
			put_interface(&s, &sub);
		else if (f.tag == MON_TAG_CONTAINER)
			add_container(&m, p, &a, &sub, max);
	}
	add_others(&m, p, &a, max);
	m.metrics = s.v;
	m.n_metrics = s.n;
	cri_put_message(to, 1, &m.base);
}

/* --- the list --- */

/* A question to a pod's monitor.  It may outlive the request: the next one does not ask again. */
struct ask {
	struct pod *pod;
	struct ipc_in said;
	struct co_event over;
	bool asked; /* not one that hangs since an earlier request */
	unsigned refs;
};

static void ask_unref(struct ask *k)
{
	if (--k->refs > 0)
		return;
	ipc_in_fini(&k->said);
	pod_unref(k->pod);
	free(k);
}

static void ask_run(void *arg)
{
	struct ask *k = arg;
	struct ipc_out o;

	ipc_out_init(&o, MON_FIGURES, 0);
	pod_monitor_call(k->pod, &o, &k->said, NULL);
	k->pod->figures_asked = false;
	co_event_set(&k->over);
	ask_unref(k);
}

static struct ask *ask_start(struct pod *p)
{
	struct ask *k = xcalloc(1, sizeof(*k));

	k->pod = pod_ref(p);
	k->refs = 1;
	co_event_init(&k->over);
	if (!p->figures_asked && p->state == POD_READY) {
		p->figures_asked = k->asked = true;
		k->refs++;
		co_start(p->node->loop, ask_run, k);
	}
	return k;
}

/* Waits for its answer and encodes it. */
static void ask_end(struct cri_call *c, struct ask *k)
{
	struct ipc_in nothing = IPC_IN_NULL;
	bool said = k->asked && co_event_wait(&k->over, clock_mono_us() + FIGURES_WAIT) == 0 &&
		    k->said.body;

	if (k->pod->state == POD_READY && !co_cancelled())
		put_pod(&c->raw, k->pod, said ? &k->said : &nothing);
	ask_unref(k);
}

static int list_pod_sandbox_metrics(struct cri_call *c, const void *request, void *response,
				    struct err *e)
{
	size_t n = 0, begun = 0, max = c->node->pods.n;
	struct ask **asks = arena_calloc(c->arena, max + 1, sizeof(*asks));
	struct pod **pods = arena_calloc(c->arena, max + 1, sizeof(*pods)), *p;
	uint64_t since = clock_mono_us();
	int r = 0;

	list_for_each (p, &c->node->pods_in_order, in_order)
		if (n < max && p->state == POD_READY)
			pods[n++] = pod_ref(p);
	c->raw_used = true;
	for (size_t i = 0; i < n; i++) {
		for (; r == 0 && begun < n && begun < i + ASKED_AT_ONCE && !co_cancelled(); begun++)
			asks[begun] = ask_start(pods[begun]);
		if (asks[i])
			ask_end(c, asks[i]);
		if (r == 0)
			r = cri_flush(c, e);
		if (clock_mono_us() - since >= TURN_MAX) {
			co_sleep(0);
			since = clock_mono_us();
		}
		pod_unref(pods[i]);
	}
	node_measure(c->node);
	if (r == 0 && co_cancelled())
		r = err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	return r;
}

const struct cri_method cri_methods_metrics[] = {
	CRI_METHOD("ListMetricDescriptors", list_metric_descriptors, list_metric_descriptors, true),
	CRI_METHOD("ListPodSandboxMetrics", list_pod_sandbox_metrics, list_pod_sandbox_metrics,
		   true),
	CRI_STREAM("RuntimeService", "StreamPodSandboxMetrics", list_pod_sandbox_metrics,
		   list_pod_sandbox_metrics),
	{0},
};
