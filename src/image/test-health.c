/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/test.h"
#include "image/health.h"
#include "ipc/worker.h"

#define REMEMBERED (IMAGE_HEALTH_SECONDS * USEC_PER_SEC)

/* A frame as its receiver has it; finishes `o`. */
static struct ipc_in received(struct ipc_out *o)
{
	struct ipc_in in = IPC_IN_NULL;
	int pair[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_INT(ipc_send(pair[0], o), 0);
	CHECK_INT(ipc_recv(pair[1], &in), 0);
	close(pair[0]);
	close(pair[1]);
	return in;
}

static void say(struct image_health *h, const char *url, const char *why, uint64_t now)
{
	struct ipc_out o;
	struct ipc_in in;

	ipc_out_init(&o, WORKER_EVENT_HOST, 0);
	ipc_put_str(&o, WORKER_TAG_NAME, url);
	ipc_put_str(&o, WORKER_TAG_STATE, why);
	in = received(&o);
	image_health_take(h, &in, now);
	ipc_in_fini(&in);
}

static size_t ill(struct image_health *h, const char *url, uint64_t now)
{
	struct ipc_out o;
	struct ipc_field f;
	struct ipc_in in;
	size_t pos = 0, n = 0;

	ipc_out_init(&o, WORKER_PULL, 0);
	image_health_put(h, &o, now);
	in = received(&o);
	while (ipc_next(&in, &pos, &f))
		n += f.tag == WORKER_TAG_ILL && (!url || streq(ipc_field_str(&f), url));
	ipc_in_fini(&in);
	return n;
}

static void test_remembered(void)
{
	struct image_health h = {0};

	say(&h, "https://a/v2", "dead", 1);
	say(&h, "https://b/v2", "slow", 2);
	say(&h, "", "nobody", 2);
	say(&h, NULL, "nobody", 2);
	CHECK_INT(ill(&h, NULL, 3), 2);
	CHECK_INT(ill(&h, "https://a/v2", REMEMBERED), 1);
	CHECK_INT(ill(&h, "https://a/v2", REMEMBERED + 1), 0);
	CHECK_INT(ill(&h, "https://b/v2", REMEMBERED + 1), 1);
	/* again: from then on */
	say(&h, "https://b/v2", "still slow", REMEMBERED + 1);
	CHECK_INT(ill(&h, "https://b/v2", REMEMBERED + 2), 1);
	CHECK_INT(h.n, 1);
	say(&h, "https://b/v2", "", REMEMBERED + 3);
	say(&h, "https://never/v2", "", REMEMBERED + 3);
	CHECK_INT(ill(&h, NULL, REMEMBERED + 3), 0);
	CHECK_INT(h.n, 0);
	image_health_fini(&h);
}

static void test_bounded(void)
{
	struct image_health h = {0};

	for (uint64_t i = 0; i < 2 * IMAGE_HEALTH_MAX; i++) {
		_cleanup_free_ char *url = xasprintf("https://m%d/v2", (int)i);

		say(&h, url, "dead", i);
	}
	CHECK_INT(ill(&h, NULL, 2 * IMAGE_HEALTH_MAX), IMAGE_HEALTH_MAX);
	CHECK_INT(ill(&h, "https://m0/v2", 2 * IMAGE_HEALTH_MAX), 0);
	CHECK_INT(ill(&h, "https://m127/v2", 2 * IMAGE_HEALTH_MAX), 1);
	image_health_fini(&h);
}

int main(void)
{
	log_init("test-health", LOG_LEVEL_ERROR);
	TEST(remembered);
	TEST(bounded);
	return test_done();
}
