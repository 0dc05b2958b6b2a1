/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled seccomp filters: see filter.h. */
#include "pod/filter.h"

#include "base/mem.h"
#include "ipc/ipc.h"
#include "ipc/monitor.h"
#include "pod/node.h"
#include "route/needs.h"
#include "wire/json.h"

#define FILTERS_MAX 16		 /* a node has few profiles, times sets of capabilities */
#define FILTER_INSTRUCTION 8	 /* bytes: struct sock_filter */
#define FILTER_INSTRUCTIONS 4096 /* BPF_MAXINSNS */

struct filter {
	struct list link; /* node->filters, oldest first */
	char *key, *value;
};

static bool possible(const struct node_runtime *rt)
{
	const char *base;

	if (!rt)
		return false;
	base = strrchr(rt->config->path, '/');
	return streq(base ? base + 1 : rt->config->path, "crun");
}

/* Another version may make another filter of it. */
static char *key_of(const struct node_runtime *rt, const char *profile)
{
	return xasprintf("%s %s %s", rt->config->path, str_or_empty(rt->version), profile);
}

static struct filter *find(const struct node *n, const char *key)
{
	struct filter *f;

	list_for_each (f, &n->filters, link)
		if (streq(f->key, key))
			return f;
	return NULL;
}

const char *filter_find(const struct node *n, const struct node_runtime *rt, const char *profile)
{
	_cleanup_free_ char *key = NULL;
	struct filter *f;

	if (!profile || !possible(rt))
		return NULL;
	key = key_of(rt, profile);
	f = find(n, key);
	return f ? f->value : NULL;
}

static void drop(struct filter *f)
{
	list_remove(&f->link);
	free(f->key);
	free(f->value);
	free(f);
}

void filter_keep(struct node *n, const struct node_runtime *rt, const char *profile,
		 const struct ipc_in *reply)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *key = NULL;
	const void *bpf;
	struct filter *f;
	unsigned count = 0;
	size_t size;

	if (!profile || !possible(rt) || !ipc_get_bytes(reply, MON_TAG_FILTER, &bpf, &size))
		return;
	if (!size || size % FILTER_INSTRUCTION ||
	    size > (size_t)FILTER_INSTRUCTION * FILTER_INSTRUCTIONS)
		return;
	key = key_of(rt, profile);
	if (find(n, key))
		return;
	list_for_each (f, &n->filters, link)
		count++;
	if (count >= FILTERS_MAX)
		drop(list_first(&n->filters, struct filter, link));
	strbuf_add_base64(&b, bpf, size);
	f = xcalloc(1, sizeof(*f));
	f->key = TAKE_PTR(key);
	f->value = strbuf_take(&b);
	list_append(&n->filters, &f->link);
}

uint64_t filter_needs(struct node *n, const char *profile, const struct needs_facts *f)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_jv_ jv *doc = NULL;
	struct needs needs = NEEDS_NULL;

	if (n->profile.text && n->profile.by_default == f->seccomp_default &&
	    streq(n->profile.text, profile))
		return n->profile.needs;
	text = xasprintf("{\"linux\":{\"seccomp\":%s}}", profile);
	if (jv_parse(text, strlen(text), SIZE_MAX, "seccomp", &doc, NULL) == 0)
		needs_add_config(&needs, doc, f);
	free(n->profile.text);
	n->profile.text = xstrdup(profile);
	n->profile.by_default = f->seccomp_default;
	n->profile.needs = needs.bits & RCAP_SECCOMP_BITS;
	return n->profile.needs;
}

void filter_free_all(struct node *n)
{
	free(n->profile.text);
	while (!list_empty(&n->filters))
		drop(list_first(&n->filters, struct filter, link));
}
