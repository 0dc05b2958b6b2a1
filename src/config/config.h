/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one configuration: embedded defaults, then the file (YAML), then flags.
 *
 * Every key of the file is a member here and nothing else; unknown keys, wrong types and
 * values out of range are errors with file, line and what was expected.  No file is needed.
 * All strings are owned by the struct (arena) and absolute where they are paths.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"

struct pattern;

enum config_cgroup_driver { CONFIG_CGROUP_AUTO, CONFIG_CGROUP_CGROUPFS, CONFIG_CGROUP_SYSTEMD };

/* How far a container is kept from the node: what a number stands for is stronger than those below
 * it.  Written as plain, userns, kernel and vm. */
enum config_isolation {
	CONFIG_ISOLATION_PLAIN,	 /* namespaces and filters of the node's kernel */
	CONFIG_ISOLATION_USERNS, /* and always a user namespace */
	CONFIG_ISOLATION_KERNEL, /* a kernel of its own that is a program, as gVisor's */
	CONFIG_ISOLATION_VM,	 /* a virtual machine */
};
const char *config_isolation_name(enum config_isolation i); /* static */

/* What a runtime makes at once: a container, or a pod that its containers are put into. */
enum config_unit { CONFIG_UNIT_CONTAINER, CONFIG_UNIT_POD };

/* "kvm", "unix:/PATH", "program:NAME" or "file:/PATH". */
bool config_facility_good(const char *s);

/* One entry of `runtimes:`; the name is the handler that RunPodSandbox may ask for. */
struct config_runtime {
	const char *name;
	const char *path;		 /* absolute, or a name looked up in PATH */
	const char *const *args;	 /* put before the command, NULL-terminated; never NULL */
	const char *const *needs;	 /* config_facility_good(); NULL-terminated, never NULL */
	enum config_isolation isolation; /* plain */
	enum config_unit unit;		 /* container */
	bool routes;			 /* rules of `routes:` are for pods that name it, too */
	bool privileged_without_host_devices;
	/* Patterns (fnmatch(3), FNM_PATHNAME): annotations of pods that are passed on; annotations of
	 * containers that are although they steer runtimes.  NULL-terminated; never NULL */
	const char *const *pod_annotations, *const *container_annotations;
};

/* A label or an annotation that a rule asks for: one of the patterns fits its value. */
struct config_match_pair {
	const char *key;
	const struct pattern *patterns;
	size_t n;
};

enum config_match_bool { CONFIG_MATCH_ANY, CONFIG_MATCH_TRUE, CONFIG_MATCH_FALSE };

/*
 * One rule of `routes:`.  All conditions that are there must hold, of the patterns of each any
 * one; n_* 0 and NULL: no condition.
 */
struct config_rule {
	const char *name; /* no two have the same */
	unsigned line;	  /* of the file */
	/* exact; "" stands for a pod that names none; NULL-terminated */
	const char *const *handlers;
	const struct pattern *images, *namespaces, *pods, *containers;
	size_t n_images, n_namespaces, n_pods, n_containers;
	const struct config_match_pair *labels, *annotations; /* of the pod */
	size_t n_labels, n_annotations;
	enum config_match_bool privileged, user_namespace;
	const char *const *runtimes; /* in order, at least one; each in `runtimes:` */
	bool allow_weaker;	     /* later ones of them may isolate less than the first */
	bool trust_annotations;	     /* there may be conditions on annotations */
};

/* Limits of rules. */
#define CONFIG_RUNTIMES_MAX 64	      /* entries of `runtimes:` */
#define CONFIG_RULES_MAX 4096	      /* rules */
#define CONFIG_RULE_NAME_MAX 63	      /* bytes of a rule's name */
#define CONFIG_RULE_PATTERNS_MAX 64   /* patterns of one condition; labels of one rule */
#define CONFIG_PATTERN_COST_MAX 16384 /* of all patterns together: pattern_cost() */

/* A resource limit of processes: "nofile=1024:4096". */
struct config_ulimit {
	const char *type;    /* "RLIMIT_NOFILE"; static */
	int resource;	     /* RLIMIT_NOFILE (getrlimit(2)) */
	uint64_t soft, hard; /* UINT64_MAX: none */
};
/* NAME=SOFT:HARD or NAME=BOTH; false for what is none. */
bool config_ulimit_parse(const char *s, struct config_ulimit *ret);

struct config {
	unsigned refs; /* of one that is shared: config_new() */
	struct arena arena;

	const char *root;     /* /var/lib/gantry: images, containers, index */
	const char *state;    /* /run/gantry: sockets and what a reboot may forget */
	const char *address;  /* /run/gantry/gantry.sock */
	const char *instance; /* derived: "gantry" for the default state directory, else
			       * "gantry-" and 8 hex digits of its path; names cgroups,
			       * the bridge, nft tables */

	struct {
		enum log_level level;
	} log;

	struct {
		enum config_cgroup_driver driver; /* auto: systemd where it is PID 1 */
		const char
			*parent; /* for pods that name none: "/<instance>" or "<instance>.slice" */
	} cgroup;

	struct config_runtime *runtimes; /* in order */
	size_t n_runtimes;
	struct config_rule *rules; /* `routes:`, in order: the first that fits decides */
	size_t n_rules;
	const char *const
		*hooks_dirs; /* OCI hooks, oci-hooks(5); later ones go first; empty: none */
	const char *const *default_runtimes; /* handler "": first available wins: crun, runc */

	/* A runtime that keeps failing is set aside (route/breaker.h). */
	struct {
		uint32_t failures;	       /* of its own in a row: 3; 0: never */
		uint64_t rest_us, rest_max_us; /* 10 s, 10 min */
	} breaker;

	struct {
		const char *conf_dir;	     /* /etc/cni/net.d */
		const char *const *bin_dirs; /* /opt/cni/bin, /usr/lib/cni */
		const char *cache_dir;	     /* <root>/cni: what ADD was given, for DEL; not lost
					      * with a reboot */
		uint64_t timeout_us;	     /* of one plugin call: 60 s */
		const char *netns_dir;	     /* /run/netns */
	} cni;

	struct {
		const char *const *spec_dirs; /* /etc/cdi, /run/cdi; later ones go first */
	} cdi;

	struct {
		bool enabled;	  /* used where conf_dir holds no configuration */
		const char *name; /* bridge interface; default gantry0, else g-<8 hex> */
		const char *ipv4; /* pool, default 10.88.0.0/16; "" none; other instances: a
				     * /24 of 10.89.0.0 to 10.95.255.255 chosen by the
				     * instance's hash */
		const char *ipv6; /* pool, default fd00:88::/64; "" none */
		uint32_t mtu;	  /* 0: the default route's */
		bool masquerade;
	} bridge;

	struct {
		const char *snapshotter;   /* "overlay" */
		const char *hosts_dir;	   /* /etc/gantry/certs.d, containerd's hosts.toml layout */
		const char *auth_file;	   /* /etc/gantry/auth.json, Docker's config.json layout */
		uint32_t parallel_layers;  /* 3 */
		uint32_t parallel_pulls;   /* 4 workers at once, the others wait */
		uint64_t stall_timeout_us; /* a transfer without a byte has failed: 60 s */
		uint64_t mirror_wait_us;   /* then the next host is asked: 5 s */
		uint64_t pull_timeout_us;  /* of one pull from its begin: 2 h */
		const char *const *pinned; /* image references never collected */
	} image;

	struct {
		const char *seccomp_default; /* profile where a container asks for RuntimeDefault:
					      * "" is the built-in one, else a file */
		const char
			*apparmor_default; /* profile name for RuntimeDefault: "gantry-default" */
		uint64_t max_log_line;	   /* bytes before a line is split (CRI partial): 16384 */
		uint64_t exec_output_max;  /* 16 MiB a stream */
		int64_t pids_limit;	   /* per container, 0 none */
		const char *const
			*default_ulimits;   /* config_ulimit_parse(); the last of a name counts */
		uint64_t create_timeout_us; /* one runtime call: 120 s */
		bool restore_images;	    /* images may be checkpoints: false */
	} container;

	/* Exec, Attach, PortForward */
	struct {
		const char *address; /* that their server listens on, IPv4 or IPv6: 127.0.0.1 */
		uint32_t port;	     /* 0: any free one */
		uint32_t max_connections; /* at once: 256 */
		uint64_t idle_timeout_us; /* a connection without a byte ends: 4 h */
		struct {
			const char *cert, *key; /* files (PEM), "" none: http */
			const char *client_ca;	/* file; clients must have a certificate of these */
			const char *min_version; /* "1.2" or "1.3" */
		} tls;
	} streaming;

	struct {
		const char *address; /* listen.h; "": not served */
	} metrics;

	struct {
		uint32_t max_requests; /* in flight on all connections: 1024 */
	} limits;
};

/* What the command line overrides; NULL where a flag is not given. */
struct config_flags {
	const char *file; /* --config: must exist then; else /etc/gantry/config.yaml if there */
	const char *root;
	const char *state;
	const char *address;
	const char *log_level;
};

/*
 * Builds the configuration.  `ret` is filled on success only.  Errors are INVALID_ARGUMENT
 * "FILE:LINE: KEY: what was found, what was expected".
 */
int config_load(const struct config_flags *flags, struct config *ret, struct err *e);
/* The same out of the content of the file (NULL: it is read), which need not be there then. */
struct strbuf;
int config_load_text(const struct config_flags *flags, const struct strbuf *text,
		     struct config *ret, struct err *e);
#define CONFIG_FILE_MAX (1u << 20) /* bytes */
/* The file that they read: must it exist?  borrowed */
const char *config_file(const struct config_flags *flags, bool *ret_must_exist);
void config_fini(struct config *c);

/* One that is shared: a reload must not pull it away from requests that are under way.  `text` as
 * above. One reference, the caller's. */
int config_new(const struct config_flags *flags, const struct strbuf *text, struct config **ret,
	       struct err *e);
const struct config *config_ref(const struct config *c);
const struct config *config_unref(const struct config *c); /* NULL */

/* Gives the settings of `next` that only the start of a daemon can change the values that they have
 * in `now`; the names of those that were others are appended, with ", " between them. */
void config_keep_fixed(const struct config *now, struct config *next, struct strbuf *ret_names);

/* The configuration as the YAML that would give it, comments included; appended. */
void config_dump(const struct config *c, struct strbuf *ret);

/* The runtime with that name, or NULL. borrowed */
const struct config_runtime *config_runtime_find(const struct config *c, const char *name);
/* Every setting is the same. */
bool config_runtime_equal(const struct config_runtime *a, const struct config_runtime *b);
