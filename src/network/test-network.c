/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <fcntl.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/test.h"
#include "network/cni_conf.h"
#include "network/ipam.h"

static void test_pools(void)
{
	static const char *const bad[] = {"",		"10.0.0.0", "10.0.0.0/31",
					  "10.0.0.0/7", "x/24",	    "fd00::/127"};
	struct ipam_pool p;
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(ipam_parse(bad[i], &p, NULL), -EINVAL);
	CHECK_INT(ipam_parse("10.88.3.9/16", &p, NULL), 0);
	CHECK_STR(inet_ntop(p.family, p.gateway, text, sizeof(text)), "10.88.0.1");
	CHECK_INT(ipam_parse("fd00:88::/64", &p, NULL), 0);
	CHECK_STR(inet_ntop(p.family, p.gateway, text, sizeof(text)), "fd00:88::1");
}

static void test_addresses(void)
{
	char dir[] = "/tmp/gantry-ipam-XXXXXX", text[64];
	struct strv live = STRV_NULL;
	struct ipam_pool p;
	struct err e = ERR_NULL;
	uint8_t a[16];

	CHECK(mkdtemp(dir) != NULL);
	CHECK_INT(ipam_parse("10.1.2.0/29", &p, NULL), 0); /* .2 to .6 can be given out */
	for (int i = 0; i < 5; i++) {
		char id[8];

		snprintf(id, sizeof(id), "pod%d", i);
		CHECK_INT(ipam_take(dir, &p, id, a, &e), 0);
		snprintf(id, sizeof(id), "%d", i + 2);
		CHECK_STR(strrchr(inet_ntop(AF_INET, a, text, sizeof(text)), '.') + 1, id);
	}
	CHECK_INT(ipam_take(dir, &p, "pod5", a, &e), -ENOSPC);
	CHECK_INT(e.code, GRPC_RESOURCE_EXHAUSTED);
	CHECK_INT(ipam_release(dir, "pod3", NULL), 0);
	CHECK_INT(ipam_release(dir, "pod3", NULL), 0);
	CHECK_INT(ipam_take(dir, &p, "pod5", a, &e), 0);
	CHECK_STR(inet_ntop(AF_INET, a, text, sizeof(text)), "10.1.2.5");
	strv_add(&live, "pod5");
	CHECK_INT(ipam_gc(dir, &live, NULL), 0);
	CHECK_INT(ipam_take(dir, &p, "pod6", a, &e), 0);
	strv_fini(&live);
	fs_remove_tree(AT_FDCWD, dir);
}

static int parse(const char *s, struct cni_list *l, struct err *e)
{
	return cni_list_parse(s, strlen(s), "test", l, e);
}

static void test_cni_list(void)
{
	static const char *const bad[] = {
		"{}",
		"{\"name\":\"n\",\"cniVersion\":\"0.2.0\",\"plugins\":[{\"type\":\"a\"}]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"../x\"}]}",
		"{\"name\":\"../n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"a\"}]}",
	};
	struct network_pod p = {.port_mappings = "[{\"hostPort\":1}]", .bandwidth = "{}"};
	_cleanup_strbuf_ struct strbuf in = STRBUF_NULL;
	struct cni_list l;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(parse(bad[i], &l, NULL), -EINVAL);
	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"a\"},"
			"{\"type\":\"b\",\"x\":1,\"capabilities\":{\"portMappings\":true}}]}",
			&l, NULL),
		  0);
	cni_plugin_input(&l, 1, &p, "{\"p\":1}", NULL, &in);
	CHECK_STR(in.s, "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"b\",\"x\":1,"
			"\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":1}]},\"prevResult\":{"
			"\"p\":1}}");
	cni_list_fini(&l);
	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"0.4.0\",\"type\":\"a\"}", &l, NULL), 0);
	CHECK(l.single && l.n_plugins == 1);
	cni_list_fini(&l);
}

static void test_cni_result(void)
{
	static const char ok[] = "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.1.2.3/24\"},"
				 "{\"address\":\"fd00::5/64\"}]}";
	_cleanup_strbuf_ struct strbuf ips = STRBUF_NULL;
	_cleanup_free_ char *msg = NULL;
	struct err e = ERR_NULL;

	CHECK_INT(cni_result_parse(ok, strlen(ok), &ips, NULL), 0);
	CHECK_STR(ips.s, "10.1.2.3 fd00::5");
	CHECK_INT(cni_result_parse("garbage", 7, &ips, &e), -EBADMSG);
	CHECK_INT(cni_result_parse("{\"ips\":[{\"address\":\"; rm\"}]}", 28, &ips, &e), -EBADMSG);
	CHECK(strstr(e.msg, "; rm"));
	msg = cni_error_message("{\"code\":7,\"msg\":\"no\",\"details\":\"why\"}", 37);
	CHECK_STR(msg, "no: why (code 7)");
	CHECK(cni_version_at_least("1.1.0", 1, 1) && !cni_version_at_least("1.0.0", 1, 1));
}

static void test_config(void)
{
	struct network_config c = {.kind = "cni",
				   .instance = "i",
				   .state = "/s",
				   .conf_dir = "/c",
				   .timeout_us = 5,
				   .bridge = "b",
				   .ipv4 = "",
				   .ipv6 = "x"};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct network_config d;

	strv_add(&c.bin_dirs, "/bin");
	network_config_print(&c, &b);
	CHECK_INT(network_config_parse(b.s, &d, NULL), 0);
	CHECK_STR(d.kind, "cni");
	CHECK_STR(d.bin_dirs.v[0], "/bin");
	CHECK_INT(d.timeout_us, 5);
	network_config_fini(&d);
	strv_fini(&c.bin_dirs);
}

int main(void)
{
	TEST(pools);
	TEST(addresses);
	TEST(cni_list);
	TEST(cni_result);
	TEST(config);
	return test_done();
}
