/* SPDX-License-Identifier: Apache-2.0 */
/* See sock.h. */
#include "base/sock.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fs.h"
#include "base/mem.h"

#define LISTEN_BACKLOG 128

/* A socket file that nobody listens on is a dead daemon's. */
static int remove_stale_socket(const char *path, const struct sockaddr_un *sa, struct err *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return err_errno(e, -errno, "socket");
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_precondition(e, "address: %s is there, and no socket", path);
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN)
		return err_precondition(e, "%s is served by another process", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "remove the stale socket %s", path);
	return 0;
}

int sock_listen_unix(const char *path, int *ret, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_free_ char *dir = xstrdup(path);
	_cleanup_close_ int fd = -EBADF;
	mode_t old;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_invalid(e, "address: %s is longer than %zu bytes", path,
				   sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	*strrchr(dir, '/') = '\0';
	r = *dir ? fs_mkdir_p(AT_FDCWD, dir, 0755) : 0;
	if (r < 0)
		return err_errno(e, r, "make %s for the socket", dir);
	r = remove_stale_socket(path, &sa, e);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	old = umask(0117); /* 0660 from its first moment */
	r = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(old);
	if (r < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return err_errno(e, -errno, "listen on %s", path);
	*ret = TAKE_FD(fd);
	return 0;
}
