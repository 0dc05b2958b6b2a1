/* SPDX-License-Identifier: Apache-2.0 */
/* See listen.h. */
#include "listen.h"

#include "base/mem.h"
#include "base/sock.h"

#define LISTEN_BACKLOG 128

int listen_at(const struct listen_address *a, int *ret, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	int on = 1;

	if (a->sa.any.sa_family == AF_UNIX)
		return sock_listen_unix(a->sa.un.sun_path, ret, e);
	fd = socket(a->sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, &a->sa.any, a->len) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return err_errno(e, -errno, "listen on port %u", ntohs(a->sa.in.sin_port));
	*ret = TAKE_FD(fd);
	return 0;
}
