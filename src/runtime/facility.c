/* SPDX-License-Identifier: Apache-2.0 */
/* What runtimes need of a node besides their programs: see report.h. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/report.h"

#define KVM_API 12 /* the only one since Linux 2.6.22 */

static int check_kvm(struct err *e)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_precondition(e, "needs kvm: /dev/kvm: %s", strerror(errno));
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API)
		return err_precondition(e, "needs kvm: /dev/kvm is none that can be used");
	return 0;
}

/* Who listens accepts without being asked; nothing is sent. */
static int check_socket(const char *path, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_errno(e, -errno, "make a socket");
	if (strlen(path) >= sizeof(a.sun_path))
		return err_precondition(e, "needs unix:%.100s: the path is too long", path);
	strcpy(a.sun_path, path);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno != EAGAIN)
		return err_precondition(e, "needs unix:%s: %s", path, strerror(errno));
	return 0;
}

int runtime_facility_check(const char *name, struct err *e)
{
	const char *what = strchr(name, ':');
	_cleanup_free_ char *program = NULL;

	what = what ? what + 1 : "";
	if (streq(name, "kvm"))
		return check_kvm(e);
	if (str_has_prefix(name, "unix:"))
		return check_socket(what, e);
	if (str_has_prefix(name, "program:")) {
		program = runtime_find(what);
		return program ? 0 : err_precondition(e, "needs %s: it is not installed", name);
	}
	if (str_has_prefix(name, "file:"))
		return fs_exists(AT_FDCWD, what)
			       ? 0
			       : err_precondition(e, "needs %s: it is not there", name);
	return err_precondition(e, "needs %s, which is no known facility", name);
}
