/* SPDX-License-Identifier: Apache-2.0 */
/* The life cycle of containers: see life.h. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "pod/choose.h"
#include "pod/life.h"
#include "pod/monitor.h"
#include "pod/node.h"
#include "pod/runtimes.h"
#include "wire/grpc.h"

#define EXEC_REPLY_ROOM 65536 /* of a reply, for what is not output */
#define START_ERROR_CODE 128  /* exit code of what could not be started */

bool life_container_listed(const struct container *c)
{
	return c->state == CONTAINER_CREATED || c->state == CONTAINER_RUNNING ||
	       c->state == CONTAINER_EXITED;
}

bool life_container_linked(const struct container *c)
{
	return map_get(&c->node->containers, c->id) == c;
}

/* --- start, stop, remove --- */

static int call(struct container *c, struct ipc_out *o, struct ipc_in *ret, struct err *e)
{
	return pod_monitor_call(c->pod, o, ret, e);
}

static void request(struct container *c, struct ipc_out *o, uint16_t type)
{
	ipc_out_init(o, type, 0);
	ipc_put_str(o, MON_TAG_ID, c->id);
}

/* What the runtime could not start is ended, so that it is neither half-started nor started
 * later, and says why. */
static void end_unstarted(struct container *c, const struct err *why)
{
	struct err e = ERR_NULL;
	struct ipc_out o;

	co_shield(true);
	request(c, &o, MON_STOP);
	if (pod_monitor_end(c->pod, &o, NULL, &e) < 0)
		log_error("end container %s, which could not be started: %s", c->id, e.msg);
	co_shield(false);
	if (!life_container_linked(c) || c->state != CONTAINER_EXITED)
		return;
	free(c->reason);
	free(c->message);
	c->reason = xstrdup("StartError");
	c->message = xstrdup(why->msg);
	c->exit_code = START_ERROR_CODE;
	if (container_record(c, &e) < 0)
		log_error("container %s: %s", c->id, e.msg);
}

static int start(struct container *c, struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out o;
	bool began;
	int r;

	request(c, &o, MON_START);
	r = call(c, &o, &in, e);
	FAULT_POINT("daemon.start.started");
	if (c->runtime && r == 0)
		node_runtime_worked(c->runtime);
	else if (c->runtime)
		node_runtime_failed(c->node, c->runtime, runtime_blame_of_errno(r), e->msg);
	if (r < 0 && e->code == GRPC_INTERNAL && life_container_linked(c) &&
	    c->state == CONTAINER_CREATED)
		end_unstarted(c, e);
	if (r < 0)
		return r;
	if (c->state == CONTAINER_CREATED) /* a checkpoint's has come to life only now */
		life_take_process(c, &in);
	if (!c->started_at)
		c->started_at = ipc_get_i64(&in, MON_TAG_STARTED_AT, clock_wall_ns());
	began = c->state == CONTAINER_CREATED; /* its exit may have been told already */
	if (began)
		c->state = CONTAINER_RUNNING;
	r = life_container_linked(c) ? container_record(c, e) : 0;
	FAULT_POINT("daemon.start.recorded");
	if (began)
		container_event(c, EVENT_STARTED);
	return r;
}

int life_start_container(struct container *ctr, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	int r = co_lock(&c->lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED, "cancelled");
	if (!life_container_linked(c))
		r = err_not_found(e, "container_id: there is none with id \"%s\"", c->id);
	else if (c->state != CONTAINER_CREATED)
		r = err_precondition(e, "container %s is %s, only a created one can be started",
				     c->id, container_state_name(c));
	else
		r = start(c, e);
	co_unlock(&c->lock);
	return r;
}

int life_stop_container(struct container *ctr, int64_t timeout_s, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	uint64_t grace = timeout_s > INT32_MAX ? INT32_MAX : (uint64_t)timeout_s;
	struct ipc_out o;
	int r;

	if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_CREATED)
		return 0;
	request(c, &o, MON_STOP);
	ipc_put_u64(&o, MON_TAG_SIGNAL, (uint64_t)c->stop_signal);
	ipc_put_u64(&o, MON_TAG_GRACE, grace * USEC_PER_SEC);
	r = pod_monitor_end(c->pod, &o, NULL, e);
	FAULT_POINT("daemon.stop.stopped");
	/* Ended or removed by another request meanwhile: that is what was asked for. */
	return r < 0 && life_container_linked(c) && c->state != CONTAINER_EXITED ? r : 0;
}

void life_remove_request(const struct container *c, struct ipc_out *ret)
{
	const struct config *cfg = c->node->config;
	const struct config_runtime *rt = c->runtime ? c->runtime->config : NULL;
	_cleanup_free_ char *root = xasprintf("%s/runtime/%s", cfg->state, c->runtime_name),
			    *writable = xasprintf("%s/containers/%s", cfg->root, c->id);

	ipc_out_init(ret, MON_REMOVE, 0);
	ipc_put_str(ret, MON_TAG_ID, c->id);
	if (rt) {
		ipc_put_str(ret, MON_TAG_RUNTIME, rt->path);
		ipc_put_str(ret, MON_TAG_RUNTIME_ROOT, root);
	}
	for (size_t i = 0; rt && rt->args[i]; i++)
		ipc_put_str(ret, MON_TAG_RUNTIME_ARG, rt->args[i]);
	ipc_put_str(ret, MON_TAG_WRITABLE, writable);
	ipc_put_str(ret, MON_TAG_SNAPSHOTTER, cfg->image.snapshotter);
}

static int remove_now(struct container *c, struct err *e)
{
	struct err full = ERR_NULL;
	struct ipc_out o;
	int r;

	c->state = CONTAINER_REMOVING;
	/* On a full disk too: what is removed is what makes room. */
	if (container_record(c, &full) < 0)
		log_warn("container %s: %s", c->id, full.msg);
	FAULT_POINT("daemon.remove.row");
	co_shield(true); /* half-removed is no state to be in */
	life_remove_request(c, &o);
	r = pod_monitor_end(c->pod, &o, NULL, e);
	co_shield(false);
	FAULT_POINT("daemon.remove.removed");
	if (!life_container_linked(c)) /* its pod was removed, and it with it */
		return 0;
	if (r == 0)
		r = state_remove_container(c->node->state, c->id, e);
	FAULT_POINT("daemon.remove.forgotten");
	return r;
}

/* With its lock held. */
static int remove_locked(struct container *c, struct err *e)
{
	enum container_state was = c->state;
	int r = remove_now(c, e);

	if (r == 0) {
		if (life_container_linked(c))
			container_event(c, EVENT_DELETED);
		container_unlink(c);
		return 0;
	}
	/* Listed, so that it is removed once more. */
	c->state = c->finished_at || was == CONTAINER_REMOVING ? CONTAINER_EXITED : was;
	container_record(c, NULL);
	return err_wrap(e, "remove container %s", c->id);
}

static int remove_if(struct container *ctr, bool unlisted, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	int r = co_lock(&c->lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED, "cancelled");
	if (life_container_linked(c) && (unlisted || life_container_listed(c)))
		r = remove_locked(c, e); /* else by another request, or with its pod */
	co_unlock(&c->lock);
	node_fold_index(c->node);
	return r;
}

/* Not beside a removal of its pod, which does the same work. */
static int remove_alone(struct container *ctr, bool unlisted, struct err *e)
{
	_cleanup_pod_ struct pod *p = pod_ref(ctr->pod);
	_cleanup_container_ struct container *c = container_ref(ctr);
	int r = co_lock(&p->lock);

	if (r < 0)
		return err_set(e, r, GRPC_CANCELLED, "cancelled");
	r = remove_if(c, unlisted, e);
	co_unlock(&p->lock);
	return r;
}

int life_remove_container(struct container *c, struct err *e)
{
	return remove_alone(c, false, e);
}

int life_tear_down_container(struct container *c, struct err *e)
{
	return remove_alone(c, true, e);
}

/* --- in a container --- */

/* At most `max` bytes of a memfd, in one copy: it may be 16 MiB, and the loop waits for it. */
static size_t output_size(const struct ipc_in *in, unsigned i)
{
	struct stat st;

	return i < in->n_fds && fstat(in->fds[i], &st) == 0 ? (size_t)st.st_size : 0;
}

static int read_output(struct ipc_in *in, unsigned i, size_t max, struct arena *a, uint8_t **ret,
		       size_t *ret_n)
{
	_cleanup_close_ int fd = -EBADF;
	size_t size, done = 0;
	struct stat st;

	*ret_n = 0;
	if (i >= in->n_fds)
		return 0;
	fd = TAKE_FD(in->fds[i]);
	if (fstat(fd, &st) < 0)
		return -errno;
	size = MIN((size_t)st.st_size, max);
	*ret = arena_alloc(a, size);
	while (done < size) {
		ssize_t n = pread(fd, *ret + done, size - done, (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		done += n > 0 ? (size_t)n : 0;
	}
	*ret_n = done;
	return 0;
}

int life_exec_sync(struct container *ctr, char *const *cmd, size_t n_cmd, uint64_t timeout_s,
		   struct arena *a, struct life_exec_result *ret, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	size_t max = c->node->config->container.exec_output_max,
	       room = GRPC_MESSAGE_MAX - EXEC_REPLY_ROOM, n_err;
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	_cleanup_strbuf_ struct strbuf process = STRBUF_NULL;
	struct ipc_out o;
	int r = life_need_running(c, e);

	if (r == 0)
		r = life_print_process(c, cmd, n_cmd, NULL, &process, e);
	if (r < 0)
		return r;
	request(c, &o, MON_EXEC);
	ipc_put_bytes(&o, MON_TAG_CONFIG, process.s, process.len);
	ipc_put_u64(&o, MON_TAG_TIMEOUT, MIN(timeout_s, (uint64_t)INT32_MAX) * USEC_PER_SEC);
	ipc_put_u64(&o, MON_TAG_OUTPUT_MAX, max);
	r = pod_monitor_exec(c->pod, &o, &in, e);
	FAULT_POINT("daemon.exec.done");
	if (r < 0)
		return r;
	ret->exit_code = (int32_t)ipc_get_u64(&in, MON_TAG_EXIT_CODE, 0);
	/* Both have to fit into one reply; neither leaves nothing for the other. */
	n_err = MIN(output_size(&in, 1), MAX(room - MIN(room, output_size(&in, 0)), room / 2));
	r = read_output(&in, 0, MIN(max, room - n_err), a, &ret->out, &ret->out_len);
	if (r == 0)
		r = read_output(&in, 1, MIN(max, n_err), a, &ret->err, &ret->err_len);
	return r < 0 ? err_errno(e, r, "read the output of the command") : 0;
}

int life_reopen_log(struct container *ctr, struct err *e)
{
	_cleanup_container_ struct container *c = container_ref(ctr);
	struct ipc_out o;
	int r = life_need_running(c, e);

	if (r < 0)
		return r;
	request(c, &o, MON_REOPEN_LOG);
	return call(c, &o, NULL, e);
}
