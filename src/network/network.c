/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of network share, and the way to them: see network.h. */
#include "network/network.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "network/ipam.h"
#include "network/network_internal.h"
#include "sys/netns.h"
#include "wire/json.h"

#define CONFIG_MAX 65536
#define LOCK_POLL_MS 2
#define PIN_DIGITS 16 /* of a pod's id, in its pin's name */

void network_config_print(const struct network_config *c, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_bool(&w, "cniOnly", c->cni_only);
	jw_key_string(&w, "instance", c->instance);
	jw_key_string(&w, "state", c->state);
	jw_key_string(&w, "cache", c->cache);
	jw_key_string(&w, "pods", c->pods);
	jw_key_string(&w, "pins", c->pins);
	jw_key_string(&w, "podCidr", c->pod_cidr);
	jw_key_string(&w, "confDir", c->conf_dir);
	jw_key_uint(&w, "timeoutUs", c->timeout_us);
	jw_key_string(&w, "bridge", c->bridge);
	jw_key_string(&w, "ipv4", c->ipv4);
	jw_key_string(&w, "ipv6", c->ipv6);
	jw_key_uint(&w, "mtu", c->mtu);
	jw_key_bool(&w, "masquerade", c->masquerade);
	jw_key_array(&w, "binDirs");
	for (size_t i = 0; i < c->bin_dirs.n; i++)
		jw_string(&w, c->bin_dirs.v[i]);
	jw_array_end(&w);
	jw_object_end(&w);
}

int network_config_parse(const char *json, struct network_config *ret, struct err *e)
{
	struct network_config c = {0};
	jv *v, *dirs;
	int r = jv_parse(json, strlen(json), CONFIG_MAX, "network configuration", &v, e);

	if (r < 0)
		return r;
	c.doc = v;
	c.cni_only = jv_bool(v, "cniOnly", false);
	c.instance = jv_string(v, "instance", "gantry");
	c.state = jv_string(v, "state", "");
	c.cache = jv_string(v, "cache", "");
	c.pods = jv_string(v, "pods", "");
	c.pins = jv_string(v, "pins", "");
	c.pod_cidr = jv_string(v, "podCidr", "");
	c.conf_dir = jv_string(v, "confDir", "");
	c.timeout_us = (uint64_t)jv_int(v, "timeoutUs", 60000000);
	c.bridge = jv_string(v, "bridge", "gantry0");
	c.ipv4 = jv_string(v, "ipv4", "");
	c.ipv6 = jv_string(v, "ipv6", "");
	c.mtu = (uint32_t)jv_int(v, "mtu", 0);
	c.masquerade = jv_bool(v, "masquerade", true);
	dirs = jv_get(v, "binDirs");
	for (size_t i = 0; i < jv_len(dirs); i++)
		if (jv_as_string(jv_at(dirs, i)))
			strv_add(&c.bin_dirs, jv_as_string(jv_at(dirs, i)));
	*ret = c;
	return 0;
}

void network_config_fini(struct network_config *c)
{
	strv_fini(&c->bin_dirs);
	if (c->doc)
		jv_free(c->doc);
	*c = (struct network_config){0};
}

static const struct network_ops *ops_now(const struct network_config *c)
{
	return c->cni_only || network_conf_present(c->conf_dir) ? &network_cni : &network_bridge;
}

int network_setup(const struct network_config *c, const struct network_pod *p,
		  struct strbuf *ret_ips, struct err *e)
{
	_cleanup_close_ int lock = -EBADF;
	int r = network_lock(c, NETWORK_GC_LOCK, false, p->cancel_fd, &lock, e);

	return r < 0 ? r : ops_now(c)->setup(c, p, ret_ips, e);
}

/* By what is there, not by what a new pod would get: the configuration may have changed. */
int network_teardown(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	_cleanup_close_ int lock = -EBADF;
	int r = network_lock(c, NETWORK_GC_LOCK, false, -1, &lock, e), k;

	if (r < 0)
		return r;
	r = network_cni_has(c, p->id) ? network_cni.teardown(c, p, e) : 0;
	k = network_bridge.teardown(c, p, r < 0 ? NULL : e);
	return r < 0 ? r : k;
}

int network_check(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	return (network_cni_has(c, p->id) ? &network_cni : &network_bridge)->check(c, p, e);
}

int network_status(const struct network_config *c, const char **ret_kind, struct err *e)
{
	const struct network_ops *ops = ops_now(c);

	*ret_kind = ops == &network_cni ? "cni" : "bridge";
	return ops->status(c, e);
}

bool network_pod_is_live(const struct network_config *c, const char *pod_id)
{
	_cleanup_free_ char *dir = xasprintf("%s/%s", c->pods, pod_id);

	return access(dir, F_OK) == 0;
}

/* --- what belongs to nobody --- */

static bool pin_is_live(const struct network_config *c, const char *digits)
{
	DIR *d = opendir(c->pods);
	bool live = !d && errno != ENOENT;

	if (!d)
		return live;
	for (struct dirent *f; !live && (f = readdir(d));)
		live = str_has_prefix(f->d_name, digits);
	closedir(d);
	return live;
}

/* Only names of ours, and the list before the look at the pods: a new one is not touched. */
static int gc_pins(const struct network_config *c, struct err *e)
{
	const char *prefix = strrchr(c->pins, '/');
	_cleanup_free_ char *dir = prefix ? xstrndup(c->pins, (size_t)(prefix - c->pins)) : NULL;
	DIR *d = dir ? opendir(dir) : NULL;
	int r = 0;

	if (!d)
		return 0;
	for (struct dirent *f; r == 0 && (f = readdir(d));) {
		_cleanup_free_ char *path = xasprintf("%s/%s", dir, f->d_name);
		const char *digits = f->d_name + strlen(prefix + 1);

		if (str_has_prefix(f->d_name, prefix + 1) &&
		    strspn(digits, "0123456789abcdef") == PIN_DIGITS &&
		    strlen(digits) == PIN_DIGITS && !pin_is_live(c, digits))
			r = netns_unpin(path, e);
	}
	closedir(d);
	return r;
}

int network_gc(const struct network_config *c, struct err *e)
{
	int r = network_cni.gc(c, e), k = network_bridge.gc(c, r < 0 ? NULL : e);

	r = r < 0 ? r : k;
	k = gc_pins(c, r < 0 ? NULL : e);
	return r < 0 ? r : k;
}

int network_pod_cidr_check(const char *pod_cidr, struct err *e)
{
	_cleanup_free_ char *list = xstrdup(pod_cidr);
	int families[2] = {0};
	char *save = NULL;
	unsigned n = 0;

	for (char *s = strtok_r(list, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
		struct ipam_pool pool;
		int r = ipam_parse(s, &pool, e);

		if (r < 0)
			return r;
		if (n == 2 || (n == 1 && families[0] == pool.family))
			return err_invalid(e, "\"%s\": at most one network of each family",
					   pod_cidr);
		families[n++] = pool.family;
	}
	return n ? 0 : err_invalid(e, "\"%s\" names no network", pod_cidr);
}

int network_open_inside(int netns_fd, struct nl *ret, struct err *e)
{
	return network_enter(netns_fd, NULL, ret, e);
}

int network_enter(int netns_fd, int (*inside)(struct err *e), struct nl *ret, struct err *e)
{
	_cleanup_close_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (here < 0 || setns(netns_fd, CLONE_NEWNET) < 0)
		return err_errno(e, -errno, "enter the pod's network namespace");
	r = inside ? inside(e) : 0;
	r = r < 0 ? r : nl_open(ret, e);
	if (setns(here, CLONE_NEWNET) < 0)
		abort(); /* going on in the wrong namespace would touch a stranger's network */
	return r;
}

int network_loopback_up(int netns_fd, struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	int r = network_open_inside(netns_fd, &nl, e);

	return r < 0 ? r : nl_set_up(&nl, 1, true, e); /* lo is always the first */
}

static int lock_wait(int fd, const char *path, bool exclusive, int cancel_fd, struct err *e)
{
	uint64_t end = clock_mono_us() + NETWORK_LOCK_US;

	while (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
		struct pollfd p = {.fd = cancel_fd, .events = POLLIN};

		if (errno != EINTR && errno != EWOULDBLOCK)
			return err_errno(e, -errno, "lock %s", path);
		if (clock_mono_us() > end)
			return err_set(e, -EAGAIN, GRPC_UNAVAILABLE, "%s has been held for %llu s",
				       path, (unsigned long long)(NETWORK_LOCK_US / USEC_PER_SEC));
		if (poll(&p, 1, LOCK_POLL_MS) > 0)
			return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	}
	return 0;
}

int network_lock(const struct network_config *c, const char *name, bool exclusive, int cancel_fd,
		 int *ret_fd, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", c->state, name);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r = 0;

	if (fd < 0 && errno == ENOENT) {
		r = fs_mkdir_p(AT_FDCWD, c->state, 0711);
		fd = r < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return err_errno(e, r < 0 ? r : -errno, "open %s", path);
	r = lock_wait(fd, path, exclusive, cancel_fd, e);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}
