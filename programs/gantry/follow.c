/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a container's log while it runs: see follow.h. */
#include "follow.h"

#include "base/fs.h"
#include "base/spawn.h"
#include "text.h"
#include "wire/json.h"

#define CHECK_MS 2000	 /* asked at least that often, should an event be missed */
#define CHECK_FIRST_MS 5 /* the process has gone: the daemon learns it in no time */
#define CHECK_SLOWER 2

#define INFO_MAX (1u << 20)

static int ask(struct follow *f, Runtime__V1__ContainerStatusResponse **ret, struct err *e)
{
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	int r;

	q.container_id = (char *)(uintptr_t)f->id;
	q.verbose = true;
	r = rpc_call(f->cli, RUNTIME, "ContainerStatus", &q, ret, e);
	if (r == 0 && !(*ret)->status)
		r = err_not_found(e, "the daemon knows nothing of container %s", f->id);
	return r;
}

/* The first process, as the daemon's namespace numbers it; not there: no pidfd. */
static int open_process(const Runtime__V1__ContainerStatusResponse *s)
{
	const char *info = rpc_info(s->info, s->n_info, "info");
	_cleanup_jv_ jv *doc = NULL;
	int64_t pid;

	if (!info || jv_parse(info, strlen(info), INFO_MAX, "info", &doc, NULL) < 0)
		return -1;
	pid = jv_int(doc, "pid", 0);
	return pid > 0 ? spawn_pidfd_open((pid_t)pid) : -1;
}

static void note(struct follow *f, Runtime__V1__ContainerStatus *s)
{
	f->status = s;
	f->ended = s->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING &&
		   s->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
}

/* < 0 only where it makes no sense to go on. */
static int check(struct follow *f, struct err *e)
{
	Runtime__V1__ContainerStatusResponse *s;
	int r = ask(f, &s, e);

	if (r == 0) {
		if (f->lost)
			cli_warn("gantryd is back");
		f->lost = false;
		note(f, s->status);
		/* a container that was only created has its process now */
		if (!f->ended && f->pidfd < 0 && f->delay_ms == CHECK_MS)
			f->pidfd = open_process(s);
		return 0;
	}
	if (r == -ECANCELED)
		return 0; /* the loop sees the signal */
	if (e->code == GRPC_NOT_FOUND) {
		f->ended = f->gone = true;
		return 0;
	}
	if (e->code != GRPC_UNAVAILABLE)
		return r;
	if (!f->lost)
		cli_warn("gantryd does not answer, waiting for it; %s goes on", f->name);
	f->lost = true;
	return 0;
}

static int to_output(void *arg, bool to_stderr, const char *p, size_t n)
{
	(void)arg;
	return fs_write_all(to_stderr ? STDERR_FILENO : STDOUT_FILENO, p, n);
}

/* Waits for a reason to look again. */
static int wait_for_more(struct follow *f, struct log_watch *w, struct err *e)
{
	unsigned which;
	int r;

	w->more_fds[0] = f->pidfd;
	w->more_fds[1] = f->cli->cancel_fd;
	r = log_watch_wait(w, f->delay_ms, &which);
	if (which & 2) {
		if (!f->on_signal)
			return err_set(e, -ECANCELED, GRPC_CANCELLED, "interrupted");
		return f->on_signal(f, e);
	}
	if (which & 1) {
		f->pidfd = fd_close(f->pidfd);
		f->delay_ms = CHECK_FIRST_MS;
		return check(f, e);
	}
	if (r == -ETIMEDOUT) {
		f->delay_ms = MIN(f->delay_ms * CHECK_SLOWER, CHECK_MS);
		return check(f, e);
	}
	return 0;
}

static int read_failed(const struct follow *f, int r, struct err *e)
{
	if (r == -EACCES)
		return err_errno(e, r, "read the log %s: run this as root", f->status->log_path);
	return err_errno(e, r, "read the log %s", f->status->log_path);
}

static int loop(struct follow *f, struct log_reader *reader, struct log_watch *w, struct err *e)
{
	for (;;) {
		bool last = f->ended; /* all that it wrote is there before its end is known */
		int r = log_reader_read(reader);

		if (r == -EPIPE)
			return err_set(e, r, GRPC_ABORTED, "nobody reads the output");
		if (r < 0)
			return read_failed(f, r, e);
		if (last || !f->forever || reader->past_until) {
			log_reader_finish(reader);
			return 0;
		}
		r = wait_for_more(f, w, e);
		if (r < 0)
			return r;
	}
}

static int begin(struct follow *f, Runtime__V1__ContainerStatusResponse **ret, struct err *e)
{
	int r = ask(f, ret, e);

	f->pidfd = -EBADF;
	f->delay_ms = CHECK_MS;
	if (r == 0)
		note(f, (*ret)->status);
	return r;
}

/* From here on the end is noticed. */
static int watch_process(struct follow *f, const Runtime__V1__ContainerStatusResponse *s,
			 struct err *e)
{
	f->pidfd = open_process(s);
	if (f->pidfd < 0) /* it has gone already, and the daemon is about to hear of it */
		f->delay_ms = CHECK_FIRST_MS;
	return check(f, e); /* it may have ended before the pidfd was there */
}

static int open_and_loop(struct follow *f, const Runtime__V1__ContainerStatusResponse *s,
			 struct log_reader *reader, struct log_watch *watch, struct err *e)
{
	int r;

	if (f->forever && !f->ended) {
		r = log_watch_init(watch, f->status->log_path);
		if (r < 0)
			return read_failed(f, r, e);
		r = watch_process(f, s, e);
		if (r < 0)
			return r;
	}
	r = log_reader_init(reader, f->status->log_path, &f->options, to_output, NULL);
	if (r < 0 && !(r == -ENOENT && (f->forever || f->ended)))
		return read_failed(f, r, e);
	return loop(f, reader, watch, e);
}

int follow_run(struct follow *f, struct err *e)
{
	_cleanup_log_reader_ struct log_reader reader = {.fd = -EBADF};
	_cleanup_log_watch_ struct log_watch watch = {.inotify_fd = -EBADF};
	Runtime__V1__ContainerStatusResponse *s;
	int r = begin(f, &s, e);

	if (r < 0)
		return r;
	if (str_empty(f->status->log_path))
		return err_precondition(
			e, "%s has no log: its pod was made without a log directory", f->name);
	r = open_and_loop(f, s, &reader, &watch, e);
	f->pidfd = fd_close(f->pidfd);
	if (reader.foreign)
		cli_warn("%llu lines of %s are not in the CRI format and were shown as they are",
			 (unsigned long long)reader.foreign, f->status->log_path);
	return r;
}

int follow_end(struct follow *f, struct err *e)
{
	struct log_watch none = {.inotify_fd = -1};
	Runtime__V1__ContainerStatusResponse *s;
	int r = begin(f, &s, e);

	if (r == 0 && !f->ended)
		r = watch_process(f, s, e);
	while (r == 0 && !f->ended)
		r = wait_for_more(f, &none, e);
	f->pidfd = fd_close(f->pidfd);
	return r;
}
