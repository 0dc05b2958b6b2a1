/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in seccomp profile (config-linux.md, seccomp): everything that ordinary programs
 * use is allowed, everything else answers EPERM; what belongs to a capability is allowed
 * with it.  Calls that the host's libseccomp does not know are passed over by the runtimes.
 */
#include "base/mem.h"
#include "spec/spec.h"
#include "wire/json.h"

static const char *const always[] = {
	"accept",
	"accept4",
	"access",
	"adjtimex",
	"alarm",
	"arch_prctl",
	"bind",
	"brk",
	"cachestat",
	"capget",
	"capset",
	"chdir",
	"chmod",
	"chown",
	"chown32",
	"clock_adjtime",
	"clock_adjtime64",
	"clock_getres",
	"clock_getres_time64",
	"clock_gettime",
	"clock_gettime64",
	"clock_nanosleep",
	"clock_nanosleep_time64",
	"close",
	"close_range",
	"connect",
	"copy_file_range",
	"creat",
	"dup",
	"dup2",
	"dup3",
	"epoll_create",
	"epoll_create1",
	"epoll_ctl",
	"epoll_ctl_old",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"epoll_wait_old",
	"eventfd",
	"eventfd2",
	"execve",
	"execveat",
	"exit",
	"exit_group",
	"faccessat",
	"faccessat2",
	"fadvise64",
	"fadvise64_64",
	"fallocate",
	"fanotify_mark",
	"fchdir",
	"fchmod",
	"fchmodat",
	"fchmodat2",
	"fchown",
	"fchown32",
	"fchownat",
	"fcntl",
	"fcntl64",
	"fdatasync",
	"fgetxattr",
	"flistxattr",
	"flock",
	"fork",
	"fremovexattr",
	"fsetxattr",
	"fstat",
	"fstat64",
	"fstatat64",
	"fstatfs",
	"fstatfs64",
	"fsync",
	"ftruncate",
	"ftruncate64",
	"futex",
	"futex_requeue",
	"futex_time64",
	"futex_wait",
	"futex_waitv",
	"futex_wake",
	"futimesat",
	"get_robust_list",
	"get_thread_area",
	"getcpu",
	"getcwd",
	"getdents",
	"getdents64",
	"getegid",
	"getegid32",
	"geteuid",
	"geteuid32",
	"getgid",
	"getgid32",
	"getgroups",
	"getgroups32",
	"getitimer",
	"getpeername",
	"getpgid",
	"getpgrp",
	"getpid",
	"getppid",
	"getpriority",
	"getrandom",
	"getresgid",
	"getresgid32",
	"getresuid",
	"getresuid32",
	"getrlimit",
	"getrusage",
	"getsid",
	"getsockname",
	"getsockopt",
	"gettid",
	"gettimeofday",
	"getuid",
	"getuid32",
	"getxattr",
	"getxattrat",
	"inotify_add_watch",
	"inotify_init",
	"inotify_init1",
	"inotify_rm_watch",
	"io_cancel",
	"io_destroy",
	"io_getevents",
	"io_pgetevents",
	"io_pgetevents_time64",
	"io_setup",
	"io_submit",
	"ioctl",
	"ioprio_get",
	"ioprio_set",
	"ipc",
	"kill",
	"landlock_add_rule",
	"landlock_create_ruleset",
	"landlock_restrict_self",
	"lchown",
	"lchown32",
	"lgetxattr",
	"link",
	"linkat",
	"listen",
	"listmount",
	"listxattr",
	"listxattrat",
	"llistxattr",
	"_llseek",
	"lremovexattr",
	"lseek",
	"lsetxattr",
	"lstat",
	"lstat64",
	"madvise",
	"map_shadow_stack",
	"membarrier",
	"memfd_create",
	"memfd_secret",
	"mincore",
	"mkdir",
	"mkdirat",
	"mknod",
	"mknodat",
	"mlock",
	"mlock2",
	"mlockall",
	"mmap",
	"mmap2",
	"modify_ldt",
	"mprotect",
	"mq_getsetattr",
	"mq_notify",
	"mq_open",
	"mq_timedreceive",
	"mq_timedreceive_time64",
	"mq_timedsend",
	"mq_timedsend_time64",
	"mq_unlink",
	"mremap",
	"mseal",
	"msgctl",
	"msgget",
	"msgrcv",
	"msgsnd",
	"msync",
	"munlock",
	"munlockall",
	"munmap",
	"name_to_handle_at",
	"nanosleep",
	"newfstatat",
	"_newselect",
	"open",
	"openat",
	"openat2",
	"pause",
	"pidfd_getfd",
	"pidfd_open",
	"pidfd_send_signal",
	"pipe",
	"pipe2",
	"pkey_alloc",
	"pkey_free",
	"pkey_mprotect",
	"poll",
	"ppoll",
	"ppoll_time64",
	"prctl",
	"pread64",
	"preadv",
	"preadv2",
	"prlimit64",
	"process_mrelease",
	"process_vm_readv",
	"process_vm_writev",
	"pselect6",
	"pselect6_time64",
	"ptrace",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"read",
	"readahead",
	"readlink",
	"readlinkat",
	"readv",
	"recv",
	"recvfrom",
	"recvmmsg",
	"recvmmsg_time64",
	"recvmsg",
	"remap_file_pages",
	"removexattr",
	"removexattrat",
	"rename",
	"renameat",
	"renameat2",
	"restart_syscall",
	"riscv_hwprobe",
	"rmdir",
	"rseq",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigqueueinfo",
	"rt_sigreturn",
	"rt_sigsuspend",
	"rt_sigtimedwait",
	"rt_sigtimedwait_time64",
	"rt_tgsigqueueinfo",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"sched_getaffinity",
	"sched_getattr",
	"sched_getparam",
	"sched_getscheduler",
	"sched_rr_get_interval",
	"sched_rr_get_interval_time64",
	"sched_setaffinity",
	"sched_setattr",
	"sched_setparam",
	"sched_setscheduler",
	"sched_yield",
	"seccomp",
	"select",
	"semctl",
	"semget",
	"semop",
	"semtimedop",
	"semtimedop_time64",
	"send",
	"sendfile",
	"sendfile64",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"set_robust_list",
	"set_thread_area",
	"set_tid_address",
	"setfsgid",
	"setfsgid32",
	"setfsuid",
	"setfsuid32",
	"setgid",
	"setgid32",
	"setgroups",
	"setgroups32",
	"setitimer",
	"setpgid",
	"setpriority",
	"setregid",
	"setregid32",
	"setresgid",
	"setresgid32",
	"setresuid",
	"setresuid32",
	"setreuid",
	"setreuid32",
	"setrlimit",
	"setsid",
	"setsockopt",
	"setuid",
	"setuid32",
	"setxattr",
	"setxattrat",
	"shmat",
	"shmctl",
	"shmdt",
	"shmget",
	"shutdown",
	"sigaltstack",
	"signalfd",
	"signalfd4",
	"sigprocmask",
	"sigreturn",
	"socketcall",
	"socketpair",
	"splice",
	"stat",
	"stat64",
	"statfs",
	"statfs64",
	"statmount",
	"statx",
	"symlink",
	"symlinkat",
	"sync",
	"sync_file_range",
	"syncfs",
	"sysinfo",
	"tee",
	"tgkill",
	"time",
	"timer_create",
	"timer_delete",
	"timer_getoverrun",
	"timer_gettime",
	"timer_gettime64",
	"timer_settime",
	"timer_settime64",
	"timerfd_create",
	"timerfd_gettime",
	"timerfd_gettime64",
	"timerfd_settime",
	"timerfd_settime64",
	"times",
	"tkill",
	"truncate",
	"truncate64",
	"ugetrlimit",
	"umask",
	"uname",
	"unlink",
	"unlinkat",
	"uretprobe",
	"utime",
	"utimensat",
	"utimensat_time64",
	"utimes",
	"vfork",
	"vmsplice",
	"wait4",
	"waitid",
	"waitpid",
	"write",
	"writev",
};

#define CAP(n) (UINT64_C(1) << (n))

/* Calls that belong to a capability. */
static const struct {
	uint64_t caps; /* any of them */
	const char *calls[28];
} with_cap[] = {
	{CAP(2), {"open_by_handle_at"}},
	{CAP(21), /* SYS_ADMIN */
	 {"bpf",
	  "clone",
	  "clone3",
	  "fanotify_init",
	  "fsconfig",
	  "fsmount",
	  "fsopen",
	  "fspick",
	  "lookup_dcookie",
	  "lsm_get_self_attr",
	  "lsm_list_modules",
	  "lsm_set_self_attr",
	  "mount",
	  "mount_setattr",
	  "move_mount",
	  "open_tree",
	  "perf_event_open",
	  "quotactl",
	  "quotactl_fd",
	  "setdomainname",
	  "sethostname",
	  "setns",
	  "syslog",
	  "umount",
	  "umount2",
	  "unshare"}},
	{CAP(22), {"reboot"}},
	{CAP(18), {"chroot"}},
	{CAP(16), {"delete_module", "finit_module", "init_module"}},
	{CAP(20), {"acct"}},
	{CAP(19), {"kcmp", "process_madvise"}},
	{CAP(17), {"ioperm", "iopl"}},
	{CAP(25), {"clock_settime", "clock_settime64", "settimeofday", "stime"}},
	{CAP(26), {"vhangup"}},
	{CAP(23), {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"}},
	{CAP(34), {"syslog"}},
	{CAP(39), {"bpf"}},
	{CAP(38), {"perf_event_open"}},
};

#define CLONE_NAMESPACES 0x7E020000 /* every CLONE_NEW* of clone(2) */
#define AF_VSOCK_NUMBER 40

static void begin(struct jw *w)
{
	jw_object_begin(w);
	jw_key_array(w, "names");
}

static void action(struct jw *w, const char *name)
{
	jw_array_end(w);
	jw_key_string(w, "action", name);
}

static void argument(struct jw *w, unsigned index, uint64_t value, uint64_t value_two,
		     const char *op)
{
	jw_key_array(w, "args");
	jw_object_begin(w);
	jw_key_uint(w, "index", index);
	jw_key_uint(w, "value", value);
	jw_key_uint(w, "valueTwo", value_two);
	jw_key_string(w, "op", op);
	jw_object_end(w);
	jw_array_end(w);
}

static void print_clone(struct jw *w)
{
	begin(w);
	jw_string(w, "clone"); /* no new namespaces */
	action(w, "SCMP_ACT_ALLOW");
	argument(w, 0, CLONE_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ");
	jw_object_end(w);
	begin(w);
	jw_string(w, "clone3"); /* its flags cannot be seen: libc falls back to clone */
	action(w, "SCMP_ACT_ERRNO");
	jw_key_uint(w, "errnoRet", 38); /* ENOSYS */
	jw_object_end(w);
}

static void print_personality(struct jw *w)
{
	static const uint32_t allowed[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		begin(w);
		jw_string(w, "personality");
		action(w, "SCMP_ACT_ALLOW");
		argument(w, 0, allowed[i], 0, "SCMP_CMP_EQ");
		jw_object_end(w);
	}
}

static void print_architectures(struct jw *w)
{
	jw_key_array(w, "architectures");
#if defined(__x86_64__)
	jw_string(w, "SCMP_ARCH_X86_64");
	jw_string(w, "SCMP_ARCH_X86");
	jw_string(w, "SCMP_ARCH_X32");
#elif defined(__aarch64__)
	jw_string(w, "SCMP_ARCH_AARCH64");
	jw_string(w, "SCMP_ARCH_ARM");
#endif
	jw_array_end(w); /* none named: the native one */
}

void spec_seccomp_default_print(uint64_t caps, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "defaultAction", "SCMP_ACT_ERRNO");
	jw_key_uint(&w, "defaultErrnoRet", 1); /* EPERM */
	print_architectures(&w);
	jw_key_array(&w, "syscalls");
	begin(&w);
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		jw_string(&w, always[i]);
	action(&w, "SCMP_ACT_ALLOW");
	jw_object_end(&w);
	begin(&w);
	jw_string(&w, "socket"); /* not AF_VSOCK: it reaches past the network namespace */
	action(&w, "SCMP_ACT_ALLOW");
	argument(&w, 0, AF_VSOCK_NUMBER, 0, "SCMP_CMP_NE");
	jw_object_end(&w);
	print_personality(&w);
	if (!(caps & CAP(21)))
		print_clone(&w);
	for (size_t i = 0; i < ARRAY_SIZE(with_cap); i++) {
		if (!(caps & with_cap[i].caps))
			continue;
		begin(&w);
		for (size_t j = 0; j < ARRAY_SIZE(with_cap[i].calls) && with_cap[i].calls[j]; j++)
			jw_string(&w, with_cap[i].calls[j]);
		action(&w, "SCMP_ACT_ALLOW");
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_object_end(&w);
}
