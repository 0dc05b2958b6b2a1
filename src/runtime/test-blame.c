/* SPDX-License-Identifier: Apache-2.0 */
/* Whose fault failures are: what crun 1.8.1 and runc 1.1.5 said when they were asked for it. */
#include "base/mem.h"
#include "base/test.h"
#include "runtime/blame.h"

#define CONTAINER RUNTIME_BLAME_CONTAINER
#define ELSEWHERE RUNTIME_BLAME_ELSEWHERE
#define RUNTIME RUNTIME_BLAME_RUNTIME

static const struct {
	const char *name;
	int status;
	const char *said;
	enum runtime_blame whose;
} cases[] = {
	/* --- heard --- */
	{"crun command not found", 1, "container `x` already exists", CONTAINER},
	{"crun absolute command not found", 1,
	 "executable file `/nope` not found in $PATH: No such file or directory", CONTAINER},
	{"crun no permission", 1, "open executable: Permission denied", CONTAINER},
	{"crun is a directory", 1, "open executable: Operation not permitted", CONTAINER},
	{"crun no args", 1, "open executable: Invalid argument", CONTAINER},
	{"crun no process", 1, "internal error: max number of capabilities not initialized",
	 ELSEWHERE},
	{"crun cwd missing file", 1, "chdir `/bin/sh/x`: Not a directory", CONTAINER},
	{"crun no rootfs", 1, "make `nothing` private: No such file or directory", CONTAINER},
	{"crun rootfs a file", 1, "the target `/proc` is invalid: Not a directory", CONTAINER},
	{"crun mount source", 1, "error stat'ing file `/no/such/source`: No such file or directory",
	 CONTAINER},
	{"crun mount fs", 1, "mount `none` to `m`: No such device", CONTAINER},
	{"crun mount option", 1, "mount `none` to `m`: Invalid argument", CONTAINER},
	{"crun mount over file", 1, "mkdir `/bin/sh/x`: Not a directory", CONTAINER},
	{"crun memory negative", 1,
	 "OOM: the memory limit could be too low: read from sync socket: Connection reset by peer",
	 CONTAINER},
	{"crun memory tiny", 1,
	 "OOM: the memory limit could be too low: read from sync socket: Connection reset by peer",
	 CONTAINER},
	{"crun cpuset", 1, "writing file `cpuset.cpus`: Numerical result out of range", CONTAINER},
	{"crun cpu quota", 1, "writing file `cpu.cfs_period_us`: Invalid argument", CONTAINER},
	{"crun unified", 1, "invalid configuration: cannot use unified on cgroup v1", CONTAINER},
	{"crun hugepage", 1, "open `/sys/fs/cgroup/hugetlb/g/x`: No such file or directory",
	 CONTAINER},
	{"crun blkio", 1, "write `blkio.throttle.read_bps_device`: No such device", CONTAINER},
	{"crun bad sysctl", 1, "the sysctl `kernel.nope` is not namespaced", CONTAINER},
	{"crun sysctl not namespaced", 1, "the sysctl `vm.swappiness` is not namespaced",
	 CONTAINER},
	{"crun sysctl value", 1, "write to /proc/sys/net/ipv4/ip_forward: Invalid argument",
	 CONTAINER},
	{"crun hook fails", 255, "error executing hook `/bin/false` (exit code: 1)", CONTAINER},
	{"crun hook missing", 255, "error executing hook `/no/hook` (exit code: 1)", CONTAINER},
	{"crun prestart fails", 255, "error executing hook `/bin/false` (exit code: 1)", CONTAINER},
	{"crun createContainer fails", 1,
	 "{\"msg\":\"error executing hook `/bin/false` (exit code: "
	 "1)\",\"level\":\"error\",\"time\":\"2026-11-29T17:45:40.517474Z\"}",
	 CONTAINER},
	{"crun hook timeout", 1, "timeout expired for `/bin/sleep`", CONTAINER},
	{"crun apparmor", 1, "AppArmor is not initialized correctly", ELSEWHERE},
	{"crun selinux", 1, "write to `/proc/self/attr/keycreate`: Invalid argument", CONTAINER},
	{"crun rlimit", 1, "invalid rlimit `RLIMIT_NONSENSE`", ELSEWHERE},
	{"crun rlimit bad", 1, "setrlimit `RLIMIT_NOFILE`: Operation not permitted", CONTAINER},
	{"crun seccomp action", 1, "invalid seccomp action `SCMP_ACT_NONSENSE`", ELSEWHERE},
	{"crun seccomp arch", 1, "seccomp unknown architecture NONSENSE", ELSEWHERE},
	{"crun seccomp listener", 1,
	 "open seccomp receiver: connect socket to `/no/sock`: No such file or directory",
	 CONTAINER},
	{"crun seccomp flag", 1, "unknown seccomp option SECCOMP_FILTER_FLAG_NONSENSE", ELSEWHERE},
	{"crun ns path", 1, "open `/no/ns`: No such file or directory", CONTAINER},
	{"crun ns wrong type", 1, "cannot setns `/proc/self/ns/pid`: Invalid argument", CONTAINER},
	{"crun ns type", 1, "invalid namespace type: `nonsense`", ELSEWHERE},
	{"crun ns time", 1, "write to sync socket: Connection reset by peer", ELSEWHERE},
	{"crun oom", 1, "write to /proc/self/oom_score_adj: Invalid argument", CONTAINER},
	{"crun personality", 1, "unknown persona specified `NONSENSE`", CONTAINER},
	{"crun ociVersion", 1, "unknown version specified", ELSEWHERE},
	{"crun additional gids", 1, "setgroups: Invalid argument", CONTAINER},
	{"crun hostname no uts", 1, "hostname requires the UTS namespace", CONTAINER},
	{"runc command not found", 1,
	 "runc create failed: unable to start container process: exec: \"nope\": executable file "
	 "not found in $PATH",
	 CONTAINER},
	{"runc absolute command not found", 1,
	 "runc create failed: unable to start container process: exec: \"/nope\": stat /nope: no "
	 "such file or directory",
	 CONTAINER},
	{"runc no permission", 1,
	 "runc create failed: unable to start container process: exec: \"/bin/noexec\": permission "
	 "denied",
	 CONTAINER},
	{"runc is a directory", 1,
	 "runc create failed: unable to start container process: exec: \"/bin\": permission denied",
	 CONTAINER},
	{"runc no args", 1, "runc create failed: args must not be empty", CONTAINER},
	{"runc no process", 1, "runc create failed: process property must not be empty", CONTAINER},
	{"runc cwd missing file", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "mkdir /bin/sh: not a directory",
	 CONTAINER},
	{"runc relative cwd", 1, "runc create failed: Cwd must be an absolute path", CONTAINER},
	{"runc no rootfs", 1,
	 "runc create failed: invalid rootfs: stat /b/b/nothing: no such file or directory",
	 CONTAINER},
	{"runc rootfs a file", 1,
	 "runc create failed: unable to start container process: unable to start init: fork/exec "
	 "/proc/self/exe: not a directory",
	 CONTAINER},
	{"runc mount source", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error mounting \"/no/such/source\" to rootfs at \"/m\": stat /no/such/source: no such "
	 "file or directory",
	 CONTAINER},
	{"runc mount fs", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error mounting \"none\" to rootfs at \"/m\": mount none:/m (via /proc/self/fd/6): no "
	 "such device",
	 CONTAINER},
	{"runc mount option", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error mounting \"none\" to rootfs at \"/m\": mount none:/m (via /proc/self/fd/6), data: "
	 "nonsense=1: invalid argument",
	 CONTAINER},
	{"runc mount over file", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error mounting \"none\" to rootfs at \"/bin/sh/x\": mkdir /b/b/rootfs/bin/busybox: not a "
	 "directory",
	 CONTAINER},
	{"runc mount proc escape", 1,
	 "runc create failed: unable to start container process: error closing exec fds: open "
	 "/proc/self/fd: no such file or directory",
	 ELSEWHERE},
	{"runc memory negative", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error setting cgroup config for procHooks process: unable to set memory limit to 1 "
	 "(current usage: 1691648, peak usage: 1986560)",
	 CONTAINER},
	{"runc memory tiny", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error setting cgroup config for procHooks process: unable to set memory limit to 4096 "
	 "(current usage: 1814528, peak usage: 2011136)",
	 CONTAINER},
	{"runc cpuset", 1,
	 "runc create failed: unable to start container process: unable to apply cgroup "
	 "configuration: failed to write \"900\": write /sys/fs/cgroup/cpuset/g/x/cpuset.cpus: "
	 "numerical result out of range",
	 CONTAINER},
	{"runc cpu quota", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error setting cgroup config for procHooks process: failed to write \"1\": write "
	 "/sys/fs/cgroup/cpu/g/x/cpu.cfs_quota_us: invalid argument",
	 CONTAINER},
	{"runc unified", 1,
	 "runc create failed: invalid configuration: cannot use unified on cgroup v1", CONTAINER},
	{"runc hugepage", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error setting cgroup config for procHooks process: cannot set hugetlb limit: container "
	 "could not join or create cgroup",
	 CONTAINER},
	{"runc blkio", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error setting cgroup config for procHooks process: failed to write \"999:1 1\": write "
	 "/sys/fs/cgroup/blkio/g/x/blkio.throttle.read_bps_device: no such device",
	 CONTAINER},
	{"runc bad sysctl", 1,
	 "runc create failed: sysctl \"kernel.nope\" is not in a separate kernel namespace",
	 CONTAINER},
	{"runc sysctl not namespaced", 1,
	 "runc create failed: sysctl \"vm.swappiness\" is not in a separate kernel namespace",
	 CONTAINER},
	{"runc sysctl value", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "write /proc/sys/net/ipv4/ip_forward: invalid argument",
	 CONTAINER},
	{"runc hook fails", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error running hook #0: error running hook: exit status 1, stdout: , stderr:",
	 CONTAINER},
	{"runc hook missing", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error running hook #0: fork/exec /no/hook: no such file or directory",
	 CONTAINER},
	{"runc prestart fails", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error running hook #0: error running hook: exit status 1, stdout: , stderr:",
	 CONTAINER},
	{"runc createContainer fails", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error running hook #0: error running hook: exit status 1, stdout: , stderr:",
	 CONTAINER},
	{"runc hook timeout", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error running hook #0: hook ran past specified timeout of 1.0s",
	 CONTAINER},
	{"runc device", 1, "runc create failed: invalid device type \"q\"", CONTAINER},
	{"runc apparmor", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "unable to apply apparmor profile: apparmor failed to apply profile: write "
	 "/proc/self/attr/exec: invalid argument",
	 CONTAINER},
	{"runc selinux", 1,
	 "runc create failed: selinux label is specified in config, but selinux is disabled or not "
	 "supported",
	 ELSEWHERE},
	{"runc rlimit", 1, "runc create failed: wrong rlimit value: RLIMIT_NONSENSE", ELSEWHERE},
	{"runc rlimit bad", 1,
	 "runc create failed: unable to start container process: error during container init: "
	 "error setting rlimits for ready process: error setting rlimit type 7: operation not "
	 "permitted",
	 CONTAINER},
	{"runc seccomp action", 1,
	 "runc create failed: string SCMP_ACT_NONSENSE is not a valid action for seccomp",
	 ELSEWHERE},
	{"runc seccomp arch", 1,
	 "runc create failed: string SCMP_ARCH_NONSENSE is not a valid arch for seccomp",
	 ELSEWHERE},
	{"runc seccomp notify no listener", 1,
	 "runc create failed: unable to start container process: listenerPath is not set",
	 CONTAINER},
	{"runc seccomp listener", 1,
	 "runc create failed: unable to start container process: failed to connect with seccomp "
	 "agent specified in the seccomp profile: dial unix /no/sock: connect: no such file or "
	 "directory",
	 CONTAINER},
	{"runc seccomp flag", 1, "runc create failed: seccomp flags are not yet supported by runc",
	 ELSEWHERE},
	{"runc ns path", 1,
	 "runc create failed: unable to create new parent process: namespace path: lstat /no/ns: "
	 "no such file or directory",
	 CONTAINER},
	{"runc ns wrong type", 1,
	 "runc create failed: unable to start container process: can't get final child's PID from "
	 "pipe: EOF",
	 ELSEWHERE},
	{"runc ns type", 1, "runc create failed: namespace {\"nonsense\" \"\"} does not exist",
	 ELSEWHERE},
	{"runc ns time", 1, "runc create failed: namespace {\"time\" \"\"} does not exist",
	 ELSEWHERE},
	{"runc dup ns", 1, "runc create failed: malformed spec file: duplicated ns {\"pid\" \"\"}",
	 CONTAINER},
	{"runc userns no map", 1,
	 "runc create failed: User namespaces enabled, but no uid mappings found.", CONTAINER},
	{"runc oom", 1,
	 "runc create failed: unable to start container process: can't get final child's PID from "
	 "pipe: EOF",
	 ELSEWHERE},
	{"runc intelRdt", 1,
	 "runc create failed: intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is "
	 "not enabled",
	 ELSEWHERE},
	{"runc rootfsPropagation", 1,
	 "runc create failed: rootfsPropagation=nonsense is not supported", ELSEWHERE},
	{"runc user big", 1,
	 "runc create failed: unable to start container process: unable to setup user: uids and "
	 "gids must be in range 0-2147483647",
	 CONTAINER},
	{"runc additional gids", 1,
	 "runc create failed: unable to start container process: unable to setup user: uids and "
	 "gids must be in range 0-2147483647",
	 CONTAINER},
	{"runc hostname no uts", 1,
	 "runc create failed: unable to set hostname without a private UTS namespace", CONTAINER},
	{"crun state directory", 1,
	 "create directory `/run/g/runtime/x`: No such file or directory", RUNTIME},
	{"crun state is a file", 1,
	 "the path `/run/g/runtime/x` is not a directory: Not a directory", RUNTIME},
	{"runc state directory", 1,
	 "runc create failed: mkdir /run/g/runtime/x: no such file or directory", RUNTIME},
	{"crun unknown option", 64, NULL, RUNTIME}, /* on its standard error */
	{"runc out of descriptors", 2, NULL,
	 RUNTIME}, /* "runtime: pipe failed with 24", there too */
	{"crash", 139, NULL, RUNTIME},
	{"a wrapper that is wrong", 1, NULL, RUNTIME},
	{"a wrapper without a program", 127, NULL, RUNTIME},
	/* --- read in their sources --- */
	{"crun on a hybrid host", 1,
	 "cgroups in hybrid mode not supported, drop all controllers from cgroupv2", RUNTIME},
	{"youki without v1", 1, "failed to create container: v1 cgroup feature is required",
	 RUNTIME},
	{"runc 1.2, out of memory", 1,
	 "runc create failed: unable to start container process: container init was OOM-killed "
	 "(memory limit too low?)",
	 CONTAINER},
	{"crun built without", 1, "mount_setattr `/m`: Function not implemented", ELSEWHERE},
	{"unknown words", 1, "something nobody has heard of", CONTAINER},
};

static void test_table(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct runtime_end end = {.status = cases[i].status,
						.said = cases[i].said,
						.root = "/run/g/runtime/x"};
		_cleanup_free_ char *found = xasprintf("%s: %s", cases[i].name,
						       runtime_blame_name(runtime_blame_of(&end))),
				    *expected = xasprintf("%s: %s", cases[i].name,
							  runtime_blame_name(cases[i].whose));

		CHECK_STR(found, expected);
	}
}

static void test_no_end(void)
{
	const struct runtime_end end = {.timed_out = true, .status = 137, .said = "exec: nope"};

	CHECK_INT(runtime_blame_of(&end), RUNTIME);
}

static void test_errno(void)
{
	for (int b = CONTAINER; b <= RUNTIME; b++)
		CHECK_INT(runtime_blame_of_errno(runtime_blame_errno((enum runtime_blame)b, -EIO)),
			  b);
	CHECK_INT(runtime_blame_errno(CONTAINER, -EIO), -EIO);
}

int main(void)
{
	TEST(table);
	TEST(no_end);
	TEST(errno);
	return test_done();
}
