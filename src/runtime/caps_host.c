/* SPDX-License-Identifier: Apache-2.0 */
/* What a host takes from its runtimes: see caps.h. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/caps.h"

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static void take_seccomp(const struct runtime_host *h, struct runtime_caps *c)
{
	static const struct {
		const char *name;
		enum runtime_cap cap;
	} actions[] = {
		{"kill_process", RCAP_SECCOMP_KILL_PROCESS},
		{"kill_thread", RCAP_SECCOMP_KILL_THREAD},
		{"trace", RCAP_SECCOMP_TRACE},
		{"log", RCAP_SECCOMP_LOG},
		{"user_notif", RCAP_SECCOMP_NOTIFY},
	};
	_cleanup_free_ char *avail = xasprintf(" %s ", h->seccomp_actions);

	if (!h->seccomp)
		runtime_caps_lack(c, RCAP_SECCOMP_BITS, "this kernel has no seccomp");
	for (size_t i = 0; *h->seccomp_actions && i < ARRAY_SIZE(actions); i++) {
		_cleanup_free_ char *word = xasprintf(" %s ", actions[i].name);

		if (!strstr(avail, word))
			runtime_caps_lack(c, RCAP_BIT(actions[i].cap),
					  "this kernel does not have the action %s",
					  actions[i].name);
	}
}

void runtime_caps_host(const struct runtime_host *h, struct runtime_caps *c)
{
	const struct {
		bool has;
		uint64_t bits;
		const char *why;
	} facts[] = {
		{h->apparmor, RCAP_BIT(RCAP_APPARMOR), "AppArmor is not enabled on this node"},
		{h->selinux, RCAP_BIT(RCAP_SELINUX), "SELinux is not enabled on this node"},
		{h->resctrl, RCAP_BIT(RCAP_INTEL_RDT), "this node has no resctrl file system"},
		{h->userns,
		 RCAP_BIT(RCAP_USERNS) | RCAP_BIT(RCAP_USERNS_HOST_NETWORK) |
			 RCAP_BIT(RCAP_JOIN_USER),
		 "this node lets nobody make user namespaces"},
		{h->timens, RCAP_BIT(RCAP_NEW_TIME), "this kernel has no time namespaces"},
		{h->mount_setattr,
		 RCAP_BIT(RCAP_IDMAPPED_MOUNTS) | RCAP_BIT(RCAP_RRO_MOUNTS) |
			 RCAP_BIT(RCAP_RECURSIVE_OPTIONS),
		 "this kernel has no mount_setattr(2) (Linux 5.12)"},
		{h->cgroup_v2, RCAP_BIT(RCAP_UNIFIED), "this node has cgroup v1"},
		{h->cgroup_systemd, RCAP_BIT(RCAP_CGROUP_SYSTEMD),
		 "systemd does not run this node"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		if (!facts[i].has)
			runtime_caps_lack(c, facts[i].bits, "%s", facts[i].why);
	take_seccomp(h, c);
}

/* user.max_user_namespaces: 0 is how they are forbidden (user_namespaces(7)). */
static bool has_userns(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (!fs_exists(AT_FDCWD, "/proc/self/ns/user"))
		return false;
	return fs_read(AT_FDCWD, "/proc/sys/user/max_user_namespaces", 64, &b) < 0 || !b.len ||
	       strtoull(b.s, NULL, 10) > 0;
}

void runtime_host_look(struct runtime_host *ret)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct utsname u;

	*ret = (struct runtime_host){0};
	if (uname(&u) == 0)
		snprintf(ret->release, sizeof(ret->release), "%.60s %.60s", u.release, u.version);
	ret->seccomp = fs_exists(AT_FDCWD, "/proc/sys/kernel/seccomp");
	if (fs_read(AT_FDCWD, "/proc/sys/kernel/seccomp/actions_avail",
		    sizeof(ret->seccomp_actions) - 1, &b) == 0 &&
	    b.s)
		snprintf(ret->seccomp_actions, sizeof(ret->seccomp_actions), "%.*s",
			 (int)strcspn(b.s, "\n"), b.s);
	strbuf_reset(&b);
	if (fs_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &b) == 0 && b.s)
		ret->apparmor = *b.s == 'Y';
	ret->selinux = fs_exists(AT_FDCWD, "/sys/fs/selinux/enforce");
	ret->resctrl = fs_exists(AT_FDCWD, "/sys/fs/resctrl/schemata");
	ret->userns = has_userns();
	ret->timens = fs_exists(AT_FDCWD, "/proc/self/ns/time");
	ret->mount_setattr = syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) < 0 && errno != ENOSYS;
}
