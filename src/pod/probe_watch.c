/* SPDX-License-Identifier: Apache-2.0 */
/* Watching runtimes' programs: see probe_watch.h. */
#include "pod/probe_watch.h"

#include <sys/epoll.h>
#include <sys/inotify.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pod/node.h"

#define CHECK_PERIOD (60 * USEC_PER_SEC)
#define SETTLE (200 * USEC_PER_MS) /* a package manager is still at it */
#define READS_MAX 16		   /* of a turn of the loop */

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_of_runtime(const struct node *n, const char *name)
{
	for (size_t i = 0; i < n->n_runtimes; i++)
		if (streq(name, base_of(n->runtimes[i]->config->path)))
			return true;
	return false;
}

static void on_timer(struct loop_timer *t)
{
	struct node *n = container_of(t, struct node, watch.timer);
	bool busy = n->probing > 0; /* and may have seen the old program */

	if (n->draining)
		return;
	n->watch.pending = false;
	if (!busy)
		node_probe_check(n);
	loop_timer_set(n->loop, t, clock_mono_us() + (busy ? SETTLE : CHECK_PERIOD), on_timer);
}

static void changed(struct node *n)
{
	if (n->watch.pending)
		return;
	n->watch.pending = true;
	loop_timer_set(n->loop, &n->watch.timer, clock_mono_us() + SETTLE, on_timer);
}

/* Events are of variable length, and whole (inotify(7)). */
static void take_events(struct node *n, const char *buf, size_t len)
{
	while (len >= sizeof(struct inotify_event)) {
		struct inotify_event ev;
		size_t size;

		memcpy(&ev, buf, sizeof(ev));
		size = sizeof(ev) + ev.len;
		if (size > len)
			return;
		if (ev.mask & IN_Q_OVERFLOW || (ev.len && is_of_runtime(n, buf + sizeof(ev))))
			changed(n);
		buf += size;
		len -= size;
	}
}

static void on_readable(struct loop_io *io, uint32_t events)
{
	struct node *n = container_of(io, struct node, watch.io);
	char buf[4096];
	ssize_t got;

	(void)events;
	for (int i = 0; i < READS_MAX; i++) {
		got = read(io->fd, buf, sizeof(buf));
		if (got <= 0)
			return;
		take_events(n, buf, (size_t)got);
	}
}

static void begin(struct node *n)
{
	n->watch.begun = true;
	n->watch.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (n->watch.fd < 0)
		log_warn("programs of runtimes are looked at every minute only: %s",
			 strerror(errno));
	else
		loop_io_add(n->loop, &n->watch.io, n->watch.fd, EPOLLIN, on_readable);
	loop_timer_set(n->loop, &n->watch.timer, clock_mono_us() + CHECK_PERIOD, on_timer);
}

void probe_watch(struct node *n)
{
	if (!n->watch.begun)
		begin(n);
	for (size_t i = 0; n->watch.fd >= 0 && i < n->n_runtimes; i++) {
		const char *path = str_or_empty(n->runtimes[i]->path);
		_cleanup_free_ char *dir = xstrndup(path, (size_t)(base_of(path) - path));

		/* The same directory again changes nothing; one that is gone is looked at by time. */
		if (*dir)
			inotify_add_watch(n->watch.fd, dir,
					  IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
						  IN_ATTRIB);
	}
}

void probe_watch_end(struct node *n)
{
	if (!n->watch.begun)
		return;
	loop_timer_clear(&n->watch.timer);
	if (n->watch.fd >= 0)
		loop_io_del(&n->watch.io);
	n->watch.fd = fd_close(n->watch.fd);
	n->watch.begun = false;
}
