/* SPDX-License-Identifier: Apache-2.0 */
/* linux.resources: from CRI's to OCI's (config-linux.md, Control groups). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "spec/resources.h"

#define CPU_PERIOD_DEFAULT 100000 /* microseconds; the kernel's own */

#define SWAP_MAX "memory.swap.max" /* cgroup v2's file for the limit of swap alone */

static bool has_unified(const Runtime__V1__LinuxContainerResources *r, const char *key)
{
	for (size_t i = 0; r && i < r->n_unified; i++)
		if (streq(r->unified[i]->key, key))
			return true;
	return false;
}

/*
 * The limit of memory and swap together, 0: nothing is said.  Without a word on swap there is
 * none, the limit of both is that of memory; a word that was said before holds as long as it can,
 * and the kernel's own file of it goes before the sum.
 */
static int64_t swap_of(const Runtime__V1__LinuxContainerResources *r,
		       const Runtime__V1__LinuxContainerResources *in_force,
		       const struct spec_host *host)
{
	int64_t swap = r->memory_swap_limit_in_bytes;

	if (!host->swap || has_unified(r, SWAP_MAX))
		return 0;
	if (swap || r->memory_limit_in_bytes <= 0)
		return swap;
	if (has_unified(in_force, SWAP_MAX))
		return 0;
	swap = in_force ? in_force->memory_swap_limit_in_bytes : 0;
	return swap < 0 ? swap : MAX(swap, r->memory_limit_in_bytes);
}

static void print_memory(struct jw *w, const Runtime__V1__LinuxContainerResources *r, int64_t swap)
{
	if (!r->memory_limit_in_bytes && !swap)
		return;
	jw_key_object(w, "memory");
	if (r->memory_limit_in_bytes)
		jw_key_int(w, "limit", r->memory_limit_in_bytes);
	if (swap)
		jw_key_int(w, "swap", swap);
	jw_object_end(w);
}

/* Of quota and period runtimes want both: crun leaves systemd's unit as it was without one. */
static void print_bandwidth(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			    const Runtime__V1__LinuxContainerResources *in_force)
{
	int64_t quota = r->cpu_quota, period = r->cpu_period;

	if (in_force && (quota || period)) {
		quota = quota ? quota : in_force->cpu_quota;
		period = period ? period : in_force->cpu_period;
	}
	if (quota && !period)
		period = CPU_PERIOD_DEFAULT;
	if (quota)
		jw_key_int(w, "quota", quota);
	if (period)
		jw_key_int(w, "period", period);
}

static void print_cpu(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
		      const Runtime__V1__LinuxContainerResources *in_force)
{
	jw_key_object(w, "cpu");
	if (r->cpu_shares)
		jw_key_int(w, "shares", r->cpu_shares);
	print_bandwidth(w, r, in_force);
	if (!str_empty(r->cpuset_cpus))
		jw_key_string(w, "cpus", r->cpuset_cpus);
	if (!str_empty(r->cpuset_mems))
		jw_key_string(w, "mems", r->cpuset_mems);
	jw_object_end(w);
}

/* In the kernel's terms, swap alone: crun gives systemd the sum for it. */
static void print_swap_max(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			   int64_t swap)
{
	char text[32] = "max";

	if (swap > 0)
		snprintf(text, sizeof(text), "%" PRId64, swap - r->memory_limit_in_bytes);
	jw_key_string(w, SWAP_MAX, text);
}

static void print_unified(struct jw *w, const Runtime__V1__LinuxContainerResources *r, int64_t swap)
{
	if (!r->n_unified && !swap)
		return;
	jw_key_object(w, "unified");
	if (swap)
		print_swap_max(w, r, swap);
	for (size_t i = 0; i < r->n_unified; i++)
		jw_key_string(w, r->unified[i]->key, r->unified[i]->value);
	jw_object_end(w);
}

void spec_resources_members(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			    const Runtime__V1__LinuxContainerResources *in_force,
			    const struct spec_host *host)
{
	int64_t swap = swap_of(r, in_force, host);

	print_memory(w, r, host->cgroup_v2 ? 0 : swap);
	print_cpu(w, r, in_force);
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
	if (host->cgroup_v2)
		print_unified(w, r, swap);
}

/* Of a cgroup file's value; what is not a plain number (a suffix, say) is the file's alone. */
static bool limit_of(const char *text, uint64_t *ret)
{
	char *end;

	*ret = UINT64_MAX;
	if (streq(text, "max"))
		return true;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && errno == 0;
}

/* Whole per cents, in which systemd keeps it; rounded up, as runtimes do it. */
static void quota_property(int64_t quota, int64_t period, spec_property_fn *fn, void *arg)
{
	uint64_t us = (uint64_t)quota * 1000000 / (uint64_t)period;

	fn(arg, "CPUQuotaPerSecUSec", (us + 9999) / 10000 * 10000);
	fn(arg, "CPUQuotaPeriodUSec", (uint64_t)period);
}

void spec_unit_properties(const Runtime__V1__LinuxContainerResources *r,
			  const struct spec_host *host, int64_t pids_limit, spec_property_fn *fn,
			  void *arg)
{
	static const char *const names[][2] = {
		{"memory.min", "MemoryMin"},   {"memory.low", "MemoryLow"},
		{"memory.high", "MemoryHigh"}, {"memory.max", "MemoryMax"},
		{"io.weight", "IOWeight"},     {SWAP_MAX, "MemorySwapMax"},
		{"pids.max", "TasksMax"}};
	int64_t swap = r ? swap_of(r, NULL, host) : 0;
	uint64_t v;

	if (!host->cgroup_v2 || !host->cgroup_systemd)
		return;
	if (r && r->memory_limit_in_bytes > 0 && !has_unified(r, "memory.max"))
		fn(arg, "MemoryMax", (uint64_t)r->memory_limit_in_bytes);
	if (swap)
		fn(arg, "MemorySwapMax",
		   swap > 0 ? (uint64_t)(swap - r->memory_limit_in_bytes) : UINT64_MAX);
	if (r && r->cpu_quota > 0 && !has_unified(r, "cpu.max"))
		quota_property(r->cpu_quota, r->cpu_period ? r->cpu_period : CPU_PERIOD_DEFAULT, fn,
			       arg);
	if (pids_limit > 0 && !has_unified(r, "pids.max"))
		fn(arg, "TasksMax", (uint64_t)pids_limit);
	for (size_t i = 0; r && i < r->n_unified; i++)
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			if (streq(r->unified[i]->key, names[k][0]) &&
			    limit_of(r->unified[i]->value, &v))
				fn(arg, names[k][1], v);
}

void spec_resources_print(const Runtime__V1__LinuxContainerResources *r,
			  const Runtime__V1__LinuxContainerResources *in_force,
			  const struct spec_host *host, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	spec_resources_members(&w, r, in_force, host);
	jw_object_end(&w);
}

/* The files that either names, with the value of `with` where both do. */
static void merge_unified(Runtime__V1__LinuxContainerResources *r,
			  const Runtime__V1__LinuxContainerResources *with, struct arena *a)
{
	Runtime__V1__LinuxContainerResources all = *r;

	all.unified = arena_calloc(a, r->n_unified + with->n_unified, sizeof(*all.unified));
	all.n_unified = 0;
	for (size_t i = 0; i < r->n_unified; i++)
		if (!has_unified(with, r->unified[i]->key))
			all.unified[all.n_unified++] = r->unified[i];
	for (size_t i = 0; i < with->n_unified; i++)
		all.unified[all.n_unified++] = with->unified[i];
	*r = all;
}

void spec_resources_merge(Runtime__V1__LinuxContainerResources *r,
			  const Runtime__V1__LinuxContainerResources *with, struct arena *a)
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
	if (with->n_unified)
		merge_unified(r, with, a);
}
