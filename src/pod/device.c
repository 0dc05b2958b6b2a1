/* SPDX-License-Identifier: Apache-2.0 */
/* Device nodes: see device.h. */
#include "pod/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/mem.h"

#define DEVICES_MAX 4096 /* of one container */
#define DEPTH_MAX 8	 /* directories below /dev */

struct devices {
	struct arena *arena;
	struct spec_device *v;
	size_t n, cap;
};

static bool add(struct devices *d, const char *path, const struct stat *st, const char *permissions)
{
	if (!S_ISCHR(st->st_mode) && !S_ISBLK(st->st_mode))
		return false;
	if (d->n == d->cap) {
		struct spec_device *old = d->v;

		d->cap = d->cap ? d->cap * 2 : 16;
		d->v = arena_alloc(d->arena, d->cap * sizeof(*d->v));
		if (d->n)
			memcpy(d->v, old, d->n * sizeof(*d->v));
	}
	d->v[d->n++] = (struct spec_device){
		.path = arena_strdup(d->arena, path),
		.type = S_ISCHR(st->st_mode) ? 'c' : 'b',
		.major = major(st->st_rdev),
		.minor = minor(st->st_rdev),
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.permissions = permissions,
	};
	return true;
}

/* What a container has of its own is passed over. */
static bool is_own(const char *name)
{
	static const char *const own[] = {"pts",     "shm",  "fd",    "mqueue",
					  "console", ".lxc", ".udev", "hugepages"};

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (streq(name, own[i]))
			return true;
	return false;
}

static void walk(struct devices *d, const char *host, const char *inside, const char *permissions,
		 unsigned depth)
{
	DIR *dir = opendir(host);
	struct dirent *de;

	if (!dir)
		return;
	while ((de = readdir(dir)) && d->n < DEVICES_MAX) {
		_cleanup_free_ char *h = xasprintf("%s/%s", host, de->d_name),
				    *i = xasprintf("%s/%s", inside, de->d_name);
		struct stat st;

		if (*de->d_name == '.' || is_own(de->d_name) || lstat(h, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			walk(d, h, i, permissions, depth + 1);
		else
			add(d, i, &st, permissions);
	}
	closedir(dir);
}

int devices_collect(const Runtime__V1__ContainerConfig *c, bool all, struct arena *a,
		    struct spec_device **ret, size_t *ret_n, struct err *e)
{
	struct devices d = {.arena = a};

	if (all)
		walk(&d, "/dev", "/dev", "rwm", 0);
	for (size_t i = 0; i < c->n_devices; i++) {
		const Runtime__V1__Device *dev = c->devices[i];
		const char *permissions = *dev->permissions ? dev->permissions : "rwm";
		size_t before = d.n;
		struct stat st;

		if (stat(dev->host_path, &st) < 0)
			return err_invalid(e, "config.devices.host_path: \"%s\": %s",
					   dev->host_path, strerror(errno));
		if (S_ISDIR(st.st_mode)) {
			walk(&d, dev->host_path, dev->container_path, permissions, 0);
			if (d.n == before)
				return err_invalid(e,
						   "config.devices.host_path: no device is below "
						   "\"%s\"",
						   dev->host_path);
		} else if (!add(&d, dev->container_path, &st, permissions)) {
			return err_invalid(e, "config.devices.host_path: \"%s\" is no device",
					   dev->host_path);
		}
	}
	*ret = d.v;
	*ret_n = d.n;
	return 0;
}
