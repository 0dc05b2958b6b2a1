/* SPDX-License-Identifier: Apache-2.0 */
/* sd_notify(3) without libsystemd: see notify.h. */
#include "notify.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/mem.h"
#include "base/str.h"

static struct sockaddr_un manager;
static size_t manager_len; /* of the path; 0: nobody listens */
static uint64_t watchdog_us;

static void take_socket(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;

	if (n < 2 || n >= sizeof(manager.sun_path) || (*path != '/' && *path != '@'))
		return;
	manager.sun_family = AF_UNIX;
	memcpy(manager.sun_path, path, n);
	if (*path == '@')
		manager.sun_path[0] = '\0'; /* abstract */
	manager_len = n;
}

static void take_watchdog(void)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t v, p;

	if (!us || !str_to_u64(us, &v))
		return;
	if (!pid || (str_to_u64(pid, &p) && p == (uint64_t)getpid()))
		watchdog_us = v;
}

void notify_init(void)
{
	take_socket();
	take_watchdog();
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_send(const char *state)
{
	_cleanup_close_ int fd = -EBADF;

	if (!manager_len)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
		       (struct sockaddr *)&manager,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + manager_len));
}

uint64_t notify_watchdog_us(void)
{
	return watchdog_us;
}
