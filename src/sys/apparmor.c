/* SPDX-License-Identifier: Apache-2.0 */
/* AppArmor profiles: see apparmor.h. */
#include "sys/apparmor.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"

#define LIST "/sys/kernel/security/apparmor/profiles" /* a line each: "NAME (MODE)" */
#define LIST_MAX (1u << 20)

int apparmor_loaded(const char *profile)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	size_t n = strlen(profile);
	int r = fs_read(AT_FDCWD, LIST, LIST_MAX, &b);

	if (r < 0)
		return r;
	for (const char *line = str_or_empty(b.s); *line; line += strcspn(line, "\n") + 1) {
		if (strncmp(line, profile, n) == 0 && str_has_prefix(line + n, " ("))
			return 1;
		if (!strchr(line, '\n'))
			break;
	}
	return 0;
}

/*
 * The default profile: everything that file permissions and capabilities allow, but not the doors
 * through which a container's root reaches the machine: mounts, the kernel's memory and settings,
 * firmware, security modules.  Runtimes hide most of these paths too, or have them read-only; a
 * profile still holds where a container got /proc or /sys mounted a second time.
 *
 * Left open to writing: a process's own files, what belongs to the pod's IPC namespace, and
 * cgroups, which are the container's own where it has them at all.
 */
static const char denied[] =
	"  deny mount,\n"
	"  deny /proc/{kcore,kmem,mem,kallsyms,sysrq-trigger,timer_stats} rwklx,\n"
	"  deny /proc/* w,\n"
	"  deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,mpt,pressure,scsi,tty}/** "
	"wklx,\n"
	"  deny /proc/sys/{abi,crypto,debug,dev,net,sunrpc,user,vm}/** wklx,\n"
	"  deny /proc/sys/fs/[^m]** wklx,\n"
	"  deny /proc/sys/fs/mount-max wklx,\n"
	"  deny /proc/sys/kernel/[^ms]** wklx,\n"
	"  deny /proc/sys/kernel/{modprobe,modules_disabled,max_*}{,/**} wklx,\n"
	"  deny /proc/sys/kernel/s[^he]* wklx,\n"
	"  deny /proc/sys/kernel/s[^he]*/** wklx,\n"
	"  deny /proc/sys/kernel/se[^m]* wklx,\n"
	"  deny /proc/sys/kernel/se[^m]*/** wklx,\n"
	"  deny /sys/{block,bus,class,dev,devices,hypervisor,module,power}/** wklx,\n"
	"  deny /sys/fs/[^c]** wklx,\n"
	"  deny /sys/fs/c[^g]** wklx,\n"
	"  deny /sys/kernel/** wklx,\n"
	"  deny /sys/firmware/** rwklx,\n"
	"  deny /sys/kernel/{debug,security,tracing}/** rwklx,\n"
	"  deny /sys/devices/virtual/powercap/** rwklx,\n";

void apparmor_print_default(const char *name, struct strbuf *ret)
{
	strbuf_addf(
		ret,
		"profile %s flags=(attach_disconnected,mediate_deleted) {\n"
		"  network,\n"
		"  capability,\n"
		"  file,\n"
		"  umount,\n"
		"  # the host may signal what runs here, and so may runtimes that are confined\n"
		"  signal (receive) peer=unconfined,\n"
		"  signal (receive) peer=crun,\n"
		"  signal (receive) peer=runc,\n"
		"  signal (send, receive) peer=%s,\n"
		"  ptrace (trace, read, tracedby, readby) peer=%s,\n\n%s}\n",
		name, name, name, denied);
}
