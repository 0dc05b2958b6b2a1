/* SPDX-License-Identifier: Apache-2.0 */
/* What works on this node: runtimes, network, space. In the background. See node.h. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "network/network.h"
#include "pod/helper.h"
#include "pod/choose.h"
#include "pod/node.h"
#include "pod/probe_watch.h"
#include "pod/runtimes.h"
#include "runtime/report.h"
#include "sys/apparmor.h"

#define PROBE_TIMEOUT (100 * USEC_PER_SEC) /* two questions, three containers, CRIU */
#define APPARMOR_PARSER "/sbin/apparmor_parser"
#define APPARMOR_PROFILE "gantry-default"	 /* the one that we load */
#define RUNTIME_PROBE_AGE (10 * USEC_PER_SEC)	 /* one that does not work is tried again */
#define RUNTIME_PROBE_WAIT (5 * USEC_PER_SEC)	 /* a Status waits no longer for the first */
#define NETWORK_PROBE_AGE (5 * USEC_PER_SEC)	 /* older ones are made anew when asked for */
#define NETWORK_PROBE_WAIT (5 * USEC_PER_SEC)	 /* a Status waits no longer for one */
#define NETWORK_GC_TIMEOUT (3600 * USEC_PER_SEC) /* each plugin in it has its own, shorter one */
#define NETWORK_GC_PAUSE_MIN (10 * USEC_PER_SEC) /* between tries */
#define NETWORK_GC_PAUSE_MAX (15 * 60 * USEC_PER_SEC)
#define POD_CIDR_MAX 256 /* bytes */
#define MEASURE_AGE (10 * USEC_PER_SEC)
#define MEASURE_REST 10 /* times as long as the last one took is none made */

/* --- runtimes --- */

struct probe {
	struct node *node;
	struct node_runtime *rt; /* a reference; NULL: not of a runtime */
	bool anew;		 /* what was found before does not count */
};

static void put(char **to, const char *v)
{
	free(*to);
	*to = xstrdup(str_or_empty(v));
}

static void tell_probe(const struct node_runtime *rt)
{
	const char *userns = runtime_caps_why(&rt->caps, RCAP_USERNS);

	if (!rt->available)
		log_warn("runtime %s is not available: %s", rt->config->name, rt->reason);
	else if (*userns)
		log_info("runtime %s: %s works, but not with user namespaces: %s", rt->config->name,
			 rt->version, userns);
	else
		log_info("runtime %s: %s works", rt->config->name, rt->version);
}

/* What the helper prints is a report; where it could not be run to its end, that is the reason. */
static void take_probe(struct node_runtime *rt, int status, const struct strbuf *out, struct err *e)
{
	struct runtime_report rep = RUNTIME_REPORT_NULL;
	bool was = rt->available, changed;
	int r = status;

	if (status > 1)
		r = err_set(e, -EIO, GRPC_INTERNAL, "its probe ended with status %d", status);
	if (r >= 0)
		r = runtime_report_read(str_or_empty(out->s), out->len, &rep, e);
	changed = !rt->probed || !streq(str_or_empty(rt->version), str_or_empty(rep.version));
	rt->probed = true;
	rt->available = r >= 0 && status == 0;
	rt->looked_at = clock_wall_ns();
	rt->probes++;
	rt->probes_failed += !rt->available;
	put(&rt->path, rep.path);
	put(&rt->version, rep.version);
	put(&rt->reason, r < 0 ? e->msg : rep.problem);
	put(&rt->note, rep.note);
	runtime_caps_fini(&rt->caps);
	rt->caps = rep.caps;
	rep.caps = RUNTIME_CAPS_NULL; /* moved */
	runtime_report_fini(&rep);
	if (changed || was != rt->available)
		tell_probe(rt);
	node_runtime_probed(rt->node, rt);
}

/* Frees it. */
static void probe_done(struct probe *p)
{
	struct node *n = p->node;

	if (p->rt) {
		p->rt->probing = false;
		co_event_set(&p->rt->probe_ended);
		node_runtime_unref(p->rt);
	}
	free(p);
	if (--n->probing > 0)
		return;
	n->probed_at = clock_mono_us();
	n->probed_once = true;
	co_event_set(&n->probed);
}

/* Not before that of the runtime which had the name, and so the directories, before a reload. */
static void wait_for_namesake(struct node *n, const struct node_runtime *rt)
{
	struct node_runtime *o;

	list_for_each (o, &n->runtimes_known, link)
		if (o != rt && o->probing && streq(o->config->name, rt->config->name)) {
			(void)node_runtime_ref(o);
			co_event_wait(&o->probe_ended, USEC_FOREVER);
			node_runtime_unref(o);
			return;
		}
}

/* For do_probe() of the monitor. */
static char *question(const struct node *n, const struct config_runtime *rt, bool anew)
{
	const struct config *c = n->config;
	_cleanup_free_ char *id = xasprintf("probe-%s-%s", c->instance, rt->name),
			    *dir = xasprintf("%s/runtime/%s", c->state, id),
			    *kept = xasprintf("%s/runtime/report-%s", c->state, rt->name),
			    *store = xasprintf("%s/probe-%s", c->root, rt->name),
			    *parent = n->cgroup_systemd ? xasprintf("%s.slice", c->instance)
							: xasprintf("/%s", c->instance),
			    *cgroup = cgroup_name_for(parent, id, n->cgroup_systemd);
	struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	jw_object_begin(&w);
	jw_key_string(&w, "dir", dir);
	jw_key_string(&w, "store", store);
	jw_key_string(&w, "cgroup", cgroup);
	jw_key_bool(&w, "systemd", n->cgroup_systemd);
	jw_key_string(&w, "path", rt->path);
	jw_key_array(&w, "args");
	for (size_t i = 0; rt->args[i]; i++)
		jw_string(&w, rt->args[i]);
	jw_array_end(&w);
	jw_key_array(&w, "needs");
	for (size_t i = 0; rt->needs[i]; i++)
		jw_string(&w, rt->needs[i]);
	jw_array_end(&w);
	jw_key_string(&w, "unit", rt->unit == CONFIG_UNIT_POD ? "pod" : "container");
	jw_key_string(&w, "kept", kept);
	jw_key_bool(&w, "anew", anew);
	jw_object_end(&w);
	return strbuf_take(&b);
}

static void probe_run(void *arg)
{
	struct probe *p = arg;
	struct node *n = p->node;
	struct node_runtime *rt = p->rt;
	_cleanup_strbuf_ struct strbuf out = STRBUF_NULL;
	_cleanup_free_ char *q = NULL;
	const char *argv[] = {n->monitor_path, "--probe", NULL, NULL};
	struct err e = ERR_NULL;
	int r;

	wait_for_namesake(n, rt);
	argv[2] = q = question(n, rt->config, p->anew);
	r = helper_run(n->loop, argv, 0, PROBE_TIMEOUT, &out, &e);
	take_probe(rt, r, &out, &e);
	if (!n->draining)
		probe_watch(n);
	probe_done(p);
}

/* --- AppArmor --- */

/* Loaded anew at every start, so that an update of gantry brings its profile along. */
static int load_default_profile(struct node *n, struct err *e)
{
	_cleanup_free_ char *file = xasprintf("%s/apparmor-default", n->config->state);
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL, out = STRBUF_NULL;
	const char *argv[] = {APPARMOR_PARSER, "--replace", "--skip-cache", file, NULL};
	int r;

	apparmor_print_default(APPARMOR_PROFILE, &text);
	r = fs_write_atomic(AT_FDCWD, file, text.s, text.len, 0600, false);
	if (r < 0)
		return err_errno(e, r, "write %s", file);
	r = helper_run(n->loop, argv, 0, PROBE_TIMEOUT, &out, e);
	return r > 0 ? err_set(e, -EIO, GRPC_INTERNAL, "%s ended with %d", APPARMOR_PARSER, r) : r;
}

/*
 * A profile that the configuration names is the administrator's to load; ours is loaded here.
 * Where it cannot be (no apparmor_parser), containers run without: what other runtimes do too.
 */
static void probe_apparmor(void *arg)
{
	struct probe *p = arg;
	struct node *n = p->node;
	const struct config *cfg = config_ref(n->config); /* what is borrowed below */
	const char *want = cfg->container.apparmor_default;
	struct err e = ERR_NULL;

	if (streq(want, APPARMOR_PROFILE) && load_default_profile(n, &e) < 0)
		log_warn("AppArmor: the default profile cannot be loaded: %s", e.msg);
	if (*want && apparmor_loaded(want) == 0)
		log_warn("AppArmor: the profile %s is not loaded, containers run without one",
			 want);
	else
		put(&n->apparmor_default, want);
	config_unref(cfg);
	probe_done(p);
}

/* Still loaded: one that has no file below /etc/apparmor.d is taken for garbage by some
 * (aa-remove-unknown(8)). */
static int load_again(struct node *n, struct err *e)
{
	const char *name = n->apparmor_default;
	int r = co_lock(&n->apparmor_lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED, "cancelled");
	if (streq(name, APPARMOR_PROFILE) && apparmor_loaded(name) == 0) {
		log_warn("AppArmor: the profile %s was removed, it is loaded anew", name);
		r = load_default_profile(n, e);
	}
	co_unlock(&n->apparmor_lock);
	return r;
}

int node_apparmor_need_default(struct node *n, struct err *e)
{
	const char *name = str_or_empty(n->apparmor_default);
	int r = 0;

	if (!n->has_apparmor || !*name || apparmor_loaded(name) != 0)
		return 0;
	r = load_again(n, e);
	if (r == 0 && apparmor_loaded(name) == 0)
		r = err_precondition(e, "the default profile \"%s\" is not loaded any more", name);
	return r < 0 ? err_wrap(e, "AppArmor") : 0;
}

static void start_probe(struct node *n, co_fn *fn, struct node_runtime *rt, bool anew)
{
	struct probe *p = xmalloc(sizeof(*p));

	*p = (struct probe){n, rt ? node_runtime_ref(rt) : NULL, anew};
	n->probing++;
	n->probed_at = 0;
	co_event_reset(&n->probed);
	if (rt) {
		rt->probing = true;
		co_event_reset(&rt->probe_ended);
	}
	co_start(n->loop, fn, p);
}

void node_probe(struct node *n)
{
	bool apparmor = n->has_apparmor && !n->probed_once;

	for (size_t i = 0; i < n->n_runtimes; i++)
		if (!n->runtimes[i]->probing)
			start_probe(n, probe_run, n->runtimes[i], n->runtimes[i]->probed);
	if (apparmor)
		start_probe(n, probe_apparmor, NULL, true);
}

static int wait_probed(struct node *n, struct err *e)
{
	int r = co_event_wait(&n->probed, USEC_FOREVER);

	return r < 0 ? err_set(e, r, GRPC_CANCELLED,
			       "cancelled while the runtimes were being probed")
		     : 0;
}

int node_probe_await(struct node *n, struct err *e)
{
	node_probe(n);
	return wait_probed(n, e);
}

void node_probe_check(struct node *n)
{
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (!n->runtimes[i]->probing)
			start_probe(n, probe_run, n->runtimes[i], false);
}

void node_probe_new(struct node *n)
{
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (!n->runtimes[i]->probed && !n->runtimes[i]->probing)
			start_probe(n, probe_run, n->runtimes[i], false);
}

void node_probe_one(struct node *n, struct node_runtime *rt)
{
	if (!rt->probing)
		start_probe(n, probe_run, rt, true);
}

static const struct {
	const char *words;
	uint64_t caps;
} needs[] = {
	[NODE_NEEDS_NOTHING] = {"", 0},
	[NODE_NEEDS_USERNS] = {" with user namespaces", RCAP_BIT(RCAP_USERNS)},
	[NODE_NEEDS_USERNS_HOST] = {" with user namespaces and the node's network",
				    RCAP_BIT(RCAP_USERNS_HOST_NETWORK)},
	[NODE_NEEDS_RRO] = {" with recursive read-only mounts", RCAP_BIT(RCAP_RRO_MOUNTS)},
};

/* Why it is not for such a pod, NULL: it is. */
static const char *lacks(const struct node_runtime *rt, enum node_need need)
{
	uint64_t missing = runtime_caps_missing(&rt->caps, needs[need].caps);

	if (!rt->available)
		return str_or_empty(rt->reason);
	return missing ? runtime_caps_why(&rt->caps, (enum runtime_cap)__builtin_ctzll(missing))
		       : NULL;
}

static int choose_default(struct node *n, enum node_need need, struct node_runtime **ret,
			  struct err *e)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_NULL;

	for (size_t i = 0; n->config->default_runtimes[i]; i++) {
		struct node_runtime *rt = node_runtime_named(n, n->config->default_runtimes[i]);

		if (!lacks(rt, need)) {
			*ret = rt;
			return 0;
		}
		strbuf_addf(&why, "%s%s: %s", why.len ? "; " : "", rt->config->name,
			    lacks(rt, need));
	}
	return err_precondition(e, "no runtime works on this node%s: %s", needs[need].words, why.s);
}

/* What does not work now may work soon: installed, or the machine was short of something. */
static void probe_again(struct node *n, enum node_need need)
{
	if (!n->probed_at || clock_mono_us() - n->probed_at < RUNTIME_PROBE_AGE)
		return;
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (lacks(n->runtimes[i], need)) {
			node_probe(n);
			return;
		}
}

void node_probe_again(struct node *n)
{
	probe_again(n, NODE_NEEDS_NOTHING);
}

bool node_runtimes_known(const struct node *n)
{
	return n->probed_once;
}

bool node_runtimes_await(struct node *n)
{
	if (!n->probed_once)
		(void)co_event_wait(&n->probed, clock_mono_us() + RUNTIME_PROBE_WAIT);
	return n->probed_once;
}

static int pick(struct node *n, const char *handler, enum node_need need, struct node_runtime **ret,
		struct err *e)
{
	struct node_runtime *rt = *handler ? node_runtime_named(n, handler) : NULL;

	if (!*handler)
		return choose_default(n, need, ret, e);
	if (!rt)
		return err_invalid(e, "runtime_handler: no runtime \"%s\" is configured", handler);
	if (rt->probed && lacks(rt, need))
		return err_precondition(
			e, "runtime_handler: \"%s\" does not work on this node%s: %s", handler,
			rt->available ? needs[need].words : "", lacks(rt, need));
	*ret = rt;
	return 0;
}

int node_runtime_peek(struct node *n, const char *handler, enum node_need need,
		      struct node_runtime **ret, struct err *e)
{
	int r = pick(n, handler, need, ret, e);

	if (r < 0)
		probe_again(n, need);
	return r;
}

bool node_runtime_can(struct node *n, const char *handler, enum node_need need)
{
	struct node_runtime *rt;

	return pick(n, handler, need, &rt, NULL) == 0 && rt->probed;
}

/* --- network --- */

void node_network_configure(struct node *n)
{
	const struct config *c = n->config;
	_cleanup_free_ char *state = xasprintf("%s/network", c->state),
			    *pods = xasprintf("%s/pods", c->state),
			    *pins = xasprintf("%s/%s-", c->cni.netns_dir, c->instance);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct network_config nc = {
		.cni_only = !c->bridge.enabled,
		.instance = c->instance,
		.state = state,
		.cache = c->cni.cache_dir,
		.pods = pods,
		.pins = pins,
		.conf_dir = c->cni.conf_dir,
		.timeout_us = c->cni.timeout_us,
		.bridge = c->bridge.name,
		.ipv4 = c->bridge.ipv4,
		.ipv6 = c->bridge.ipv6,
		.pod_cidr = str_or_empty(n->network.pod_cidr),
		.mtu = c->bridge.mtu,
		.masquerade = c->bridge.masquerade,
	};

	for (size_t i = 0; c->cni.bin_dirs[i]; i++)
		strv_add(&nc.bin_dirs, c->cni.bin_dirs[i]);
	network_config_print(&nc, &b);
	strv_fini(&nc.bin_dirs);
	put(&n->network.config, b.s);
}

static char *pod_cidr_path(const struct node *n)
{
	return xasprintf("%s/pod-cidr", n->config->root);
}

void node_network_load(struct node *n)
{
	_cleanup_free_ char *path = pod_cidr_path(n);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (fs_read(AT_FDCWD, path, POD_CIDR_MAX, &b) == 0 && b.s &&
	    network_pod_cidr_check(b.s, NULL) == 0)
		put(&n->network.pod_cidr, b.s);
	node_network_configure(n);
}

int node_network_set_pod_cidr(struct node *n, const char *cidr, struct err *e)
{
	_cleanup_free_ char *path = pod_cidr_path(n);
	int r;

	if (str_empty(cidr) || streq(cidr, str_or_empty(n->network.pod_cidr)))
		return 0;
	r = network_pod_cidr_check(cidr, e);
	if (r < 0)
		return err_wrap(e, "runtime_config.network_config.pod_cidr");
	r = fs_write_atomic(AT_FDCWD, path, cidr, strlen(cidr), 0600, false);
	if (r < 0)
		return err_errno(e, r, "write %s", path);
	log_info("pods get their addresses from %s", cidr);
	put(&n->network.pod_cidr, cidr);
	node_network_configure(n);
	n->network.checked_at = 0; /* what was found out was about the old range */
	return 0;
}

/* True when nothing is left to be collected. What is in the way is told once. */
static bool collect_once(struct node *n, char **told)
{
	_cleanup_free_ char *config = xstrdup(n->network.config);
	const char *argv[] = {n->monitor_path, "--network-gc", config, NULL};
	_cleanup_strbuf_ struct strbuf out = STRBUF_NULL;
	struct err e = ERR_NULL;
	int r = helper_run(n->loop, argv, SIGKILL, NETWORK_GC_TIMEOUT, &out, &e);
	const char *why = r < 0 ? e.msg : str_or_empty(out.s);

	if (r == 0)
		return true;
	if (!streq(str_or_empty(*told), why))
		log_warn("collect what past pods left in the network: %s; it is tried again", why);
	put(told, why);
	return false;
}

/* What pods that are gone have left, beside serving: until a plugin that fails, or is not there
 * (yet), has given it back. */
static void collect(void *arg)
{
	struct node *n = arg;
	struct network_probe *p = &n->network;
	_cleanup_free_ char *told = NULL;
	uint64_t pause = NETWORK_GC_PAUSE_MIN;

	do {
		co_event_reset(&p->collect);
		if (!collect_once(n, &told)) {
			co_event_wait(&p->collect, clock_mono_us() + pause);
			pause = MIN(pause * 2, NETWORK_GC_PAUSE_MAX);
			co_event_set(&p->collect);
		}
	} while (p->collect.set && !n->draining); /* asked for meanwhile */
	p->collecting = false;
}

void node_network_collect(struct node *n)
{
	co_event_set(&n->network.collect);
	if (n->network.collecting)
		return;
	n->network.collecting = true;
	co_start(n->loop, collect, n);
}

int node_network_check(const struct pod *p, struct strbuf *ret_problem, struct err *e)
{
	struct node *n = p->node;
	_cleanup_free_ char *config = xstrdup(n->network.config), *id = xstrdup(p->id),
			    *netns = xstrdup(str_or_empty(p->netns));
	const char *argv[] = {n->monitor_path, "--network-check", config, id, netns, NULL};
	int r;

	if (p->state != POD_READY) {
		strbuf_adds(ret_problem, "the pod sandbox is not ready");
		return 0;
	}
	if (!*netns)
		return 0; /* it has the node's */
	r = helper_run(n->loop, argv, SIGKILL, NETWORK_GC_TIMEOUT, ret_problem, e);
	if (r > 0 && !ret_problem->len)
		strbuf_addf(ret_problem, "the check ended with status %d", r);
	return r < 0 ? r : 0;
}

/* "KIND\nWHY" */
static void take_network(struct network_probe *p, int status, char *out, const struct err *e)
{
	char *why = strchr(out, '\n');

	if (why)
		*why++ = '\0';
	if (status >= 0 && why)
		p->kind = streq(out, "cni") ? "cni" : "bridge";
	p->ready = status == 0;
	put(&p->why, status < 0 ? e->msg : str_or_empty(why));
}

static void probe_network(void *arg)
{
	struct node *n = arg;
	struct network_probe *p = &n->network;
	_cleanup_strbuf_ struct strbuf out = STRBUF_NULL;
	_cleanup_free_ char *config = xstrdup(p->config);
	const char *argv[] = {n->monitor_path, "--network-status", config, NULL};
	struct err e = ERR_NULL;
	bool was = p->ready, knew = p->known;
	int r;

	/* A plugin that hangs is named by the helper, so that one gets the longer time. */
	r = helper_run(n->loop, argv, SIGKILL, n->config->cni.timeout_us + PROBE_TIMEOUT, &out, &e);
	strbuf_addc(&out, '\0');
	take_network(p, r, out.s, &e);
	if (!p->ready && (was || !knew))
		log_warn("the network (%s) is not ready: %s", p->kind, p->why);
	if (p->ready && !was && knew) {
		log_info("the network (%s) is ready", p->kind);
		node_network_collect(n); /* a plugin that was not there before can be asked now */
	}
	p->known = true;
	p->running = false;
	p->checked_at = clock_mono_us();
	co_event_set(&p->done);
}

bool node_network_ready(struct node *n, const char **ret_why)
{
	struct network_probe *p = &n->network;

	*ret_why = "";
	if (!p->running &&
	    (!p->known || !p->checked_at || clock_mono_us() - p->checked_at > NETWORK_PROBE_AGE)) {
		p->running = true;
		co_event_reset(&p->done);
		co_start(n->loop, probe_network, n);
	}
	/* Not ready may have become ready since: that is worth a wait, the other way is not. */
	if (!p->ready && p->running &&
	    co_event_wait(&p->done, clock_mono_us() + NETWORK_PROBE_WAIT) < 0) {
		*ret_why = p->known && !str_empty(p->why) ? p->why
							  : "the network is still being asked";
		return false;
	}
	*ret_why = str_or_empty(p->why);
	return p->ready;
}

/* --- space --- */

static void on_measured(void *arg, const char *id, const struct image_usage *u)
{
	struct node *n = arg;
	struct container *c = map_get(&n->containers, id);

	if (!c)
		return;
	c->usage_bytes = u->bytes;
	c->usage_inodes = u->inodes;
	c->usage_at = u->measured_at;
}

static void measure(void *arg)
{
	struct node *n = arg;
	uint64_t begin = clock_mono_us();
	struct err e = ERR_NULL;

	if (image_measure(n->images, on_measured, n, &e) < 0)
		log_warn("measure images and writable layers: %s", e.msg);
	n->measured_at = clock_mono_us();
	n->measure_next =
		n->measured_at + MAX(MEASURE_AGE, MEASURE_REST * (n->measured_at - begin));
	n->measuring = false;
}

void node_measure(struct node *n)
{
	if (n->measuring || clock_mono_us() < n->measure_next)
		return;
	n->measuring = true;
	co_start(n->loop, measure, n);
}

/* --- index --- */

static void fold(void *arg)
{
	struct node *n = arg;
	_cleanup_free_ char *path = xasprintf("%s/index.db", n->config->root);
	const char *argv[] = {"/proc/self/exe", "--fold-index", path, NULL};
	_cleanup_strbuf_ struct strbuf out = STRBUF_NULL;
	struct err e = ERR_NULL;
	int r = helper_run(n->loop, argv, SIGKILL, PROBE_TIMEOUT, &out, &e);

	if (r < 0)
		log_warn("fold the log of the index: %s", e.msg);
	else if (r > 0)
		log_warn("fold the log of the index: its process ended with %d", r);
	n->folding = false;
}

void node_fold_index(struct node *n)
{
	if (n->folding || state_log_bytes(n->state) < STATE_LOG_FOLD)
		return;
	n->folding = true;
	co_start(n->loop, fold, n);
}
