/* SPDX-License-Identifier: Apache-2.0 */
/* Programs run from a coroutine: see helper.h. */
#include "pod/helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/mem.h"
#include "ipc/spawner.h"
#include "loop/co.h"

struct helper {
	struct loop_io io;
	struct loop_child child;
	struct co_event done;
	struct strbuf *out;
	int fd, status;
	bool eof, ended;
};

static void check(struct helper *h)
{
	if (h->eof && h->ended)
		co_event_set(&h->done);
}

static void on_output(struct loop_io *io, uint32_t events)
{
	struct helper *h = container_of(io, struct helper, io);
	char buf[4096];
	ssize_t n = read(h->fd, buf, sizeof(buf));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		if (h->out->len + (size_t)n <= HELPER_OUTPUT_MAX)
			strbuf_add(h->out, buf, (size_t)n);
		return;
	}
	loop_io_del(io);
	h->eof = true;
	check(h);
}

static void on_end(struct loop_child *c, int status)
{
	struct helper *h = container_of(c, struct helper, child);

	h->status = status;
	h->ended = true;
	check(h);
}

int helper_run(struct loop *l, const char *const *argv, int death_signal, uint64_t timeout_us,
	       struct strbuf *ret, struct err *e)
{
	struct helper h = {.out = ret};
	struct spawn sp = SPAWN_INIT;
	int p[2], pidfd, r;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, -errno, "make a pipe for %s", argv[0]);
	fcntl(p[1], F_SETFL, 0);
	sp.file = argv[0];
	sp.argv = argv;
	sp.fds[1] = p[1];
	sp.fds[2] = STDERR_FILENO;
	sp.setsid = true;
	sp.death_signal = death_signal;
	r = spawner_start(l, &sp, &pid, &pidfd, e);
	close(p[1]);
	if (r < 0) {
		close(p[0]);
		return r;
	}
	h.fd = p[0];
	co_event_init(&h.done);
	loop_io_add(l, &h.io, h.fd, EPOLLIN, on_output);
	loop_child_add(l, &h.child, pid, pidfd, on_end);
	r = co_event_wait(&h.done, clock_mono_us() + timeout_us);
	if (r < 0) {
		kill(-pid, SIGKILL);
		err_set(e, r, r == -ETIMEDOUT ? GRPC_DEADLINE_EXCEEDED : GRPC_CANCELLED,
			"%s did not end within %llu s", argv[0],
			(unsigned long long)(timeout_us / USEC_PER_SEC));
		co_shield(true);
		while (!h.ended)
			co_sleep(USEC_PER_MS);
		co_shield(false);
		loop_io_del(&h.io);
	}
	close(h.fd);
	return r < 0 ? r : h.status;
}
