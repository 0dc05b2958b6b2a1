/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's world, opened and closed: see node.h.  recover.c takes over what runs,
 * probe.c finds out what works. */
#include "pod/node.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "pod/filter.h"
#include "pod/monitor.h"
#include "pod/probe_watch.h"
#include "pod/runtimes.h"
#include "pod/volume.h"
#include "route/route.h"
#include "runtime/runtime.h"
#include "runtime/sealed.h"

#define PROC_FILE_MAX 65536

static int make_dir(const char *path, mode_t mode, struct err *e)
{
	int r = fs_mkdir_p(AT_FDCWD, path, 0755);

	if (r == 0 && chmod(path, mode) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "make the directory %s", path) : 0;
}

/* A mount point of its own that propagates nothing: docs/decisions/0002. */
static int make_private_mount(const char *path, struct err *e)
{
	struct statx st;

	if (statx(AT_FDCWD, path, 0, STATX_INO, &st) < 0)
		return err_errno(e, -errno, "look at %s", path);
	if (!(st.stx_attributes & STATX_ATTR_MOUNT_ROOT) &&
	    mount(path, path, NULL, MS_BIND, NULL) < 0)
		return err_errno(e, -errno, "bind %s to itself", path);
	if (mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0)
		return err_errno(e, -errno, "make the mount at %s private", path);
	return 0;
}

static const char *const below_state[] = {"pods", "runtime", "network"};

/* A state directory that is on a disk: what it says of a past boot would hold addresses and name
 * processes that are long gone. */
static void forget_past_boot(struct node *n)
{
	_cleanup_free_ char *stamp = xasprintf("%s/boot", n->config->state);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, stamp, PROC_FILE_MAX, &b);

	if (!*n->boot_id)
		return;
	if (r == 0 && b.len && !streq(b.s, n->boot_id)) {
		log_info("%s is of a past boot and is emptied", n->config->state);
		for (size_t i = 0; i < ARRAY_SIZE(below_state); i++) {
			_cleanup_free_ char *p =
				xasprintf("%s/%s", n->config->state, below_state[i]);

			r = fs_remove_tree(AT_FDCWD, p);
			if (r < 0)
				log_warn("remove %s, of a past boot: %s", p, strerror(-r));
		}
	}
	r = fs_write_atomic(AT_FDCWD, stamp, n->boot_id, strlen(n->boot_id), 0600, false);
	if (r < 0)
		log_warn("write %s: %s", stamp, strerror(-r));
}

static int make_dirs(struct node *n, struct err *e)
{
	const struct config *c = n->config;
	static const char *const below_root[] = {"containers", "images", "layers"};
	int r = make_dir(c->root, 0700, e);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(below_root); i++) {
		_cleanup_free_ char *p = xasprintf("%s/%s", c->root, below_root[i]);

		r = make_dir(p, 0700, e);
	}
	if (r == 0)
		r = make_dir(c->state, 0711, e);
	if (r == 0)
		r = make_private_mount(c->state, e);
	if (r == 0)
		forget_past_boot(n);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(below_state); i++) {
		_cleanup_free_ char *p = xasprintf("%s/%s", c->state, below_state[i]);

		r = make_dir(p, 0711, e);
	}
	if (r < 0)
		return r;
	n->state_dirfd = open(c->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return n->state_dirfd < 0 ? err_errno(e, -errno, "open %s", c->state) : 0;
}

static void read_boot_id(struct node *n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (fs_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", PROC_FILE_MAX, &b) < 0)
		return;
	b.s[strcspn(b.s, "\n")] = '\0';
	snprintf(n->boot_id, sizeof(n->boot_id), "%s", b.s);
}

static uint64_t status_field(const char *status, const char *name)
{
	const char *p = strstr(status, name);

	return p ? strtoull(p + strlen(name), NULL, 16) : 0;
}

/* mount_setattr(2), Linux 5.12: with no flags and an invalid size it says whether it is there. */
static bool has_mount_setattr(void)
{
	return syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) < 0 && errno != ENOSYS;
}

/* A lower oom_score_adj than our own can only be set with CAP_SYS_RESOURCE (proc(5)). */
static int lowest_oom_score_adj(uint64_t caps)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (caps & (UINT64_C(1) << 24) ||
	    fs_read(AT_FDCWD, "/proc/self/oom_score_adj", PROC_FILE_MAX, &b) < 0)
		return -1000;
	return atoi(b.s);
}

/* hugepages-2048kB */
static void look_at_hugepages(struct spec_host *h)
{
	DIR *d = opendir("/sys/kernel/mm/hugepages");
	struct dirent *de;
	uint64_t kb;

	while (d && (de = readdir(d)) && h->n_hugepages < SPEC_HUGEPAGES_MAX)
		if (sscanf(de->d_name, "hugepages-%" SCNu64 "kB", &kb) == 1)
			h->hugepages_kb[h->n_hugepages++] = kb;
	if (d)
		closedir(d);
}

/* What this daemon may not give away is lowered, and told: else no container could be started. */
static void lower_ulimit(struct config_ulimit *u, const struct rlimit *nofile, uint64_t caps)
{
	struct rlimit now = *nofile; /* that of files has been raised since */

	if ((caps & (UINT64_C(1) << CAP_SYS_RESOURCE)) ||
	    (u->resource != RLIMIT_NOFILE &&
	     getrlimit((__rlimit_resource_t)u->resource, &now) < 0) ||
	    u->hard <= now.rlim_max)
		return;
	log_warn("container.default_ulimits: %s is lowered to %llu, the daemon's own: more needs "
		 "CAP_SYS_RESOURCE, which gantryd does not have",
		 u->type, (unsigned long long)now.rlim_max);
	u->hard = now.rlim_max;
	u->soft = MIN(u->soft, u->hard);
}

/* The last one of a type counts. */
static void take_ulimits(struct spec_host *h, const char *const *v, const struct rlimit *nofile)
{
	for (; *v; v++) {
		struct config_ulimit u;
		size_t i = 0;

		if (!config_ulimit_parse(*v, &u)) /* (config_load() has looked) */
			continue;
		lower_ulimit(&u, nofile, h->caps);
		while (i < h->n_rlimits && !streq(h->rlimits[i].type, u.type))
			i++;
		if (i == SPEC_RLIMITS_MAX)
			continue;
		h->rlimits[i] = (struct spec_rlimit){u.type, u.soft, u.hard};
		h->n_rlimits = MAX(h->n_rlimits, i + 1);
	}
}

void node_set_config(struct node *n, const struct config *c)
{
	const struct config *old = n->config;
	const struct rlimit nofile = {n->host.nofile_soft, n->host.nofile_hard};

	n->config = config_ref(c);
	image_store_set_config(n->images, c);
	node_runtimes_configure(n);
	route_free(n->route);
	n->route = route_new(c);
	node_network_configure(n);
	n->network.checked_at = 0; /* what was found out was about the old one */
	n->host.n_rlimits = 0;
	take_ulimits(&n->host, c->container.default_ulimits, &nofile);
	config_unref(old);
	node_probe_new(n);
}

static void look_at_host(struct node *n, const struct rlimit *nofile)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct spec_host *h = &n->host;

	if (fs_read(AT_FDCWD, "/proc/self/status", PROC_FILE_MAX, &b) == 0) {
		h->caps = status_field(b.s, "CapEff:") & status_field(b.s, "CapBnd:");
		h->seccomp = strstr(b.s, "Seccomp:") != NULL;
	}
	strbuf_reset(&b);
	if (fs_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", PROC_FILE_MAX, &b) == 0)
		h->apparmor = *b.s == 'Y';
	h->selinux = fs_exists(AT_FDCWD, "/sys/fs/selinux/enforce");
	h->cgroup_v2 = n->cgroup.v2;
	h->cgroup_systemd = n->cgroup_systemd;
	h->swap = n->cgroup.swap;
	h->hugetlb = n->cgroup.hugetlb;
	look_at_hugepages(h);
	h->nofile_soft = nofile->rlim_cur;
	h->nofile_hard = nofile->rlim_max;
	take_ulimits(h, n->config->container.default_ulimits, nofile);
	h->oom_score_adj_min = lowest_oom_score_adj(h->caps);
	n->has_apparmor = h->apparmor;
	n->apparmor_default = xstrdup("");
	n->has_rro = has_mount_setattr();
}

/*
 * GANTRY_LIBEXEC, beside the daemon, in a build tree's next directory, under the prefix that
 * the daemon is installed in, /usr/libexec/gantry.
 */
static char *find_helper(const char *name)
{
	const char *env = getenv("GANTRY_LIBEXEC");
	_cleanup_free_ char *self = NULL;
	struct strv tries = STRV_NULL;
	char *found = NULL;

	if (env)
		strv_addf(&tries, "%s/%s", env, name);
	if (fs_readlink(AT_FDCWD, "/proc/self/exe", &self) == 0 && strrchr(self, '/')) {
		*strrchr(self, '/') = '\0';
		strv_addf(&tries, "%s/%s", self, name);
		strv_addf(&tries, "%s/../%s/%s", self, name, name);
		strv_addf(&tries, "%s/../libexec/gantry/%s", self, name);
	}
	strv_addf(&tries, "/usr/libexec/gantry/%s", name);
	for (size_t i = 0; i < tries.n && !found; i++) {
		struct stat st;

		if (stat(tries.v[i], &st) == 0 && S_ISREG(st.st_mode) &&
		    access(tries.v[i], X_OK) == 0)
			found = xstrdup(tries.v[i]);
	}
	strv_fini(&tries);
	return found;
}

static int find_helpers(struct node *n, struct err *e)
{
	const struct {
		const char *name;
		char **path;
		bool needed;
	} helpers[] = {
		{"gantry-monitor", &n->monitor_path, true},
		{"gantry-worker", &n->worker_path, true},
		{"gantry-env", &n->env_path, true},
		{"gantry-stream", &n->stream_path, true},
		{"gantry-stream-tls", &n->stream_tls_path, *n->config->streaming.tls.cert},
	};

	for (size_t i = 0; i < ARRAY_SIZE(helpers); i++) {
		*helpers[i].path = find_helper(helpers[i].name);
		if (!*helpers[i].path && helpers[i].needed)
			return err_set(e, -ENOENT, GRPC_INTERNAL,
				       "%s is neither beside gantryd nor in /usr/libexec/gantry",
				       helpers[i].name);
	}
	return 0;
}

static void init_tables(struct node *n)
{
	list_init(&n->pods_in_order);
	list_init(&n->containers_in_order);
	list_init(&n->children);
	list_init(&n->filters);
	co_event_init(&n->probed);
	co_lock_init(&n->apparmor_lock);
	co_event_init(&n->network.done);
	co_event_init(&n->network.collect);
	n->network.kind = "bridge"; /* until it is known */
	list_init(&n->runtimes_known);
	node_runtimes_configure(n);
	n->route = route_new(n->config);
}

static bool use_systemd(const struct config *c)
{
	if (c->cgroup.driver == CONFIG_CGROUP_AUTO)
		return fs_exists(AT_FDCWD, "/run/systemd/system");
	return c->cgroup.driver == CONFIG_CGROUP_SYSTEMD;
}

static int open_index(struct node *n, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/index.db", n->config->root), *moved = NULL;
	int r = state_open(path, &n->state, &moved, e);

	if (r == 0 && moved)
		log_error("the index %s was damaged and is now %s; a new one has been begun", path,
			  moved);
	return r;
}

/* One copy for all monitors; a crun that is replaced later is copied by each call of it. */
static void seal_runtime(struct node *n)
{
	for (size_t i = 0; n->sealed_fd < 0 && i < n->config->n_runtimes; i++) {
		_cleanup_free_ char *path = runtime_find(n->config->runtimes[i].path);

		if (path)
			n->sealed_fd = sealed_copy(path);
	}
}

int node_open(struct loop *l, const struct config *c, const struct rlimit *nofile,
	      struct node **ret, struct err *e)
{
	struct node *n = xcalloc(1, sizeof(*n));
	int r;

	n->loop = l;
	n->config = config_ref(c);
	n->state_dirfd = n->sealed_fd = -EBADF;
	init_tables(n);
	read_boot_id(n);
	r = find_helpers(n, e);
	if (r == 0)
		r = make_dirs(n, e);
	if (r == 0)
		r = open_index(n, e);
	if (r == 0)
		r = cgroup_host_init(&n->cgroup, e);
	if (r == 0)
		r = image_store_open(l, c, n->worker_path, &n->images, e);
	if (r < 0) {
		node_close(n);
		return r;
	}
	n->cgroup_systemd = use_systemd(c);
	look_at_host(n, nofile);
	seal_runtime(n);
	node_network_load(n);
	*ret = n;
	return 0;
}

struct node *node_close(struct node *n)
{
	if (!n)
		return NULL;
	while (!list_empty(&n->containers_in_order))
		container_unlink(list_first(&n->containers_in_order, struct container, in_order));
	while (!list_empty(&n->pods_in_order)) {
		struct pod *p = list_first(&n->pods_in_order, struct pod, in_order);

		pod_monitor_forget(p);
		pod_unlink(p);
	}
	pod_monitor_drop_children(n);
	n->sealed_fd = fd_close(n->sealed_fd);
	filter_free_all(n);
	image_store_close(n->images);
	state_close(n->state);
	cgroup_host_fini(&n->cgroup);
	fd_close(n->state_dirfd);
	probe_watch_end(n);
	node_runtimes_drop(n);
	route_free(n->route);
	config_unref(n->config);
	map_fini(&n->pods);
	map_fini(&n->pod_names);
	map_fini(&n->containers);
	map_fini(&n->container_names);
	free(n->network.config);
	free(n->network.why);
	free(n->network.pod_cidr);
	free(n->monitor_path);
	free(n->worker_path);
	free(n->env_path);
	free(n->stream_path);
	free(n->stream_tls_path);
	free(n->apparmor_default);
	free(n);
	return NULL;
}

void node_images_used(const struct node *n, struct strv *to)
{
	struct container *c;

	list_for_each (c, &n->containers_in_order, in_order)
		container_images_used(c, to);
}
