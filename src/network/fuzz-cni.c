/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as a CNI configuration, as what a plugin printed, as the kubelet's pod range.  What is
 * accepted is what the next reader accepts: the printed list is a list again, the input for a
 * plugin is one JSON object, addresses are addresses.
 */
#include <arpa/inet.h>

#include "base/fuzz.h"
#include "base/mem.h"
#include "network/cni_conf.h"
#include "network/ipam.h"

static void check_object(const struct strbuf *b)
{
	_cleanup_jv_ jv *v = NULL;

	FUZZ_ASSERT(jv_parse(b->s, b->len, UINT32_MAX, "fuzz", &v, NULL) == 0 && jv_is_object(v));
}

static void check_inputs(const struct cni_list *l, const jv *capabilities)
{
	struct cni_input in = {.attachment = true,
			       .capabilities = capabilities,
			       .prev_result = "{}",
			       .valid = "[]"};

	for (size_t i = 0; i < l->n_plugins; i++) {
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

		FUZZ_ASSERT(!strchr(jv_string(l->plugins[i], "type", "/"), '/'));
		cni_plugin_input(l, i, &in, &b);
		check_object(&b);
	}
}

static void feed_list(const char *text, size_t n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct cni_list l, again;

	if (cni_list_parse(text, n, "fuzz", &l, NULL) < 0)
		return;
	FUZZ_ASSERT(*l.name && !strchr(l.name, '/') && l.n_versions && l.version == l.versions[0]);
	check_inputs(&l, l.docs[0]);
	cni_list_print(&l, &b);
	check_object(&b);
	if (l.n_plugins && b.len < CNI_CONF_MAX) {
		FUZZ_ASSERT(cni_list_parse(b.s, b.len, "fuzz", &again, NULL) == 0);
		FUZZ_ASSERT(again.n_plugins == l.n_plugins && streq(again.version, l.version));
		cni_list_fini(&again);
	}
	cni_list_fini(&l);
}

static void check_ips(char *list)
{
	char *save = NULL;

	for (char *s = strtok_r(list, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		uint8_t raw[16];

		FUZZ_ASSERT(inet_pton(strchr(s, ':') ? AF_INET6 : AF_INET, s, raw) == 1);
	}
}

static void feed_result(const char *text, size_t n, const char *version)
{
	_cleanup_strbuf_ struct strbuf r = STRBUF_NULL, ips = STRBUF_NULL, again = STRBUF_NULL,
				       more = STRBUF_NULL;

	if (cni_result_parse(text, n, version, "eth0", &r, &ips, NULL) < 0)
		return;
	check_object(&r);
	/* What the next plugin is given is a result, with the same addresses. */
	if (r.len < CNI_RESULT_MAX) {
		FUZZ_ASSERT(cni_result_parse(r.s, r.len, version, "eth0", &again, &more, NULL) ==
			    0);
		FUZZ_ASSERT(streq(str_or_empty(ips.s), str_or_empty(more.s)));
	}
	if (ips.s)
		check_ips(ips.s);
}

static void feed_cidr(const char *text, size_t n)
{
	_cleanup_free_ char *s = xstrndup(text, n), *one = NULL;
	struct ipam_pool p;

	if (network_pod_cidr_check(s, NULL) < 0)
		return;
	one = xstrndup(s, strcspn(s, ","));
	if (*one)
		FUZZ_ASSERT(ipam_parse(one, &p, NULL) == 0 && p.hosts >= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	const char *text = (const char *)data;

	feed_list(text, size);
	feed_result(text, size, "0.4.0");
	feed_result(text, size, "1.0.0");
	cni_error_parse(text, size, &b);
	cni_versions_parse(text, size, &b, NULL);
	feed_cidr(text, size);
	return 0;
}
