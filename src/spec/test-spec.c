/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

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
	char *all[] = {(char *)"ALL"}, *net[] = {(char *)"net_admin"},
	     *chown[] = {(char *)"CAP_CHOWN"};

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
		.pod = &pod,
		.config = &c,
		.image = &image,
		.user = &u,
		.host = &host,
		.pod_id = "p",
		.id = "c",
		.image_name = "i",
		.hostname = "h",
		.netns = "/n",
		.ipcns = "/i",
		.utsns = "",
		.pidns = "",
		.own_pidns = true,
		.cgroups_path = "/g/c",
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
	CHECK_STR(jv_string(doc, "linux.rootfsPropagation", ""), "shared");
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

/* --- every resource, on hosts of both cgroup versions --- */

static Runtime__V1__HugepageLimit huge = {
	.base = PROTOBUF_C_MESSAGE_INIT(&runtime__v1__hugepage_limit__descriptor),
	.page_size = (char *)"2MB",
	.limit = 1 << 21,
};
static Runtime__V1__LinuxContainerResources__UnifiedEntry unified = {
	.base = PROTOBUF_C_MESSAGE_INIT(
		&runtime__v1__linux_container_resources__unified_entry__descriptor),
	.key = (char *)"memory.high",
	.value = (char *)"1000000",
};

static void all_resources(Runtime__V1__LinuxContainerResources *r)
{
	static Runtime__V1__HugepageLimit *limits[] = {&huge};
	static Runtime__V1__LinuxContainerResources__UnifiedEntry *entries[] = {&unified};

	runtime__v1__linux_container_resources__init(r);
	r->cpu_period = 100000;
	r->cpu_quota = 50000;
	r->cpu_shares = 512;
	r->memory_limit_in_bytes = 1 << 26;
	r->memory_swap_limit_in_bytes = 1 << 27;
	r->oom_score_adj = -500;
	r->cpuset_cpus = (char *)"0-1";
	r->cpuset_mems = (char *)"0";
	r->hugepage_limits = limits;
	r->n_hugepage_limits = 1;
	r->unified = entries;
	r->n_unified = 1;
}

static const struct spec_host v1 = {.caps = UINT64_MAX,
				    .nofile_soft = 1024,
				    .nofile_hard = 4096,
				    .rlimits = {{"RLIMIT_CORE", 0, UINT64_MAX}},
				    .n_rlimits = 1,
				    .seccomp = true,
				    .swap = true,
				    .hugetlb = true};
static const struct spec_host v2 = {.cgroup_v2 = true,
				    .caps = UINT64_MAX,
				    .nofile_soft = 1024,
				    .nofile_hard = 4096,
				    .seccomp = true,
				    .apparmor = true,
				    .selinux = true,
				    .swap = true,
				    .hugetlb = true,
				    .oom_score_adj_min = -100};
static const struct spec_host bare = {.caps = 0, .nofile_soft = 1, .nofile_hard = 1};

static const struct spec_device devices[] = {
	{"/dev/null", 'c', 1, 3, 0666, 0, 0, "rwm"},
	{"/dev/sda", 'b', 8, 0, 0660, 0, 6, "r"},
};

/* What files on the node may add. */
static const char all_edits[] =
	"{\"env\":[\"E=1\"],\"mounts\":[{\"destination\":\"/e\",\"source\":\"/"
	"s\",\"type\":\"bind\","
	"\"options\":[\"rbind\",\"ro\"]}],\"hooks\":{\"createRuntime\":[{\"path\":\"/"
	"h\",\"args\":[\"h\"],"
	"\"env\":[\"A=b\"],\"timeout\":3}],\"poststop\":[{\"path\":\"/h\"}]},"
	"\"intelRdt\":{\"closID\":\"gold\",\"schemata\":[\"L3:0=f\"],\"enableMonitoring\":true},"
	"\"netDevices\":{\"eth7\":{\"name\":\"net0\"}}}";

/* A pod and a container that use what there is; `privileged` and `tty` vary. */
static void print(const struct spec_host *host, bool privileged, bool tty, struct strbuf *to)
{
	Runtime__V1__PodSandboxConfig pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata pm = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	Runtime__V1__ContainerMetadata cm = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__ContainerConfig c = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerConfig linux_config = RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerSecurityContext sc =
		RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	Runtime__V1__LinuxContainerResources res;
	Runtime__V1__SELinuxOption se = RUNTIME__V1__SELINUX_OPTION__INIT;
	Runtime__V1__Capability caps = RUNTIME__V1__CAPABILITY__INIT;
	Runtime__V1__Mount m = RUNTIME__V1__MOUNT__INIT, *mounts[] = {&m};
	char *ambient[] = {(char *)"NET_ADMIN"}, *options[] = {(char *)"noexec"},
	     *paths[] = {(char *)"/proc/kcore"};
	uint32_t groups[] = {33, 44};
	struct spec_user u = {
		.uid = 33, .gid = 33, .groups = groups, .n_groups = 2, .home = (char *)"/h"};
	struct strbuf seccomp = STRBUF_NULL;
	struct spec_binds binds = {0};
	jv *edits = NULL;
	struct spec_container s = {
		.pod = &pod,
		.binds = &binds,
		.binds_dir = "/b",
		.config = &c,
		.image = &image,
		.user = &u,
		.host = host,
		.pod_id = "p",
		.id = "c",
		.image_name = "i",
		.hostname = "h",
		.netns = "/n",
		.ipcns = "/i",
		.utsns = "/u",
		.pidns = "",
		.own_pidns = true,
		.shm = "/s",
		.resolv_conf = "/r",
		.hostname_file = "/hn",
		.cgroups_path = "/g/c",
		.apparmor_default = "gantry-default",
		.pids_limit = 100,
		.devices = devices,
		.n_devices = 2,
	};

	CHECK(jv_parse(all_edits, strlen(all_edits), SIZE_MAX, "edits", &edits, NULL) == 0);
	s.edits = edits;
	pod.metadata = &pm;
	all_resources(&res);
	m.container_path = (char *)"/m";
	m.host_path = (char *)"/src";
	m.readonly = m.recursive_read_only = true;
	m.mount_options = options;
	m.n_mount_options = 1;
	se.user = (char *)"system_u";
	se.role = (char *)"system_r";
	se.type = (char *)"container_t";
	se.level = (char *)"s0:c1,c2";
	caps.add_ambient_capabilities = ambient;
	caps.n_add_ambient_capabilities = 1;
	sc.capabilities = &caps;
	sc.selinux_options = &se;
	sc.privileged = privileged;
	sc.no_new_privs = true;
	sc.masked_paths = sc.readonly_paths = paths;
	sc.n_masked_paths = sc.n_readonly_paths = 1;
	linux_config.resources = &res;
	linux_config.security_context = &sc;
	c.metadata = &cm;
	c.mounts = mounts;
	c.n_mounts = 1;
	c.linux = &linux_config;
	c.tty = tty;
	spec_seccomp_default_print(spec_caps_of(&sc, host->caps), &seccomp);
	s.seccomp = seccomp.s;
	CHECK_INT(spec_container_print(&s, to, NULL), 0);
	strbuf_fini(&seccomp);
	spec_binds_fini(&binds);
	jv_free(edits);
}

static jv *printed(const struct spec_host *host, bool privileged)
{
	struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	jv *doc = NULL;

	print(host, privileged, false, &b);
	CHECK_INT(jv_parse(b.s, b.len, 1 << 20, "config.json", &doc, &e), 0);
	strbuf_fini(&b);
	return doc;
}

static void check_common(jv *doc)
{
	CHECK_INT(jv_int(doc, "linux.resources.cpu.shares", 0), 512);
	CHECK_INT(jv_int(doc, "linux.resources.cpu.quota", 0), 50000);
	CHECK_INT(jv_int(doc, "linux.resources.cpu.period", 0), 100000);
	CHECK_STR(jv_string(doc, "linux.resources.cpu.cpus", ""), "0-1");
	CHECK_STR(jv_string(doc, "linux.resources.cpu.mems", ""), "0");
	CHECK_INT(jv_int(doc, "linux.resources.memory.limit", 0), 1 << 26);
	CHECK_INT(jv_int(doc, "linux.resources.pids.limit", 0), 100);
	CHECK_INT(jv_len(jv_get(doc, "linux.resources.hugepageLimits")), 1);
}

static void test_resources(void)
{
	jv *doc = printed(&v1, false);

	check_common(doc);
	CHECK_INT(jv_int(doc, "linux.resources.memory.swap", 0), 1 << 27);
	CHECK(!jv_get(doc, "linux.resources.unified"));
	CHECK_INT(jv_len(jv_get(doc, "linux.namespaces")), 5);
	CHECK_INT(jv_int(doc, "process.oomScoreAdj", 0), 0); /* not lower than the host allows */
	CHECK(!jv_get(doc, "process.selinuxLabel") && !jv_get(doc, "process.apparmorProfile"));
	jv_free(doc);

	doc = printed(&v2, false);
	check_common(doc);
	CHECK(jv_is_object(jv_get(doc, "linux.resources.unified")));
	CHECK(!jv_get(doc, "linux.resources.memory.swap"));
	CHECK_INT(jv_len(jv_get(doc, "linux.namespaces")), 6); /* and cgroup */
	CHECK_INT(jv_int(doc, "process.oomScoreAdj", 0), -100);
	CHECK_STR(jv_string(doc, "process.selinuxLabel", ""),
		  "system_u:system_r:container_t:s0:c1,c2");
	CHECK_STR(jv_string(doc, "process.apparmorProfile", ""), "gantry-default");
	jv_free(doc);

	doc = printed(&v2, true);
	CHECK_INT(jv_len(jv_get(doc, "linux.namespaces")), 5); /* sees the host's cgroups */
	CHECK(!jv_get(doc, "linux.seccomp") && !jv_get(doc, "linux.maskedPaths"));
	jv_free(doc);

	doc = printed(&bare, false);
	CHECK(!jv_get(doc, "linux.resources.hugepageLimits"));
	CHECK(!jv_get(doc, "linux.resources.memory.swap"));
	CHECK(!jv_get(doc, "linux.resources.unified"));
	CHECK_INT(jv_len(jv_get(doc, "process.capabilities.bounding")), 0);
	jv_free(doc);
}

typedef Runtime__V1__LinuxContainerResources__UnifiedEntry unified_entry;

static unified_entry file_value(const char *key, const char *value)
{
	unified_entry u = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT;

	u.key = (char *)(uintptr_t)key;
	u.value = (char *)(uintptr_t)value;
	return u;
}

/* The limit of both that an update to `limit` and `swap` brings, -2: none. */
static int64_t updated_swap(const Runtime__V1__LinuxContainerResources *in_force, int64_t limit,
			    int64_t swap, unified_entry *file)
{
	Runtime__V1__LinuxContainerResources r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;

	r.memory_limit_in_bytes = limit;
	r.memory_swap_limit_in_bytes = swap;
	r.n_unified = file ? 1 : 0;
	r.unified = &file;
	spec_resources_print(&r, in_force, &v1, &b);
	CHECK_INT(jv_parse(b.s, b.len, 1 << 20, "resources", &doc, NULL), 0);
	return jv_int(doc, "memory.swap", -2);
}

static void test_swap(void)
{
	Runtime__V1__LinuxContainerResources r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	unified_entry max = file_value("memory.swap.max", "1"), *list[] = {&max};

	CHECK_INT(updated_swap(NULL, 100, 0, NULL), 100); /* none */
	CHECK_INT(updated_swap(NULL, 100, 150, NULL), 150);
	CHECK_INT(updated_swap(NULL, 0, 0, NULL), -2);
	r.memory_limit_in_bytes = 100;
	r.memory_swap_limit_in_bytes = 200;
	CHECK_INT(updated_swap(&r, 150, 0, NULL), 200); /* as it was */
	CHECK_INT(updated_swap(&r, 250, 0, NULL), 250);
	CHECK_INT(updated_swap(&r, 150, 180, NULL), 180);
	r.memory_swap_limit_in_bytes = -1;
	CHECK_INT(updated_swap(&r, 150, 0, NULL), -1);
	r.memory_swap_limit_in_bytes = 0;
	r.n_unified = 1;
	r.unified = list;
	CHECK_INT(updated_swap(&r, 150, 0, NULL), -2);
	CHECK_INT(updated_swap(&r, 150, 160, NULL), 160);
}

/* What memory.swap.max is set to on v2 with these limits, in words of CRI or of the kernel. */
static void expect_swap_max(int64_t limit, int64_t swap, unified_entry *file, const char *want)
{
	Runtime__V1__LinuxContainerResources r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	_cleanup_free_ char *member = xasprintf("\"memory.swap.max\":\"%s\"", str_or_empty(want));
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	r.memory_limit_in_bytes = limit;
	r.memory_swap_limit_in_bytes = swap;
	r.n_unified = file ? 1 : 0;
	r.unified = &file;
	spec_resources_print(&r, NULL, &v2, &b);
	CHECK(want ? strstr(b.s, member) != NULL : !strstr(b.s, "swap"));
	CHECK(!strstr(b.s, "\"swap\""));
}

static void test_swap_v2(void)
{
	unified_entry max = file_value("memory.swap.max", "5");

	expect_swap_max(100, 0, NULL, "0");
	expect_swap_max(100, 130, NULL, "30");
	expect_swap_max(100, -1, NULL, "max");
	expect_swap_max(0, 0, NULL, NULL);
	expect_swap_max(100, 0, &max, "5");
	expect_swap_max(100, 130, &max, "5");
}

static void note_property(void *arg, const char *name, uint64_t value)
{
	strbuf_addf(arg, "%s=%" PRIu64 " ", name, value);
}

static void expect_properties(const Runtime__V1__LinuxContainerResources *r, bool systemd,
			      int64_t pids, const char *want)
{
	struct spec_host host = v2;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	host.cgroup_systemd = systemd;
	spec_unit_properties(r, &host, pids, note_property, &b);
	CHECK_STR(str_or_empty(b.s), want);
}

static void test_unit_properties(void)
{
	Runtime__V1__LinuxContainerResources r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	unified_entry v[] = {file_value("memory.low", "4096"), file_value("memory.high", "max"),
			     file_value("memory.min", "1M"),   file_value("pids.max", "7"),
			     file_value("io.weight", "50"),    file_value("memory.swap.max", "9")};
	unified_entry *list[] = {&v[0], &v[1], &v[2], &v[3], &v[4], &v[5]};

	expect_properties(NULL, true, 0, "");
	expect_properties(NULL, true, 5, "TasksMax=5 ");
	r.memory_limit_in_bytes = 100;
	expect_properties(&r, true, 5, "MemoryMax=100 MemorySwapMax=0 TasksMax=5 ");
	expect_properties(&r, false, 5, "");
	r.memory_swap_limit_in_bytes = -1;
	r.cpu_quota = 12345;
	expect_properties(&r, true, 0,
			  "MemoryMax=100 MemorySwapMax=18446744073709551615 "
			  "CPUQuotaPerSecUSec=130000 CPUQuotaPeriodUSec=100000 ");
	r.cpu_quota = 0;
	r.unified = list;
	r.n_unified = ARRAY_SIZE(list);
	expect_properties(&r, true, 5,
			  "MemoryMax=100 MemoryLow=4096 MemoryHigh=18446744073709551615 TasksMax=7 "
			  "IOWeight=50 "
			  "MemorySwapMax=9 ");
}

static void test_bandwidth(void)
{
	Runtime__V1__LinuxContainerResources had = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT,
					     r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;

	had.cpu_quota = 20000;
	had.cpu_period = 50000;
	r.cpu_quota = 30000;
	spec_resources_print(&r, &had, &v2, &b);
	CHECK_INT(jv_parse(b.s, b.len, 1 << 20, "resources", &doc, NULL), 0);
	CHECK_INT(jv_int(doc, "cpu.quota", 0), 30000);
	CHECK_INT(jv_int(doc, "cpu.period", 0), 50000);
}

static void test_merge(void)
{
	Runtime__V1__LinuxContainerResources r, with = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	unified_entry had[] = {file_value("memory.high", "1"), file_value("memory.low", "2")},
		      new[] = {file_value("memory.low", "3"), file_value("io.weight", "4")};
	unified_entry *v_had[] = {&had[0], &had[1]}, *v_new[] = {&new[0], &new[1]};
	_cleanup_arena_ struct arena a = ARENA_NULL;

	all_resources(&r);
	with.cpu_shares = 2;
	with.cpuset_cpus = (char *)"1";
	r.n_unified = with.n_unified = 2;
	r.unified = v_had;
	with.unified = v_new;
	spec_resources_merge(&r, &with, &a);
	CHECK_INT(r.cpu_shares, 2);
	CHECK_STR(r.cpuset_cpus, "1");
	CHECK_INT(r.cpu_quota, 50000);
	CHECK_INT(r.n_hugepage_limits, 1);
	CHECK_INT(r.n_unified, 3);
	CHECK_STR(r.unified[0]->key, "memory.high");
	CHECK_STR(r.unified[1]->value, "3");
	CHECK_STR(r.unified[2]->value, "4");
}

/* Many documents, one a line, for whoever checks them against the runtime specification. */
static int print_all(void)
{
	static const struct spec_host *const hosts[] = {&v1, &v2, &bare};

	for (unsigned i = 0; i < 12; i++) {
		struct strbuf b = STRBUF_NULL;

		print(hosts[i % 3], i / 3 % 2, i / 6, &b);
		puts(b.s);
		strbuf_fini(&b);
	}
	return test_failed ? 1 : 0;
}

/* Limits are the pod's with its overhead, where it has any; what steers runtimes is not its users'. */
static void test_sandbox(void)
{
	Runtime__V1__PodSandboxMetadata m = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	Runtime__V1__PodSandboxConfig pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxPodSandboxConfig lin = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxContainerResources all = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT,
					     over = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	Runtime__V1__PodSandboxConfig__AnnotationsEntry
		mine = RUNTIME__V1__POD_SANDBOX_CONFIG__ANNOTATIONS_ENTRY__INIT,
		steers = mine, *annotations[] = {&mine, &steers};
	static const char *const patterns[] = {"dev.gvisor.*", "*", NULL};
	const struct spec_host host = {0};
	const struct spec_sandbox s = {.pod = &pod,
				       .host = &host,
				       .pod_id = "p1",
				       .netns = "/run/netns/x",
				       .ipcns = "/ipc",
				       .pidns = "",
				       .cgroups_path = "/g/p1",
				       .pod_annotations = patterns};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *doc = NULL;

	m.name = (char *)"n";
	pod.metadata = &m;
	pod.hostname = (char *)"h";
	pod.linux = &lin;
	lin.resources = &all;
	lin.overhead = &over;
	all.memory_limit_in_bytes = 100;
	over.memory_limit_in_bytes = 20;
	over.cpu_quota = 5; /* the containers have none: it is no limit */
	mine.key = (char *)"dev.gvisor.x";
	mine.value = (char *)"1";
	steers.key = (char *)"io.kubernetes.cri.container-type";
	steers.value = (char *)"container";
	pod.annotations = annotations;
	pod.n_annotations = 2;
	spec_sandbox_print(&s, &b);
	CHECK_INT(jv_parse(b.s, b.len, SIZE_MAX, "config", &doc, NULL), 0);
	CHECK_STR(jv_string(doc, "hostname", ""), "h");
	CHECK_STR(jv_string(doc, "linux.cgroupsPath", ""), "/g/p1");
	CHECK_INT(jv_int(doc, "linux.resources.memory.limit", -1), 120);
	CHECK_INT(jv_int(doc, "linux.resources.cpu.quota", -1), -1);
	CHECK(strstr(b.s, "\"io.kubernetes.cri.container-type\":\"sandbox\""));
	CHECK(strstr(b.s, "\"io.kubernetes.cri.sandbox-id\":\"p1\""));
	CHECK(strstr(b.s, "\"dev.gvisor.x\":\"1\""));
	CHECK(!strstr(b.s, "\"container\""));
}

int main(int argc, char **argv)
{
	if (argc > 1 && streq(argv[1], "--print"))
		return print_all();
	TEST(user);
	TEST(caps);
	TEST(config);
	TEST(resources);
	TEST(swap);
	TEST(swap_v2);
	TEST(unit_properties);
	TEST(bandwidth);
	TEST(merge);
	TEST(sandbox);
	return test_done();
}
