/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs of the pod: set up, stop, remove.  Blocking and sequential; each undoes what it did
 * before it answers with an error.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "mon.h"
#include "network/network.h"
#include "runtime/runtime.h"
#include "sys/netlink.h"
#include "sys/netns.h"
#include "sys/userns.h"

#define SYSCTLS_MAX 4096 /* of a pod that has a user namespace */

struct setup {
	const struct ipc_in *in;
	bool net, ipc, uts, pid; /* namespaces that the pod has of its own */
	struct network_config network;
	struct network_pod pod;
	int ipc_fd, uts_fd, user_fd;
	bool user; /* a user namespace, with these */
	struct userns_map uids, gids;
	unsigned char *sysctl_done; /* shared with the namespace's first process: a byte for each */
	pid_t init;
	char *shm;
};

static const char *get(const struct ipc_in *in, uint16_t tag)
{
	return str_or_empty(ipc_get_str(in, tag));
}

bool do_read_maps(const struct ipc_in *setup, struct userns_map *uids, struct userns_map *gids)
{
	return setup->body && userns_map_parse(get(setup, MON_TAG_UID_MAP), uids) &&
	       userns_map_parse(get(setup, MON_TAG_GID_MAP), gids);
}

void do_give_streams(const struct monitor *m, const int fds[3])
{
	struct userns_map uids, gids;

	if (!do_read_maps(&m->setup, &uids, &gids))
		return;
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0 && fchown(fds[i], uids.host, gids.host) < 0)
			continue; /* then it only cannot be opened anew */
}

/* What the network needs to know of the pod; the strings are the request's. */
static int read_network(struct job_context *j, const struct ipc_in *in, struct network_config *c,
			struct network_pod *p, struct err *e)
{
	*p = (struct network_pod){
		.id = j->mon->pod_id,
		.name = ipc_get_str(in, MON_TAG_POD_NAME),
		.namespace_ = ipc_get_str(in, MON_TAG_POD_NAMESPACE),
		.uid = ipc_get_str(in, MON_TAG_POD_UID),
		.netns = get(in, MON_TAG_NETNS_PATH),
		.netns_fd = -1,
		.port_mappings = ipc_get_str(in, MON_TAG_PORT_MAPPINGS),
		.bandwidth = ipc_get_str(in, MON_TAG_BANDWIDTH),
		.dns = ipc_get_str(in, MON_TAG_DNS),
		.capabilities = ipc_get_str(in, MON_TAG_CAPABILITIES),
		.cancel_fd = j->cancel_fd,
	};
	return network_config_parse(get(in, MON_TAG_NET_CONFIG), c, e);
}

static int open_ns(const char *name, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("/proc/thread-self/ns/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? err_errno(e, -errno, "open %s", path) : fd;
}

/* "name=value", of the namespaces that we are in. */
static int write_sysctl(const char *text, struct err *e)
{
	_cleanup_free_ char *name = xstrdup(text), *path = NULL;
	char *value = strchr(name, '=');
	int r;

	if (!value)
		return 0;
	*value++ = '\0';
	for (char *c = name; *c; c++)
		*c = *c == '.' ? '/' : *c == '/' ? '.' : *c;
	path = xasprintf("/proc/sys/%s", name);
	r = fs_write_str(AT_FDCWD, path, value);
	return r < 0 ? err_errno(e, r, "sysctl %s = \"%s\"", text, value) : 0;
}

/* By the root of the user namespace, for whom ids in values are those inside; what it must not
 * write (of IPC namespaces before Linux 6.9) is left to the host's. */
static void write_own_sysctls(void *arg)
{
	struct setup *s = arg;
	struct ipc_field f;
	size_t pos = 0, i = 0;

	while (i < SYSCTLS_MAX && ipc_next(s->in, &pos, &f))
		if (f.tag == MON_TAG_SYSCTL && ipc_field_str(&f))
			s->sysctl_done[i++] = write_sysctl(ipc_field_str(&f), NULL) == 0;
}

static int write_sysctls(const struct setup *s, struct err *e)
{
	struct ipc_field f;
	size_t pos = 0, i = 0;
	int r = 0;

	while (r == 0 && ipc_next(s->in, &pos, &f)) {
		if (f.tag != MON_TAG_SYSCTL || !ipc_field_str(&f))
			continue;
		if (!s->sysctl_done || i >= SYSCTLS_MAX || !s->sysctl_done[i])
			r = write_sysctl(ipc_field_str(&f), e);
		i++;
	}
	return r;
}

/* Makes the namespaces and enters those that are not the user's. */
static int enter_new(struct setup *s, int flags, struct err *e)
{
	struct userns_made made;
	int r;

	if (!s->user)
		return unshare(flags) < 0 ? err_errno(e, -errno, "make the pod's namespaces") : 0;
	s->sysctl_done =
		mmap(NULL, SYSCTLS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->sysctl_done == MAP_FAILED)
		return err_errno(e, -errno, "share a page");
	r = userns_make(&s->uids, &s->gids, flags, write_own_sysctls, s, &made, e);
	if (r < 0)
		return r;
	if ((made.net >= 0 && setns(made.net, CLONE_NEWNET) < 0) ||
	    (made.ipc >= 0 && setns(made.ipc, CLONE_NEWIPC) < 0) ||
	    (made.uts >= 0 && setns(made.uts, CLONE_NEWUTS) < 0))
		r = err_errno(e, -errno, "enter the namespaces of the pod's user namespace");
	FAULT_POINT("job.userns.made");
	s->user_fd = TAKE_FD(made.user);
	userns_made_fini(&made);
	return r;
}

/* Enters new namespaces, prepares what can only be done inside, comes back. */
static int make_namespaces(struct setup *s, struct err *e)
{
	_cleanup_close_ int net = -EBADF, ipc = -EBADF, uts = -EBADF;
	const char *hostname = get(s->in, MON_TAG_HOSTNAME);
	int flags = (s->net ? CLONE_NEWNET : 0) | (s->ipc ? CLONE_NEWIPC : 0) |
		    (s->uts ? CLONE_NEWUTS : 0);
	int r;

	net = open_ns("net", e);
	ipc = open_ns("ipc", e);
	uts = open_ns("uts", e);
	if (net < 0 || ipc < 0 || uts < 0)
		return -EIO;
	r = enter_new(s, flags, e);
	if (r < 0)
		return r;
	r = s->uts && *hostname && sethostname(hostname, strlen(hostname)) < 0 ? -errno : 0;
	if (r < 0)
		err_errno(e, r, "set the hostname %s", hostname);
	if (r == 0)
		r = write_sysctls(s, e);
	if (r == 0 && s->net)
		r = s->pod.netns_fd = open_ns("net", e);
	if (r >= 0 && s->ipc)
		r = s->ipc_fd = open_ns("ipc", e);
	if (r >= 0 && s->uts)
		r = s->uts_fd = open_ns("uts", e);
	if (setns(net, CLONE_NEWNET) < 0 || setns(ipc, CLONE_NEWIPC) < 0 ||
	    setns(uts, CLONE_NEWUTS) < 0)
		abort(); /* nothing more may be done from inside */
	return r < 0 ? r : 0;
}

/* It goes on only once it has been recorded: an unrecorded one ends with its maker. */
static _Noreturn void become_init(const int go[2], int failed)
{
	char ok = 1;

	close(go[1]);
	if (read(go[0], &ok, 1) != 1)
		_exit(1);
	setsid();
	execl("/proc/self/exe", "gantry-init", "--init", NULL);
	(void)!write(failed, &ok, 1);
	_exit(127);
}

/* In a PID namespace that belongs to the user namespace: a child of ours by way of one that has
 * entered it. */
static pid_t fork_init(const struct setup *s)
{
	int p[2], pid, inner = -1;

	if (!s->user)
		return unshare(CLONE_NEWPID) < 0 ? -1 : fork();
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		inner = userns_enter(s->user_fd);
		if (inner == 0)
			inner = (int)syscall(SYS_clone, CLONE_PARENT | CLONE_NEWPID | SIGCHLD, 0, 0,
					     0, 0);
		if (inner == 0)
			return 0;
		_exit(write(p[1], &inner, sizeof(inner)) != sizeof(inner));
	}
	close(p[1]);
	if (pid < 0 || read(p[0], &inner, sizeof(inner)) != sizeof(inner))
		inner = -1;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	close(p[0]);
	return inner;
}

/* Process 1 of the pod's PID namespace: this program again, as little as it can be. */
static int start_init(struct setup *s, const char *dir, struct err *e)
{
	int p[2], go[2], pid, r;
	char ok = 0;

	if (pipe2(p, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "make the pod's PID namespace");
	pid = fork_init(s);
	if (pid == 0)
		become_init(go, p[1]);
	close(p[1]);
	close(go[0]);
	if (pid < 0)
		return err_errno(e, -errno, "start process 1 of the pod's PID namespace");
	s->init = pid;
	FAULT_POINT("job.init.forked");
	r = record_init(dir, pid);
	FAULT_POINT("job.init.recorded");
	if (r < 0)
		return err_errno(e, r, "record process 1 of the pod's PID namespace");
	(void)!write(go[1], &ok, 1);
	close(go[1]);
	if (read(p[0], &ok, 1) != 0)
		return err_set(e, -EIO, GRPC_INTERNAL,
			       "start process 1 of the pod's PID namespace");
	close(p[0]);
	return 0;
}

_Noreturn void do_init(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int fd = 0; fd < 16; fd++)
		close(fd);
	for (;;) {
		int sig;

		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		sigemptyset(&all);
		sigaddset(&all, SIGCHLD);
		sigwait(&all, &sig);
	}
}

static int mount_shm(struct setup *s, const char *dir, struct err *e)
{
	_cleanup_free_ char *options =
		xasprintf("mode=1777,size=%llu,uid=%u,gid=%u",
			  (unsigned long long)ipc_get_u64(s->in, MON_TAG_SHM_SIZE, 64 << 20),
			  s->uids.host, s->gids.host);

	if (!s->ipc)
		return 0; /* the host's */
	s->shm = xasprintf("%s/shm", dir);
	if (mkdir(s->shm, 0755) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "make %s", s->shm);
	if (mount("shm", s->shm, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
		return err_errno(e, -errno, "mount the pod's /dev/shm on %s", s->shm);
	return 0;
}

/* The pod's root may write them. */
static int write_file(const struct setup *s, const char *dir, const char *name, const char *text,
		      struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
	int r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false);

	if (r == 0 && s->user && chown(path, s->uids.host, s->gids.host) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

static int write_files(const struct setup *s, const char *dir, struct err *e)
{
	_cleanup_free_ char *hostname = xasprintf("%s\n", get(s->in, MON_TAG_HOSTNAME));
	const char *resolv = ipc_get_str(s->in, MON_TAG_RESOLV_CONF);
	const char *logs = get(s->in, MON_TAG_LOG_DIRECTORY);
	_cleanup_free_ char *containers = xasprintf("%s/containers", dir);
	int r = fs_mkdir_p(AT_FDCWD, containers, 0711);

	if (r == 0 && *logs)
		r = fs_mkdir_p(AT_FDCWD, logs, 0755);
	if (r < 0)
		return err_errno(e, r, "make %s", *logs ? logs : containers);
	r = write_file(s, dir, "hostname", hostname, e);
	if (r == 0 && resolv)
		r = write_file(s, dir, "resolv.conf", resolv, e);
	return r;
}

static void setup_undo(struct setup *s, bool net_made)
{
	if (net_made)
		network_teardown(&s->network, &s->pod, NULL);
	if (s->net)
		netns_unpin(s->pod.netns, NULL);
	if (s->init > 0)
		kill(s->init, SIGKILL);
	if (s->shm) {
		umount2(s->shm, MNT_DETACH);
		rmdir(s->shm);
	}
}

static int set_up(struct job_context *j, struct setup *s, struct strbuf *ips, bool *net_made,
		  struct err *e)
{
	const char *dir = j->mon->dir;
	int r = record_setup(j->mon, s->in); /* first: who comes after knows what to undo */

	if (r < 0)
		return err_errno(e, r, "write %s/setup", dir);
	FAULT_POINT("job.set-up.recorded");
	r = make_namespaces(s, e);
	FAULT_POINT("job.set-up.namespaces");
	if (r == 0 && s->net)
		r = netns_pin(s->pod.netns_fd, s->pod.netns, e);
	FAULT_POINT("job.set-up.pinned");
	if (r == 0 && s->net)
		r = network_loopback_up(s->pod.netns_fd, e);
	if (r == 0)
		r = write_files(s, dir, e);
	FAULT_POINT("job.set-up.files");
	if (r == 0)
		r = mount_shm(s, dir, e);
	FAULT_POINT("job.set-up.shm");
	if (r == 0 && s->net) {
		*net_made = true;
		r = network_setup(&s->network, &s->pod, ips, e);
		FAULT_POINT("job.set-up.network");
	}
	/* Last: after unshare(CLONE_NEWPID) every child would be born inside. */
	if (r == 0 && s->pid)
		r = start_init(s, dir, e);
	FAULT_POINT("job.set-up.done");
	return r;
}

int do_pod_setup(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	_cleanup_strbuf_ struct strbuf ips = STRBUF_NULL;
	struct setup s = {
		.in = j->in,
		.net = !streq(get(j->in, MON_TAG_NET_KIND), "host"),
		.ipc = !ipc_get_u64(j->in, MON_TAG_IPC_HOST, 0),
		.uts = !ipc_get_u64(j->in, MON_TAG_UTS_HOST, 0),
		.pid = ipc_get_u64(j->in, MON_TAG_PID_SHARED, 0),
		.ipc_fd = -EBADF,
		.uts_fd = -EBADF,
		.user_fd = -EBADF,
	};
	bool net_made = false;
	int r = read_network(j, j->in, &s.network, &s.pod, e);

	s.user = do_read_maps(j->in, &s.uids, &s.gids);
	if (r == 0)
		r = set_up(j, &s, &ips, &net_made, e);
	if (r < 0) {
		setup_undo(&s, net_made);
		return r;
	}
	if (s.ipc)
		ipc_put_fd(reply, s.ipc_fd);
	if (s.uts)
		ipc_put_fd(reply, s.uts_fd);
	if (s.net)
		ipc_put_fd(reply, s.pod.netns_fd);
	if (s.user)
		ipc_put_fd(reply, s.user_fd);
	ipc_put_str(reply, MON_TAG_IPS, str_or_empty(ips.s));
	ipc_put_str(reply, MON_TAG_NETNS_PATH, s.net ? s.pod.netns : "");
	ipc_put_u64(reply, MON_TAG_PID, (uint64_t)s.init);
	return 0;
}

/* --- stop and remove --- */

static int take_network_down(struct job_context *j, struct err *e)
{
	const struct ipc_in *in = &j->mon->setup;
	struct network_config c;
	struct network_pod p;
	int r;

	if (!in->body || streq(get(in, MON_TAG_NET_KIND), "host") ||
	    ipc_get_u64(j->in, MON_TAG_NETWORK_LATER, 0))
		return 0;
	r = read_network(j, in, &c, &p, e);
	if (r < 0)
		return r;
	p.netns_fd = netns_open(p.netns);
	r = network_teardown(&c, &p, e);
	fd_close(p.netns_fd);
	FAULT_POINT("job.stop-pod.network");
	if (r == 0)
		r = netns_unpin(p.netns, e);
	FAULT_POINT("job.stop-pod.unpinned");
	return r;
}

int do_pod_stop(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	int r = take_network_down(j, e);

	(void)reply;
	if (r == 0)
		record_kill_init(j->mon->dir);
	return r;
}

static void unmount_shm(const char *dir)
{
	_cleanup_free_ char *shm = xasprintf("%s/shm", dir);

	while (umount2(shm, MNT_DETACH) == 0)
		;
}

static int remove_one(const struct job_context *j, const struct container *c, struct err *e)
{
	struct job_context one = *j;

	one.id = c->id;
	return do_remove(&one, NULL, e);
}

/* Their sandbox last: without it a runtime may know nothing of them any more. */
static int remove_containers(struct job_context *j, struct err *e)
{
	const struct container *sandbox = sandbox_of(j->mon), *c;
	int r = 0, k;

	list_for_each (c, &j->mon->containers, link) {
		if (c == sandbox)
			continue;
		k = remove_one(j, c, r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	return r < 0 || !sandbox ? r : remove_one(j, sandbox, e);
}

/* Last the directory: while it is there, whoever comes after knows what is to be removed. */
int do_pod_remove(struct job_context *j, struct ipc_out *reply, struct err *e)
{
	const char *cgroup = get(&j->mon->setup, MON_TAG_CGROUP);
	int r = take_network_down(j, e);

	(void)reply;
	if (r == 0)
		r = remove_containers(j, e);
	if (r < 0)
		return r;
	FAULT_POINT("job.remove-pod.containers");
	record_kill_init(j->mon->dir);
	unmount_shm(j->mon->dir);
	FAULT_POINT("job.remove-pod.shm");
	if (*cgroup)
		do_remove_cgroup(&j->mon->cgroup, cgroup);
	FAULT_POINT("job.remove-pod.cgroup");
	r = fs_remove_tree(AT_FDCWD, j->mon->dir);
	FAULT_POINT("job.remove-pod.directory");
	return r < 0 ? err_errno(e, r, "remove %s", j->mon->dir) : 0;
}

/* --- asked for on the command line --- */

/* Prints "KIND\n", and where it is not ready the reason. */
int do_network_status(const char *config)
{
	const char *kind = "?";
	struct network_config c;
	struct err e = ERR_NULL;
	int r = network_config_parse(config, &c, &e);

	if (r == 0) {
		r = network_status(&c, &kind, &e);
		network_config_fini(&c);
	}
	dprintf(STDOUT_FILENO, "%s\n%s", kind, r < 0 ? e.msg : "");
	return r < 0;
}

int do_network_gc(const char *config)
{
	struct network_config c;
	struct err e = ERR_NULL;
	int r = network_config_parse(config, &c, &e);

	if (r == 0) {
		r = network_gc(&c, &e);
		network_config_fini(&c);
	}
	if (r < 0)
		fs_write_all(STDOUT_FILENO, e.msg, strlen(e.msg));
	return r < 0;
}

int do_network_check(const char *config, const char *pod_id, const char *netns)
{
	struct network_pod p = {.id = pod_id, .netns = netns, .cancel_fd = -1};
	struct network_config c;
	struct err e = ERR_NULL;
	int r = network_config_parse(config, &c, &e);

	if (r == 0) {
		p.netns_fd = netns_open(netns);
		r = p.netns_fd < 0 ? err_errno(&e, p.netns_fd, "the network namespace at %s", netns)
				   : network_check(&c, &p, &e);
		fd_close(p.netns_fd);
		network_config_fini(&c);
	}
	if (r < 0)
		fs_write_all(STDOUT_FILENO, e.msg, strlen(e.msg));
	return r < 0;
}
