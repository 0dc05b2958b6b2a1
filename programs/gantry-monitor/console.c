/* SPDX-License-Identifier: Apache-2.0 */
/* See console.h; for the message: github.com/opencontainers/runc, docs/terminals.md. */
#include "console.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

#define NAME_IN_MESSAGE 256 /* of the terminal: looked at by nobody */

int console_listen(const char *dir, const char *name)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

	if (d < 0)
		return -errno;
	unlinkat(d, name, 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", d, name);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0)
		return -errno;
	return TAKE_FD(fd);
}

char *console_path(const char *dir, const char *name)
{
	int d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return d < 0 ? xstrdup(name) : xasprintf("/proc/%d/fd/%d/%s", (int)getpid(), d, name);
}

int console_take(int listening, struct err *e)
{
	char name[NAME_IN_MESSAGE];
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {name, sizeof(name)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.buf,
			   .msg_controllen = sizeof(control.buf)};
	/* Its message waits, or never comes. */
	_cleanup_close_ int c = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct cmsghdr *h;
	int master;

	if (c < 0 || recvmsg(c, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0 ||
	    !(h = CMSG_FIRSTHDR(&m)) || h->cmsg_type != SCM_RIGHTS ||
	    h->cmsg_len != CMSG_LEN(sizeof(int)))
		return err_set(e, -EIO, GRPC_INTERNAL, "the runtime sent no terminal");
	memcpy(&master, CMSG_DATA(h), sizeof(int));
	return master;
}
