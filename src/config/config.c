/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: one table of keys, which the reader of the file and the printer share.
 * See config.h.
 */
#include "config/config.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "config/config_internal.h"
#include "config/config_reader.h"
#include "config/listen.h"

#define CONFIG_LIST_MAX 256 /* entries of one list */
#define DEFAULT_FILE "/etc/gantry/config.yaml"
#define DEFAULT_STATE "/run/gantry"

#define AT(member) offsetof(struct config, member)

const struct config_key config_keys[] = {
	{"root", PATH, AT(root), .fixed = true,
	 .about = "images, containers and the index; survives a reboot"},
	{"state", PATH, AT(state), .fixed = true,
	 .about = "sockets and records that a reboot may forget"},
	{"address", PATH, AT(address), .fixed = true,
	 .about = "the socket of CRI; default: gantry.sock in state"},
	{"log.level", LEVEL, AT(log.level), .about = "error, warn, info or debug"},
	{"cgroup.driver", DRIVER, AT(cgroup.driver), .fixed = true,
	 .about = "cgroupfs, systemd, or auto: systemd where it is process 1"},
	{"cgroup.parent", STRING, AT(cgroup.parent), .fixed = true, .may_be_empty = true,
	 .about = "of pods whose request names none; empty: named after the instance"},
	{"default_runtimes", STRINGS, AT(default_runtimes),
	 .about = "for pods that ask for no handler: the first of these that works here"},
	{"breaker.failures", NUMBER32, AT(breaker.failures), 0, 1000,
	 .about = "failures of its own in a row after which a runtime is set aside for a while; 0: "
		  "never"},
	{"breaker.rest", SECONDS, AT(breaker.rest_us), 1, 3600,
	 .about = "seconds until a runtime that was set aside is tried again; doubled each time it "
		  "fails"},
	{"breaker.rest_max", SECONDS, AT(breaker.rest_max_us), 1, 86400,
	 .about = "seconds that it is set aside at most"},
	{"hooks_dirs", PATHS, AT(hooks_dirs), .may_be_empty = true,
	 .about = "OCI hooks for containers (oci-hooks(5)); a file hides those of its name in "
		  "earlier "
		  "directories"},
	{"cni.conf_dir", PATH, AT(cni.conf_dir),
	 .about = "network configurations; the first in order of names is used"},
	{"cni.bin_dirs", PATHS, AT(cni.bin_dirs), .about = "where plugins are looked for"},
	{"cni.cache_dir", PATH, AT(cni.cache_dir), .fixed = true,
	 .about = "what plugins were given and answered, for the removal of a pod; must survive a "
		  "reboot; default: cni in root"},
	{"cni.timeout", SECONDS, AT(cni.timeout_us), 1, 3600,
	 .about = "seconds that one call of a plugin may take"},
	{"cni.netns_dir", PATH, AT(cni.netns_dir), .fixed = true,
	 .about = "where network namespaces of pods are pinned"},
	{"cdi.spec_dirs", PATHS, AT(cdi.spec_dirs), .may_be_empty = true,
	 .about = "where devices are described for containers (CDI); what a later directory has "
		  "goes "
		  "before what an earlier one has"},
	{"bridge.enabled", BOOLEAN, AT(bridge.enabled),
	 .about = "the built-in network, used where conf_dir holds no configuration"},
	{"bridge.name", STRING, AT(bridge.name), .fixed = true,
	 .about = "its interface, at most 15 characters; default: gantry0, or after the instance"},
	{"bridge.ipv4", STRING, AT(bridge.ipv4), .fixed = true, .may_be_empty = true,
	 .about = "addresses for pods; empty: none; default: after the instance"},
	{"bridge.ipv6", STRING, AT(bridge.ipv6), .fixed = true, .may_be_empty = true,
	 .about = "addresses for pods; empty: none; default: after the instance"},
	{"bridge.mtu", NUMBER32, AT(bridge.mtu), 0, 65535,
	 .about = "of the pods' interfaces; 0: that of the default route"},
	{"bridge.masquerade", BOOLEAN, AT(bridge.masquerade),
	 .about = "pods leave the node under its address"},
	{"image.snapshotter", STRING, AT(image.snapshotter), .fixed = true,
	 .about = "what makes a root file system out of layers: overlay"},
	{"image.hosts_dir", PATH, AT(image.hosts_dir),
	 .about = "registries and their mirrors: HOST/hosts.toml, _default/hosts.toml"},
	{"image.auth_file", PATH, AT(image.auth_file), .may_be_empty = true,
	 .about = "the node's own credentials for registries, as Docker's config.json; read for "
		  "each "
		  "pull; need not be there"},
	{"image.parallel_layers", NUMBER32, AT(image.parallel_layers), 1, 16,
	 .about = "layers of one pull that are fetched at once"},
	{"image.parallel_pulls", NUMBER32, AT(image.parallel_pulls), 1, 64,
	 .about = "pulls at once; further ones wait"},
	{"image.stall_timeout", SECONDS, AT(image.stall_timeout_us), 1, 3600,
	 .about = "seconds without a byte after which a transfer is tried again"},
	{"image.mirror_wait", SECONDS, AT(image.mirror_wait_us), 1, 600,
	 .about = "seconds in which a mirror has to bring a document, or 16 KiB of a layer; then "
		  "the "
		  "next host is asked, and for some minutes before it"},
	{"image.pull_timeout", SECONDS, AT(image.pull_timeout_us), 1, 86400,
	 .about = "seconds that one pull may take"},
	{"image.pinned", STRINGS, AT(image.pinned), .may_be_empty = true,
	 .about = "references of images that the kubelet must not collect"},
	{"container.seccomp_default", PATH, AT(container.seccomp_default), .may_be_empty = true,
	 .about = "profile for RuntimeDefault (a JSON file); empty: the built-in one"},
	{"container.apparmor_default", STRING, AT(container.apparmor_default), .fixed = true,
	 .may_be_empty = true, .about = "profile for RuntimeDefault, where it is loaded"},
	{"container.max_log_line", BYTES, AT(container.max_log_line), 256, 65536,
	 .about = "bytes; longer lines are split (partial lines of the CRI log format)"},
	{"container.exec_output_max", BYTES, AT(container.exec_output_max), 1024, 16 << 20,
	 .about = "bytes that ExecSync keeps of each stream"},
	{"container.pids_limit", NUMBER64, AT(container.pids_limit), 0, 1 << 22,
	 .about = "processes of one container; 0: no limit"},
	{"container.default_ulimits", ULIMITS, AT(container.default_ulimits), .may_be_empty = true,
	 .about = "resource limits of containers' processes: NAME=SOFT:HARD or NAME=BOTH, NAME as "
		  "nofile, "
		  "a limit as a number or unlimited"},
	{"container.create_timeout", SECONDS, AT(container.create_timeout_us), 1, 3600,
	 .about = "seconds that one call of an OCI runtime may take"},
	{"container.restore_images", BOOLEAN, AT(container.restore_images),
	 .about = "containers are restored from images that are checkpoints, which then have to be "
		  "trusted as root is"},
	{"streaming.address", STRING, AT(streaming.address), .fixed = true,
	 .about = "address that exec, attach and port-forward are served on, IPv4 or IPv6"},
	{"streaming.port", NUMBER32, AT(streaming.port), 0, 65535, .fixed = true,
	 .about = "TCP port of them; 0: any that is free"},
	{"streaming.max_connections", NUMBER32, AT(streaming.max_connections), 1, 4096,
	 .about = "streaming connections at once; further ones are closed"},
	{"streaming.idle_timeout", SECONDS, AT(streaming.idle_timeout_us), 1, 604800,
	 .about = "seconds without a byte after which a streaming connection ends"},
	{"streaming.tls.cert", PATH, AT(streaming.tls.cert), .fixed = true, .may_be_empty = true,
	 .about = "certificate of the streaming server with its chain (a PEM file), read for each "
		  "connection; empty: no TLS"},
	{"streaming.tls.key", PATH, AT(streaming.tls.key), .fixed = true, .may_be_empty = true,
	 .about = "its private key (a PEM file)"},
	{"streaming.tls.client_ca", PATH, AT(streaming.tls.client_ca), .fixed = true,
	 .may_be_empty = true,
	 .about =
		 "certificates (a PEM file) of which a client must have one; empty: it needs none"},
	{"streaming.tls.min_version", STRING, AT(streaming.tls.min_version), .fixed = true,
	 .about = "oldest version of TLS that is spoken: 1.2 or 1.3"},
	{"metrics.address", STRING, AT(metrics.address), .fixed = true, .may_be_empty = true,
	 .about =
		 "where the daemon's own metrics are served over HTTP at /metrics: 127.0.0.1:9464, "
		 "or unix:/run/gantry/metrics.sock; empty: nowhere"},
	{"limits.max_requests", NUMBER32, AT(limits.max_requests), 16, 65536, .fixed = true,
	 .about = "requests in flight on all connections; further ones are refused"},
};
const size_t config_n_keys = ARRAY_SIZE(config_keys);

#define RUNTIMES "runtimes: "
#define RT(member) offsetof(struct config_runtime, member)

/* Of each entry of `runtimes`. */
const struct config_key config_runtime_keys[] = {
	{RUNTIMES "path", STRING, RT(path), .about = "a name for PATH, or an absolute path"},
	{RUNTIMES "args", STRINGS, RT(args), .may_be_empty = true,
	 .about = "put before the runtime's command"},
	{RUNTIMES "needs", FACILITIES, RT(needs), .may_be_empty = true,
	 .about = "what it needs of the node: kvm, unix:PATH (somebody listens there), "
		  "program:NAME, file:PATH"},
	{RUNTIMES "isolation", ISOLATION, RT(isolation),
	 .about = "how far it keeps containers from the node: plain, userns (always a user "
		  "namespace), kernel "
		  "(a program is their kernel, as with gVisor) or vm"},
	{RUNTIMES "unit", UNIT, RT(unit),
	 .about = "what it makes: container, or pod: all containers of a pod then have it"},
	{RUNTIMES "routes", BOOLEAN, RT(routes),
	 .about = "rules (routes) also decide for pods that name this handler"},
	{RUNTIMES "privileged_without_host_devices", BOOLEAN, RT(privileged_without_host_devices),
	 .about = "privileged containers do not get all devices of the node"},
	{RUNTIMES "pod_annotations", STRINGS, RT(pod_annotations), .may_be_empty = true,
	 .about = "patterns of annotations of pods that their containers' OCI configurations have"},
	{RUNTIMES "container_annotations", STRINGS, RT(container_annotations), .may_be_empty = true,
	 .about = "patterns of annotations of containers that are passed on although they steer "
		  "runtimes"},
};
const size_t config_n_runtime_keys = ARRAY_SIZE(config_runtime_keys);

void *config_member(const void *base, const struct config_key *k)
{
	return (char *)(uintptr_t)base + k->offset;
}

static const char *const isolations[] = {
	[CONFIG_ISOLATION_PLAIN] = "plain",
	[CONFIG_ISOLATION_USERNS] = "userns",
	[CONFIG_ISOLATION_KERNEL] = "kernel",
	[CONFIG_ISOLATION_VM] = "vm",
};
static const char *const units[] = {
	[CONFIG_UNIT_CONTAINER] = "container",
	[CONFIG_UNIT_POD] = "pod",
};

const char *config_isolation_name(enum config_isolation i)
{
	return (size_t)i < ARRAY_SIZE(isolations) ? isolations[i] : "unknown";
}

/* --- defaults --- */

static const char *const *vector(struct arena *a, const char *const *v, size_t n)
{
	const char **r = arena_calloc(a, n + 1, sizeof(*r));

	for (size_t i = 0; i < n; i++)
		r[i] = arena_strdup(a, v[i]);
	return r;
}

static void add_runtime(struct config *c, const char *name, const char *path)
{
	struct config_runtime *old = c->runtimes;

	c->runtimes = arena_calloc(&c->arena, c->n_runtimes + 1, sizeof(*old));
	if (c->n_runtimes)
		memcpy(c->runtimes, old, c->n_runtimes * sizeof(*old));
	c->runtimes[c->n_runtimes++] = (struct config_runtime){
		.name = arena_strdup(&c->arena, name),
		.path = arena_strdup(&c->arena, path),
		.args = vector(&c->arena, NULL, 0),
		.needs = vector(&c->arena, NULL, 0),
		.pod_annotations = vector(&c->arena, NULL, 0),
		.container_annotations = vector(&c->arena, NULL, 0),
	};
}

static void set_defaults(struct config *c)
{
	static const char *const runtimes[] = {"crun", "runc"};
	static const char *const cdi_dirs[] = {"/etc/cdi", "/run/cdi"};
	static const char *const bin_dirs[] = {"/opt/cni/bin", "/usr/lib/cni"};

	c->root = "/var/lib/gantry";
	c->state = DEFAULT_STATE;
	c->log.level = LOG_LEVEL_INFO;
	c->cgroup.parent = "";
	c->default_runtimes = vector(&c->arena, runtimes, 2);
	c->breaker.failures = 3;
	c->breaker.rest_us = 10 * USEC_PER_SEC;
	c->breaker.rest_max_us = 600 * USEC_PER_SEC;
	c->cni.conf_dir = "/etc/cni/net.d";
	c->cni.bin_dirs = vector(&c->arena, bin_dirs, 2);
	c->cni.timeout_us = 60 * USEC_PER_SEC;
	c->cni.netns_dir = "/run/netns";
	c->hooks_dirs = vector(&c->arena, NULL, 0);
	c->cdi.spec_dirs = vector(&c->arena, cdi_dirs, 2);
	c->bridge.enabled = true;
	c->bridge.masquerade = true;
	c->image.snapshotter = "overlay";
	c->image.hosts_dir = "/etc/gantry/certs.d";
	c->image.auth_file = "/etc/gantry/auth.json";
	c->image.stall_timeout_us = 60 * USEC_PER_SEC;
	c->image.mirror_wait_us = 5 * USEC_PER_SEC;
	c->image.pull_timeout_us = 7200 * USEC_PER_SEC;
	c->image.parallel_layers = 3;
	c->image.parallel_pulls = 4;
	c->image.pinned = vector(&c->arena, NULL, 0);
	c->container.seccomp_default = "";
	c->container.apparmor_default = "gantry-default";
	c->container.max_log_line = 16 * KIB;
	c->container.exec_output_max = 16 * MIB;
	c->container.default_ulimits = vector(&c->arena, NULL, 0);
	c->container.create_timeout_us = 120 * USEC_PER_SEC;
	c->streaming.address = "127.0.0.1";
	c->streaming.max_connections = 256;
	c->streaming.idle_timeout_us = 4 * 3600 * USEC_PER_SEC;
	c->streaming.tls.cert = c->streaming.tls.key = c->streaming.tls.client_ca = "";
	c->streaming.tls.min_version = "1.2";
	c->metrics.address = "";
	c->limits.max_requests = 1024;
}

/* FNV-1a (32 bit): names only have to differ between a machine's few instances. */
static uint32_t hash(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 16777619u;
	return h;
}

/* What follows from the rest where it was not set. */
static void set_derived(struct config *c)
{
	struct arena *a = &c->arena;
	bool is_default = streq(c->state, DEFAULT_STATE);
	uint32_t h = hash(c->state);

	c->instance = is_default ? "gantry" : arena_printf(a, "gantry-%08x", h);
	if (!c->address)
		c->address = arena_printf(a, "%s/gantry.sock", c->state);
	if (!c->cni.cache_dir)
		c->cni.cache_dir = arena_printf(a, "%s/cni", c->root);
	if (!c->bridge.name)
		c->bridge.name = is_default ? "gantry0" : arena_printf(a, "g-%08x", h);
	if (!c->bridge.ipv4)
		c->bridge.ipv4 =
			is_default ? "10.88.0.0/16"
				   : arena_printf(a, "10.%u.%u.0/24", 89 + h / 256 % 7, h % 256);
	if (!c->bridge.ipv6)
		c->bridge.ipv6 = is_default ? "fd00:88::/64"
					    : arena_printf(a, "fd00:89:%x::/64", h & 0xffff);
}

static void default_runtimes(struct config *c)
{
	if (c->n_runtimes)
		return;
	add_runtime(c, "crun", "crun");
	add_runtime(c, "runc", "runc");
}

/* --- reading --- */

int config_bad(struct config_reader *r, const yaml_node_t *n, const char *key, const char *expected)
{
	const char *found = n->type == YAML_SCALAR_NODE	   ? (const char *)n->data.scalar.value
			    : n->type == YAML_MAPPING_NODE ? "a mapping"
							   : "a list";

	return err_invalid(r->e, "%s:%zu: %s: found \"%s\", expected %s", r->file,
			   n->start_mark.line + 1, key, found, expected);
}

const char *config_scalar(const yaml_node_t *n)
{
	if (n->type != YAML_SCALAR_NODE ||
	    memchr(n->data.scalar.value, '\0', n->data.scalar.length))
		return NULL;
	return (const char *)n->data.scalar.value;
}

static bool is_path(const char *s)
{
	return *s == '/' && strlen(s) < 4000;
}

static bool parse_bytes(const char *s, int64_t *ret)
{
	static const struct {
		const char *suffix;
		int64_t times;
	} suffixes[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}};

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_free_ char *digits = NULL;

		if (!str_has_suffix(s, suffixes[i].suffix))
			continue;
		digits = xstrndup(s, strlen(s) - strlen(suffixes[i].suffix));
		if (!str_to_i64(digits, ret) || *ret > INT64_MAX / suffixes[i].times)
			return false;
		*ret *= suffixes[i].times;
		return true;
	}
	return false;
}

static int read_vector(struct config_reader *r, const struct config_key *k, const yaml_node_t *n)
{
	const char **v;
	size_t count;

	if (n->type != YAML_SEQUENCE_NODE)
		return config_bad(r, n, k->name, "a list");
	count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
	if (count > CONFIG_LIST_MAX || (count == 0 && !k->may_be_empty))
		return config_bad(r, n, k->name, "a list of 1 to 256 entries");
	v = arena_calloc(&r->c->arena, count + 1, sizeof(*v));
	for (size_t i = 0; i < count; i++) {
		const yaml_node_t *item =
			yaml_document_get_node(r->doc, n->data.sequence.items.start[i]);
		const char *s = config_scalar(item);

		if (!s || !*s || (k->kind == PATHS && !is_path(s)))
			return config_bad(r, item, k->name,
					  k->kind == PATHS ? "an absolute path" : "a string");
		if (k->kind == ULIMITS && !config_ulimit_parse(s, &(struct config_ulimit){0}))
			return config_bad(r, item, k->name,
					  "NAME=SOFT:HARD, as nofile=1024:4096 or core=unlimited");
		if (k->kind == FACILITIES && !config_facility_good(s))
			return config_bad(r, item, k->name,
					  "kvm, unix:/PATH, program:NAME or file:/PATH");
		v[i] = arena_strdup(&r->c->arena, s);
	}
	*(const char *const **)config_member(r->base, k) = v;
	return 0;
}

static int read_number(struct config_reader *r, const struct config_key *k, const yaml_node_t *n,
		       const char *s)
{
	_cleanup_free_ char *expected =
		xasprintf("a number from %" PRId64 " to %" PRId64 "%s", k->min, k->max,
			  k->kind == BYTES ? " (KiB, MiB, GiB may follow)" : "");
	int64_t v;

	if (!(k->kind == BYTES ? parse_bytes(s, &v) : str_to_i64(s, &v)) || v < k->min ||
	    v > k->max)
		return config_bad(r, n, k->name, expected);
	if (k->kind == NUMBER32)
		*(uint32_t *)config_member(r->base, k) = (uint32_t)v;
	else if (k->kind == NUMBER64)
		*(int64_t *)config_member(r->base, k) = v;
	else
		*(uint64_t *)config_member(r->base, k) =
			(uint64_t)v * (k->kind == SECONDS ? USEC_PER_SEC : 1);
	return 0;
}

/* Which of the words it is; -1: none. */
static int word(const char *const *words, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (streq(words[i], s))
			return (int)i;
	return -1;
}

static int read_value(struct config_reader *r, const struct config_key *k, const yaml_node_t *n)
{
	const char *s = config_scalar(n);

	if (k->kind == STRINGS || k->kind == PATHS || k->kind == ULIMITS || k->kind == FACILITIES)
		return read_vector(r, k, n);
	if (!s)
		return config_bad(r, n, k->name, "a single value");
	switch (k->kind) {
	case PATH:
		if (!is_path(s) && !(k->may_be_empty && !*s))
			return config_bad(r, n, k->name, "an absolute path");
		*(const char **)config_member(r->base, k) = arena_strdup(&r->c->arena, s);
		return 0;
	case STRING:
		if (!*s && !k->may_be_empty)
			return config_bad(r, n, k->name, "a string that is not empty");
		*(const char **)config_member(r->base, k) = arena_strdup(&r->c->arena, s);
		return 0;
	case LEVEL:
		if (!log_level_parse(s, config_member(r->base, k)))
			return config_bad(r, n, k->name, "error, warn, info or debug");
		return 0;
	case DRIVER: {
		enum config_cgroup_driver *d = config_member(r->base, k);

		if (streq(s, "auto"))
			*d = CONFIG_CGROUP_AUTO;
		else if (streq(s, "cgroupfs"))
			*d = CONFIG_CGROUP_CGROUPFS;
		else if (streq(s, "systemd"))
			*d = CONFIG_CGROUP_SYSTEMD;
		else
			return config_bad(r, n, k->name, "auto, cgroupfs or systemd");
		return 0;
	}
	case ISOLATION: {
		int i = word(isolations, ARRAY_SIZE(isolations), s);

		if (i < 0)
			return config_bad(r, n, k->name, "plain, userns, kernel or vm");
		*(enum config_isolation *)config_member(r->base, k) = (enum config_isolation)i;
		return 0;
	}
	case UNIT: {
		int i = word(units, ARRAY_SIZE(units), s);

		if (i < 0)
			return config_bad(r, n, k->name, "container or pod");
		*(enum config_unit *)config_member(r->base, k) = (enum config_unit)i;
		return 0;
	}
	case BOOLEAN:
		if (!streq(s, "true") && !streq(s, "false"))
			return config_bad(r, n, k->name, "true or false");
		*(bool *)config_member(r->base, k) = streq(s, "true");
		return 0;
	default:
		return read_number(r, k, n, s);
	}
}

static bool name_good(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.");

	return n > 0 && n <= 63 && !s[n] && *s != '-' && *s != '.';
}

static const struct config_key *find_runtime_key(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(config_runtime_keys); i++)
		if (streq(config_runtime_keys[i].name + strlen(RUNTIMES), name))
			return &config_runtime_keys[i];
	return NULL;
}

static int read_runtime(struct config_reader *r, const yaml_node_t *name, const yaml_node_t *n)
{
	const char *s = config_scalar(name);
	struct config_runtime *rt;
	struct config_reader sub = *r;

	if (!s || !name_good(s))
		return config_bad(r, name, "runtimes",
				  "a handler's name: lower-case letters, digits, '-' and '.'");
	if (r->c->n_runtimes == CONFIG_RUNTIMES_MAX)
		return config_bad(r, name, "runtimes", "no more than 64 runtimes");
	if (config_runtime_find(r->c, s))
		return config_bad(r, name, "runtimes", "a name that is not there twice");
	if (n->type != YAML_MAPPING_NODE)
		return config_bad(r, n, "runtimes", "a mapping of settings");
	add_runtime(r->c, s, s);
	rt = &r->c->runtimes[r->c->n_runtimes - 1];
	sub.base = rt;
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		const yaml_node_t *key = yaml_document_get_node(r->doc, p->key),
				  *v = yaml_document_get_node(r->doc, p->value);
		const struct config_key *k = find_runtime_key(config_scalar(key));
		int res = k ? read_value(&sub, k, v)
			    : config_bad(r, key, "runtimes",
					 "path, args, needs, isolation, unit, routes, "
					 "privileged_without_host_devices, "
					 "pod_annotations or container_annotations");

		if (res < 0)
			return res;
	}
	return 0;
}

static const struct config_key *find_key(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++)
		if (streq(config_keys[i].name, name))
			return &config_keys[i];
	return NULL;
}

static bool is_section(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++)
		if (strncmp(config_keys[i].name, name, n) == 0 && config_keys[i].name[n] == '.')
			return true;
	return false;
}

static int read_mapping(struct config_reader *r, const char *section, const yaml_node_t *n)
{
	if (n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0)
		return 0; /* "section:" with nothing below it */
	if (n->type != YAML_MAPPING_NODE)
		return config_bad(r, n, *section ? section : "the file", "a mapping");
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		const yaml_node_t *key = yaml_document_get_node(r->doc, p->key),
				  *v = yaml_document_get_node(r->doc, p->value);
		const char *name = config_scalar(key);
		_cleanup_free_ char *full = NULL;
		const struct config_key *k;
		int res;

		if (!name)
			return config_bad(r, key, section, "a key");
		full = *section ? xasprintf("%s.%s", section, name) : xstrdup(name);
		k = find_key(full);
		if (k) {
			res = read_value(r, k, v);
		} else if (!*section && streq(name, "runtimes") && v->type == YAML_MAPPING_NODE) {
			res = 0;
			for (yaml_node_pair_t *q = v->data.mapping.pairs.start;
			     res == 0 && q < v->data.mapping.pairs.top; q++)
				res = read_runtime(r, yaml_document_get_node(r->doc, q->key),
						   yaml_document_get_node(r->doc, q->value));
		} else if (!*section && streq(name, "routes")) {
			res = 0; /* read_rules() */
		} else if (is_section(full)) {
			res = read_mapping(r, full, v);
		} else {
			return err_invalid(r->e, "%s:%zu: %s: there is no such key", r->file,
					   key->start_mark.line + 1, full);
		}
		if (res < 0)
			return res;
	}
	return 0;
}

/* After all else: rules have names of runtimes. */
static int read_rules(struct config_reader *r, const yaml_node_t *root)
{
	int res = 0;

	default_runtimes(r->c);
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start;
	     root->type == YAML_MAPPING_NODE && res == 0 && p < root->data.mapping.pairs.top; p++)
		if (streq(str_or_empty(config_scalar(yaml_document_get_node(r->doc, p->key))),
			  "routes"))
			res = config_rules_read(r, yaml_document_get_node(r->doc, p->value));
	return res;
}

static int read_text(struct config *c, const char *file, const struct strbuf *b, struct err *e)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	yaml_node_t *root;
	int r = 0;

	yaml_parser_initialize(&parser);
	yaml_parser_set_input_string(&parser, (const unsigned char *)str_or_empty(b->s), b->len);
	if (!yaml_parser_load(&parser, &doc)) {
		r = err_invalid(e, "%s:%zu: %s", file, parser.problem_mark.line + 1,
				parser.problem ? parser.problem : "no YAML");
	} else {
		struct config_reader rd = {c, c, file, &doc, e};

		root = yaml_document_get_root_node(&doc);
		if (root)
			r = read_mapping(&rd, "", root);
		if (root && r == 0)
			r = read_rules(&rd, root);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	return r;
}

const char *config_file(const struct config_flags *f, bool *ret_must_exist)
{
	*ret_must_exist = f->file != NULL;
	return f->file ? f->file : DEFAULT_FILE;
}

static int read_file(struct config *c, const struct config_flags *f, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	bool must_exist;
	const char *file = config_file(f, &must_exist);
	int r = fs_read(AT_FDCWD, file, CONFIG_FILE_MAX, &b);

	if (r == -ENOENT && !must_exist)
		return 0;
	if (r < 0)
		return err_errno(e, r, "read the configuration %s", file);
	return read_text(c, file, &b, e);
}

/* --- flags and checks --- */

static int flag_path(struct config *c, const char *flag, const char *name, const char **to,
		     struct err *e)
{
	size_t n;

	if (!flag)
		return 0;
	if (!is_path(flag))
		return err_invalid(e, "%s: \"%s\" is no absolute path", name, flag);
	n = strlen(flag);
	while (n > 1 && flag[n - 1] == '/')
		n--;
	*to = arena_strndup(&c->arena, flag, n);
	return 0;
}

static int check_streaming(const struct config *c, struct err *e)
{
	unsigned char address[sizeof(struct in6_addr)];
	const char *version = c->streaming.tls.min_version;

	if (inet_pton(AF_INET, c->streaming.address, address) != 1 &&
	    inet_pton(AF_INET6, c->streaming.address, address) != 1)
		return err_invalid(e, "streaming.address: \"%s\" is no address of IPv4 or IPv6",
				   c->streaming.address);
	if (!*c->streaming.tls.cert != !*c->streaming.tls.key)
		return err_invalid(e, "streaming.tls: cert and key must be given together");
	if (*c->streaming.tls.client_ca && !*c->streaming.tls.cert)
		return err_invalid(e, "streaming.tls.client_ca: needs cert and key");
	if (!streq(version, "1.2") && !streq(version, "1.3"))
		return err_invalid(e, "streaming.tls.min_version: \"%s\", expected 1.2 or 1.3",
				   version);
	return 0;
}

static int check(const struct config *c, struct err *e)
{
	struct listen_address a;

	if (*c->metrics.address && listen_parse("metrics.address", c->metrics.address, &a, e) < 0)
		return e->errnum;
	if (!streq(c->image.snapshotter, "overlay"))
		return err_invalid(e, "image.snapshotter: \"%s\", expected overlay",
				   c->image.snapshotter);
	if (strlen(c->bridge.name) > 15 || strpbrk(c->bridge.name, "/ \t:"))
		return err_invalid(e, "bridge.name: \"%s\" is no name of an interface",
				   c->bridge.name);
	if (streq(c->root, c->state))
		return err_invalid(e, "root and state must not be the same directory (%s)",
				   c->root);
	for (size_t i = 0; c->default_runtimes[i]; i++)
		if (!config_runtime_find(c, c->default_runtimes[i]))
			return err_invalid(e, "default_runtimes: \"%s\" is not among the runtimes",
					   c->default_runtimes[i]);
	return check_streaming(c, e);
}

int config_load_text(const struct config_flags *f, const struct strbuf *text, struct config *ret,
		     struct err *e)
{
	struct config c = {0};
	bool must_exist;
	int r;

	set_defaults(&c);
	r = text ? read_text(&c, config_file(f, &must_exist), text, e) : read_file(&c, f, e);
	if (r == 0)
		r = flag_path(&c, f->root, "--root", &c.root, e);
	if (r == 0)
		r = flag_path(&c, f->state, "--state", &c.state, e);
	if (r == 0)
		r = flag_path(&c, f->address, "--address", &c.address, e);
	if (r == 0 && f->log_level && !log_level_parse(f->log_level, &c.log.level))
		r = err_invalid(e, "--log-level: \"%s\", expected error, warn, info or debug",
				f->log_level);
	if (r == 0) {
		default_runtimes(&c);
		set_derived(&c);
		r = check(&c, e);
	}
	if (r < 0) {
		config_fini(&c);
		return r;
	}
	*ret = c;
	return 0;
}

int config_load(const struct config_flags *f, struct config *ret, struct err *e)
{
	return config_load_text(f, NULL, ret, e);
}

void config_fini(struct config *c)
{
	arena_fini(&c->arena);
	*c = (struct config){0};
}

const struct config_runtime *config_runtime_find(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_runtimes; i++)
		if (streq(c->runtimes[i].name, name))
			return &c->runtimes[i];
	return NULL;
}

/* --- printing --- */

void config_print_string(struct strbuf *b, const char *s)
{
	strbuf_addc(b, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			strbuf_addc(b, '\\');
		strbuf_addc(b, *s);
	}
	strbuf_addc(b, '"');
}

static void print_vector(struct strbuf *b, const char *const *v)
{
	strbuf_addc(b, '[');
	for (size_t i = 0; v[i]; i++) {
		if (i)
			strbuf_adds(b, ", ");
		config_print_string(b, v[i]);
	}
	strbuf_addc(b, ']');
}

void config_print_value(struct strbuf *b, const void *base, const struct config_key *k)
{
	static const char *const drivers[] = {"auto", "cgroupfs", "systemd"};
	const void *p = config_member(base, k);

	switch (k->kind) {
	case STRING:
	case PATH:
		config_print_string(b, str_or_empty(*(const char *const *)p));
		break;
	case LEVEL:
		switch (*(const enum log_level *)p) {
		case LOG_LEVEL_ERROR:
			strbuf_adds(b, "error");
			break;
		case LOG_LEVEL_WARN:
			strbuf_adds(b, "warn");
			break;
		case LOG_LEVEL_DEBUG:
			strbuf_adds(b, "debug");
			break;
		default:
			strbuf_adds(b, "info");
		}
		break;
	case DRIVER:
		strbuf_adds(b, drivers[*(const enum config_cgroup_driver *)p]);
		break;
	case ISOLATION:
		strbuf_adds(b, config_isolation_name(*(const enum config_isolation *)p));
		break;
	case UNIT:
		strbuf_adds(b, units[*(const enum config_unit *)p]);
		break;
	case BOOLEAN:
		strbuf_adds(b, *(const bool *)p ? "true" : "false");
		break;
	case NUMBER32:
		strbuf_addf(b, "%" PRIu32, *(const uint32_t *)p);
		break;
	case NUMBER64:
		strbuf_addf(b, "%" PRId64, *(const int64_t *)p);
		break;
	case BYTES:
		strbuf_addf(b, "%" PRIu64, *(const uint64_t *)p);
		break;
	case SECONDS:
		strbuf_addf(b, "%" PRIu64, *(const uint64_t *)p / USEC_PER_SEC);
		break;
	case ULIMITS:
	case FACILITIES:
	case STRINGS:
	case PATHS:
		print_vector(b, *(const char *const *const *)p);
		break;
	}
}

static void print_runtimes(struct strbuf *b, const struct config *c)
{
	strbuf_adds(b,
		    "# the name is the handler that a pod may ask for (RuntimeClass)\nruntimes:\n");
	for (size_t i = 0; i < c->n_runtimes; i++) {
		const struct config_runtime *rt = &c->runtimes[i];

		strbuf_addf(b, "  %s:\n", rt->name);
		for (size_t j = 0; j < ARRAY_SIZE(config_runtime_keys); j++) {
			const struct config_key *k = &config_runtime_keys[j];

			strbuf_addf(b, "    # %s\n    %s: ", k->about, k->name + strlen(RUNTIMES));
			config_print_value(b, rt, k);
			strbuf_addc(b, '\n');
		}
	}
}

/* The heads of a key's sections that are not the last key's, and how deep it stands. */
static int print_sections(struct strbuf *b, const char *name, const char *last)
{
	int depth = 0;

	for (const char *dot = strchr(name, '.'), *from = name; dot;
	     from = dot + 1, dot = strchr(from, '.'), depth++)
		if (strncmp(name, last, (size_t)(dot - name) + 1) != 0)
			strbuf_addf(b, "%*s%.*s:\n", 2 * depth, "", (int)(dot - from), from);
	return depth;
}

void config_dump(const struct config *c, struct strbuf *b)
{
	const char *last = "";

	/* (packaging/teardown.sh reads it.) */
	strbuf_addf(b, "# instance: %s\n", c->instance);
	for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++) {
		const struct config_key *k = &config_keys[i];
		const char *dot = strrchr(k->name, '.');
		int indent = 2 * print_sections(b, k->name, last);

		last = k->name;
		strbuf_addf(b, "%*s# %s", indent, "", k->about);
		if (k->max)
			strbuf_addf(b, " (%" PRId64 " to %" PRId64 ")", k->min, k->max);
		if (k->fixed)
			strbuf_adds(b, "; needs a restart");
		strbuf_addf(b, "\n%*s%s: ", indent, "", dot ? dot + 1 : k->name);
		config_print_value(b, c, k);
		strbuf_addc(b, '\n');
	}
	print_runtimes(b, c);
	config_rules_print(c, b);
}
