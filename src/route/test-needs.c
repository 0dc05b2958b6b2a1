/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "route/needs.h"

#define PLAIN                                                                                      \
	"\"linux\":{\"namespaces\":[{\"type\":\"network\"},{\"type\":\"pid\"},{\"type\":\"ipc\"}]" \
	"}"
#define PLAIN_BITS                                                                                 \
	(RCAP_BIT(RCAP_CGROUP_V1) | RCAP_BIT(RCAP_NEW_NETWORK) | RCAP_BIT(RCAP_NEW_PID) |          \
	 RCAP_BIT(RCAP_NEW_IPC))

static struct needs of(const char *config, const struct needs_facts *f)
{
	const struct needs_facts none = {0};
	_cleanup_jv_ jv *v = NULL;
	struct needs n = NEEDS_NULL;

	CHECK_INT(jv_parse(config, strlen(config), SIZE_MAX, "config", &v, NULL), 0);
	needs_add_config(&n, v, f ? f : &none);
	return n;
}

/* A configuration with `members` beside the namespaces needs `cap` beside the plain ones, for `why`. */
static void check_one(const char *config, enum runtime_cap cap, const char *why)
{
	struct needs n = of(config, NULL);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	needs_origin_print(&n, cap, &b);
	CHECK_STR(str_or_empty(b.s), why);
}

static void test_plain(void)
{
	const struct needs_facts f = {
		.cgroup_v2 = true, .cgroup_systemd = true, .privileged = true};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct needs n = of("{" PLAIN "}", NULL);

	CHECK(n.bits == PLAIN_BITS);
	n = of("{" PLAIN "}", &f);
	CHECK(n.bits == ((PLAIN_BITS & ~RCAP_BIT(RCAP_CGROUP_V1)) | RCAP_BIT(RCAP_CGROUP_V2) |
			 RCAP_BIT(RCAP_CGROUP_SYSTEMD) | RCAP_BIT(RCAP_PRIVILEGED)));
	n = of("{}", NULL);
	CHECK(n.bits == (RCAP_BIT(RCAP_CGROUP_V1) | RCAP_BIT(RCAP_HOST_NETWORK) |
			 RCAP_BIT(RCAP_HOST_PID) | RCAP_BIT(RCAP_HOST_IPC)));
	needs_print(&n, RCAP_BIT(RCAP_HOST_PID) | RCAP_BIT(RCAP_CGROUP_V1) | RCAP_BIT(RCAP_EXEC),
		    &b);
	CHECK_STR(b.s, "the node's PID namespace (linux.namespaces: no pid), "
		       "cgroup v1 (the node has cgroup v1)");
}

#define NS(list) "{\"linux\":{\"namespaces\":[" list "]}}"

static void test_namespaces(void)
{
	struct needs n = of(NS("{\"type\":\"mount\"},{\"type\":\"user\",\"path\":\"/u\"}"), NULL);

	CHECK(n.bits & RCAP_BIT(RCAP_USERNS) && n.bits & RCAP_BIT(RCAP_JOIN_USER));
	CHECK(n.bits & RCAP_BIT(RCAP_USERNS_HOST_NETWORK));
	n = of(NS("{\"type\":\"user\"},{\"type\":\"network\",\"path\":\"/n\"}"), NULL);
	CHECK(n.bits & RCAP_BIT(RCAP_USERNS) && !(n.bits & RCAP_BIT(RCAP_JOIN_USER)));
	CHECK(!(n.bits & RCAP_BIT(RCAP_USERNS_HOST_NETWORK)));
	check_one(NS("{\"type\":\"network\",\"path\":\"/n\"}"), RCAP_JOIN_NETWORK,
		  "linux.namespaces[0].path");
	check_one(NS("{},{\"type\":\"pid\",\"path\":\"/n\"}"), RCAP_JOIN_PID,
		  "linux.namespaces[1].path");
	check_one(NS("{\"type\":\"ipc\",\"path\":\"/n\"}"), RCAP_JOIN_IPC,
		  "linux.namespaces[0].path");
	check_one(NS("{\"type\":\"uts\",\"path\":\"/n\"}"), RCAP_JOIN_UTS,
		  "linux.namespaces[0].path");
	check_one(NS("{\"type\":\"mount\",\"path\":\"/n\"}"), RCAP_JOIN_OTHER,
		  "linux.namespaces[0].path");
	check_one(NS("{\"type\":\"time\",\"path\":\"/n\"}"), RCAP_JOIN_OTHER,
		  "linux.namespaces[0].path");
	check_one(NS("{\"type\":\"cgroup\"}"), RCAP_NEW_CGROUP, "linux.namespaces[0]");
	check_one(NS("{\"type\":\"time\"}"), RCAP_NEW_TIME, "linux.namespaces[0]");
	check_one(NS("{\"type\":\"uts\"}"), RCAP_NEW_UTS, "linux.namespaces[0]");
}

#define MOUNT(more) "{\"mounts\":[{\"options\":[\"ro\",\"rbind\",\"rprivate\"]},{" more "}]}"

static void test_mounts(void)
{
	struct needs n = of(MOUNT("\"options\":[\"rslave\",\"nosuid\"]"), NULL);
	const uint64_t mounts = RCAP_BIT(RCAP_IDMAPPED_MOUNTS) | RCAP_BIT(RCAP_RRO_MOUNTS) |
				RCAP_BIT(RCAP_RECURSIVE_OPTIONS) | RCAP_BIT(RCAP_TMPCOPYUP) |
				RCAP_BIT(RCAP_SHARED_MOUNTS);

	CHECK(!(n.bits & mounts));
	check_one(MOUNT("\"options\":[\"rro\"]"), RCAP_RRO_MOUNTS, "mounts[1].options: rro");
	check_one(MOUNT("\"options\":[\"rnosuid\"]"), RCAP_RECURSIVE_OPTIONS, "mounts[1].options");
	check_one(MOUNT("\"options\":[\"tmpcopyup\"]"), RCAP_TMPCOPYUP,
		  "mounts[1].options: tmpcopyup");
	check_one(MOUNT("\"options\":[\"rshared\"]"), RCAP_SHARED_MOUNTS,
		  "mounts[1].options: rshared");
	check_one(MOUNT("\"options\":[\"idmap=uids=0-1-2\"]"), RCAP_IDMAPPED_MOUNTS,
		  "mounts[1].options: idmap");
	check_one(MOUNT("\"options\":[\"ridmap\"]"), RCAP_IDMAPPED_MOUNTS,
		  "mounts[1].options: ridmap");
	check_one(MOUNT("\"gidMappings\":[{\"size\":1}]"), RCAP_IDMAPPED_MOUNTS,
		  "mounts[1].uidMappings");
	check_one(MOUNT("\"gidMappings\":[]"), RCAP_IDMAPPED_MOUNTS, "");
	check_one("{\"linux\":{\"rootfsPropagation\":\"rshared\"}}", RCAP_SHARED_MOUNTS,
		  "linux.rootfsPropagation");
	check_one("{\"linux\":{\"rootfsPropagation\":\"rslave\"}}", RCAP_SHARED_MOUNTS, "");
}

#define SECCOMP(more) "{\"linux\":{\"seccomp\":{" more "}}}"

static void test_seccomp(void)
{
	struct needs n =
		of(SECCOMP("\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"action\":"
			   "\"SCMP_ACT_ALLOW\"}]"),
		   NULL);

	CHECK(n.bits & RCAP_BIT(RCAP_SECCOMP) && !(n.bits & RCAP_BIT(RCAP_SECCOMP_LOG)));
	check_one(SECCOMP(""), RCAP_SECCOMP, "linux.seccomp");
	check_one("{\"linux\":{\"seccomp\":null}}", RCAP_SECCOMP, "");
	check_one(SECCOMP("\"defaultAction\":\"SCMP_ACT_LOG\""), RCAP_SECCOMP_LOG,
		  "linux.seccomp.defaultAction");
	check_one(SECCOMP("\"syscalls\":[{},{\"action\":\"SCMP_ACT_NOTIFY\"}]"),
		  RCAP_SECCOMP_NOTIFY, "linux.seccomp.syscalls[1].action: SCMP_ACT_NOTIFY");
	check_one(SECCOMP("\"listenerPath\":\"/run/x\""), RCAP_SECCOMP_NOTIFY,
		  "linux.seccomp.listenerPath");
	check_one(SECCOMP("\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"]"), RCAP_SECCOMP_FLAGS,
		  "linux.seccomp.flags[0]");
	check_one(SECCOMP("\"flags\":[\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]"),
		  RCAP_SECCOMP_WAIT_KILLABLE, "linux.seccomp.flags[0]");
}

/* What the node gives to all is another need than what a container asks for. */
static void test_node_profiles(void)
{
	const struct needs_facts f = {.seccomp_default = true, .apparmor_default = true};
	struct needs n = of("{\"process\":{\"apparmorProfile\":\"x\"},\"linux\":{\"seccomp\":{"
			    "\"defaultAction\":\"SCMP_ACT_LOG\"}}}",
			    &f);

	CHECK(n.bits & RCAP_BIT(RCAP_SECCOMP_DEFAULT) && n.bits & RCAP_BIT(RCAP_APPARMOR_DEFAULT));
	CHECK(!(n.bits & (RCAP_BIT(RCAP_SECCOMP) | RCAP_BIT(RCAP_SECCOMP_LOG))));
	CHECK(!(n.bits & RCAP_BIT(RCAP_APPARMOR)));
}

static void test_rest(void)
{
	check_one("{\"process\":{\"terminal\":true}}", RCAP_TERMINAL, "process.terminal");
	check_one("{\"process\":{\"terminal\":\"true\"}}", RCAP_TERMINAL, "");
	check_one("{\"process\":{\"capabilities\":{\"ambient\":[\"CAP_KILL\"]}}}",
		  RCAP_AMBIENT_CAPS, "process.capabilities.ambient");
	check_one("{\"process\":{\"apparmorProfile\":\"x\"}}", RCAP_APPARMOR,
		  "process.apparmorProfile");
	check_one("{\"process\":{\"apparmorProfile\":\"unconfined\"}}", RCAP_APPARMOR, "");
	check_one("{\"process\":{\"selinuxLabel\":\"x\"}}", RCAP_SELINUX, "process.selinuxLabel");
	check_one("{\"process\":{\"scheduler\":{\"policy\":\"SCHED_FIFO\"}}}", RCAP_SCHEDULER,
		  "process.scheduler");
	check_one("{\"linux\":{\"mountLabel\":\"x\"}}", RCAP_SELINUX, "linux.mountLabel");
	check_one("{\"linux\":{\"intelRdt\":{}}}", RCAP_INTEL_RDT, "linux.intelRdt");
	check_one("{\"linux\":{\"netDevices\":{}}}", RCAP_NET_DEVICES, "");
	check_one("{\"linux\":{\"netDevices\":{\"eth0\":{}}}}", RCAP_NET_DEVICES,
		  "linux.netDevices");
	check_one("{\"linux\":{\"memoryPolicy\":{\"mode\":\"MPOL_BIND\"}}}", RCAP_MEMORY_POLICY,
		  "linux.memoryPolicy");
	check_one("{\"linux\":{\"devices\":[{\"path\":\"/dev/null\"},{\"path\":\"/dev/kvm\"}]}}",
		  RCAP_DEVICES, "linux.devices[1]");
	check_one("{\"linux\":{\"devices\":[{\"path\":\"/dev/null\"}]}}", RCAP_DEVICES, "");
	check_one("{\"linux\":{\"resources\":{\"unified\":{\"memory.high\":\"1\"}}}}", RCAP_UNIFIED,
		  "linux.resources.unified");
	check_one("{\"hooks\":{\"poststop\":[{\"path\":\"/x\"}]}}", RCAP_HOOK_POSTSTOP,
		  "hooks.poststop");
	check_one("{\"hooks\":{\"poststop\":[]}}", RCAP_HOOK_POSTSTOP, "");
	check_one("[1,2]", RCAP_TERMINAL, "");
	check_one("null", RCAP_TERMINAL, "");
}

static uint64_t of_pod(struct needs_pod p)
{
	const struct needs_facts none = {0};
	struct needs n = NEEDS_NULL;

	needs_add_pod(&n, &p, &none);
	return n.bits & ~RCAP_BIT(RCAP_CGROUP_V1);
}

static void test_pods(void)
{
	CHECK(of_pod((struct needs_pod){0}) ==
	      (RCAP_BIT(RCAP_JOIN_NETWORK) | RCAP_BIT(RCAP_NEW_PID) | RCAP_BIT(RCAP_JOIN_IPC)));
	CHECK(of_pod((struct needs_pod){
		      .userns = true, .host_network = true, .shared_pid = true}) ==
	      (RCAP_BIT(RCAP_USERNS) | RCAP_BIT(RCAP_JOIN_USER) |
	       RCAP_BIT(RCAP_USERNS_HOST_NETWORK) | RCAP_BIT(RCAP_HOST_NETWORK) |
	       RCAP_BIT(RCAP_JOIN_PID) | RCAP_BIT(RCAP_JOIN_IPC)));
	CHECK(of_pod((struct needs_pod){
		      .host_network = true, .host_pid = true, .host_ipc = true}) ==
	      (RCAP_BIT(RCAP_HOST_NETWORK) | RCAP_BIT(RCAP_HOST_PID) | RCAP_BIT(RCAP_HOST_IPC)));
}

int main(void)
{
	TEST(plain);
	TEST(namespaces);
	TEST(mounts);
	TEST(seccomp);
	TEST(node_profiles);
	TEST(rest);
	TEST(pods);
	return test_done();
}
