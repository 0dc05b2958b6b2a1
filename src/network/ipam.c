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

bool ipam_overlap(const uint8_t *a, unsigned a_prefix, const uint8_t *b, unsigned b_prefix)
{
	unsigned bits = MIN(a_prefix, b_prefix);

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) & (0xff00 >> bits % 8) & 0xff) == 0;
}

static bool owner_of(int dirfd, const char *name, char ret[ID_SIZE])
{
	ssize_t n = readlinkat(dirfd, name, ret, ID_LEN);

	ret[n < 0 ? 0 : n] = '\0';
	return n >= 0;
}

/* 1: ours now, 0: somebody's. */
static int try_take(int dirfd, const char *name, const char *pod_id)
{
	char owner[ID_SIZE];

	if (symlinkat(pod_id, dirfd, name) == 0)
		return 1;
	if (errno != EEXIST)
		return -errno;
	return owner_of(dirfd, name, owner) && streq(owner, pod_id);
}

/* Where the last search ended.  Only a hint: whatever it holds, no address is given twice. */
struct hint {
	int fd;
	uint64_t offset;
};

static void hint_open(int dirfd, int family, struct hint *h)
{
	const char *name = family == AF_INET6 ? ".last6" : ".last4";

	h->fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (h->fd < 0 || pread(h->fd, &h->offset, sizeof(h->offset), 0) != sizeof(h->offset))
		h->offset = 1;
}

static void hint_close(struct hint *h)
{
	if (h->fd >= 0 && pwrite(h->fd, &h->offset, sizeof(h->offset), 0) < 0)
		h->offset = 0;
	fd_close(h->fd);
}

static int open_dir(const char *dir, struct err *e)
{
	int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (d < 0 && errno == ENOENT) {
		r = fs_mkdir_p(AT_FDCWD, dir, 0700);
		d = r < 0 ? r : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return d < 0 ? err_errno(e, -errno, "open %s", dir) : d;
}

static int exhausted(const struct ipam_pool *pool, struct err *e)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(pool->family, pool->net, text, sizeof(text));
	return err_set(e, -ENOSPC, GRPC_RESOURCE_EXHAUSTED,
		       "no address is left in %s/%u (bridge.ipv%d): all are in use by pods", text,
		       pool->prefix, pool->family == AF_INET6 ? 6 : 4);
}

int ipam_take(const char *dir, const struct ipam_pool *pool, const char *pod_id, uint8_t ret[16],
	      struct err *e)
{
	/* Offsets 2 .. hosts-1: 0 is the network, 1 the gateway, hosts the broadcast. */
	uint64_t count = pool->hosts - 2, begin;
	_cleanup_close_ int d = open_dir(dir, e);
	char name[INET6_ADDRSTRLEN];
	struct hint h;
	int r = 0;

	if (d < 0)
		return d;
	hint_open(d, pool->family, &h);
	begin = h.offset % (count + 2);
	for (uint64_t i = 1; r == 0 && i <= count; i++) {
		h.offset = 2 + (begin + i - 2 + count) % count;
		add_offset(pool, h.offset, ret);
		inet_ntop(pool->family, ret, name, sizeof(name));
		r = try_take(d, name, pod_id);
	}
	if (r > 0)
		hint_close(&h);
	else
		fd_close(h.fd);
	if (r < 0)
		return err_errno(e, r, "reserve the address %s", name);
	return r > 0 ? 0 : exhausted(pool, e);
}

/* --- all of them --- */

typedef int each_fn(int dirfd, const char *name, const char *owner, void *arg, struct err *e);

static int each(const char *dir, each_fn *fn, void *arg, struct err *e)
{
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", dir);
	for (struct dirent *f; (f = readdir(d));) {
		char owner[ID_SIZE];
		int k;

		if (f->d_name[0] == '.' || !owner_of(dirfd(d), f->d_name, owner))
			continue;
		k = fn(dirfd(d), f->d_name, owner, arg, r < 0 ? NULL : e);
		r = r < 0 ? r : k;
	}
	closedir(d);
	return r;
}

static int release(int dirfd, const char *name, struct err *e)
{
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "release the address %s", name);
	return 0;
}

static int release_own(int dirfd, const char *name, const char *owner, void *arg, struct err *e)
{
	return streq(owner, arg) ? release(dirfd, name, e) : 0;
}

int ipam_release(const char *dir, const char *pod_id, struct err *e)
{
	return each(dir, release_own, (void *)(uintptr_t)pod_id, e);
}

struct dead {
	ipam_dead_fn *fn;
	const void *arg;
};

static int release_dead(int dirfd, const char *name, const char *owner, void *arg, struct err *e)
{
	const struct dead *dead = arg;

	return dead->fn(owner, dead->arg) ? release(dirfd, name, e) : 0;
}

int ipam_gc(const char *dir, ipam_dead_fn *dead, const void *arg, struct err *e)
{
	struct dead how = {dead, arg};

	return each(dir, release_dead, &how, e);
}

struct find {
	const char *pod_id;
	char v4[INET6_ADDRSTRLEN], v6[INET6_ADDRSTRLEN];
};

static int find_own(int dirfd, const char *name, const char *owner, void *arg, struct err *e)
{
	struct find *f = arg;

	if (streq(owner, f->pod_id))
		snprintf(strchr(name, ':') ? f->v6 : f->v4, INET6_ADDRSTRLEN, "%.*s",
			 INET6_ADDRSTRLEN - 1, name);
	return 0;
}

int ipam_find(const char *dir, const char *pod_id, struct strbuf *ret, struct err *e)
{
	struct find f = {.pod_id = pod_id};
	int r = each(dir, find_own, &f, e);

	if (r == 0)
		strbuf_addf(ret, "%s%s%s", f.v4, *f.v4 && *f.v6 ? " " : "", f.v6);
	return r;
}
