/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gantryd and a pod's gantry-monitor say to each other, in frames (ipc.h).
 *
 * gantryd starts the monitor with descriptor 3 as the first connection; a later gantryd
 * connects to <pod directory>/monitor.sock.  Several connections may exist; events go to
 * all.  Requests of one container are done in order; requests of different containers, and
 * exec, run side by side.  IPC_CANCEL makes a request undo itself; it is still answered.
 *
 * Tags keep their meaning for ever: monitors of an older gantry are taken over by a newer.
 */
#pragma once

/* Requests, answered by IPC_REPLY. */
enum {
	/* -> MON_TAG_POD_*, MON_TAG_CONTAINER for each: what a restarted daemon needs. */
	MON_STATE = 16,
	/* Makes the namespaces, network, /dev/shm, files. -> namespace paths, addresses.
	 * Undone before a failure is answered. */
	MON_POD_SETUP = 17,
	/* Kills all containers, takes down the network. Idempotent. */
	MON_POD_STOP = 18,
	/* As stop, then removes containers and directories; the monitor ends after answering. */
	MON_POD_REMOVE = 19,
	/* -> MON_TAG_PID. Undone before a failure is answered. */
	MON_CREATE = 20,
	MON_START = 21,
	/* Signal, grace, SIGKILL. Answered when it is dead. A second one shortens the first. */
	MON_STOP = 22,
	/* Kills it where it runs, removes it with its writable layer. Idempotent. */
	MON_REMOVE = 23,
	/* -> MON_TAG_EXIT_CODE and two descriptors: what was written (memfd, at offset 0). */
	MON_EXEC = 24,
	MON_UPDATE = 25,
	MON_REOPEN_LOG = 26,
	/* -> MON_TAG_NET_* counters of the pod's interfaces. */
	MON_NET_STATS = 27,
};

/* Events, sequence 0. */
enum {
	MON_EVENT_EXIT = 64, /* MON_TAG_ID, EXIT_CODE, FINISHED_AT, OOM */
};

enum {
	MON_TAG_ID = 16,	/* string: container (or pod) */
	MON_TAG_STATE = 17,	/* u64, enum mon_container_state */
	MON_TAG_PID = 18,	/* u64 */
	MON_TAG_CREATED_AT = 19, /* i64, wall ns; also below */
	MON_TAG_STARTED_AT = 20,
	MON_TAG_FINISHED_AT = 21,
	MON_TAG_EXIT_CODE = 22, /* u64 */
	MON_TAG_OOM = 23,	/* u64, 1: a process of it was killed for want of memory */
	MON_TAG_CONTAINER = 24, /* nested fields: one container's state */
	MON_TAG_POD_READY = 25, /* u64, 1: set up and not stopped */

	/* MON_POD_SETUP: network */
	MON_TAG_NET_KIND = 32, /* string: "host", "cni", "bridge" */
	MON_TAG_NETNS_PATH = 33, /* string: the pin to be made; in the reply: the path to use */
	MON_TAG_POD_NAME = 34,
	MON_TAG_POD_NAMESPACE = 35,
	MON_TAG_POD_UID = 36,
	MON_TAG_NET_CONFIG = 37,  /* string: JSON of struct network_config, see network.h */
	MON_TAG_PORT_MAPPINGS = 38, /* string: JSON as CNI's portMappings */
	MON_TAG_BANDWIDTH = 39,	  /* string: JSON as CNI's bandwidth */
	MON_TAG_DNS = 40,	  /* string: JSON as CNI's dns capability */
	/* namespaces and files */
	MON_TAG_IPC_HOST = 48,	/* u64 */
	MON_TAG_UTS_HOST = 49,	/* u64 */
	MON_TAG_PID_SHARED = 50, /* u64: keep a process 1 for the pod */
	MON_TAG_HOSTNAME = 51,
	MON_TAG_SYSCTL = 52,	/* repeated string "name=value" */
	MON_TAG_SHM_SIZE = 53,	/* u64 bytes */
	MON_TAG_RESOLV_CONF = 54, /* string: content */
	MON_TAG_LOG_DIRECTORY = 55,
	MON_TAG_CGROUP = 56,	/* string: cgroupsPath for the runtime, or the pod's parent */
	/* reply of MON_POD_SETUP and MON_STATE */
	MON_TAG_IPCNS_PATH = 60,
	MON_TAG_UTSNS_PATH = 61,
	MON_TAG_PIDNS_PATH = 62,
	MON_TAG_IPS = 63, /* string, space-separated */

	/* MON_CREATE */
	MON_TAG_CONFIG = 80,	/* bytes: config.json; MON_EXEC: process.json; MON_UPDATE */
	MON_TAG_RUNTIME = 81,	/* string: path of the runtime */
	MON_TAG_RUNTIME_ARG = 82, /* repeated string, before the command */
	MON_TAG_RUNTIME_ROOT = 83, /* string: --root */
	MON_TAG_SYSTEMD_CGROUP = 84, /* u64 */
	MON_TAG_LAYERS_DIR = 85, /* string: <root>/layers */
	MON_TAG_LAYER = 86,	/* repeated string: directory names below, topmost first */
	MON_TAG_WRITABLE = 87,	/* string: <root>/containers/<id> */
	MON_TAG_TTY = 88,	/* u64 */
	MON_TAG_STDIN = 89,	/* u64 */
	MON_TAG_STDIN_ONCE = 90, /* u64 */
	MON_TAG_LOG_PATH = 91,	/* string, absolute; empty: output is thrown away */
	MON_TAG_LOG_LINE_MAX = 92, /* u64 bytes */
	MON_TAG_TIMEOUT = 93,	/* u64 microseconds: of a runtime call; MON_EXEC: of the command */
	MON_TAG_SHARED_PIDNS = 94, /* u64: it is not process 1 of a PID namespace of its own */
	MON_TAG_MOUNT_SOURCE = 95, /* repeated string: made as a directory where it is missing */

	/* MON_STOP */
	MON_TAG_SIGNAL = 112, /* u64 */
	MON_TAG_GRACE = 113,  /* u64 microseconds */
	/* MON_EXEC */
	MON_TAG_OUTPUT_MAX = 120, /* u64 bytes a stream */

	/* MON_NET_STATS: repeated nested fields, one interface each */
	MON_TAG_NET_IF = 128,
	MON_TAG_NET_NAME = 129,
	MON_TAG_NET_RX_BYTES = 130,
	MON_TAG_NET_RX_ERRORS = 131,
	MON_TAG_NET_TX_BYTES = 132,
	MON_TAG_NET_TX_ERRORS = 133,
};

enum mon_container_state {
	MON_CREATING = 0,
	MON_CREATED = 1,
	MON_RUNNING = 2,
	MON_EXITED = 3,
};

/* Exit code of a container whose real one nobody saw (its monitor died). */
#define MON_EXIT_UNKNOWN 255
