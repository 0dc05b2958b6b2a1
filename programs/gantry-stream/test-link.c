/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of what goes to the client. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/test.h"
#include "link.h"

static struct loop *loop;
static unsigned rooms;

static void on_data(struct link *l, uint8_t *p, size_t n)
{
}

static void on_room(struct link *l)
{
	rooms++;
	loop_stop(loop, 1);
}

static void on_gone(struct link *l, int reason)
{
	loop_stop(loop, 2);
}

static void on_timer(struct loop_timer *t)
{
	loop_stop(loop, 3);
}

/* Runs for a moment, or until there is room. */
static int turn(void)
{
	struct loop_timer t = {0};
	int r;

	loop_timer_set(loop, &t, clock_mono_us() + 50000, on_timer);
	r = loop_run(loop);
	loop_timer_clear(&t);
	return r;
}

static void take_all(int fd)
{
	static uint8_t buf[65536];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

/* Whoever needs more room than there is hears of it, also where there is a little. */
static void test_little_room(void)
{
	static const uint8_t block[LINK_OUT_MAX];
	struct link l = {.on_data = on_data, .on_room = on_room, .on_gone = on_gone};
	int fds[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	CHECK_INT(link_open(&l, loop, fds[0], NULL), 0);
	for (int i = 0; i < 100 && link_room(&l) == LINK_OUT_MAX; i++) { /* what the kernel takes */
		link_put(&l, block, sizeof(block));
		turn();
	}
	CHECK(link_room(&l) < LINK_OUT_MAX);
	link_put(&l, block, link_room(&l) - 10);
	rooms = 0;
	CHECK_INT(link_room(&l), 10);
	CHECK_INT(turn(), 3);
	CHECK_INT(rooms, 0);
	for (int i = 0; i < 100 && !rooms; i++) {
		take_all(fds[1]);
		turn();
	}
	CHECK_INT(rooms, 1);
	CHECK(link_room(&l) >= LINK_OUT_MAX / 2);
	link_close(&l);
	close(fds[1]);
}

int main(void)
{
	CHECK_INT(loop_new(&loop), 0);
	TEST(little_room);
	loop_free(loop);
	return test_done();
}
