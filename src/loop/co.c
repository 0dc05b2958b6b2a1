/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines on ucontext(3): see co.h.
 *
 * Stacks are mapped with a guard page below and pooled; only pages that were touched are
 * resident.  AddressSanitizer is told of every switch, LeakSanitizer of every stack in use.
 */
#include "loop/co.h"

#include <assert.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/clock.h"
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#endif

#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define CO_STACK (1024 * 1024)
#else
#define CO_STACK (256 * 1024)
#endif
#define CO_GUARD 4096
#define CO_POOL_MAX 32 /* stacks kept for reuse */
#define CO_POOL_WARM 4 /* of which so many keep their pages */

struct co {
	ucontext_t ctx;
	ucontext_t *back; /* who resumed us */
	void *stack;	  /* mapping, guard included */
	struct loop *loop;
	co_fn *fn;
	void *arg;
	struct loop_defer wake;
	int cancelled;
	int shield;
	bool running, done, waiting;
	struct co *parent; /* the coroutine that was running when we were resumed */
#ifdef CO_ASAN
	void *fake, *back_fake;
	const void *back_bottom;
	size_t back_size;
#endif
};

static struct co *current;
static void *pool[CO_POOL_MAX];
static unsigned n_pool;

static void *stack_map(void)
{
	char *p = mmap(NULL, CO_GUARD + CO_STACK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (p == MAP_FAILED || mprotect(p, CO_GUARD, PROT_NONE) < 0)
		abort();
	return p;
}

static void *stack_get(void)
{
	char *stack = n_pool ? pool[--n_pool] : stack_map();

#ifdef CO_ASAN
	__lsan_register_root_region(stack + CO_GUARD, CO_STACK);
#endif
	return stack;
}

static void stack_put(void *stack)
{
#ifdef CO_ASAN
	__lsan_unregister_root_region((char *)stack + CO_GUARD, CO_STACK);
#endif
	if (n_pool == CO_POOL_MAX) {
		munmap(stack, CO_GUARD + CO_STACK);
		return;
	}
	if (n_pool >= CO_POOL_WARM)
		madvise((char *)stack + CO_GUARD, CO_STACK, MADV_DONTNEED);
	pool[n_pool++] = stack;
}

void co_pool_free(void)
{
	while (n_pool)
		munmap(pool[--n_pool], CO_GUARD + CO_STACK);
}

/* Leaves the coroutine; comes back when it is resumed. */
static void switch_out(struct co *c)
{
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(c->done ? NULL : &c->fake, c->back_bottom, c->back_size);
#endif
	swapcontext(&c->ctx, c->back);
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(c->fake, &c->back_bottom, &c->back_size);
#endif
}

static void trampoline(unsigned hi, unsigned lo)
{
	struct co *c = (struct co *)((uintptr_t)hi << 32 | (uintptr_t)lo);

#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(NULL, &c->back_bottom, &c->back_size);
#endif
	c->fn(c->arg);
	c->done = true;
	switch_out(c);
	abort(); /* a finished coroutine is never resumed */
}

/* Returns true when the coroutine has ended: it is freed then. */
static bool resume(struct co *c)
{
	ucontext_t here;

	assert(!c->running && !c->done);
	c->back = &here;
	c->parent = current;
	c->running = true;
	current = c;
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(&c->back_fake, (char *)c->stack + CO_GUARD, CO_STACK);
#endif
	swapcontext(&here, &c->ctx);
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(c->back_fake, NULL, NULL);
#endif
	current = c->parent;
	c->running = false;
	if (!c->done)
		return false;
	loop_defer_cancel(&c->wake);
	stack_put(c->stack);
	free(c);
	return true;
}

static void on_wake(struct loop_defer *d)
{
	struct co *c = container_of(d, struct co, wake);

	if (c->waiting)
		resume(c);
}

struct co *co_start(struct loop *l, co_fn *fn, void *arg)
{
	struct co *c = xcalloc(1, sizeof(*c));

	c->loop = l;
	c->fn = fn;
	c->arg = arg;
	c->stack = stack_get();
	list_init(&c->wake.link);
	getcontext(&c->ctx);
	c->ctx.uc_stack.ss_sp = (char *)c->stack + CO_GUARD;
	c->ctx.uc_stack.ss_size = CO_STACK;
	c->ctx.uc_link = NULL;
	makecontext(&c->ctx, (void (*)(void))trampoline, 2, (unsigned)((uintptr_t)c >> 32),
		    (unsigned)(uintptr_t)c);
	return resume(c) ? NULL : c;
}

struct co *co_self(void)
{
	return current;
}

struct loop *co_loop(void)
{
	return current->loop;
}

void co_cancel(struct co *c, int errnum)
{
	if (!c->cancelled)
		c->cancelled = errnum;
	co_wake(c);
}

int co_cancelled(void)
{
	return current->cancelled;
}

void co_shield(bool on)
{
	current->shield += on ? 1 : -1;
	assert(current->shield >= 0);
}

static int cancellation(const struct co *c)
{
	return c->shield ? 0 : c->cancelled;
}

int co_wait(void)
{
	struct co *c = current;

	if (cancellation(c))
		return cancellation(c);
	c->waiting = true;
	switch_out(c);
	c->waiting = false;
	return cancellation(c);
}

void co_wake(struct co *c)
{
	if (c->waiting)
		loop_defer(c->loop, &c->wake, on_wake);
}

/* --- waits built on co_wait() --- */

struct waiter {
	struct list link;
	struct co *co;
	struct loop_timer timer;
	bool woken, timed_out;
};

static void on_waiter_timer(struct loop_timer *t)
{
	struct waiter *w = container_of(t, struct waiter, timer);

	w->timed_out = true;
	co_wake(w->co);
}

static void waiter_wake(struct waiter *w)
{
	w->woken = true;
	list_remove(&w->link);
	co_wake(w->co);
}

static int waiter_run(struct waiter *w, uint64_t deadline)
{
	int r = 0;

	if (deadline != USEC_FOREVER)
		loop_timer_set(w->co->loop, &w->timer, deadline, on_waiter_timer);
	while (!w->woken && !w->timed_out && r == 0)
		r = co_wait();
	loop_timer_clear(&w->timer);
	list_remove(&w->link);
	if (w->woken)
		return 0;
	return r ? r : -ETIMEDOUT;
}

int co_sleep(uint64_t us)
{
	struct waiter w = {.co = current};
	int r;

	list_init(&w.link);
	r = waiter_run(&w, clock_mono_us() + us);
	return r == -ETIMEDOUT && w.timed_out ? 0 : r;
}

void co_event_init(struct co_event *ev)
{
	list_init(&ev->waiters);
	ev->set = false;
}

void co_event_set(struct co_event *ev)
{
	struct waiter *w, *tmp;

	ev->set = true;
	list_for_each_safe (w, tmp, &ev->waiters, link)
		waiter_wake(w);
}

void co_event_reset(struct co_event *ev)
{
	ev->set = false;
}

int co_event_wait(struct co_event *ev, uint64_t deadline)
{
	struct waiter w = {.co = current};

	if (ev->set)
		return 0;
	list_append(&ev->waiters, &w.link);
	return waiter_run(&w, deadline);
}

void co_lock_init(struct co_lock *k)
{
	list_init(&k->waiters);
	k->owner = NULL;
}

int co_lock(struct co_lock *k)
{
	struct waiter w = {.co = current};
	int r;

	if (!k->owner && list_empty(&k->waiters)) {
		k->owner = current;
		return 0;
	}
	list_append(&k->waiters, &w.link);
	r = waiter_run(&w, USEC_FOREVER); /* 0: co_unlock() made us the owner */
	return r;
}

void co_unlock(struct co_lock *k)
{
	struct waiter *w;

	assert(k->owner == current);
	k->owner = NULL;
	if (list_empty(&k->waiters))
		return;
	w = list_first(&k->waiters, struct waiter, link);
	k->owner = w->co;
	waiter_wake(w);
}

bool co_lock_busy(const struct co_lock *k)
{
	return k->owner != NULL;
}
