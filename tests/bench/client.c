/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark's client: a small CRI caller that is the same for every server, and whose own
 * cost (some 20 us a call) does not hide what it measures.
 *
 *   bench-client SOCKET lives N PARALLEL EXECS      whole lives of pods; one line each
 *   bench-client SOCKET fill N PARALLEL             pods with one running container; they stay
 *   bench-client SOCKET empty PARALLEL              stops and removes every pod
 *   bench-client SOCKET reads N                     every reading call N times
 *   bench-client SOCKET execs N PARALLEL            N commands in the first container
 *   bench-client SOCKET lines N                     a container that writes so many lines
 *   bench-client SOCKET restart COUNT PROGRAM ARG.. starts the server, waits until it serves
 *   bench-client SOCKET pull IMAGE, drop IMAGE      PullImage, RemoveImage
 *   bench-client SOCKET load ARCHIVE                gantry's own call
 *
 * Output: a word that says what it is, then microseconds.  Progress and errors on stderr.
 * The pods' parent cgroup, log directory and image come from BENCH_CGROUP, BENCH_LOGS and
 * BENCH_IMAGE; BENCH_NAME begins the pods' names.  BENCH_SECCOMP: the server's default profile.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "api.pb-c.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "gantry.pb-c.h"
#include "wire/grpc_client.h"

#define CALL_TIMEOUT (120 * USEC_PER_SEC)
#define SERVE_TIMEOUT (60 * USEC_PER_SEC)
#define RETRY_US 200
#define PODS_MAX 4096

static const char *address;
static struct grpc_client *client;

static _Noreturn void die(const char *what, const struct err *e)
{
	fprintf(stderr, "bench-client: %s: %s\n", what, e ? e->msg : "failed");
	exit(1);
}

static const char *setting(const char *name)
{
	const char *v = getenv(name);

	if (!v)
		die(name, NULL);
	return v;
}

/* --- calls --- */

/* Packs, calls, unpacks; `ret` may be NULL.  Returns the microseconds it took. */
static uint64_t call_service(const char *service, const char *method,
			     const ProtobufCMessage *request,
			     const ProtobufCMessageDescriptor *reply, ProtobufCMessage **ret)
{
	size_t n = protobuf_c_message_get_packed_size(request);
	_cleanup_free_ uint8_t *bytes = xmalloc(n + 1);
	_cleanup_free_ char *path = xasprintf("/runtime.v1.%s/%s", service, method);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	uint64_t t;

	protobuf_c_message_pack(request, bytes);
	t = clock_mono_us();
	if (grpc_client_call(client, path, bytes, n, CALL_TIMEOUT, &b, &e) < 0)
		die(method, &e);
	t = clock_mono_us() - t;
	if (ret) {
		*ret = protobuf_c_message_unpack(reply, NULL, b.len, (uint8_t *)b.s);
		if (!*ret)
			die(method, NULL);
	}
	return t;
}

static uint64_t call(const char *method, const ProtobufCMessage *request,
		     const ProtobufCMessageDescriptor *reply, ProtobufCMessage **ret)
{
	return call_service("RuntimeService", method, request, reply, ret);
}

static void connect_server(void)
{
	struct err e = ERR_NULL;

	if (grpc_client_connect(address, &client, &e) < 0)
		die(address, &e);
}

/* --- one pod --- */

struct pod {
	char name[64], log[256];
	char id[128], container[128];
	Runtime__V1__PodSandboxMetadata metadata;
	Runtime__V1__NamespaceOption namespaces;
	Runtime__V1__LinuxSandboxSecurityContext security;
	Runtime__V1__LinuxPodSandboxConfig linux;
	Runtime__V1__PodSandboxConfig config;
};

static void pod_init(struct pod *p, unsigned n)
{
	snprintf(p->name, sizeof(p->name), "%s-%d-%u", setting("BENCH_NAME"), (int)getpid(), n);
	snprintf(p->log, sizeof(p->log), "%s/%s", setting("BENCH_LOGS"), p->name);
	runtime__v1__pod_sandbox_metadata__init(&p->metadata);
	runtime__v1__namespace_option__init(&p->namespaces);
	runtime__v1__linux_sandbox_security_context__init(&p->security);
	runtime__v1__linux_pod_sandbox_config__init(&p->linux);
	runtime__v1__pod_sandbox_config__init(&p->config);
	p->metadata.name = p->metadata.uid = p->name;
	p->metadata.namespace_ = (char *)"bench";
	p->namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	p->security.namespace_options = &p->namespaces;
	p->linux.cgroup_parent = (char *)setting("BENCH_CGROUP");
	p->linux.security_context = &p->security;
	p->config.metadata = &p->metadata;
	p->config.hostname = (char *)"bench";
	p->config.log_directory = p->log;
	p->config.linux = &p->linux;
}

static uint64_t run_pod(struct pod *p)
{
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	ProtobufCMessage *m;
	uint64_t t;

	q.config = &p->config;
	t = call("RunPodSandbox", &q.base, &runtime__v1__run_pod_sandbox_response__descriptor, &m);
	snprintf(p->id, sizeof(p->id), "%s",
		 ((Runtime__V1__RunPodSandboxResponse *)m)->pod_sandbox_id);
	protobuf_c_message_free_unpacked(m, NULL);
	return t;
}

/* `lines`: how many it writes before it ends; NULL: it waits. */
static uint64_t create_container(struct pod *p, char *lines)
{
	Runtime__V1__CreateContainerRequest q = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	Runtime__V1__ContainerMetadata metadata = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__LinuxContainerSecurityContext security =
		RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	Runtime__V1__SecurityProfile seccomp = RUNTIME__V1__SECURITY_PROFILE__INIT;
	Runtime__V1__LinuxContainerConfig linux = RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
	Runtime__V1__ContainerConfig c = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	char *command[] = {(char *)"/pause", (char *)"lines", lines};
	ProtobufCMessage *m;
	uint64_t t;

	metadata.name = (char *)"c";
	image.image = (char *)setting("BENCH_IMAGE");
	security.namespace_options = &p->namespaces;
	seccomp.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
	if (getenv("BENCH_SECCOMP"))
		security.seccomp = &seccomp;
	linux.security_context = &security;
	c.metadata = &metadata;
	c.image = &image;
	c.command = command;
	c.n_command = lines ? 3 : 1;
	c.log_path = (char *)"c.log";
	c.linux = &linux;
	q.pod_sandbox_id = p->id;
	q.config = &c;
	q.sandbox_config = &p->config;
	t = call("CreateContainer", &q.base, &runtime__v1__create_container_response__descriptor,
		 &m);
	snprintf(p->container, sizeof(p->container), "%s",
		 ((Runtime__V1__CreateContainerResponse *)m)->container_id);
	protobuf_c_message_free_unpacked(m, NULL);
	return t;
}

static uint64_t start_container(struct pod *p)
{
	Runtime__V1__StartContainerRequest q = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;

	q.container_id = p->container;
	return call("StartContainer", &q.base, NULL, NULL);
}

/* Until its first line is in its log. */
static uint64_t wait_up(const struct pod *p)
{
	_cleanup_free_ char *log = xasprintf("%s/c.log", p->log);
	uint64_t t = clock_mono_us();
	struct stat st;

	while (stat(log, &st) < 0 || !st.st_size) {
		if (clock_mono_us() - t > CALL_TIMEOUT)
			die("the container writes nothing", NULL);
		usleep(RETRY_US);
	}
	return clock_mono_us() - t;
}

static uint64_t exec_sync(const char *container)
{
	Runtime__V1__ExecSyncRequest q = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	char *command[] = {(char *)"/bin/true"};
	ProtobufCMessage *m;
	uint64_t t;

	q.container_id = (char *)container;
	q.cmd = command;
	q.n_cmd = 1;
	q.timeout = 60;
	t = call("ExecSync", &q.base, &runtime__v1__exec_sync_response__descriptor, &m);
	if (((Runtime__V1__ExecSyncResponse *)m)->exit_code != 0)
		die("ExecSync /bin/true: exit code is not 0", NULL);
	protobuf_c_message_free_unpacked(m, NULL);
	return t;
}

static uint64_t stop_container(struct pod *p)
{
	Runtime__V1__StopContainerRequest q = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;

	q.container_id = p->container;
	q.timeout = 30;
	return call("StopContainer", &q.base, NULL, NULL);
}

static uint64_t stop_pod(const char *id)
{
	Runtime__V1__StopPodSandboxRequest q = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;

	q.pod_sandbox_id = (char *)id;
	return call("StopPodSandbox", &q.base, NULL, NULL);
}

static uint64_t remove_pod(const char *id)
{
	Runtime__V1__RemovePodSandboxRequest q = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;

	q.pod_sandbox_id = (char *)id;
	return call("RemovePodSandbox", &q.base, NULL, NULL);
}

/* --- in parallel --- */

static void print_line(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (write(STDOUT_FILENO, line, (size_t)n) != n) /* one write: lines of many stay whole */
		die("write", NULL);
}

/* Calls fn(first..n step parallel) in `parallel` processes, each with its connection. */
static void in_parallel(unsigned n, unsigned parallel, void (*fn)(unsigned i))
{
	uint64_t t = clock_mono_us();
	bool failed = false;
	int st;

	for (unsigned w = 0; w < parallel; w++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork", NULL);
		if (pid > 0)
			continue;
		connect_server();
		for (unsigned i = w; i < n; i += parallel)
			fn(i);
		_exit(0);
	}
	while (wait(&st) > 0)
		failed |= st != 0;
	if (failed)
		exit(1);
	print_line("wall %llu\n", (unsigned long long)(clock_mono_us() - t));
}

static unsigned n_execs;

static void live(unsigned i)
{
	struct pod p = {0};
	unsigned long long run, create, start, up, stop, pod_stop, removed;

	pod_init(&p, i);
	run = run_pod(&p);
	create = create_container(&p, NULL);
	start = start_container(&p);
	up = wait_up(&p);
	for (unsigned k = 0; k < n_execs; k++)
		print_line("exec %llu\n", (unsigned long long)exec_sync(p.container));
	stop = stop_container(&p);
	pod_stop = stop_pod(p.id);
	removed = remove_pod(p.id);
	print_line("life %llu %llu %llu %llu %llu %llu %llu\n", run, create, start, up, stop,
		   pod_stop, removed);
}

static void settle(unsigned i)
{
	struct pod p = {0};

	pod_init(&p, i);
	run_pod(&p);
	create_container(&p, NULL);
	start_container(&p);
	print_line("container %s\n", p.container);
}

static char *ids[PODS_MAX];

static void end(unsigned i)
{
	stop_pod(ids[i]);
	remove_pod(ids[i]);
}

static unsigned list_pods(void)
{
	Runtime__V1__ListPodSandboxRequest q = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__ListPodSandboxResponse *r;
	unsigned n;

	call("ListPodSandbox", &q.base, &runtime__v1__list_pod_sandbox_response__descriptor,
	     (ProtobufCMessage **)&r);
	n = (unsigned)MIN(r->n_items, (size_t)PODS_MAX);
	for (unsigned i = 0; i < n; i++)
		ids[i] = xstrdup(r->items[i]->id);
	return n;
}

static void empty(unsigned parallel)
{
	unsigned n;

	connect_server();
	n = list_pods();
	client = grpc_client_free(client);
	in_parallel(n, parallel, end);
}

/* --- reads --- */

static char *first_container(void)
{
	Runtime__V1__ListContainersRequest q = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	Runtime__V1__ListContainersResponse *r;

	call("ListContainers", &q.base, &runtime__v1__list_containers_response__descriptor,
	     (ProtobufCMessage **)&r);
	return r->n_containers ? xstrdup(r->containers[0]->id) : NULL;
}

static void read_times(const char *method, const ProtobufCMessage *q, unsigned n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	call(method, q, NULL, NULL);
	for (unsigned i = 0; i < n; i++)
		strbuf_addf(&b, " %llu", (unsigned long long)call(method, q, NULL, NULL));
	printf("%s%s\n", method, b.s);
	fflush(stdout);
}

/* The peer may not have it. */
static bool has_method(const char *method)
{
	_cleanup_free_ char *path = xasprintf("/runtime.v1.RuntimeService/%s", method);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;

	return grpc_client_call(client, path, "", 0, CALL_TIMEOUT, &b, &e) == 0 ||
	       e.code != GRPC_UNIMPLEMENTED;
}

static void reads(unsigned n)
{
	Runtime__V1__VersionRequest version = RUNTIME__V1__VERSION_REQUEST__INIT;
	Runtime__V1__StatusRequest status = RUNTIME__V1__STATUS_REQUEST__INIT;
	Runtime__V1__ListPodSandboxRequest pods = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__ListContainersRequest ctrs = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	Runtime__V1__ListContainerStatsRequest cs = RUNTIME__V1__LIST_CONTAINER_STATS_REQUEST__INIT;
	Runtime__V1__ListPodSandboxStatsRequest ps =
		RUNTIME__V1__LIST_POD_SANDBOX_STATS_REQUEST__INIT;
	Runtime__V1__ListPodSandboxMetricsRequest metrics =
		RUNTIME__V1__LIST_POD_SANDBOX_METRICS_REQUEST__INIT;
	Runtime__V1__PodSandboxStatusRequest pod = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusRequest ctr = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;

	connect_server();
	read_times("Version", &version.base, n);
	read_times("Status", &status.base, n);
	read_times("ListPodSandbox", &pods.base, n);
	read_times("ListContainers", &ctrs.base, n);
	read_times("ListContainerStats", &cs.base, MIN(n, 20u));
	read_times("ListPodSandboxStats", &ps.base, MIN(n, 20u));
	if (has_method("ListPodSandboxMetrics"))
		read_times("ListPodSandboxMetrics", &metrics.base, MIN(n, 20u));
	if (!list_pods())
		return;
	pod.pod_sandbox_id = ids[0];
	ctr.container_id = first_container();
	read_times("PodSandboxStatus", &pod.base, n);
	read_times("ContainerStatus", &ctr.base, n);
}

/* --- commands --- */

static char *exec_in;

static void exec_one(unsigned i)
{
	(void)i;
	exec_sync(exec_in);
}

static void execs(unsigned n, unsigned parallel)
{
	connect_server();
	exec_in = first_container();
	client = grpc_client_free(client);
	if (!exec_in)
		die("there is no container", NULL);
	in_parallel(n, parallel, exec_one);
}

/* --- logs --- */

static bool has_ended(const char *container)
{
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *r;
	bool ended;

	q.container_id = (char *)container;
	call("ContainerStatus", &q.base, &runtime__v1__container_status_response__descriptor,
	     (ProtobufCMessage **)&r);
	ended = r->status->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	protobuf_c_message_free_unpacked(&r->base, NULL);
	return ended;
}

/* How many of its lines are in the log, whole and in their order: "TIME stdout F NUMBER xxx". */
static unsigned lines_in(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[512];
	unsigned n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		const char *text = strstr(line, " stdout F ");

		if (text && strtoul(text + 10, NULL, 10) == n && strlen(text + 10) == 100)
			n++;
	}
	if (f)
		fclose(f);
	return n;
}

#define LAST_LINES (5 * USEC_PER_SEC) /* after its end: some are still on their way */

static void write_lines(char *lines)
{
	_cleanup_free_ char *log = NULL;
	unsigned want = (unsigned)atoi(lines), have;
	struct pod p = {0};
	uint64_t t, ended;

	connect_server();
	pod_init(&p, 0);
	run_pod(&p);
	create_container(&p, lines);
	log = xasprintf("%s/c.log", p.log);
	t = clock_mono_us();
	start_container(&p);
	while (!has_ended(p.container)) {
		if (clock_mono_us() - t > CALL_TIMEOUT)
			die("the container does not end", NULL);
		usleep(10 * RETRY_US);
	}
	ended = clock_mono_us() - t;
	have = lines_in(log);
	for (uint64_t until = clock_mono_us() + LAST_LINES;
	     have < want && clock_mono_us() < until; have = lines_in(log))
		usleep(100 * RETRY_US);
	print_line("lines %llu %u\n", (unsigned long long)ended, want - have);
	stop_pod(p.id);
	remove_pod(p.id);
	unlink(log);
}

/* --- restart --- */

/* One try to list the pods: their number, or -1. */
static int try_list(void)
{
	Runtime__V1__ListPodSandboxResponse *r = NULL;
	struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	int n = -1;

	if (!client && grpc_client_connect(address, &client, &e) < 0)
		return -1;
	if (grpc_client_call(client, "/runtime.v1.RuntimeService/ListPodSandbox", "", 0,
			     CALL_TIMEOUT, &b, &e) == 0)
		r = runtime__v1__list_pod_sandbox_response__unpack(NULL, b.len, (uint8_t *)b.s);
	if (r) {
		n = (int)r->n_items;
		runtime__v1__list_pod_sandbox_response__free_unpacked(r, NULL);
	} else {
		client = grpc_client_free(client);
	}
	strbuf_fini(&b);
	return n;
}

static void restart(int count, char **argv)
{
	uint64_t t = clock_mono_us();
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		execv(argv[0], argv);
		_exit(127);
	}
	while (try_list() != count) {
		if (clock_mono_us() - t > SERVE_TIMEOUT)
			die("the server does not serve all of its pods", NULL);
		usleep(RETRY_US);
	}
	print_line("serving %llu\n", (unsigned long long)(clock_mono_us() - t));
	if (count > 0)
		exec_sync(first_container());
	print_line("exec %llu\n", (unsigned long long)(clock_mono_us() - t));
	print_line("pid %d\n", (int)pid);
}

/* --- images --- */

static void pull(char *name)
{
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__PullImageRequest q = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;

	image.image = name;
	q.image = &image;
	connect_server();
	printf("pull %llu\n", (unsigned long long)call_service("ImageService", "PullImage", &q.base,
							       NULL, NULL));
}

static void drop(char *name)
{
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__RemoveImageRequest q = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;

	image.image = name;
	q.image = &image;
	connect_server();
	call_service("ImageService", "RemoveImage", &q.base, NULL, NULL);
}

static void load(const char *archive)
{
	Gantry__V1__LoadRequest q = GANTRY__V1__LOAD_REQUEST__INIT;
	struct grpc_stream *s;
	struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;
	uint8_t bytes[512];
	int r;

	q.path = (char *)archive;
	if (gantry__v1__load_request__get_packed_size(&q) > sizeof(bytes))
		die(archive, NULL);
	connect_server();
	r = grpc_client_stream_open(client, "/gantry.v1.Gantry/Load", bytes,
				    gantry__v1__load_request__pack(&q, bytes), CALL_TIMEOUT, &s,
				    &e);
	while (r >= 0 && (r = grpc_client_stream_next(s, &b, &e)) > 0)
		;
	if (r < 0)
		die("Load", &e);
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[2] : "";
	unsigned a = argc > 3 ? (unsigned)atoi(argv[3]) : 0,
		 b = argc > 4 ? (unsigned)atoi(argv[4]) : 1;

	address = argc > 1 ? argv[1] : "";
	n_execs = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
	if (streq(what, "lives"))
		in_parallel(a, b, live);
	else if (streq(what, "fill"))
		in_parallel(a, b, settle);
	else if (streq(what, "empty"))
		empty(a);
	else if (streq(what, "reads"))
		reads(a);
	else if (streq(what, "execs"))
		execs(a, b);
	else if (streq(what, "lines"))
		write_lines(argv[3]);
	else if (streq(what, "load"))
		load(argv[3]);
	else if (streq(what, "pull"))
		pull(argv[3]);
	else if (streq(what, "drop"))
		drop(argv[3]);
	else if (streq(what, "restart") && argc > 4)
		restart((int)a, argv + 4);
	else
		return fputs("bench-client is started by tests/bench/run.\n", stderr), 2;
	return 0;
}
