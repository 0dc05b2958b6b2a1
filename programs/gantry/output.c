/* SPDX-License-Identifier: Apache-2.0 */
/* What programs read: -o json and -o yaml. */
#include "cli.h"
#include "pbjson.h"

int output_format(const struct args *a, enum output *ret, struct err *e)
{
	const char *s = args_get(a, "output");

	*ret = !s || streq(s, "table") ? OUTPUT_TABLE
	       : streq(s, "json")      ? OUTPUT_JSON
				       : OUTPUT_YAML; /* args_parse() has checked it */
	if (*ret != OUTPUT_TABLE && args_has(a, "quiet"))
		return err_invalid(e, "--quiet and --output %s exclude each other", s);
	return 0;
}

void output_json(enum output how, const char *json, size_t n)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;

	if (how == OUTPUT_YAML && pbjson_yaml(json, n, &b, &e) < 0) {
		cli_warn("%s", e.msg);
		return;
	}
	if (how != OUTPUT_YAML)
		pbjson_pretty(json, n, &b);
	cli_write(b.s, b.len);
}

void output_message(enum output how, const ProtobufCMessage *m)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	pbjson_print(&w, m);
	output_json(how, b.s, b.len);
}
