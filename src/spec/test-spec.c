/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/test.h"
#include "spec/spec.h"
#include "wire/json.h"

static const struct image_config image = {
	.entrypoint = {(char *[]){(char *)"/entry"}, 1, 1},
	.cmd = {(char *[]){(char *)"cmd"}, 1, 1},
	.env = {(char *[]){(char *)"PATH=/bin", (char *)"A=1"}, 2, 2},
	.user = (char *)"web:adm",
	.working_dir = (char *)"/srv",
	.stop_signal = (char *)"",
	.passwd = (char *)"root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:33:w:/var/www:/x\n",
	.group = (char *)"root:x:0:\nadm:x:4:web,syslog\nwww:x:33:\nvideo:x:44:other,web\n",
};

static void test_user(void)
{
	Runtime__V1__LinuxContainerSecurityContext sc =
		RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	Runtime__V1__Int64Value v = RUNTIME__V1__INT64_VALUE__INIT;
	int64_t more[] = {1234, 44};
	struct spec_user u;
	struct err e = ERR_NULL;

	CHECK_INT(spec_user_resolve(&image, NULL, &u, &e), 0);
	CHECK_INT(u.uid, 33);
	CHECK_INT(u.gid, 4);
	CHECK_INT(u.n_groups, 2); /* adm, video */
	CHECK_STR(u.home, "/var/www");
	spec_user_fini(&u);

	sc.supplemental_groups = more;
	sc.n_supplemental_groups = 2;
	CHECK_INT(spec_user_resolve(&image, &sc, &u, &e), 0);
	CHECK_INT(u.n_groups, 3); /* 4, 1234, 44 */
	spec_user_fini(&u);

	v.value = 33;
	sc.run_as_user = &v;
	sc.supplemental_groups_policy = RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict;
	CHECK_INT(spec_user_resolve(&image, &sc, &u, &e), 0);
	CHECK_INT(u.gid, 33);
	CHECK_INT(u.n_groups, 3); /* 33, 1234, 44: no membership */
	spec_user_fini(&u);

	sc.run_as_user = NULL;
	sc.run_as_username = (char *)"nobody";
	CHECK_INT(spec_user_resolve(&image, &sc, &u, &e), -EINVAL);
	CHECK(strstr(e.msg, "\"nobody\""));
}

static void test_caps(void)
{
	Runtime__V1__LinuxContainerSecurityContext sc =
		RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	Runtime__V1__Capability c = RUNTIME__V1__CAPABILITY__INIT;
	char *all[] = {(char *)"ALL"}, *net[] = {(char *)"net_admin"}, *chown[] = {(char *)"CAP_CHOWN"};

	CHECK_INT(spec_caps_of(NULL, UINT64_MAX), (int64_t)spec_caps_default());
	sc.capabilities = &c;
	c.drop_capabilities = all;
	c.n_drop_capabilities = 1;
	c.add_capabilities = net;
	c.n_add_capabilities = 1;
	CHECK_INT(spec_caps_of(&sc, UINT64_MAX), 1 << 12);
	CHECK_INT(spec_caps_of(&sc, 0), 0);
	c.add_capabilities = all;
	c.drop_capabilities = chown;
	CHECK_INT(spec_caps_of(&sc, 0xff), 0xfe);
	CHECK_INT(spec_cap_number("CAP_CHECKPOINT_RESTORE"), 40);
	CHECK_INT(spec_cap_number("nope"), -1);
}

static void test_config(void)
{
	Runtime__V1__PodSandboxConfig pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata pm = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	Runtime__V1__ContainerConfig c = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	Runtime__V1__ContainerMetadata cm = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__Mount inner = RUNTIME__V1__MOUNT__INIT, outer = RUNTIME__V1__MOUNT__INIT;
	Runtime__V1__Mount *mounts[] = {&inner, &outer};
	char *args[] = {(char *)"x"};
	struct spec_host host = {.caps = UINT64_MAX, .nofile_soft = 1, .nofile_hard = 2};
	struct spec_user u = {0};
	struct strbuf b = STRBUF_NULL, seccomp = STRBUF_NULL;
	struct err e = ERR_NULL;
	struct spec_container s = {
		.pod = &pod, .config = &c, .image = &image, .user = &u, .host = &host,
		.pod_id = "p", .id = "c", .image_name = "i", .hostname = "h", .netns = "/n",
		.ipcns = "/i", .utsns = "", .pidns = "", .own_pidns = true, .cgroups_path = "/g/c",
	};
	jv *doc;

	pod.metadata = &pm;
	c.metadata = &cm;
	c.args = args;
	c.n_args = 1;
	inner.container_path = (char *)"/a/b";
	inner.host_path = (char *)"/1";
	outer.container_path = (char *)"/a";
	outer.host_path = (char *)"/2";
	outer.propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL;
	c.mounts = mounts;
	c.n_mounts = 2;
	spec_seccomp_default_print(spec_caps_default(), &seccomp);
	s.seccomp = seccomp.s;
	CHECK_INT(spec_container_print(&s, &b, &e), 0);
	CHECK_INT(jv_parse(b.s, b.len, 1 << 20, "config.json", &doc, &e), 0);
	CHECK_STR(jv_as_string(jv_at(jv_get(doc, "process.args"), 0)), "/entry");
	CHECK_STR(jv_as_string(jv_at(jv_get(doc, "process.args"), 1)), "x");
	CHECK_INT(jv_len(jv_get(doc, "process.args")), 2);
	CHECK_STR(jv_as_string(jv_at(jv_get(doc, "process.env"), 0)), "PATH=/bin");
	CHECK_STR(jv_string(doc, "process.cwd", ""), "/srv");
	CHECK_STR(jv_string(doc, "linux.rootfsPropagation", ""), "rshared");
	CHECK_INT(jv_len(jv_get(doc, "linux.namespaces")), 4); /* mount pid network ipc */
	CHECK(strstr(b.s, "\"/a\"") < strstr(b.s, "\"/a/b\""));
	CHECK_STR(jv_string(doc, "linux.seccomp.defaultAction", ""), "SCMP_ACT_ERRNO");
	jv_free(doc);
	strbuf_reset(&b);

	c.n_args = 0;
	s.image = &(struct image_config){.user = (char *)"", .working_dir = (char *)""};
	CHECK_INT(spec_container_print(&s, &b, &e), -EINVAL);
	CHECK(strstr(e.msg, "names a command"));
	strbuf_fini(&b);
	strbuf_fini(&seccomp);
}

int main(void)
{
	TEST(user);
	TEST(caps);
	TEST(config);
	return test_done();
}
