/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests as they come: decoded, validated, and what is valid written as config.json.
 * The first byte says what the rest is.
 */
#include "base/fuzz.h"
#include "base/mem.h"
#include "cri/cri.h"
#include "cri/validate.h"
#include "spec/spec.h"
#include "wire/json.h"

static struct node node;
static struct config config;
static struct pod pod, user_pod; /* without a user namespace, with one */

static const ProtobufCMessageDescriptor *const messages[] = {
	&runtime__v1__run_pod_sandbox_request__descriptor,
	&runtime__v1__create_container_request__descriptor,
	&runtime__v1__update_container_resources_request__descriptor,
	&runtime__v1__exec_sync_request__descriptor,
	&runtime__v1__list_containers_request__descriptor,
	&runtime__v1__list_pod_sandbox_request__descriptor,
	&runtime__v1__pull_image_request__descriptor,
	&runtime__v1__update_runtime_config_request__descriptor,
	&runtime__v1__exec_request__descriptor,
	&runtime__v1__port_forward_request__descriptor,
};

/* What is of the pod, with a user namespace of 65536 ids. */
static Runtime__V1__PodSandboxConfig *with_userns(const Runtime__V1__PodSandboxConfig *base)
{
	static Runtime__V1__PodSandboxConfig c;
	static Runtime__V1__LinuxPodSandboxConfig l = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	static Runtime__V1__LinuxSandboxSecurityContext sc =
		RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
	static Runtime__V1__NamespaceOption o = RUNTIME__V1__NAMESPACE_OPTION__INIT;
	static Runtime__V1__UserNamespace u = RUNTIME__V1__USER_NAMESPACE__INIT;
	static Runtime__V1__IDMapping m = RUNTIME__V1__IDMAPPING__INIT, *ids[] = {&m};

	m.host_id = m.length = 65536;
	u.uids = u.gids = ids;
	u.n_uids = u.n_gids = 1;
	o.userns_options = &u;
	sc.namespace_options = &o;
	l.security_context = &sc;
	c = *base;
	c.linux = &l;
	return &c;
}

static void setup(void)
{
	struct config_flags flags = {.file = "/dev/null"};
	static Runtime__V1__PodSandboxConfig pod_config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	static Runtime__V1__PodSandboxMetadata metadata = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	static char none[] = "";

	FUZZ_ASSERT(config_load(&flags, &config, NULL) == 0);
	node.config = &config;
	node.has_rro = true;
	node.cgroup.v2 = true;
	pod_config.metadata = &metadata;
	pod_config.log_directory = (char *)(uintptr_t) "/var/log/pods/x";
	pod.node = &node;
	pod.config = &pod_config;
	pod.netns = pod.ipcns = pod.utsns = pod.pidns = pod.userns = none;
	user_pod = pod;
	user_pod.config = with_userns(&pod_config);
}

static const struct image_config image = {
	.entrypoint = {(char *[]){(char *)"/entry"}, 1, 1},
	.env = {(char *[]){(char *)"PATH=/bin"}, 1, 1},
	.user = (char *)"web:adm",
	.working_dir = (char *)"/srv",
	.stop_signal = (char *)"",
	.passwd = (char *)"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:w:/var/www:/x\n",
	.group = (char *)"root:x:0:\nadm:x:4:web,syslog\n",
};

/* What passed validation makes a document, or names what does not fit the image. */
static void print(const struct pod *p, const Runtime__V1__ContainerConfig *c)
{
	struct spec_binds binds = {0};
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;
	struct spec_user user = {0};
	struct spec_container s = {.config = c,
				   .pod = p->config,
				   .userns = p == &user_pod ? "/user" : "",
				   .binds = &binds,
				   .binds_dir = "/binds",
				   .image = &image,
				   .user = &user,
				   .host = &node.host,
				   .pod_id = "p",
				   .id = "c",
				   .image_name = "i",
				   .hostname = "h",
				   .netns = "/run/netns/x",
				   .ipcns = "",
				   .utsns = "",
				   .pidns = "",
				   .own_pidns = true,
				   .shm = "",
				   .resolv_conf = "",
				   .hostname_file = "",
				   .apparmor_default = "",
				   .cgroups_path = "/x"};
	struct err e = ERR_NULL;
	int r = spec_user_resolve(&image, c->linux ? c->linux->security_context : NULL, &user, &e);

	if (r == 0) {
		r = spec_container_print(&s, &b, &e);
		spec_user_fini(&user);
	}
	if (r == 0)
		FUZZ_ASSERT(jv_parse(b.s, b.len, SIZE_MAX, "config.json", &v, &e) == 0);
	else
		FUZZ_ASSERT(e.msg[0]);
	spec_binds_fini(&binds);
}

static void check_container(const struct pod *p, const Runtime__V1__CreateContainerRequest *c)
{
	struct err e = ERR_NULL;
	int r = validate_container(&node, p, c->config, c->sandbox_config, &e);

	FUZZ_ASSERT(r == 0 || (e.msg[0] && e.code != GRPC_OK && e.errnum == r));
	if (r == 0)
		print(p, c->config);
}

static void check(unsigned what, const ProtobufCMessage *m)
{
	const Runtime__V1__RunPodSandboxRequest *p = (const void *)m;
	const Runtime__V1__CreateContainerRequest *c = (const void *)m;
	const Runtime__V1__UpdateContainerResourcesRequest *u = (const void *)m;
	const Runtime__V1__ExecSyncRequest *x = (const void *)m;
	const Runtime__V1__ExecRequest *s = (const void *)m;
	const Runtime__V1__PortForwardRequest *f = (const void *)m;
	struct err e = ERR_NULL;
	int r = 0;

	if (what == 0 && p->config)
		r = validate_pod(&node, p->config, &e);
	else if (what == 2 && u->linux)
		r = validate_resources(&node, "linux", u->linux, &e);
	else if (what == 3)
		r = validate_command("cmd", x->cmd, x->n_cmd, &e);
	else if (what == 8)
		r = validate_streams(s->stdin, s->stdout, s->stderr, s->tty, &e);
	else if (what == 9)
		r = validate_ports("port", f->port, f->n_port, &e);
	FUZZ_ASSERT(r == 0 || (e.msg[0] && e.code != GRPC_OK && e.errnum == r));
	if (what == 1 && c->config) {
		check_container(&pod, c);
		check_container(&user_pod, c);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = ARENA_NULL;
	ProtobufCAllocator alloc = pod_allocator(&a);
	const ProtobufCMessageDescriptor *d;
	ProtobufCMessage *m;
	bool text;

	if (!node.config)
		setup();
	if (size < 1)
		return 0;
	d = messages[data[0] % ARRAY_SIZE(messages)];
	text = cri_check_text(d, data + 1, size - 1, NULL) == 0;
	m = protobuf_c_message_unpack(d, &alloc, size - 1, data + 1);
	if (m) {
		size_t n = protobuf_c_message_get_packed_size(m);
		uint8_t *again = arena_alloc(&a, n);

		FUZZ_ASSERT(protobuf_c_message_pack(m, again) == n);
		FUZZ_ASSERT(!text || cri_check_text(d, again, n, NULL) == 0);
		check(data[0] % ARRAY_SIZE(messages), m);
	}
	arena_fini(&a);
	return 0;
}
