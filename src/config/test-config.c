/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/fs.h"
#include "base/test.h"
#include "config/config.h"

#include <fcntl.h>

static char *write_file(const char *text)
{
	static char path[] = "/tmp/gantry-config-XXXXXX";
	int fd;

	strcpy(path + strlen(path) - 6, "XXXXXX");
	fd = mkstemp(path);
	CHECK_INT(fs_write_all(fd, text, strlen(text)), 0);
	close(fd);
	return path;
}

static int load(const char *text, struct config *c, struct err *e)
{
	struct config_flags f = {.file = write_file(text)};
	int r = config_load(&f, c, e);

	unlink(f.file);
	return r;
}

static void test_defaults(void)
{
	struct config_flags f = {.root = "/r/", .state = "/s"};
	struct config c;
	struct err e = ERR_NULL;

	CHECK_INT(config_load(&f, &c, &e), 0);
	CHECK_STR(c.root, "/r");
	CHECK_STR(c.address, "/s/gantry.sock");
	CHECK(strlen(c.instance) == strlen("gantry-00000000"));
	CHECK(strlen(c.bridge.name) <= 15);
	CHECK_INT(c.n_runtimes, 2);
	CHECK_STR(c.default_runtimes[0], "crun");
	config_fini(&c);
}

static void test_streaming(void)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"streaming:\n  address: localhost\n", "streaming.address"},
		{"streaming:\n  port: 65536\n", "streaming.port"},
		{"streaming:\n  tls:\n    cert: /c\n", "cert and key"},
		{"streaming:\n  tls: {client_ca: /c}\n", "client_ca"},
		{"streaming:\n  tls:\n    min_version: 1.1\n", "1.2 or 1.3"},
		{"streaming:\n  tls:\n    name: x\n", "streaming.tls.name: there is no such key"},
		{"tls:\n  cert: /c\n", "tls: there is no such key"},
	};
	struct err e = ERR_NULL;
	struct config c;

	CHECK_INT(load("streaming:\n  address: \"::1\"\n  tls:\n    cert: /c\n    key: /k\n"
		       "    min_version: 1.3\n  idle_timeout: 5\n",
		       &c, &e),
		  0);
	CHECK_STR(c.streaming.address, "::1");
	CHECK_STR(c.streaming.tls.key, "/k");
	CHECK_STR(c.streaming.tls.min_version, "1.3");
	CHECK_INT(c.streaming.idle_timeout_us, 5000000);
	config_fini(&c);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_INT(load(bad[i].text, &c, &e), -EINVAL);
		CHECK(strstr(e.msg, bad[i].message) != NULL);
	}
}

static void test_the_file(void)
{
	struct config c;
	struct err e = ERR_NULL;

	CHECK_INT(
		load("root: /data\ncni:\n  timeout: 5\n  bin_dirs: [/a, /b]\nlog:\n  level: debug\n"
		     "container: {max_log_line: 4KiB}\nbridge:\n  ipv6: \"\"\n"
		     "runtimes:\n  kata:\n    path: /opt/kata\n    args: [--debug]\n"
		     "    isolation: vm\n    unit: pod\n    routes: true\n"
		     "default_runtimes: [kata]\n",
		     &c, &e),
		0);
	CHECK_STR(c.root, "/data");
	CHECK_INT(c.cni.timeout_us, 5000000);
	CHECK_STR(c.cni.bin_dirs[1], "/b");
	CHECK(!c.cni.bin_dirs[2]);
	CHECK_INT(c.log.level, LOG_LEVEL_DEBUG);
	CHECK_INT(c.container.max_log_line, 4096);
	CHECK_STR(c.bridge.ipv6, "");
	CHECK_STR(config_runtime_find(&c, "kata")->path, "/opt/kata");
	CHECK_STR(config_runtime_find(&c, "kata")->args[0], "--debug");
	CHECK_INT(config_runtime_find(&c, "kata")->isolation, CONFIG_ISOLATION_VM);
	CHECK_INT(config_runtime_find(&c, "kata")->unit, CONFIG_UNIT_POD);
	CHECK(config_runtime_find(&c, "kata")->routes);
	CHECK(!config_runtime_find(&c, "crun"));
	config_fini(&c);
}

static void test_addresses(void)
{
	static const char *const good[] = {"127.0.0.1:9464", "[::1]:9464", "0.0.0.0:0",
					   "unix:/run/gantry/metrics.sock"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_free_ char *text = xasprintf("metrics: {address: \"%s\"}\n", good[i]);
		struct config c;
		struct err e = ERR_NULL;

		CHECK_INT(load(text, &c, &e), 0);
		CHECK_STR(c.metrics.address, good[i]);
		config_fini(&c);
	}
}

static void test_errors(void)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"rot: /x\n", ":1: rot: there is no such key"},
		{"cni:\n  timeout: no\n",
		 ":2: cni.timeout: found \"no\", expected a number from 1 to 3600"},
		{"cni:\n  timeout: 0\n", "expected a number"},
		{"root: relative\n", "expected an absolute path"},
		{"log: {level: loud}\n", "expected error, warn, info or debug"},
		{"bridge: [1]\n", "found \"a list\", expected a mapping"},
		{"root: [", ":"},
		{"default_runtimes: [nope]\n", "\"nope\" is not among the runtimes"},
		{"runtimes: {UP: {path: x}}\n", "a handler's name"},
		{"runtimes: {a: {path: x, b: c}}\n",
		 "path, args, needs, isolation, unit, routes, privileged_without_host_devices, "
		 "pod_annotations or container_annotations"},
		{"runtimes: {a: {isolation: strong}}\n", "expected plain, userns, kernel or vm"},
		{"runtimes: {a: {needs: [horse]}}\n", "expected kvm, unix:/PATH, program:NAME or"},
		{"runtimes: {a: {needs: [\"unix:x\"]}}\n", "expected kvm, unix:/PATH"},
		{"runtimes: {a: {needs: [\"program:\"]}}\n", "expected kvm, unix:/PATH"},
		{"runtimes: {a: {unit: node}}\n", "expected container or pod"},
		{"runtimes: {a: {routes: yes}}\n", "expected true or false"},
		{"container: {default_ulimits: [nofile=5:4]}\n", "expected NAME=SOFT:HARD"},
		{"container: {default_ulimits: [files=5]}\n", "expected NAME=SOFT:HARD"},
		{"container: {default_ulimits: [\"core=1:\"]}\n", "expected NAME=SOFT:HARD"},
		{"container: {default_ulimits: [core]}\n", "expected NAME=SOFT:HARD"},
		{"metrics: {address: here}\n", "metrics.address: \"here\", expected ADDRESS:PORT"},
		{"metrics: {address: \"localhost:9464\"}\n", "expected ADDRESS:PORT"},
		{"metrics: {address: \"127.0.0.1:99999\"}\n", "expected ADDRESS:PORT"},
		{"metrics: {address: \"::1:9464\"}\n", "expected ADDRESS:PORT"},
		{"metrics: {address: \"unix:x.sock\"}\n", "expected ADDRESS:PORT"},
		{"bridge: {name: much-too-long-for-it}\n", "no name of an interface"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config c;
		struct err e = ERR_NULL;

		CHECK(load(cases[i].text, &c, &e) < 0);
		CHECK_INT(e.code, GRPC_INVALID_ARGUMENT);
		CHECK(strstr(e.msg, cases[i].message));
	}
}

/* What is printed can be read, and says the same. */
static void test_dump(void)
{
	struct config_flags f = {.root = "/r", .state = "/s"};
	struct strbuf one = STRBUF_NULL, two = STRBUF_NULL;
	struct config c;
	struct err e = ERR_NULL;

	CHECK_INT(config_load(&f, &c, &e), 0);
	config_dump(&c, &one);
	config_fini(&c);
	CHECK_INT(load(one.s, &c, &e), 0);
	config_dump(&c, &two);
	CHECK_STR(one.s, two.s);
	config_fini(&c);
	strbuf_fini(&one);
	strbuf_fini(&two);
}

/* What only a start can change stays, and is named; the rest is the new one's. */
static void test_keep_fixed(void)
{
	struct config now, next;
	struct strbuf names = STRBUF_NULL;
	struct err e = ERR_NULL;

	CHECK_INT(load("root: /r\nstate: /s\nimage: {pinned: [a]}\nlimits: {max_requests: 20}\n",
		       &now, &e),
		  0);
	CHECK_INT(load("root: /r\nstate: /t\nimage: {pinned: [b, c]}\nlimits: {max_requests: 30}\n",
		       &next, &e),
		  0);
	config_keep_fixed(&now, &next, &names);
	/* (bridge.* follow from the state directory.) */
	CHECK(strstr(names.s, "state, address, ") == names.s);
	CHECK(strstr(names.s, ", limits.max_requests"));
	CHECK(!strstr(names.s, "pinned"));
	config_fini(&now);
	CHECK_STR(next.state, "/s");
	CHECK_STR(next.address, "/s/gantry.sock");
	CHECK(str_has_prefix(next.instance, "gantry-"));
	CHECK_INT((long long)next.limits.max_requests, 20);
	CHECK_STR(next.image.pinned[1], "c");
	config_fini(&next);
	strbuf_fini(&names);
}

static void test_runtime_equal(void)
{
	struct config a, b;
	struct err e = ERR_NULL;

	CHECK_INT(
		load("runtimes: {crun: {path: /x, args: [a, b]}, runc: {path: /x, args: [a, b]}}\n",
		     &a, &e),
		0);
	CHECK_INT(load("runtimes: {crun: {path: /x, args: [a, b]}, runc: {path: /x, args: [a]}}\n",
		       &b, &e),
		  0);
	CHECK(config_runtime_equal(&a.runtimes[0], &b.runtimes[0]));
	CHECK(!config_runtime_equal(&a.runtimes[0], &a.runtimes[1])); /* the name */
	CHECK(!config_runtime_equal(&a.runtimes[1], &b.runtimes[1]));
	config_fini(&a);
	config_fini(&b);
}

int main(void)
{
	TEST(defaults);
	TEST(the_file);
	TEST(streaming);
	TEST(addresses);
	TEST(errors);
	TEST(dump);
	TEST(keep_fixed);
	TEST(runtime_equal);
	return test_done();
}
