/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a CRI request and an image's configuration to an OCI runtime configuration
 * (opencontainers/runtime-spec 1.0: config.md, config-linux.md).
 *
 * Pure: no system call is made here; what is to be known of the host comes in.  The request
 * has been validated (cri/validate.h), what cannot be decided without the image is
 * checked here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "api.pb-c.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "image/record.h"
#include "wire/json.h"

#define SPEC_HUGEPAGES_MAX 16

/* A resource limit of a container's processes. */
struct spec_rlimit {
	const char *type; /* "RLIMIT_NOFILE"; static */
	uint64_t soft, hard;
};
#define SPEC_RLIMITS_MAX 16 /* as many as the kernel has */

/* Facts of the host. */
struct spec_host {
	bool cgroup_v2, swap;
	bool cgroup_systemd; /* containers are units of systemd's */
	bool seccomp, apparmor, selinux;
	bool hugetlb;				   /* limits of huge pages can be set */
	uint64_t hugepages_kb[SPEC_HUGEPAGES_MAX]; /* sizes that the kernel has */
	size_t n_hugepages;
	uint64_t caps;			   /* capabilities that can be given away: bits by number */
	uint64_t nofile_soft, nofile_hard; /* of the daemon when it was started */
	struct spec_rlimit rlimits[SPEC_RLIMITS_MAX]; /* of the node's containers; each type once */
	size_t n_rlimits;
	int oom_score_adj_min; /* lower cannot be set */
};

#define SPEC_GROUPS_MAX 65536 /* NGROUPS_MAX */
/* The identity of a container's process. */
struct spec_user {
	uint32_t uid, gid;
	uint32_t *groups; /* owned; the primary group first */
	size_t n_groups;
	char *home; /* owned; from /etc/passwd, NULL: not there */
	bool by_name;
};

/*
 * Who it runs as: run_as_user, run_as_username or the image's USER, by its /etc/passwd and
 * /etc/group; groups by the policy.  INVALID_ARGUMENT for a name the image does not know.
 */
int spec_user_resolve(const struct image_config *image,
		      const Runtime__V1__LinuxContainerSecurityContext *sc, struct spec_user *ret,
		      struct err *e);
/* Its ids are mapped in the pod's user namespace; `pod` may have none. */
int spec_user_check(const struct spec_user *u, const Runtime__V1__PodSandboxConfig *pod,
		    struct err *e);
void spec_user_fini(struct spec_user *u);

/* A device node of the host. */
struct spec_device {
	const char *path; /* in the container */
	char type;	  /* 'c' or 'b'; 'p': no device, but a FIFO of that name */
	int64_t major, minor;
	uint32_t mode, uid, gid;
	const char *permissions; /* "rwm"; "": the cgroup lets nothing through */
};

/* A mount of the host's, or of an image, that the caller makes; config.json has it as
 * <binds_dir>/<number>. */
struct spec_bind {
	char *source;			 /* owned; "" of an image */
	const Runtime__V1__Mount *image; /* that names the image; NULL: `source` is meant */
	uint64_t set, clear;		 /* MOUNT_ATTR_* (mount_setattr(2)) */
	bool deep;			 /* ... of mounts below it too */
	bool mapped;			 /* its ids are those of the pod's user namespace */
};

struct spec_binds {
	struct spec_bind *v; /* owned */
	size_t n, cap;
};
void spec_binds_fini(struct spec_binds *b);

struct spec_container {
	const Runtime__V1__PodSandboxConfig *pod;
	const Runtime__V1__ContainerConfig *config;
	const struct image_config *image;
	const struct spec_user *user;
	const struct spec_host *host;
	const char *pod_id, *id, *image_name;
	const char *hostname;			   /* of the pod, for $HOSTNAME */
	const char *netns, *ipcns, *utsns, *pidns; /* paths; "": the host's */
	bool own_pidns;				   /* a new one instead of pidns */
	/* Path of the pod's user namespace, "" or NULL: the host's.  Its mappings are in `pod`. */
	const char *userns;
	/* Filled: what config.json has below binds_dir. Images; with a user namespace all mounts. */
	struct spec_binds *binds;
	const char *binds_dir;
	const char *shm, *resolv_conf, *hostname_file; /* paths to bind, "" none */
	const char *cgroups_path;
	const char *seccomp;	    /* the profile as JSON, NULL: unconfined */
	const char *seccomp_filter; /* it, compiled, for crun (run.oci.seccomp_bpf_data); or NULL */
	const char *apparmor_default;
	const char
		*env_program; /* gantry-env on the host; "": values that are no UTF-8 are changed */
	int64_t pids_limit;
	const struct spec_device *devices; /* asked for, or all of a privileged container */
	size_t n_devices;
	bool privileged_without_host_devices;
	const jv *edits; /* what files on the node add; NULL: nothing */
	/* Patterns of the pod's annotations that are passed on, and of the container's that are although
	 * they steer runtimes; NULL-terminated, or NULL */
	const char *const *pod_annotations, *const *container_annotations;
};

/*
 * What files on the node add to a container (CDI devices, OCI hooks): one object, as the worker
 * collected it (programs/gantry-worker/edits.h).  Of its members, devices and groups are for the
 * caller to put where the request's own are; the rest is printed with the container.
 */
#define SPEC_DEVICE_MODE 0666 /* where the file says none and the host has no such node */
/* Its devices after (and in place of) those in *v. Arena. */
void spec_edits_devices(const jv *edits, const struct spec_user *u, struct arena *a,
			struct spec_device **v, size_t *n);
/* Its groups, after the user's own. INVALID_ARGUMENT for too many. */
int spec_edits_groups(const jv *edits, struct spec_user *u, struct err *e);
/* What commands in the container have of it as well, as such an object; nothing: "". */
void spec_edits_print_exec(const jv *edits, struct strbuf *to);

/* config.json, appended.  INVALID_ARGUMENT where image and request do not fit. */
int spec_container_print(const struct spec_container *s, struct strbuf *to, struct err *e);
/*
 * The same without what says nothing of what a runtime has to know how to do, and may be megabytes:
 * arguments, environment, annotations, lists of paths; and without the seccomp profile. Appended.
 */
void spec_container_outline(const struct spec_container *s, struct strbuf *to);

/* The container that a runtime wants first of a pod, where its unit is the pod.  Its root has "/init",
 * which waits for ever as "/init --init". */
struct spec_sandbox {
	const Runtime__V1__PodSandboxConfig *pod;
	const struct spec_host *host;
	const char *pod_id;
	const char *netns, *ipcns; /* paths */
	const char *pidns;	   /* one that containers share; "": none */
	const char *cgroups_path;
	const char *const *pod_annotations; /* patterns, as above */
};
/* config.json, appended. */
void spec_sandbox_print(const struct spec_sandbox *s, struct strbuf *to);

/*
 * Directories that the image wants to be there for data (OCI image-spec, config.md, Volumes) and that
 * no mount takes the place of, added: the caller makes them in the root.  In a read-only root they
 * are writable: config.json has the n-th as <binds_dir>/vn then, where the caller mounts it
 * (spec_volumes_mounted()).  INVALID_ARGUMENT for too many.
 */
#define SPEC_VOLUMES_MAX 256 /* of one image */
int spec_volumes(const struct spec_container *s, struct strv *to, struct err *e);
bool spec_volumes_mounted(const struct spec_container *s);

/* The mount is of an image, not of the host's. */
bool spec_mount_is_image(const Runtime__V1__Mount *m);
/* The user namespace that a pod asks for; NULL: none. borrowed */
const Runtime__V1__UserNamespace *spec_userns_of(const Runtime__V1__PodSandboxConfig *pod);

/* A command's terminal, characters; 0: not known. */
struct spec_terminal {
	uint16_t width, height;
};

/* process.json of a command in that container, appended; `tty` NULL: it has no terminal. */
void spec_exec_print(const struct spec_container *s, char *const *argv, size_t n,
		     const struct spec_terminal *tty, struct strbuf *to);

/* `linux.resources` for an update of those `in_force`, as JSON, appended. */
void spec_resources_print(const Runtime__V1__LinuxContainerResources *r,
			  const Runtime__V1__LinuxContainerResources *in_force,
			  const struct spec_host *host, struct strbuf *to);

/*
 * What systemd has to know of a container's unit on cgroup v2, or it would undo it with the next
 * change of the unit or a reload: limits that some runtimes only write into files (crun 1.8).
 * fn: a property as D-Bus has it (org.freedesktop.systemd1(5)) and its value, UINT64_MAX: no limit.
 */
typedef void spec_property_fn(void *arg, const char *name, uint64_t value);
void spec_unit_properties(const Runtime__V1__LinuxContainerResources *r,
			  const struct spec_host *host, int64_t pids_limit, spec_property_fn *fn,
			  void *arg);

/* Lays `with` over `r`: what is not zero there.  `r` keeps borrowing from `with` and the arena. */
void spec_resources_merge(Runtime__V1__LinuxContainerResources *r,
			  const Runtime__V1__LinuxContainerResources *with, struct arena *a);

/* The AppArmor profile that a container asks for: its name, "unconfined", or `standard` where it
 * names none.  borrowed */
const char *spec_apparmor_of(const Runtime__V1__LinuxContainerSecurityContext *sc,
			     const char *standard);

/* The built-in seccomp profile for a process with these capabilities (bits), as JSON. */
void spec_seccomp_default_print(uint64_t caps, struct strbuf *to);

/* --- names --- */

#define SPEC_CAPS 41 /* CAP_CHOWN .. CAP_CHECKPOINT_RESTORE */
/* Number of "CAP_NET_ADMIN" or "NET_ADMIN", any case; -1 for what is none. */
int spec_cap_number(const char *name);
const char *spec_cap_name(unsigned number); /* static */
/* Capabilities of a container by default, as bits. */
uint64_t spec_caps_default(void);
/* What add and drop make of it, within what the host has. */
uint64_t spec_caps_of(const Runtime__V1__LinuxContainerSecurityContext *sc, uint64_t host);
