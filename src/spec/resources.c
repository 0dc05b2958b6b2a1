/* SPDX-License-Identifier: Apache-2.0 */
/* linux.resources: from CRI's to OCI's (config-linux.md, Control groups). */
#include "base/mem.h"
#include "spec/resources.h"

static void print_memory(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			 const struct spec_host *host)
{
	int64_t swap = r->memory_swap_limit_in_bytes;

	if (!r->memory_limit_in_bytes && !swap)
		return;
	/* Without a word on swap there is none: the limit of both is that of memory. */
	if (!swap && r->memory_limit_in_bytes > 0)
		swap = r->memory_limit_in_bytes;
	jw_key_object(w, "memory");
	if (r->memory_limit_in_bytes)
		jw_key_int(w, "limit", r->memory_limit_in_bytes);
	if (host->swap && swap)
		jw_key_int(w, "swap", swap);
	jw_object_end(w);
}

static void print_cpu(struct jw *w, const Runtime__V1__LinuxContainerResources *r)
{
	jw_key_object(w, "cpu");
	if (r->cpu_shares)
		jw_key_int(w, "shares", r->cpu_shares);
	if (r->cpu_quota)
		jw_key_int(w, "quota", r->cpu_quota);
	if (r->cpu_period)
		jw_key_int(w, "period", r->cpu_period);
	if (!str_empty(r->cpuset_cpus))
		jw_key_string(w, "cpus", r->cpuset_cpus);
	if (!str_empty(r->cpuset_mems))
		jw_key_string(w, "mems", r->cpuset_mems);
	jw_object_end(w);
}

void spec_resources_members(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			    const struct spec_host *host)
{
	print_memory(w, r, host);
	print_cpu(w, r);
	if (r->n_hugepage_limits && host->hugetlb) {
		jw_key_array(w, "hugepageLimits");
		for (size_t i = 0; i < r->n_hugepage_limits; i++) {
			jw_object_begin(w);
			jw_key_string(w, "pageSize", r->hugepage_limits[i]->page_size);
			jw_key_uint(w, "limit", r->hugepage_limits[i]->limit);
			jw_object_end(w);
		}
		jw_array_end(w);
	}
	if (r->n_unified && host->cgroup_v2) {
		jw_key_object(w, "unified");
		for (size_t i = 0; i < r->n_unified; i++)
			jw_key_string(w, r->unified[i]->key, r->unified[i]->value);
		jw_object_end(w);
	}
}

void spec_resources_print(const Runtime__V1__LinuxContainerResources *r,
			  const struct spec_host *host, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	spec_resources_members(&w, r, host);
	jw_object_end(&w);
}

void spec_resources_merge(Runtime__V1__LinuxContainerResources *r,
			  const Runtime__V1__LinuxContainerResources *with)
{
#define MERGE(member) r->member = with->member ? with->member : r->member
	MERGE(cpu_period);
	MERGE(cpu_quota);
	MERGE(cpu_shares);
	MERGE(memory_limit_in_bytes);
	MERGE(memory_swap_limit_in_bytes);
	MERGE(oom_score_adj);
#undef MERGE
	if (!str_empty(with->cpuset_cpus))
		r->cpuset_cpus = with->cpuset_cpus;
	if (!str_empty(with->cpuset_mems))
		r->cpuset_mems = with->cpuset_mems;
	if (with->n_hugepage_limits) {
		r->n_hugepage_limits = with->n_hugepage_limits;
		r->hugepage_limits = with->hugepage_limits;
	}
	if (with->n_unified) {
		r->n_unified = with->n_unified;
		r->unified = with->unified;
	}
}
