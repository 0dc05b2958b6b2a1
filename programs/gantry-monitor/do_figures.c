/* SPDX-License-Identifier: Apache-2.0 */
/* In jobs: what the kernel counts of the pod's interfaces and containers. */
#include <sched.h>

#include "base/mem.h"
#include "mon.h"
#include "sys/figures.h"
#include "sys/netlink.h"

static void begin_nested(struct ipc_out *o)
{
	ipc_out_init(o, 0, 0);
}

/* --- interfaces --- */

static void put_link(struct ipc_out *reply, const struct nl_link *l)
{
	struct ipc_out o;

	begin_nested(&o);
	ipc_put_str(&o, MON_TAG_NET_NAME, l->name);
	ipc_put_u64(&o, MON_TAG_NET_RX_BYTES, l->rx_bytes);
	ipc_put_u64(&o, MON_TAG_NET_RX_ERRORS, l->rx_errors);
	ipc_put_u64(&o, MON_TAG_NET_TX_BYTES, l->tx_bytes);
	ipc_put_u64(&o, MON_TAG_NET_TX_ERRORS, l->tx_errors);
	ipc_put_u64(&o, MON_TAG_NET_RX_PACKETS, l->rx_packets);
	ipc_put_u64(&o, MON_TAG_NET_RX_DROPPED, l->rx_dropped);
	ipc_put_u64(&o, MON_TAG_NET_TX_PACKETS, l->tx_packets);
	ipc_put_u64(&o, MON_TAG_NET_TX_DROPPED, l->tx_dropped);
	ipc_put_nested(reply, MON_TAG_NET_IF, &o);
}

int do_net_stats(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	struct nl_link links[NL_LINKS_MAX];
	int n;

	if (j->mon->netns_fd >= 0 && setns(j->mon->netns_fd, CLONE_NEWNET) < 0)
		return err_errno(e, -errno, "enter the pod's network namespace");
	n = nl_open(&nl, e);
	if (n == 0)
		n = nl_links(&nl, links, NL_LINKS_MAX, e);
	for (int i = 0; i < n; i++)
		if (!streq(links[i].name, "lo"))
			put_link(reply, &links[i]);
	return n < 0 ? n : 0;
}

/* --- containers --- */

static void put_figure(void *arg, enum figure what, const char *labels, uint64_t value)
{
	struct ipc_out o;

	begin_nested(&o);
	ipc_put_u64(&o, MON_TAG_FIGURE_WHAT, what);
	if (*labels)
		ipc_put_str(&o, MON_TAG_FIGURE_LABELS, labels);
	ipc_put_u64(&o, MON_TAG_FIGURE_VALUE, value);
	ipc_put_nested(arg, MON_TAG_FIGURE, &o);
}

static void put_container(struct ipc_out *reply, const struct monitor *m, const struct container *c)
{
	const char *dir = ipc_get_str(&c->create, MON_TAG_WRITABLE);
	struct ipc_out o;

	begin_nested(&o);
	ipc_put_str(&o, MON_TAG_ID, c->id);
	figures_of_cgroup(&m->cgroup, c->cgroup, put_figure, &o);
	figures_of_processes(&m->cgroup, c->cgroup, c->pid, put_figure, &o);
	if (dir)
		figures_of_fs(dir, put_figure, &o);
	ipc_put_nested(reply, MON_TAG_CONTAINER, &o);
}

/* Interfaces last: the job is in the pod's network then. */
int do_figures(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	const struct container *c;

	list_for_each (c, &j->mon->containers, link)
		if (c->state == MON_RUNNING)
			put_container(reply, j->mon, c);
	return j->mon->netns_fd >= 0 ? do_net_stats(j, reply, e) : 0;
}
