/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gantryd and a pod's gantry-monitor say to each other, in frames (ipc.h).
 *
 * Start: `gantry-monitor POD_ID POD_DIR`, setsid, descriptor 3 is the first connection.  A
 * later gantryd connects to <POD_DIR>/monitor.sock (monitor_connect()).  Several connections
 * may exist; events go to all.  A lost connection cancels nothing.  A monitor whose pod was
 * never set up ends when its last connection does.
 *
 * `gantry-monitor --recover POD_ID POD_DIR` is a fresh monitor for a pod whose monitor died:
 * it waits for the old one's jobs to end, reads the records in POD_DIR, watches the containers
 * that still run, and answers everything below except POD_SETUP, CREATE, START.  The pod is
 * not ready then.  It also starts where the records are damaged or missing: STOP and REMOVE
 * then undo what can be found.
 *
 * Requests of one container are done in order; requests of different containers, EXEC, STOP
 * and NET_STATS run side by side.  IPC_CANCEL makes SETUP, CREATE and EXEC undo themselves
 * (CANCELLED is answered after the undoing); a START, UPDATE, STOP, REMOVE goes on to its end.
 * A START whose process has gone is given up soon: FAILED_PRECONDITION.
 *
 * <state> must be a mount of its own with private propagation: containers' root file systems
 * are mounted below it in temporary mount namespaces (docs/decisions/0002).
 *
 * Tags keep their meaning for ever: monitors of an older gantry are taken over by a newer.
 */
#pragma once

#include "base/err.h"

/* Requests, answered by IPC_REPLY. "->" says what a successful reply carries. */
enum {
	/* -> VERSION, POD_STATE, POD_READY, what POD_SETUP answered, and a CONTAINER for each:
	 * ID STATE PID CREATED_AT STARTED_AT FINISHED_AT EXIT_CODE OOM REASON. */
	MON_STATE = 16,
	/*
	 * Makes namespaces, network, /dev/shm, files, cgroup.  Once in a monitor's life
	 * (FAILED_PRECONDITION afterwards).  Undone before a failure is answered.
	 * NET_KIND NETNS_PATH POD_NAME POD_NAMESPACE POD_UID NET_CONFIG [PORT_MAPPINGS]
	 * [BANDWIDTH] [DNS] [CAPABILITIES] [IPC_HOST] [UTS_HOST] [PID_SHARED] [HOSTNAME] [SYSCTL...] [SHM_SIZE]
	 * [RESOLV_CONF] [LOG_DIRECTORY] [CGROUP] [CGROUP_OWNED] [CGROUP_SETTING...]
	 * [UID_MAP GID_MAP]: a user namespace, which the others belong to
	 * -> NETNS_PATH IPCNS_PATH UTSNS_PATH PIDNS_PATH USERNS_PATH (absent: the host's) IPS
	 * Files, where asked for: POD_DIR/resolv.conf, POD_DIR/hostname, POD_DIR/shm.
	 */
	MON_POD_SETUP = 17,
	/* Kills all containers at once (their exits are sent as events before the reply), takes
	 * down network and namespaces. Idempotent.  Carries the fields of MON_POD_SETUP, for the
	 * case that the records in POD_DIR are gone. */
	MON_POD_STOP = 18,
	/* As stop, then removes containers, cgroup and POD_DIR; the monitor ends after
	 * answering. */
	MON_POD_REMOVE = 19,
	/*
	 * ID CONFIG RUNTIME [RUNTIME_ARG...] RUNTIME_ROOT [SYSTEMD_CGROUP] LAYERS_DIR [LAYER...]
	 * WRITABLE [TTY] [STDIN] [STDIN_ONCE] [LOG_PATH] [LOG_LINE_MAX] CGROUP [TIMEOUT]
	 * [SHARED_PIDNS] [MOUNT_SOURCE...] [WANT_FILTER] [VOLUME...] [VOLUMES_MOUNTED] [BIND...]
	 * -> PID CREATED_AT [FILTER].  Undone before a failure is answered.  The bundle is
	 * POD_DIR/containers/ID; config.json must name "rootfs" as root.path.  The n-th BIND (from
	 * 0) is mounted on MON_BINDS/n in the bundle, where config.json finds it: a SOURCE of the
	 * host, or of the image IMAGE, which is made of the LAYERs, the part SUB_PATH.  Each VOLUME is
	 * made as a directory in the root where nothing is there; VOLUMES_MOUNTED: the n-th is mounted
	 * on MON_BINDS/vn too.
	 * ALREADY_EXISTS for an ID that is there.
	 * RESTORE: there is no process yet (no PID in the reply), START makes it out of the checkpoint
	 * that somebody puts into WRITABLE's RESTORE meanwhile (ipc/worker.h, WORKER_RESTORE).
	 *
	 * Where the runtime's unit is the pod, one with SANDBOX and the pod's ID is created and started
	 * first: no LAYER, no WRITABLE; its root is made here and has only the program "/init", which
	 * waits for ever as "/init --init".  It is in no state and no event; when it ends, so have all
	 * others, and MON_EVENT_POD says that the pod is not ready.  It goes with the pod.  Containers
	 * that are to be put into it have IN_SANDBOX: FAILED_PRECONDITION where it does not run.
	 */
	MON_CREATE = 20,
	/* ID -> STARTED_AT [PID CGROUP: of one with RESTORE]. FAILED_PRECONDITION where it is not
	 * created. */
	MON_START = 21,
	/* ID [SIGNAL] [GRACE]: signal, grace, SIGKILL to all of it.  -> the container's state.
	 * Answered when it is dead (at once where it is already).  A second one never lengthens
	 * the first.  A container that was not started is killed. */
	MON_STOP = 22,
	/* ID [RUNTIME RUNTIME_ROOT WRITABLE]: kills it where it runs, removes it with its writable
	 * layer. Idempotent; of an unknown one the fields say what there may be.  The log file
	 * stays. */
	MON_REMOVE = 23,
	/* ID CONFIG(process.json) [TIMEOUT] [OUTPUT_MAX] -> EXIT_CODE [TRUNCATED] and two
	 * descriptors: standard output and error (memfd, offset 0). DEADLINE_EXCEEDED when
	 * TIMEOUT ran out and everything was killed. */
	MON_EXEC = 24,
	/* ID CONFIG: linux.resources as JSON */
	MON_UPDATE = 25,
	/* ID: opens LOG_PATH anew; what was read before is in the old file. */
	MON_REOPEN_LOG = 26,
	/* -> NET_IF for each interface of the pod: NET_NAME and counters. */
	MON_NET_STATS = 27,
	/* ID SIGNAL: to its first process, without waiting. */
	MON_KILL = 28,
	/* CGROUP FILES -> FILES, and a descriptor of each: files of a cgroup that figures are read
	 * from (sys/cgroup.h, struct cgroup_files). */
	MON_FILES = 29,
	/*
	 * ID CONFIG(process.json) TTY STDIN STDOUT STDERR (tags of ipc/stream.h): a command whose streams
	 * are handed over -> the descriptors of STREAM_START, in its order.  Answered when it has been
	 * started; the control connection says the rest.
	 */
	MON_EXEC_STREAM = 30,
	/* ID STDIN STDOUT STDERR: of a container that is created or runs -> the same descriptors. */
	MON_ATTACH = 31,
	/* PORT -> a descriptor, connected to that port in the pod's network. UNAVAILABLE. */
	MON_CONNECT = 32,
	/* -> a CONTAINER for each that runs: ID and its FIGUREs (WHAT [LABELS] VALUE); and NET_IF as
	 * of NET_STATS where the pod has a network of its own. */
	MON_FIGURES = 33,
	/* ID CONFIG (config.dump) WRITABLE SNAPSHOTTER LOCATION [TIMEOUT]: an archive of the running
	 * container, at a path, made by `RUNTIME checkpoint`; it runs on. Undone before a failure is
	 * answered. */
	MON_CHECKPOINT = 34,
};

/* Events, sequence 0. */
enum {
	MON_EVENT_EXIT = 64, /* ID STATE PID CREATED_AT STARTED_AT FINISHED_AT EXIT_CODE OOM REASON;
			      * its output is in the log by now */
	MON_EVENT_POD = 65,  /* POD_READY: the pod has ended of itself (its process 1 has) */
};

enum {
	MON_TAG_ID = 16,	 /* string: container (or pod) */
	MON_TAG_STATE = 17,	 /* u64, enum mon_container_state */
	MON_TAG_PID = 18,	 /* u64 */
	MON_TAG_CREATED_AT = 19, /* i64, wall ns, 0 not yet; also below */
	MON_TAG_STARTED_AT = 20,
	MON_TAG_FINISHED_AT = 21,
	MON_TAG_EXIT_CODE = 22, /* u64 */
	MON_TAG_OOM = 23,	/* u64, 1: a process of it was killed for want of memory */
	MON_TAG_CONTAINER = 24, /* nested fields: one container's state */
	MON_TAG_POD_READY = 25, /* u64, 1: set up and not stopped */
	MON_TAG_VERSION = 26,	/* string: the monitor's (GANTRY_VERSION); --probe: the runtime's */
	MON_TAG_REASON = 27, /* string, when exited: "Completed", "Error", "OOMKilled", "Unknown" */
	MON_TAG_POD_STATE = 28, /* u64, enum mon_pod_state */
	MON_TAG_FEATURES = 29,	/* string: --probe: what `RUNTIME features` printed (JSON) */
	MON_TAG_UNSEEN = 30,	/* u64, 1: it has ended, but nobody saw with which code */

	/* MON_POD_SETUP: network */
	MON_TAG_NET_KIND = 32,	 /* string: "host", or "pod": a network of its own */
	MON_TAG_NETNS_PATH = 33, /* string: the pin to be made; in the reply: the path to use */
	MON_TAG_POD_NAME = 34,
	MON_TAG_POD_NAMESPACE = 35,
	MON_TAG_POD_UID = 36,
	MON_TAG_NET_CONFIG = 37,    /* string: JSON of struct network_config, see network.h */
	MON_TAG_PORT_MAPPINGS = 38, /* string: JSON as CNI's portMappings */
	MON_TAG_BANDWIDTH = 39,	    /* string: JSON as CNI's bandwidth */
	MON_TAG_DNS = 40,	    /* string: JSON as CNI's dns capability */
	MON_TAG_CAPABILITIES = 41,  /* string: JSON object of further CNI capabilities */
	/* namespaces and files */
	MON_TAG_IPC_HOST = 48,	 /* u64 */
	MON_TAG_UTS_HOST = 49,	 /* u64 */
	MON_TAG_PID_SHARED = 50, /* u64: keep a process 1 for the pod */
	MON_TAG_HOSTNAME = 51,	 /* string: set (unless UTS_HOST) and written to a file */
	MON_TAG_SYSCTL = 52,   /* repeated string "name=value", name as net.ipv4.x or net/ipv4/x */
	MON_TAG_SHM_SIZE = 53, /* u64 bytes, 0: no /dev/shm of its own */
	MON_TAG_RESOLV_CONF = 54,   /* string: content */
	MON_TAG_LOG_DIRECTORY = 55, /* string: made with its parents */
	/* string. POD_SETUP: the cgroup that holds the pod's containers, a path below the
	 * hierarchies ("/gantry/ID"). CREATE: cgroupsPath as config.json has it. */
	MON_TAG_CGROUP = 56,
	MON_TAG_CGROUP_OWNED = 57,   /* u64: the pod's cgroup is ours to make and remove */
	MON_TAG_CGROUP_SETTING = 58, /* repeated string "memory.max=N", written to that cgroup */
	/* reply of MON_POD_SETUP and MON_STATE; absent: the host's */
	MON_TAG_IPCNS_PATH = 60,
	MON_TAG_UTSNS_PATH = 61,
	MON_TAG_PIDNS_PATH = 62,
	MON_TAG_IPS = 63, /* string, space-separated, primary first */
	MON_TAG_NETWORK_LATER =
		64, /* u64, 1, to stop or remove: the network is left to --network-gc */
	MON_TAG_USERNS_PATH = 65,
	/* MON_POD_SETUP: string "CONTAINER HOST LENGTH" */
	MON_TAG_UID_MAP = 66,
	MON_TAG_GID_MAP = 67,

	/* MON_CREATE */
	MON_TAG_CONFIG = 80,	     /* bytes: config.json; MON_EXEC: process.json; MON_UPDATE */
	MON_TAG_RUNTIME = 81,	     /* string: path of the runtime */
	MON_TAG_RUNTIME_ARG = 82,    /* repeated string, before the command */
	MON_TAG_RUNTIME_ROOT = 83,   /* string: --root */
	MON_TAG_SYSTEMD_CGROUP = 84, /* u64 */
	MON_TAG_LAYERS_DIR = 85,     /* string: <root>/layers */
	MON_TAG_LAYER = 86,	     /* repeated string: directory names below, topmost first */
	MON_TAG_WRITABLE = 87,	     /* string: <root>/containers/<id> */
	MON_TAG_TTY = 88,	     /* u64 */
	MON_TAG_STDIN = 89,	     /* u64 */
	MON_TAG_STDIN_ONCE = 90,     /* u64 */
	MON_TAG_LOG_PATH = 91,	     /* string, absolute; empty: output is thrown away */
	MON_TAG_LOG_LINE_MAX = 92,   /* u64 bytes, MON_LOG_LINE_MIN..MAX */
	MON_TAG_TIMEOUT = 93,	     /* u64 microseconds: of one runtime call (kept for START, EXEC,
				      * ...); MON_EXEC: of the command, 0 none */
	MON_TAG_SHARED_PIDNS = 94,   /* u64: it is not process 1 of a PID namespace of its own */
	MON_TAG_MOUNT_SOURCE = 95,   /* repeated string: made as a directory where it is missing */
	MON_TAG_WANT_FILTER = 96,    /* u64: the compiled seccomp filter is asked for */
	MON_TAG_FILTER = 97,	     /* bytes: it, where the runtime left one */
	/* repeated nested fields: SOURCE [SET] [CLEAR] [DEEP] [MAPPED], or
	 * IMAGE LAYER... [SUB_PATH] [SET] [CLEAR] [MAPPED] */
	MON_TAG_BIND = 98,
	MON_TAG_BIND_SOURCE = 99,      /* string: path on the host */
	MON_TAG_BIND_SET = 100,	       /* u64: MOUNT_ATTR_* */
	MON_TAG_BIND_CLEAR = 101,      /* u64 */
	MON_TAG_BIND_DEEP = 102,       /* u64, 1: SET and CLEAR are for mounts below it too */
	MON_TAG_BIND_MAPPED = 103,     /* u64, 1: its ids are those of the pod's user namespace */
	MON_TAG_BIND_IMAGE = 104,      /* string: name of the image, for messages */
	MON_TAG_BIND_SUB_PATH = 105,   /* string: of a directory or file in it, "": all of it */
	MON_TAG_VOLUME = 106,	       /* repeated string: a path in the container's root */
	MON_TAG_VOLUMES_MOUNTED = 107, /* u64 */
	MON_TAG_LOCATION = 108,	       /* string: path of a file to be made */
	MON_TAG_RESTORE = 109,	       /* string: a directory in WRITABLE */
	MON_TAG_SANDBOX = 115,	  /* u64, 1: the pod's sandbox container, whose ID is the pod's */
	MON_TAG_IN_SANDBOX = 116, /* u64, 1: the runtime puts it into that */

	/* MON_STOP, MON_KILL */
	MON_TAG_SIGNAL = 112, /* u64, absent: SIGTERM */
	MON_TAG_GRACE = 113,  /* u64 microseconds, absent or 0: SIGKILL at once */
	/* MON_EXEC */
	MON_TAG_OUTPUT_MAX = 120, /* u64 bytes a stream; more is read and dropped */
	MON_TAG_TRUNCATED = 121,  /* u64, 1: something was dropped */

	/* MON_NET_STATS: repeated nested fields, one interface each */
	MON_TAG_FILES = 136, /* u64, bits: CGROUP_FILES_* */
	MON_TAG_NET_IF = 128,
	MON_TAG_NET_NAME = 129,
	MON_TAG_NET_RX_BYTES = 130,
	MON_TAG_NET_RX_ERRORS = 131,
	MON_TAG_NET_TX_BYTES = 132,
	MON_TAG_NET_TX_ERRORS = 133,
	MON_TAG_NET_RX_PACKETS = 141,
	MON_TAG_NET_RX_DROPPED = 142,
	MON_TAG_NET_TX_PACKETS = 143,
	MON_TAG_NET_TX_DROPPED = 144,
	/* MON_FIGURES: repeated nested fields (sys/figures.h) */
	MON_TAG_FIGURE = 145,
	MON_TAG_FIGURE_WHAT = 146,   /* u64, enum figure */
	MON_TAG_FIGURE_LABELS = 147, /* string: values with tabs between them */
	MON_TAG_FIGURE_VALUE = 148,  /* u64 */
	MON_TAG_SNAPSHOTTER = 140,   /* string: image.snapshotter, with MON_TAG_WRITABLE */
};

enum mon_container_state {
	MON_CREATING = 0,
	MON_CREATED = 1,
	MON_RUNNING = 2,
	MON_EXITED = 3,
};

enum mon_pod_state {
	MON_POD_NEW = 0,
	MON_POD_READY = 1,
	MON_POD_STOPPING = 2,
	MON_POD_STOPPED = 3,
	MON_POD_RECOVERED = 4, /* its monitor died; this one can stop and remove it */
};

/* Exit code of a container whose real one nobody saw (its monitor died). */
#define MON_EXIT_UNKNOWN 255

#define MON_LOG_LINE_MIN 256
#define MON_LOG_LINE_MAX (64u << 10)
#define MON_LOG_LINE_DEFAULT (16u << 10)
#define MON_EXEC_OUTPUT_DEFAULT (16u << 20)

#define MON_SOCKET "monitor.sock"
#define MON_BINDS "binds" /* in a container's bundle */
/* What errors of images that cannot be mounted begin with. */
#define MON_IMAGE_ERROR "ImageVolumeMountFailed"

/*
 * Connects to the monitor of the pod whose directory this is (a path of any length). Does
 * not block. -ECONNREFUSED or -ENOENT: no monitor is there.  Returns the descriptor, owned.
 */
int monitor_connect(const char *pod_dir, struct err *e);

/*
 * --probe: `gantry-monitor --probe DIR STORE CGROUPS_PATH DRIVER[,pod] RUNTIME ARG...` runs
 * containers of one static program, the bundle in DIR, the layer in STORE (both removed again),
 * and prints four lines: the runtime's version, and why it does not work, has no user namespaces,
 * has none with the node's network; "" where there is no reason.
 */
