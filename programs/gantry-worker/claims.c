/* SPDX-License-Identifier: Apache-2.0 */
/* Claims on layers: see claims.h. */
#include "claims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define NAME_DIGITS 14 /* of a layer's name; with the base of its kind they fit an offset */
#define MADE_BASE (INT64_C(1) << 60)
#define WANTED_BASE (INT64_C(1) << 61)

static struct flock place(const char *layer, int64_t base, short type)
{
	char digits[NAME_DIGITS + 1];

	snprintf(digits, sizeof(digits), "%s", layer);
	return (struct flock){.l_type = type,
			      .l_whence = SEEK_SET,
			      .l_start = base + (off_t)strtoull(digits, NULL, 16),
			      .l_len = 1};
}

int claims_open(int root_fd, struct claims *ret, struct err *e)
{
	ret->fd = openat(root_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return ret->fd < 0 ? err_errno(e, -errno, "open the lock of the image store") : 0;
}

void claims_close(struct claims *c)
{
	c->fd = fd_close(c->fd);
}

bool claims_take(const struct claims *c, const char *layer)
{
	struct flock l = place(layer, MADE_BASE, F_WRLCK);

	return fcntl(c->fd, F_OFD_SETLK, &l) == 0 || (errno != EAGAIN && errno != EACCES);
}

void claims_give(const struct claims *c, const char *layer)
{
	struct flock l = place(layer, MADE_BASE, F_UNLCK);

	fcntl(c->fd, F_OFD_SETLK, &l);
}

void claims_want(const struct claims *c, const char *layer, bool want)
{
	struct flock l = place(layer, WANTED_BASE, want ? F_RDLCK : F_UNLCK);

	fcntl(c->fd, F_OFD_SETLK, &l);
}

bool claims_wanted(const struct claims *c, const char *layer)
{
	struct flock l = place(layer, WANTED_BASE, F_WRLCK);

	return fcntl(c->fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}
