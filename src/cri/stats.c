/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRI: figures of pods and containers.  They are read from the cgroup files here, a handful
 * of short reads of memory a container, which the pod's monitor has opened; what must be walked
 * (writable layers) is measured in the background.  Else a monitor is asked only for the network
 * of a pod in which nothing runs.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "ipc/monitor.h"
#include "pod/monitor.h"
#include "pod/node.h"
#include "sys/cgroup.h"

#define NET_DEV_MAX 65536
#define TURN_MAX (5 * USEC_PER_MS) /* of one turn of the loop for a list */
#define FILES_WAIT USEC_PER_SEC	   /* for the monitor to open files; then they are opened here */

static Runtime__V1__UInt64Value *value(struct arena *a, uint64_t v)
{
	Runtime__V1__UInt64Value *m = arena_alloc(a, sizeof(*m));

	runtime__v1__uint64_value__init(m);
	m->value = v;
	return m;
}

/* Absent rather than wrong. */
static Runtime__V1__UInt64Value *known(struct arena *a, uint64_t v)
{
	return v == CGROUP_ABSENT ? NULL : value(a, v);
}

static uint64_t or_zero(uint64_t v)
{
	return v == CGROUP_ABSENT ? 0 : v;
}

static Runtime__V1__PsiData *psi_line(struct arena *a, const struct cgroup_psi_line *v)
{
	Runtime__V1__PsiData *m = arena_alloc(a, sizeof(*m));

	runtime__v1__psi_data__init(m);
	m->total = v->total_us * 1000; /* nanoseconds */
	m->avg10 = v->avg10;
	m->avg60 = v->avg60;
	m->avg300 = v->avg300;
	return m;
}

static Runtime__V1__PsiStats *psi(struct arena *a, const struct cgroup_psi *v)
{
	Runtime__V1__PsiStats *m;

	if (!v->known)
		return NULL;
	m = arena_alloc(a, sizeof(*m));
	runtime__v1__psi_stats__init(m);
	m->full = psi_line(a, &v->full);
	m->some = psi_line(a, &v->some);
	return m;
}

static Runtime__V1__IoUsage *io(struct arena *a, const struct cgroup_stats *s, int64_t now)
{
	Runtime__V1__IoUsage *m;

	if (!s->io_psi.known)
		return NULL;
	m = arena_alloc(a, sizeof(*m));
	runtime__v1__io_usage__init(m);
	m->timestamp = now;
	m->psi = psi(a, &s->io_psi);
	return m;
}

static Runtime__V1__CpuUsage *cpu(struct arena *a, const struct cgroup_stats *s, int64_t now,
				  uint64_t nano_cores)
{
	Runtime__V1__CpuUsage *m = arena_alloc(a, sizeof(*m));

	runtime__v1__cpu_usage__init(m);
	m->timestamp = now;
	m->usage_core_nano_seconds = known(a, s->cpu_ns);
	m->usage_nano_cores = value(a, nano_cores);
	m->psi = psi(a, &s->cpu_psi);
	return m;
}

static Runtime__V1__MemoryUsage *memory(struct arena *a, const struct cgroup_stats *s, int64_t now)
{
	Runtime__V1__MemoryUsage *m = arena_alloc(a, sizeof(*m));
	uint64_t usage = or_zero(s->memory_usage), inactive = or_zero(s->memory_inactive_file),
		 working = usage > inactive ? usage - inactive : 0;

	runtime__v1__memory_usage__init(m);
	m->timestamp = now;
	m->working_set_bytes = value(a, working);
	if (s->memory_limit != CGROUP_ABSENT)
		m->available_bytes =
			value(a, s->memory_limit > working ? s->memory_limit - working : 0);
	m->usage_bytes = known(a, s->memory_usage);
	m->rss_bytes = known(a, s->memory_rss);
	m->page_faults = known(a, s->page_faults);
	m->major_page_faults = known(a, s->major_page_faults);
	m->psi = psi(a, &s->memory_psi);
	return m;
}

static Runtime__V1__SwapUsage *swap(struct arena *a, const struct cgroup_stats *s, int64_t now)
{
	Runtime__V1__SwapUsage *m;

	if (s->swap_usage == CGROUP_ABSENT)
		return NULL;
	m = arena_alloc(a, sizeof(*m));
	runtime__v1__swap_usage__init(m);
	m->timestamp = now;
	m->swap_usage_bytes = value(a, s->swap_usage);
	if (s->swap_limit != CGROUP_ABSENT)
		m->swap_available_bytes =
			value(a, s->swap_limit > s->swap_usage ? s->swap_limit - s->swap_usage : 0);
	return m;
}

/* More than there are processors cannot have worked: what the runtime did in the cgroup before the
 * container was started is in the first figure. */
static uint64_t possible_cores(double nano)
{
	static long online;

	if (online <= 0)
		online = MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	return (uint64_t)MIN(nano, (double)online * (double)NSEC_PER_SEC);
}

/* Over the time since the last look, which is not taken more than once a second; the first time,
 * over the whole life. */
static uint64_t nano_cores(struct cpu_rate *rate, int64_t born_at, uint64_t cpu_ns, int64_t now)
{
	int64_t took;

	if (cpu_ns == CGROUP_ABSENT)
		return 0;
	if (rate->at == 0)
		*rate = (struct cpu_rate){.at = born_at};
	took = now - rate->at;
	if (took < NSEC_PER_SEC && rate->nano_cores)
		return rate->nano_cores;
	if (took > 0 && cpu_ns >= rate->used_ns)
		rate->nano_cores = possible_cores((double)(cpu_ns - rate->used_ns) *
						  (double)NSEC_PER_SEC / (double)took);
	rate->at = now;
	rate->used_ns = cpu_ns;
	return rate->nano_cores;
}

static uint64_t container_cores(struct container *c, uint64_t cpu_ns, int64_t now)
{
	return nano_cores(&c->cpu_rate, c->started_at ? c->started_at : c->created_at, cpu_ns, now);
}

static Runtime__V1__FilesystemUsage *writable_layer(struct cri_call *call,
						    const struct container *c)
{
	struct arena *a = call->arena;
	Runtime__V1__FilesystemUsage *m = arena_alloc(a, sizeof(*m));

	runtime__v1__filesystem_usage__init(m);
	m->timestamp = c->usage_at ? c->usage_at : c->created_at;
	m->fs_id = arena_alloc(a, sizeof(*m->fs_id));
	runtime__v1__filesystem_identifier__init(m->fs_id);
	m->fs_id->mountpoint = arena_printf(a, "%s/containers", call->node->config->root);
	m->used_bytes = value(a, c->usage_bytes);
	m->inodes_used = value(a, c->usage_inodes);
	return m;
}

static Runtime__V1__ContainerStats *container_stats_of(struct cri_call *call, struct container *c)
{
	struct arena *a = call->arena;
	Runtime__V1__ContainerStats *m = arena_alloc(a, sizeof(*m));
	Runtime__V1__ContainerAttributes *at = arena_alloc(a, sizeof(*at));
	int64_t now = clock_wall_ns();
	struct cgroup_stats s;

	runtime__v1__container_stats__init(m);
	runtime__v1__container_attributes__init(at);
	at->id = c->id;
	at->metadata = c->config->metadata;
	at->n_labels = c->config->n_labels;
	at->labels = (void *)c->config->labels;
	at->n_annotations = c->config->n_annotations;
	at->annotations = (void *)c->config->annotations;
	m->attributes = at;
	m->writable_layer = writable_layer(call, c);
	if (c->state != CONTAINER_RUNNING ||
	    cgroup_stats_read(&call->node->cgroup, c->cgroup, &c->cgroup_files, &s) < 0)
		return m;
	m->cpu = cpu(a, &s, now, container_cores(c, s.cpu_ns, now));
	m->memory = memory(a, &s, now);
	m->swap = swap(a, &s, now);
	m->io = io(a, &s, now);
	return m;
}

/*
 * Files of cgroups are opened by the pod's monitor, which may wait for the kernel.  One of an
 * earlier version does not know the request; then, and where the monitor is gone or hangs, they
 * are opened here as they are read.
 */
struct ask {
	struct pod *pod;
	struct container *container; /* NULL: files of the pod */
	struct cgroup_files *files;  /* of one of them */
	uint64_t wanted;
	struct co_event over;
	unsigned refs; /* who asks, and who wants to know */
	char *path;
	int result;
};

static void ask_unref(struct ask *k)
{
	if (--k->refs > 0)
		return;
	container_unref(k->container);
	pod_unref(k->pod);
	free(k->path);
	free(k);
}

static int ask_monitor(const struct ask *k)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out o;
	int r;

	ipc_out_init(&o, MON_FILES, 0);
	ipc_put_str(&o, MON_TAG_CGROUP, k->path);
	ipc_put_u64(&o, MON_TAG_FILES, k->wanted);
	r = pod_monitor_call(k->pod, &o, &in, NULL);
	if (r < 0 || cgroup_files_known(k->files) || /* by somebody else, meanwhile */
	    (k->container && k->container->state != CONTAINER_RUNNING))
		return r;
	return cgroup_files_take(k->files, k->wanted, ipc_get_u64(&in, MON_TAG_FILES, 0), in.fds,
				 in.n_fds);
}

static void ask_run(void *arg)
{
	struct ask *k = arg;

	k->result = ask_monitor(k);
	co_event_set(&k->over);
	ask_unref(k);
}

static int need_files(struct pod *p, struct container *c, const char *path, uint64_t wanted,
		      struct cgroup_files *f)
{
	struct ask *k;
	int r;

	if (str_empty(path) || cgroup_files_known(f) || !cgroup_files_room())
		return 0;
	k = xcalloc(1, sizeof(*k));
	k->pod = pod_ref(p);
	k->container = c ? container_ref(c) : NULL;
	k->files = f;
	k->wanted = wanted;
	k->refs = 2;
	k->path = xstrdup(path);
	co_event_init(&k->over);
	co_start(p->node->loop, ask_run, k);
	r = co_event_wait(&k->over, clock_mono_us() + FILES_WAIT);
	r = r < 0 ? r : k->result;
	ask_unref(k);
	return r;
}

/* Nobody but this pod's containers is in the cgroup: ours, or one that was made for it. */
static bool has_own_cgroup(const struct pod *p)
{
	const char *asked = p->config->linux ? p->config->linux->cgroup_parent : "";
	const struct pod *other;

	if (p->cgroup_owned || !*asked || streq(p->cgroup, "/"))
		return p->cgroup_owned;
	list_for_each (other, &p->node->pods_in_order, in_order)
		if (other != p && streq(other->cgroup, p->cgroup))
			return false;
	return true;
}

/* Processes of a pod without a cgroup of its own are added up. */
static int need_container_files(struct container *c)
{
	if (c->state != CONTAINER_RUNNING || cgroup_files_known(&c->cgroup_files))
		return 0;
	return need_files(c->pod, c, c->cgroup,
			  has_own_cgroup(c->pod) ? CGROUP_FILES_CONTAINER : CGROUP_FILES_POD,
			  &c->cgroup_files);
}

static int container_stats(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__ContainerStatsRequest *q = request;
	_cleanup_container_ struct container *ctr = NULL;
	struct container *found;
	int ret = container_find(c->node, q->container_id, &found, e);

	c->about = q->container_id;
	if (ret < 0)
		return ret;
	ctr = container_ref(found);
	need_container_files(ctr);
	c->raw_used = true; /* encoded while the container is held */
	cri_put_message(&c->raw, 1, &container_stats_of(c, ctr)->base);
	node_measure(c->node);
	return 0;
}

/* The kernel takes its time with files of cgroups while others come and go (it holds its lock
 * over a removal): a long list lets other requests in between. */
static int breathe(uint64_t *since, struct err *e)
{
	if (clock_mono_us() - *since < TURN_MAX)
		return 0;
	if (co_sleep(0) < 0)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	*since = clock_mono_us();
	return 0;
}

/* Running ones only, as the kubelet expects. */
static int list_container_stats(struct cri_call *c, const void *request, void *response,
				struct err *e)
{
	const Runtime__V1__ListContainerStatsRequest *q = request;
	const Runtime__V1__ContainerStatsFilter *f = q->filter;
	size_t n = 0, max = c->node->containers.n;
	struct container **all = arena_calloc(c->arena, max + 1, sizeof(struct container *)), *ctr;
	uint64_t since = clock_mono_us();
	int ret = 0;

	list_for_each (ctr, &c->node->containers_in_order, in_order)
		if (n < max && ctr->state == CONTAINER_RUNNING &&
		    (!f || cri_container_matches(ctr, f->id, f->pod_sandbox_id,
						 (void *)f->label_selector, f->n_label_selector)))
			all[n++] = container_ref(ctr);
	c->raw_used = true;
	for (size_t i = 0; i < n; i++) {
		if (ret == 0)
			need_container_files(all[i]);
		if (ret == 0 && all[i]->state == CONTAINER_RUNNING) {
			Runtime__V1__ContainerStats *m = container_stats_of(c, all[i]);

			cri_put_message(&c->raw, 1, &m->base);
			ret = breathe(&since, e);
		}
		container_unref(all[i]);
	}
	node_measure(c->node);
	return ret;
}

/* --- pods --- */

static Runtime__V1__NetworkInterfaceUsage *interface(struct arena *a, const char *name,
						     const uint64_t v[4])
{
	Runtime__V1__NetworkInterfaceUsage *m = arena_alloc(a, sizeof(*m));

	runtime__v1__network_interface_usage__init(m);
	m->name = arena_strdup(a, name);
	m->rx_bytes = value(a, v[0]);
	m->rx_errors = value(a, v[1]);
	m->tx_bytes = value(a, v[2]);
	m->tx_errors = value(a, v[3]);
	return m;
}

#define INTERFACES_MAX 64

static void add_interface(struct arena *a, Runtime__V1__NetworkUsage *m, const char *name,
			  const uint64_t v[4])
{
	if (m->n_interfaces >= INTERFACES_MAX || streq(name, "lo"))
		return;
	m->interfaces[m->n_interfaces++] = interface(a, name, v);
	if (!m->default_interface || streq(name, "eth0")) /* CNI's name for the pod's own */
		m->default_interface = m->interfaces[m->n_interfaces - 1];
}

/* /proc/PID/net/dev (proc(5)) of a process in the pod: no other process has to be asked. */
static int network_of_process(struct arena *a, pid_t pid, Runtime__V1__NetworkUsage *m)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char path[64], *save = NULL, *line;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
	r = fs_read(AT_FDCWD, path, NET_DEV_MAX, &b);
	if (r < 0)
		return r;
	for (line = strtok_r(b.s, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t v[4];
		char name[32];

		if (sscanf(line,
			   " %31[^:]: %" SCNu64 " %*u %" SCNu64 " %*u %*u %*u %*u %*u %" SCNu64
			   " %*u %" SCNu64,
			   name, &v[0], &v[1], &v[2], &v[3]) == 5)
			add_interface(a, m, name, v);
	}
	return 0;
}

static int network_of_monitor(struct arena *a, struct pod *p, Runtime__V1__NetworkUsage *m)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_field f;
	struct ipc_out o;
	size_t pos = 0;
	int r;

	ipc_out_init(&o, MON_NET_STATS, 0);
	r = pod_monitor_call(p, &o, &in, NULL);
	while (r == 0 && ipc_next(&in, &pos, &f)) {
		struct ipc_in sub = ipc_field_nested(&f);
		const uint64_t v[] = {ipc_get_u64(&sub, MON_TAG_NET_RX_BYTES, 0),
				      ipc_get_u64(&sub, MON_TAG_NET_RX_ERRORS, 0),
				      ipc_get_u64(&sub, MON_TAG_NET_TX_BYTES, 0),
				      ipc_get_u64(&sub, MON_TAG_NET_TX_ERRORS, 0)};

		if (f.tag == MON_TAG_NET_IF && ipc_get_str(&sub, MON_TAG_NET_NAME))
			add_interface(a, m, ipc_get_str(&sub, MON_TAG_NET_NAME), v);
	}
	return r;
}

static Runtime__V1__NetworkUsage *network(struct arena *a, struct pod *p)
{
	Runtime__V1__NetworkUsage *m;
	struct container *c;
	int r = -ENOENT;

	if (!*p->netns)
		return NULL; /* the node's */
	m = arena_alloc(a, sizeof(*m));
	runtime__v1__network_usage__init(m);
	m->timestamp = clock_wall_ns();
	m->interfaces = arena_calloc(a, INTERFACES_MAX, sizeof(*m->interfaces));
	list_for_each (c, &p->containers, in_pod) {
		if (c->state == CONTAINER_RUNNING && c->pid > 0)
			r = network_of_process(a, c->pid, m);
		if (r == 0)
			return m;
	}
	return network_of_monitor(a, p, m) == 0 ? m : NULL;
}

/* What is added up where the pod has no cgroup of its own to read. */
static void add(uint64_t *to, uint64_t v)
{
	if (v != CGROUP_ABSENT)
		*to = or_zero(*to) + v;
}

/* Of the cgroup that holds the pod's containers, and perhaps others. owned */
static char *parent_path(const struct pod *p)
{
	char *slice;

	if (!p->node->cgroup_systemd)
		return xstrdup(p->cgroup_parent);
	return cgroup_expand_slice(p->cgroup_parent, &slice, NULL) < 0 ? xstrdup("") : slice;
}

/* Pressure cannot be added up: it is that of the cgroup that holds the pod's containers. */
static void pod_psi(const struct node *n, struct pod *p, struct cgroup_stats *to)
{
	_cleanup_free_ char *path = parent_path(p);

	cgroup_psi_read(&n->cgroup, path, &p->parent_files, to);
}

static void sum(struct cri_call *call, struct pod *p, struct cgroup_stats *to,
		uint64_t *ret_processes)
{
	struct container *c;

	memset(to, 0xff, sizeof(*to)); /* all CGROUP_ABSENT */
	pod_psi(call->node, p, to);
	list_for_each (c, &p->containers, in_pod) {
		struct cgroup_stats s;

		if (c->state != CONTAINER_RUNNING ||
		    cgroup_stats_read(&call->node->cgroup, c->cgroup, &c->cgroup_files, &s) < 0)
			continue;
		add(&to->cpu_ns, s.cpu_ns);
		add(&to->memory_usage, s.memory_usage);
		add(&to->memory_rss, s.memory_rss);
		add(&to->memory_inactive_file, s.memory_inactive_file);
		add(&to->page_faults, s.page_faults);
		add(&to->major_page_faults, s.major_page_faults);
		add(&to->swap_usage, s.swap_usage);
		add(ret_processes,
		    cgroup_processes(&call->node->cgroup, c->cgroup, &c->cgroup_files));
	}
}

/*
 * Of the pod's cgroup where it has one to itself: there what ended containers have used and left
 * behind (a volume in memory) counts too.  Else added up.
 */
static void read_pod(struct cri_call *call, struct pod *p, struct cgroup_stats *to, int64_t now,
		     uint64_t *ret_cores, uint64_t *ret_processes)
{
	const struct cgroup_host *h = &call->node->cgroup;
	const struct container *c;

	if (!has_own_cgroup(p) || cgroup_stats_read(h, p->cgroup, &p->cgroup_files, to) < 0) {
		cgroup_files_close(&p->cgroup_files); /* it may come, or come again */
		p->cpu_rate = (struct cpu_rate){0};
		sum(call, p, to, ret_processes);
		list_for_each (c, &p->containers, in_pod)
			if (c->state == CONTAINER_RUNNING)
				*ret_cores += c->cpu_rate.nano_cores;
		return;
	}
	*ret_cores = nano_cores(&p->cpu_rate, p->created_at, to->cpu_ns, now);
	add(ret_processes, cgroup_processes(h, p->cgroup, &p->cgroup_files));
}

static struct container *without_files(struct pod *p)
{
	struct container *c;

	list_for_each (c, &p->containers, in_pod)
		if (c->state == CONTAINER_RUNNING && !str_empty(c->cgroup) &&
		    !cgroup_files_known(&c->cgroup_files))
			return c;
	return NULL;
}

/* May wait; containers come and go meanwhile. */
static void need_pod_files(struct pod *p)
{
	_cleanup_free_ char *path = parent_path(p);
	struct container *c;

	while (cgroup_files_room() && (c = without_files(p)))
		if (need_container_files(c) < 0)
			return;
	if (has_own_cgroup(p))
		need_files(p, NULL, p->cgroup, CGROUP_FILES_POD, &p->cgroup_files);
	else
		need_files(p, NULL, path, CGROUP_FILES_PRESSURE, &p->parent_files);
}

static Runtime__V1__LinuxPodSandboxStats *linux_stats(struct cri_call *call, struct pod *p)
{
	struct arena *a = call->arena;
	Runtime__V1__LinuxPodSandboxStats *m = arena_alloc(a, sizeof(*m));
	int64_t now = clock_wall_ns();
	uint64_t cores = 0, processes = 0;
	struct cgroup_stats s;
	struct container *c;
	size_t n = 0;

	runtime__v1__linux_pod_sandbox_stats__init(m);
	list_for_each (c, &p->containers, in_pod)
		n++;
	m->containers = arena_calloc(a, n + 1, sizeof(*m->containers));
	list_for_each (c, &p->containers, in_pod) {
		if (c->state != CONTAINER_RUNNING)
			continue;
		m->containers[m->n_containers++] = container_stats_of(call, c);
	}
	read_pod(call, p, &s, now, &cores, &processes);
	m->cpu = cpu(a, &s, now, cores);
	m->memory = memory(a, &s, now);
	m->io = io(a, &s, now);
	m->process = arena_alloc(a, sizeof(*m->process));
	runtime__v1__process_usage__init(m->process);
	m->process->timestamp = now;
	m->process->process_count = value(a, processes);
	return m;
}

static Runtime__V1__PodSandboxStats *pod_stats_of(struct cri_call *call, struct pod *pod)
{
	struct arena *a = call->arena;
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	Runtime__V1__PodSandboxStats *m = arena_alloc(a, sizeof(*m));
	Runtime__V1__PodSandboxAttributes *at = arena_alloc(a, sizeof(*at));
	Runtime__V1__NetworkUsage *net = network(a, p); /* may wait: first */

	runtime__v1__pod_sandbox_stats__init(m);
	runtime__v1__pod_sandbox_attributes__init(at);
	at->id = p->id;
	at->metadata = p->config->metadata;
	at->n_labels = p->config->n_labels;
	at->labels = (void *)p->config->labels;
	at->n_annotations = p->config->n_annotations;
	at->annotations = (void *)p->config->annotations;
	m->attributes = at;
	need_pod_files(p);
	m->linux = linux_stats(call, p);
	m->linux->network = net;
	return m;
}

static int pod_sandbox_stats(struct cri_call *c, const void *request, void *response, struct err *e)
{
	const Runtime__V1__PodSandboxStatsRequest *q = request;
	_cleanup_pod_ struct pod *p = NULL;
	struct pod *found;
	int ret = pod_find(c->node, q->pod_sandbox_id, &found, e);

	c->about = q->pod_sandbox_id;
	if (ret < 0)
		return ret;
	p = pod_ref(found);
	c->raw_used = true; /* encoded while the pod is held */
	cri_put_message(&c->raw, 1, &pod_stats_of(c, p)->base);
	node_measure(c->node);
	return 0;
}

static bool pod_matches(const struct pod *p, const Runtime__V1__PodSandboxStatsFilter *f)
{
	if (p->state != POD_READY)
		return false;
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(p->id, f->id))
		return false;
	return cri_labels_match((void *)p->config->labels, p->config->n_labels,
				(void *)f->label_selector, f->n_label_selector);
}

/* A reply is encoded pod by pod: while the network of one is waited for, another may go. */
static int list_pod_sandbox_stats(struct cri_call *c, const void *request, void *response,
				  struct err *e)
{
	const Runtime__V1__ListPodSandboxStatsRequest *q = request;
	size_t n = 0, max = c->node->pods.n;
	struct pod **pods = arena_calloc(c->arena, max + 1, sizeof(struct pod *)), *p;
	uint64_t since = clock_mono_us();
	int ret = 0;

	list_for_each (p, &c->node->pods_in_order, in_order)
		if (n < max && pod_matches(p, q->filter))
			pods[n++] = pod_ref(p);
	c->raw_used = true;
	for (size_t i = 0; i < n; i++) {
		if (ret == 0 && pods[i]->state == POD_READY) {
			Runtime__V1__PodSandboxStats *m = pod_stats_of(c, pods[i]);

			cri_put_message(&c->raw, 1, &m->base);
			ret = breathe(&since, e);
		}
		pod_unref(pods[i]);
	}
	node_measure(c->node);
	return ret;
}

const struct cri_method cri_methods_stats[] = {
	CRI_METHOD("ContainerStats", container_stats, container_stats, true),
	CRI_METHOD("ListContainerStats", list_container_stats, list_container_stats, true),
	CRI_STREAM("RuntimeService", "StreamContainerStats", list_container_stats,
		   list_container_stats),
	CRI_METHOD("PodSandboxStats", pod_sandbox_stats, pod_sandbox_stats, true),
	CRI_METHOD("ListPodSandboxStats", list_pod_sandbox_stats, list_pod_sandbox_stats, true),
	CRI_STREAM("RuntimeService", "StreamPodSandboxStats", list_pod_sandbox_stats,
		   list_pod_sandbox_stats),
	{0},
};
