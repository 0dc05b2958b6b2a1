/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods and containers as the daemon knows them: objects, life cycle, recovery, events.
 *
 * The truth about what runs is in each pod's monitor; this is the index over it.  All
 * functions that can wait are called from coroutines and serialise themselves per object.
 * Objects are borrowed: one stays valid while its caller does not wait, or holds a
 * reference (pod_ref(), container_ref()).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "api.pb-c.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "base/str.h"
#include "config/config.h"
#include "image/store.h"
#include "ipc/ipc.h"
#include "loop/co.h"
#include "route/breaker.h"
#include "runtime/caps.h"
#include "spec/spec.h"
#include "state/state.h"
#include "sys/cgroup.h"

enum pod_state {
	POD_CREATING = 0, /* not listed; a daemon that finds it at its start tears it down */
	POD_READY = 1,
	POD_NOTREADY = 2,
	POD_REMOVING = 3, /* not listed; torn down again at the start */
};

enum container_state {
	CONTAINER_CREATING = 0, /* not listed */
	CONTAINER_CREATED = 1,
	CONTAINER_RUNNING = 2,
	CONTAINER_EXITED = 3,
	CONTAINER_REMOVING = 4, /* not listed */
};

/* A runtime as the probe found it: one that the configuration has, or had when containers were
 * made that are still there. See runtimes.h. */
struct node_runtime {
	unsigned refs;
	struct list link;	 /* node->runtimes_known */
	const struct config *of; /* that `config` is part of; NULL: it is in `own` */
	struct arena own;
	const struct config_runtime *config; /* borrowed across no wait: a reload may replace it */
	bool probed, probing, available;
	struct co_event probe_ended;
	char *version; /* owned */
	char *reason;  /* why it is not available; owned */
	uint64_t chosen_by_handler, chosen_by_rule, chosen_by_default; /* for pods */
	/* For containers: as the first candidate, after others; tries that failed. */
	uint64_t decided, decided_fallback, decided_failed;
	struct node *node;
	struct breaker breaker;
	struct loop_timer rest;	  /* of being set aside */
	char *path;		  /* where its program was found, "" nowhere; owned */
	char *note;		  /* why it has no `features` document, "" it has; owned */
	struct runtime_caps caps; /* replaced by every probe: not kept across a wait */
	int64_t looked_at;	  /* clock_wall_ns() when a probe last ended; 0: none has */
	uint64_t probes, probes_failed;
};

/* CRI's container events, of pods too; the values are CRI's. */
enum node_event {
	EVENT_CREATED = 0,
	EVENT_STARTED = 1,
	EVENT_STOPPED = 2,
	EVENT_DELETED = 3,
};

struct pod;
struct streams;

/* The daemon's world. */
struct node {
	struct loop *loop;
	const struct config *config;
	struct state *state;
	struct image_store *images;
	struct cgroup_host cgroup; /* facts of this host's hierarchies */
	bool cgroup_systemd;	   /* the driver in force */
	char boot_id[40];
	int state_dirfd; /* <state> */
	char *monitor_path, *worker_path, *env_path, *stream_path, *stream_tls_path;
	struct node_runtime **runtimes; /* as config->runtimes; a reference each */
	size_t n_runtimes;
	struct list runtimes_known; /* all that anybody refers to: node_runtime.link */
	int sealed_fd;		    /* crun's program (runtime/sealed.h), for monitors; -EBADF */
	struct co_event probed;	    /* all runtimes have been probed */
	bool probed_once;
	unsigned probing;   /* probes under way */
	uint64_t probed_at; /* clock_mono_us(); 0: they are being probed */
	struct {
		struct loop_io io;
		struct loop_timer timer;
		int fd;				/* inotify(7) */
		bool begun, pending;		/* something has changed */
	} watch;				/* of the runtimes' programs: see probe_watch.h */
	uint64_t reloads, reloads_failed;	/* of the configuration */
	struct route *route;			/* of the configuration */
	uint64_t route_refused;			/* requests for which no runtime was left */
	bool reload_bad;			/* the last one failed */
	struct map pods, pod_names;		/* by id; by "name/namespace/uid/attempt" */
	struct map containers, container_names; /* "name/attempt/pod id" */
	struct list pods_in_order, containers_in_order; /* by creation */
	struct spec_host host;
	bool has_apparmor, has_rro;   /* AppArmor; recursive read-only mounts */
	bool told_oom, told_hugetlb;  /* what cannot be had here is logged once */
	char *apparmor_default;	      /* profile of containers that ask for none, "" none; owned */
	struct co_lock apparmor_lock; /* held while it is being loaded */
	struct network_probe {
		const char *kind; /* "cni" or "bridge", as last probed; static */
		char *config;	  /* struct network_config as JSON; owned */
		char *pod_cidr;	  /* as the kubelet said (UpdateRuntimeConfig); owned */
		bool known, ready, running, collecting;
		char *why;	     /* not ready; owned */
		uint64_t checked_at; /* clock_mono_us() */
		struct co_event done, collect;
	} network;
	struct streams *streams; /* pod/stream.h; set by who serves */
	struct list filters;	 /* compiled seccomp profiles: pod/filter.h */
	struct {
		char *text; /* owned; NULL: none yet */
		bool by_default;
		uint64_t needs;
	} profile;	      /* the last one that was read for what it needs */
	struct list children; /* monitors that this daemon started: struct monitor_child */
	bool measuring;	      /* writable layers: see node_measure() */
	uint64_t measured_at, measure_next; /* monotonic us */
	bool folding;			    /* the index: see node_fold_index() */
	bool draining;
	/* Something happened to the pod or to a container of it (`id`), which is as it is now; NULL:
	 * nobody wants to know. */
	void (*on_event)(void *arg, struct pod *p, const char *id, enum node_event what);
	void *on_event_arg;
};

/* How much of a processor was used of late, out of the last two looks at what was used in all. */
struct cpu_rate {
	uint64_t used_ns;
	int64_t at; /* wall ns, 0: not looked yet */
	uint64_t nano_cores;
};

struct pod {
	struct node *node;
	char id[ID_SIZE];
	unsigned refs;
	enum pod_state state;
	struct arena arena; /* of `config` */
	Runtime__V1__PodSandboxConfig *config;
	uint8_t *config_bytes;
	size_t config_len;
	char *name_key;
	char *handler;
	/* What it was made for, also when that is no longer configured. */
	char *runtime_name;
	enum config_isolation isolation;
	enum config_unit unit;
	int64_t created_at;
	int64_t told_at;			      /* pod_telling_time(), last */
	char *ips;				      /* space-separated, primary first */
	char *netns, *ipcns, *utsns, *pidns, *userns; /* paths, "" host's */
	char *cgroup_parent;			      /* of its containers, in the driver's form */
	char *cgroup;				      /* its path below the hierarchies */
	bool cgroup_owned;			      /* ours to remove */
	struct cgroup_files cgroup_files;	      /* of that cgroup */
	struct cgroup_files parent_files;	      /* of cgroup_parent: pressure */
	struct cpu_rate cpu_rate; /* of that cgroup, where it is this pod's alone */
	struct list in_order;
	struct list containers;	      /* container.in_pod */
	struct co_lock lock;	      /* one life-cycle operation at a time */
	struct co_lock place_lock;    /* a container's runtime is being chosen */
	struct node_runtime *sandbox; /* whose sandbox it has (pod/sandbox.h); a reference; NULL */
	bool sandbox_known;	      /* that is so: not of a pod of a past daemon */
	struct ipc_conn monitor;      /* its loop is NULL while there is none */
	struct co_lock monitor_lock;  /* one at a time finds or starts it */
	char boot_id[40];	      /* of the machine's boot that it was made in */
	bool network_later;	      /* could not be taken down: left to node_network_collect() */
	unsigned calls;		      /* requests that its monitor has not answered */
	bool figures_asked;	      /* for its metrics: see cri/metrics.c */
	struct strbuf list_item;      /* ListPodSandbox's item as bytes; empty: to be made */
};

struct container {
	struct node *node;
	struct pod *pod; /* borrowed: containers go before their pod */
	char id[ID_SIZE];
	unsigned refs;
	enum container_state state;
	struct arena arena;
	Runtime__V1__ContainerConfig *config;
	uint8_t *config_bytes;
	size_t config_len;
	char *name_key;
	char *image_id, *image_ref;
	char *edits; /* what files on the node add to its commands (spec.h); NULL: nothing */
	struct strv volumes; /* ids of the images that it mounts, in the order of its mounts */
	char *runtime_name;
	struct node_runtime *runtime; /* what it was made with; a reference; NULL: not known */
	char *choice;		      /* why that: choice_print(); NULL: not known; owned */
	char *cgroup;		      /* path below the hierarchies */
	struct cgroup_files cgroup_files;
	char *reason, *message; /* never NULL */
	char *log_path;		/* absolute, "" none */
	int stop_signal;
	pid_t pid; /* 0: none */
	bool lost; /* its pod's monitor knows nothing of it */
	int64_t created_at, started_at, finished_at;
	int32_t exit_code;
	int64_t uid, gid; /* of its process; supplementary groups below */
	uint32_t *groups;
	size_t n_groups;
	uint64_t usage_bytes, usage_inodes; /* writable layer, last measured */
	int64_t usage_at;
	struct cpu_rate cpu_rate;
	struct list in_order, in_pod;
	struct co_lock lock;
	struct co_event exited;
	struct strbuf list_item;
};

/* --- objects (pod.c) --- */

/* protobuf-c on an arena: nothing of a message is ever freed one by one. */
ProtobufCAllocator pod_allocator(struct arena *a);

/* A new pod in state CREATING, in no table; `config` is unpacked from the bytes, which are
 * copied.  One reference, the caller's.  INVALID_ARGUMENT where the bytes are no message. */
int pod_new(struct node *n, const char *id, const void *config, size_t len, struct pod **ret,
	    struct err *e);
struct pod *pod_ref(struct pod *p);
struct pod *pod_unref(struct pod *p); /* NULL */

/* Puts it into the tables under its id and name.  ALREADY_EXISTS names the holder. */
int pod_link(struct pod *p, struct err *e);
/* Takes it out of the tables and drops their reference. Idempotent. */
void pod_unlink(struct pod *p);
/* A whole id, or a prefix of it that only one pod has. NOT_FOUND. borrowed */
int pod_find(struct node *n, const char *id, struct pod **ret, struct err *e);
/* Sets the state, forgets the cached list item, writes the row, tells the event. */
int pod_set_state(struct pod *p, enum pod_state state, struct err *e);
int pod_record(struct pod *p, struct err *e);
/* What the row's `runtime` holds, put into the object. */
void pod_restore_runtime(struct pod *p, const char *row);
/* The machine has been started since it was made: nothing of it is alive. */
bool pod_is_of_past_boot(const struct pod *p);
/*
 * The time at which a sandbox of that name, namespace and uid, or a container in one, is made:
 * now, or where the clock has been set back (over a restart, say) just after the newest that is
 * there.  The kubelet takes the newest for the one that counts.
 */
int64_t pod_creation_time(const struct node *n, const Runtime__V1__PodSandboxMetadata *m);
/*
 * The time of what is told of a pod now, in its status or an event: the clock's, but never before
 * one that has been told of it already, nor before anything that has happened in it.  A kubelet with
 * evented PLEG drops what is older than what it has.
 */
int64_t pod_telling_time(struct pod *p);

/* The same for containers; the pod is linked first. */
int container_new(struct pod *p, const char *id, const void *config, size_t len,
		  struct container **ret, struct err *e);
struct container *container_ref(struct container *c);
struct container *container_unref(struct container *c);
int container_link(struct container *c, struct err *e);
void container_unlink(struct container *c);
int container_find(struct node *n, const char *id, struct container **ret, struct err *e);
int container_record(struct container *c, struct err *e);
const char *container_state_name(const struct container *c); /* for people; static */
/* What the row's `extra` holds, put into the object. */
void container_restore(struct container *c, const void *extra, size_t n);
/* "OOMKilled", "Completed", "Error" for an exit that was seen. Sets state (not of one that is
 * being removed), reason and times: never finished before it was started or made. */
void container_set_exited(struct container *c, int code, int64_t at, bool oom);

/* Tells node->on_event. */
void pod_event(struct pod *p, enum node_event what);
void container_event(struct container *c, enum node_event what);

#define _cleanup_pod_ __attribute__((cleanup(pod_unrefp)))
static inline void pod_unrefp(struct pod **p)
{
	pod_unref(*p);
}
#define _cleanup_container_ __attribute__((cleanup(container_unrefp)))
static inline void container_unrefp(struct container **c)
{
	container_unref(*c);
}
