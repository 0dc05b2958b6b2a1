/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry-worker: everything that reads foreign bytes of images or waits for disks, in a
 * process that dies after it.  See ipc/worker.h for what it is asked.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "confine.h"
#include "credentials.h"
#include "snapshot/snapshot.h"
#include "worker.h"

static bool detached;
static uint64_t begun_at, limit_s, limit_at = USEC_FOREVER;

/* The daemon says nothing more but IPC_CANCEL, and its end is an end too. */
bool worker_cancelled(void)
{
	struct pollfd p = {.fd = WORKER_DAEMON_FD, .events = POLLIN};

	return !detached && poll(&p, 1, 0) > 0;
}

void worker_detach(void)
{
	detached = true;
	close(WORKER_DAEMON_FD);
}

void worker_set_limit(uint64_t seconds)
{
	limit_s = seconds;
	if (!begun_at)
		begun_at = clock_mono_us();
	limit_at = seconds ? begun_at + seconds * USEC_PER_SEC : USEC_FOREVER;
}

int worker_check(struct err *e)
{
	if (worker_cancelled())
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	if (clock_mono_us() >= limit_at)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "it took more than %llu seconds (image.pull_timeout)",
			       (unsigned long long)limit_s);
	return 0;
}

void worker_progress(const char *layer, const char *state, uint64_t done, uint64_t total)
{
	struct ipc_out o;

	ipc_out_init(&o, WORKER_EVENT_PROGRESS, 0);
	ipc_put_str(&o, WORKER_TAG_NAME, layer);
	ipc_put_str(&o, WORKER_TAG_STATE, state);
	ipc_put_u64(&o, WORKER_TAG_DONE, done);
	ipc_put_u64(&o, WORKER_TAG_TOTAL, total);
	ipc_send(WORKER_DAEMON_FD, &o);
}

void worker_tell_host(const char *url, const char *why)
{
	struct ipc_out o;

	ipc_out_init(&o, WORKER_EVENT_HOST, 0);
	ipc_put_str(&o, WORKER_TAG_NAME, url);
	ipc_put_str(&o, WORKER_TAG_STATE, str_or_empty(why));
	ipc_send(WORKER_DAEMON_FD, &o);
}

static int do_read(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	const char *path = str_or_empty(ipc_get_str(in, WORKER_TAG_PATH));
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return err_errno(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_invalid(e, "%s is no file", path);
	r = fs_read(AT_FDCWD, path, ipc_get_u64(in, WORKER_TAG_MAX, 0), &b);
	if (r < 0)
		return err_errno(e, r, "read %s", path);
	ipc_put_bytes(reply, WORKER_TAG_CONTENT, str_or_empty(b.s), b.len);
	return 0;
}

static int run(struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	switch (in->type) {
	case WORKER_PULL:
		return do_pull(in, reply, e);
	case WORKER_LOAD:
		return do_load(in, reply, e);
	case WORKER_IMPORT:
		return do_import(in, reply, e);
	case WORKER_SAVE:
		return do_save(in, reply, e);
	case WORKER_REMOVE:
		return do_remove(in, reply, e);
	case WORKER_MEASURE:
		return do_measure(in, reply, e);
	case WORKER_READ:
		return do_read(in, reply, e);
	case WORKER_EDITS:
		return do_edits(in, reply, e);
	case WORKER_SWEEP:
		return do_sweep(in, reply, e);
	case WORKER_VERIFY:
		return do_verify(in, reply, e);
	case WORKER_NAME:
		return do_name(in, reply, e);
	case WORKER_CHECKPOINT:
		return do_checkpoint(in, reply, e);
	case WORKER_RESTORE:
		return do_restore(in, reply, e);
	default:
		return err_set(e, -ENOSYS, GRPC_UNIMPLEMENTED, "request %u is not known", in->type);
	}
}

/* Files of the node, and nothing of the image store. */
static bool reads_only(const struct ipc_in *in)
{
	return in->type == WORKER_READ || in->type == WORKER_EDITS;
}

int main(int argc, char **argv)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out reply, failure;
	struct err e = ERR_NULL;
	struct stat st;
	int r;

	log_init("gantry-worker", LOG_LEVEL_INFO);
	if (argc == 2 && streq(argv[1], "--fault-points"))
		return fault_print_points();
	if (argc == 2 && streq(argv[1], "--version")) {
		printf("gantry-worker %s\n", GANTRY_VERSION);
		return 0;
	}
	if (argc != 1 || fstat(WORKER_DAEMON_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		fputs("gantry-worker is started by gantryd.\n", stderr);
		return 2;
	}
	fcntl(WORKER_DAEMON_FD, F_SETFD, FD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	setpriority(PRIO_PROCESS, 0, 5); /* pods come first */
	r = ipc_recv(WORKER_DAEMON_FD, &in);
	if (r < 0)
		return 1;
	ipc_out_reply(&reply, in.seq, NULL);
	r = snapshot_choose(ipc_get_str(&in, WORKER_TAG_SNAPSHOTTER), &e);
	if (r == 0)
		r = in.type == WORKER_PULL ? credentials_start(&in, &e) : 0;
	if (r == 0)
		r = confine_worker(reads_only(&in) ? NULL : ipc_get_str(&in, WORKER_TAG_ROOT), &e);
	if (r == 0)
		r = run(&in, &reply, &e);
	credentials_end();
	if (r < 0) { /* an answer of its own: nothing of a success may stand in it */
		ipc_out_fini(&reply);
		ipc_out_reply(&failure, in.seq, &e);
		r = ipc_send(WORKER_DAEMON_FD, &failure);
	} else {
		r = ipc_send(WORKER_DAEMON_FD, &reply);
	}
	return r < 0;
}
