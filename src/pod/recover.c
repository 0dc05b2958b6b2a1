/* SPDX-License-Identifier: Apache-2.0 */
/* What a past daemon left, taken over: see node_recover(). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "ipc/monitor.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "pod/node.h"

#define RECOVER_WAIT_MAX (1 * USEC_PER_SEC) /* for monitors to answer, before serving */

/* --- rows --- */

static void put(char **to, const char *v)
{
	free(*to);
	*to = xstrdup(str_or_empty(v));
}

struct loading {
	struct node *node;
	struct strv bad_pods, bad_containers; /* ids of rows that cannot be read */
};

/* A row that cannot be read is a fault to tell, not a reason for serving nothing. */
static int load_pod(void *arg, const struct state_pod *row)
{
	struct loading *l = arg;
	struct node *n = l->node;
	_cleanup_pod_ struct pod *p = NULL;
	struct err e = ERR_NULL;

	if (!id_valid(str_or_empty(row->id)) ||
	    pod_new(n, row->id, row->config, row->config_len, &p, &e) < 0 ||
	    life_pod_derive(p, &e) < 0) {
		log_error("index: pod sandbox %s cannot be read and is forgotten: %s",
			  str_or_empty(row->id), e.msg);
		strv_add(&l->bad_pods, str_or_empty(row->id));
		return 0;
	}
	put(&p->handler, row->handler);
	pod_restore_runtime(p, str_or_empty(row->runtime));
	put(&p->ips, row->ips);
	p->created_at = row->created_at;
	p->state = (enum pod_state)row->state;
	snprintf(p->boot_id, sizeof(p->boot_id), "%s", str_or_empty(row->boot_id));
	if (pod_link(p, &e) < 0) {
		log_error("index: pod sandbox %s is forgotten: %s", row->id, e.msg);
		strv_add(&l->bad_pods, row->id);
	}
	return 0;
}

static int load_container(void *arg, const struct state_container *row)
{
	struct loading *l = arg;
	struct pod *p = map_get(&l->node->pods, str_or_empty(row->pod_id));
	_cleanup_container_ struct container *c = NULL;
	struct err e = ERR_NULL;

	if (!p || !id_valid(str_or_empty(row->id)) ||
	    container_new(p, row->id, row->config, row->config_len, &c, &e) < 0) {
		log_error("index: container %s cannot be read and is forgotten: %s",
			  str_or_empty(row->id), p ? e.msg : "its pod sandbox is not there");
		strv_add(&l->bad_containers, str_or_empty(row->id));
		return 0;
	}
	put(&c->image_id, row->image_id);
	put(&c->image_ref, row->image_ref);
	put(&c->runtime_name, row->runtime);
	put(&c->cgroup, row->cgroup);
	put(&c->reason, row->reason);
	put(&c->message, row->message);
	container_restore(c, row->extra, row->extra_len);
	life_container_derive(c);
	c->created_at = row->created_at;
	c->started_at = row->started_at;
	c->finished_at = row->finished_at;
	c->state = (enum container_state)row->state;
	c->exit_code = row->exit_code;
	if (c->state == CONTAINER_EXITED)
		co_event_set(&c->exited);
	if (container_link(c, &e) < 0) {
		log_error("index: container %s is forgotten: %s", row->id, e.msg);
		strv_add(&l->bad_containers, row->id);
	}
	return 0;
}

/* What nobody can name is swept by its directories: its rows go too. */
static void forget_bad_rows(struct loading *l)
{
	for (size_t i = 0; i < l->bad_containers.n; i++)
		state_remove_container(l->node->state, l->bad_containers.v[i], NULL);
	for (size_t i = 0; i < l->bad_pods.n; i++)
		state_remove_pod(l->node->state, l->bad_pods.v[i], NULL);
	strv_fini(&l->bad_containers);
	strv_fini(&l->bad_pods);
}

static int load(struct node *n, struct err *e)
{
	struct loading l = {.node = n};
	int r = state_each_pod(n->state, load_pod, &l, e);

	if (r == 0)
		r = state_each_container(n->state, load_container, &l, e);
	forget_bad_rows(&l);
	return r;
}

/* --- pods --- */

/* Half-made or half-removed: its row is all that is left, but for a writable layer that is swept. */
static void forget_container(struct container *c)
{
	struct err e = ERR_NULL;

	if (state_remove_container(c->node->state, c->id, &e) < 0)
		log_error("container %s: %s", c->id, e.msg);
	else
		log_info("forgot the half-made container %s: the machine was restarted", c->id);
	container_unlink(c);
}

/* Nothing of it runs: the machine has been started since. */
static void end_of_boot(struct pod *p)
{
	struct container *c, *tmp;
	struct err e = ERR_NULL;

	if (p->state == POD_READY && pod_set_state(p, POD_NOTREADY, &e) < 0)
		log_error("pod sandbox %s: %s", p->id, e.msg);
	list_for_each_safe (c, tmp, &p->containers, in_pod) {
		if (!life_container_listed(c)) {
			forget_container(c);
			continue;
		}
		if (c->state == CONTAINER_EXITED)
			continue;
		container_set_exited(c, MON_EXIT_UNKNOWN, clock_wall_ns(), false);
		put(&c->reason, "Unknown");
		put(&c->message, "the machine was restarted");
		if (container_record(c, &e) < 0)
			log_error("container %s: %s", c->id, e.msg);
	}
}

static void tear_down(void *arg)
{
	_cleanup_pod_ struct pod *p = arg;
	struct err e = ERR_NULL;

	if (life_remove_pod(p, &e) < 0)
		log_error("tear down the half-made pod sandbox %s: %s", p->id, e.msg);
	else
		log_info("tore down the half-made pod sandbox %s", p->id);
}

static void tear_down_container(void *arg)
{
	_cleanup_container_ struct container *c = arg;
	struct err e = ERR_NULL;

	if (life_tear_down_container(c, &e) < 0)
		log_error("tear down the half-made container %s: %s", c->id, e.msg);
	else
		log_info("tore down the half-made container %s", c->id);
}

static void recover_pod(struct pod *pod)
{
	_cleanup_pod_ struct pod *p = pod_ref(pod);
	struct container *c, *tmp;
	struct err e = ERR_NULL;

	if (pod_is_of_past_boot(p))
		end_of_boot(p);
	else if (pod_monitor_find(p, &e) < 0)
		log_error("pod sandbox %s: %s", p->id, e.msg);
	list_for_each_safe (c, tmp, &p->containers, in_pod)
		if (!life_container_listed(c)) {
			c->state = CONTAINER_REMOVING;
			co_start(p->node->loop, tear_down_container, container_ref(c));
		}
}

/* All pods side by side: what takes long is the waiting for their monitors. */
struct recovery {
	struct co_event done;
	unsigned left; /* pods, and the one who waits for them */
};

struct one {
	struct recovery *recovery;
	struct pod *pod;
};

static void recovery_unref(struct recovery *r)
{
	if (--r->left == 1)
		co_event_set(&r->done);
	if (r->left == 0)
		free(r);
}

static void recover_run(void *arg)
{
	struct one *o = arg;

	recover_pod(o->pod);
	pod_unref(o->pod);
	recovery_unref(o->recovery);
	free(o);
}

/* A monitor that does not answer (stopped, or its disk hangs) is not waited for: what the
 * index says of its pod is served meanwhile. */
static void recover_pods(struct node *n)
{
	struct recovery *r = xcalloc(1, sizeof(*r));
	struct pod *p, *tmp;

	co_event_init(&r->done);
	r->left = 2; /* ours, and one that the loop below holds */
	list_for_each_safe (p, tmp, &n->pods_in_order, in_order) {
		struct one *o;

		if (p->state == POD_CREATING || p->state == POD_REMOVING) {
			p->state = POD_REMOVING;
			co_start(n->loop, tear_down, pod_ref(p));
			continue;
		}
		o = xmalloc(sizeof(*o));
		*o = (struct one){r, pod_ref(p)};
		r->left++;
		co_start(n->loop, recover_run, o);
	}
	recovery_unref(r);
	if (co_event_wait(&r->done, clock_mono_us() + RECOVER_WAIT_MAX) < 0)
		log_warn("serving before all monitors have answered: %u have not", r->left - 1);
	recovery_unref(r);
}

/* --- what belongs to nothing --- */

/* A directory of a pod that no row knows: its row was lost with the index. */
static void remove_stray_pod(struct node *n, const char *id)
{
	Runtime__V1__PodSandboxConfig cfg = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata m = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	_cleanup_pod_ struct pod *p = NULL;
	struct err e = ERR_NULL;
	uint8_t bytes[256];
	size_t len;

	m.name = (char *)(uintptr_t)id; /* a name that nobody else has */
	cfg.metadata = &m;
	len = runtime__v1__pod_sandbox_config__pack(&cfg, bytes);
	if (pod_new(n, id, bytes, len, &p, &e) == 0 && life_pod_derive(p, &e) == 0 &&
	    pod_link(p, &e) == 0 && life_remove_pod(p, &e) == 0)
		log_warn("removed pod sandbox %s, which the index does not know", id);
	else
		log_error("remove the unknown pod sandbox %s: %s", id, e.msg);
}

static void list_strays(const char *dir, const struct map *known, struct strv *to)
{
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (id_valid(de->d_name) && !map_get(known, de->d_name))
			strv_add(to, de->d_name);
	if (d)
		closedir(d);
}

struct sweep {
	struct node *node;
	struct strv pods, layers; /* ids: of pods, of writable layers */
	struct strv images;	  /* ids of those that containers have */
};

static void sweep_run(void *arg)
{
	struct sweep *s = arg;
	struct err e = ERR_NULL;

	for (size_t i = 0; i < s->pods.n; i++)
		remove_stray_pod(s->node, s->pods.v[i]);
	if (image_sweep(s->node->images, &s->layers, &s->images, &e) < 0)
		log_warn("sweep the image store: %s", e.msg);
	strv_fini(&s->pods);
	strv_fini(&s->layers);
	strv_fini(&s->images);
	free(s);
}

/* The lists are made before anything new can be; the work is done beside serving. */
static void sweep(struct node *n)
{
	_cleanup_free_ char *pods = xasprintf("%s/pods", n->config->state),
			    *containers = xasprintf("%s/containers", n->config->root);
	struct sweep *s = xcalloc(1, sizeof(*s));

	s->node = n;
	list_strays(pods, &n->pods, &s->pods);
	list_strays(containers, &n->containers, &s->layers);
	node_images_used(n, &s->images);
	co_start(n->loop, sweep_run, s);
}

int node_recover(struct node *n, struct err *e)
{
	int r = load(n, e);

	if (r < 0)
		return r;
	FAULT_POINT("daemon.recover.loaded");
	recover_pods(n);
	FAULT_POINT("daemon.recover.pods");
	node_probe(n); /* not before: the runtimes' probes would take the processors from it */
	sweep(n);
	node_network_collect(n);
	return 0;
}
