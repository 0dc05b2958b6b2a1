/* SPDX-License-Identifier: Apache-2.0 */
/* Confinement: see confine.h. */
#include "confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/quota.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/mem.h"
#include "sys/seccomp_arch.h"

/* <sys/mount.h> and <linux/mount.h> do not go together. */
int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data);

#define MOUNT_FLAGS_REC 0x4000
#define MOUNT_FLAGS_BIND 0x1000
#define MOUNT_FLAGS_SLAVE 0x80000

/* --- system calls --- */

static const int never[] = {
	SYS_execve,
	SYS_execveat,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_pidfd_getfd,
	SYS_kexec_load,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_move_mount,
	SYS_open_tree,
	SYS_fsopen,
	SYS_fsmount,
	SYS_fspick,
	SYS_mount_setattr,
	SYS_setns,
	SYS_unshare,
	SYS_swapon,
	SYS_swapoff,
	SYS_reboot,
	SYS_acct,
	SYS_quotactl,
	SYS_open_by_handle_at,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_syslog,
	SYS_personality,
	SYS_vhangup,
	SYS_fanotify_init,
#ifdef SYS_kexec_file_load
	SYS_kexec_file_load,
#endif
#ifdef SYS_iopl
	SYS_iopl,
	SYS_ioperm,
	SYS_modify_ldt,
#endif
};

static const int never_unpacking[] = {
	SYS_socket,	 SYS_connect, SYS_bind,	  SYS_listen, SYS_accept4,	SYS_clone,
	SYS_kill,	 SYS_tkill,   SYS_tgkill, SYS_setsid, SYS_memfd_create,
#ifdef SYS_quotactl_fd
	SYS_quotactl_fd,
#endif
#ifdef SYS_fork
	SYS_fork,	 SYS_vfork,
#endif
#ifdef SYS_accept
	SYS_accept,
#endif
};

/* Namespaces, as flags of clone(2). */
#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

#ifdef __s390x__
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif

#ifdef ARCH
static int deny(const int *v, size_t n)
{
	struct sock_filter f[256];
	unsigned short k = 0;
	struct sock_fprog prog = {.filter = f};

	f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      offsetof(struct seccomp_data, arch));
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      offsetof(struct seccomp_data, nr));
#ifdef __x86_64__ /* x32's numbers */
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
#endif
	/* Its flags cannot be looked at; the C library then takes clone(2). */
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	for (size_t i = 0; i < n; i++) {
		f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)v[i], 0,
						      1);
		f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
#ifdef SYS_quotactl_fd /* to see how much a writable layer takes */
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_quotactl_fd, 0, 4);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(1));
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
					      (unsigned)QCMD(Q_GETQUOTA, PRJQUOTA), 0, 1);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
#endif
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(CLONE_FLAGS));
	f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = k;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}
#else
static int deny(const int *v, size_t n)
{
	(void)v;
	(void)n;
	return 0;
}
#endif

/* --- capabilities --- */

static int keep_capabilities(void)
{
	/* Owners, modes, xattrs, device nodes of layers; SYS_ADMIN: trusted.overlay.*, the
	 * mounts that it stands for too are denied. */
	static const int keep[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER,   CAP_FSETID,
				   CAP_MKNOD, CAP_SETFCAP,	CAP_SYS_ADMIN};
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	uint32_t mask[2] = {0};

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(keep); i++)
		mask[CAP_TO_INDEX(keep[i])] |= CAP_TO_MASK(keep[i]);
	for (size_t i = 0; i < 2; i++) {
		d[i].permitted &= mask[i];
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

/* --- files --- */

static int set_mount(const char *path, unsigned flags, uint64_t set, uint64_t clear)
{
	struct mount_attr a = {.attr_set = set, .attr_clr = clear};

	return syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &a, sizeof(a)) < 0 ? -errno : 0;
}

/* The host's unmounts still come through: nothing is kept busy. */
static int own_mounts(const char *root)
{
	int r = 0;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MOUNT_FLAGS_REC | MOUNT_FLAGS_SLAVE, NULL) < 0)
		return -errno;
	if (root && mount(root, root, NULL, MOUNT_FLAGS_BIND | MOUNT_FLAGS_REC, NULL) < 0)
		return -errno;
	r = set_mount("/", AT_RECURSIVE,
		      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		      0);
	if (r == 0 && root)
		r = set_mount(root, AT_RECURSIVE, 0, MOUNT_ATTR_RDONLY);
	return r;
}

static void limit(int what, uint64_t v)
{
	const struct rlimit l = {v, v};

	setrlimit((__rlimit_resource_t)what, &l);
}

/* A test's file beside the store has to be written (base/fault.h). */
static bool fault_mark_wanted(void)
{
#ifdef GANTRY_TEST_HOOKS
	return getenv("GANTRY_FAULT_MARK") != NULL;
#else
	return false;
#endif
}

int confine_worker(const char *root, struct err *e)
{
	int r = fault_mark_wanted() ? 0 : own_mounts(root);

	if (r < 0) /* a host that does not allow it: the rest still holds */
		log_warn("gantry-worker has no mounts of its own: %s", strerror(-r));
	limit(RLIMIT_CORE, 0); /* credentials */
	if (SANITIZED)
		return 0;
	limit(RLIMIT_AS, CONFINE_WORKER_MEMORY);
	r = keep_capabilities();
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = deny(never, ARRAY_SIZE(never));
	return r < 0 ? err_errno(e, r, "confine gantry-worker") : 0;
}

/* --- processes that unpack --- */

static void close_but(const int *keep, size_t n)
{
	unsigned from = 0;

	for (;;) {
		unsigned next = ~0u;

		for (size_t i = 0; i < n; i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		if (next > from)
			syscall(SYS_close_range, from, next == ~0u ? ~0u : next - 1, 0);
		if (next == ~0u)
			return;
		from = next + 1;
	}
}

int confine_unpacker(const int *keep, size_t n, struct err *e)
{
	int r;

	close_but(keep, n);
	if (SANITIZED)
		return 0;
	limit(RLIMIT_AS, CONFINE_UNPACKER_MEMORY);
	r = deny(never_unpacking, ARRAY_SIZE(never_unpacking));
	return r < 0 ? err_errno(e, r, "confine the process that unpacks") : 0;
}
