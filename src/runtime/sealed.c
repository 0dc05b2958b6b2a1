/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed copies of programs: see sealed.h.  A copy is named after the file that it is of, so that
 * whoever was handed it can tell whether that has been replaced. */
#include "runtime/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define SEALED_MAX (8 << 20) /* bytes of a program that is copied into memory */
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define NAME_MAX_BYTES 128
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

/* The first letters are what ps(1) shows. */
static void name_of(const struct stat *st, char name[NAME_MAX_BYTES])
{
	snprintf(name, NAME_MAX_BYTES, "crun:%jx:%jx:%jx:%jx.%09ld:%jx.%09ld",
		 (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (uintmax_t)st->st_size,
		 (uintmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (uintmax_t)st->st_ctim.tv_sec,
		 st->st_ctim.tv_nsec);
}

static int make_file(const struct stat *st)
{
	char name[NAME_MAX_BYTES];
	int fd;

	name_of(st, name);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

int sealed_copy(const char *path)
{
	const char *base = strrchr(path, '/');
	_cleanup_close_ int from = -EBADF, to = -EBADF;
	struct stat st;

	if (!base || !streq(base + 1, "crun"))
		return -EOPNOTSUPP;
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > SEALED_MAX)
		return -EFBIG;
	to = make_file(&st);
	if (to < 0)
		return to;
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(to, from, NULL, (size_t)left);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		left -= n;
	}
	return fcntl(to, F_ADD_SEALS, SEALS) < 0 ? -errno : TAKE_FD(to);
}

bool sealed_is(int fd)
{
	int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & SEALS) == SEALS;
}

bool sealed_is_of(int fd, const char *path)
{
	char link[40], name[NAME_MAX_BYTES], have[NAME_MAX_BYTES + 32], want[NAME_MAX_BYTES + 32];
	struct stat st;
	ssize_t n;

	if (!sealed_is(fd) || stat(path, &st) < 0)
		return false;
	name_of(&st, name);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	snprintf(want, sizeof(want), "/memfd:%s (deleted)", name);
	n = readlink(link, have, sizeof(have) - 1);
	if (n < 0)
		return false;
	have[n] = '\0';
	return streq(have, want);
}
