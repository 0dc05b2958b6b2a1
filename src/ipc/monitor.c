/* SPDX-License-Identifier: Apache-2.0 */
/* Where a monitor is found: see monitor.h. */
#include "ipc/monitor.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/mem.h"

/* A socket's name has room for 107 characters, a pod's directory may be longer: it is named
 * through an open descriptor of it. */
int monitor_connect(const char *pod_dir, struct err *e)
{
	_cleanup_close_ int dir = open(pod_dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (dir < 0)
		return err_errno(e, -errno, "open the pod's directory %s", pod_dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, -errno, "make a socket");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" MON_SOCKET, dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_errno(e, -errno, "connect to the monitor in %s", pod_dir);
	return TAKE_FD(fd);
}
