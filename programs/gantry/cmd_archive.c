/* SPDX-License-Identifier: Apache-2.0 */
/* gantry load, save, import. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/id.h"
#include "cli.h"
#include "progress.h"
#include "text.h"

/* --- what comes on standard input --- */

#define SPOOL_PREFIX "gantry-load-"
#define SPOOL_RANDOM 6 /* letters after it */

/*
 * Files that were made for a while and left by commands that were killed: of that form, ours, and
 * nobody holds their lock.
 */
static void sweep(const char *dir, const char *prefix, size_t n_random)
{
	DIR *d = opendir(dir);
	struct dirent *x;

	while (d && (x = readdir(d))) {
		_cleanup_close_ int fd = -EBADF;
		struct stat st;

		if (!str_has_prefix(x->d_name, prefix) ||
		    strlen(x->d_name) != strlen(prefix) + n_random)
			continue;
		fd = openat(dirfd(d), x->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		    st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0)
			unlinkat(dirfd(d), x->d_name, 0);
	}
	if (d)
		closedir(d);
}

static int spool_copy(int fd, const char *dir, struct err *e)
{
	static char buf[1 << 18];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0) {
		int r = fs_write_all(fd, buf, (size_t)n);

		if (r < 0)
			return err_errno(e, r, "write standard input to a file in %s", dir);
	}
	if (n == 0)
		return 0;
	return errno == EINTR ? err_set(e, -ECANCELED, GRPC_CANCELLED, "interrupted")
			      : err_errno(e, -errno, "read standard input");
}

/*
 * Standard input as a file that the daemon can open.  It goes when the load is over; what is
 * left by one that was killed, the next one removes.
 */
static int spool(char **ret_path, int *ret_fd, struct err *e)
{
	const char *dir = str_empty(getenv("TMPDIR")) ? "/var/tmp" : getenv("TMPDIR");
	_cleanup_close_ int fd = -EBADF;
	char *path;
	int r;

	if (isatty(STDIN_FILENO))
		return err_invalid(e, "an archive is needed: a file's name, or one on standard "
				      "input");
	sweep(dir, SPOOL_PREFIX, SPOOL_RANDOM);
	path = xasprintf("%s/" SPOOL_PREFIX "XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
		free(path);
		return err_errno(e, -errno, "make a file in %s for standard input", dir);
	}
	r = spool_copy(fd, dir, e);
	if (r < 0) {
		unlink(path);
		free(path);
		return r;
	}
	*ret_path = path;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

typedef int file_fn(struct cli *cli, const char *name, const char *path, const struct args *a,
		    struct err *e);

/* The file, or what comes on standard input, under a name that the daemon can open. */
static int with_file(struct cli *cli, const char *name, const struct args *a, file_fn *fn,
		     struct err *e)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (streq(name, "-")) {
		r = spool(&path, &fd, e);
		if (r < 0)
			return r;
		r = fn(cli, "standard input", path, a, e);
		unlink(path);
		return r;
	}
	path = realpath(name, NULL);
	if (!path)
		return err_errno(e, -errno, "%s %s", command_word(a->command), name);
	return fn(cli, name, path, a, e);
}

/* --- load --- */

static int load_one(struct cli *cli, const char *name, const char *path, const struct args *a,
		    struct err *e)
{
	Gantry__V1__LoadRequest q = GANTRY__V1__LOAD_REQUEST__INIT;
	bool quiet = args_has(a, "quiet");
	_cleanup_progress_ struct progress *p = progress_new(quiet);
	struct rpc_stream s = {0};
	int r;

	q.path = (char *)(uintptr_t)path;
	r = rpc_open(cli, GANTRY, "Load", &q, &s, e);
	while (r >= 0) {
		Gantry__V1__ImageProgress *m;

		r = rpc_next(&s, &cli->arena, &m, e);
		if (r == 0)
			break;
		if (r > 0 && str_empty(m->image_id))
			progress_update(p, m);
		else if (r > 0 && quiet)
			cli_print("sha256:%s\n", text_safe_dup(&cli->arena, m->image_id));
		else if (r > 0)
			cli_print("Loaded %s (%s)\n",
				  str_empty(m->image_name)
					  ? "an image without a name"
					  : text_safe_dup(&cli->arena, m->image_name),
				  text_id(&cli->arena, m->image_id, false));
	}
	rpc_close(&s);
	return r < 0 ? err_wrap(e, "load %s", name) : 0;
}

static int load(struct cli *cli, const struct args *a)
{
	const char *input = args_get(a, "input");
	struct err e = ERR_NULL;
	int r = 0;

	if (input || a->n == 0)
		r = with_file(cli, input ? input : "-", a, load_one, &e);
	for (size_t i = 0; r == 0 && i < a->n; i++)
		r = with_file(cli, a->v[i], a, load_one, &e);
	return r < 0 ? cli_fail(cli, &e) : EXIT_OK;
}

static const struct opt load_options[] = {
	{.c = 'i',
	 .name = "input",
	 .metavar = "FILE",
	 .help = "the archive (as an operand is)",
	 .complete = COMPLETE_FILE},
	{.c = 'q', .name = "quiet", .help = "print the ids alone"},
	OPT_END,
};

const struct command cmd_load = {
	.name = "load",
	.operands = "[FILE]...",
	.summary = "load images from archives",
	.text = "FILE is a docker archive (gantry save, docker save, podman save), an OCI archive, "
		"or the directory of an OCI layout; '-', or no FILE at all, is standard input.",
	.examples = "gantry load app.tar\n"
		    "docker save app | gantry load",
	.opts = load_options,
	.complete = COMPLETE_FILE,
	.max = UNLIMITED,
	.run = load,
};

/* --- import --- */

static int import_one(struct cli *cli, const char *name, const char *path, const struct args *a,
		      struct err *e)
{
	Gantry__V1__ImportRequest q = GANTRY__V1__IMPORT_REQUEST__INIT;
	Gantry__V1__ImageProgress *m;
	const char *v;
	size_t pos = 0;

	q.path = (char *)(uintptr_t)path;
	q.message = (char *)(uintptr_t)str_or_empty(args_get(a, "message"));
	q.tags = arena_calloc(&cli->arena, a->n_given + 1, sizeof(*q.tags));
	q.changes = arena_calloc(&cli->arena, a->n_given + 1, sizeof(*q.changes));
	while ((v = args_next(a, "tag", &pos)))
		q.tags[q.n_tags++] = (char *)(uintptr_t)v;
	pos = 0;
	while ((v = args_next(a, "change", &pos)))
		q.changes[q.n_changes++] = (char *)(uintptr_t)v;
	if (rpc_call(cli, GANTRY, "Import", &q, &m, e) < 0)
		return err_wrap(e, "import %s", name);
	cli_print("sha256:%s\n", text_safe_dup(&cli->arena, m->image_id));
	return 0;
}

static int import(struct cli *cli, const struct args *a)
{
	struct err e = ERR_NULL;

	return with_file(cli, a->v[0], a, import_one, &e) < 0 ? cli_fail(cli, &e) : EXIT_OK;
}

static const struct opt import_options[] = {
	{.c = 't', .name = "tag", .metavar = "TAG", .help = "a name for the image", .many = true},
	{.c = 'c',
	 .name = "change",
	 .metavar = "INSTRUCTION",
	 .help = "for its configuration, as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, "
		 "STOPSIGNAL, USER, VOLUME or WORKDIR",
	 .many = true},
	{.c = 'm', .name = "message", .metavar = "TEXT", .help = "what its history says"},
	OPT_END,
};

const struct command cmd_import = {
	.name = "import",
	.operands = "FILE",
	.summary = "make an image out of the tar of a root file system",
	.text = "FILE may be compressed by gzip or zstd; '-' is standard input. Prints the id of "
		"the image, which has one layer and is for machines of this kind.\n"
		"Variables ($NAME) in instructions are not replaced.",
	.examples = "gantry import --tag mine:1 --change 'CMD [\"/bin/sh\"]' rootfs.tar.gz\n"
		    "tar -C rootfs -c . | gantry import --tag mine:1 -",
	.opts = import_options,
	.complete = COMPLETE_FILE,
	.min = 1,
	.max = 1,
	.run = import,
};

/* --- save --- */

/*
 * Where an archive goes.  A file gets its name when it is whole, and until then has none, so that
 * nothing is left of it whatever happens.  Where the file system cannot do that, it has one beside
 * the name, and is locked: what is left by a command that was killed, the next one removes.
 */
struct target {
	char *path;	 /* NULL: standard output, or something that is no file */
	char *temporary; /* NULL: it has no name */
	int dirfd, fd;
};

#define TEMPORARY_RANDOM 8 /* digits */

static void target_fini(struct target *t)
{
	if (t->temporary)
		unlinkat(t->dirfd, t->temporary, 0);
	free(t->temporary);
	free(t->path);
	fd_close(t->dirfd);
	if (t->fd != STDOUT_FILENO)
		fd_close(t->fd);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The name of a temporary file, up to what is random of it. */
static char *temporary_prefix(const char *path)
{
	return xasprintf("%.200s.tmp-", base_name(path));
}

static char *temporary_name(const char *path)
{
	_cleanup_free_ char *prefix = temporary_prefix(path);
	char id[ID_SIZE];

	id_new(id);
	return xasprintf("%s%.*s", prefix, TEMPORARY_RANDOM, id);
}

static int open_nameless(int dirfd)
{
#ifdef GANTRY_TEST_HOOKS /* as network file systems are */
	if (getenv("GANTRY_NO_TMPFILE"))
		return -EOPNOTSUPP;
#endif
	dirfd = openat(dirfd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	return dirfd < 0 ? -errno : dirfd;
}

static int open_beside(struct target *t, struct err *e)
{
	_cleanup_free_ char *dir = xstrndup(t->path, (size_t)(base_name(t->path) - t->path)),
			    *prefix = temporary_prefix(t->path);
	const char *where = *dir ? dir : ".";

	t->dirfd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dirfd < 0)
		return err_errno(e, -errno, "open the directory of %s", t->path);
	sweep(where, prefix, TEMPORARY_RANDOM);
	t->fd = open_nameless(t->dirfd);
	if (t->fd != -EOPNOTSUPP && t->fd != -EISDIR && t->fd != -EINVAL)
		return t->fd < 0 ? err_errno(e, t->fd, "make a file beside %s", t->path) : 0;
	t->temporary = temporary_name(t->path);
	t->fd = openat(t->dirfd, t->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (t->fd < 0) {
		free(t->temporary);
		t->temporary = NULL;
		return err_errno(e, -errno, "make a file beside %s", t->path);
	}
	flock(t->fd, LOCK_EX | LOCK_NB);
	return 0;
}

static int target_open(const char *name, struct target *t, struct err *e)
{
	struct stat st;

	*t = (struct target){.dirfd = -EBADF, .fd = -EBADF};
	if (!name || streq(name, "-")) {
		if (isatty(STDOUT_FILENO))
			return err_invalid(e, "an archive is nothing for a terminal: give --output "
					      "or redirect standard output");
		t->fd = STDOUT_FILENO;
		return 0;
	}
	if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) { /* a pipe, a device */
		t->fd = open(name, O_WRONLY | O_CLOEXEC);
		return t->fd < 0 ? err_errno(e, -errno, "open %s", name) : 0;
	}
	t->path = realpath(name, NULL); /* a link stays one */
	if (!t->path)
		t->path = xstrdup(name);
	if (!*base_name(t->path))
		return err_invalid(e, "\"%s\" is no name for a file", name);
	return open_beside(t, e);
}

/* On the disk, under its name, when it returns. */
static int target_commit(struct target *t, struct err *e)
{
	const char *name = t->path ? base_name(t->path) : NULL;
	char proc[64];
	int r = 0;

	if (!t->path)
		return 0;
	if (fsync(t->fd) < 0)
		return err_errno(e, -errno, "write %s to the disk", t->path);
	if (!t->temporary) {
		flock(t->fd, LOCK_EX | LOCK_NB); /* it has a name for a moment */
		t->temporary = temporary_name(t->path);
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", t->fd);
		r = linkat(AT_FDCWD, proc, t->dirfd, t->temporary, AT_SYMLINK_FOLLOW);
	}
	if (r < 0 || renameat(t->dirfd, t->temporary, t->dirfd, name) < 0)
		return err_errno(e, -errno, "give %s its name", t->path);
	free(t->temporary);
	t->temporary = NULL;
	return fsync(t->dirfd) < 0 ? err_errno(e, -errno, "write %s to the disk", t->path) : 0;
}

/* A reader that does not read must not keep the person from ending this. */
static int target_write(struct cli *cli, struct target *t, const void *p, size_t n, struct err *e)
{
	const char *from = p;

	while (n > 0) {
		ssize_t k = write(t->fd, from, n);

		if (k < 0 && errno != EINTR)
			return err_errno(e, -errno, "write %s", t->path ? t->path : "the archive");
		if (k < (ssize_t)n && cli_cancelled(cli))
			return err_set(e, -ECANCELED, GRPC_CANCELLED, "interrupted");
		from += MAX(k, 0);
		n -= (size_t)MAX(k, 0);
	}
	return 0;
}

static int receive(struct cli *cli, const struct args *a, struct target *t, struct progress *p,
		   struct err *e)
{
	Gantry__V1__SaveRequest q = GANTRY__V1__SAVE_REQUEST__INIT;
	Gantry__V1__ImageProgress far = GANTRY__V1__IMAGE_PROGRESS__INIT;
	struct rpc_stream s = {0};
	int r;

	q.images = (char **)(uintptr_t)a->v;
	q.n_images = a->n;
	far.layer = (char *)(uintptr_t) "archive";
	far.state = (char *)(uintptr_t) "saving";
	r = rpc_open(cli, GANTRY, "Save", &q, &s, e);
	while (r >= 0) {
		Gantry__V1__SaveResponse *m;
		struct arena arena = ARENA_NULL;

		r = rpc_next(&s, &arena, &m, e);
		if (r > 0) {
			r = target_write(cli, t, m->data.data, m->data.len, e);
			far.done_bytes += m->data.len;
			far.total_bytes = m->total_bytes;
			progress_update(p, &far);
			r = r < 0 ? r : 1;
		}
		arena_fini(&arena);
		if (r == 0)
			break;
	}
	rpc_close(&s);
	return r;
}

static int save(struct cli *cli, const struct args *a)
{
	_cleanup_progress_ struct progress *p = progress_new(args_has(a, "quiet"));
	struct err e = ERR_NULL;
	struct target t;
	int r = target_open(args_get(a, "output"), &t, &e);

	if (r == 0)
		r = receive(cli, a, &t, p, &e);
	if (r == 0)
		r = target_commit(&t, &e);
	target_fini(&t);
	if (r < 0) {
		err_wrap(&e, "save %s", a->v[0]);
		return cli_fail(cli, &e);
	}
	return EXIT_OK;
}

static const struct opt save_options[] = {
	{.c = 'o',
	 .name = "output",
	 .metavar = "FILE",
	 .help = "write to FILE instead of standard output",
	 .complete = COMPLETE_FILE},
	{.c = 'q', .name = "quiet", .help = "show no progress"},
	OPT_END,
};

const struct command cmd_save = {
	.name = "save",
	.operands = "IMAGE...",
	.summary = "write images into an archive",
	.text = "The archive is an OCI layout and a docker archive in one: gantry load, docker "
		"load, podman load and skopeo read it. The images keep their ids.\n"
		"An image that is named by a tag has that tag in the archive, one that is named by "
		"its id or a digest all tags that it has. FILE is there when it is whole, or not "
		"at all.",
	.examples = "gantry save -o app.tar app:2\n"
		    "gantry save app:2 other:1 | zstd >images.tar.zst",
	.opts = save_options,
	.complete = COMPLETE_IMAGE,
	.min = 1,
	.max = UNLIMITED,
	.run = save,
};
