/* SPDX-License-Identifier: Apache-2.0 */
/* `mounts` of config.json: see spec.h. */
#include <sys/mount.h>

#include "base/mem.h"
#include "spec/resources.h"

static void mount_begin(struct jw *w, const char *destination, const char *type, const char *source)
{
	jw_object_begin(w);
	jw_key_string(w, "destination", destination);
	jw_key_string(w, "type", type);
	jw_key_string(w, "source", source);
	jw_key_array(w, "options");
}

static void mount_end(struct jw *w)
{
	jw_array_end(w);
	jw_object_end(w);
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void mount_fixed(struct jw *w, const char *destination, const char *type, const char *source,
			const char *const *options)
{
	mount_begin(w, destination, type, source);
	for (; *options; options++)
		jw_string(w, *options);
	mount_end(w);
}

/* Notes a mount that the caller makes.  Returns where it will be, owned. */
static char *add_bind(const struct spec_container *s, const char *source, const struct spec_bind *b)
{
	struct spec_binds *to = s->binds;

	if (to->n == to->cap) {
		to->cap = to->cap ? to->cap * 2 : 8;
		to->v = xrealloc(to->v, to->cap * sizeof(*to->v));
	}
	to->v[to->n] = *b;
	to->v[to->n].source = xstrdup(source);
	return xasprintf("%s/%zu", s->binds_dir, to->n++);
}

/* A mount of the host's in a container that has a user namespace: options are the caller's. */
static void mount_bind(const struct spec_container *s, struct jw *w, const char *destination,
		       const char *propagation, const char *source, const struct spec_bind *b)
{
	_cleanup_free_ char *at = add_bind(s, source, b);

	mount_fixed(w, destination, "bind", at, OPTIONS("rbind", propagation));
}

void spec_binds_fini(struct spec_binds *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].source);
	free(b->v);
	*b = (struct spec_binds){0};
}

bool spec_same_path(const char *a, const char *b)
{
	for (;;) {
		while (*a == '/')
			a++;
		while (*b == '/')
			b++;
		if (!*a || !*b)
			return !*a && !*b;
		while (*a && *a != '/')
			if (*a++ != *b++)
				return false;
		if (*b && *b != '/')
			return false;
	}
}

/* --- mounts that files on the node add --- */

static const char *added_path(const struct spec_container *s, size_t i)
{
	return jv_string(jv_at(jv_get(s->edits, "mounts"), i), "destination", "");
}

/* Number `from` or a later one is there: the last one counts. */
static bool added(const struct spec_container *s, size_t from, const char *path)
{
	for (size_t i = from; i < jv_len(jv_get(s->edits, "mounts")); i++)
		if (spec_same_path(added_path(s, i), path))
			return true;
	return false;
}

/* What a request mounts takes the place of what would be there by default, and what is added the
 * place of either. */
static bool taken(const struct spec_container *s, const char *path)
{
	if (added(s, 0, path))
		return true;
	for (size_t i = 0; i < s->config->n_mounts; i++)
		if (spec_same_path(s->config->mounts[i]->container_path, path))
			return true;
	return false;
}

/* In the container's own /dev; where that is a volume, nothing is left in it. */
const char *spec_env_path(const struct spec_container *s)
{
	return taken(s, "/dev") ? "/.gantry-env" : "/dev/.gantry-env";
}

/* The group of terminals, which a mapping must have for devpts to take it. */
#define TTY_GROUP 5

static bool has_tty_group(const struct spec_container *s)
{
	const Runtime__V1__UserNamespace *u = spec_mapped(s) ? spec_userns_of(s->pod) : NULL;

	return !u || u->gids[0]->length > TTY_GROUP;
}

/* sysfs shows a network namespace, whose owner alone may mount it. */
static void mount_sys(const struct spec_container *s, struct jw *w, const char *mode)
{
	const struct spec_bind host = {.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					      MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
				       .deep = true};

	if (spec_mapped(s) && str_empty(s->netns))
		mount_bind(s, w, "/sys", "rprivate", "/sys", &host);
	else
		mount_fixed(w, "/sys", "sysfs", "sysfs",
			    OPTIONS("nosuid", "noexec", "nodev", mode));
}

static void default_mounts(const struct spec_container *s, struct jw *w)
{
	const char *mode = spec_privileged(s) ? "rw" : "ro";

	if (!taken(s, "/proc"))
		mount_fixed(w, "/proc", "proc", "proc", OPTIONS("nosuid", "noexec", "nodev"));
	if (!taken(s, "/dev"))
		mount_fixed(w, "/dev", "tmpfs", "tmpfs",
			    OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k"));
	if (!taken(s, "/dev/pts") && !taken(s, "/dev"))
		mount_fixed(w, "/dev/pts", "devpts", "devpts",
			    OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
				    has_tty_group(s) ? "gid=5" : NULL));
	if (!taken(s, "/dev/mqueue") && !taken(s, "/dev"))
		mount_fixed(w, "/dev/mqueue", "mqueue", "mqueue",
			    OPTIONS("nosuid", "noexec", "nodev"));
	if (!taken(s, "/sys"))
		mount_sys(s, w, mode);
	if (!taken(s, "/sys/fs/cgroup") && !taken(s, "/sys"))
		mount_fixed(w, "/sys/fs/cgroup", "cgroup", "cgroup",
			    OPTIONS("nosuid", "noexec", "nodev", "relatime", mode));
	if (!taken(s, "/dev/shm") && !taken(s, "/dev") && !str_empty(s->shm) && spec_mapped(s))
		mount_bind(s, w, "/dev/shm", "rprivate", s->shm,
			   &(struct spec_bind){.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						      MOUNT_ATTR_NOEXEC});
	else if (!taken(s, "/dev/shm") && !taken(s, "/dev") && !str_empty(s->shm))
		mount_fixed(w, "/dev/shm", "bind", s->shm,
			    OPTIONS("rbind", "rprivate", "nosuid", "nodev", "noexec"));
}

static void pod_file(const struct spec_container *s, struct jw *w, const char *destination,
		     const char *source)
{
	bool ro = spec_security(s) && spec_security(s)->readonly_rootfs;
	const struct spec_bind b = {.set = ro ? MOUNT_ATTR_RDONLY : 0};

	if (taken(s, destination) || str_empty(source))
		return;
	if (spec_mapped(s))
		mount_bind(s, w, destination, "rprivate", source, &b);
	else
		mount_fixed(w, destination, "bind", source,
			    OPTIONS("rbind", "rprivate", ro ? "ro" : "rw"));
}

static void pod_files(const struct spec_container *s, struct jw *w)
{
	pod_file(s, w, "/etc/resolv.conf", s->resolv_conf);
	pod_file(s, w, "/etc/hostname", s->hostname_file);
}

static const char *propagation(const Runtime__V1__Mount *m)
{
	switch (m->propagation) {
	case RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER:
		return "rslave";
	case RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL:
		return "rshared";
	default:
		return "rprivate";
	}
}

/* Options that a request may give a mount (cri/validate_container.c), as attributes. */
static const struct mount_option {
	const char *name;
	uint64_t set, clear;
} mount_options[] = {
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
	{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
	{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
};

/* The last one wins. */
static void set_attribute(struct spec_bind *b, const struct mount_option *o)
{
	b->set = (b->set & ~o->clear) | o->set;
	b->clear = (b->clear & ~o->set) | o->clear;
}

static void add_attributes(struct spec_bind *b, const Runtime__V1__Mount *m)
{
	for (size_t i = 0; i < m->n_mount_options; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(mount_options); k++) {
			if (streq(m->mount_options[i], mount_options[k].name))
				set_attribute(b, &mount_options[k]);
		}
	}
}

static void print_attributes(uint64_t set, struct jw *w)
{
	for (size_t k = 0; k < ARRAY_SIZE(mount_options); k++)
		if (set & mount_options[k].set)
			jw_string(w, mount_options[k].name);
}

bool spec_mount_is_image(const Runtime__V1__Mount *m)
{
	return m->image && !str_empty(m->image->image);
}

/* An image is read-only in any case; its devices and privileges are not the container's, unless it
 * asks for them.  Its programs may be run (KEP-4639). */
static void print_image_mount(const struct spec_container *s, const Runtime__V1__Mount *m,
			      struct jw *w)
{
	struct spec_bind b = {.image = m,
			      .set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
			      .mapped = m->n_uidmappings > 0};
	_cleanup_free_ char *at = NULL;

	add_attributes(&b, m);
	at = add_bind(s, "", &b);
	mount_begin(w, m->container_path, "bind", at);
	jw_string(w, "rbind");
	jw_string(w, "rprivate");
	if (!spec_mapped(s)) { /* crun 1.8 sets to what stands here whatever is not locked */
		jw_string(w, "ro");
		print_attributes(b.set, w);
	}
	mount_end(w);
}

static void print_mapped_mount(const struct spec_container *s, const Runtime__V1__Mount *m,
			       struct jw *w)
{
	struct spec_bind b = {.set = m->readonly ? MOUNT_ATTR_RDONLY : 0,
			      .deep = m->recursive_read_only,
			      .mapped = m->n_uidmappings > 0};

	add_attributes(&b, m);
	mount_bind(s, w, m->container_path, propagation(m), m->host_path, &b);
}

/* Made by the caller: so it needs the kernel alone, and no runtime that knows of it. */
static void print_recursive(const struct spec_container *s, const Runtime__V1__Mount *m,
			    struct jw *w)
{
	struct spec_bind b = {.set = MOUNT_ATTR_RDONLY, .deep = true};
	_cleanup_free_ char *at = NULL;

	add_attributes(&b, m);
	at = add_bind(s, m->host_path, &b);
	mount_begin(w, m->container_path, "bind", at);
	jw_string(w, "rbind");
	jw_string(w, "rprivate");
	jw_string(w, "ro");
	print_attributes(b.set, w);
	mount_end(w);
}

static void print_mount(const struct spec_container *s, const Runtime__V1__Mount *m, struct jw *w)
{
	if (spec_mount_is_image(m)) {
		print_image_mount(s, m, w);
		return;
	}
	if (spec_mapped(s)) {
		print_mapped_mount(s, m, w);
		return;
	}
	if (m->recursive_read_only) {
		print_recursive(s, m, w);
		return;
	}
	mount_begin(w, m->container_path, "bind", m->host_path);
	jw_string(w, "rbind");
	jw_string(w, propagation(m));
	jw_string(w, m->readonly ? "ro" : "rw");
	spec_strings(w, m->mount_options, m->n_mount_options);
	mount_end(w);
}

static void add_option(struct spec_bind *b, const char *option)
{
	if (streq(option, "ro") || streq(option, "rro"))
		b->set |= MOUNT_ATTR_RDONLY;
	b->deep |= streq(option, "rro");
	for (size_t k = 0; k < ARRAY_SIZE(mount_options); k++)
		if (streq(option, mount_options[k].name))
			set_attribute(b, &mount_options[k]);
}

static bool is_propagation(const char *option)
{
	return streq(option, "rprivate") || streq(option, "rslave") || streq(option, "private") ||
	       streq(option, "slave");
}

/* Of a pod with a user namespace: made by the caller, as the request's mounts are. */
static void print_added_mapped(const struct spec_container *s, const jv *m, struct jw *w)
{
	const jv *options = jv_get(m, "options");
	struct spec_bind b = {.mapped = true};
	const char *how = "rprivate";

	for (size_t i = 0; i < jv_len(options); i++) {
		const char *o = str_or_empty(jv_as_string(jv_at(options, i)));

		add_option(&b, o);
		how = is_propagation(o) ? o : how;
	}
	mount_bind(s, w, jv_string(m, "destination", ""), how, jv_string(m, "source", ""), &b);
}

static void print_added(const struct spec_container *s, size_t i, struct jw *w)
{
	const jv *m = jv_at(jv_get(s->edits, "mounts"), i), *options = jv_get(m, "options");

	if (spec_mapped(s) && streq(jv_string(m, "type", ""), "bind")) {
		print_added_mapped(s, m, w);
		return;
	}
	mount_begin(w, jv_string(m, "destination", ""), jv_string(m, "type", ""),
		    jv_string(m, "source", ""));
	for (size_t k = 0; k < jv_len(options); k++)
		jw_string(w, str_or_empty(jv_as_string(jv_at(options, k))));
	mount_end(w);
}

/* --- volumes of the image --- */

/* What is mounted on these is no data (/sys/fs/cgroup in images that run systemd). */
static bool is_kernels(const char *path)
{
	static const char *const tops[] = {"proc", "sys", "dev"};
	size_t n;

	path += strspn(path, "/");
	n = strcspn(path, "/");
	for (size_t i = 0; i < ARRAY_SIZE(tops); i++)
		if (strlen(tops[i]) == n && strncmp(tops[i], path, n) == 0)
			return true;
	return false;
}

static bool is_volume(const struct spec_container *s, const char *path)
{
	return *path == '/' && strspn(path, "/.") != strlen(path) && !is_kernels(path) &&
	       !taken(s, path);
}

int spec_volumes(const struct spec_container *s, struct strv *to, struct err *e)
{
	const struct strv *all = &s->image->volumes;

	for (size_t i = 0; i < all->n; i++)
		if (is_volume(s, all->v[i]))
			strv_add(to, all->v[i]);
	if (to->n > SPEC_VOLUMES_MAX)
		return err_invalid(e, "image \"%s\": it names %zu volumes, at most %d are possible",
				   s->image_name, to->n, SPEC_VOLUMES_MAX);
	return 0;
}

bool spec_volumes_mounted(const struct spec_container *s)
{
	return spec_security(s) && spec_security(s)->readonly_rootfs;
}

/* What of the root is mounted once more stays writable where the root is not. */
static void print_volume(const struct spec_container *s, const char *path, size_t i, struct jw *w)
{
	_cleanup_free_ char *at = xasprintf("%s/v%zu", s->binds_dir, i);

	mount_fixed(w, path, "bind", at, OPTIONS("rbind", "rprivate"));
}

static unsigned depth(const char *path)
{
	unsigned n = 0;

	for (; *path; path++)
		n += *path == '/' && path[1] && path[1] != '/';
	return n;
}

static void print_mounts_of(const struct spec_container *s, const struct strv *volumes, unsigned d,
			    struct jw *w)
{
	const jv *more = jv_get(s->edits, "mounts");

	for (size_t i = 0; i < volumes->n; i++)
		if (depth(volumes->v[i]) == d)
			print_volume(s, volumes->v[i], i, w);
	for (size_t i = 0; i < s->config->n_mounts; i++)
		if (depth(s->config->mounts[i]->container_path) == d &&
		    !added(s, 0, s->config->mounts[i]->container_path))
			print_mount(s, s->config->mounts[i], w);
	for (size_t i = 0; i < jv_len(more); i++)
		if (depth(added_path(s, i)) == d && !added(s, i + 1, added_path(s, i)))
			print_added(s, i, w);
}

/* Outer ones before what is mounted inside them; otherwise as they came. */
void spec_mounts_print(const struct spec_container *s, struct jw *w)
{
	_cleanup_strv_ struct strv volumes = STRV_NULL;
	unsigned deepest = 0;

	if (spec_volumes_mounted(s))
		spec_volumes(s, &volumes, NULL);
	for (size_t i = 0; i < volumes.n; i++)
		deepest = MAX(deepest, depth(volumes.v[i]));
	jw_key_array(w, "mounts");
	default_mounts(s, w);
	pod_files(s, w);
	for (size_t i = 0; i < s->config->n_mounts; i++)
		deepest = MAX(deepest, depth(s->config->mounts[i]->container_path));
	for (size_t i = 0; i < jv_len(jv_get(s->edits, "mounts")); i++)
		deepest = MAX(deepest, depth(added_path(s, i)));
	for (unsigned d = 0; d <= deepest; d++)
		print_mounts_of(s, &volumes, d, w);
	if (spec_env_needs_help(s) && spec_mapped(s))
		mount_bind(s, w, spec_env_path(s), "rprivate", s->env_program,
			   &(struct spec_bind){.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
						      MOUNT_ATTR_NODEV});
	else if (spec_env_needs_help(s))
		mount_fixed(w, spec_env_path(s), "bind", s->env_program,
			    OPTIONS("bind", "rprivate", "ro", "nosuid", "nodev"));
	jw_array_end(w);
}

/* What a mount propagates must get through the container's root. */
const char *spec_root_propagation(const struct spec_container *s)
{
	const char *p = NULL;

	for (size_t i = 0; i < s->config->n_mounts; i++) {
		const char *q = propagation(s->config->mounts[i]);

		if (streq(q, "rshared"))
			return "shared";
		if (streq(q, "rslave"))
			p = "slave";
	}
	return p;
}
