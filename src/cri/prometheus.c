/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's own figures in Prometheus' text format 0.0.4.  All are counted as things happen, or
 * are in memory; /proc/self is read, which waits for nobody.  docs/metrics.md lists them.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cri/cri_internal.h"
#include "pod/node.h"

static void head(struct strbuf *to, const char *name, const char *type, const char *help)
{
	strbuf_addf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value, quoted. */
static void quoted(struct strbuf *to, const char *s)
{
	strbuf_addc(to, '"');
	for (; *s; s++) {
		if (*s == '\\' || *s == '"')
			strbuf_addc(to, '\\');
		if (*s == '\n')
			strbuf_adds(to, "\\n");
		else
			strbuf_addc(to, *s);
	}
	strbuf_addc(to, '"');
}

/* Labels come as pairs of name and value, and end with NULL. */
static void labels(struct strbuf *to, const char *const *v)
{
	for (size_t i = 0; v[i]; i += 2) {
		strbuf_adds(to, i ? "," : "{");
		strbuf_adds(to, v[i]);
		strbuf_addc(to, '=');
		quoted(to, v[i + 1]);
	}
	strbuf_adds(to, v[0] ? "} " : " ");
}

#define LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_LABELS ((const char *const[]){NULL})

static void sample(struct strbuf *to, const char *name, const char *const *with, uint64_t v)
{
	strbuf_adds(to, name);
	labels(to, with);
	strbuf_addf(to, "%" PRIu64 "\n", v);
}

static void sample_seconds(struct strbuf *to, const char *name, const char *const *with,
			   uint64_t us)
{
	strbuf_adds(to, name);
	labels(to, with);
	strbuf_addf(to, "%" PRIu64 ".%06" PRIu64 "\n", us / USEC_PER_SEC, us % USEC_PER_SEC);
}

static void one(struct strbuf *to, const char *name, const char *type, const char *help, uint64_t v)
{
	head(to, name, type, help);
	sample(to, name, NO_LABELS, v);
}

/* Buckets, sum and count; `key` NULL: without a label. */
static void histogram(struct strbuf *to, const char *name, const char *key, const char *value,
		      const struct histogram *h)
{
	const char *mine[] = {key, value, NULL};
	_cleanup_free_ char *bucket = xasprintf("%s_bucket", name),
			    *sum = xasprintf("%s_sum", name), *count = xasprintf("%s_count", name);
	uint64_t n = 0;
	char le[32];

	for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
		const char *all[] = {"le", le, key, value, NULL};

		if (i == HISTOGRAM_BOUNDS)
			strcpy(le, "+Inf");
		else
			snprintf(le, sizeof(le), "%g", (double)histogram_bounds[i] / 1e6);
		n += h->n[i];
		sample(to, bucket, all, n);
	}
	sample_seconds(to, sum, mine, h->sum_us);
	sample(to, count, mine, n);
}

/* --- requests --- */

static const char *method_name(const struct cri_entry *m)
{
	return strrchr(m->method->path, '/') + 1;
}

static void requests(const struct cri *s, struct strbuf *to)
{
	const struct cri_entry *m, *end = s->entries + s->n_entries;

	head(to, "gantry_cri_requests_total", "counter", "Requests that have ended, by gRPC code.");
	for (m = s->entries; m < end; m++)
		for (int code = 0; code < CRI_CODES; code++)
			if (m->codes[code])
				sample(to, "gantry_cri_requests_total",
				       LABELS("method", method_name(m), "code",
					      err_code_name((enum grpc_code)code)),
				       m->codes[code]);
	head(to, "gantry_cri_requests_in_flight", "gauge", "Requests that are being worked on.");
	for (m = s->entries; m < end; m++)
		if (m->in_flight)
			sample(to, "gantry_cri_requests_in_flight",
			       LABELS("method", method_name(m)), m->in_flight);
	head(to, "gantry_cri_request_duration_seconds", "histogram",
	     "How long requests took, from their last byte to the reply.");
	for (m = s->entries; m < end; m++) {
		uint64_t n = 0;

		for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++)
			n += m->took.n[i];
		if (n)
			histogram(to, "gantry_cri_request_duration_seconds", "method",
				  method_name(m), &m->took);
	}
	one(to, "gantry_event_listeners", "gauge", "Clients that listen to GetContainerEvents.",
	    cri_events_listeners(s->events));
	one(to, "gantry_event_listeners_cut_total", "counter",
	    "Listeners that were cut off because they read too slowly.", cri_events_cut(s->events));
}

/* --- what there is --- */

static void objects(const struct node *n, struct strbuf *to)
{
	static const char *const pod_states[] = {"creating", "ready", "notready", "removing"},
				 *const states[] = {"creating", "created", "running", "exited",
						    "removing"};
	uint64_t pods[ARRAY_SIZE(pod_states)] = {0}, containers[ARRAY_SIZE(states)] = {0};
	const struct container *c;
	const struct pod *p;

	list_for_each (p, &n->pods_in_order, in_order)
		pods[p->state]++;
	list_for_each (c, &n->containers_in_order, in_order)
		containers[c->state]++;
	head(to, "gantry_pods", "gauge", "Pod sandboxes, by state.");
	for (size_t i = 0; i < ARRAY_SIZE(pod_states); i++)
		sample(to, "gantry_pods", LABELS("state", pod_states[i]), pods[i]);
	head(to, "gantry_containers", "gauge", "Containers, by state.");
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		sample(to, "gantry_containers", LABELS("state", states[i]), containers[i]);
}

static void images(const struct node *n, struct strbuf *to)
{
	struct image_usage u;
	struct image_pulls p;
	uint64_t count = 0;
	const struct image *im;

	list_for_each (im, image_list(n->images), in_order)
		count++;
	image_store_usage(n->images, &u);
	image_store_pulls(n->images, &p);
	one(to, "gantry_images", "gauge", "Images.", count);
	one(to, "gantry_image_store_bytes", "gauge", "What images take, as last measured.",
	    u.bytes);
	head(to, "gantry_image_pulls_total", "counter", "Pulls that have ended, by their result.");
	sample(to, "gantry_image_pulls_total", LABELS("result", "success"), p.done);
	sample(to, "gantry_image_pulls_total", LABELS("result", "failure"), p.failed);
	sample(to, "gantry_image_pulls_total", LABELS("result", "cancelled"), p.cancelled);
	one(to, "gantry_image_pull_bytes_total", "counter",
	    "Bytes of layers that pulls have fetched, compressed.", p.bytes);
	one(to, "gantry_image_pulls_running", "gauge", "Pulls under way.", p.running);
	one(to, "gantry_image_pulls_waiting", "gauge", "Pulls that wait for others to end.",
	    p.waiting);
	head(to, "gantry_image_pull_duration_seconds", "histogram",
	     "How long pulls took, with the wait for others.");
	histogram(to, "gantry_image_pull_duration_seconds", NULL, NULL, &p.took);
}

/* For containers. */
static void decisions(const struct node *n, struct strbuf *to)
{
	static const char name[] = "gantry_route_decisions_total";
	uint64_t fallbacks = 0;

	head(to, name, "counter",
	     "Containers put on the runtime: chosen as the first candidate, as a fallback after "
	     "others; and tries that failed for a reason that is not the container's.");
	for (size_t i = 0; i < n->n_runtimes; i++) {
		const struct node_runtime *rt = n->runtimes[i];
		const char *runtime = rt->config->name;

		sample(to, name, LABELS("runtime", runtime, "outcome", "chosen"), rt->decided);
		sample(to, name, LABELS("runtime", runtime, "outcome", "fallback"),
		       rt->decided_fallback);
		sample(to, name, LABELS("runtime", runtime, "outcome", "failed"),
		       rt->decided_failed);
		fallbacks += rt->decided_fallback;
	}
	one(to, "gantry_route_fallbacks_total", "counter",
	    "Containers put on another runtime than the first candidate.", fallbacks);
	one(to, "gantry_route_refused_total", "counter",
	    "Requests for pods and containers for which no runtime was left.", n->route_refused);
}

static void breakers(const struct node *n, struct strbuf *to)
{
	head(to, "gantry_runtime_failures_total", "counter",
	     "Failures of the runtime that were its own.");
	for (size_t i = 0; i < n->n_runtimes; i++)
		sample(to, "gantry_runtime_failures_total",
		       LABELS("runtime", n->runtimes[i]->config->name),
		       n->runtimes[i]->breaker.failed);
	head(to, "gantry_runtime_set_aside_total", "counter",
	     "How often the runtime was set aside because it kept failing.");
	for (size_t i = 0; i < n->n_runtimes; i++)
		sample(to, "gantry_runtime_set_aside_total",
		       LABELS("runtime", n->runtimes[i]->config->name),
		       n->runtimes[i]->breaker.opened);
	head(to, "gantry_runtime_set_aside", "gauge", "Whether the runtime is set aside now.");
	for (size_t i = 0; i < n->n_runtimes; i++)
		sample(to, "gantry_runtime_set_aside",
		       LABELS("runtime", n->runtimes[i]->config->name),
		       n->runtimes[i]->breaker.state != BREAKER_CLOSED);
}

static void runtimes(const struct node *n, struct strbuf *to)
{
	size_t count = n->n_runtimes;

	head(to, "gantry_runtime_available", "gauge", "Whether the runtime works here.");
	for (size_t i = 0; i < count; i++)
		sample(to, "gantry_runtime_available",
		       LABELS("runtime", n->runtimes[i]->config->name, "version",
			      str_or_empty(n->runtimes[i]->version)),
		       n->runtimes[i]->available);
	head(to, "gantry_runtime_probes_total", "counter",
	     "Probes of the runtime, by what they found: it works, or not.");
	for (size_t i = 0; i < count; i++) {
		const struct node_runtime *rt = n->runtimes[i];

		sample(to, "gantry_runtime_probes_total",
		       LABELS("runtime", rt->config->name, "result", "success"),
		       rt->probes - rt->probes_failed);
		sample(to, "gantry_runtime_probes_total",
		       LABELS("runtime", rt->config->name, "result", "failure"), rt->probes_failed);
	}
	head(to, "gantry_runtime_choices_total", "counter",
	     "Pods for which the runtime was chosen: by their handler, a rule, or by default.");
	for (size_t i = 0; i < count; i++) {
		const struct node_runtime *rt = n->runtimes[i];

		sample(to, "gantry_runtime_choices_total",
		       LABELS("runtime", rt->config->name, "by", "handler"), rt->chosen_by_handler);
		sample(to, "gantry_runtime_choices_total",
		       LABELS("runtime", rt->config->name, "by", "rule"), rt->chosen_by_rule);
		sample(to, "gantry_runtime_choices_total",
		       LABELS("runtime", rt->config->name, "by", "default"), rt->chosen_by_default);
	}
	decisions(n, to);
	breakers(n, to);
	one(to, "gantry_network_ready", "gauge", "Whether pods can be given a network.",
	    n->network.ready);
}

/* --- the process --- */

/* Its memory: pages in all, and resident; proc(5). */
static void memory(struct strbuf *to)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), size, resident;

	if (fs_read(AT_FDCWD, "/proc/self/statm", 256, &b) < 0 || !b.s ||
	    sscanf(b.s, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
		return;
	one(to, "process_virtual_memory_bytes", "gauge", "Address space of the daemon.",
	    size * page);
	one(to, "process_resident_memory_bytes", "gauge", "Memory of the daemon.", resident * page);
}

static uint64_t cpu_us(void)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) < 0)
		return 0;
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * USEC_PER_SEC +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void process(const struct cri *s, struct strbuf *to)
{
	head(to, "gantry_build_info", "gauge", "The version, as a label.");
	sample(to, "gantry_build_info", LABELS("version", GANTRY_VERSION), 1);
	head(to, "process_start_time_seconds", "gauge", "When the daemon started, Unix time.");
	sample_seconds(to, "process_start_time_seconds", NO_LABELS,
		       (uint64_t)(s->started_at / 1000));
	head(to, "process_cpu_seconds_total", "counter", "Processor time of the daemon.");
	sample_seconds(to, "process_cpu_seconds_total", NO_LABELS, cpu_us());
	memory(to);
	head(to, "gantry_loop_turn_duration_seconds", "histogram",
	     "How long turns of the event loop took: what an event may have to wait.");
	histogram(to, "gantry_loop_turn_duration_seconds", NULL, NULL, loop_turns(s->node->loop));
	head(to, "gantry_config_reloads_total", "counter",
	     "Reloads of the configuration (SIGHUP), by their result.");
	sample(to, "gantry_config_reloads_total", LABELS("result", "success"), s->node->reloads);
	sample(to, "gantry_config_reloads_total", LABELS("result", "failure"),
	       s->node->reloads_failed);
	one(to, "gantry_config_reload_ok", "gauge",
	    "Whether the last reload worked, or there was none.", !s->node->reload_bad);
	one(to, "gantry_index_log_bytes", "gauge", "The log of the index that is to be folded.",
	    state_log_bytes(s->node->state));
}

void cri_prometheus(struct cri *s, struct strbuf *to)
{
	process(s, to);
	requests(s, to);
	objects(s->node, to);
	images(s->node, to);
	runtimes(s->node, to);
}
