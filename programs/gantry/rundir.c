/* SPDX-License-Identifier: Apache-2.0 */
/* The logs of `gantry run`: see rundir.h. */
#include "rundir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/id.h"
#include "lookup.h"
#include "wire/json.h"

#define INFO_MAX (1u << 20)

/* <root>/logs, by the daemon's own account. */
static int logs_dir(struct cli *cli, const char **ret, struct err *e)
{
	Runtime__V1__StatusRequest q = RUNTIME__V1__STATUS_REQUEST__INIT;
	Runtime__V1__StatusResponse *s;
	_cleanup_jv_ jv *doc = NULL;
	const char *text, *root;
	int r;

	q.verbose = true;
	r = rpc_call(cli, RUNTIME, "Status", &q, &s, e);
	if (r < 0)
		return r;
	text = str_or_empty(rpc_info(s->info, s->n_info, "config"));
	r = jv_parse(text, strlen(text), INFO_MAX, "the daemon's status", &doc, e);
	if (r < 0)
		return r;
	root = jv_string(doc, "rootDir", "");
	if (*root != '/')
		return err_set(e, -EPROTO, GRPC_INTERNAL,
			       "the daemon does not say where its root directory is: is it gantryd "
			       "that serves %s?",
			       cli->address);
	*ret = arena_printf(&cli->arena, "%s/logs", root);
	return 0;
}

static bool leaf_valid(const char *s)
{
	return s && strlen(s) == RUNDIR_LEAF && strspn(s, "0123456789abcdef") == RUNDIR_LEAF;
}

const char *rundir_of_pod(const Runtime__V1__PodSandbox *p)
{
	const char *leaf =
		p ? entry_get(p->annotations, p->n_annotations, RUNDIR_ANNOTATION) : NULL;

	return leaf_valid(leaf) ? leaf : NULL;
}

static bool has_owner(const struct inventory *v, const char *leaf)
{
	for (size_t i = 0; i < v->n_pods; i++) {
		const char *s = rundir_of_pod(v->pods[i]);

		if (s && streq(s, leaf))
			return true;
	}
	return false;
}

/* With the lock alone: no other run is between its directory and its pod. */
static void sweep(struct cli *cli, int dirfd)
{
	_cleanup_close_ int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct inventory v;
	struct err e = ERR_NULL;
	struct dirent *d;
	DIR *dir;

	if (fd < 0 || inventory_load(cli, &v, &e) < 0)
		return;
	dir = fdopendir(fd);
	if (!dir)
		return;
	TAKE_FD(fd);
	while ((d = readdir(dir)))
		if (leaf_valid(d->d_name) && !has_owner(&v, d->d_name))
			(void)fs_remove_tree(dirfd, d->d_name);
	closedir(dir);
}

int rundir_make(struct cli *cli, struct rundir *ret, struct err *e)
{
	struct rundir d = {.lock_fd = -EBADF};
	_cleanup_close_ int dirfd = -EBADF;
	unsigned char bytes[RUNDIR_LEAF / 2];
	const char *logs;
	int r = logs_dir(cli, &logs, e);

	if (r < 0)
		return r;
	r = fs_mkdir_p(AT_FDCWD, logs, 0755);
	if (r < 0)
		return err_errno(e, r, "make %s for logs", logs);
	dirfd = open(logs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d.lock_fd = dirfd < 0 ? -1 : openat(dirfd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d.lock_fd < 0)
		return err_errno(e, -errno, "open %s/.lock", logs);
	if (flock(d.lock_fd, LOCK_EX | LOCK_NB) == 0)
		sweep(cli, dirfd);
	while (flock(d.lock_fd, LOCK_SH) < 0)
		if (errno != EINTR || cli_cancelled(cli)) {
			r = errno == EINTR ? -ECANCELED : -errno;
			fd_close(d.lock_fd);
			return err_errno(e, r, "lock %s/.lock", logs);
		}
	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), d.leaf);
	d.path = arena_printf(&cli->arena, "%s/%s", logs, d.leaf);
	if (mkdirat(dirfd, d.leaf, 0755) < 0) {
		r = -errno;
		fd_close(d.lock_fd);
		return err_errno(e, r, "make %s", d.path);
	}
	*ret = d;
	return 0;
}

void rundir_done(struct rundir *d)
{
	d->lock_fd = fd_close(d->lock_fd);
}

void rundir_remove(struct cli *cli, const char *leaf)
{
	_cleanup_free_ char *path = NULL;
	struct err e = ERR_NULL;
	const char *logs;
	int r;

	if (!leaf_valid(leaf))
		return;
	r = logs_dir(cli, &logs, &e);
	if (r == 0) {
		path = xasprintf("%s/%s", logs, leaf);
		r = fs_remove_tree(AT_FDCWD, path);
		if (r < 0)
			err_errno(&e, r, "remove %s", path);
	}
	if (r < 0)
		cli_warn("logs are left behind: %s", e.msg);
}
