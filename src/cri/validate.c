/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that pods and containers share, and resources: see validate.h. */
#include "cri/validate_internal.h"

int check_text(const char *field, const char *s, bool may_be_empty, size_t max, struct err *e)
{
	size_t n = strlen(s);

	if (n == 0 && !may_be_empty)
		return err_invalid(e, "%s: must not be empty", field);
	if (n > max)
		return err_invalid(e, "%s: %zu bytes, at most %zu are possible", field, n, max);
	if (!str_is_utf8(s, n))
		return err_invalid(e, "%s: is not UTF-8", field);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return err_invalid(e, "%s: holds a control character (0x%02x)", field,
					   (unsigned char)s[i]);
	return 0;
}

int check_name(const char *field, const char *s, struct err *e)
{
	int r = check_text(field, s, false, VALIDATE_NAME_MAX, e);

	if (r == 0 && strpbrk(s, "/;"))
		r = err_invalid(e, "%s: \"%s\" must not contain '%c'", field, s, *strpbrk(s, "/;"));
	return r;
}

int check_policy(const char *field, int policy, struct err *e)
{
	if (policy != RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Merge &&
	    policy != RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict)
		return err_invalid(e, "%s: %d, expected Merge or Strict", field, policy);
	return 0;
}

/* The older forms of the profiles: "", "runtime/default", "unconfined", "localhost/NAME". */
int check_old_profile(const char *field, const char *s, struct err *e)
{
	if (!*s || streq(s, "runtime/default") || streq(s, "docker/default") ||
	    streq(s, "unconfined") || (str_has_prefix(s, "localhost/") && s[strlen("localhost/")]))
		return 0;
	return err_invalid(e, "%s: \"%s\", expected runtime/default, unconfined or localhost/NAME",
			   field, s);
}

bool has_dot_dot(const char *p)
{
	while (*p) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return true;
		p += n + (p[n] == '/');
	}
	return false;
}

int check_path(const char *field, const char *s, bool may_be_empty, struct err *e)
{
	if (!*s && may_be_empty)
		return 0;
	if (!*s)
		return err_invalid(e, "%s: must not be empty", field);
	if (strlen(s) > VALIDATE_PATH_MAX)
		return err_invalid(e, "%s: %zu bytes, at most %d are possible", field, strlen(s),
				   VALIDATE_PATH_MAX);
	if (*s != '/')
		return err_invalid(e, "%s: \"%s\" is not absolute", field, s);
	if (has_dot_dot(s))
		return err_invalid(e, "%s: \"%s\" must not contain \"..\"", field, s);
	return 0;
}

int check_count(const char *field, size_t n, size_t max, struct err *e)
{
	if (n > max)
		return err_invalid(e, "%s: %zu entries, at most %zu are possible", field, n, max);
	return 0;
}

int check_map(const char *field, struct cri_map_entry *const *v, size_t n, struct err *e)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++) {
		const char *key = v[i]->key, *value = v[i]->value;

		if (!*key)
			return err_invalid(e, "%s: a key is empty", field);
		if (!str_is_utf8(key, strlen(key)) || !str_is_utf8(value, strlen(value)))
			return err_invalid(e, "%s: is not UTF-8", field);
		bytes += strlen(key) + strlen(value);
	}
	if (bytes > VALIDATE_MAP_BYTES_MAX)
		return err_invalid(e, "%s: %zu bytes in all, at most %u are possible", field, bytes,
				   VALIDATE_MAP_BYTES_MAX);
	return 0;
}

static int check_id(const char *field, const char *what, int64_t v, struct err *e)
{
	if (v < 0 || v > INT32_MAX)
		return err_invalid(e, "%s.%s: %" PRId64 ", expected 0 to %d", field, what, v,
				   INT32_MAX);
	return 0;
}

int check_ids(const char *field, const Runtime__V1__Int64Value *user,
	      const Runtime__V1__Int64Value *group, bool has_user_name, const int64_t *more,
	      size_t n_more, struct err *e)
{
	int r = user ? check_id(field, "run_as_user", user->value, e) : 0;

	if (r == 0 && group)
		r = check_id(field, "run_as_group", group->value, e);
	if (r == 0 && group && !user && !has_user_name)
		r = err_invalid(e, "%s.run_as_group: %" PRId64 " is given without a run_as_user",
				field, group->value);
	if (r == 0 && n_more > SPEC_GROUPS_MAX)
		r = err_invalid(e, "%s.supplemental_groups: %zu entries, at most %d are possible",
				field, n_more, SPEC_GROUPS_MAX);
	for (size_t i = 0; r == 0 && i < n_more; i++)
		r = check_id(field, "supplemental_groups", more[i], e);
	return r;
}

static int check_localhost(const char *field, const char *ref, bool is_path, struct err *e)
{
	_cleanup_free_ char *full = xasprintf("%s.localhost_ref", field);

	if (str_empty(ref))
		return err_invalid(e, "%s: must not be empty (profile_type is Localhost)", full);
	return is_path ? check_path(full, ref, false, e)
		       : check_text(full, ref, false, VALIDATE_PATH_MAX, e);
}

int check_profile(const char *field, const Runtime__V1__SecurityProfile *p, bool is_path,
		  struct err *e)
{
	if (!p)
		return 0;
	switch (p->profile_type) {
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault:
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined:
		if (!str_empty(p->localhost_ref))
			return err_invalid(e,
					   "%s.localhost_ref: \"%s\" is given, but profile_type is "
					   "not Localhost",
					   field, p->localhost_ref);
		return 0;
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost:
		return check_localhost(field, p->localhost_ref, is_path, e);
	default:
		return err_invalid(e,
				   "%s.profile_type: %d, expected RuntimeDefault, Unconfined or "
				   "Localhost",
				   field, (int)p->profile_type);
	}
}

int check_selinux(const char *field, const Runtime__V1__SELinuxOption *o, struct err *e)
{
	const char *const v[][2] = {{"user", o ? o->user : ""},
				    {"role", o ? o->role : ""},
				    {"type", o ? o->type : ""},
				    {"level", o ? o->level : ""}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(v); i++) {
		_cleanup_free_ char *full = xasprintf("%s.%s", field, v[i][0]);

		r = check_text(full, v[i][1], true, VALIDATE_NAME_MAX, e);
		if (r == 0 && !streq(v[i][0], "level") && strchr(v[i][1], ':'))
			r = err_invalid(e, "%s: \"%s\" must not contain ':'", full, v[i][1]);
	}
	return r;
}

/* One range, as the kubelet gives it: from root up, none of the host's root. */
static int check_mapping(const char *field, const char *what, Runtime__V1__IDMapping *const *v,
			 size_t n, struct err *e)
{
	uint64_t end;

	if (n != 1)
		return err_invalid(e, "%s.%s: %zu mappings, expected 1 (mode is POD)", field, what,
				   n);
	if (v[0]->container_id != 0)
		return err_invalid(e, "%s.%s.container_id: %" PRIu32 ", expected 0", field, what,
				   v[0]->container_id);
	if (v[0]->host_id == 0)
		return err_invalid(e, "%s.%s.host_id: 0: root of the node cannot be mapped", field,
				   what);
	if (v[0]->length == 0)
		return err_invalid(e, "%s.%s.length: must not be 0", field, what);
	end = (uint64_t)v[0]->host_id + v[0]->length;
	if (end > UINT32_MAX) /* the last one, (uid_t)-1, is none */
		return err_invalid(e,
				   "%s.%s.length: %" PRIu32 " ids from %" PRIu32
				   " on pass the last "
				   "one, %" PRIu32,
				   field, what, v[0]->length, v[0]->host_id, UINT32_MAX - 1);
	return 0;
}

int check_userns(const char *field, const Runtime__V1__UserNamespace *u, struct err *e)
{
	int r;

	if (!u)
		return 0;
	if (u->mode == RUNTIME__V1__NAMESPACE_MODE__NODE)
		return u->n_uids || u->n_gids
			       ? err_invalid(e, "%s.%s: %zu mappings, expected none (mode is NODE)",
					     field, u->n_uids ? "uids" : "gids",
					     u->n_uids ? u->n_uids : u->n_gids)
			       : 0;
	if (u->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
		return err_invalid(e, "%s.mode: %d, expected POD or NODE", field, (int)u->mode);
	r = check_mapping(field, "uids", u->uids, u->n_uids, e);
	return r < 0 ? r : check_mapping(field, "gids", u->gids, u->n_gids, e);
}

bool same_mapping(Runtime__V1__IDMapping *const *a, size_t n_a, Runtime__V1__IDMapping *const *b,
		  size_t n_b)
{
	for (size_t i = 0; n_a == n_b && i < n_a; i++)
		if (a[i]->container_id != b[i]->container_id || a[i]->host_id != b[i]->host_id ||
		    a[i]->length != b[i]->length)
			return false;
	return n_a == n_b;
}

/* --- resources --- */

static int check_range(const char *field, const char *what, int64_t v, int64_t min, int64_t max,
		       struct err *e)
{
	if (v < min || v > max)
		return err_invalid(e, "%s.%s: %" PRId64 ", expected %" PRId64 " to %" PRId64, field,
				   what, v, min, max);
	return 0;
}

/* cpuset(7), list format: "0-3,7". */
static int check_cpuset(const char *field, const char *what, const char *s, struct err *e)
{
	const char *p = s;

	while (*p) {
		char *end;
		unsigned long from = strtoul(p, &end, 10), to = from;
		bool good = end != p && *p >= '0' && *p <= '9';

		if (good && *end == '-') {
			p = end + 1;
			to = strtoul(p, &end, 10);
			good = end != p && *p >= '0' && *p <= '9';
		}
		if (!good || from > to || to > 65535 || (*end && (*end != ',' || !end[1])))
			return err_invalid(e, "%s.%s: \"%s\" is no list like 0-3,7", field, what,
					   s);
		p = end + (*end == ',');
	}
	return 0;
}

static int check_memory(const char *field, const Runtime__V1__LinuxContainerResources *r,
			struct err *e)
{
	int64_t memory = r->memory_limit_in_bytes, swap = r->memory_swap_limit_in_bytes;
	int k = check_range(field, "memory_limit_in_bytes", memory, -1, INT64_MAX, e);

	if (k == 0)
		k = check_range(field, "memory_swap_limit_in_bytes", swap, -1, INT64_MAX, e);
	if (k == 0 && swap > 0 && memory > 0 && swap < memory)
		k = err_invalid(e,
				"%s.memory_swap_limit_in_bytes: %" PRId64
				" is less than memory_limit_in_bytes, %" PRId64
				" (it counts both together)",
				field, swap, memory);
	if (k == 0 && swap > 0 && memory <= 0)
		k = err_invalid(e,
				"%s.memory_swap_limit_in_bytes: %" PRId64
				" needs a memory_limit_in_bytes",
				field, swap);
	return k;
}

/* "2MB" in KiB; 0: it is none. */
static uint64_t page_size_kb(const char *s)
{
	static const struct {
		const char *name;
		uint64_t kb;
	} units[] = {{"KB", 1}, {"MB", 1024}, {"GB", 1024 * 1024}};
	size_t n = strspn(s, "0123456789");

	for (size_t i = 0; n && n < 7 && i < ARRAY_SIZE(units); i++)
		if (streq(s + n, units[i].name))
			return strtoull(s, NULL, 10) * units[i].kb;
	return 0;
}

static bool has_page_size(const struct node *n, uint64_t kb)
{
	for (size_t i = 0; i < n->host.n_hugepages; i++)
		if (n->host.hugepages_kb[i] == kb)
			return true;
	return false;
}

static int check_hugepages(const struct node *n, const char *field,
			   const Runtime__V1__LinuxContainerResources *r, struct err *e)
{
	_cleanup_free_ char *full = xasprintf("%s.hugepage_limits", field);
	int k = check_count(full, r->n_hugepage_limits, VALIDATE_DNS_MAX, e);

	for (size_t i = 0; k == 0 && i < r->n_hugepage_limits; i++) {
		const char *s = r->hugepage_limits[i]->page_size;
		uint64_t kb = page_size_kb(s);

		for (size_t j = 0; j < i; j++)
			if (page_size_kb(r->hugepage_limits[j]->page_size) == kb)
				return err_invalid(e,
						   "%s.hugepage_limits.page_size: \"%s\" is there "
						   "twice",
						   field, s);
		if (!kb)
			return err_invalid(
				e,
				"%s.hugepage_limits.page_size: \"%s\", expected a number "
				"and KB, MB or GB",
				field, s);
		if (!has_page_size(n, kb) && r->hugepage_limits[i]->limit)
			return err_invalid(
				e,
				"%s.hugepage_limits.page_size: \"%s\": this kernel has no "
				"huge pages of that size",
				field, s);
	}
	return k;
}

static int check_unified(const struct node *n, const char *field,
			 const Runtime__V1__LinuxContainerResources *r, struct err *e)
{
	if (r->n_unified && !n->cgroup.v2)
		return err_invalid(
			e, "%s.unified: \"%s\" is given, but this node has cgroup version 1", field,
			r->unified[0]->key);
	for (size_t i = 0; i < r->n_unified; i++) {
		const char *key = r->unified[i]->key;

		if (!strchr(key, '.') || *key == '.' || strchr(key, '/') ||
		    strlen(key) > VALIDATE_NAME_MAX)
			return err_invalid(e, "%s.unified: \"%s\" is no cgroup file", field, key);
		if (str_has_prefix(key, "cgroup."))
			return err_invalid(e, "%s.unified: \"%s\" is not for containers to set",
					   field, key);
	}
	return 0;
}

int validate_resources(const struct node *n, const char *field,
		       const Runtime__V1__LinuxContainerResources *r, struct err *e)
{
	int k = 0;

	if (!r)
		return 0;
	if (r->cpu_period)
		k = check_range(field, "cpu_period", r->cpu_period, 1000, 1000000, e);
	if (k == 0 && r->cpu_quota && r->cpu_quota != -1)
		k = check_range(field, "cpu_quota", r->cpu_quota, 1000, INT64_MAX / 1000, e);
	if (k == 0 && r->cpu_shares)
		k = check_range(field, "cpu_shares", r->cpu_shares, 2, 262144, e);
	if (k == 0)
		k = check_memory(field, r, e);
	if (k == 0)
		k = check_range(field, "oom_score_adj", r->oom_score_adj, -1000, 1000, e);
	if (k == 0)
		k = check_cpuset(field, "cpuset_cpus", r->cpuset_cpus, e);
	if (k == 0)
		k = check_cpuset(field, "cpuset_mems", r->cpuset_mems, e);
	if (k == 0)
		k = check_hugepages(n, field, r, e);
	if (k == 0)
		k = check_unified(n, field, r, e);
	return k;
}

int validate_streams(bool in, bool out, bool err, bool tty, struct err *e)
{
	if (!in && !out && !err)
		return err_invalid(e, "stdin, stdout, stderr: one of them must be asked for");
	if (tty && err)
		return err_invalid(e, "stderr: a terminal has one output, stdout");
	return 0;
}

int validate_ports(const char *field, const int32_t *v, size_t n, struct err *e)
{
	int r = check_count(field, n, VALIDATE_LIST_MAX, e);

	for (size_t i = 0; r == 0 && i < n; i++)
		if (v[i] < 1 || v[i] > UINT16_MAX)
			r = err_invalid(e, "%s: %" PRId32 " must be from 1 to 65535", field, v[i]);
	return r;
}
