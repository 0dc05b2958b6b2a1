/* SPDX-License-Identifier: Apache-2.0 */
/* User namespaces and mapped mounts: see userns.h. */
#include "sys/userns.h"

#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/mem.h"

void userns_map_print(const struct userns_map *m, char ret[USERNS_MAP_TEXT])
{
	snprintf(ret, USERNS_MAP_TEXT, "%" PRIu32 " %" PRIu32 " %" PRIu32, m->container, m->host,
		 m->length);
}

bool userns_map_parse(const char *s, struct userns_map *ret)
{
	char text[USERNS_MAP_TEXT];
	struct userns_map m;

	if (sscanf(s, "%" SCNu32 " %" SCNu32 " %" SCNu32, &m.container, &m.host, &m.length) != 3)
		return false;
	userns_map_print(&m, text);
	if (!streq(text, s) || m.length == 0)
		return false;
	*ret = m;
	return true;
}

void userns_made_fini(struct userns_made *m)
{
	m->user = fd_close(m->user);
	m->net = fd_close(m->net);
	m->ipc = fd_close(m->ipc);
	m->uts = fd_close(m->uts);
}

/* --- the child that is the first in it --- */

struct making {
	int up[2], down[2]; /* pipes: what the child says, what it waits for */
	int flags;
	void (*inside)(void *arg);
	void *arg;
};

static int become_root(void)
{
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return -errno;
	return 0;
}

static bool say(const struct making *k, int r)
{
	return write(k->up[1], &r, sizeof(r)) == sizeof(r) && r == 0;
}

static void wait_for_parent(const struct making *k)
{
	char c;

	while (read(k->down[0], &c, 1) < 0 && errno == EINTR)
		;
}

static _Noreturn void be_first(const struct making *k)
{
	int r;

	close(k->down[1]); /* the parent's end ends with the parent */
	if (!say(k, unshare(CLONE_NEWUSER) < 0 ? -errno : 0))
		_exit(1);
	wait_for_parent(k);
	r = become_root();
	/* Not before it is root: what these namespaces hold is its maker's. */
	if (r == 0 && k->flags && unshare(k->flags) < 0)
		r = -errno;
	if (r == 0 && k->inside)
		k->inside(k->arg);
	if (say(k, r))
		wait_for_parent(k);
	_exit(0);
}

/* --- the parent --- */

static int hear(const struct making *k, const char *what, struct err *e)
{
	int r;

	if (read(k->up[0], &r, sizeof(r)) != sizeof(r))
		r = -ESRCH;
	return r < 0 ? err_errno(e, r, "%s", what) : 0;
}

static int write_map(pid_t pid, const char *file, const struct userns_map *m, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/%s", (int)pid, file);
	char text[USERNS_MAP_TEXT];
	int r;

	userns_map_print(m, text);
	r = fs_write_str(AT_FDCWD, path, text);
	return r < 0 ? err_errno(e, r, "map the ids of the user namespace (%s: %s)", file, text)
		     : 0;
}

static int open_ns(pid_t pid, const char *name, int *ret, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/ns/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(e, -errno, "open %s", path);
	*ret = fd;
	return 0;
}

static int open_made(pid_t pid, int flags, struct userns_made *ret, struct err *e)
{
	int r = open_ns(pid, "user", &ret->user, e);

	if (r == 0 && flags & CLONE_NEWNET)
		r = open_ns(pid, "net", &ret->net, e);
	if (r == 0 && flags & CLONE_NEWIPC)
		r = open_ns(pid, "ipc", &ret->ipc, e);
	if (r == 0 && flags & CLONE_NEWUTS)
		r = open_ns(pid, "uts", &ret->uts, e);
	return r;
}

static int guide(const struct making *k, pid_t pid, const struct userns_map *uids,
		 const struct userns_map *gids, struct userns_made *made, struct err *e)
{
	int r = hear(k, "make a user namespace", e);

	if (r == 0)
		r = write_map(pid, "uid_map", uids, e);
	if (r == 0)
		r = write_map(pid, "gid_map", gids, e);
	if (r == 0 && write(k->down[1], "", 1) != 1)
		r = err_errno(e, -errno, "wake the first process of the user namespace");
	if (r == 0)
		r = hear(k, "make namespaces in the user namespace", e);
	return r < 0 ? r : open_made(pid, k->flags, made, e);
}

int userns_make(const struct userns_map *uids, const struct userns_map *gids, int flags,
		void (*inside)(void *arg), void *arg, struct userns_made *ret, struct err *e)
{
	struct making k = {{-1, -1}, {-1, -1}, flags, inside, arg};
	struct userns_made made = USERNS_MADE_NULL;
	pid_t pid = -1;
	int r;

	if (pipe2(k.up, O_CLOEXEC) < 0 || pipe2(k.down, O_CLOEXEC) < 0)
		r = -errno;
	else
		r = (pid = fork()) < 0 ? -errno : 0;
	if (pid == 0)
		be_first(&k);
	fd_close(k.up[1]);
	fd_close(k.down[0]);
	if (r < 0)
		err_errno(e, r, "start the first process of a user namespace");
	else
		r = guide(&k, pid, uids, gids, &made, e);
	fd_close(k.down[1]); /* it ends */
	fd_close(k.up[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (r < 0)
		userns_made_fini(&made);
	else
		*ret = made;
	return r;
}

int userns_enter(int fd)
{
	return setns(fd, CLONE_NEWUSER) < 0 ? -errno : become_root();
}

/* --- mounts --- */

static int set_attributes(int fd, const struct mount_attr *a, bool recursive)
{
	struct mount_attr copy = *a;

	return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &copy,
			     sizeof(copy)) < 0
		       ? -errno
		       : 0;
}

static int map_ids(int fd, const char *path, const struct idmap *how, struct err *e)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)how->userns};
	int r = set_attributes(fd, &a, how->recursive);

	if (r == -EINVAL && how->recursive) /* something below cannot: the rest is what counts */
		r = set_attributes(fd, &a, false);
	if (r == -EINVAL)
		return err_set(e, r, GRPC_FAILED_PRECONDITION,
			       "map the ids of the mount of %s: its file system cannot", path);
	return r < 0 ? err_errno(e, r, "map the ids of the mount of %s", path) : 0;
}

int idmap_clone(const char *path, const struct idmap *how, struct err *e)
{
	struct mount_attr a = {.attr_set = how->set, .attr_clr = how->clear};
	_cleanup_close_ int fd = open_tree(AT_FDCWD, path,
					   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
						   (how->recursive ? AT_RECURSIVE : 0));
	int r = 0;

	if (fd < 0)
		return err_errno(e, -errno, "copy the mount of %s", path);
	if (how->userns >= 0)
		r = map_ids(fd, path, how, e);
	if (r == 0 && (how->set || how->clear)) {
		r = set_attributes(fd, &a, how->deep);
		if (r < 0)
			err_errno(e, r, "set the options of the mount of %s", path);
	}
	return r < 0 ? r : TAKE_FD(fd);
}

int idmap_attach(int fd, const char *target, struct err *e)
{
	if (move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(e, -errno, "mount on %s", target);
	return 0;
}
