/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills for want of memory, noted when they happen: systemd removes a scope, and with it the
 * count, as soon as its last process has ended.  On v1 the cgroup is there until we remove it,
 * and is asked when the container has ended.
 */
#include <sys/epoll.h>

#include "base/mem.h"
#include "mon.h"

static void look(struct container *c)
{
	uint64_t kills = 0;

	if (c->oom_fd >= 0 && cgroup_read_events(c->oom_fd, &kills) < 0)
		oom_forget(c);
	c->oom = c->oom || kills > 0;
}

static void on_news(struct loop_io *io, uint32_t events)
{
	(void)events;
	look(container_of(io, struct container, oom_io));
}

void oom_watch(struct container *c)
{
	if (!*c->cgroup || c->oom_fd >= 0)
		return;
	c->oom_fd = cgroup_open_events(&c->mon->cgroup, c->cgroup);
	if (c->oom_fd < 0)
		return;
	look(c); /* what is read is no news any more */
	if (c->oom_fd >= 0)
		loop_io_add(c->mon->loop, &c->oom_io, c->oom_fd, EPOLLPRI, on_news);
}

void oom_ended(struct container *c)
{
	look(c);
	if (!c->oom && *c->cgroup)
		c->oom = cgroup_oom_kills(&c->mon->cgroup, c->cgroup) > 0;
	oom_forget(c);
}

void oom_forget(struct container *c)
{
	loop_io_del(&c->oom_io);
	c->oom_fd = fd_close(c->oom_fd);
}
