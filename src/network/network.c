/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of network share, and the way to them: see network.h. */
#include "network/network.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>

#include "base/fs.h"
#include "base/mem.h"
#include "network/network_internal.h"
#include "wire/json.h"

#define CONFIG_MAX 65536

void network_config_print(const struct network_config *c, struct strbuf *to)
{
	struct jw w = JW_INIT(to);

	jw_object_begin(&w);
	jw_key_string(&w, "kind", c->kind);
	jw_key_string(&w, "instance", c->instance);
	jw_key_string(&w, "state", c->state);
	jw_key_string(&w, "confDir", c->conf_dir);
	jw_key_uint(&w, "timeoutUs", c->timeout_us);
	jw_key_string(&w, "bridge", c->bridge);
	jw_key_string(&w, "ipv4", c->ipv4);
	jw_key_string(&w, "ipv6", c->ipv6);
	jw_key_uint(&w, "mtu", c->mtu);
	jw_key_bool(&w, "masquerade", c->masquerade);
	jw_key_array(&w, "binDirs");
	for (size_t i = 0; i < c->bin_dirs.n; i++)
		jw_string(&w, c->bin_dirs.v[i]);
	jw_array_end(&w);
	jw_object_end(&w);
}

int network_config_parse(const char *json, struct network_config *ret, struct err *e)
{
	struct network_config c = {0};
	jv *v, *dirs;
	int r = jv_parse(json, strlen(json), CONFIG_MAX, "network configuration", &v, e);

	if (r < 0)
		return r;
	c.doc = v;
	c.kind = jv_string(v, "kind", "");
	c.instance = jv_string(v, "instance", "gantry");
	c.state = jv_string(v, "state", "");
	c.conf_dir = jv_string(v, "confDir", "");
	c.timeout_us = (uint64_t)jv_int(v, "timeoutUs", 60000000);
	c.bridge = jv_string(v, "bridge", "gantry0");
	c.ipv4 = jv_string(v, "ipv4", "");
	c.ipv6 = jv_string(v, "ipv6", "");
	c.mtu = (uint32_t)jv_int(v, "mtu", 0);
	c.masquerade = jv_bool(v, "masquerade", true);
	dirs = jv_get(v, "binDirs");
	for (size_t i = 0; i < jv_len(dirs); i++)
		if (jv_as_string(jv_at(dirs, i)))
			strv_add(&c.bin_dirs, jv_as_string(jv_at(dirs, i)));
	*ret = c;
	return 0;
}

void network_config_fini(struct network_config *c)
{
	strv_fini(&c->bin_dirs);
	if (c->doc)
		jv_free(c->doc);
	*c = (struct network_config){0};
}

static const struct network_ops *ops_of(const struct network_config *c)
{
	return streq(c->kind, "cni") ? &network_cni : &network_bridge;
}

int network_setup(const struct network_config *c, const struct network_pod *p,
		  struct strbuf *ret_ips, struct err *e)
{
	return ops_of(c)->setup(c, p, ret_ips, e);
}

int network_teardown(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	return ops_of(c)->teardown(c, p, e);
}

int network_check(const struct network_config *c, const struct network_pod *p, struct err *e)
{
	return ops_of(c)->check(c, p, e);
}

int network_status(const struct network_config *c, struct err *e)
{
	return ops_of(c)->status(c, e);
}

int network_gc(const struct network_config *c, const struct strv *live, struct err *e)
{
	return ops_of(c)->gc(c, live, e);
}

bool network_conf_present(const char *conf_dir)
{
	DIR *d = opendir(conf_dir);
	bool found = false;

	if (!d)
		return false;
	for (struct dirent *f; !found && (f = readdir(d));)
		found = f->d_name[0] != '.' &&
			(str_has_suffix(f->d_name, ".conflist") ||
			 str_has_suffix(f->d_name, ".conf") || str_has_suffix(f->d_name, ".json"));
	closedir(d);
	return found;
}

int network_open_inside(int netns_fd, struct nl *ret, struct err *e)
{
	_cleanup_close_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (here < 0 || setns(netns_fd, CLONE_NEWNET) < 0)
		return err_errno(e, -errno, "enter the pod's network namespace");
	r = nl_open(ret, e);
	if (setns(here, CLONE_NEWNET) < 0)
		abort(); /* going on in the wrong namespace would touch a stranger's network */
	return r;
}

int network_loopback_up(int netns_fd, struct err *e)
{
	_cleanup_nl_ struct nl nl = NL_NULL;
	int r = network_open_inside(netns_fd, &nl, e);

	return r < 0 ? r : nl_set_up(&nl, 1, true, e); /* lo is always the first */
}

int network_lock(const struct network_config *c, const char *name, int *ret_fd, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", c->state, name);
	int fd, r = fs_mkdir_p(AT_FDCWD, c->state, 0755);

	fd = r < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, r < 0 ? r : -errno, "open %s", path);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR) {
			r = err_errno(e, -errno, "lock %s", path);
			close(fd);
			return r;
		}
	*ret_fd = fd;
	return 0;
}
