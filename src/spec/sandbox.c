/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of a pod's sandbox container: see spec.h. */
#include "base/mem.h"
#include "spec/resources.h"

static void print_namespace(struct jw *w, const char *type, const char *path)
{
	jw_object_begin(w);
	jw_key_string(w, "type", type);
	if (!str_empty(path))
		jw_key_string(w, "path", path);
	jw_object_end(w);
}

static void print_mount(struct jw *w, const char *type, const char *where, const char *options)
{
	jw_object_begin(w);
	jw_key_string(w, "destination", where);
	jw_key_string(w, "type", type);
	jw_key_string(w, "source", type);
	jw_key(w, "options");
	jw_raw(w, options);
	jw_object_end(w);
}

static void print_process(struct jw *w)
{
	jw_key_object(w, "process");
	jw_key_string(w, "cwd", "/");
	jw_key(w, "args");
	jw_raw(w, "[\"/init\",\"--init\"]");
	jw_key(w, "env");
	jw_raw(w, "[\"PATH=/\"]");
	jw_key(w, "user");
	jw_raw(w, "{\"uid\":0,\"gid\":0}");
	jw_key_bool(w, "noNewPrivileges", true);
	jw_key_object(w, "capabilities"); /* none */
	jw_object_end(w);
	jw_object_end(w);
}

static int64_t sum(int64_t a, int64_t b)
{
	return a > 0 && b > 0 ? a + b : a > 0 ? a : 0; /* the overhead alone is no limit */
}

/* What the pod may use in all, with its overhead: of its containers' own limits a runtime that
 * sandboxes them together may keep none. */
static void print_resources(const Runtime__V1__PodSandboxConfig *pod, const struct spec_host *host,
			    struct jw *w)
{
	const Runtime__V1__LinuxContainerResources *over = pod->linux ? pod->linux->overhead : NULL;
	Runtime__V1__LinuxContainerResources r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;

	if (pod->linux && pod->linux->resources)
		r = *pod->linux->resources;
	if (over) {
		r.memory_limit_in_bytes = sum(r.memory_limit_in_bytes, over->memory_limit_in_bytes);
		r.memory_swap_limit_in_bytes =
			sum(r.memory_swap_limit_in_bytes, over->memory_limit_in_bytes);
		if (r.cpu_period == over->cpu_period)
			r.cpu_quota = sum(r.cpu_quota, over->cpu_quota);
		r.cpu_shares = sum(r.cpu_shares, over->cpu_shares);
	}
	jw_key_object(w, "resources");
	spec_resources_members(w, &r, NULL, host);
	jw_object_end(w);
}

void spec_sandbox_print(const struct spec_sandbox *s, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "ociVersion", "1.0.2");
	if (*s->pod->hostname)
		jw_key_string(&w, "hostname", s->pod->hostname);
	print_process(&w);
	jw_key(&w, "root");
	jw_raw(&w, "{\"path\":\"rootfs\",\"readonly\":true}");
	jw_key_array(&w, "mounts");
	print_mount(&w, "proc", "/proc", "[\"nosuid\",\"noexec\",\"nodev\"]");
	print_mount(&w, "tmpfs", "/dev",
		    "[\"nosuid\",\"strictatime\",\"mode=755\",\"size=65536k\"]");
	jw_array_end(&w);
	spec_sandbox_annotations_print(s, &w);
	jw_key_object(&w, "linux");
	jw_key_array(&w, "namespaces");
	print_namespace(&w, "mount", NULL);
	print_namespace(&w, "pid", s->pidns);
	print_namespace(&w, "network", s->netns);
	print_namespace(&w, "ipc", s->ipcns);
	print_namespace(&w, "uts", NULL); /* its own, which has the hostname above */
	jw_array_end(&w);
	jw_key_string(&w, "cgroupsPath", s->cgroups_path);
	print_resources(s->pod, s->host, &w);
	jw_object_end(&w);
	jw_object_end(&w);
}
