/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "bundle.h"

static const struct needs_facts host = {.cgroup_v2 = true};

/* A bundle with these annotations, '\'' for '"'. */
static void with(struct bundle *b, const char *annotations, const char *more)
{
	_cleanup_free_ char *text = xasprintf("{'annotations':{%s}%s}", annotations, more);
	struct err e = ERR_NULL;

	for (char *s = text; *s; s++)
		if (*s == '\'')
			*s = '"';
	*b = (struct bundle){0};
	CHECK_INT(bundle_parse(text, strlen(text), &host, b, &e), 0);
}

static void test_containerd(void)
{
	_cleanup_bundle_ struct bundle b;

	with(&b,
	     "'io.kubernetes.cri.container-type':'container','io.kubernetes.cri.sandbox-id':'s',"
	     "'io.kubernetes.cri.image-name':'docker.io/library/db:1',"
	     "'io.kubernetes.cri.sandbox-namespace':'n','io.kubernetes.cri.sandbox-name':'p',"
	     "'io.kubernetes.cri.container-name':'c','gantry.handler':'x','gantry.image':'other'",
	     "");
	CHECK(b.facts.container && !b.facts.handler && !b.own_handler);
	CHECK_STR(b.facts.image->text, "docker.io/library/db:1");
	CHECK_STR(b.facts.namespace, "n");
	CHECK_STR(b.facts.pod, "p");
	CHECK_STR(b.facts.container_name, "c");
	CHECK_STR(b.sandbox_id, "s");
	CHECK_INT(b.facts.n_annotations, 8);
}

static void test_crio(void)
{
	_cleanup_bundle_ struct bundle b;

	with(&b,
	     "'io.kubernetes.cri-o.ContainerType':'sandbox','io.kubernetes.cri-o.SandboxID':'s',"
	     "'io.kubernetes.cri-o.Namespace':'n','io.kubernetes.cri-o.KubeName':'p',"
	     "'io.kubernetes.cri-o.RuntimeHandler':'h','io.kubernetes.cri-o.PrivilegedRuntime':'"
	     "true',"
	     "'io.kubernetes.cri-o.ImageName':'a','gantry.label.a':'mine',"
	     "'io.kubernetes.cri-o.Labels':'{\\'a\\':\\'b\\',\\'n\\':1}'",
	     "");
	CHECK(!b.facts.container && !b.facts.image && !b.sandbox_id && b.facts.privileged);
	CHECK_STR(b.facts.handler, "h");
	CHECK(!b.own_handler);
	CHECK_INT(b.facts.n_labels, 1);
	CHECK_STR(b.facts.labels[0].key, "a");
	CHECK_STR(b.facts.labels[0].value, "b");
}

static void test_own(void)
{
	_cleanup_bundle_ struct bundle b;

	with(&b,
	     "'gantry.handler':'h','gantry.image':'a/b','gantry.label.x':'1','gantry.label.y':'2',"
	     "'gantry.privileged':'false','run.oci.handler':'wasm'",
	     ",'linux':{'namespaces':[{'type':'pid'},{'type':'user'}]}");
	CHECK(b.facts.container && b.own_handler && b.facts.user_namespace && !b.facts.privileged);
	CHECK_STR(b.facts.handler, "h");
	CHECK_STR(b.run_handler, "wasm");
	CHECK_STR(b.facts.image->path, "a/b");
	CHECK_INT(b.facts.n_labels, 2);
	CHECK_STR(b.facts.labels[1].value, "2");
	CHECK(b.needs.bits & RCAP_BIT(RCAP_USERNS));
}

static void test_privileged(void)
{
	static const char all[] = ",'process':{'capabilities':{'bounding':['CAP_SYS_ADMIN']}},"
				  "'linux':{'resources':{'devices':[{'allow':false},%s]}}";
	_cleanup_free_ char *yes = xasprintf(all, "{'allow':true,'access':'rwm'}"),
			    *no = xasprintf(all, "{'allow':true,'type':'c','major':1,'minor':3}");
	_cleanup_bundle_ struct bundle a, b;

	with(&a, "", yes);
	with(&b, "", no);
	CHECK(a.facts.privileged && !b.facts.privileged);
}

static void test_what_is_none(void)
{
	static const char *const bad[] = {"", "[]", "null", "{", "{}x"};
	struct bundle b = {0};
	struct err e = ERR_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(bundle_parse(bad[i], strlen(bad[i]), &host, &b, &e) == -EINVAL && !b.config);
	CHECK_INT(bundle_read("/no/such/dir", &host, &b, &e), -ENOENT);
	CHECK(bundle_parse("{\"annotations\":[1]}", 19, &host, &b, &e) == 0 && b.facts.container);
	bundle_fini(&b);
}

int main(void)
{
	TEST(containerd);
	TEST(crio);
	TEST(own);
	TEST(privileged);
	TEST(what_is_none);
	return test_done();
}
