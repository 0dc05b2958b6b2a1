/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/test.h"
#include "network/cni_internal.h"
#include "network/ipam.h"

/* --- addresses --- */

static void test_pools(void)
{
	static const char *const bad[] = {"",	  "10.0.0.0",	"10.0.0.0/31",	"10.0.0.0/7",
					  "x/24", "fd00::/127", "10.0.0.0/24x", "/24"};
	struct ipam_pool p;
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(ipam_parse(bad[i], &p, NULL), -EINVAL);
	CHECK_INT(ipam_parse("10.88.3.9/16", &p, NULL), 0);
	CHECK_STR(inet_ntop(p.family, p.gateway, text, sizeof(text)), "10.88.0.1");
	CHECK_INT(ipam_parse("fd00:88::/64", &p, NULL), 0);
	CHECK_STR(inet_ntop(p.family, p.gateway, text, sizeof(text)), "fd00:88::1");
}

static bool overlap(const char *a, const char *b)
{
	struct ipam_pool p, q;

	CHECK_INT(ipam_parse(a, &p, NULL), 0);
	CHECK_INT(ipam_parse(b, &q, NULL), 0);
	return ipam_overlap(p.net, p.prefix, q.net, q.prefix);
}

static void test_overlap(void)
{
	CHECK(overlap("10.88.0.0/16", "10.88.7.0/24") && overlap("10.88.7.0/24", "10.88.0.0/16"));
	CHECK(overlap("10.0.0.0/8", "10.255.0.0/16") && overlap("10.1.2.0/27", "10.1.2.16/28"));
	CHECK(!overlap("10.88.0.0/16", "10.89.0.0/16") && !overlap("10.1.2.0/28", "10.1.2.16/28"));
	CHECK(overlap("fd00::/64", "fd00::/48") && !overlap("fd00::/64", "fd00:0:0:1::/64"));
}

static bool not_pod5(const char *pod_id, const void *arg)
{
	return !streq(pod_id, arg);
}

static const char *last_byte(const uint8_t a[16])
{
	static char text[INET_ADDRSTRLEN];

	return strrchr(inet_ntop(AF_INET, a, text, sizeof(text)), '.') + 1;
}

static void test_addresses(void)
{
	char dir[] = "/tmp/gantry-ipam-XXXXXX";
	_cleanup_strbuf_ struct strbuf ips = STRBUF_NULL;
	struct ipam_pool p, six;
	struct err e = ERR_NULL;
	uint8_t a[16];

	CHECK(mkdtemp(dir) != NULL);
	CHECK_INT(ipam_parse("10.1.2.0/29", &p, NULL), 0); /* .2 to .6 can be given out */
	for (int i = 0; i < 5; i++) {
		char id[8];

		snprintf(id, sizeof(id), "pod%d", i);
		CHECK_INT(ipam_take(dir, &p, id, a, &e), 0);
		snprintf(id, sizeof(id), "%d", i + 2);
		CHECK_STR(last_byte(a), id);
	}
	CHECK_INT(ipam_take(dir, &p, "pod5", a, &e), -ENOSPC);
	CHECK_INT(e.code, GRPC_RESOURCE_EXHAUSTED);
	CHECK(strstr(e.msg, "10.1.2.0/29"));
	CHECK_INT(ipam_take(dir, &p, "pod2", a, &e), 0); /* the one that it has */
	CHECK_STR(last_byte(a), "4");
	CHECK_INT(ipam_release(dir, "pod3", NULL), 0);
	CHECK_INT(ipam_release(dir, "pod3", NULL), 0);
	CHECK_INT(ipam_take(dir, &p, "pod5", a, &e), 0);
	CHECK_STR(last_byte(a), "5");
	CHECK_INT(ipam_parse("fd00::/64", &six, NULL), 0);
	CHECK_INT(ipam_take(dir, &six, "pod5", a, &e), 0);
	CHECK_INT(ipam_find(dir, "pod5", &ips, NULL), 0);
	CHECK_STR(ips.s, "10.1.2.5 fd00::2");
	CHECK_INT(ipam_gc(dir, not_pod5, "pod5", NULL), 0);
	CHECK_INT(ipam_take(dir, &p, "pod6", a, &e), 0);
	CHECK_STR(last_byte(a), "6"); /* one after the other, though .2 is free as well */
	fs_remove_tree(AT_FDCWD, dir);
}

/* A hint from elsewhere (another pool, garbage) is only a hint. */
static void test_address_hint(void)
{
	static const uint64_t hints[] = {0, 1, 2, 6, 7, 8, 1000, UINT64_MAX};
	struct ipam_pool p;

	CHECK_INT(ipam_parse("10.1.2.0/29", &p, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(hints); i++) {
		char dir[] = "/tmp/gantry-ipam-XXXXXX", file[64];
		unsigned seen = 0;
		uint8_t a[16];

		CHECK(mkdtemp(dir) != NULL);
		snprintf(file, sizeof(file), "%s/.last4", dir);
		CHECK_INT(fs_write_atomic(AT_FDCWD, file, &hints[i], 8, 0600, false), 0);
		for (int k = 0; k < 5; k++) {
			char id[8];

			snprintf(id, sizeof(id), "p%d", k);
			CHECK_INT(ipam_take(dir, &p, id, a, NULL), 0);
			CHECK(a[3] >= 2 && a[3] <= 6);
			seen |= 1u << a[3];
		}
		CHECK_INT(seen, 0x7c);
		fs_remove_tree(AT_FDCWD, dir);
	}
}

static void test_pod_cidr(void)
{
	static const char *const bad[] = {"",
					  ",",
					  "10.1.0.0",
					  "10.1.0.0/24,10.2.0.0/24",
					  "x",
					  "10.1.0.0/24,fd00::/64,fd01::/64",
					  "10.1.0.0/24; nft"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(network_pod_cidr_check(bad[i], NULL), -EINVAL);
	CHECK_INT(network_pod_cidr_check("10.1.0.0/24", NULL), 0);
	CHECK_INT(network_pod_cidr_check("fd00::/64,10.1.0.0/24", NULL), 0);
}

/* --- CNI --- */

static int parse(const char *s, struct cni_list *l, struct err *e)
{
	return cni_list_parse(s, strlen(s), "test", l, e);
}

static void test_cni_list(void)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"{\"name\":\"n\",\"cniVersion\":\"0.2.0\",\"plugins\":[{\"type\":\"a\"}]}",
		"{\"name\":\"n\",\"plugins\":[{\"type\":\"a\"}]}",
		"{\"name\":\"n\",\"cniVersion\":\"2.0.0\",\"plugins\":[{\"type\":\"a\"}]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0\",\"plugins\":[{\"type\":\"a\"}]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{}]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"../x\"}]}",
		"{\"name\":\"../n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"a\"}]}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"loadOnlyInlinedPlugins\":true}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"disableGC\":\"x\",\"type\":\"a\"}",
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"cniVersions\":[7],\"type\":\"a\"}",
	};
	struct cni_list l;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(parse(bad[i], &l, NULL), -EINVAL);
	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"0.4.0\",\"type\":\"a\","
			"\"disableCheck\":\"True\"}",
			&l, NULL),
		  0);
	CHECK(l.n_plugins == 1 && l.disable_check && !l.disable_gc);
	cni_list_fini(&l);
	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"1.0.0\"}", &l, NULL), 0);
	CHECK_INT(l.n_plugins, 0); /* they are in the directory of the network */
	cni_list_fini(&l);
}

static void test_cni_versions(void)
{
	static const char text[] = "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.4.0\","
				   "\"1.0.0\"]}";
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct cni_list l;

	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"cniVersions\":[\"0.3.1\","
			"\"1.1.0\",\"1.0.0\",\"9.0.0\",\"0.2.0\"],\"type\":\"a\"}",
			&l, NULL),
		  0);
	CHECK_INT(l.n_versions, 3);
	CHECK_STR(l.version, "1.1.0");
	CHECK_STR(l.versions[2], "0.3.1");
	cni_list_fini(&l);
	CHECK_INT(cni_versions_parse(text, strlen(text), &b, NULL), 0);
	CHECK_STR(b.s, "0.4.0 1.0.0");
	CHECK_INT(cni_versions_parse("{}", 2, &b, NULL), -EBADMSG);
	CHECK(cni_version_at_least("1.1.0", 1, 1) && !cni_version_at_least("1.0.0", 1, 1));
	CHECK(cni_version_at_least("0.4.0", 0, 4) && !cni_version_at_least("0.3.1", 0, 4));
}

static void test_cni_input(void)
{
	static const char caps_text[] = "{\"portMappings\":[{\"hostPort\":1}],\"bandwidth\":{},"
					"\"io.kubernetes.cri.pod-annotations\":{\"a\":\"b\"}}";
	_cleanup_strbuf_ struct strbuf in = STRBUF_NULL, out = STRBUF_NULL;
	struct cni_input input = {.attachment = true, .prev_result = "{\"p\":1}"};
	_cleanup_jv_ jv *caps = NULL;
	struct cni_list l, again;

	CHECK_INT(jv_parse(caps_text, strlen(caps_text), 4096, "caps", &caps, NULL), 0);
	input.capabilities = caps;
	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"a\"},"
			"{\"type\":\"b\",\"x\":1.50,\"cni.dev/x\":1,\"prevResult\":7,"
			"\"capabilities\":{\"portMappings\":true,\"bandwidth\":false,\"dns\":true,"
			"\"io.kubernetes.cri.pod-annotations\":true}}]}",
			&l, NULL),
		  0);
	cni_plugin_input(&l, 1, &input, &in);
	CHECK_STR(in.s, "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"b\",\"x\":1.50,"
			"\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":1}],"
			"\"io.kubernetes.cri.pod-annotations\":{\"a\":\"b\"}},"
			"\"prevResult\":{\"p\":1}}");
	input = (struct cni_input){.valid = "[]"};
	cni_plugin_input(&l, 0, &input, &out);
	CHECK_STR(out.s, "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\","
			 "\"cni.dev/valid-attachments\":[],\"cni.dev/attachments\":[]}");
	strbuf_reset(&out);
	cni_list_print(&l, &out);
	CHECK_INT(parse(out.s, &again, NULL), 0);
	CHECK_INT(again.n_plugins, 2);
	cni_list_fini(&again);
	cni_list_fini(&l);
}

static int result(const char *s, const char *version, struct strbuf *r, struct strbuf *ips,
		  struct err *e)
{
	return cni_result_parse(s, strlen(s), version, "eth0", r, ips, e);
}

static void test_cni_result(void)
{
	static const char *const bad[] = {
		"",
		"garbage",
		"[]",
		"{\"ips\":[{\"address\":\"; rm/24\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0.1\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0.1/33\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0.1/24\",\"interface\":1}],\"interfaces\":[{}]}",
		"{\"ips\":[{\"address\":\"10.0.0.1/24\",\"interface\":-1}],\"interfaces\":[{}]}",
		"{\"ips\":[{}]}",
	};
	static const char ok[] =
		"{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"br0\"},{\"name\":\"eth0\","
		"\"sandbox\":\"/x\"}],\"ips\":[{\"address\":\"10.9.9.9/24\",\"interface\":0},"
		"{\"address\":\"10.1.2.3/24\",\"interface\":1},{\"address\":\"fd00::5/64\"}]}";
	_cleanup_strbuf_ struct strbuf r = STRBUF_NULL, ips = STRBUF_NULL;
	struct err e = ERR_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(result(bad[i], "1.0.0", &r, &ips, &e), -EBADMSG);
	CHECK_INT(result(ok, "1.0.0", &r, &ips, NULL), 0);
	CHECK_STR(ips.s, "10.1.2.3 fd00::5");
	/* A version is put in, and before 1.0.0 the family of each address. */
	CHECK_INT(result("{\"ips\":[{\"address\":\"10.1.2.3/24\"}]}", "0.4.0", &r, &ips, NULL), 0);
	CHECK_STR(r.s, "{\"cniVersion\":\"0.4.0\",\"ips\":[{\"version\":\"4\",\"address\":"
		       "\"10.1.2.3/24\"}]}");
	CHECK_INT(result("{}", "1.0.0", &r, &ips, NULL), 0);
	CHECK_STR(ips.s, "");
}

static void test_cni_error(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	CHECK_INT(cni_error_parse("{\"code\":7,\"msg\":\"no\",\"details\":\"why\"}", 37, &b), 7);
	CHECK_STR(b.s, "no: why (code 7)");
	CHECK_INT(cni_error_parse("boom", 4, &b), -1);
	CHECK_INT(cni_error_parse("{}", 2, &b), -1);
	CHECK_STR(b.s, "no: why (code 7)");
}

static void put_file(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);

	CHECK_INT(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false), 0);
}

static void test_cni_load(void)
{
	char dir[] = "/tmp/gantry-cni-XXXXXX", sub[64];
	struct err e = ERR_NULL;
	struct cni_list l;

	CHECK(mkdtemp(dir) != NULL);
	CHECK(!network_conf_present(dir));
	CHECK_INT(cni_list_load(dir, &l, &e), -ENOENT);
	put_file(dir, ".10-hidden.conf", "{");
	put_file(dir, "05-note.txt", "{");
	CHECK(!network_conf_present(dir));
	put_file(dir, "20-b.conf", "{\"name\":\"b\",\"cniVersion\":\"0.3.1\",\"type\":\"t\"}");
	put_file(dir, "10-a.conflist",
		 "{\"name\":\"a\",\"cniVersion\":\"1.0.0\",\"plugins\":["
		 "{\"type\":\"one\"}]}");
	snprintf(sub, sizeof(sub), "%s/a", dir);
	CHECK_INT(mkdir(sub, 0700), 0);
	put_file(sub, "2.conf", "{\"type\":\"three\"}");
	put_file(sub, "1.conf", "{\"type\":\"two\"}");
	put_file(sub, "0.json", "{");
	CHECK_INT(cni_list_load(dir, &l, &e), 0);
	CHECK_STR(l.name, "a");
	CHECK_INT(l.n_plugins, 3);
	CHECK_STR(jv_string(l.plugins[2], "type", ""), "three");
	cni_list_fini(&l);
	put_file(dir, "00-bad.json", "{\"name\"");
	CHECK_INT(cni_list_load(dir, &l, &e), -EINVAL);
	CHECK_INT(e.code, GRPC_FAILED_PRECONDITION);
	CHECK(strstr(e.msg, "00-bad.json"));
	fs_remove_tree(AT_FDCWD, dir);
}

static const char ID[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

static void test_cni_record(void)
{
	char dir[] = "/tmp/gantry-cni-XXXXXX", cache[64], file[160];
	struct network_config c = {.cache = cache};
	struct cni_pod p = {.id = ID, .name = "n", .namespace_ = "ns", .netns = "/x"};
	struct cni_record rec;
	struct cni_list l;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(cache, sizeof(cache), "%s/cache", dir);
	CHECK_INT(cni_record_read(&c, ID, &rec, NULL), -ENOENT);
	CHECK_INT(parse("{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"type\":\"a\"}", &l, NULL), 0);
	CHECK_INT(cni_record_write(&c, &p, &l, "{\"dns\":{}}", NULL, NULL), 0);
	cni_list_fini(&l);
	CHECK_INT(cni_record_read(&c, ID, &rec, NULL), 0);
	CHECK_STR(rec.pod.namespace_, "ns");
	CHECK(!rec.pod.uid && !rec.result.len && jv_get(rec.capabilities, "dns"));
	CHECK_STR(rec.list.version, "1.0.0");
	cni_record_fini(&rec);
	snprintf(file, sizeof(file), "%s/%s.json", cache, ID);
	CHECK_INT(fs_write_atomic(AT_FDCWD, file, "", 0, 0600, false), 0);
	CHECK_INT(cni_record_read(&c, ID, &rec, NULL), -EBADMSG);
	CHECK_INT(cni_record_remove(&c, ID, NULL), 0);
	CHECK_INT(cni_record_remove(&c, ID, NULL), 0);
	fs_remove_tree(AT_FDCWD, dir);
}

static void test_config(void)
{
	struct network_config c = {.cni_only = true,
				   .instance = "i",
				   .state = "/s",
				   .cache = "/k",
				   .pods = "/p",
				   .pins = "/n/i-",
				   .pod_cidr = "10.1.0.0/24",
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
	CHECK(d.cni_only);
	CHECK_STR(d.bin_dirs.v[0], "/bin");
	CHECK_STR(d.pod_cidr, "10.1.0.0/24");
	CHECK_STR(d.pins, "/n/i-");
	CHECK_INT(d.timeout_us, 5);
	network_config_fini(&d);
	strv_fini(&c.bin_dirs);
}

int main(void)
{
	TEST(pools);
	TEST(overlap);
	TEST(addresses);
	TEST(address_hint);
	TEST(pod_cidr);
	TEST(cni_list);
	TEST(cni_versions);
	TEST(cni_input);
	TEST(cni_result);
	TEST(cni_error);
	TEST(cni_load);
	TEST(cni_record);
	TEST(config);
	return test_done();
}
