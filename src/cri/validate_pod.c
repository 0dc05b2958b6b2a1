/* SPDX-License-Identifier: Apache-2.0 */
/* PodSandboxConfig, field by field: see validate.h. */
#include <arpa/inet.h>

#include "cri/validate_internal.h"
#include "pod/bandwidth.h"
#include "sys/cgroup.h"

static int check_metadata(const Runtime__V1__PodSandboxMetadata *m, struct err *e)
{
	int r;

	if (!m)
		return err_invalid(e, "config.metadata: must be given");
	r = check_name("config.metadata.name", m->name, e);
	if (r == 0)
		r = check_name("config.metadata.uid", m->uid, e);
	if (r == 0)
		r = check_name("config.metadata.namespace", m->namespace_, e);
	return r;
}

static int check_hostname(const char *s, struct err *e)
{
	if (strlen(s) > VALIDATE_HOSTNAME_MAX)
		return err_invalid(e, "config.hostname: \"%s\" is longer than %d characters", s,
				   VALIDATE_HOSTNAME_MAX);
	for (const char *p = s; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		      (*p >= '0' && *p <= '9') || *p == '-' || *p == '.'))
			return err_invalid(e,
					   "config.hostname: \"%s\", expected letters, digits, '-' "
					   "and '.'",
					   s);
	if (*s == '-' || *s == '.')
		return err_invalid(e, "config.hostname: \"%s\" must not begin with '%c'", s, *s);
	if (*s && strchr("-.", s[strlen(s) - 1]))
		return err_invalid(e, "config.hostname: \"%s\" must not end with '%c'", s,
				   s[strlen(s) - 1]);
	if (strstr(s, ".."))
		return err_invalid(e, "config.hostname: \"%s\" holds an empty label", s);
	return 0;
}

static bool is_ip(const char *s)
{
	_cleanup_free_ char *plain = xstrndup(s, strcspn(s, "%")); /* fe80::1%eth0 */
	unsigned char buf[16];

	return inet_pton(AF_INET, s, buf) == 1 || inet_pton(AF_INET6, plain, buf) == 1;
}

static int check_word(const char *field, const char *s, struct err *e)
{
	int r = check_text(field, s, false, VALIDATE_NAME_MAX, e);

	if (r == 0 && strpbrk(s, " \t"))
		r = err_invalid(e, "%s: \"%s\" must not contain a space", field, s);
	return r;
}

static int check_dns(const Runtime__V1__DNSConfig *d, struct err *e)
{
	int r;

	if (!d)
		return 0;
	r = check_count("config.dns_config.servers", d->n_servers, VALIDATE_DNS_MAX, e);
	if (r == 0)
		r = check_count("config.dns_config.searches", d->n_searches, VALIDATE_DNS_MAX, e);
	if (r == 0)
		r = check_count("config.dns_config.options", d->n_options, VALIDATE_DNS_MAX, e);
	for (size_t i = 0; r == 0 && i < d->n_servers; i++)
		if (!is_ip(d->servers[i]) || strpbrk(d->servers[i], " \t\n"))
			r = err_invalid(e, "config.dns_config.servers: \"%s\" is no IP address",
					d->servers[i]);
	for (size_t i = 0; r == 0 && i < d->n_searches; i++)
		r = check_word("config.dns_config.searches", d->searches[i], e);
	for (size_t i = 0; r == 0 && i < d->n_options; i++)
		r = check_word("config.dns_config.options", d->options[i], e);
	return r;
}

static int check_port(const Runtime__V1__PortMapping *p, struct err *e)
{
	if (p->protocol != RUNTIME__V1__PROTOCOL__TCP &&
	    p->protocol != RUNTIME__V1__PROTOCOL__UDP && p->protocol != RUNTIME__V1__PROTOCOL__SCTP)
		return err_invalid(e,
				   "config.port_mappings.protocol: %d, expected TCP, UDP or SCTP",
				   (int)p->protocol);
	if (p->container_port < 1 || p->container_port > 65535)
		return err_invalid(e,
				   "config.port_mappings.container_port: %d, expected 1 to 65535",
				   p->container_port);
	if (p->host_port < 0 || p->host_port > 65535)
		return err_invalid(e, "config.port_mappings.host_port: %d, expected 0 to 65535",
				   p->host_port);
	if (*p->host_ip && !is_ip(p->host_ip))
		return err_invalid(e, "config.port_mappings.host_ip: \"%s\" is no IP address",
				   p->host_ip);
	return 0;
}

static int check_ports(const Runtime__V1__PodSandboxConfig *c, struct err *e)
{
	int r = check_count("config.port_mappings", c->n_port_mappings, VALIDATE_LIST_MAX, e);

	for (size_t i = 0; r == 0 && i < c->n_port_mappings; i++) {
		const Runtime__V1__PortMapping *p = c->port_mappings[i];

		r = check_port(p, e);
		for (size_t j = 0; r == 0 && p->host_port && j < i; j++) {
			const Runtime__V1__PortMapping *q = c->port_mappings[j];

			if (q->host_port == p->host_port && q->protocol == p->protocol &&
			    streq(q->host_ip, p->host_ip))
				r = err_invalid(e,
						"config.port_mappings.host_port: %d is there twice "
						"for one protocol and address",
						p->host_port);
		}
	}
	return r;
}

static int check_cgroup_parent(const struct node *n, const char *s, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct err why = ERR_NULL;

	if (!*s)
		return 0;
	if (!n->cgroup_systemd)
		return check_path("config.linux.cgroup_parent", s, false, e);
	if (strchr(s, '/')) /* the kubelet may send the expanded form */
		s = strrchr(s, '/') + 1;
	if (cgroup_expand_slice(s, &path, &why) < 0)
		return err_invalid(e,
				   "config.linux.cgroup_parent: \"%s\" is no systemd slice, which "
				   "the systemd cgroup driver needs (%s)",
				   s, why.msg);
	return 0;
}

static Runtime__V1__NamespaceOption *namespaces(const Runtime__V1__LinuxPodSandboxConfig *l)
{
	return l->security_context ? l->security_context->namespace_options : NULL;
}

/* The kernel shows processes and queues of the node's namespaces to their owner only. */
static int check_user_namespace(const char *field, const Runtime__V1__NamespaceOption *o,
				struct err *e)
{
	const Runtime__V1__UserNamespace *u = o->userns_options;
	_cleanup_free_ char *full = xasprintf("%s.userns_options", field);
	int r = check_userns(full, u, e);

	if (r < 0 || !u || u->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
		return r;
	if (o->pid == RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e,
				   "%s.mode: POD, but %s.pid is NODE: a user namespace cannot "
				   "have the node's processes",
				   full, field);
	if (o->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e,
				   "%s.mode: POD, but %s.ipc is NODE: a user namespace cannot "
				   "have the node's IPC namespace",
				   full, field);
	return 0;
}

static int check_namespaces(const Runtime__V1__NamespaceOption *o, struct err *e)
{
	static const char field[] = "config.linux.security_context.namespace_options";

	if (!o)
		return 0;
	if (o->network != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    o->network != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e, "%s.network: %d, expected POD or NODE", field,
				   (int)o->network);
	if (o->ipc != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    o->ipc != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e, "%s.ipc: %d, expected POD or NODE", field, (int)o->ipc);
	if (o->pid != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    o->pid != RUNTIME__V1__NAMESPACE_MODE__CONTAINER &&
	    o->pid != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return err_invalid(e, "%s.pid: %d, expected POD, CONTAINER or NODE", field,
				   (int)o->pid);
	if (*o->target_id)
		return err_invalid(e, "%s.target_id: \"%s\" is for containers only", field,
				   o->target_id);
	return check_user_namespace(field, o, e);
}

static bool starts(const char *s, const char *const *prefixes)
{
	for (; *prefixes; prefixes++)
		if (str_has_prefix(s, *prefixes))
			return true;
	return false;
}

/* Only what belongs to a namespace of the pod may be set (namespaces(7)). */
static int check_sysctl(const char *key, const char *value, const Runtime__V1__NamespaceOption *o,
			struct err *e)
{
	static const char *const ipc[] = {"kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.",
					  NULL};
	static const char *const net[] = {"net.", NULL};
	_cleanup_free_ char *dotted = xstrdup(key);
	int r;

	for (char *p = dotted; *p; p++)
		*p = *p == '/' ? '.' : *p;
	r = check_text("config.linux.sysctls", key, false, VALIDATE_NAME_MAX, e);
	if (r == 0)
		r = check_text("config.linux.sysctls", value, true, VALIDATE_PATH_MAX, e);
	if (r < 0)
		return r;
	if (strstr(dotted, "..") || *dotted == '.')
		return err_invalid(e, "config.linux.sysctls: \"%s\" is no name of one", key);
	if (starts(dotted, net)) {
		if (o && o->network == RUNTIME__V1__NAMESPACE_MODE__NODE)
			return err_invalid(
				e,
				"config.linux.sysctls: \"%s\" cannot be set: the pod has "
				"the node's network",
				key);
		return 0;
	}
	if (starts(dotted, ipc)) {
		if (o && o->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE)
			return err_invalid(
				e,
				"config.linux.sysctls: \"%s\" cannot be set: the pod has "
				"the node's IPC namespace",
				key);
		return 0;
	}
	return err_invalid(
		e, "config.linux.sysctls: \"%s\" does not belong to a namespace of the pod", key);
}

static int check_security(const Runtime__V1__LinuxSandboxSecurityContext *s, struct err *e)
{
	static const char field[] = "config.linux.security_context";
	int r;

	if (!s)
		return 0;
	r = check_namespaces(s->namespace_options, e);
	if (r == 0)
		r = check_selinux("config.linux.security_context.selinux_options",
				  s->selinux_options, e);
	if (r == 0)
		r = check_ids(field, s->run_as_user, s->run_as_group, false, s->supplemental_groups,
			      s->n_supplemental_groups, e);
	if (r == 0)
		r = check_policy("config.linux.security_context.supplemental_groups_policy",
				 (int)s->supplemental_groups_policy, e);
	if (r == 0)
		r = check_old_profile("config.linux.security_context.seccomp_profile_path",
				      s->seccomp_profile_path, e);
	if (r == 0)
		r = check_profile("config.linux.security_context.seccomp", s->seccomp, true, e);
	if (r == 0)
		r = check_profile("config.linux.security_context.apparmor", s->apparmor, false, e);
	return r;
}

static int check_linux(const struct node *n, const Runtime__V1__LinuxPodSandboxConfig *l,
		       struct err *e)
{
	int r;

	if (!l)
		return 0;
	r = check_cgroup_parent(n, l->cgroup_parent, e);
	if (r == 0)
		r = check_security(l->security_context, e);
	if (r == 0)
		r = check_count("config.linux.sysctls", l->n_sysctls, VALIDATE_LIST_MAX, e);
	for (size_t i = 0; r == 0 && i < l->n_sysctls; i++)
		r = check_sysctl(l->sysctls[i]->key, l->sysctls[i]->value, namespaces(l), e);
	if (r == 0)
		r = validate_resources(n, "config.linux.overhead", l->overhead, e);
	if (r == 0)
		r = validate_resources(n, "config.linux.resources", l->resources, e);
	return r;
}

int validate_pod(const struct node *n, const Runtime__V1__PodSandboxConfig *c, struct err *e)
{
	uint64_t in, out;
	int r = check_metadata(c->metadata, e);

	if (r == 0)
		r = check_hostname(c->hostname, e);
	if (r == 0)
		r = check_path("config.log_directory", c->log_directory, true, e);
	if (r == 0)
		r = check_dns(c->dns_config, e);
	if (r == 0)
		r = check_ports(c, e);
	if (r == 0)
		r = check_map("config.labels", (void *)c->labels, c->n_labels, e);
	if (r == 0)
		r = check_map("config.annotations", (void *)c->annotations, c->n_annotations, e);
	if (r == 0)
		r = bandwidth_read(c, &in, &out, e);
	if (r == 0)
		r = check_linux(n, c->linux, e);
	if (r == 0 && c->windows)
		r = err_invalid(e, "config.windows: this node runs Linux");
	return r;
}
