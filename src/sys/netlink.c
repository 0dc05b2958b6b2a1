/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network interfaces by rtnetlink(7): see netlink.h.
 *
 * A request is built in a fixed buffer; attributes that would not fit abort, since all of
 * them are ours.  What the kernel answers is still checked length by length.
 */
#include "sys/netlink.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/mem.h"

#define REQUEST_MAX 1024
#define REPLY_MAX 32768

struct request {
	struct nlmsghdr h;
	char body[REQUEST_MAX];
};

int nl_open(struct nl *nl, struct err *e)
{
	int on = 1;

	nl->seq = 1;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (nl->fd < 0)
		return err_errno(e, -errno, "open a netlink socket");
	setsockopt(nl->fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(nl->fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	return 0;
}

void nl_close(struct nl *nl)
{
	nl->fd = fd_close(nl->fd);
}

static void begin(struct request *q, int type, int flags)
{
	memset(q, 0, sizeof(*q));
	q->h.nlmsg_len = NLMSG_HDRLEN;
	q->h.nlmsg_type = (uint16_t)type;
	q->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
}

static void *append(struct request *q, const void *p, size_t n)
{
	char *to = (char *)q + q->h.nlmsg_len;

	if (q->h.nlmsg_len + NLMSG_ALIGN(n) > sizeof(*q))
		abort();
	if (n && p)
		memcpy(to, p, n);
	q->h.nlmsg_len += (uint32_t)NLMSG_ALIGN(n);
	return to;
}

static struct rtattr *put(struct request *q, int type, const void *p, size_t n)
{
	struct rtattr a = {.rta_len = (uint16_t)RTA_LENGTH(n), .rta_type = (uint16_t)type};
	struct rtattr *at = append(q, &a, sizeof(a));

	append(q, p, n);
	return at;
}

static void put_str(struct request *q, int type, const char *s)
{
	put(q, type, s, strlen(s) + 1);
}

static void put_u32(struct request *q, int type, uint32_t v)
{
	put(q, type, &v, sizeof(v));
}

static struct rtattr *nest(struct request *q, int type)
{
	return put(q, type, NULL, 0);
}

static void nest_end(struct request *q, struct rtattr *at)
{
	at->rta_len = (uint16_t)((char *)q + q->h.nlmsg_len - (char *)at);
}

/* Sends, and reads answers up to the acknowledgement or the end of a dump. */
typedef void reply_fn(const struct nlmsghdr *h, void *arg);

static int answer(struct nl *nl, const struct nlmsghdr *h, reply_fn *fn, void *arg)
{
	const struct nlmsgerr *err = NLMSG_DATA(h);

	if (h->nlmsg_seq != nl->seq)
		return 1;
	if (h->nlmsg_type == NLMSG_DONE)
		return 0;
	if (h->nlmsg_type == NLMSG_ERROR)
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? err->error : -EBADMSG;
	if (fn)
		fn(h, arg);
	return 1;
}

static int talk(struct nl *nl, struct request *q, reply_fn *fn, void *arg)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	_cleanup_free_ char *buf = xmalloc(REPLY_MAX);

	q->h.nlmsg_seq = ++nl->seq;
	if (sendto(nl->fd, q, q->h.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	for (;;) {
		ssize_t got = recv(nl->fd, buf, REPLY_MAX, 0);
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)buf;
		unsigned left = (unsigned)got;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			int r = answer(nl, h, fn, arg);

			if (r <= 0)
				return r;
		}
	}
}

int nl_set_up(struct nl *nl, int index, bool up, struct err *e)
{
	struct ifinfomsg i = {
		.ifi_index = index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
	struct request q;
	int r;

	begin(&q, RTM_NEWLINK, NLM_F_ACK);
	append(&q, &i, sizeof(i));
	r = talk(nl, &q, NULL, NULL);
	return r < 0 ? err_errno(e, r, "set interface %d %s", index, up ? "up" : "down") : 0;
}

int nl_add_bridge(struct nl *nl, const char *name, uint32_t mtu, const uint8_t mac[6],
		  struct err *e)
{
	struct ifinfomsg i = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct rtattr *info;
	struct request q;
	int r;

	begin(&q, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	put(&q, IFLA_ADDRESS, mac, 6);
	info = nest(&q, IFLA_LINKINFO);
	put_str(&q, IFLA_INFO_KIND, "bridge");
	nest_end(&q, info);
	r = talk(nl, &q, NULL, NULL);
	if (r == 0 && mtu) { /* given at its birth it would be lost with the last port */
		begin(&q, RTM_NEWLINK, NLM_F_ACK);
		append(&q, &(struct ifinfomsg){0}, sizeof(struct ifinfomsg));
		put_str(&q, IFLA_IFNAME, name);
		put_u32(&q, IFLA_MTU, mtu);
		r = talk(nl, &q, NULL, NULL);
	}
	return r < 0 ? err_errno(e, r, "make the bridge %s", name) : 0;
}

int nl_add_veth(struct nl *nl, const char *name, int master, const char *peer, int peer_netns_fd,
		uint32_t mtu, struct err *e)
{
	struct ifinfomsg i = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, none = {0};
	struct rtattr *info, *data, *other;
	struct request q;
	int r;

	begin(&q, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	put_u32(&q, IFLA_MASTER, (uint32_t)master);
	if (mtu)
		put_u32(&q, IFLA_MTU, mtu);
	info = nest(&q, IFLA_LINKINFO);
	put_str(&q, IFLA_INFO_KIND, "veth");
	data = nest(&q, IFLA_INFO_DATA);
	other = nest(&q, VETH_INFO_PEER);
	append(&q, &none, sizeof(none)); /* up before the two know each other is ENOTCONN */
	put_str(&q, IFLA_IFNAME, peer);
	if (mtu)
		put_u32(&q, IFLA_MTU, mtu);
	put_u32(&q, IFLA_NET_NS_FD, (uint32_t)peer_netns_fd);
	nest_end(&q, other);
	nest_end(&q, data);
	nest_end(&q, info);
	r = talk(nl, &q, NULL, NULL);
	return r < 0 ? err_errno(e, r, "make the interface pair %s, %s", name, peer) : 0;
}

int nl_set_hairpin(struct nl *nl, int index, struct err *e)
{
	struct ifinfomsg i = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	struct rtattr *protinfo;
	struct request q;
	uint8_t on = 1;
	int r;

	begin(&q, RTM_SETLINK, NLM_F_ACK);
	append(&q, &i, sizeof(i));
	protinfo = nest(&q, IFLA_PROTINFO | NLA_F_NESTED);
	put(&q, IFLA_BRPORT_MODE, &on, sizeof(on));
	nest_end(&q, protinfo);
	r = talk(nl, &q, NULL, NULL);
	return r < 0 ? err_errno(e, r, "let the bridge port %d talk to itself", index) : 0;
}

/* A burst of 20 ms and never less than some full packets of offloaded TCP; 50 ms of it may wait. */
#define RATE_BURST_MIN (128u << 10)

int nl_set_rate(struct nl *nl, int index, uint64_t bits, struct err *e)
{
	uint64_t bytes = MAX(bits / 8, UINT64_C(1)), burst = MAX(bytes / 50, RATE_BURST_MIN);
	struct tc_tbf_qopt opt = {.rate = {.rate = (uint32_t)MIN(bytes, UINT32_MAX),
					   .linklayer = TC_LINKLAYER_ETHERNET},
				  .limit = (uint32_t)MIN(bytes / 20 + burst, UINT32_MAX)};
	struct tcmsg m = {.tcm_family = AF_UNSPEC,
			  .tcm_ifindex = index,
			  .tcm_parent = TC_H_ROOT,
			  .tcm_handle = 1 << 16};
	struct rtattr *options;
	struct request q;
	int r;

	begin(&q, RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
	append(&q, &m, sizeof(m));
	put_str(&q, TCA_KIND, "tbf");
	options = nest(&q, TCA_OPTIONS);
	put(&q, TCA_TBF_PARMS, &opt, sizeof(opt));
	put_u32(&q, TCA_TBF_BURST, (uint32_t)MIN(burst, UINT32_MAX));
	if (bytes > UINT32_MAX)
		put(&q, TCA_TBF_RATE64, &bytes, sizeof(bytes));
	nest_end(&q, options);
	r = talk(nl, &q, NULL, NULL);
	return r < 0 ? err_errno(e, r, "limit interface %d to %llu bits a second", index,
				 (unsigned long long)bits)
		     : 0;
}

int nl_delete(struct nl *nl, const char *name, struct err *e)
{
	struct ifinfomsg i = {0};
	struct request q;
	int r;

	begin(&q, RTM_DELLINK, NLM_F_ACK);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	r = talk(nl, &q, NULL, NULL);
	return r < 0 && r != -ENODEV ? err_errno(e, r, "remove the interface %s", name) : 0;
}

int nl_add_address(struct nl *nl, int index, int family, const void *addr, unsigned prefix,
		   struct err *e)
{
	struct ifaddrmsg a = {.ifa_family = (uint8_t)family,
			      .ifa_prefixlen = (uint8_t)prefix,
			      .ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
			      .ifa_index = (uint32_t)index};
	size_t n = family == AF_INET6 ? 16 : 4;
	char text[INET6_ADDRSTRLEN] = "?";
	struct request q;
	int r;

	begin(&q, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	append(&q, &a, sizeof(a));
	put(&q, IFA_LOCAL, addr, n);
	put(&q, IFA_ADDRESS, addr, n);
	r = talk(nl, &q, NULL, NULL);
	if (r == 0 || r == -EEXIST)
		return 0;
	inet_ntop(family, addr, text, sizeof(text));
	return err_errno(e, r, "give %s to interface %d", text, index);
}

int nl_add_default_route(struct nl *nl, int family, const void *gateway, int index, struct err *e)
{
	struct rtmsg m = {.rtm_family = (uint8_t)family,
			  .rtm_table = RT_TABLE_MAIN,
			  .rtm_protocol = RTPROT_BOOT,
			  .rtm_scope = RT_SCOPE_UNIVERSE,
			  .rtm_type = RTN_UNICAST};
	struct request q;
	int r;

	begin(&q, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE);
	append(&q, &m, sizeof(m));
	put(&q, RTA_GATEWAY, gateway, family == AF_INET6 ? 16 : 4);
	put_u32(&q, RTA_OIF, (uint32_t)index);
	r = talk(nl, &q, NULL, NULL);
	return r < 0 && r != -EEXIST ? err_errno(e, r, "set the default route") : 0;
}

/* --- links --- */

static void read_kind(const struct rtattr *info, char ret[16])
{
	const struct rtattr *a = RTA_DATA(info);
	int left = (int)RTA_PAYLOAD(info);

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_INFO_KIND)
			snprintf(ret, 16, "%.*s", (int)RTA_PAYLOAD(a), (const char *)RTA_DATA(a));
}

static void read_link(const struct nlmsghdr *h, struct nl_link *l)
{
	const struct ifinfomsg *i = NLMSG_DATA(h);
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*i)));

	*l = (struct nl_link){.index = i->ifi_index, .up = i->ifi_flags & IFF_UP};
	for (const struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		struct rtnl_link_stats64 s = {0};

		if (a->rta_type == IFLA_IFNAME && RTA_PAYLOAD(a) <= sizeof(l->name))
			snprintf(l->name, sizeof(l->name), "%.*s", (int)RTA_PAYLOAD(a),
				 (const char *)RTA_DATA(a));
		else if (a->rta_type == IFLA_MTU && RTA_PAYLOAD(a) == 4)
			memcpy(&l->mtu, RTA_DATA(a), 4);
		else if (a->rta_type == IFLA_MASTER && RTA_PAYLOAD(a) == 4)
			memcpy(&l->master, RTA_DATA(a), 4);
		else if (a->rta_type == IFLA_LINKINFO)
			read_kind(a, l->kind);
		if (a->rta_type != IFLA_STATS64)
			continue;
		memcpy(&s, RTA_DATA(a), MIN(RTA_PAYLOAD(a), sizeof(s)));
		l->rx_bytes = s.rx_bytes;
		l->rx_errors = s.rx_errors;
		l->tx_bytes = s.tx_bytes;
		l->tx_errors = s.tx_errors;
		l->rx_packets = s.rx_packets;
		l->tx_packets = s.tx_packets;
		l->rx_dropped = s.rx_dropped + s.rx_missed_errors; /* as /proc/net/dev */
		l->tx_dropped = s.tx_dropped;
	}
}

/* What a dump is gathered in. */
struct table {
	void *to;
	unsigned n, max;
};

static void on_link(const struct nlmsghdr *h, void *arg)
{
	struct table *t = arg;

	if (h->nlmsg_type == RTM_NEWLINK && t->n < t->max &&
	    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		read_link(h, &((struct nl_link *)t->to)[t->n++]);
}

int nl_get_link(struct nl *nl, const char *name, struct nl_link *ret)
{
	struct table one = {.to = ret, .max = 1};
	struct ifinfomsg i = {.ifi_family = AF_UNSPEC};
	struct request q;
	int r;

	if (strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	begin(&q, RTM_GETLINK, NLM_F_ACK);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	r = talk(nl, &q, on_link, &one);
	return r < 0 ? r : one.n ? 0 : -ENODEV;
}

int nl_index(struct nl *nl, const char *name)
{
	struct nl_link l;
	int r = nl_get_link(nl, name, &l);

	return r < 0 ? r : l.index;
}

static int dump(struct nl *nl, int type, reply_fn *fn, struct table *t)
{
	struct ifinfomsg i = {0}; /* the longest of the families' headers: all zero */
	struct request q;

	begin(&q, type, NLM_F_DUMP);
	append(&q, &i, sizeof(i));
	return talk(nl, &q, fn, t);
}

int nl_links(struct nl *nl, struct nl_link *links, unsigned max, struct err *e)
{
	struct table all = {.to = links, .max = max};
	int r = dump(nl, RTM_GETLINK, on_link, &all);

	return r < 0 ? err_errno(e, r, "list the interfaces") : (int)all.n;
}

/* --- addresses and routes --- */

static void on_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct table *t = arg;
	struct nl_address *to = &((struct nl_address *)t->to)[t->n];
	const struct rtattr *a;
	int left;

	if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) ||
	    t->n == t->max || (m->ifa_family != AF_INET && m->ifa_family != AF_INET6))
		return;
	*to = (struct nl_address){
		.index = (int)m->ifa_index, .family = m->ifa_family, .prefix = m->ifa_prefixlen};
	left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	for (a = IFA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFA_ADDRESS)
			memcpy(to->addr, RTA_DATA(a), MIN(RTA_PAYLOAD(a), sizeof(to->addr)));
	t->n++;
}

int nl_addresses(struct nl *nl, struct nl_address *to, unsigned max, struct err *e)
{
	struct table all = {.to = to, .max = max};
	int r = dump(nl, RTM_GETADDR, on_address, &all);

	return r < 0 ? err_errno(e, r, "list the addresses") : (int)all.n;
}

int nl_delete_address(struct nl *nl, const struct nl_address *a, struct err *e)
{
	struct ifaddrmsg m = {.ifa_family = (uint8_t)a->family,
			      .ifa_prefixlen = (uint8_t)a->prefix,
			      .ifa_index = (uint32_t)a->index};
	char text[INET6_ADDRSTRLEN] = "?";
	struct request q;
	int r;

	begin(&q, RTM_DELADDR, NLM_F_ACK);
	append(&q, &m, sizeof(m));
	put(&q, IFA_LOCAL, a->addr, a->family == AF_INET6 ? 16 : 4);
	r = talk(nl, &q, NULL, NULL);
	if (r == 0 || r == -EADDRNOTAVAIL)
		return 0;
	inet_ntop(a->family, a->addr, text, sizeof(text));
	return err_errno(e, r, "take %s from interface %d", text, a->index);
}

/* The interfaces of default routes, as a set of indexes. */
static void on_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = NLMSG_DATA(h);
	struct table *t = arg;
	const struct rtattr *a;
	int left;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) ||
	    m->rtm_dst_len || m->rtm_table != RT_TABLE_MAIN || m->rtm_type != RTN_UNICAST)
		return;
	left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	for (a = RTM_RTA(m); RTA_OK(a, left) && t->n < t->max; a = RTA_NEXT(a, left))
		if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) == sizeof(int))
			memcpy(&((int *)t->to)[t->n++], RTA_DATA(a), sizeof(int));
}

uint32_t nl_default_mtu(struct nl *nl)
{
	int indexes[16];
	struct table routes = {.to = indexes, .max = ARRAY_SIZE(indexes)};
	struct nl_link links[NL_LINKS_MAX];
	int n = nl_links(nl, links, NL_LINKS_MAX, NULL);
	uint32_t least = 0;

	if (dump(nl, RTM_GETROUTE, on_route, &routes) < 0)
		return 0;
	for (int i = 0; i < n; i++)
		for (unsigned k = 0; k < routes.n; k++)
			if (links[i].index == indexes[k] && (!least || links[i].mtu < least))
				least = links[i].mtu;
	return least;
}

/* --- netfilter --- */

static int netfilter_open(struct nl *nl)
{
	nl->seq = 1;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	return nl->fd < 0 ? -errno : 0;
}

bool nl_nft_table_exists(const char *name)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	struct nfgenmsg g = {.nfgen_family = NFPROTO_INET};
	struct request q;

	if (netfilter_open(&nl) < 0)
		return true;
	begin(&q, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_ACK);
	append(&q, &g, sizeof(g));
	put_str(&q, NFTA_TABLE_NAME, name);
	return talk(&nl, &q, NULL, NULL) != -ENOENT;
}

#define TUPLE_MAX 128	     /* bytes of a connection's addresses, as they came */
#define CONNECTIONS_MAX 1024 /* forgotten at once; older ones time out */

struct connection {
	uint8_t family;
	uint16_t len;
	char tuple[TUPLE_MAX];
};

struct connections {
	uint16_t port; /* network order */
	unsigned n;
	struct connection *all;
};

static const struct rtattr *find(const void *attrs, int left, int type)
{
	const struct rtattr *a = attrs;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

static const struct rtattr *find_in(const struct rtattr *in, int type)
{
	return in ? find(RTA_DATA(in), (int)RTA_PAYLOAD(in), type) : NULL;
}

static void on_connection(const struct nlmsghdr *h, void *arg)
{
	const struct nfgenmsg *g = NLMSG_DATA(h);
	struct connections *c = arg;
	const struct rtattr *tuple, *proto, *num, *port;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*g)) || c->n == CONNECTIONS_MAX)
		return;
	tuple = find(g + 1, (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*g))), CTA_TUPLE_ORIG);
	proto = find_in(tuple, CTA_TUPLE_PROTO);
	num = find_in(proto, CTA_PROTO_NUM);
	port = find_in(proto, CTA_PROTO_DST_PORT);
	if (!num || !port || RTA_PAYLOAD(num) < 1 || RTA_PAYLOAD(port) < 2 ||
	    *(const uint8_t *)RTA_DATA(num) != IPPROTO_UDP ||
	    memcmp(RTA_DATA(port), &c->port, 2) != 0 || RTA_PAYLOAD(tuple) > TUPLE_MAX)
		return;
	c->all[c->n] =
		(struct connection){.family = g->nfgen_family, .len = (uint16_t)RTA_PAYLOAD(tuple)};
	memcpy(c->all[c->n++].tuple, RTA_DATA(tuple), RTA_PAYLOAD(tuple));
}

void nl_conntrack_forget_udp(uint16_t port)
{
	_cleanup_free_ struct connection *all = xcalloc(CONNECTIONS_MAX, sizeof(*all));
	struct connections c = {.port = htons(port), .all = all};
	_cleanup_nl_ struct nl nl = NL_NULL;
	struct nfgenmsg g = {.nfgen_family = AF_UNSPEC};
	struct request q;

	if (netfilter_open(&nl) < 0)
		return;
	begin(&q, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	append(&q, &g, sizeof(g));
	if (talk(&nl, &q, on_connection, &c) < 0)
		return;
	for (unsigned i = 0; i < c.n; i++) {
		g.nfgen_family = all[i].family;
		begin(&q, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, NLM_F_ACK);
		append(&q, &g, sizeof(g));
		put(&q, CTA_TUPLE_ORIG | NLA_F_NESTED, all[i].tuple, all[i].len);
		talk(&nl, &q, NULL, NULL);
	}
}
