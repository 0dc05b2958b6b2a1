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

static void on_index(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = NLMSG_DATA(h);

	if (h->nlmsg_type == RTM_NEWLINK && h->nlmsg_len >= NLMSG_LENGTH(sizeof(*i)))
		*(int *)arg = i->ifi_index;
}

int nl_index(struct nl *nl, const char *name)
{
	struct ifinfomsg i = {.ifi_family = AF_UNSPEC};
	struct request q;
	int index = -ENODEV, r;

	if (strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	begin(&q, RTM_GETLINK, NLM_F_ACK);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	r = talk(nl, &q, on_index, &index);
	return r < 0 ? r : index;
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

int nl_add_bridge(struct nl *nl, const char *name, uint32_t mtu, struct err *e)
{
	struct ifinfomsg i = {0};
	struct rtattr *info;
	struct request q;
	int r;

	begin(&q, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	if (mtu)
		put_u32(&q, IFLA_MTU, mtu);
	info = nest(&q, IFLA_LINKINFO);
	put_str(&q, IFLA_INFO_KIND, "bridge");
	nest_end(&q, info);
	r = talk(nl, &q, NULL, NULL);
	return r < 0 ? err_errno(e, r, "make the bridge %s", name) : 0;
}

int nl_add_veth(struct nl *nl, const char *name, const char *peer, int peer_netns_fd, uint32_t mtu,
		struct err *e)
{
	struct ifinfomsg i = {0};
	struct rtattr *info, *data, *other;
	struct request q;
	int r;

	begin(&q, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	append(&q, &i, sizeof(i));
	put_str(&q, IFLA_IFNAME, name);
	if (mtu)
		put_u32(&q, IFLA_MTU, mtu);
	info = nest(&q, IFLA_LINKINFO);
	put_str(&q, IFLA_INFO_KIND, "veth");
	data = nest(&q, IFLA_INFO_DATA);
	other = nest(&q, VETH_INFO_PEER);
	append(&q, &i, sizeof(i));
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

int nl_set_master(struct nl *nl, int index, int master, bool hairpin, struct err *e)
{
	struct ifinfomsg i = {.ifi_index = index};
	struct rtattr *protinfo;
	struct request q;
	uint8_t on = 1;
	int r;

	begin(&q, RTM_NEWLINK, NLM_F_ACK);
	append(&q, &i, sizeof(i));
	put_u32(&q, IFLA_MASTER, (uint32_t)master);
	r = talk(nl, &q, NULL, NULL);
	if (r == 0 && hairpin) {
		begin(&q, RTM_SETLINK, NLM_F_ACK);
		i.ifi_family = AF_BRIDGE;
		append(&q, &i, sizeof(i));
		protinfo = nest(&q, IFLA_PROTINFO | NLA_F_NESTED);
		put(&q, IFLA_BRPORT_MODE, &on, sizeof(on));
		nest_end(&q, protinfo);
		r = talk(nl, &q, NULL, NULL);
	}
	return r < 0 ? err_errno(e, r, "join interface %d to its bridge", index) : 0;
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

struct links {
	struct nl_link *to;
	unsigned n, max;
};

static void on_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *i = NLMSG_DATA(h);
	struct links *all = arg;
	struct nl_link *l;
	struct rtattr *a;
	int left;

	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(*i)) ||
	    all->n == all->max)
		return;
	l = &all->to[all->n++];
	*l = (struct nl_link){.index = i->ifi_index, .up = i->ifi_flags & IFF_UP};
	left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*i)));
	for (a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		struct rtnl_link_stats64 s = {0};

		if (a->rta_type == IFLA_IFNAME && RTA_PAYLOAD(a) <= sizeof(l->name))
			snprintf(l->name, sizeof(l->name), "%.*s", (int)RTA_PAYLOAD(a),
				 (char *)RTA_DATA(a));
		else if (a->rta_type == IFLA_MTU && RTA_PAYLOAD(a) == 4)
			memcpy(&l->mtu, RTA_DATA(a), 4);
		if (a->rta_type != IFLA_STATS64)
			continue;
		memcpy(&s, RTA_DATA(a), MIN(RTA_PAYLOAD(a), sizeof(s)));
		l->rx_bytes = s.rx_bytes;
		l->rx_errors = s.rx_errors;
		l->tx_bytes = s.tx_bytes;
		l->tx_errors = s.tx_errors;
	}
}

int nl_links(struct nl *nl, struct nl_link *links, unsigned max, struct err *e)
{
	struct links all = {.to = links, .max = max};
	struct ifinfomsg i = {0};
	struct request q;
	int r;

	begin(&q, RTM_GETLINK, NLM_F_DUMP);
	append(&q, &i, sizeof(i));
	r = talk(nl, &q, on_link, &all);
	return r < 0 ? err_errno(e, r, "list the interfaces") : (int)all.n;
}
