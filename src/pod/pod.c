/* SPDX-License-Identifier: Apache-2.0 */
/* The objects and their tables: see pod.h. */
#include "pod/pod.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pod/runtimes.h"

static void *arena_cb_alloc(void *arena, size_t n)
{
	return arena_alloc(arena, n);
}

static void arena_cb_free(void *arena, void *p)
{
	(void)arena;
	(void)p;
}

ProtobufCAllocator pod_allocator(struct arena *a)
{
	return (ProtobufCAllocator){arena_cb_alloc, arena_cb_free, a};
}

static void drop_item(struct strbuf *item)
{
	strbuf_fini(item);
}

static int name_taken(struct err *e, const char *kind, const char *key, const char *holder)
{
	return err_set(e, -EEXIST, GRPC_ALREADY_EXISTS, "%s name \"%s\" is in use by %s", kind, key,
		       holder);
}

/* --- pods --- */

int pod_new(struct node *n, const char *id, const void *config, size_t len, struct pod **ret,
	    struct err *e)
{
	struct pod *p = xcalloc(1, sizeof(*p));
	Runtime__V1__PodSandboxMetadata *m;
	ProtobufCAllocator alloc;

	p->node = n;
	p->refs = 1;
	memcpy(p->id, id, ID_SIZE);
	list_init(&p->in_order);
	list_init(&p->containers);
	co_lock_init(&p->lock);
	co_lock_init(&p->monitor_lock);
	co_lock_init(&p->place_lock);
	memcpy(p->boot_id, n->boot_id, sizeof(p->boot_id));
	p->config_bytes = xmemdup(config, len);
	p->config_len = len;
	alloc = pod_allocator(&p->arena);
	p->config = runtime__v1__pod_sandbox_config__unpack(&alloc, len, p->config_bytes);
	if (!p->config || !p->config->metadata) {
		pod_unref(p);
		return err_invalid(e, "config: no PodSandboxConfig with metadata");
	}
	m = p->config->metadata;
	p->name_key = xasprintf("%s/%s/%s/%" PRIu32, m->name, m->namespace_, m->uid, m->attempt);
	p->handler = xstrdup("");
	p->runtime_name = xstrdup("");
	p->ips = xstrdup("");
	p->netns = xstrdup("");
	p->ipcns = xstrdup("");
	p->userns = xstrdup("");
	p->utsns = xstrdup("");
	p->pidns = xstrdup("");
	p->cgroup_parent = xstrdup("");
	p->cgroup = xstrdup("");
	*ret = p;
	return 0;
}

struct pod *pod_ref(struct pod *p)
{
	p->refs++;
	return p;
}

struct pod *pod_unref(struct pod *p)
{
	if (!p || --p->refs > 0)
		return NULL;
	ipc_conn_close(&p->monitor);
	node_runtime_unref(p->sandbox);
	cgroup_files_close(&p->cgroup_files);
	cgroup_files_close(&p->parent_files);
	arena_fini(&p->arena);
	strbuf_fini(&p->list_item);
	free(p->config_bytes);
	free(p->name_key);
	free(p->handler);
	free(p->runtime_name);
	free(p->ips);
	free(p->netns);
	free(p->ipcns);
	free(p->userns);
	free(p->utsns);
	free(p->pidns);
	free(p->cgroup_parent);
	free(p->cgroup);
	free(p);
	return NULL;
}

int pod_link(struct pod *p, struct err *e)
{
	struct pod *holder = map_get(&p->node->pod_names, p->name_key);

	if (holder)
		return name_taken(e, "pod sandbox", p->name_key, holder->id);
	map_put(&p->node->pod_names, p->name_key, p);
	map_put(&p->node->pods, p->id, p);
	list_append(&p->node->pods_in_order, &p->in_order);
	pod_ref(p);
	return 0;
}

void pod_unlink(struct pod *p)
{
	if (map_get(&p->node->pods, p->id) != p)
		return;
	map_remove(&p->node->pods, p->id);
	map_remove(&p->node->pod_names, p->name_key);
	list_remove(&p->in_order);
	pod_unref(p);
}

/* A prefix is looked for among all keys: a person typed it, the kubelet sends whole ids. */
static void *find_prefix(const struct map *m, const char *prefix, bool *ret_ambiguous)
{
	size_t pos = 0, n = strlen(prefix);
	const struct map_slot *slot;
	void *found = NULL;

	*ret_ambiguous = false;
	while ((slot = map_next_slot(m, &pos))) {
		if (strncmp(slot->key, prefix, n) != 0)
			continue;
		*ret_ambiguous = found != NULL;
		if (found)
			return NULL;
		found = slot->value;
	}
	return found;
}

static int find(const struct map *m, const char *what, const char *id, void **ret, struct err *e)
{
	bool ambiguous = false;

	if (str_empty(id))
		return err_invalid(e, "%s: must not be empty", what);
	*ret = map_get(m, id);
	if (!*ret && strlen(id) < ID_LEN)
		*ret = find_prefix(m, id, &ambiguous);
	if (ambiguous)
		return err_invalid(e, "%s: \"%s\" is the beginning of more than one id", what, id);
	if (!*ret)
		return err_not_found(e, "%s: there is none with id \"%s\"", what, id);
	return 0;
}

int pod_find(struct node *n, const char *id, struct pod **ret, struct err *e)
{
	void *v;
	int r = find(&n->pods, "pod_sandbox_id", id, &v, e);

	if (r == 0)
		*ret = v;
	return r;
}

/* "NAME", and where it is another than a plain one that makes containers: "NAME ISOLATION UNIT". */
static char *print_runtime(const struct pod *p)
{
	if (p->isolation == CONFIG_ISOLATION_PLAIN && p->unit == CONFIG_UNIT_CONTAINER)
		return xstrdup(p->runtime_name);
	return xasprintf("%s %d %d", p->runtime_name, (int)p->isolation, (int)p->unit);
}

void pod_restore_runtime(struct pod *p, const char *row)
{
	size_t n = strcspn(row, " ");
	int isolation = 0, unit = 0;

	free(p->runtime_name);
	p->runtime_name = xstrndup(row, n);
	if (sscanf(row + n, "%d %d", &isolation, &unit) == 2) {
		p->isolation = (enum config_isolation)isolation;
		p->unit = (enum config_unit)unit;
	}
}

int pod_record(struct pod *p, struct err *e)
{
	_cleanup_free_ char *runtime = print_runtime(p);
	struct state_pod row = {
		.id = p->id,
		.config = p->config_bytes,
		.config_len = p->config_len,
		.handler = p->handler,
		.runtime = runtime,
		.boot_id = p->boot_id,
		.ips = p->ips,
		.created_at = p->created_at,
		.state = p->state,
	};

	drop_item(&p->list_item);
	return state_put_pod(p->node->state, &row, e);
}

bool pod_is_of_past_boot(const struct pod *p)
{
	return !streq(p->boot_id, p->node->boot_id);
}

int64_t pod_creation_time(const struct node *n, const Runtime__V1__PodSandboxMetadata *m)
{
	int64_t at = clock_wall_ns();
	const struct container *c;
	const struct pod *p;

	list_for_each (p, &n->pods_in_order, in_order) {
		const Runtime__V1__PodSandboxMetadata *o = p->config->metadata;

		if (!streq(o->name, m->name) || !streq(o->namespace_, m->namespace_) ||
		    !streq(o->uid, m->uid))
			continue;
		at = MAX(at, p->created_at + 1);
		list_for_each (c, &p->containers, in_pod)
			at = MAX(at, c->created_at + 1);
	}
	return at;
}

int64_t pod_telling_time(struct pod *p)
{
	int64_t at = MAX(clock_wall_ns(), MAX(p->told_at, p->created_at));
	const struct container *c;

	list_for_each (c, &p->containers, in_pod)
		at = MAX(at, MAX(c->created_at, MAX(c->started_at, c->finished_at)));
	p->told_at = at;
	return at;
}

int pod_set_state(struct pod *p, enum pod_state state, struct err *e)
{
	enum pod_state was = p->state;
	int r;

	p->state = state;
	r = pod_record(p, e);
	if (was == POD_CREATING && state == POD_READY && r == 0) {
		pod_event(p, EVENT_CREATED);
		pod_event(p, EVENT_STARTED);
	} else if (was == POD_READY && state != POD_READY) {
		pod_event(p, EVENT_STOPPED);
	}
	return r;
}

/* --- containers --- */

int container_new(struct pod *p, const char *id, const void *config, size_t len,
		  struct container **ret, struct err *e)
{
	struct container *c = xcalloc(1, sizeof(*c));
	ProtobufCAllocator alloc;

	c->node = p->node;
	c->pod = pod_ref(p);
	c->refs = 1;
	memcpy(c->id, id, ID_SIZE);
	list_init(&c->in_order);
	list_init(&c->in_pod);
	co_lock_init(&c->lock);
	co_event_init(&c->exited);
	c->config_bytes = xmemdup(config, len);
	c->config_len = len;
	alloc = pod_allocator(&c->arena);
	c->config = runtime__v1__container_config__unpack(&alloc, len, c->config_bytes);
	if (!c->config || !c->config->metadata) {
		container_unref(c);
		return err_invalid(e, "config: no ContainerConfig with metadata");
	}
	c->name_key = xasprintf("%s/%" PRIu32 "/%s", c->config->metadata->name,
				c->config->metadata->attempt, p->id);
	c->image_id = xstrdup("");
	c->image_ref = xstrdup("");
	c->runtime_name = xstrdup("");
	c->cgroup = xstrdup("");
	c->reason = xstrdup("");
	c->message = xstrdup("");
	c->log_path = xstrdup("");
	c->stop_signal = SIGTERM;
	*ret = c;
	return 0;
}

struct container *container_ref(struct container *c)
{
	c->refs++;
	return c;
}

struct container *container_unref(struct container *c)
{
	if (!c || --c->refs > 0)
		return NULL;
	arena_fini(&c->arena);
	strbuf_fini(&c->list_item);
	free(c->config_bytes);
	free(c->name_key);
	free(c->image_id);
	free(c->edits);
	strv_fini(&c->volumes);
	free(c->image_ref);
	free(c->runtime_name);
	node_runtime_unref(c->runtime);
	free(c->choice);
	cgroup_files_close(&c->cgroup_files);
	free(c->cgroup);
	free(c->reason);
	free(c->message);
	free(c->log_path);
	free(c->groups);
	pod_unref(c->pod);
	free(c);
	return NULL;
}

int container_link(struct container *c, struct err *e)
{
	struct container *holder = map_get(&c->node->container_names, c->name_key);

	if (holder)
		return name_taken(e, "container", c->name_key, holder->id);
	map_put(&c->node->container_names, c->name_key, c);
	map_put(&c->node->containers, c->id, c);
	list_append(&c->node->containers_in_order, &c->in_order);
	list_append(&c->pod->containers, &c->in_pod);
	container_ref(c);
	return 0;
}

void container_unlink(struct container *c)
{
	if (map_get(&c->node->containers, c->id) != c)
		return;
	map_remove(&c->node->containers, c->id);
	map_remove(&c->node->container_names, c->name_key);
	list_remove(&c->in_order);
	list_remove(&c->in_pod);
	container_unref(c);
}

int container_find(struct node *n, const char *id, struct container **ret, struct err *e)
{
	void *v;
	int r = find(&n->containers, "container_id", id, &v, e);

	if (r == 0)
		*ret = v;
	return r;
}

/* What cannot be had from the configuration again: "STOP_SIGNAL UID GID GROUP... @VOLUME...", and a
 * line each of the edits (empty: none), of the runtime's settings and of why it is that one. */
static void print_extra(const struct container *c, struct strbuf *to)
{
	strbuf_addf(to, "%d %" PRId64 " %" PRId64, c->stop_signal, c->uid, c->gid);
	for (size_t i = 0; i < c->n_groups; i++)
		strbuf_addf(to, " %" PRIu32, c->groups[i]);
	for (size_t i = 0; i < c->volumes.n; i++)
		strbuf_addf(to, " @%s", c->volumes.v[i]);
	strbuf_addf(to, "\n%s\n", str_or_empty(c->edits));
	if (c->runtime)
		node_runtime_print(c->runtime, to);
	if (c->choice)
		strbuf_addf(to, "\n%s", c->choice);
}

/* The lines below the first; an older gantry has written neither, or the first of them. */
static void restore_lines(struct container *c, char *lines)
{
	const char *edits = strsep(&lines, "\n"), *runtime = strsep(&lines, "\n");

	free(c->edits);
	c->edits = str_empty(edits) ? NULL : xstrdup(edits);
	c->runtime = node_runtime_restore(c->node, c->runtime_name, runtime);
	c->choice = str_empty(lines) ? NULL : xstrdup(lines);
}

void container_restore(struct container *c, const void *extra, size_t n)
{
	_cleanup_free_ char *text = n ? xstrndup(extra, n) : xstrdup("");
	char *save = NULL, *word, *line = strchr(text, '\n');
	size_t i = 0;

	if (line)
		*line++ = '\0';
	restore_lines(c, line);
	c->groups = xcalloc(n / 2 + 1, sizeof(*c->groups));
	for (word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save), i++) {
		uint64_t v = 0;

		if (*word == '@') {
			strv_add(&c->volumes, word + 1);
			continue;
		}
		str_to_u64(word, &v);
		if (i == 0)
			c->stop_signal = (int)v;
		else if (i == 1)
			c->uid = (int64_t)v;
		else if (i == 2)
			c->gid = (int64_t)v;
		else
			c->groups[c->n_groups++] = (uint32_t)v;
	}
}

const char *container_state_name(const struct container *c)
{
	static const char *const names[] = {"being created", "created", "running", "exited",
					    "being removed"};

	return names[c->state];
}

int container_record(struct container *c, struct err *e)
{
	_cleanup_strbuf_ struct strbuf extra = STRBUF_NULL;
	struct state_container row = {
		.id = c->id,
		.pod_id = c->pod->id,
		.config = c->config_bytes,
		.config_len = c->config_len,
		.image_id = c->image_id,
		.image_ref = c->image_ref,
		.runtime = c->runtime_name,
		.cgroup = c->cgroup,
		.reason = c->reason,
		.message = c->message,
		.created_at = c->created_at,
		.started_at = c->started_at,
		.finished_at = c->finished_at,
		.state = c->state,
		.exit_code = c->exit_code,
	};

	drop_item(&c->list_item);
	print_extra(c, &extra);
	row.extra = extra.s;
	row.extra_len = extra.len;
	return state_put_container(c->node->state, &row, e);
}

void container_set_exited(struct container *c, int code, int64_t at, bool oom)
{
	free(c->reason);
	c->reason = xstrdup(oom ? "OOMKilled" : code == 0 ? "Completed" : "Error");
	if (c->state != CONTAINER_REMOVING)
		c->state = CONTAINER_EXITED;
	c->exit_code = code;
	c->finished_at = MAX(at, MAX(c->started_at, c->created_at));
	c->pid = 0;
	cgroup_files_close(&c->cgroup_files);
	drop_item(&c->list_item);
	co_event_set(&c->exited);
}

/* --- events --- */

void pod_event(struct pod *p, enum node_event what)
{
	if (p->node->on_event)
		p->node->on_event(p->node->on_event_arg, p, p->id, what);
}

void container_event(struct container *c, enum node_event what)
{
	if (c->node->on_event)
		c->node->on_event(c->node->on_event_arg, c->pod, c->id, what);
}
