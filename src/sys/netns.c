/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces: see netns.h. */
#include "sys/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "base/fs.h"
#include "base/mem.h"

int netns_pin(int fd, const char *path, struct err *e)
{
	_cleanup_free_ char *dir = xstrdup(path);
	_cleanup_close_ int file = -EBADF;
	char source[32];
	int r;

	*strrchr(dir, '/') = '\0';
	r = fs_mkdir_p(AT_FDCWD, dir, 0755);
	if (r < 0)
		return err_errno(e, r, "make %s", dir);
	file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	if (file < 0)
		return err_errno(e, -errno, "create %s", path);
	snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
	if (mount(source, path, NULL, MS_BIND, NULL) < 0) {
		r = err_errno(e, -errno, "pin the network namespace at %s", path);
		unlink(path);
		return r;
	}
	return 0;
}

int netns_open(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET ? TAKE_FD(fd) : -ENOENT;
}

int netns_unpin(const char *path, struct err *e)
{
	while (umount2(path, MNT_DETACH) == 0) /* pinned twice: both go */
		;
	if (errno != EINVAL && errno != ENOENT)
		return err_errno(e, -errno, "unpin %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "remove %s", path);
	return 0;
}
