/* SPDX-License-Identifier: Apache-2.0 */
/* What CNI plugins print: see cni_conf.h. */
#include <arpa/inet.h>

#include "base/mem.h"
#include "network/cni_conf.h"

static int bad(struct err *e, const char *fmt, const char *what)
{
	return err_set(e, -EBADMSG, GRPC_INTERNAL, fmt, what);
}

static int parse_object(const char *text, size_t n, const char *what, jv **ret, struct err *e)
{
	struct err why = ERR_NULL;
	jv *v;
	int r = jv_parse(text, n, CNI_RESULT_MAX, what, &v, &why);

	if (r < 0)
		return bad(e, "%.300s", why.msg);
	if (!jv_is_object(v)) {
		jv_free(v);
		return bad(e, "%s: not an object", what);
	}
	*ret = v;
	return 0;
}

/* "10.1.2.3/24" without its prefix; -EBADMSG. */
static int split_cidr(const char *cidr, char ret[INET6_ADDRSTRLEN])
{
	const char *slash = strchr(cidr, '/');
	size_t n = slash ? (size_t)(slash - cidr) : 0;
	uint8_t raw[16];
	uint64_t prefix;
	bool v6;

	if (!n || n >= INET6_ADDRSTRLEN)
		return -EBADMSG;
	memcpy(ret, cidr, n);
	ret[n] = '\0';
	v6 = strchr(ret, ':') != NULL;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, ret, raw) != 1 || !str_to_u64(slash + 1, &prefix) ||
	    prefix > (v6 ? 128 : 32))
		return -EBADMSG;
	return 0;
}

/* Whether an address belongs to the pod's interface; one without an index does. */
static int is_of(const jv *result, const jv *ip, const char *ifname, bool *ret, struct err *e)
{
	const jv *list = jv_get(result, "interfaces");
	int64_t at = jv_int(ip, "interface", -1);

	*ret = true;
	if (!jv_get(ip, "interface"))
		return 0;
	if (at < 0 || (uint64_t)at >= jv_len(list))
		return bad(e, "the CNI result's address %.80s is of no interface in it",
			   jv_string(ip, "address", "?"));
	*ret = streq(jv_string(jv_at(list, (size_t)at), "name", ""), ifname);
	return 0;
}

static int read_ips(const jv *result, const char *ifname, struct strbuf *ips, struct err *e)
{
	const jv *list = jv_get(result, "ips");

	if (jv_len(list) > CNI_IPS_MAX)
		return err_set(e, -EBADMSG, GRPC_INTERNAL,
			       "the CNI result has more than %d addresses", CNI_IPS_MAX);
	for (size_t i = 0; i < jv_len(list); i++) {
		const jv *ip = jv_at(list, i);
		const char *cidr = jv_string(ip, "address", "");
		char text[INET6_ADDRSTRLEN];
		bool ours;
		int r;

		if (split_cidr(cidr, text) < 0)
			return bad(e, "the CNI result holds \"%.80s\", which is no address", cidr);
		r = is_of(result, ip, ifname, &ours, e);
		if (r < 0)
			return r;
		if (ours)
			strbuf_addf(ips, "%s%s", ips->len ? " " : "", text);
	}
	return 0;
}

/* Before 1.0.0 each address must name its family. */
static void put_old_ips(struct jw *w, const jv *ips)
{
	jw_array_begin(w);
	for (size_t i = 0; i < jv_len(ips); i++) {
		const jv *ip = jv_at(ips, i);
		struct jv_iter it = JV_ITER_INIT;

		jw_object_begin(w);
		jw_key_string(w, "version", strchr(jv_string(ip, "address", ""), ':') ? "6" : "4");
		while (jv_next(ip, &it)) {
			_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

			if (streq(it.key, "version"))
				continue;
			jv_print(it.value, &v);
			jw_key(w, it.key);
			jw_raw(w, v.s);
		}
		jw_object_end(w);
	}
	jw_array_end(w);
}

static void put_result(const jv *result, const char *version, struct strbuf *to)
{
	bool old = !cni_version_at_least(version, 1, 0);
	struct jv_iter it = JV_ITER_INIT;
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "cniVersion", version);
	while (jv_next(result, &it)) {
		_cleanup_strbuf_ struct strbuf v = STRBUF_NULL;

		if (streq(it.key, "cniVersion"))
			continue;
		jw_key(&w, it.key);
		if (old && streq(it.key, "ips")) {
			put_old_ips(&w, it.value);
			continue;
		}
		jv_print(it.value, &v);
		jw_raw(&w, v.s);
	}
	jw_object_end(&w);
}

int cni_result_parse(const char *text, size_t n, const char *version, const char *ifname,
		     struct strbuf *ret_result, struct strbuf *ret_ips, struct err *e)
{
	_cleanup_strbuf_ struct strbuf ips = STRBUF_NULL;
	_cleanup_jv_ jv *v = NULL;
	int r = parse_object(text, n, "CNI result", &v, e);

	if (r == 0)
		r = read_ips(v, ifname, &ips, e);
	if (r < 0)
		return r;
	strbuf_reset(ret_result);
	put_result(v, version, ret_result);
	strbuf_reset(ret_ips);
	strbuf_adds(ret_ips, str_or_empty(ips.s));
	return 0;
}

int cni_error_parse(const char *text, size_t n, struct strbuf *ret)
{
	_cleanup_jv_ jv *v = NULL;
	const char *msg, *details;
	int64_t code;

	if (parse_object(text, n, "CNI error", &v, NULL) < 0)
		return -1;
	code = jv_int(v, "code", 0);
	msg = jv_string(v, "msg", NULL);
	details = jv_string(v, "details", "");
	if (!msg && !jv_get(v, "code"))
		return -1;
	strbuf_addf(ret, "%.500s%s%.300s (code %lld)", str_or_empty(msg), *details ? ": " : "",
		    details, (long long)code);
	return code >= 0 && code <= INT32_MAX ? (int)code : 0;
}

int cni_versions_parse(const char *text, size_t n, struct strbuf *ret, struct err *e)
{
	_cleanup_jv_ jv *v = NULL;
	const jv *list;
	int r = parse_object(text, n, "CNI versions", &v, e);

	if (r < 0)
		return r;
	list = jv_get(v, "supportedVersions");
	if (!jv_len(list) || jv_len(list) > CNI_VERSIONS_MAX)
		return bad(e, "%s: supportedVersions is missing or too long", "CNI versions");
	for (size_t i = 0; i < jv_len(list); i++) {
		const char *s = jv_as_string(jv_at(list, i));

		if (!s || strlen(s) > 16 || strspn(s, "0123456789.") != strlen(s))
			return bad(e, "CNI versions: \"%.40s\" is none", str_or_empty(s));
		strbuf_addf(ret, "%s%s", ret->len ? " " : "", s);
	}
	return 0;
}
