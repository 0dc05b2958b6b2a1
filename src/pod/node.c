/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's world, opened and closed: see node.h.  recover.c takes over what runs. */
#include "pod/node.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "sys/mount.h"

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

	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO, &st) < 0)
		return err_errno(e, -errno, "look at %s", path);
	if (!(st.stx_attributes & STATX_ATTR_MOUNT_ROOT) &&
	    mount(path, path, NULL, MS_BIND, NULL) < 0)
		return err_errno(e, -errno, "bind %s to itself", path);
	if (mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0)
		return err_errno(e, -errno, "make the mount at %s private", path);
	return 0;
}

static int make_dirs(struct node *n, struct err *e)
{
	const struct config *c = n->config;
	static const char *const below_root[] = {"containers", "images", "layers"};
	static const char *const below_state[] = {"pods", "runtime", "network", "cni"};
	int r = make_dir(c->root, 0700, e);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(below_root); i++) {
		_cleanup_free_ char *p = xasprintf("%s/%s", c->root, below_root[i]);

		r = make_dir(p, 0700, e);
	}
	if (r == 0)
		r = make_dir(c->state, 0711, e);
	if (r == 0)
		r = make_private_mount(c->state, e);
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

static void look_at_host(struct node *n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (fs_read(AT_FDCWD, "/proc/self/status", PROC_FILE_MAX, &b) == 0) {
		n->host_caps = status_field(b.s, "CapEff:") & status_field(b.s, "CapBnd:");
		n->has_seccomp = strstr(b.s, "Seccomp:") != NULL;
	}
	strbuf_reset(&b);
	if (fs_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", PROC_FILE_MAX, &b) == 0)
		n->has_apparmor = *b.s == 'Y';
	n->has_selinux = fs_exists(AT_FDCWD, "/sys/fs/selinux/enforce");
	n->has_rro = mount_has_setattr();
}

/* GANTRY_LIBEXEC, beside the daemon (installed or in a build tree), /usr/libexec/gantry. */
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
	n->monitor_path = find_helper("gantry-monitor");
	n->worker_path = find_helper("gantry-worker");
	if (!n->monitor_path || !n->worker_path)
		return err_set(e, -ENOENT, GRPC_INTERNAL,
			       "%s is neither beside gantryd nor in /usr/libexec/gantry",
			       n->monitor_path ? "gantry-worker" : "gantry-monitor");
	return 0;
}

static void init_tables(struct node *n)
{
	list_init(&n->pods_in_order);
	list_init(&n->containers_in_order);
	co_event_init(&n->probed);
	n->runtimes = xcalloc(n->config->n_runtimes, sizeof(*n->runtimes));
	for (size_t i = 0; i < n->config->n_runtimes; i++)
		n->runtimes[i].config = &n->config->runtimes[i];
}
