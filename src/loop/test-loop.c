/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/test.h"
#include "loop/co.h"

static struct loop *l;
static char trace[256];

static void say(const char *s)
{
	strcat(trace, s);
}

static void on_timer(struct loop_timer *t)
{
	say("t");
	loop_stop(l, 7);
}

static void test_timers(void)
{
	struct loop_timer t[50] = {0};
	uint64_t now = clock_mono_us();

	for (int i = 0; i < 50; i++)
		loop_timer_set(l, &t[i], now + (uint64_t)((i * 37) % 50) * 1000 + 1000, on_timer);
	for (int i = 1; i < 50; i++)
		loop_timer_clear(&t[i]);
	CHECK_INT(loop_run(l), 7);
	CHECK_STR(trace, "t");
	trace[0] = '\0';
}

static void test_stopped_before(void)
{
	loop_stop(l, 3);
	CHECK_INT(loop_run(l), 3);
}

static void on_exit_of(struct loop_child *c, int status)
{
	loop_stop(l, status);
}

static void test_child(void)
{
	const char *argv[] = {"sh", "-c", "exit 5", NULL};
	struct loop_child c = {0};
	struct spawn s = SPAWN_INIT;
	int pidfd;
	pid_t pid;

	s.file = "/bin/sh";
	s.argv = argv;
	CHECK_INT(spawn_start(&s, &pid, &pidfd, NULL), 0);
	CHECK_INT(loop_child_add(l, &c, pid, pidfd, on_exit_of), 0);
	CHECK_INT(loop_run(l), 5);
}

static struct co_event ev;
static struct co_lock lock;
static int running;

static void leave(void)
{
	if (--running == 0)
		loop_stop(l, 0);
}

static void worker(void *arg)
{
	CHECK_INT(co_lock(&lock), 0);
	say(arg);
	CHECK_INT(co_sleep(1000), 0);
	say(arg);
	co_unlock(&lock);
	CHECK_INT(co_event_wait(&ev, USEC_FOREVER), 0);
	leave();
}

static void setter(void *arg)
{
	CHECK_INT(co_event_wait(&ev, clock_mono_us() + 20000), -ETIMEDOUT);
	co_event_set(&ev);
	leave();
}

static void test_co(void)
{
	co_event_init(&ev);
	co_lock_init(&lock);
	running = 4;
	co_start(l, worker, (char[]){"a"});
	co_start(l, worker, (char[]){"b"});
	co_start(l, worker, (char[]){"c"});
	co_start(l, setter, NULL);
	CHECK_INT(loop_run(l), 0);
	CHECK_STR(trace, "aabbcc");
}

static void sleeper(void *arg)
{
	CHECK_INT(co_sleep(60 * USEC_PER_SEC), -ETIMEDOUT);
	CHECK_INT(co_sleep(60 * USEC_PER_SEC), -ETIMEDOUT); /* stays cancelled */
	co_shield(true);
	CHECK_INT(co_sleep(1000), 0); /* undoing may wait */
	co_shield(false);
	CHECK_INT(co_cancelled(), -ETIMEDOUT);
	leave();
}

static void nothing(void *arg)
{
}

static void test_cancel(void)
{
	struct co *c;

	running = 1;
	c = co_start(l, sleeper, NULL);
	co_cancel(c, -ETIMEDOUT);
	co_cancel(c, -ECANCELED);
	CHECK_INT(loop_run(l), 0);
	CHECK(co_start(l, nothing, NULL) == NULL);
	for (int i = 0; i < 10000; i++)
		co_start(l, nothing, NULL);
}

static void waiter_for_lock(void *arg)
{
	CHECK_INT(co_lock(&lock), -ECANCELED);
	leave();
}

static void holder(void *arg)
{
	struct co *c;

	CHECK_INT(co_lock(&lock), 0);
	c = co_start(l, waiter_for_lock, NULL);
	co_cancel(c, -ECANCELED);
	CHECK_INT(co_sleep(1000), 0);
	co_unlock(&lock);
	CHECK(!co_lock_busy(&lock));
	leave();
}

static void test_cancelled_lock(void)
{
	running = 2;
	co_start(l, holder, NULL);
	CHECK_INT(loop_run(l), 0);
}

static uint64_t slow_us;

static void on_slow(struct loop *of, uint64_t took_us, const char *what)
{
	CHECK_STR(what, "nap");
	slow_us = took_us;
}

static void napper(void *arg)
{
	loop_note(l, "nap");
	CHECK_INT(co_sleep(1000), 0);
	loop_note(l, "nap");
	usleep(30000); /* what nobody may do */
	leave();
}

static void test_watchdog(void)
{
	running = 1;
	loop_watchdog(l, 20000, on_slow);
	co_start(l, napper, NULL);
	CHECK_INT(loop_run(l), 0);
	CHECK(slow_us > 20000);
	loop_watchdog(l, 0, NULL);
}

static void short_napper(void *arg)
{
	CHECK_INT(co_sleep(1000), 0);
	loop_note(l, "nap");
	usleep(4000);
	leave();
}

static int left_at_timer;

static void on_timer_between(struct loop_timer *t)
{
	left_at_timer = running;
}

/* 40 that are ready at once and take 160 ms together: no turn takes so long, and a timer that is
 * due meanwhile does not wait for all of them. */
static void test_turns_are_bounded(void)
{
	struct loop_timer timer = {0};

	running = 40;
	slow_us = 0;
	left_at_timer = 0;
	loop_watchdog(l, 50000, on_slow);
	for (int i = 0; i < 40; i++)
		co_start(l, short_napper, NULL);
	loop_timer_set(l, &timer, clock_mono_us() + 10000, on_timer_between);
	CHECK_INT(loop_run(l), 0);
	CHECK_INT(slow_us, 0);
	CHECK(left_at_timer > 0);
	loop_watchdog(l, 0, NULL);
}

#define SOURCES 15 /* fewer than are looked at in one turn */

static struct source {
	struct loop_io io;
	unsigned n;
} sources[SOURCES];

static void on_ready(struct loop_io *io, uint32_t events)
{
	struct source *s = container_of(io, struct source, io);

	loop_note(l, "nap");
	usleep(6000);
	s->n++;
	for (int i = 0; i < SOURCES; i++)
		if (sources[i].n < 3)
			return;
	loop_stop(l, 0);
}

/* Sources that are always ready, and take 90 ms together: no turn takes so long, and each of them
 * has its turn. */
static void test_events_are_bounded(void)
{
	int p[2];

	CHECK_INT(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_INT(write(p[1], "x", 1), 1);
	slow_us = 0;
	loop_watchdog(l, 50000, on_slow);
	for (int i = 0; i < SOURCES; i++)
		CHECK_INT(loop_io_add(l, &sources[i].io, fcntl(p[0], F_DUPFD_CLOEXEC, 3), EPOLLIN,
				      on_ready),
			  0);
	CHECK_INT(loop_run(l), 0);
	CHECK_INT(slow_us, 0);
	for (int i = 0; i < SOURCES; i++) {
		int fd = sources[i].io.fd;

		CHECK(sources[i].n <= 5);
		loop_io_del(&sources[i].io);
		close(fd);
	}
	loop_watchdog(l, 0, NULL);
	close(p[0]);
	close(p[1]);
}

/* Computes for 25 ms. */
static void burner(void *arg)
{
	struct timespec start, now;

	CHECK_INT(co_sleep(1000), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	while ((now.tv_sec - start.tv_sec) * NSEC_PER_SEC + now.tv_nsec - start.tv_nsec < 25000000);
	leave();
}

/* Two more that compute on our processor: each of us gets a third of it. */
static void test_watchdog_busy(void)
{
	cpu_set_t had, one;
	pid_t hogs[2];

	CHECK_INT(sched_getaffinity(0, sizeof(had), &had), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &had))
			CPU_SET(cpu, &one);
	CHECK_INT(sched_setaffinity(0, sizeof(one), &one), 0);
	for (int i = 0; i < 2; i++) {
		hogs[i] = fork();
		if (hogs[i] == 0)
			prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (hogs[i] == 0)
			;
	}
	loop_watchdog(l, 50000, on_slow);
	slow_us = 0;
	for (int i = 0; i < 5; i++) {
		running = 1;
		co_start(l, burner, NULL);
		CHECK_INT(loop_run(l), 0);
	}
	CHECK_INT(slow_us, 0);
	loop_watchdog(l, 0, NULL);
	for (int i = 0; i < 2; i++) {
		kill(hogs[i], SIGKILL);
		waitpid(hogs[i], NULL, 0);
	}
	CHECK_INT(sched_setaffinity(0, sizeof(had), &had), 0);
}

int main(void)
{
	CHECK_INT(loop_new(&l), 0);
	TEST(timers);
	TEST(stopped_before);
	TEST(child);
	TEST(co);
	TEST(cancel);
	TEST(cancelled_lock);
	TEST(watchdog);
	TEST(turns_are_bounded);
	TEST(events_are_bounded);
	TEST(watchdog_busy);
	loop_free(l);
	co_pool_free();
	return test_done();
}
