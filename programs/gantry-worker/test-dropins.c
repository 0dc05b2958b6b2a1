/* SPDX-License-Identifier: Apache-2.0 */
/* YAML as JSON, and what of the files of CDI and of OCI hooks is of use. */
#include "base/mem.h"
#include "base/test.h"
#include "cdi.h"
#include "dropins.h"
#include "hooks.h"
#include "yaml_json.h"

static char *as_json(const char *yaml)
{
	struct strbuf b = STRBUF_NULL;
	struct err e = ERR_NULL;

	if (yaml_to_json(yaml, strlen(yaml), "f.yaml", &b, &e) < 0) {
		strbuf_fini(&b);
		return xasprintf("%s", e.msg);
	}
	return strbuf_take(&b);
}

static void check_json(const char *yaml, const char *want)
{
	_cleanup_free_ char *got = as_json(yaml);

	CHECK_STR(got, want);
}

static void test_yaml(void)
{
	check_json("a: 1", "{\"a\":1}");
	check_json("[0600, 0o17, 0x1F, -5, 1.5, 1e3, .5]", "[384,15,31,-5,1.5,1000,0.5]");
	check_json("[true, False, null, ~, yes, '1', \"~\", !!str 5]",
		   "[true,false,null,null,\"yes\",\"1\",\"~\",\"5\"]");
	check_json("a:\n- b: {c: d}\n- |\n  two\n  lines\n",
		   "{\"a\":[{\"b\":{\"c\":\"d\"}},\"two\\nlines\\n\"]}");
	check_json("{\"json\": [\"too\", 1]}", "{\"json\":[\"too\",1]}");
	check_json("[1.2.3, 12ab, 08, +, -, 99999999999999999999]",
		   "[\"1.2.3\",\"12ab\",8,\"+\",\"-\",1e+20]");
	check_json("", "f.yaml:1: there is nothing in it");
	check_json("a: &x 1\nb: *x\n", "f.yaml:2: aliases are not possible");
	check_json("a: !!binary aGk=\n", "f.yaml:1: tags of types are not possible");
	check_json("? [a]\n: b\n", "f.yaml:1: a key must be a word");
	check_json("--- a\n--- b\n", "f.yaml:2: there is more than one document in it");
}

static void test_yaml_is_bounded(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_free_ char *got = NULL;

	for (int i = 0; i < 2000; i++)
		strbuf_addc(&b, '[');
	got = as_json(b.s);
	CHECK_STR(got, "f.yaml:1: it is nested too deeply");
}

#define SPEC(version, device, more)                                                                \
	"{\"cdiVersion\":\"" version "\",\"kind\":\"v.com/c\",\"devices\":[{\"name\":\"d\","       \
	"\"containerEdits\":" device "}]" more "}"

/* "" for a file that is of use, else why it is not. */
static void check_cdi(const char *text, const char *want)
{
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;

	CHECK(dropins_parse(text, strlen(text), "f.json", &doc, &e) == 0);
	if (cdi_check(doc, "f.json", &e) == 0)
		*e.msg = '\0';
	CHECK_STR(e.msg, want);
}

static void test_cdi_versions(void)
{
	check_cdi(SPEC("0.3.0", "{\"env\":[\"A=1\"]}", ""), "");
	check_cdi(SPEC("v0.1.0", "{\"env\":[\"A=1\"]}", ""), "");
	check_cdi(SPEC("1.2.0", "{\"env\":[\"A=1\"]}", ""),
		  "f.json: cdiVersion: \"1.2.0\" is not known, the newest that is: 1.1.0");
	check_cdi(SPEC("0.4.0", "{\"deviceNodes\":[{\"path\":\"/d\",\"hostPath\":\"/h\"}]}", ""),
		  "f.json: cdiVersion: what it has needs 0.5.0 at least, not 0.4.0");
	check_cdi(
		SPEC("0.3.0",
		     "{\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/b\",\"type\":\"x\"}]}",
		     ""),
		"f.json: cdiVersion: what it has needs 0.4.0 at least, not 0.3.0");
	check_cdi(SPEC("0.5.0", "{\"env\":[\"A=1\"]}", ",\"annotations\":{\"a\":\"b\"}"),
		  "f.json: cdiVersion: what it has needs 0.6.0 at least, not 0.5.0");
	check_cdi(SPEC("0.6.0", "{\"additionalGids\":[5]}", ""),
		  "f.json: cdiVersion: what it has needs 0.7.0 at least, not 0.6.0");
	check_cdi(SPEC("1.0.0", "{\"netDevices\":[{\"hostInterfaceName\":\"a\",\"name\":\"b\"}]}",
		       ""),
		  "f.json: cdiVersion: what it has needs 1.1.0 at least, not 1.0.0");
	check_cdi(SPEC("1.1.0", "{\"intelRdt\":{\"schemata\":[\"L3:0=f\"]}}", ""), "");
}

static void test_cdi_refused(void)
{
	check_cdi(SPEC("1.1.0", "{}", ""),
		  "f.json: device \"d\": containerEdits: it must not be empty");
	check_cdi(SPEC("1.1.0", "{\"envs\":[]}", ""),
		  "f.json: device \"d\": envs: it is not known");
	check_cdi(SPEC("1.1.0", "{\"env\":[\"=1\"]}", ""),
		  "f.json: device \"d\": env: \"=1\": expected NAME=VALUE");
	check_cdi(SPEC("1.1.0", "{\"env\":\"A=1\"}", ""),
		  "f.json: device \"d\": env: expected a list of texts");
	check_cdi(SPEC("1.1.0", "{\"deviceNodes\":[{\"path\":\"d\"}]}", ""),
		  "f.json: device \"d\": deviceNodes: path: \"d\" is no absolute path");
	check_cdi(SPEC("1.1.0", "{\"deviceNodes\":[{\"path\":\"/d\",\"permissions\":\"x\"}]}", ""),
		  "f.json: device \"d\": deviceNodes: permissions: \"x\", expected some of rwm, or "
		  "none");
	check_cdi(SPEC("1.1.0", "{\"hooks\":[{\"hookName\":\"x\",\"path\":\"/p\"}]}", ""),
		  "f.json: device \"d\": hooks: hookName: \"x\" is none");
	check_cdi(SPEC("1.1.0",
		       "{\"hooks\":[{\"hookName\":\"poststop\",\"path\":\"/p\",\"timeout\":0}]}",
		       ""),
		  "f.json: device \"d\": hooks: timeout: it must be greater than 0");
	check_cdi(SPEC("1.1.0", "{\"intelRdt\":{\"closID\":\"../x\"}}", ""),
		  "f.json: device \"d\": closID: \"../x\" is no name of a class of service");
	check_cdi(SPEC("1.1.0",
		       "{\"netDevices\":[{\"hostInterfaceName\":\"a\",\"name\":\"b\"},"
		       "{\"hostInterfaceName\":\"c\",\"name\":\"b\"}]}",
		       ""),
		  "f.json: device \"d\": netDevices: name: \"b\" is there twice");
	check_cdi("{\"cdiVersion\":\"1.1.0\",\"kind\":\"v.com/c\",\"devices\":[]}",
		  "f.json: devices: it must not be empty");
	check_cdi("{\"cdiVersion\":\"1.1.0\",\"kind\":\"nokind\",\"devices\":[{}]}",
		  "f.json: kind: \"nokind\", expected VENDOR/CLASS");
}

static bool matches(const char *when, const char *command, const char *key, const char *value,
		    bool binds)
{
	_cleanup_free_ char *text = xasprintf("{\"version\":\"1.0.0\",\"hook\":{\"path\":\"/p\"},"
					      "\"stages\":[\"poststop\"],\"when\":%s}",
					      when);
	struct hooks_subject s = {.command = command, .has_binds = binds};
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;
	bool found;

	CHECK(dropins_parse(text, strlen(text), "f.json", &doc, &e) == 0);
	if (hooks_check(doc, "f.json", &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		CHECK(false);
		return false;
	}
	strv_add(&s.keys, "other");
	strv_add(&s.values, "thing");
	strv_add(&s.keys, key);
	strv_add(&s.values, value);
	found = hooks_match(doc, &s);
	strv_fini(&s.keys);
	strv_fini(&s.values);
	return found;
}

static bool command_matches(const char *pattern, const char *command)
{
	_cleanup_free_ char *when = xasprintf("{\"commands\":[\"%s\"]}", pattern);

	return matches(when, command, "a", "b", false);
}

static void test_hooks_match(void)
{
	CHECK(matches("{\"always\":true}", "x", "a", "b", false));
	CHECK(!matches("{\"always\":false,\"commands\":[\"x\"]}", "x", "a", "b", false));
	CHECK(!matches("{}", "x", "a", "b", true));
	CHECK(matches("{\"hasBindMounts\":true}", "x", "a", "b", true));
	CHECK(!matches("{\"hasBindMounts\":true}", "x", "a", "b", false));
	CHECK(!matches("{\"hasBindMounts\":false}", "x", "a", "b", false));
	CHECK(matches("{\"annotations\":{\"^a$\":\"^b$\"}}", "x", "a", "b", false));
	CHECK(!matches("{\"annotations\":{\"^a$\":\"thing\"}}", "x", "a", "b", false));
	CHECK(!matches("{\"annotations\":{\"a\":\"b\",\"z\":\"\"}}", "x", "a", "b", false));
	CHECK(!matches("{\"always\":true,\"commands\":[\"y\"]}", "x", "a", "b", false));
	CHECK(matches("{\"always\":true,\"commands\":[\"y\",\"x\"]}", "x", "a", "b", false));
}

static void test_patterns(void)
{
	CHECK(command_matches("^/usr/bin/\\\\w+$", "/usr/bin/abc_1"));
	CHECK(!command_matches("^/usr/bin/\\\\w+$", "/usr/bin/a-b"));
	CHECK(command_matches("\\\\d{2}$", "a12"));
	CHECK(command_matches("^[\\\\w.-]+$", "a.b-c"));
	CHECK(command_matches("^[^\\\\s]+$", "abc"));
	CHECK(!command_matches("^[^\\\\s]+$", "a c"));
	CHECK(command_matches("^[a\\\\]]+$", "a]"));
	CHECK(command_matches("^[[:digit:][]+$", "1["));
	CHECK(command_matches("(?i)^SH$", "sh"));
	CHECK(command_matches("^(?:a|b)c$", "bc"));
	CHECK(command_matches("^a*?b+?$", "aab"));
	CHECK(command_matches("a{b}", "a{b}"));
	CHECK(command_matches("^\\\\.$", "."));
	CHECK(!command_matches("^\\\\.$", "x"));
}

static void check_hook_file(const char *text, const char *want)
{
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;

	CHECK(dropins_parse(text, strlen(text), "f.json", &doc, &e) == 0);
	if (hooks_check(doc, "f.json", &e) == 0)
		*e.msg = '\0';
	CHECK_STR(e.msg, want);
}

static void test_hooks_refused(void)
{
#define HOOK(hook, when)                                                                           \
	"{\"version\":\"1.0.0\",\"hook\":" hook ",\"when\":" when ",\"stages\":[\"poststop\"]}"
	check_hook_file(HOOK("{\"path\":\"/p\"}", "{}"), "");
	check_hook_file(HOOK("{}", "{}"), "f.json: hook: path: it must be given");
	check_hook_file(HOOK("{\"path\":\"/p\",\"env\":[\"A\"]}", "{}"),
			"f.json: hook: env: \"A\": expected NAME=VALUE");
	check_hook_file(HOOK("{\"path\":\"/p\"}", "{\"commands\":[\"(?<n>a)\"]}"),
			"f.json: when: commands: \"(?<n>a)\" is no pattern that can be used");
	check_hook_file(HOOK("{\"path\":\"/p\"}", "{\"commands\":[\"(a)\\\\1\"]}"),
			"f.json: when: commands: \"(a)\\1\" is no pattern that can be used");
	check_hook_file(HOOK("{\"path\":\"/p\"}", "{\"commands\":[\"(a{200}){200}\"]}"),
			"f.json: when: commands: \"(a{200}){200}\" is no pattern that can be used");
	check_hook_file("{\"version\":\"1.0.0\"}", "f.json: hook: it must be given");
}

int main(void)
{
	TEST(yaml);
	TEST(yaml_is_bounded);
	TEST(cdi_versions);
	TEST(cdi_refused);
	TEST(hooks_match);
	TEST(patterns);
	TEST(hooks_refused);
	return test_done();
}
