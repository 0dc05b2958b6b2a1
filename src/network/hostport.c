/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Masquerading and host ports of the built-in bridge, by the nft command.
 *
 * One table an instance.  A host port is an element of a map (protocol, port -> address,
 * port), so that adding one that is taken fails in the kernel, without looking first.  What a
 * pod has is kept in <state>/ports/POD as the very "delete element" lines that end it.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "network/network_internal.h"
#include "wire/json.h"

#define NFT_TIMEOUT_US 10000000UL
#define NFT_OUTPUT_MAX 4096
#define PORTS_MAX 1024 /* mappings of one pod */
#define RECORD_MAX (256u << 10)

static char *find_nft(void)
{
	static const char *const paths[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (access(paths[i], X_OK) == 0)
			return xstrdup(paths[i]);
	return NULL;
}

static int run_nft(const char *script, struct err *e)
{
	_cleanup_free_ char *nft = find_nft();
	const char *argv[] = {"nft", "-f", "-", NULL};
	struct spawn s = SPAWN_INIT;
	struct spawn_result out;
	int r;

	if (!nft)
		return err_precondition(e, "the built-in network needs the nft command (nftables)");
	s.file = nft;
	s.argv = argv;
	r = spawn_run(&s, script, strlen(script), NFT_TIMEOUT_US, NFT_OUTPUT_MAX, &out, e);
	if (r == 0 && out.status != 0) {
		r = out.err.s && strstr(out.err.s, "File exists") ? -EEXIST : -EIO;
		err_set(e, r, r == -EEXIST ? GRPC_ALREADY_EXISTS : GRPC_INTERNAL, "nft%s: %.400s",
			out.timed_out ? " timed out" : "", str_or_empty(out.err.s));
	}
	spawn_result_fini(&out);
	return r;
}

static void put_masquerade(const struct network_config *c, const char *family, const char *cidr,
			   struct strbuf *b)
{
	if (str_empty(cidr))
		return;
	if (c->masquerade)
		strbuf_addf(b, "\t%s saddr %s %s daddr != %s masquerade\n", family, cidr, family,
			    cidr);
	/* A pod that reaches itself through its host port must see another sender. */
	strbuf_addf(b, "\toifname \"%s\" %s saddr %s ct status dnat masquerade\n", c->bridge,
		    family, cidr);
}

static void put_dnat(const char *chain, const char *hook, const char *priority, struct strbuf *b)
{
	strbuf_addf(
		b,
		" chain %s { type nat hook %s priority %s; policy accept;\n"
		"\tmeta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @hostip4\n"
		"\tmeta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostip6\n"
		"\tfib daddr type local meta nfproto ipv4 dnat ip to meta l4proto . th dport map "
		"@host4\n"
		"\tfib daddr type local meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map "
		"@host6\n }\n",
		chain, hook, priority);
}

static void table_script(const struct network_config *c, struct strbuf *b)
{
	strbuf_addf(b, "table inet %s {}\ndelete table inet %s\ntable inet %s {\n", c->instance,
		    c->instance, c->instance);
	strbuf_adds(b, " map host4 { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
		       " map host6 { type inet_proto . inet_service : ipv6_addr . inet_service; }\n"
		       " map hostip4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . "
		       "inet_service; }\n"
		       " map hostip6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . "
		       "inet_service; }\n");
	put_dnat("prerouting", "prerouting", "dstnat", b);
	put_dnat("output", "output", "-100", b);
	strbuf_adds(
		b,
		" chain postrouting { type nat hook postrouting priority srcnat; policy accept;\n");
	strbuf_addf(b, "\toifname \"%s\" ip saddr 127.0.0.0/8 masquerade\n", c->bridge);
	put_masquerade(c, "ip", c->ipv4, b);
	put_masquerade(c, "ip6", c->ipv6, b);
	strbuf_adds(b, " }\n}\n");
}

/* <state> is on a tmpfs, or the stamp names the boot: either way a reboot starts afresh. */
static void stamp_of_boot(struct strbuf *b)
{
	if (fs_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, b) < 0)
		strbuf_adds(b, "?");
}

static bool stamped(const struct network_config *c)
{
	_cleanup_strbuf_ struct strbuf have = STRBUF_NULL, want = STRBUF_NULL;
	_cleanup_free_ char *path = xasprintf("%s/bridge.ready", c->state);

	stamp_of_boot(&want);
	return fs_read(AT_FDCWD, path, 64, &have) == 0 && have.s && streq(have.s, want.s);
}

int hostport_ensure_table(const struct network_config *c, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r;

	if (stamped(c))
		return 0;
	table_script(c, &b);
	r = run_nft(b.s, e);
	return r < 0 ? r : 1;
}

int hostport_mark_ready(const struct network_config *c, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *path = xasprintf("%s/bridge.ready", c->state);
	int r;

	stamp_of_boot(&b);
	r = fs_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, false);
	return r < 0 ? err_errno(e, r, "write %s", path) : 0;
}

static char *record_path(const struct network_config *c, const char *pod_id)
{
	return xasprintf("%s/ports/%s", c->state, pod_id);
}

/* "map { key" of one mapping to one address, or false where families do not fit. */
static bool mapping_key(const char *host_ip, int64_t port, const char *proto, bool v6,
			struct strbuf *b)
{
	bool any = str_empty(host_ip) || streq(host_ip, "0.0.0.0") || streq(host_ip, "::");

	if (!str_empty(host_ip) && (strchr(host_ip, ':') != NULL) != v6 && !streq(host_ip, "::"))
		return false;
	if (any)
		strbuf_addf(b, "host%d { %s . %lld", v6 ? 6 : 4, proto, (long long)port);
	else
		strbuf_addf(b, "hostip%d { %s . %s . %lld", v6 ? 6 : 4, host_ip, proto,
			    (long long)port);
	return true;
}

static const char *proto_of(const jv *m)
{
	const char *p = jv_string(m, "protocol", "tcp");

	return strcasecmp(p, "udp") == 0 ? "udp" : strcasecmp(p, "sctp") == 0 ? "sctp" : "tcp";
}

static int put_mapping(const struct network_config *c, const jv *m, const char *ip,
		       struct strbuf *add, struct strbuf *del, struct err *e)
{
	int64_t host = jv_int(m, "hostPort", 0), inner = jv_int(m, "containerPort", 0);
	const char *host_ip = jv_string(m, "hostIP", "");
	_cleanup_strbuf_ struct strbuf key = STRBUF_NULL;
	bool v6 = strchr(ip, ':') != NULL;
	uint8_t raw[16];

	if (host <= 0)
		return 0; /* a port that is named but not published */
	if (host > 65535 || inner <= 0 || inner > 65535)
		return err_invalid(e, "port mapping %lld:%lld is out of range", (long long)host,
				   (long long)inner);
	if (!str_empty(host_ip) &&
	    inet_pton(strchr(host_ip, ':') ? AF_INET6 : AF_INET, host_ip, raw) != 1)
		return err_invalid(e, "port mapping: host IP \"%s\" is no address", host_ip);
	if (!mapping_key(host_ip, host, proto_of(m), v6, &key))
		return 0;
	strbuf_addf(add, "add element inet %s %s : %s . %lld }\n", c->instance, key.s, ip,
		    (long long)inner);
	strbuf_addf(del, "delete element inet %s %s }\n", c->instance, key.s);
	return 0;
}

int hostport_add(const struct network_config *c, const struct network_pod *p, const char *ips,
		 struct err *e)
{
	_cleanup_strbuf_ struct strbuf add = STRBUF_NULL, del = STRBUF_NULL;
	_cleanup_free_ char *dir = xasprintf("%s/ports", c->state), *path = record_path(c, p->id),
			    *list = xstrdup(ips);
	_cleanup_jv_ jv *v = NULL;
	char *save = NULL;
	int r;

	if (str_empty(p->port_mappings))
		return 0;
	r = jv_parse(p->port_mappings, strlen(p->port_mappings), RECORD_MAX, "port mappings", &v,
		     e);
	if (r < 0)
		return r;
	if (jv_len(v) > PORTS_MAX)
		return err_invalid(e, "port_mappings: %zu are more than the limit of %d", jv_len(v),
				   PORTS_MAX);
	for (char *ip = strtok_r(list, " ", &save); ip; ip = strtok_r(NULL, " ", &save))
		for (size_t i = 0; i < jv_len(v); i++) {
			r = put_mapping(c, jv_at(v, i), ip, &add, &del, e);
			if (r < 0)
				return r;
		}
	if (!add.len)
		return 0;
	r = fs_mkdir_p(AT_FDCWD, dir, 0700);
	if (r == 0) /* before the rules: a kill in between leaves a record, not a rule */
		r = fs_write_atomic(AT_FDCWD, path, del.s, del.len, 0600, false);
	if (r < 0)
		return err_errno(e, r, "write %s", path);
	r = run_nft(add.s, e);
	if (r < 0)
		unlink(path); /* nft applies all or nothing */
	if (r == -EEXIST)
		err_wrap(e, "a host port is in use by another pod");
	return r;
}

/* One by one where the whole fails: some may be gone (the table was made anew). */
static int delete_elements(char *script)
{
	char *save = NULL;

	if (run_nft(script, NULL) == 0)
		return 0;
	for (char *l = strtok_r(script, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		run_nft(l, NULL);
	return 0;
}

int hostport_remove(const struct network_config *c, const char *pod_id, struct err *e)
{
	_cleanup_free_ char *path = record_path(c, pod_id);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	int r = fs_read(AT_FDCWD, path, RECORD_MAX, &b);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(e, r, "read %s", path);
	if (b.len)
		delete_elements(b.s);
	return unlink(path) < 0 && errno != ENOENT ? err_errno(e, -errno, "remove %s", path) : 0;
}

int hostport_gc(const struct network_config *c, const struct strv *live, struct err *e)
{
	_cleanup_free_ char *dir = xasprintf("%s/ports", c->state);
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "open %s", dir);
	for (struct dirent *f; r == 0 && (f = readdir(d));)
		if (f->d_name[0] != '.' && !strv_contains(live, f->d_name))
			r = hostport_remove(c, f->d_name, e);
	closedir(d);
	return r;
}
