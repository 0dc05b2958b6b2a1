/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of containers in a user namespace. */
#include <sys/mount.h>

#include "base/mem.h"
#include "base/test.h"
#include "spec/spec.h"
#include "wire/json.h"

static const struct image_config image = {
	.cmd = {(char *[]){(char *)"cmd"}, 1, 1},
	.user = (char *)"",
	.working_dir = (char *)"",
	.stop_signal = (char *)"",
};

/* A pod with a mapping of so many ids, and one container of it. */
struct fixture {
	Runtime__V1__PodSandboxConfig pod;
	Runtime__V1__PodSandboxMetadata pod_metadata;
	Runtime__V1__LinuxPodSandboxConfig linux_pod;
	Runtime__V1__LinuxSandboxSecurityContext security;
	Runtime__V1__NamespaceOption namespaces;
	Runtime__V1__UserNamespace userns;
	Runtime__V1__IDMapping uid, gid, *uids[1], *gids[1];
	Runtime__V1__ContainerConfig container;
	Runtime__V1__ContainerMetadata metadata;
	struct spec_host host;
	struct spec_user user;
	struct spec_binds binds;
	struct spec_container s;
	struct strbuf text;
};

static void init(struct fixture *f, uint32_t length)
{
	*f = (struct fixture){
		.pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT,
		.pod_metadata = RUNTIME__V1__POD_SANDBOX_METADATA__INIT,
		.linux_pod = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT,
		.security = RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT,
		.namespaces = RUNTIME__V1__NAMESPACE_OPTION__INIT,
		.userns = RUNTIME__V1__USER_NAMESPACE__INIT,
		.uid = RUNTIME__V1__IDMAPPING__INIT,
		.gid = RUNTIME__V1__IDMAPPING__INIT,
		.container = RUNTIME__V1__CONTAINER_CONFIG__INIT,
		.metadata = RUNTIME__V1__CONTAINER_METADATA__INIT,
		.text = STRBUF_NULL,
	};
	f->uid.host_id = 100000;
	f->gid.host_id = 200000;
	f->uid.length = f->gid.length = length;
	f->uids[0] = &f->uid;
	f->gids[0] = &f->gid;
	f->userns.uids = f->uids;
	f->userns.gids = f->gids;
	f->userns.n_uids = f->userns.n_gids = 1;
	f->namespaces.userns_options = &f->userns;
	f->security.namespace_options = &f->namespaces;
	f->linux_pod.security_context = &f->security;
	f->pod.linux = &f->linux_pod;
	f->pod.metadata = &f->pod_metadata;
	f->container.metadata = &f->metadata;
	f->s = (struct spec_container){
		.pod = &f->pod,
		.config = &f->container,
		.image = &image,
		.user = &f->user,
		.host = &f->host,
		.pod_id = "p",
		.id = "c",
		.image_name = "i",
		.hostname = "h",
		.netns = "/net",
		.ipcns = "/ipc",
		.utsns = "/uts",
		.pidns = "",
		.userns = "/user",
		.binds_dir = "/binds",
		.binds = &f->binds,
		.own_pidns = true,
		.cgroups_path = "/g",
	};
}

static void fini(struct fixture *f)
{
	spec_binds_fini(&f->binds);
	strbuf_fini(&f->text);
}

static bool has(const struct fixture *f, const char *text)
{
	return strstr(f->text.s, text) != NULL;
}

static void test_namespace(void)
{
	struct fixture f;
	struct err e = ERR_NULL;
	jv *doc = NULL;

	init(&f, 65536);
	CHECK_INT(spec_container_print(&f.s, &f.text, &e), 0);
	CHECK_INT(jv_parse(f.text.s, f.text.len, SIZE_MAX, "config.json", &doc, &e), 0);
	CHECK(has(&f, "{\"type\":\"user\",\"path\":\"/user\"}"));
	CHECK(has(&f, "\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}]"));
	CHECK(has(&f, "\"gidMappings\":[{\"containerID\":0,\"hostID\":200000,\"size\":65536}]"));
	CHECK(has(&f, "\"gid=5\""));
	CHECK(has(&f, "\"type\":\"sysfs\""));
	CHECK_INT(f.binds.n, 0);
	jv_free(doc);
	fini(&f);
}

/* The group of terminals is not in it; sysfs of the node's network cannot be mounted. */
static void test_small_in_the_nodes_network(void)
{
	struct fixture f;
	struct err e = ERR_NULL;

	init(&f, 5);
	f.s.netns = "";
	CHECK_INT(spec_container_print(&f.s, &f.text, &e), 0);
	CHECK(!has(&f, "\"gid=5\""));
	CHECK(!has(&f, "\"type\":\"sysfs\""));
	CHECK_INT(f.binds.n, 1);
	CHECK_STR(f.binds.v[0].source, "/sys");
	CHECK(f.binds.v[0].deep && !f.binds.v[0].mapped);
	CHECK(f.binds.v[0].set & MOUNT_ATTR_RDONLY);
	fini(&f);
}

static void test_binds(void)
{
	Runtime__V1__Mount a = RUNTIME__V1__MOUNT__INIT, b = RUNTIME__V1__MOUNT__INIT;
	Runtime__V1__Mount *mounts[] = {&a, &b};
	char *options[] = {(char *)"noatime", (char *)"nosuid", (char *)"suid", (char *)"noexec"};
	struct fixture f;
	struct err e = ERR_NULL;

	init(&f, 65536);
	a.container_path = (char *)"/outer/inner";
	a.host_path = (char *)"/x";
	a.uidmappings = f.uids;
	a.n_uidmappings = 1;
	a.mount_options = options;
	a.n_mount_options = 4;
	b.container_path = (char *)"/outer";
	b.host_path = (char *)"/y";
	b.readonly = b.recursive_read_only = true;
	f.container.mounts = mounts;
	f.container.n_mounts = 2;
	f.s.shm = "/pod/shm";
	CHECK_INT(spec_container_print(&f.s, &f.text, &e), 0);
	CHECK_INT(f.binds.n, 3); /* in the order of config.json: /dev/shm, the outer, the inner */
	CHECK_STR(f.binds.v[0].source, "/pod/shm");
	CHECK_STR(f.binds.v[1].source, "/y");
	CHECK(f.binds.v[1].deep && !f.binds.v[1].mapped);
	CHECK_INT(f.binds.v[1].set, MOUNT_ATTR_RDONLY);
	CHECK(f.binds.v[2].mapped);
	CHECK_INT(f.binds.v[2].set, MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOEXEC);
	CHECK_INT(f.binds.v[2].clear, MOUNT_ATTR__ATIME | MOUNT_ATTR_NOSUID);
	CHECK(has(&f, "{\"destination\":\"/outer\",\"type\":\"bind\",\"source\":\"/binds/1\","
		      "\"options\":[\"rbind\",\"rprivate\"]}"));
	CHECK(!has(&f, "\"/x\"") && !has(&f, "\"/y\""));
	fini(&f);
}

/* In any pod they are made by the caller; what they are stands in config.json too where the
 * runtime could change it. */
static void test_images(void)
{
	Runtime__V1__Mount a = RUNTIME__V1__MOUNT__INIT, b = RUNTIME__V1__MOUNT__INIT;
	Runtime__V1__Mount *mounts[] = {&a, &b};
	Runtime__V1__ImageSpec name = RUNTIME__V1__IMAGE_SPEC__INIT,
			       none = RUNTIME__V1__IMAGE_SPEC__INIT;
	char *options[] = {(char *)"noexec", (char *)"suid"};

	name.image = (char *)"i";
	a.container_path = (char *)"/a";
	a.image = &name;
	a.readonly = true;
	a.mount_options = options;
	a.n_mount_options = 2;
	b.container_path = (char *)"/b";
	b.host_path = (char *)"/y";
	b.image = &none;
	for (unsigned mapped = 0; mapped < 2; mapped++) {
		struct fixture f;
		struct err e = ERR_NULL;

		init(&f, 65536);
		if (!mapped)
			f.s.userns = "";
		a.uidmappings = f.uids;
		a.n_uidmappings = mapped;
		f.container.mounts = mounts;
		f.container.n_mounts = 2;
		CHECK_INT(spec_container_print(&f.s, &f.text, &e), 0);
		CHECK_INT(f.binds.n, 1 + mapped); /* the other is the host's */
		CHECK(f.binds.v[0].image == &a && f.binds.v[0].mapped == mapped);
		CHECK_STR(f.binds.v[0].source, "");
		CHECK_INT(f.binds.v[0].set,
			  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		CHECK(has(&f, mapped ? "\"/binds/0\",\"options\":[\"rbind\",\"rprivate\"]"
				     : "\"/binds/0\",\"options\":[\"rbind\",\"rprivate\",\"ro\","
				       "\"noexec\",\"nodev\"]"));
		fini(&f);
	}
}

static void test_user(void)
{
	uint32_t groups[] = {0, 9};
	struct fixture f;
	struct err e = ERR_NULL;

	init(&f, 10);
	f.user = (struct spec_user){.uid = 9, .groups = groups, .n_groups = 2};
	CHECK_INT(spec_user_check(&f.user, &f.pod, &e), 0);
	groups[1] = 10;
	CHECK_INT(spec_user_check(&f.user, &f.pod, &e), -EINVAL);
	CHECK(strstr(e.msg, "group 10"));
	f.user.uid = 10;
	CHECK_INT(spec_user_check(&f.user, &f.pod, &e), -EINVAL);
	CHECK(strstr(e.msg, "user 10"));
	f.userns.mode = RUNTIME__V1__NAMESPACE_MODE__NODE;
	CHECK_INT(spec_user_check(&f.user, &f.pod, &e), 0);
	fini(&f);
}

int main(void)
{
	TEST(namespace);
	TEST(small_in_the_nodes_network);
	TEST(binds);
	TEST(images);
	TEST(user);
	return test_done();
}
