/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "runtime/caps.h"

static void test_names(void)
{
	enum runtime_cap found;

	for (unsigned i = 0; i < RCAP_COUNT; i++) {
		CHECK(!str_empty(runtime_cap_name(i)) && !str_empty(runtime_cap_text(i)));
		CHECK(runtime_cap_find(runtime_cap_name(i), &found) && found == i);
	}
	CHECK(!runtime_cap_find("", &found));
	CHECK(!runtime_cap_find("user namespaces", &found));
	CHECK(RCAP_ALL >> (RCAP_COUNT - 1) == 1);
}

static void test_reasons(void)
{
	_cleanup_runtime_caps_ struct runtime_caps c = RUNTIME_CAPS_NULL;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const uint64_t two = RCAP_BIT(RCAP_USERNS) | RCAP_BIT(RCAP_TERMINAL);

	CHECK(runtime_caps_missing(&c, two) == two);
	runtime_caps_grant(&c, RCAP_USERNS);
	runtime_caps_grant(&c, RCAP_EXEC);
	CHECK(runtime_caps_missing(&c, two) == RCAP_BIT(RCAP_TERMINAL));
	CHECK_STR(runtime_caps_why(&c, RCAP_USERNS), "");
	CHECK_STR(runtime_caps_why(&c, RCAP_TERMINAL), "it is not known to have it");
	runtime_caps_lack(&c, two, "version %d has none", 3);
	runtime_caps_lack(&c, RCAP_BIT(RCAP_USERNS), "a later reason");
	CHECK(runtime_caps_missing(&c, two) == two);
	runtime_caps_explain(&c, two, &b);
	CHECK_STR(b.s, "user namespaces: version 3 has none; terminals: version 3 has none");
	strbuf_reset(&b);
	runtime_caps_list(two, &b);
	CHECK_STR(b.s, "user namespaces, terminals");
	runtime_caps_grant(&c, RCAP_TERMINAL);
	CHECK_STR(runtime_caps_why(&c, RCAP_TERMINAL), "");
}

static void test_json(void)
{
	_cleanup_runtime_caps_ struct runtime_caps a = RUNTIME_CAPS_NULL, b = RUNTIME_CAPS_NULL;
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	struct jw w = JW_INIT(&text);
	_cleanup_jv_ jv *v = NULL, *other = NULL;
	static const char newer[] = "{\"has\":[\"exec\",\"x-rays\",5],\"lacks\":{\"x\":\"y\"}}";

	runtime_caps_grant(&a, RCAP_PAUSE);
	runtime_caps_lack(&a, RCAP_BIT(RCAP_USERNS), "a \"reason\"\n");
	runtime_caps_print(&a, &w);
	CHECK_INT(jv_parse(text.s, text.len, SIZE_MAX, "caps", &v, NULL), 0);
	CHECK_INT(runtime_caps_read(v, &b, NULL), 0);
	CHECK(a.has == b.has);
	CHECK_STR(runtime_caps_why(&b, RCAP_USERNS), "a \"reason\"\n");
	CHECK_STR(runtime_caps_why(&b, RCAP_EXEC), "it is not known to have it");
	runtime_caps_fini(&b);
	CHECK_INT(jv_parse(newer, strlen(newer), SIZE_MAX, "caps", &other, NULL), 0);
	CHECK_INT(runtime_caps_read(other, &b, NULL), 0);
	CHECK(b.has == RCAP_BIT(RCAP_EXEC));
	CHECK_INT(runtime_caps_read(jv_get(other, "has"), &a, NULL), -EINVAL);
	CHECK_INT(runtime_caps_read(NULL, &a, NULL), -EINVAL);
}

static void check_identity(const char *text, const char *program, const char *version,
			   bool knows_number)
{
	struct runtime_identity id;

	runtime_identify(text, &id);
	CHECK_STR(id.program, program);
	CHECK_STR(id.version, version);
	CHECK(id.knows_number == knows_number);
}

static void test_identity(void)
{
	struct runtime_identity id;

	check_identity("crun version 1.8.1\ncommit: f8a\n", "crun", "1.8.1", true);
	check_identity("runc version 1.1.5+ds1\n", "runc", "1.1.5+ds1", true);
	check_identity("runsc version VERSION_MISSING\nspec: 1.1.0-rc.1\n", "runsc",
		       "VERSION_MISSING", false);
	check_identity("runsc version release-20250203.0\n", "runsc", "release-20250203.0", false);
	check_identity("x version -1.-1.-1", "x", "-1.-1.-1", false);
	check_identity("hello\nx version 1.2.3", "", "", false);
	check_identity("", "", "", false);
	check_identity("version 1.2.3", "", "", false);
	runtime_identify("crun version 1.21", &id);
	CHECK(id.knows_number && id.number[1] == 21 && id.number[2] == 0);
}

static struct runtime_caps known(const char *text, const char *const *args)
{
	struct runtime_caps c = RUNTIME_CAPS_NULL;

	runtime_caps_known(text, args, &c);
	return c;
}

#define CRUN_BUILD "\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +YAJL\n"

static void test_crun(void)
{
	struct runtime_caps c = known("crun version 1.8.1" CRUN_BUILD, NULL);

	CHECK(c.has & RCAP_BIT(RCAP_RRO_MOUNTS) && c.has & RCAP_BIT(RCAP_SECCOMP_NOTIFY));
	CHECK_STR(runtime_caps_why(&c, RCAP_IDMAPPED_MOUNTS),
		  "crun has it since 1.9.0, this one is 1.8.1");
	CHECK_STR(runtime_caps_why(&c, RCAP_RDMA), "crun sets no limits of RDMA");
	runtime_caps_fini(&c);
	c = known("crun version 1.24\n+SYSTEMD +CRIU", NULL);
	CHECK(c.has & RCAP_BIT(RCAP_MEMORY_POLICY));
	CHECK(!(c.has & RCAP_SECCOMP_BITS));
	CHECK_STR(runtime_caps_why(&c, RCAP_SECCOMP_LOG), "this crun is built without SECCOMP");
	runtime_caps_fini(&c);
	c = known("crun version UNKNOWN" CRUN_BUILD, NULL);
	CHECK_STR(runtime_caps_why(&c, RCAP_RRO_MOUNTS),
		  "crun has it since 1.4.0, this one is UNKNOWN");
	runtime_caps_fini(&c);
}

static void test_others(void)
{
	static const char *const args[] = {"--platform=systrap", "--oci-seccomp", NULL};
	static const char text[] = "runsc version VERSION_MISSING\n";
	struct runtime_caps c = known(text, NULL);

	CHECK(c.has & RCAP_BIT(RCAP_SECCOMP_DEFAULT) && !(c.has & RCAP_BIT(RCAP_SECCOMP)));
	CHECK(!(c.has & RCAP_BIT(RCAP_HOST_PID)) && c.has & RCAP_BIT(RCAP_JOIN_NETWORK));
	CHECK_STR(runtime_caps_why(&c, RCAP_AMBIENT_CAPS), "gVisor passes it over");
	runtime_caps_fini(&c);
	c = known(text, args);
	CHECK(c.has & RCAP_BIT(RCAP_SECCOMP) && !(c.has & RCAP_BIT(RCAP_SECCOMP_NOTIFY)));
	runtime_caps_fini(&c);
	c = known("runc version 1.1.5+ds1\n", NULL);
	CHECK(c.has & RCAP_BIT(RCAP_RRO_MOUNTS) && !(c.has & RCAP_BIT(RCAP_SECCOMP_FLAGS)));
	runtime_caps_fini(&c);
	c = known("", NULL); /* some program with the command line */
	CHECK(c.has & RCAP_BIT(RCAP_TERMINAL) && !(c.has & RCAP_BIT(RCAP_NET_DEVICES)));
	runtime_caps_fini(&c);
}

static int features(const char *doc, uint64_t sure, struct runtime_caps *c)
{
	*c = RUNTIME_CAPS_NULL;
	runtime_caps_known("", NULL, c);
	return runtime_caps_features(doc, strlen(doc), sure, c, NULL);
}

#define DOC(more) "{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.1.0\"" more "}"

static void test_features(void)
{
	struct runtime_caps c, none;

	CHECK_INT(features(DOC(""), 0, &c), 0);
	CHECK(c.has & RCAP_BIT(RCAP_SCHEDULER) && !(c.has & RCAP_BIT(RCAP_CPU_AFFINITY)));
	CHECK(c.has & RCAP_BIT(RCAP_HOOK_POSTSTOP) && c.has & RCAP_BIT(RCAP_USERNS));
	runtime_caps_fini(&c);
	CHECK_INT(features(DOC(",\"hooks\":[\"prestart\"],\"mountOptions\":[\"rro\",5],\"linux\":{"
			       "\"namespaces\":[\"pid\"],\"netDevices\":{\"enabled\":true},"
			       "\"seccomp\":{\"enabled\":false,\"actions\":[\"SCMP_ACT_LOG\"]},"
			       "\"cgroup\":{\"v1\":false}}"),
			   0, &c),
		  0);
	CHECK(c.has & RCAP_BIT(RCAP_RRO_MOUNTS) && c.has & RCAP_BIT(RCAP_NET_DEVICES));
	CHECK(!(c.has & RCAP_SECCOMP_BITS));
	CHECK_STR(runtime_caps_why(&c, RCAP_SECCOMP_LOG),
		  "its features say linux.seccomp.enabled: false");
	CHECK_STR(runtime_caps_why(&c, RCAP_CGROUP_V1), "its features say linux.cgroup.v1: false");
	CHECK_STR(runtime_caps_why(&c, RCAP_HOOK_POSTSTOP),
		  "its features list no \"poststop\" in hooks");
	CHECK_STR(runtime_caps_why(&c, RCAP_USERNS_HOST_NETWORK),
		  "its features list no \"user\" in linux.namespaces");
	runtime_caps_fini(&c);
	/* What is known better stays. */
	CHECK_INT(features(DOC(",\"hooks\":[]"), RCAP_BIT(RCAP_HOOK_POSTSTOP), &c), 0);
	CHECK(c.has & RCAP_BIT(RCAP_HOOK_POSTSTOP) && !(c.has & RCAP_BIT(RCAP_HOOK_PRESTART)));
	runtime_caps_fini(&c);
	none = known("", NULL);
	CHECK_INT(features("{\"linux\":{\"namespaces\":[]}}", 0, &c), -EINVAL);
	CHECK(c.has == none.has);
	runtime_caps_fini(&c);
	CHECK_INT(features("unknown command features", 0, &c), -EINVAL);
	runtime_caps_fini(&c);
	runtime_caps_fini(&none);
}

static void test_host(void)
{
	struct runtime_host h = {.seccomp = true, .userns = true, .mount_setattr = true};
	struct runtime_caps c = known("crun version 1.24" CRUN_BUILD, NULL);

	strcpy(h.seccomp_actions, "kill_process kill_thread trap errno trace log allow");
	runtime_caps_host(&h, &c);
	CHECK(c.has & RCAP_BIT(RCAP_USERNS) && c.has & RCAP_BIT(RCAP_SECCOMP_TRACE));
	CHECK_STR(runtime_caps_why(&c, RCAP_SECCOMP_NOTIFY),
		  "this kernel does not have the action user_notif");
	CHECK_STR(runtime_caps_why(&c, RCAP_UNIFIED), "this node has cgroup v1");
	CHECK_STR(runtime_caps_why(&c, RCAP_NEW_TIME), "this kernel has no time namespaces");
	runtime_caps_fini(&c);
	runtime_host_look(&h);
	CHECK(!h.userns || access("/proc/self/ns/user", F_OK) == 0);
	CHECK(*h.release);
}

int main(void)
{
	TEST(identity);
	TEST(crun);
	TEST(others);
	TEST(features);
	TEST(host);
	TEST(names);
	TEST(reasons);
	TEST(json);
	return test_done();
}
