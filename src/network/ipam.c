/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of the built-in bridge: see ipam.h. */
#include "network/ipam.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"

#define LAST_FILE ".last" /* where the search goes on: a fresh address is not one just freed */

static void add_offset(const struct ipam_pool *pool, uint64_t offset, uint8_t ret[16])
{
	unsigned n = pool->family == AF_INET6 ? 16 : 4;

	memcpy(ret, pool->net, 16);
	for (unsigned i = 1; i <= n && offset; i++, offset >>= 8) {
		offset += ret[n - i];
		ret[n - i] = (uint8_t)offset;
	}
}

int ipam_parse(const char *cidr, struct ipam_pool *ret, struct err *e)
{
	struct ipam_pool p = {.family = strchr(cidr, ':') ? AF_INET6 : AF_INET};
	const char *slash = strchr(cidr, '/');
	_cleanup_free_ char *addr = slash ? xstrndup(cidr, (size_t)(slash - cidr)) : NULL;
	unsigned bits = p.family == AF_INET6 ? 128 : 32;
	uint64_t prefix;

	if (!slash || inet_pton(p.family, addr, p.net) != 1 || !str_to_u64(slash + 1, &prefix) ||
	    prefix < 8 || prefix > bits - 2)
		return err_invalid(e, "\"%s\" is no network with room for pods (ADDRESS/PREFIX)",
				   cidr);
	p.prefix = (unsigned)prefix;
	for (unsigned i = p.prefix; i < bits; i++)
		p.net[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
	p.hosts = bits - p.prefix > 32 ? UINT32_MAX : (UINT64_C(1) << (bits - p.prefix)) - 1;
	add_offset(&p, 1, p.gateway);
	*ret = p;
	return 0;
}

static bool owned_by(int dirfd, const char *name, const char *pod_id)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	return fs_read(dirfd, name, ID_LEN, &b) == 0 && b.s && streq(b.s, pod_id);
}

/* 1: ours now, 0: somebody's. */
static int try_take(int dirfd, const char *name, const char *pod_id)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return errno == EEXIST ? owned_by(dirfd, name, pod_id) : -errno;
	r = fs_write_all(fd, pod_id, strlen(pod_id));
	if (r < 0)
		unlinkat(dirfd, name, 0);
	return r < 0 ? r : 1;
}

static uint64_t last_offset(int dirfd, const char *file)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	uint64_t v;

	return fs_read(dirfd, file, 32, &b) == 0 && b.s && str_to_u64(b.s, &v) ? v : 1;
}

int ipam_take(const char *dir, const struct ipam_pool *pool, const char *pod_id, uint8_t ret[16],
	      struct err *e)
{
	char name[INET6_ADDRSTRLEN], last[16], text[24];
	_cleanup_close_ int d = -EBADF;
	uint64_t start;
	int r = fs_mkdir_p(AT_FDCWD, dir, 0700);

	d = r < 0 ? r : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d < 0)
		return err_errno(e, r < 0 ? r : -errno, "open %s", dir);
	snprintf(last, sizeof(last), LAST_FILE "%d", pool->family == AF_INET6 ? 6 : 4);
	start = last_offset(d, last);
	for (uint64_t i = 1; i < pool->hosts; i++) {
		/* Offsets 2 .. hosts-1: 0 is the network, 1 the gateway, hosts the broadcast. */
		uint64_t offset = 2 + (start + i - 2) % (pool->hosts - 2 + (pool->hosts == 2));

		add_offset(pool, offset, ret);
		inet_ntop(pool->family, ret, name, sizeof(name));
		r = try_take(d, name, pod_id);
		if (r < 0)
			return err_errno(e, r, "reserve the address %s", name);
		if (r > 0) {
			snprintf(text, sizeof(text), "%llu", (unsigned long long)offset);
			fs_write_atomic(d, last, text, strlen(text), 0600, false);
			return 0;
		}
	}
	inet_ntop(pool->family, pool->net, name, sizeof(name));
	return err_set(e, -ENOSPC, GRPC_RESOURCE_EXHAUSTED,
		       "no address is left in %s/%u (bridge.ipv%d)", name, pool->prefix,
		       pool->family == AF_INET6 ? 6 : 4);
}

/* Removes the files for which drop() says so. */
static int sweep(const char *dir, bool (*drop)(const char *owner, const void *arg), const void *arg,
		 struct err *e)
{
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", dir);
	for (struct dirent *f; (f = readdir(d));) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		if (f->d_name[0] == '.' || fs_read(dirfd(d), f->d_name, ID_LEN, &b) < 0)
			continue;
		if (drop(str_or_empty(b.s), arg) && unlinkat(dirfd(d), f->d_name, 0) < 0 &&
		    errno != ENOENT)
			r = err_errno(e, -errno, "release the address %s", f->d_name);
	}
	closedir(d);
	return r;
}

static bool is_owner(const char *owner, const void *arg)
{
	return streq(owner, arg);
}

static bool is_dead(const char *owner, const void *arg)
{
	return !strv_contains(arg, owner);
}

int ipam_release(const char *dir, const char *pod_id, struct err *e)
{
	return sweep(dir, is_owner, pod_id, e);
}

int ipam_gc(const char *dir, const struct strv *live, struct err *e)
{
	return sweep(dir, is_dead, live, e);
}
