/* SPDX-License-Identifier: Apache-2.0 */
/* Project quotas: see quota.h.  Descriptors instead of devices: quotactl_fd(2), Linux 5.14. */
#include "snapshot/quota.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PRJQUOTA
#define PRJQUOTA 2
#endif

/* QCMD() of <sys/quota.h> shifts into the sign. */
#define GET_PROJECT ((int)((unsigned)Q_GETQUOTA << SUBCMDSHIFT | PRJQUOTA))

static int get(int fd, uint32_t project, struct if_dqblk *ret)
{
	*ret = (struct if_dqblk){0};
#ifdef SYS_quotactl_fd
	return syscall(SYS_quotactl_fd, fd, GET_PROJECT, project, ret) < 0 ? -errno : 0;
#else
	(void)fd;
	(void)project;
	return -ENOSYS;
#endif
}

static bool ours(uint32_t project)
{
	return project - QUOTA_PROJECT_FIRST < QUOTA_PROJECTS;
}

/* FNV-1a */
static uint32_t hash(const char *s)
{
	uint32_t h = UINT32_C(2166136261);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT32_C(16777619);
	return h;
}

void quota_begin(int dirfd, const char *name)
{
	uint32_t first = hash(name);
	struct fsxattr x;

	/* It is one already, or belongs to one that the operator made. */
	if (ioctl(dirfd, FS_IOC_FSGETXATTR, &x) < 0 || x.fsx_projid != 0)
		return;
	for (uint32_t i = 0; i < QUOTA_TRIES; i++) {
		uint32_t project = QUOTA_PROJECT_FIRST + (first + i) % QUOTA_PROJECTS;
		struct if_dqblk q;
		int r = get(dirfd, project, &q);

		/* XFS knows only those that were used */
		if (r < 0 && r != -ENOENT)
			return;
		if (r == 0 && (q.dqb_curspace || q.dqb_curinodes))
			continue;
		x.fsx_projid = project;
		x.fsx_xflags |= FS_XFLAG_PROJINHERIT;
		(void)ioctl(dirfd, FS_IOC_FSSETXATTR, &x);
		return;
	}
}

int quota_usage(int dirfd, uint64_t *ret_bytes, uint64_t *ret_inodes)
{
	struct fsxattr x;
	struct if_dqblk q;
	int r;

	if (ioctl(dirfd, FS_IOC_FSGETXATTR, &x) < 0 || !ours(x.fsx_projid))
		return -ENODATA;
	r = get(dirfd, x.fsx_projid, &q);
	if (r < 0)
		return r;
	*ret_bytes = q.dqb_curspace;
	*ret_inodes = q.dqb_curinodes;
	return 0;
}
