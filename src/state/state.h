/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index: what the daemon knows of pods and containers, in <root>/index.db (SQLite).
 *
 * It must survive `kill -9` of the daemon at any instant, not a power cut: write-ahead log,
 * nothing is synced on a commit, so the event loop never waits for a disk.  The log is
 * folded into the database by a process of its own (state_checkpoint()), which syncs.
 * After a power cut the last rows may be missing, and no more than that: what was folded has
 * been synced, and a log is emptied before it is begun anew (vfs.c).  Where a disk has lost more
 * than it may, that is found at the next start, which begins a new index; what is on the disks
 * is swept by its directories then.
 *
 * Configurations are kept as the bytes that came, so that nothing is lost of fields that a
 * newer kubelet sends.  Everything else is plain columns.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct state;

/* A row of `pods`.  Strings may be NULL (empty). borrowed in both directions */
struct state_pod {
	const char *id;
	const void *config; /* PodSandboxConfig */
	size_t config_len;
	const char *handler; /* as asked for */
	const char *runtime; /* as chosen */
	const char *boot_id; /* of the boot it ran in */
	const char *ips;     /* space-separated */
	int64_t created_at;  /* wall ns */
	int32_t state;	     /* enum pod_state */
};

/* A row of `containers`. */
struct state_container {
	const char *id;
	const char *pod_id;
	const void *config; /* ContainerConfig */
	size_t config_len;
	const char *image_id;
	const char *image_ref; /* as the status reports it */
	const char *runtime;
	const char *cgroup; /* cgroupsPath given to the runtime */
	const char *reason;
	const char *message;
	const void *extra; /* what the daemon worked out at creation (user, mounts) */
	size_t extra_len;
	int64_t created_at, started_at, finished_at; /* wall ns, 0 not yet */
	int32_t state;				     /* enum container_state */
	int32_t exit_code;
};

/*
 * Opens or creates the index; blocking, for the start of the daemon.  A file that SQLite
 * calls damaged is moved aside (*ret_moved: its new name, owned, else NULL; the one before it
 * is removed) and a new one begun.  Another daemon on the same file is FAILED_PRECONDITION.
 */
int state_open(const char *path, struct state **ret, char **ret_moved, struct err *e);
struct state *state_close(struct state *s);

/* Inserts or replaces. */
int state_put_pod(struct state *s, const struct state_pod *p, struct err *e);
int state_put_container(struct state *s, const struct state_container *c, struct err *e);
/* What is not there is success. A pod's containers go with it.  On a full disk too: then the row
 * goes with the next change that finds room (a daemon killed before that sees it once more). */
int state_remove_pod(struct state *s, const char *id, struct err *e);
int state_remove_container(struct state *s, const char *id, struct err *e);

/* Calls for every row, oldest first; the row is borrowed for the call. Stops at < 0. */
typedef int state_pod_fn(void *arg, const struct state_pod *p);
typedef int state_container_fn(void *arg, const struct state_container *c);
int state_each_pod(struct state *s, state_pod_fn *fn, void *arg, struct err *e);
int state_each_container(struct state *s, state_container_fn *fn, void *arg, struct err *e);

/* Bytes that wait in the write-ahead log; above STATE_LOG_FOLD it is time to fold. */
#define STATE_LOG_FOLD (4u << 20)
size_t state_log_bytes(const struct state *s);

/* Folds the log of the index at `path`. Blocking and syncing: in a process of its own. */
int state_checkpoint(const char *path, struct err *e);
