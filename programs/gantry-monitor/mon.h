/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor of one pod: what its files share.  docs/decisions/0003 says why it forks.
 *
 *   main.c       arguments, connections, which request goes where
 *   job.c        forked children and their answers
 *   container.c  containers: requests in order, exits
 *   sandbox.c    containers that share their pod's sandbox, where the runtime makes such
 *   warm.c       a child that keeps joins of cgroups quick
 *   oom.c        kills for want of memory
 *   output.c     stdio to CRI logs
 *   attach.c     stdio to and from clients that are attached
 *   record.c     what is kept in the pod's directory for a monitor that comes after us
 *   do_pod.c, do_container.c, do_exec.c, do_stream.c, do_figures.c   what jobs do: blocking,
 *                sequential
 *   exec.c, console.c   what those have in common
 *   tree.c       what came of a command
 *   binds.c      volumes that the runtime finds ready-made
 *   do_probe.c   what a runtime can do on this host
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "ipc/ipc.h"
#include "ipc/monitor.h"
#include "loop/loop.h"
#include "sys/cgroup.h"
#include "tree.h"

/* The static program that a probe's containers and pods' sandbox containers run: this one, where it is
 * static. */
#ifndef GANTRY_PROBE_INIT
#define GANTRY_PROBE_INIT "/proc/self/exe"
#endif

#define MON_CONTAINERS_MAX 1024 /* of one pod */
#define MON_CONNECTIONS_MAX 8
#define MON_SESSIONS_MAX 128 /* commands with streams, and attached clients, of one pod */
#define MON_STRAYS_MAX 64    /* exits of processes that are not known yet */

struct job;
struct container;

struct stray {
	pid_t pid;
	int status;
	int64_t at;
};

struct monitor {
	struct loop *loop;
	const char *pod_id;
	const char *dir; /* <state>/pods/ID */
	int listen_fd;
	struct loop_io listen;
	struct list conns; /* struct conn */
	unsigned n_conns;
	struct list jobs;
	struct list containers;
	unsigned n_containers;
	unsigned n_sessions; /* MON_SESSIONS_MAX */
	struct cgroup_host cgroup;
	struct ipc_in setup; /* MON_POD_SETUP as it came; body NULL: not set up */
	bool ready, stopping, removing;
	int ipcns_fd, utsns_fd, netns_fd, userns_fd;
	char *netns_path, *ips;
	pid_t init_pid; /* of a shared PID namespace, our child; 0 none */
	int lock_fd;	/* <dir>/lock: held by this process and its jobs */
	struct stray strays[MON_STRAYS_MAX];
	unsigned n_strays;
	unsigned n_creating; /* jobs: strays may be theirs */
	uint64_t n_jobs;     /* that there ever were */
	struct list waiting; /* struct request: pod requests that wait for containers to end */
	bool exit_when_flushed;
};

/* A connection of a daemon. */
struct conn {
	struct ipc_conn ipc;
	struct list link;
	struct monitor *mon;
	struct loop_defer free;
};

/* A request that is being worked on: where its answer goes. */
struct request {
	struct list link;
	struct conn *conn; /* NULL: gone, the answer is dropped */
	struct ipc_in in;  /* owned */
};
struct request *request_new(struct conn *c, struct ipc_in *in);
void request_fail(struct request *q, const struct err *e);	  /* answers and frees */
void request_done(struct request *q, const struct ipc_in *reply); /* the same; NULL: success */
/* Answers with `o` (of ipc_out_reply()), which is finished. */
void request_answer(struct request *q, struct ipc_out *o);
/* A connection has gone: its requests are not answered any more. */
void request_forget_conn(struct monitor *m, const struct conn *c);

void monitor_event(struct monitor *m, struct ipc_out *o); /* to all connections */
/* Of itself: all connections are told, where it was ready. */
void monitor_not_ready(struct monitor *m);
void monitor_trim_later(struct monitor *m); /* gives memory back when it is quiet */
void monitor_step(struct monitor *m);	    /* a container or a job has ended */

/* --- job.c --- */

/* What a job does, in the forked child.  Fills in the reply's fields; < 0 with `e` set. A session's
 * sends its reply itself, with the command's MON_TAG_PID and pidfd at its end, and returns
 * JOB_ANSWERED once the session is over. */
#define JOB_ANSWERED 1
struct job_context {
	struct monitor *mon; /* a copy: for reading */
	const struct ipc_in *in;
	const char *id; /* container, or NULL */
	int cancel_fd;	/* readable: give up */
	struct tree tree;
	pid_t ends; /* do_exec_end(): the job that has left something */
};
typedef int job_fn(struct job_context *j, struct ipc_out *reply, struct err *e);
/* In the monitor, once the job has answered: `reply` carries a success when r is 0. */
typedef void job_done_fn(struct job *job, int r, struct ipc_in *reply, const struct err *e);

struct job {
	struct list link;
	struct monitor *mon;
	struct request *request;     /* may be NULL */
	struct container *container; /* borrowed; may be NULL */
	job_done_fn *done;
	struct ipc_conn ipc;
	pid_t pid;
	pid_t ends;
	struct tree tree; /* of what runs in the container for it */
	bool answered;
	bool died;     /* without an answer: what it began has not been undone */
	bool session;  /* it stays after its answer */
	pid_t command; /* the session's, and its pidfd; -EBADF before the answer */
	int command_fd;
	struct loop_defer free;
};

/* Forks.  A failure to do so goes the way of a job that failed. */
void job_start(struct monitor *m, struct request *q, struct container *c, job_fn *fn,
	       job_done_fn *done);
/* The same for one that stays.  It counts among the pod's sessions. */
void job_start_session(struct monitor *m, struct request *q, struct container *c, job_fn *fn,
		       job_done_fn *done);
/* Kills what one has left in its container that has died. */
void job_end_tree(struct job *of);
void job_give_up(struct job *job); /* its cancel_fd becomes readable */
void job_cancel(struct monitor *m, const struct conn *c, uint32_t seq);
void job_cancel_setup(struct monitor *m);   /* whoever asked for it */
void job_cancel_start(struct container *c); /* its process has gone */
/* It is removed: commands in it go on to their end without it. */
void job_forget_container(struct container *c);
/* A connection has gone: commands whose output nobody will read are ended. */
void job_cancel_execs(struct monitor *m, const struct conn *c);
/* True when the pid was a job's. */
bool job_exited(struct monitor *m, pid_t pid);

/* --- container.c --- */

struct stream {
	struct loop_io io;
	struct container *container;
	int fd;		  /* -EBADF: none */
	const char *name; /* "stdout", "stderr" */
	char *carry;	  /* the beginning of a line whose end has not come */
	size_t n_carry;
};

struct container {
	struct list link;
	struct monitor *mon;
	char *id;
	enum mon_container_state state;
	struct ipc_in create; /* MON_CREATE as it came */
	struct list queue;    /* requests that wait their turn */
	struct list stops;    /* MON_STOP, MON_REMOVE that wait for the end */
	bool busy;	      /* a job of it runs */
	bool unborn;	      /* of a checkpoint, not started: it has no process */
	pid_t pid;	      /* 0: there is none, or it has been reaped */
	int pidfd;	      /* not our child (recovered): its end is watched here */
	struct loop_io pidfd_io;
	bool exit_pending; /* it has ended while its job ran */
	int exit_status;
	int64_t exit_at;
	char *cgroup; /* path below the hierarchies */
	int64_t created_at, started_at, finished_at;
	int exit_code;
	bool oom;
	int oom_fd; /* memory.events on v2, -EBADF: none */
	struct loop_io oom_io;
	bool unseen;		 /* it ended, but nobody saw how */
	struct loop_timer grace; /* until SIGKILL; of a start, once the process has gone */
	struct stream out, err;
	struct list clients; /* attached: struct attach */
	int stdin_fd;
	/* Its processes are its pod's sandbox's: there is none of its own on the host (sandbox.c). */
	bool inside;
	int stdio[3]; /* its ends of its streams, which the runtime wants to start it; -EBADF */
	int signal;   /* that a job is to send */
	char *log_path;
	size_t log_line_max;
	int log_fd;
};

struct container *container_find(struct monitor *m, const char *id);
struct container *container_new(struct monitor *m, const char *id);
void container_free(struct container *c);
/* A request that names a container; takes it over. */
void container_request(struct monitor *m, struct request *q);
/* True when the pid was a container's first process. */
bool container_exited(struct monitor *m, pid_t pid, int status, int64_t at);
/* SIGKILL to everything in it. */
void container_kill(struct container *c);
void container_put_state(const struct container *c, struct ipc_out *o);
/* It has ended, though nobody reaped a process of it: `status` is its exit code. */
void container_ended(struct container *c, int status, int64_t at);
/* A job of it died, or its monitor: a checkpoint that was being made is given up. Before anything else
 * is asked of it.  False: there was none. */
bool container_thaw(struct container *c);
/* Watches a container of a past monitor; `pidfd` is taken over. */
void container_adopt(struct container *c, int pidfd);

/* --- sandbox.c --- */

/* The pod's sandbox container, NULL: it has none. */
struct container *sandbox_of(const struct monitor *m);
bool sandbox_is(const struct container *c);
/* Whether the runtime puts it into that. */
bool sandbox_wants(const struct container *c);
/* The runtime has made it, or a past monitor had: its first process is that of the sandbox, so it
 * is known by the runtime's word alone. */
void sandbox_take(struct container *c);
/* It has been started: from now on the runtime is asked for its end. */
void sandbox_watch(struct container *c);
/* Sends it a signal by the runtime; with SIGKILL to all of it. */
void sandbox_signal(struct container *c, int sig);
/* The sandbox has ended, and what was in it. */
void sandbox_over(struct container *sandbox);
void sandbox_close_stdio(struct container *c);
/* Jobs of it need not come to an end any more. */
void sandbox_forget(struct container *c);

/* --- warm.c --- */

/* How long a runtime may take to come: after a pod's setup has begun, after a request. */
#define WARM_FOR_POD (250 * USEC_PER_MS)
#define WARM_FOR_CONTAINER (100 * USEC_PER_MS)

#define MON_LATE_START (3 * USEC_PER_SEC) /* a start may take that long after its process ended */

/* Keeps joins of cgroups quick for so long, or until warm_stop(); does nothing where one runs. */
void warm_start(struct monitor *m, uint64_t for_us);
void warm_stop(void);
/* True when the pid was the child that does it. */
bool warm_exited(pid_t pid);

/* --- oom.c --- */

void oom_watch(struct container *c); /* its cgroup is known */
void oom_ended(struct container *c); /* sets c->oom */
void oom_forget(struct container *c);

/* --- output.c --- */

void output_open(struct container *c, int out, int err); /* takes them over; err may be -1 */
void output_reopen(struct container *c, struct err *e, int *ret);
/* The process has ended: takes what is in the pipes, ends the last line. */
void output_drain(struct container *c);
void output_close(struct container *c);
/* Reads on where no client has to be waited for any more. */
void output_resume(struct container *c);
void output_trim(void); /* the buffers' memory */

/* --- attach.c --- */

/* MON_ATTACH; takes it over. */
void attach_request(struct container *c, struct request *q);
/* To each client that wants the stream. */
void attach_give(struct stream *s, const char *p, size_t n);
/* A client has not taken what it was given: nothing is read until it has. */
bool attach_waits(const struct stream *s);
/* The container has ended, its output has been read: they are told once they have it all. */
void attach_end(struct container *c);

/* --- record.c: files in the pod's directory --- */

int record_setup(struct monitor *m, const struct ipc_in *in);
int record_create(const char *dir, const char *id, const struct ipc_in *in);
int record_pid(const char *dir, const char *id, pid_t pid, const char *cgroup);
/* Process 1 of the pod's PID namespace. */
int record_init(const char *dir, pid_t pid);
/* SIGKILL to it where it is still that process; waits until it is gone (or a second). */
void record_kill_init(const char *dir);
void record_exit(const struct container *c);
/* Takes over what a past monitor left. */
void record_recover(struct monitor *m);
char *record_dir(const char *dir, const char *id); /* <dir>/containers/ID, owned */
uint64_t record_start_time(pid_t pid);		   /* of a process, 0: there is none */

/* --- do_*.c: in jobs --- */

int do_pod_setup(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_pod_stop(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_pod_remove(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_create(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_start(struct job_context *j, struct ipc_out *reply, struct err *e);
/* The start of one with MON_TAG_RESTORE; its descriptors are in the reply as in do_create()'s. */
int do_restore(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_remove(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_signal(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_wait(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_update(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_checkpoint(struct job_context *j, struct ipc_out *reply, struct err *e);
/* A directory in the writable layer, there while one is being made. */
#define DO_CHECKPOINT_PARTS "checkpoint"
/* Of one whose job died, or its monitor: the container goes on. */
int do_thaw(struct job_context *j, struct ipc_out *reply, struct err *e);
/* Replaces the error by the first that CRIU has written into its log, where there is one: its own words
 * say more than the runtime's. FAILED_PRECONDITION */
void do_add_criu_words(const char *dir, const char *log, struct err *e);
/* Kills what is left in a cgroup and removes it; what was killed takes a moment to go. */
void do_remove_cgroup(const struct cgroup_host *h, const char *path);
struct userns_map;
/* The pod's mappings as its MON_POD_SETUP has them; false: it has no user namespace. */
bool do_read_maps(const struct ipc_in *setup, struct userns_map *uids, struct userns_map *gids);
/* In a pod with a user namespace its root may own what became a process' standard streams: the runtime
 * gives them to the process' user then, which opens them anew (/dev/stdout). */
void do_give_streams(const struct monitor *m, const int fds[3]);
struct runtime;
/* The runtime that a container was made with. Its args are owned. */
void do_read_runtime(const struct job_context *j, const struct ipc_in *create, struct runtime *ret);
int do_exec(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_exec_stream(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_connect(struct job_context *j, struct ipc_out *reply, struct err *e);
/* Ends what a job has left that died: its own tree is that job's. */
int do_exec_end(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_net_stats(struct job_context *j, struct ipc_out *reply, struct err *e);
int do_figures(struct job_context *j, struct ipc_out *reply, struct err *e);
/* Process 1 of a shared PID namespace: reaps. Never returns. */
_Noreturn void do_init(void);
int do_probe(int argc, char **argv);
int do_network_status(const char *config);
int do_network_gc(const char *config);
int do_network_check(const char *config, const char *pod_id, const char *netns);
