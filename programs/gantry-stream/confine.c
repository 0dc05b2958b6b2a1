/* SPDX-License-Identifier: Apache-2.0 */
/* Confinement: see confine.h. */
#include "confine.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "sys/seccomp_arch.h"

#ifdef ARCH
/* Everything else fails with EPERM, as for a process that is not allowed to. */
static const int always[] = {
	SYS_read,	    SYS_write,	       SYS_readv,	 SYS_writev,
	SYS_recvfrom,	    SYS_recvmsg,       SYS_sendto,	 SYS_sendmsg,
	SYS_shutdown,	    SYS_close,	       SYS_fcntl,	 SYS_epoll_ctl,
	SYS_epoll_pwait,
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
#endif
#ifdef SYS_poll
	SYS_poll,
#endif
	SYS_ppoll,	    SYS_brk,	       SYS_munmap,	 SYS_mremap,
	SYS_madvise,	    SYS_clock_gettime, SYS_gettimeofday, SYS_getrandom,
	SYS_futex,	    SYS_getpid,	       SYS_gettid,	 SYS_rt_sigreturn,
	SYS_rt_sigprocmask, SYS_rt_sigaction,  SYS_sigaltstack,	 SYS_restart_syscall,
	SYS_exit,	    SYS_exit_group,    SYS_fstat,	 SYS_lseek,
};

#define STMT(code, k) (struct sock_filter) BPF_STMT(code, k)
#define JUMP(code, k, t, f) (struct sock_filter) BPF_JUMP(code, k, t, f)
#define LOAD(off) STMT(BPF_LD | BPF_W | BPF_ABS, off)
#define IF(nr, t, f) JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(nr), t, f)
#define ALLOW STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define DENY STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static int filter(void)
{
	struct sock_filter f[ARRAY_SIZE(always) * 2 + 32];
	unsigned short k = 0;
	struct sock_fprog prog = {.filter = f};

	f[k++] = LOAD(offsetof(struct seccomp_data, arch));
	f[k++] = IF(ARCH, 1, 0);
	f[k++] = STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[k++] = LOAD(offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
		f[k++] = IF(always[i], 0, 1);
		f[k++] = ALLOW;
	}
	/* The size of a terminal, what waits in a socket, and nothing else: some requests put
	 * input into a terminal. */
	f[k++] = IF(SYS_ioctl, 0, 5);
	f[k++] = LOAD(ARG_LOW(1));
	f[k++] = IF(TIOCSWINSZ, 1, 0);
	f[k++] = IF(SIOCOUTQ, 0, 1);
	f[k++] = ALLOW;
	f[k++] = DENY;
	/* No memory that is to be run. */
	f[k++] = IF(SYS_mmap, 1, 0);
	f[k++] = IF(SYS_mprotect, 0, 4);
	f[k++] = LOAD(ARG_LOW(2));
	f[k++] = JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
	f[k++] = ALLOW;
	f[k++] = DENY;
	/* abort() */
	f[k++] = IF(SYS_tgkill, 1, 0);
	f[k++] = DENY;
	f[k++] = LOAD(ARG_LOW(0));
	f[k++] = IF(getpid(), 0, 1);
	f[k++] = ALLOW;
	f[k++] = DENY;
	prog.len = k;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}
#else
static int filter(void)
{
	return 0;
}
#endif

static int drop_capabilities(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}, {0}};

	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

static void limit(int what, uint64_t v)
{
	const struct rlimit l = {v, v};

	setrlimit((__rlimit_resource_t)what, &l);
}

int confine_stream(struct err *e)
{
	int r;

	limit(RLIMIT_CORE, 0); /* what passes through is secret */
	limit(RLIMIT_NOFILE, CONFINE_DESCRIPTORS);
	if (SANITIZED)
		return 0;
	limit(RLIMIT_AS, CONFINE_MEMORY);
	r = drop_capabilities();
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = filter();
	return r < 0 ? err_errno(e, r, "confine gantry-stream") : 0;
}
