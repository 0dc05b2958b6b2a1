/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in network: a bridge on the host, a veth pair a pod, addresses from two pools,
 * masquerading and host ports by nft.  Nothing needs to be installed or configured for it.
 *
 * What all pods share is made once: <state>/bridge.ready says for which boot, bridge, nft table
 * and configuration.  A pod then costs a handful of netlink messages; nft runs only for pods
 * with host ports.  The pair goes with the pod's namespace, so teardown takes the addresses off
 * it, frees them and leaves the rest to the kernel.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "network/ipam.h"
#include "network/network_internal.h"
#include "wire/json.h"

#define POD_IF "eth0"
#define SYSCTL_MAX 64 /* bytes of a value that is read */

struct pools {
	struct ipam_pool pool[2]; /* IPv4 first */
	unsigned n;
};

/* --- the pools --- */

/* IPv6 is missing (built without, ipv6.disable=1) or off (disable_ipv6=1, for all or by default). */
static bool has_ipv6(void)
{
	static const char *const files[] = {"/proc/sys/net/ipv6/conf/all/disable_ipv6",
					    "/proc/sys/net/ipv6/conf/default/disable_ipv6"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		if (fs_read(AT_FDCWD, files[i], SYSCTL_MAX, &b) < 0 || !b.s || *b.s != '0')
			return false;
	}
	return true;
}

static int add_pool(struct pools *to, const char *cidr, const char *what, struct err *e)
{
	struct ipam_pool p;
	int r;

	if (str_empty(cidr))
		return 0;
	r = ipam_parse(cidr, &p, e);
	if (r < 0) {
		err_wrap(e, "%s", what);
		if (e)
			e->code = GRPC_FAILED_PRECONDITION; /* the node's, not the request's */
		return r;
	}
	if (p.family == AF_INET6 && !has_ipv6())
		return 0;
	to->pool[to->n++] = p;
	return 0;
}

static int read_pools(const struct network_config *c, struct pools *ret, struct err *e)
{
	_cleanup_free_ char *cidr = xstrdup(str_or_empty(c->pod_cidr));
	char *second = strchr(cidr, ',');
	int r;

	*ret = (struct pools){0};
	if (second)
		*second++ = '\0';
	if (*cidr && second && strchr(cidr, ':')) { /* the other way round */
		r = add_pool(ret, second, "pod CIDR", e);
		r = r < 0 ? r : add_pool(ret, cidr, "pod CIDR", e);
	} else if (*cidr) {
		r = add_pool(ret, cidr, "pod CIDR", e);
		r = r < 0 ? r : add_pool(ret, second, "pod CIDR", e);
	} else {
		r = add_pool(ret, c->ipv4, "bridge.ipv4", e);
		r = r < 0 ? r : add_pool(ret, c->ipv6, "bridge.ipv6", e);
	}
	if (r == 0 && !ret->n)
		r = err_precondition(e, "the built-in bridge has no pool of addresses that works "
					"here (bridge.ipv4, bridge.ipv6)");
	return r;
}

static void addresses_dir(const struct network_config *c, struct strbuf *to)
{
	strbuf_addf(to, "%s/addresses", c->state);
}

/* An address of another interface in one of the pools, or a pool in its network: packets for
 * one of the two would go astray. */
static int check_overlap(const struct network_config *c, const struct pools *pools, struct nl *nl,
			 int bridge, struct err *e)
{
	_cleanup_free_ struct nl_address *all = xcalloc(NL_ADDRESSES_MAX, sizeof(*all));
	int n = nl_addresses(nl, all, NL_ADDRESSES_MAX, e);
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];

	for (int i = 0; i < n; i++)
		for (unsigned k = 0; k < pools->n; k++) {
			const struct ipam_pool *p = &pools->pool[k];

			if (all[i].index == bridge || all[i].family != p->family ||
			    !ipam_overlap(all[i].addr, all[i].prefix, p->net, p->prefix))
				continue;
			inet_ntop(p->family, p->net, a, sizeof(a));
			inet_ntop(p->family, all[i].addr, b, sizeof(b));
			return err_precondition(
				e,
				"the pool %s/%u of the bridge %s overlaps %s/%u of interface %d: "
				"set another one (bridge.ipv%d)",
				a, p->prefix, c->bridge, b, all[i].prefix, all[i].index,
				p->family == AF_INET6 ? 6 : 4);
		}
	return n < 0 ? n : 0;
}

/* --- what all pods share --- */

static int set_sysctl(const char *path, const char *value, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, SYSCTL_MAX, &b);

	if (r == -ENOENT) /* a protocol less */
		return 0;
	if (r == 0 && b.s && str_has_prefix(b.s, value))
		return 0;
	r = fs_write_str(AT_FDCWD, path, value);
	return r < 0 ? err_errno(e, r, "write %s to %s", value, path) : 0;
}

/* Interfaces that take their routes from router advertisements would lose them with forwarding
 * on: 2 means "also then".  Only where it is off so far. */
static int keep_router_advertisements(struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	DIR *d;
	int r = 0;

	if (fs_read(AT_FDCWD, "/proc/sys/net/ipv6/conf/all/forwarding", SYSCTL_MAX, &b) < 0 ||
	    (b.s && *b.s == '1'))
		return 0;
	d = opendir("/proc/sys/net/ipv6/conf");
	if (!d)
		return 0;
	for (struct dirent *f; r == 0 && (f = readdir(d));) {
		_cleanup_free_ char *path =
			xasprintf("/proc/sys/net/ipv6/conf/%s/accept_ra", f->d_name);
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

		if (f->d_name[0] == '.' || streq(f->d_name, "all") || streq(f->d_name, "default"))
			continue;
		if (fs_read(AT_FDCWD, path, SYSCTL_MAX, &v) == 0 && v.s && *v.s == '1')
			r = set_sysctl(path, "2", e);
	}
	closedir(d);
	return r;
}

static int set_sysctls(const struct network_config *c, const struct pools *pools, struct err *e)
{
	_cleanup_free_ char *localnet =
		xasprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", c->bridge);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < pools->n; i++) {
		if (pools->pool[i].family == AF_INET6) {
			r = keep_router_advertisements(e);
			r = r < 0 ? r
				  : set_sysctl("/proc/sys/net/ipv6/conf/all/forwarding", "1", e);
			continue;
		}
		r = set_sysctl("/proc/sys/net/ipv4/ip_forward", "1", e);
		/* 127.0.0.1:HOSTPORT reaches a pod under the bridge's address. */
		r = r < 0 ? r : set_sysctl(localnet, "1", e);
	}
	return r;
}

/* A change of any of these makes the shared part anew. */
static void stamp(const struct network_config *c, int index, struct strbuf *b)
{
	if (fs_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, b) < 0)
		strbuf_adds(b, "?");
	strbuf_addf(b, "%d %s %s %s %s %d", index, c->instance, c->ipv4, c->ipv6,
		    str_or_empty(c->pod_cidr), c->masquerade);
}

static char *stamp_path(const struct network_config *c)
{
	return xasprintf("%s/bridge.ready", c->state);
}

static bool is_ready(const struct network_config *c, int index)
{
	_cleanup_strbuf_ struct strbuf have = STRBUF_NULL, want = STRBUF_NULL;
	_cleanup_free_ char *path = stamp_path(c);

	stamp(c, index, &want);
	return fs_read(AT_FDCWD, path, 4096, &have) == 0 && have.s && streq(have.s, want.s) &&
	       nl_nft_table_exists(c->instance);
}

static int make_bridge(const struct network_config *c, struct nl *nl, struct nl_link *ret,
		       struct err *e)
{
	uint32_t mtu = c->mtu ? c->mtu : nl_default_mtu(nl);
	uint8_t mac[6];
	int r;

	random_bytes(mac, sizeof(mac));
	mac[0] = (uint8_t)((mac[0] & 0xfe) | 0x02); /* unicast, locally administered */
	r = nl_add_bridge(nl, c->bridge, mtu, mac, e);
	if (r < 0 && r != -EEXIST)
		return r;
	r = nl_get_link(nl, c->bridge, ret);
	return r < 0 ? err_errno(e, r, "find the bridge %s", c->bridge) : 0;
}

static int make_shared(const struct network_config *c, const struct pools *pools, struct nl *nl,
		       struct nl_link *bridge, struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	_cleanup_free_ char *path = stamp_path(c);
	int r = check_overlap(c, pools, nl, bridge->index, e);

	if (r == 0 && !bridge->index)
		r = make_bridge(c, nl, bridge, e);
	if (r < 0)
		return r;
	for (unsigned i = 0; r == 0 && i < pools->n; i++)
		r = nl_add_address(nl, bridge->index, pools->pool[i].family, pools->pool[i].gateway,
				   pools->pool[i].prefix, e);
	r = r < 0 ? r : nl_set_up(nl, bridge->index, true, e);
	r = r < 0 ? r : set_sysctls(c, pools, e);
	r = r < 0 ? r : hostport_make_table(c, e);
	if (r < 0)
		return r;
	stamp(c, bridge->index, &text);
	r = fs_write_atomic(AT_FDCWD, path, text.s, text.len, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

static int find_bridge(const struct network_config *c, struct nl *nl, struct nl_link *ret,
		       struct err *e)
{
	int r = nl_get_link(nl, c->bridge, ret);

	if (r == -ENODEV) {
		*ret = (struct nl_link){0};
		return 0;
	}
	if (r < 0)
		return err_errno(e, r, "find the bridge %s", c->bridge);
	if (!streq(ret->kind, "bridge"))
		return err_precondition(e,
					"the interface %s is no bridge: set another name "
					"(bridge.name)",
					c->bridge);
	return 0;
}

/* The bridge with everything that pods share, made where it is not there. */
static int ensure_bridge(const struct network_config *c, const struct pools *pools, struct nl *nl,
			 struct nl_link *ret, struct err *e)
{
	_cleanup_close_ int lock = -EBADF;
	int r = find_bridge(c, nl, ret, e);

	if (r < 0 || (ret->index && is_ready(c, ret->index)))
		return r;
	r = network_lock(c, "bridge.lock", true, -1, &lock, e);
	if (r == 0)
		r = find_bridge(c, nl, ret, e);
	if (r < 0 || (ret->index && is_ready(c, ret->index)))
		return r;
	return make_shared(c, pools, nl, ret, e);
}

/* --- a pod --- */

static void veth_name(const char *pod_id, char ret[16])
{
	snprintf(ret, 16, "gv%.12s", pod_id);
}

/* Its addresses and routes are ours to say, not a neighbour's (CVE-2020-10749). */
static int refuse_advertisements(struct err *e)
{
	return set_sysctl("/proc/sys/net/ipv6/conf/" POD_IF "/accept_ra", "0", e);
}

/* The pod's side: eth0 with its addresses and routes.  ips: what it got. */
static int configure_inside(const struct pools *pools, uint8_t addr[2][16], int netns_fd,
			    struct strbuf *ips, struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	int index, r = network_enter(netns_fd, refuse_advertisements, &nl, e);

	if (r < 0)
		return r;
	index = nl_index(&nl, POD_IF);
	if (index < 0)
		return err_errno(e, index, "find " POD_IF " in the pod");
	r = nl_set_up(&nl, index, true, e);
	for (unsigned i = 0; r == 0 && i < pools->n; i++) {
		const struct ipam_pool *p = &pools->pool[i];
		char text[INET6_ADDRSTRLEN];

		r = nl_add_address(&nl, index, p->family, addr[i], p->prefix, e);
		if (r == -EACCES && p->family == AF_INET6 && pools->n > 1) {
			r = 0; /* the pod's sysctls switch IPv6 off */
			continue;
		}
		if (r == 0)
			r = nl_add_default_route(&nl, p->family, p->gateway, index, e);
		strbuf_addf(ips, "%s%s", ips->len ? " " : "",
			    inet_ntop(p->family, addr[i], text, sizeof(text)));
	}
	return r;
}

/* "ingressRate" limits what the host's end sends to the pod, "egressRate" the pod's own end. */
static int read_rates(const struct network_pod *p, uint64_t *ret_in, uint64_t *ret_out,
		      struct err *e)
{
	_cleanup_jv_ jv *v = NULL;
	int r = 0;

	*ret_in = *ret_out = 0;
	if (str_empty(p->bandwidth))
		return 0;
	r = jv_parse(p->bandwidth, strlen(p->bandwidth), 4096, "bandwidth", &v, e);
	if (r < 0)
		return r;
	*ret_in = (uint64_t)jv_int(v, "ingressRate", 0);
	*ret_out = (uint64_t)jv_int(v, "egressRate", 0);
	return 0;
}

static int limit_rates(const struct network_pod *p, struct nl *nl, int index, struct err *e)
{
	_cleanup_nl_ struct nl inner = NL_NULL;
	uint64_t in, out;
	int r = read_rates(p, &in, &out, e);

	if (r == 0 && in)
		r = nl_set_rate(nl, index, in, e);
	if (r < 0 || !out)
		return r;
	r = network_open_inside(p->netns_fd, &inner, e);
	if (r == 0)
		r = nl_set_rate(&inner, nl_index(&inner, POD_IF), out, e);
	return r;
}

static int connect_pod(const struct network_config *c, const struct network_pod *p,
		       const struct pools *pools, uint8_t addr[2][16], struct strbuf *ips,
		       struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	struct nl_link bridge;
	char veth[16];
	int index, r = nl_open(&nl, e);

	r = r < 0 ? r : ensure_bridge(c, pools, &nl, &bridge, e);
	if (r < 0)
		return r;
	veth_name(p->id, veth);
	r = nl_add_veth(&nl, veth, bridge.index, POD_IF, p->netns_fd, c->mtu ? c->mtu : bridge.mtu,
			e);
	if (r < 0)
		return r;
	FAULT_POINT("job.network.pair");
	index = nl_index(&nl, veth);
	if (index < 0)
		return err_errno(e, index, "find the interface %s", veth);
	r = nl_set_hairpin(&nl, index, e);
	r = r < 0 ? r : limit_rates(p, &nl, index, e);
	return r < 0 ? r : configure_inside(pools, addr, p->netns_fd, ips, e);
}

static int bridge_setup(const struct network_config *c, const struct network_pod *p,
			struct strbuf *ret_ips, struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL, ips = STRBUF_NULL;
	uint8_t addr[2][16];
	struct pools pools;
	int r = read_pools(c, &pools, e);

	if (r < 0)
		return r;
	r = hostport_reserve(c, p, e); /* first: a conflict is found before anything is made */
	if (r < 0)
		return r;
	FAULT_POINT("job.network.ports");
	addresses_dir(c, &dir);
	for (unsigned i = 0; r == 0 && i < pools.n; i++)
		r = ipam_take(dir.s, &pools.pool[i], p->id, addr[i], e);
	FAULT_POINT("job.network.addresses");
	if (r == 0)
		r = connect_pod(c, p, &pools, addr, &ips, e);
	FAULT_POINT("job.network.connected");
	if (r == 0)
		r = hostport_publish(c, p, ips.s, e);
	FAULT_POINT("job.network.published");
	if (r < 0)
		network_bridge.teardown(c, p, NULL);
	else
		strbuf_adds(ret_ips, ips.s);
	return r;
}

static bool is_link_local(const struct nl_address *a)
{
	return a->family == AF_INET6 && a->addr[0] == 0xfe && (a->addr[1] & 0xc0) == 0x80;
}

/* Takes the addresses off eth0, so that they can be somebody else's at once. */
static int strip_inside(int netns_fd, struct err *e)
{
	_cleanup_free_ struct nl_address *all = xcalloc(NL_ADDRESSES_MAX, sizeof(*all));
	_cleanup_nl_ struct nl nl = NL_NULL;
	int index, n, r = network_open_inside(netns_fd, &nl, e);

	if (r < 0)
		return r;
	index = nl_index(&nl, POD_IF);
	if (index == -ENODEV)
		return 0;
	n = nl_addresses(&nl, all, NL_ADDRESSES_MAX, e);
	for (int i = 0; r == 0 && i < n; i++)
		if (all[i].index == index && !is_link_local(&all[i]))
			r = nl_delete_address(&nl, &all[i], e);
	return n < 0 ? n : r;
}

/*
 * Nothing of it is there without addresses: they are the first that a pod gets after its host
 * ports, and the last that it gives back.  Removing the pair would wait for the kernel, for two
 * grace periods (20 ms and more); it goes with the namespace, which nobody waits for.
 */
static int bridge_teardown(const struct network_config *c, const struct network_pod *p,
			   struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL, ips = STRBUF_NULL;
	_cleanup_nl_ struct nl nl = NL_NULL;
	char veth[16];
	int r;

	addresses_dir(c, &dir);
	r = ipam_find(dir.s, p->id, &ips, e);
	r = r < 0 ? r : hostport_remove(c, p->id, ips.s, e);
	FAULT_POINT("job.network.unpublished");
	if (r < 0 || !ips.len)
		return r;
	if (p->netns_fd >= 0) {
		r = strip_inside(p->netns_fd, e);
	} else { /* its pin is gone, but who knows whether it is */
		veth_name(p->id, veth);
		r = nl_open(&nl, e);
		r = r < 0 ? r : nl_delete(&nl, veth, e);
	}
	FAULT_POINT("job.network.stripped");
	return r < 0 ? r : ipam_release(dir.s, p->id, e);
}

/* --- CHECK, STATUS, GC --- */

static int check_inside(const struct network_pod *p, const char *ips, struct err *e)
{
	_cleanup_free_ struct nl_address *all = xcalloc(NL_ADDRESSES_MAX, sizeof(*all));
	_cleanup_free_ char *list = xstrdup(ips);
	_cleanup_nl_ struct nl nl = NL_NULL;
	int n = network_open_inside(p->netns_fd, &nl, e);
	char text[INET6_ADDRSTRLEN], *save = NULL;

	if (n == 0)
		n = nl_addresses(&nl, all, NL_ADDRESSES_MAX, e);
	if (n < 0)
		return n;
	for (char *ip = strtok_r(list, " ", &save); ip; ip = strtok_r(NULL, " ", &save)) {
		bool found = false;

		for (int i = 0; i < n && !found; i++)
			found = streq(ip,
				      inet_ntop(all[i].family, all[i].addr, text, sizeof(text)));
		if (!found)
			return err_precondition(e, "the pod's address %s is gone", ip);
	}
	return 0;
}

static int bridge_check(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL, ips = STRBUF_NULL;
	_cleanup_nl_ struct nl nl = NL_NULL;
	struct nl_link bridge, port;
	char veth[16];
	int r = nl_open(&nl, e);

	if (r < 0)
		return r;
	veth_name(p->id, veth);
	if (nl_get_link(&nl, c->bridge, &bridge) < 0 || !bridge.up)
		return err_precondition(e, "the bridge %s is gone or down", c->bridge);
	if (nl_get_link(&nl, veth, &port) < 0 || !port.up || port.master != bridge.index)
		return err_precondition(
			e, "the pod's interface %s is gone, down or not on the bridge %s", veth,
			c->bridge);
	if (!nl_nft_table_exists(c->instance))
		return err_precondition(e, "the nft table inet %s is gone", c->instance);
	addresses_dir(c, &dir);
	r = ipam_find(dir.s, p->id, &ips, e);
	if (r == 0 && !ips.len)
		r = err_precondition(e, "no address is reserved for the pod");
	return r < 0 ? r : check_inside(p, ips.s, e);
}

static int bridge_status(const struct network_config *c, struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	struct nl_link bridge;
	struct pools pools;
	int r = read_pools(c, &pools, e);

	r = r < 0 ? r : hostport_available(e);
	r = r < 0 ? r : nl_open(&nl, e);
	r = r < 0 ? r : find_bridge(c, &nl, &bridge, e);
	return r < 0 ? r : check_overlap(c, &pools, &nl, bridge.index, e);
}

static bool is_dead(const char *pod_id, const void *arg)
{
	return !network_pod_is_live(arg, pod_id);
}

static int bridge_gc(const struct network_config *c, struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL;
	int r, k;

	addresses_dir(c, &dir);
	r = hostport_gc(c, e);
	k = ipam_gc(dir.s, is_dead, c, r < 0 ? NULL : e);
	return r < 0 ? r : k;
}

const struct network_ops network_bridge = {
	.setup = bridge_setup,
	.teardown = bridge_teardown,
	.check = bridge_check,
	.status = bridge_status,
	.gc = bridge_gc,
};
