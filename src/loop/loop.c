/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: see loop.h.
 *
 * epoll's user data is (slot, generation) in a table of sources, so that an event that was
 * fetched before its source was removed (or its struct freed) finds nothing.  Timers are a
 * binary heap; the epoll timeout is the next one's (epoll_pwait2 is newer than what we run
 * on, milliseconds rounded up are good enough).
 */
#include "loop/loop.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "base/mem.h"

#define LOOP_EVENTS_PER_TURN 16 /* a noisy source cannot starve the others: level-triggered */
#define EVENTS_BUDGET (10 * USEC_PER_MS)  /* of a turn; the next one begins with the others */
#define DEFERRED_BUDGET (5 * USEC_PER_MS) /* of a turn; then timers and sources have their turn */
#define LOOP_SIGNALS_MAX 65
#define QUEUED_STALE (10 * USEC_PER_MS) /* so much the watchdog may find a turn too short */

struct loop_slot {
	struct loop_io *io;
	uint32_t gen;
	uint32_t next_free;
};

struct loop {
	int epfd;
	int sigfd;
	struct loop_io sig_io;
	sigset_t sigs;
	struct {
		loop_signal_fn *fn;
		void *arg;
	} signals[LOOP_SIGNALS_MAX];
	struct loop_slot *slots;
	uint32_t n_slots, free_slot; /* free_slot: index + 1, 0 none */
	struct loop_timer **heap;
	size_t n_heap, cap_heap;
	struct list deferred;
	int first; /* of the events of a turn, is where the last one stopped */
	bool stopped;
	int value;
	uint64_t limit_us;
	loop_watchdog_fn *watchdog;
	const char *note;
	int sched_fd; /* this thread's schedstat, -EBADF: not watched, or the kernel has none */
	struct histogram turns;
	uint64_t queued_us, queued_read_us; /* as it was read last, and when */
};

int loop_new(struct loop **ret)
{
	struct loop *l = xcalloc(1, sizeof(*l));

	l->sigfd = l->sched_fd = -EBADF;
	list_init(&l->deferred);
	sigemptyset(&l->sigs);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		int r = -errno;

		free(l);
		return r;
	}
	*ret = l;
	return 0;
}

struct loop *loop_free(struct loop *l)
{
	if (!l)
		return NULL;
	loop_io_del(&l->sig_io);
	fd_close(l->sched_fd);
	fd_close(l->sigfd);
	fd_close(l->epfd);
	free(l->slots);
	free(l->heap);
	free(l);
	return NULL;
}

static uint32_t slot_get(struct loop *l)
{
	uint32_t i;

	if (!l->free_slot) {
		uint32_t n = l->n_slots ? l->n_slots * 2 : 16;

		l->slots = xrealloc(l->slots, n * sizeof(*l->slots));
		for (i = n; i-- > l->n_slots;) {
			l->slots[i] = (struct loop_slot){NULL, 1, l->free_slot};
			l->free_slot = i + 1;
		}
		l->n_slots = n;
	}
	i = l->free_slot - 1;
	l->free_slot = l->slots[i].next_free;
	return i;
}

int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn)
{
	struct epoll_event ev = {.events = events};

	io->slot = slot_get(l);
	io->gen = l->slots[io->slot].gen;
	ev.data.u64 = (uint64_t)io->gen << 32 | io->slot;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		l->slots[io->slot].next_free = l->free_slot;
		l->free_slot = io->slot + 1;
		return -errno;
	}
	l->slots[io->slot].io = io;
	io->loop = l;
	io->fn = fn;
	io->fd = fd;
	io->events = events;
	return 0;
}

int loop_io_mod(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = {.events = events};

	if (!io->loop || io->events == events)
		return 0;
	ev.data.u64 = (uint64_t)io->gen << 32 | io->slot;
	if (epoll_ctl(io->loop->epfd, EPOLL_CTL_MOD, io->fd, &ev) < 0)
		return -errno;
	io->events = events;
	return 0;
}

void loop_io_del(struct loop_io *io)
{
	struct loop *l = io->loop;
	struct loop_slot *s;

	if (!l)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, io->fd, NULL);
	s = &l->slots[io->slot];
	s->io = NULL;
	s->gen++;
	s->next_free = l->free_slot;
	l->free_slot = io->slot + 1;
	io->loop = NULL;
}

static void heap_place(struct loop *l, size_t i, struct loop_timer *t)
{
	l->heap[i] = t;
	t->index = i;
}

static void heap_up(struct loop *l, size_t i)
{
	struct loop_timer *t = l->heap[i];

	while (i > 0 && l->heap[(i - 1) / 2]->when > t->when) {
		heap_place(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_place(l, i, t);
}

static void heap_down(struct loop *l, size_t i)
{
	struct loop_timer *t = l->heap[i];

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= l->n_heap)
			break;
		if (c + 1 < l->n_heap && l->heap[c + 1]->when < l->heap[c]->when)
			c++;
		if (l->heap[c]->when >= t->when)
			break;
		heap_place(l, i, l->heap[c]);
		i = c;
	}
	heap_place(l, i, t);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t when, loop_timer_fn *fn)
{
	loop_timer_clear(t);
	if (l->n_heap == l->cap_heap) {
		l->cap_heap = l->cap_heap ? l->cap_heap * 2 : 16;
		l->heap = xrealloc(l->heap, l->cap_heap * sizeof(*l->heap));
	}
	t->loop = l;
	t->fn = fn;
	t->when = when;
	heap_place(l, l->n_heap++, t);
	heap_up(l, t->index);
}

void loop_timer_clear(struct loop_timer *t)
{
	struct loop *l = t->loop;
	size_t i = t->index;

	if (!l)
		return;
	t->loop = NULL;
	if (i == --l->n_heap)
		return;
	heap_place(l, i, l->heap[l->n_heap]);
	heap_up(l, i);
	heap_down(l, l->heap[i]->index);
}

static void on_child(struct loop_io *io, uint32_t events)
{
	struct loop_child *c = container_of(io, struct loop_child, io);
	siginfo_t si = {0};
	int status;

	(void)events;
	if (waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG) < 0)
		status = 255; /* reaped elsewhere: a bug, but the owner must not wait for ever */
	else if (si.si_pid == 0)
		return;
	else
		status = si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
	loop_child_del(c);
	c->fn(c, status);
}

int loop_child_add(struct loop *l, struct loop_child *c, pid_t pid, int pidfd, loop_child_fn *fn)
{
	int r = loop_io_add(l, &c->io, pidfd, EPOLLIN, on_child);

	if (r < 0)
		return r;
	c->pid = pid;
	c->pidfd = pidfd;
	c->fn = fn;
	return 0;
}

void loop_child_del(struct loop_child *c)
{
	if (!c->io.loop)
		return;
	loop_io_del(&c->io);
	c->pidfd = fd_close(c->pidfd);
}

static void on_signal(struct loop_io *io, uint32_t events)
{
	struct loop *l = container_of(io, struct loop, sig_io);
	struct signalfd_siginfo si;

	(void)events;
	while (read(io->fd, &si, sizeof(si)) == sizeof(si))
		if (si.ssi_signo < LOOP_SIGNALS_MAX && l->signals[si.ssi_signo].fn)
			l->signals[si.ssi_signo].fn(l, (int)si.ssi_signo,
						    l->signals[si.ssi_signo].arg);
}

int loop_signal_add(struct loop *l, int signo, loop_signal_fn *fn, void *arg)
{
	int fd;

	l->signals[signo].fn = fn;
	l->signals[signo].arg = arg;
	sigaddset(&l->sigs, signo);
	if (sigprocmask(SIG_BLOCK, &l->sigs, NULL) < 0)
		return -errno;
	fd = signalfd(l->sigfd >= 0 ? l->sigfd : -1, &l->sigs, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (l->sigfd >= 0)
		return 0;
	l->sigfd = fd;
	return loop_io_add(l, &l->sig_io, fd, EPOLLIN, on_signal);
}

void loop_defer(struct loop *l, struct loop_defer *d, loop_defer_fn *fn)
{
	d->fn = fn;
	if (!list_linked(&d->link))
		list_append(&l->deferred, &d->link);
}

void loop_defer_cancel(struct loop_defer *d)
{
	list_remove(&d->link);
}

static void run_deferred(struct loop *l)
{
	uint64_t until;

	if (list_empty(&l->deferred))
		return;
	until = clock_mono_us() + DEFERRED_BUDGET;
	/* What a deferred call defers runs in this turn too, unless the budget is spent. */
	do {
		struct loop_defer *d = list_first(&l->deferred, struct loop_defer, link);

		list_remove(&d->link);
		d->fn(d);
	} while (!list_empty(&l->deferred) && (l->stopped || clock_mono_us() < until));
}

static void run_timers(struct loop *l)
{
	uint64_t now = clock_mono_us();

	while (l->n_heap && l->heap[0]->when <= now) {
		struct loop_timer *t = l->heap[0];

		loop_timer_clear(t);
		t->fn(t);
	}
}

static int wait_ms(struct loop *l, uint64_t timeout_us)
{
	uint64_t now, left = timeout_us;

	if (!list_empty(&l->deferred))
		return 0;
	if (l->n_heap) {
		now = clock_mono_us();
		left = MIN(left, l->heap[0]->when > now ? l->heap[0]->when - now : 0);
	}
	if (left == USEC_FOREVER)
		return -1;
	return (int)MIN((left + USEC_PER_MS - 1) / USEC_PER_MS, (uint64_t)3600000);
}

/* How long this thread has been ready to run without a processor, in all its life. */
static uint64_t queued_us(const struct loop *l)
{
	unsigned long long ran_ns, queued_ns;
	char buf[80];
	ssize_t n = l->sched_fd < 0 ? -1 : pread(l->sched_fd, buf, sizeof(buf) - 1, 0);

	if (n <= 0)
		return 0;
	buf[n] = '\0';
	return sscanf(buf, "%llu %llu", &ran_ns, &queued_ns) == 2 ? queued_ns / 1000 : 0;
}

static uint64_t turn_begins(struct loop *l)
{
	uint64_t now = clock_mono_us();

	l->note = "";
	if (now - l->queued_read_us > QUEUED_STALE) { /* a read costs 1 us */
		l->queued_us = queued_us(l);
		l->queued_read_us = now;
	}
	return now;
}

static void turn_ends(struct loop *l, uint64_t start)
{
	uint64_t took = clock_mono_us() - start, queued;

	histogram_add(&l->turns, took);
	if (took <= l->limit_us)
		return;
	queued = queued_us(l) - l->queued_us;
	took -= MIN(took, queued);
	if (took > l->limit_us)
		l->watchdog(l, took, l->note);
}

static void run_event(struct loop *l, const struct epoll_event *ev)
{
	uint32_t slot = (uint32_t)ev->data.u64, gen = (uint32_t)(ev->data.u64 >> 32);
	struct loop_io *io = l->slots[slot].io;

	if (io && l->slots[slot].gen == gen)
		io->fn(io, ev->events);
}

static void run_events(struct loop *l, const struct epoll_event *ev, int n)
{
	uint64_t until = n > 1 ? clock_mono_us() + EVENTS_BUDGET : 0;
	int first = l->first;

	l->first = 0;
	for (int i = 0; i < n; i++) {
		int at = (first + i) % n;

		if (i && clock_mono_us() > until) {
			l->first = at;
			break;
		}
		run_event(l, ev + at);
	}
}

int loop_turn(struct loop *l, uint64_t timeout_us)
{
	struct epoll_event ev[LOOP_EVENTS_PER_TURN];
	int n = epoll_wait(l->epfd, ev, LOOP_EVENTS_PER_TURN, wait_ms(l, timeout_us));
	uint64_t start = 0;

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (l->limit_us)
		start = turn_begins(l);
	run_timers(l);
	run_events(l, ev, n);
	run_deferred(l);
	if (l->limit_us)
		turn_ends(l, start);
	return 0;
}

int loop_run(struct loop *l)
{
	while (!l->stopped) {
		int r = loop_turn(l, USEC_FOREVER);

		if (r < 0)
			return r;
	}
	l->stopped = false;
	return l->value;
}

void loop_stop(struct loop *l, int value)
{
	l->stopped = true;
	l->value = value;
}

void loop_watchdog(struct loop *l, uint64_t limit_us, loop_watchdog_fn *fn)
{
	l->limit_us = limit_us;
	l->watchdog = fn;
	l->sched_fd = fd_close(l->sched_fd);
	if (limit_us)
		l->sched_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

const struct histogram *loop_turns(const struct loop *l)
{
	return &l->turns;
}

void loop_note(struct loop *l, const char *what)
{
	l->note = what;
}
