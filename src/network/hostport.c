/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host ports of the built-in bridge: see network_internal.h.
 *
 * A host port is a symbolic link <state>/ports/PROTO,PORT,HOSTIP -> "POD CONTAINERPORT",
 * made under a lock that covers looking for what is in its way (a port on one address and the
 * same on all).  In the kernel it is an element of a map of the instance's nft table (nft.c);
 * the links are what those are made from again when the table has been flushed.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/mem.h"
#include "network/ipam.h"
#include "network/nft.h"
#include "wire/json.h"

#define PORTS_MAX 1024 /* mappings of one pod */
#define MAPPINGS_MAX (256u << 10)
#define NAME_SIZE 80 /* "sctp,65535,ADDRESS" */
#define LOCK "ports.lock"

/* One mapping, as it is reserved. */
struct port {
	char proto[8];
	unsigned host, inner;
	char host_ip[INET6_ADDRSTRLEN]; /* "*": every address */
	char owner[ID_SIZE];
};

static char *ports_dir(const struct network_config *c)
{
	return xasprintf("%s/ports", c->state);
}

static void name_of(const struct port *p, char ret[NAME_SIZE])
{
	snprintf(ret, NAME_SIZE, "%s,%u,%s", p->proto, p->host, p->host_ip);
}

/* --- what is asked for --- */

static int read_host_ip(const char *s, char ret[INET6_ADDRSTRLEN], struct err *e)
{
	int family = strchr(s, ':') ? AF_INET6 : AF_INET;
	uint8_t raw[16];

	if (!*s) {
		strcpy(ret, "*");
		return 0;
	}
	if (inet_pton(family, s, raw) != 1)
		return err_invalid(e, "port_mappings: host_ip \"%.80s\" is no address", s);
	inet_ntop(family, raw, ret, INET6_ADDRSTRLEN);
	return 0;
}

static int read_port(const jv *m, const char *pod_id, struct port *ret, struct err *e)
{
	static const char *const protocols[] = {"tcp", "udp", "sctp"};
	int64_t host = jv_int(m, "hostPort", 0), inner = jv_int(m, "containerPort", 0);
	const char *proto = jv_string(m, "protocol", "tcp");
	bool known = false;

	if (host < 0 || host > 65535 || (host && (inner <= 0 || inner > 65535)))
		return err_invalid(e, "port_mappings: %lld to %lld: out of range", (long long)host,
				   (long long)inner);
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		if (strcasecmp(proto, protocols[i]) == 0) {
			known = true;
			strcpy(ret->proto, protocols[i]);
		}
	if (!known)
		return err_invalid(e, "port_mappings: protocol \"%.40s\": expected tcp, udp, sctp",
				   proto);
	ret->host = (unsigned)host;
	ret->inner = (unsigned)inner;
	snprintf(ret->owner, sizeof(ret->owner), "%s", pod_id);
	return read_host_ip(jv_string(m, "hostIP", ""), ret->host_ip, e);
}

/* The mappings with a host port; owned, *ret_n of them. */
static int read_ports(const struct network_pod *p, struct port **ret, size_t *ret_n, struct err *e)
{
	_cleanup_free_ struct port *ports = NULL;
	_cleanup_jv_ jv *v = NULL;
	size_t n = 0;
	int r;

	*ret_n = 0;
	if (str_empty(p->port_mappings))
		return 0;
	r = jv_parse(p->port_mappings, strlen(p->port_mappings), MAPPINGS_MAX, "port_mappings", &v,
		     e);
	if (r < 0)
		return r;
	if (jv_len(v) > PORTS_MAX)
		return err_invalid(e, "port_mappings: %zu are more than the limit of %d", jv_len(v),
				   PORTS_MAX);
	ports = xcalloc(jv_len(v) + 1, sizeof(*ports));
	for (size_t i = 0; i < jv_len(v); i++) {
		r = read_port(jv_at(v, i), p->id, &ports[n], e);
		if (r < 0)
			return r;
		n += ports[n].host != 0; /* else a port that is named but not published */
	}
	*ret = TAKE_PTR(ports);
	*ret_n = n;
	return 0;
}

/* --- what is reserved --- */

static bool parse_reserved(const char *name, const char *target, struct port *ret)
{
	return sscanf(name, "%7[a-z],%5u,%45s", ret->proto, &ret->host, ret->host_ip) == 3 &&
	       sscanf(target, "%64[0-9a-zA-Z-] %5u", ret->owner, &ret->inner) == 2;
}

/* All reservations; owned, *ret_n of them. */
static int list_reserved(const struct network_config *c, struct port **ret, size_t *ret_n,
			 struct err *e)
{
	_cleanup_free_ char *dir = ports_dir(c);
	struct port *all = NULL;
	size_t n = 0, cap = 0;
	DIR *d = opendir(dir);

	*ret = NULL;
	*ret_n = 0;
	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", dir);
	for (struct dirent *f; (f = readdir(d));) {
		char target[ID_SIZE + 8];
		ssize_t len = readlinkat(dirfd(d), f->d_name, target, sizeof(target) - 1);

		if (len < 0)
			continue;
		target[len] = '\0';
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			all = xrealloc(all, cap * sizeof(*all));
		}
		n += parse_reserved(f->d_name, target, &all[n]);
	}
	closedir(d);
	*ret = all;
	*ret_n = n;
	return 0;
}

static bool same_family(const char *a, const char *b)
{
	return (strchr(a, ':') == NULL) == (strchr(b, ':') == NULL);
}

static bool is_any(const char *ip)
{
	return streq(ip, "0.0.0.0") || streq(ip, "::");
}

static bool in_the_way(const struct port *a, const struct port *b)
{
	if (a->host != b->host || !streq(a->proto, b->proto))
		return false;
	if (streq(a->host_ip, "*") || streq(b->host_ip, "*") || streq(a->host_ip, b->host_ip))
		return true;
	return same_family(a->host_ip, b->host_ip) && (is_any(a->host_ip) || is_any(b->host_ip));
}

static int find_conflict(const struct port *want, size_t n, const struct port *have, size_t n_have,
			 struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < i; k++)
			if (in_the_way(&want[i], &want[k]))
				return err_invalid(e,
						   "port_mappings: host port %u/%s is asked for "
						   "twice",
						   want[i].host, want[i].proto);
		for (size_t k = 0; k < n_have; k++)
			if (in_the_way(&want[i], &have[k]) && !streq(have[k].owner, want[i].owner))
				return err_set(e, -EEXIST, GRPC_ALREADY_EXISTS,
					       "port_mappings: host port %u/%s%s%s is in use by "
					       "pod sandbox %s",
					       want[i].host, want[i].proto,
					       streq(have[k].host_ip, "*") ? "" : " of ",
					       streq(have[k].host_ip, "*") ? "" : have[k].host_ip,
					       have[k].owner);
	}
	return 0;
}

static int make_link(const char *dir, const struct port *p, struct err *e)
{
	char name[NAME_SIZE];
	_cleanup_free_ char *path = NULL, *target = xasprintf("%s %u", p->owner, p->inner);

	name_of(p, name);
	path = xasprintf("%s/%s", dir, name);
	if (symlink(target, path) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "reserve the host port %s", name);
	return 0;
}

static int remove_link(const char *dir, const struct port *p, struct err *e)
{
	char name[NAME_SIZE];
	_cleanup_free_ char *path = NULL;

	name_of(p, name);
	path = xasprintf("%s/%s", dir, name);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "free the host port %s", name);
	return 0;
}

int hostport_reserve(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	_cleanup_free_ struct port *want = NULL, *have = NULL;
	_cleanup_free_ char *dir = ports_dir(c);
	_cleanup_close_ int lock = -EBADF;
	size_t n, n_have;
	int r = read_ports(p, &want, &n, e);

	if (r < 0 || !n)
		return r;
	r = network_lock(c, LOCK, true, p->cancel_fd, &lock, e);
	r = r < 0 ? r : list_reserved(c, &have, &n_have, e);
	r = r < 0 ? r : find_conflict(want, n, have, n_have, e);
	if (r < 0)
		return r;
	r = fs_mkdir_p(AT_FDCWD, dir, 0700);
	if (r < 0)
		return err_errno(e, r, "make %s", dir);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = make_link(dir, &want[i], e);
	for (size_t i = 0; r < 0 && i < n; i++)
		remove_link(dir, &want[i], NULL);
	return r;
}

/* --- in the kernel --- */

/* "host4 { tcp . 80" where the mapping is of that family, else nothing. */
static bool put_key(const struct port *p, bool v6, struct strbuf *to)
{
	if (!streq(p->host_ip, "*") && (strchr(p->host_ip, ':') != NULL) != v6)
		return false;
	if (streq(p->host_ip, "*") || is_any(p->host_ip))
		strbuf_addf(to, "host%d { %s . %u", v6 ? 6 : 4, p->proto, p->host);
	else
		strbuf_addf(to, "hostip%d { %s . %s . %u", v6 ? 6 : 4, p->host_ip, p->proto,
			    p->host);
	return true;
}

/* The commands that add (or delete) a port's elements for a pod's addresses; how many. */
static unsigned put_elements(const struct network_config *c, const struct port *p, const char *ips,
			     bool add, struct strbuf *to)
{
	_cleanup_free_ char *list = xstrdup(ips);
	char *save = NULL;
	unsigned n = 0;

	for (char *ip = strtok_r(list, " ", &save); ip; ip = strtok_r(NULL, " ", &save)) {
		_cleanup_strbuf_ struct strbuf key = STRBUF_NULL;

		if (!put_key(p, strchr(ip, ':') != NULL, &key))
			continue;
		n++;
		if (add)
			strbuf_addf(to, "add element inet %s %s : %s . %u }\n", c->instance, key.s,
				    ip, p->inner);
		else
			strbuf_addf(to, "delete element inet %s %s }\n", c->instance, key.s);
	}
	return n;
}

int hostport_publish(const struct network_config *c, const struct network_pod *p, const char *ips,
		     struct err *e)
{
	_cleanup_free_ struct port *want = NULL;
	_cleanup_strbuf_ struct strbuf script = STRBUF_NULL;
	size_t n;
	int r = read_ports(p, &want, &n, e);

	if (r < 0 || !n)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!put_elements(c, &want[i], ips, true, &script))
			return err_precondition(e,
						"port_mappings: host port %u/%s of %s: the pod "
						"has no address of that family (%s)",
						want[i].host, want[i].proto, want[i].host_ip, ips);
	r = nft_run(script.s, p->cancel_fd, e);
	if (r < 0)
		return err_wrap(e, "publish the host ports");
	for (size_t i = 0; i < n; i++)
		if (streq(want[i].proto, "udp"))
			nl_conntrack_forget_udp((uint16_t)want[i].host);
	return 0;
}

/* All at once; where that fails, one by one: some may be gone (somebody flushed the table). */
static int delete_elements(char *script, struct err *e)
{
	char *save = NULL;
	int r = nft_run(script, -1, NULL);

	if (r == 0)
		return 0;
	r = 0;
	for (char *l = strtok_r(script, "\n", &save); r == 0 && l;
	     l = strtok_r(NULL, "\n", &save)) {
		r = nft_run(l, -1, e);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

int hostport_remove(const struct network_config *c, const char *pod_id, const char *ips,
		    struct err *e)
{
	_cleanup_free_ char *dir = ports_dir(c);
	_cleanup_strbuf_ struct strbuf script = STRBUF_NULL;
	_cleanup_free_ struct port *all = NULL;
	size_t n;
	int r = list_reserved(c, &all, &n, e);

	/* Any address of a family gives the key. */
	for (size_t i = 0; r == 0 && i < n; i++)
		if (streq(all[i].owner, pod_id))
			put_elements(c, &all[i], str_empty(ips) ? "0.0.0.0 ::" : ips, false,
				     &script);
	if (r == 0 && script.len)
		r = delete_elements(script.s, e);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (streq(all[i].owner, pod_id))
			r = remove_link(dir, &all[i], e);
	return r;
}

int hostport_gc(const struct network_config *c, struct err *e)
{
	_cleanup_free_ struct port *all = NULL;
	size_t n;
	int r = list_reserved(c, &all, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++)
		if (!network_pod_is_live(c, all[i].owner))
			r = hostport_remove(c, all[i].owner, "", e);
	return r;
}

/* --- the table --- */

int hostport_available(struct err *e)
{
	return nft_available(e);
}

int hostport_make_table(const struct network_config *c, struct err *e)
{
	_cleanup_free_ char *addresses = xasprintf("%s/addresses", c->state);
	_cleanup_strbuf_ struct strbuf script = STRBUF_NULL;
	_cleanup_free_ struct port *all = NULL;
	bool fresh = !nl_nft_table_exists(c->instance);
	size_t n = 0;
	int r = fresh ? list_reserved(c, &all, &n, e) : 0;

	if (r < 0)
		return r;
	nft_put_table(c, &script);
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_strbuf_ struct strbuf ips = STRBUF_NULL;

		r = ipam_find(addresses, all[i].owner, &ips, e);
		if (r == 0 && ips.len)
			put_elements(c, &all[i], ips.s, true, &script);
	}
	r = r < 0 ? r : nft_run(script.s, -1, e);
	return r < 0 ? err_wrap(e, "make the nft table inet %s", c->instance) : 0;
}
