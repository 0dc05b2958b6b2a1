/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as JSON and YAML, and the values of the options of run. */
#include "api.pb-c.h"
#include "base/mem.h"
#include "base/test.h"
#include "pbjson.h"
#include "run.h"

static void check_json(const ProtobufCMessage *m, const char *json)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct jw w = JW_INIT(&b);

	pbjson_print(&w, m);
	CHECK_STR(b.s, json);
}

static void test_json(void)
{
	Runtime__V1__ContainerStatus s = RUNTIME__V1__CONTAINER_STATUS__INIT;
	Runtime__V1__PodSandboxStatsFilter f = RUNTIME__V1__POD_SANDBOX_STATS_FILTER__INIT;
	Runtime__V1__PodSandboxStatsFilter__LabelSelectorEntry
		entry = RUNTIME__V1__POD_SANDBOX_STATS_FILTER__LABEL_SELECTOR_ENTRY__INIT,
		*entries[] = {&entry};
	Runtime__V1__ExecSyncResponse x = RUNTIME__V1__EXEC_SYNC_RESPONSE__INIT;
	Runtime__V1__LinuxContainerUser u = RUNTIME__V1__LINUX_CONTAINER_USER__INIT;
	Runtime__V1__PsiData psi = RUNTIME__V1__PSI_DATA__INIT;
	int64_t groups[] = {1, INT64_MAX};

	f.id = (char *)(uintptr_t) "a\"b\n";
	entry.key = (char *)(uintptr_t) "k";
	entry.value = (char *)(uintptr_t) "v";
	f.label_selector = entries;
	f.n_label_selector = 1;
	check_json(&f.base, "{\"id\":\"a\\\"b\\n\",\"labelSelector\":{\"k\":\"v\"}}");
	x.stdout.data = (uint8_t *)(uintptr_t) "hello";
	x.stdout.len = 5;
	x.exit_code = -1;
	check_json(&x.base, "{\"stdout\":\"aGVsbG8=\",\"stderr\":\"\",\"exitCode\":-1}");
	u.uid = -5;
	u.supplemental_groups = groups;
	u.n_supplemental_groups = 2;
	check_json(&u.base, "{\"uid\":\"-5\",\"gid\":\"0\",\"supplementalGroups\":"
			    "[\"1\",\"9223372036854775807\"]}");
	psi.avg10 = 0.5;
	check_json(&psi.base, "{\"Total\":\"0\",\"Avg10\":0.5,\"Avg60\":0,\"Avg300\":0}");
	s.state = RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	s.stop_signal = (Runtime__V1__Signal)4711; /* of a newer daemon */
	{
		_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
		struct jw w = JW_INIT(&b);

		pbjson_print(&w, &s.base);
		CHECK(strstr(b.s, "\"state\":\"CONTAINER_EXITED\"") != NULL);
		CHECK(strstr(b.s, "\"stopSignal\":4711") != NULL);
		CHECK(strstr(b.s, "\"metadata\"") == NULL); /* absent */
		CHECK(strstr(b.s, "\"labels\":{}") != NULL && strstr(b.s, "\"mounts\":[]") != NULL);
	}
}

static void test_pretty(void)
{
	static const char json[] = "{\"a\":[1,{\"b\":\"x,{}\\\"[\"}],\"c\":{},\"d\":[],"
				   "\"e\":\"\xc2\x9b\xe2\x80\xae\xf0\x9f\x90\xb3\"}";
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL, y = STRBUF_NULL;
	struct err e = ERR_NULL;

	pbjson_pretty(json, strlen(json), &b);
	CHECK_STR(b.s, "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,{}\\\"[\"\n    }\n  ],\n"
		       "  \"c\": {},\n  \"d\": [],\n"
		       "  \"e\": \"\\u009b\\u202e\xf0\x9f\x90\xb3\"\n}\n");
	CHECK_INT(pbjson_yaml("{\"a\":[1,true,null,\"yes\",\"\\u001b\"],\"no\":{},\"x/y\":\"1\"}",
			      strlen("{\"a\":[1,true,null,\"yes\",\"\\u001b\"],\"no\":{},"
				     "\"x/y\":\"1\"}"),
			      &y, &e),
		  0);
	CHECK_STR(y.s, "a:\n- 1\n- true\n- null\n- \"yes\"\n- \"\\e\"\n\"no\": {}\n"
		       "\"x/y\": \"1\"\n");
}

static void check_port(const char *s, const char *ip, int host, int inner, int protocol)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	Runtime__V1__PortMapping *m = NULL;
	struct err e = ERR_NULL;
	int r = run_parse_port(&a, s, &m, &e);

	if (!ip) {
		CHECK(r == -EINVAL && strstr(e.msg, s) != NULL);
		return;
	}
	CHECK_INT(r, 0);
	if (r < 0)
		return;
	CHECK_STR(m->host_ip, ip);
	CHECK(m->host_port == host && m->container_port == inner && (int)m->protocol == protocol);
}

static void test_ports(void)
{
	static const char *const bad[] = {
		"80",	      "",	 ":80",	  "80:",	 "0:80",
		"80:65536",   "80:80/x", "a:80",  "80:80:80:80", "[::1]80:80",
		"[::1:80:80", "-1:80",	 "80:80/"};

	check_port("8080:80", "", 8080, 80, 0);
	check_port("127.0.0.1:53:5353/udp", "127.0.0.1", 53, 5353, 1);
	check_port("[::1]:8080:80/SCTP", "::1", 8080, 80, 2);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		check_port(bad[i], NULL, 0, 0, 0);
}

static void test_volumes(void)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	static const char *const bad[] = {"data:/x", "/tmp",	    "/tmp:x",		":/x",
					  "/tmp:",   "/tmp:/x:bad", "/nonexistent/y:/x"};
	Runtime__V1__Mount *m;
	struct err e = ERR_NULL;

	CHECK_INT(run_parse_volume(&a, "/tmp/../tmp:/x:ro,rslave,z", &m, &e), 0);
	CHECK_STR(m->host_path, "/tmp");
	CHECK_STR(m->container_path, "/x");
	CHECK(m->readonly && m->selinux_relabel && !m->recursive_read_only && m->propagation == 1);
	CHECK_INT(run_parse_volume(&a, "/tmp:/x:rro", &m, &e), 0);
	CHECK(m->readonly && m->recursive_read_only);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(run_parse_volume(&a, bad[i], &m, &e) < 0 && strstr(e.msg, bad[i]) != NULL);
}

static void test_mounts(void)
{
	static const char *const bad[] = {
		"",
		"x",
		"type=image,source=x",
		"type=image,target=/x",
		"source=x,target=/x",
		"type=image,source=x,target=x",
		"type=image,source=,target=/x",
		"type=tmpfs,source=x,target=/x",
		"type=image,source=x,target=/x,rw=maybe",
		"type=image,source=x,target=/x,ro=maybe",
		"type=image,source=x,target=/x,bind-propagation=shared",
		"type=bind,source=/tmp,target=/x,subpath=y",
		"type=bind,source=/tmp:/y,target=/x",
		"type=bind,source=/tmp,target=/x,bind-propagation=odd",
	};
	_cleanup_arena_ struct arena a = ARENA_NULL;
	Runtime__V1__Mount *m;
	struct err e = ERR_NULL;

	CHECK_INT(run_parse_mount(&a, "type=image,src=a/b:1,dst=/x,subpath=y/z", &m, &e), 0);
	CHECK_STR(m->image->image, "a/b:1");
	CHECK_STR(m->image_sub_path, "y/z");
	CHECK_STR(m->container_path, "/x");
	CHECK_STR(m->host_path, "");
	CHECK(m->readonly);
	CHECK_INT(run_parse_mount(&a,
				  "target=/x,source=/tmp,type=bind,readonly,"
				  "bind-propagation=rslave",
				  &m, &e),
		  0);
	CHECK_STR(m->host_path, "/tmp");
	CHECK(!m->image && m->readonly && m->propagation == 1);
	CHECK_INT(run_parse_mount(&a, "type=bind,src=/tmp,dst=/x,ro=false", &m, &e), 0);
	CHECK(!m->readonly);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(run_parse_mount(&a, bad[i], &m, &e) < 0);
}

static void test_ids(void)
{
	static const char *const bad[] = {"",	"0",  "a",     "1:",	     "1:0",
					  ":1", "-1", "1:2:3", "4294967295", "4294967294:2"};
	Runtime__V1__IDMapping m = RUNTIME__V1__IDMAPPING__INIT;
	struct err e = ERR_NULL;

	CHECK_INT(run_parse_ids("1000000", &m, &e), 0);
	CHECK(m.host_id == 1000000 && m.container_id == 0 && m.length == 65536);
	CHECK_INT(run_parse_ids("4294967293:2", &m, &e), 0);
	CHECK(m.host_id == 4294967293 && m.length == 2);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(run_parse_ids(bad[i], &m, &e) < 0 && strstr(e.msg, bad[i]) != NULL);
}

static void test_devices(void)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	Runtime__V1__Device *d;
	struct err e = ERR_NULL;

	CHECK_INT(run_parse_device(&a, "/dev/null", &d, &e), 0);
	CHECK_STR(d->container_path, "/dev/null");
	CHECK_STR(d->permissions, "rwm");
	CHECK_INT(run_parse_device(&a, "/dev/null:r", &d, &e), 0);
	CHECK_STR(d->container_path, "/dev/null");
	CHECK_STR(d->permissions, "r");
	CHECK_INT(run_parse_device(&a, "/dev/null:/dev/x:rw", &d, &e), 0);
	CHECK_STR(d->container_path, "/dev/x");
	CHECK_STR(d->permissions, "rw");
	CHECK(run_parse_device(&a, "null", &d, &e) < 0);
	CHECK(run_parse_device(&a, "/a:/b:r:x", &d, &e) < 0);
	CHECK(run_parse_device(&a, "/a:b:r", &d, &e) < 0);
}

static void test_names(void)
{
	_cleanup_arena_ struct arena a = ARENA_NULL;
	static const char *const images[][2] = {
		{"busybox", "busybox-"},	   {"docker.io/library/My.App-x:1.2", "my.app-x-"},
		{"host:5000/a/b@sha256:00", "b-"}, {"sha256:abcdef", "container-"},
		{"x/---", "container-"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		const char *s = run_name_of_image(&a, images[i][0]);

		CHECK(str_has_prefix(s, images[i][1]));
		CHECK_INT(strlen(s), strlen(images[i][1]) + 6);
	}
	CHECK(strcmp(run_name_of_image(&a, "x"), run_name_of_image(&a, "x")) != 0);
}

int main(void)
{
	TEST(json);
	TEST(pretty);
	TEST(ports);
	TEST(volumes);
	TEST(mounts);
	TEST(ids);
	TEST(devices);
	TEST(names);
	return test_done();
}
