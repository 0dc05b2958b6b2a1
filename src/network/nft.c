/* SPDX-License-Identifier: Apache-2.0 */
/* See nft.h. */
#include "network/nft.h"

#include <arpa/inet.h>

#include "base/mem.h"
#include "base/spawn.h"
#include "network/ipam.h"

/* The first one after a boot loads kernel modules: more than 10 s on a busy machine. */
#define NFT_TIMEOUT_US (60 * 1000000UL)
#define NFT_OUTPUT_MAX 4096

static const char *find_nft(void)
{
	static const char *const paths[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft",
					    "/usr/local/sbin/nft"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

int nft_available(struct err *e)
{
	return find_nft() ? 0
			  : err_precondition(e, "the built-in network needs the nft command "
						"(package nftables)");
}

static int failed(const struct spawn_result *out, struct err *e)
{
	const char *text = str_or_empty(out->err.s);
	int r = strstr(text, "File exists")		    ? -EEXIST
		: strstr(text, "No such file or directory") ? -ENOENT
							    : -EIO;

	if (out->cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "nft: cancelled");
	if (out->timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED, "nft: no answer in %lu s",
			       NFT_TIMEOUT_US / 1000000);
	return err_set(e, r, r == -EEXIST ? GRPC_ALREADY_EXISTS : GRPC_INTERNAL, "nft: %.*s",
		       (int)strcspn(text, "\n"), text);
}

int nft_run(const char *script, int cancel_fd, struct err *e)
{
	const char *argv[] = {"nft", "-f", "-", NULL};
	struct spawn s = SPAWN_INIT;
	struct spawn_result out;
	int r;

	s.file = find_nft();
	if (!s.file)
		return nft_available(e);
	s.argv = argv;
	s.cancel_fd = cancel_fd;
	r = spawn_run(&s, script, strlen(script), NFT_TIMEOUT_US, NFT_OUTPUT_MAX, &out, e);
	if (r == 0 && out.status != 0)
		r = failed(&out, e);
	spawn_result_fini(&out);
	return r;
}

/* --- the table --- */

static void put_maps(const struct network_config *c, struct strbuf *b)
{
	static const char *const maps[] = {
		"map %s host4 { type inet_proto . inet_service : ipv4_addr . inet_service; }",
		"map %s host6 { type inet_proto . inet_service : ipv6_addr . inet_service; }",
		"map %s hostip4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . "
		"inet_service; }",
		"map %s hostip6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . "
		"inet_service; }",
		"set %s pool4 { type ipv4_addr; flags interval; auto-merge; }",
		"set %s pool6 { type ipv6_addr; flags interval; auto-merge; }",
	};
	_cleanup_free_ char *table = xasprintf("inet %s", c->instance);

	strbuf_addf(b, "add table %s\n", table);
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		strbuf_adds(b, "add ");
		strbuf_addf(b, maps[i], table);
		strbuf_addc(b, '\n');
	}
}

/* Pools of the past stay: pods may still have addresses of them. */
static void put_pools(const struct network_config *c, struct strbuf *b)
{
	_cleanup_free_ char *list = xasprintf("%s,%s,%s", str_or_empty(c->pod_cidr),
					      str_or_empty(c->ipv4), str_or_empty(c->ipv6));
	char *save = NULL;

	for (char *s = strtok_r(list, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
		char text[INET6_ADDRSTRLEN];
		struct ipam_pool p;

		if (ipam_parse(s, &p, NULL) == 0)
			strbuf_addf(b, "add element inet %s pool%d { %s/%u }\n", c->instance,
				    p.family == AF_INET6 ? 6 : 4,
				    inet_ntop(p.family, p.net, text, sizeof(text)), p.prefix);
	}
}

static void chain(const struct network_config *c, const char *name, const char *hook,
		  const char *priority, struct strbuf *b)
{
	strbuf_addf(b,
		    "add chain inet %s %s { type nat hook %s priority %s; policy accept; }\n"
		    "flush chain inet %s %s\n",
		    c->instance, name, hook, priority, c->instance, name);
}

static void put_dnat(const struct network_config *c, const char *name, const char *hook,
		     const char *priority, struct strbuf *b)
{
	static const char *const rules[] = {
		"meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @hostip4",
		"meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostip6",
		"fib daddr type local meta nfproto ipv4 dnat ip to meta l4proto . th dport map "
		"@host4",
		"fib daddr type local meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map "
		"@host6",
	};

	chain(c, name, hook, priority, b);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		strbuf_addf(b, "add rule inet %s %s %s\n", c->instance, name, rules[i]);
}

static void put_masquerade(const struct network_config *c, struct strbuf *b)
{
	static const struct {
		const char *family, *pool, *multicast, *loopback;
	} f[] = {{"ip", "pool4", "224.0.0.0/4", "127.0.0.0/8"}, {"ip6", "pool6", "ff00::/8", NULL}};

	chain(c, "postrouting", "postrouting", "srcnat", b);
	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		_cleanup_free_ char *rule = xasprintf("add rule inet %s postrouting", c->instance);

		/* A pod answers 127.0.0.1:PORT, and itself by its host port, only if the sender
		 * looks like the bridge. */
		if (f[i].loopback)
			strbuf_addf(b, "%s oifname \"%s\" %s saddr %s masquerade\n", rule,
				    c->bridge, f[i].family, f[i].loopback);
		strbuf_addf(b, "%s oifname \"%s\" %s saddr @%s ct status dnat masquerade\n", rule,
			    c->bridge, f[i].family, f[i].pool);
		if (c->masquerade)
			strbuf_addf(b,
				    "%s %s saddr @%s %s daddr != @%s %s daddr != %s masquerade\n",
				    rule, f[i].family, f[i].pool, f[i].family, f[i].pool,
				    f[i].family, f[i].multicast);
	}
}

void nft_put_table(const struct network_config *c, struct strbuf *to)
{
	put_maps(c, to);
	put_pools(c, to);
	put_dnat(c, "prerouting", "prerouting", "dstnat", to);
	put_dnat(c, "output", "output", "-100", to);
	put_masquerade(c, to);
}
