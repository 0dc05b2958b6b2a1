/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in network: a bridge on the host, a veth pair a pod, addresses from two pools,
 * masquerading and host ports by nft.  Nothing needs to be installed or configured for it.
 *
 * Setup is five netlink requests on each side; nft runs only for the first pod after a boot
 * and for pods with host ports.  The pair goes with the pod's namespace, so teardown frees
 * the addresses and ports and leaves the rest to the kernel.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"
#include "network/ipam.h"
#include "network/network_internal.h"

#define POD_IF "eth0"

struct bridge_pools {
	struct ipam_pool pool[2];
	unsigned n;
	bool no_v6; /* the kernel has none */
};

static int parse_pools(const struct network_config *c, struct bridge_pools *ret, struct err *e)
{
	const char *cidr[] = {c->ipv4, c->ipv6};

	*ret = (struct bridge_pools){0};
	for (unsigned i = 0; i < 2; i++) {
		struct ipam_pool *p = &ret->pool[ret->n];
		int r;

		if (str_empty(cidr[i]))
			continue;
		r = ipam_parse(cidr[i], p, e);
		if (r < 0)
			return err_wrap(e, "bridge.ipv%d", i ? 6 : 4);
		if (p->family == AF_INET6 && !fs_exists(AT_FDCWD, "/proc/sys/net/ipv6"))
			ret->no_v6 = true;
		else
			ret->n++;
	}
	return ret->n ? 0 : err_invalid(e, "bridge: neither ipv4 nor ipv6 has a pool");
}

static void addresses_dir(const struct network_config *c, struct strbuf *to)
{
	strbuf_addf(to, "%s/addresses", c->state);
}

/* Forwarding is what a node with pods does; a file that is not there is a protocol less. */
static int set_sysctls(const struct network_config *c, struct err *e)
{
	_cleanup_free_ char *localnet =
		xasprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", c->bridge);
	const char *files[] = {"/proc/sys/net/ipv4/ip_forward",
			       "/proc/sys/net/ipv6/conf/all/forwarding", localnet};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int r = fs_write_str(AT_FDCWD, files[i], "1");

		if (r < 0 && r != -ENOENT)
			return err_errno(e, r, "write 1 to %s", files[i]);
	}
	return 0;
}

/* The bridge with its gateway addresses; returns its index. */
static int ensure_bridge(const struct network_config *c, const struct bridge_pools *pools,
			 struct nl *nl, struct err *e)
{
	_cleanup_close_ int lock = -EBADF;
	int index, r;

	r = network_lock(c, "bridge.lock", &lock, e);
	if (r < 0)
		return r;
	index = nl_index(nl, c->bridge);
	if (index == -ENODEV) {
		r = nl_add_bridge(nl, c->bridge, c->mtu, e);
		if (r < 0 && r != -EEXIST)
			return r;
		index = nl_index(nl, c->bridge);
	}
	if (index < 0)
		return err_errno(e, index, "find the bridge %s", c->bridge);
	r = hostport_ensure_table(c, e);
	if (r <= 0)
		return r < 0 ? r : index; /* all was done by an earlier pod of this boot */
	for (unsigned i = 0; i < pools->n; i++) {
		r = nl_add_address(nl, index, pools->pool[i].family, pools->pool[i].gateway,
				   pools->pool[i].prefix, e);
		if (r < 0)
			return r;
	}
	r = nl_set_up(nl, index, true, e);
	if (r == 0)
		r = set_sysctls(c, e);
	if (r == 0)
		r = hostport_mark_ready(c, e);
	return r < 0 ? r : index;
}

static void veth_name(const char *pod_id, char ret[16])
{
	snprintf(ret, 16, "gv%.12s", pod_id);
}

/* The pod's side: eth0 with its addresses and routes. */
static int configure_inside(const struct bridge_pools *pools, uint8_t addr[2][16], int netns_fd,
			    struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	int index, r = network_open_inside(netns_fd, &nl, e);

	if (r < 0)
		return r;
	index = nl_index(&nl, POD_IF);
	if (index < 0)
		return err_errno(e, index, "find " POD_IF " in the pod");
	for (unsigned i = 0; r == 0 && i < pools->n; i++)
		r = nl_add_address(&nl, index, pools->pool[i].family, addr[i],
				   pools->pool[i].prefix, e);
	if (r == 0)
		r = nl_set_up(&nl, index, true, e);
	for (unsigned i = 0; r == 0 && i < pools->n; i++)
		r = nl_add_default_route(&nl, pools->pool[i].family, pools->pool[i].gateway, index,
					 e);
	return r;
}

static int connect_pod(const struct network_config *c, const struct network_pod *p,
		       const struct bridge_pools *pools, uint8_t addr[2][16], struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	char veth[16];
	int bridge, index, r = nl_open(&nl, e);

	if (r < 0)
		return r;
	bridge = ensure_bridge(c, pools, &nl, e);
	if (bridge < 0)
		return bridge;
	veth_name(p->id, veth);
	r = nl_add_veth(&nl, veth, POD_IF, p->netns_fd, c->mtu, e);
	if (r < 0)
		return r;
	index = nl_index(&nl, veth);
	if (index < 0)
		return err_errno(e, index, "find the interface %s", veth);
	r = nl_set_master(&nl, index, bridge, true, e);
	if (r == 0)
		r = nl_set_up(&nl, index, true, e);
	return r < 0 ? r : configure_inside(pools, addr, p->netns_fd, e);
}

static int bridge_teardown(const struct network_config *c, const struct network_pod *p,
			   struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL;
	_cleanup_nl_ struct nl nl = NL_NULL;
	char veth[16];
	int r = hostport_remove(c, p->id, e), k;

	if (p->netns_fd >= 0) { /* somebody may keep the namespace: our pair leaves it now */
		veth_name(p->id, veth);
		k = nl_open(&nl, r < 0 ? NULL : e);
		if (k == 0)
			k = nl_delete(&nl, veth, r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	addresses_dir(c, &dir);
	k = ipam_release(dir.s, p->id, r < 0 ? NULL : e);
	return r < 0 ? r : k;
}

static int bridge_setup(const struct network_config *c, const struct network_pod *p,
			struct strbuf *ret_ips, struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL, ips = STRBUF_NULL;
	struct bridge_pools pools;
	uint8_t addr[2][16];
	int r = parse_pools(c, &pools, e);

	addresses_dir(c, &dir);
	for (unsigned i = 0; r == 0 && i < pools.n; i++) {
		char text[INET6_ADDRSTRLEN];

		r = ipam_take(dir.s, &pools.pool[i], p->id, addr[i], e);
		if (r == 0)
			strbuf_addf(&ips, "%s%s", ips.len ? " " : "",
				    inet_ntop(pools.pool[i].family, addr[i], text, sizeof(text)));
	}
	if (r == 0)
		r = connect_pod(c, p, &pools, addr, e);
	if (r == 0)
		r = hostport_add(c, p, ips.s, e);
	if (r < 0)
		bridge_teardown(c, p, NULL);
	else
		strbuf_adds(ret_ips, ips.s);
	return r;
}

static int bridge_check(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	char veth[16];
	int r = nl_open(&nl, e);

	if (r < 0)
		return r;
	veth_name(p->id, veth);
	if (nl_index(&nl, c->bridge) < 0)
		return err_precondition(e, "the bridge %s is gone", c->bridge);
	if (nl_index(&nl, veth) < 0)
		return err_precondition(e, "the pod's interface %s is gone", veth);
	return 0;
}

static int bridge_status(const struct network_config *c, struct err *e)
{
	struct bridge_pools pools;

	return parse_pools(c, &pools, e);
}

static int bridge_gc(const struct network_config *c, const struct strv *live, struct err *e)
{
	_cleanup_strbuf_ struct strbuf dir = STRBUF_NULL;
	int r = hostport_gc(c, live, e), k;

	addresses_dir(c, &dir);
	k = ipam_gc(dir.s, live, r < 0 ? NULL : e);
	return r < 0 ? r : k;
}

const struct network_ops network_bridge = {
	.setup = bridge_setup,
	.teardown = bridge_teardown,
	.check = bridge_check,
	.status = bridge_status,
	.gc = bridge_gc,
};
