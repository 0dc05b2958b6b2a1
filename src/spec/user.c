/* SPDX-License-Identifier: Apache-2.0 */
/* Who a container's process runs as: see spec.h.  Files are those of the image, hostile. */
#include "base/mem.h"
#include "spec/spec.h"

#define FIELDS_MAX 7

/* Splits the next line at ':'; returns the number of fields, -1 at the end. */
static int next_line(const char **p, char **line, char *fields[FIELDS_MAX])
{
	size_t n = strcspn(*p, "\n");
	int count = 0;
	char *s;

	if (!**p)
		return -1;
	free(*line);
	*line = s = xstrndup(*p, n);
	*p += n + ((*p)[n] == '\n');
	while (count < FIELDS_MAX) {
		fields[count++] = s;
		s = strchr(s, ':');
		if (!s)
			break;
		*s++ = '\0';
	}
	return count;
}

static bool to_id(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (!str_to_u64(s, &v) || v > INT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

struct passwd_entry {
	char *name, *home; /* owned */
	uint32_t uid, gid;
};

/* By name, or by number when `name` is NULL. */
static bool passwd_find(const char *text, const char *name, uint32_t uid, struct passwd_entry *ret)
{
	char *line = NULL, *f[FIELDS_MAX];
	bool found = false;
	int n;

	text = str_or_empty(text);
	while (!found && (n = next_line(&text, &line, f)) >= 0) {
		uint32_t u, g;

		if (n < 4 || !to_id(f[2], &u) || !to_id(f[3], &g))
			continue;
		if (name ? !streq(f[0], name) : u != uid)
			continue;
		*ret = (struct passwd_entry){xstrdup(f[0]), n > 5 ? xstrdup(f[5]) : NULL, u, g};
		found = true;
	}
	free(line);
	return found;
}

static bool group_find(const char *text, const char *name, uint32_t *ret)
{
	char *line = NULL, *f[FIELDS_MAX];
	bool found = false;
	int n;

	text = str_or_empty(text);
	while (!found && (n = next_line(&text, &line, f)) >= 0)
		found = n >= 3 && streq(f[0], name) && to_id(f[2], ret);
	free(line);
	return found;
}

static void add_group(struct spec_user *u, uint32_t gid)
{
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return;
	if (u->n_groups >= SPEC_GROUPS_MAX)
		return;
	if ((u->n_groups & (u->n_groups - 1)) == 0) /* doubles at 0, 1, 2, 4, ... */
		u->groups = xrealloc(u->groups,
				     (u->n_groups ? u->n_groups * 2 : 1) * sizeof(*u->groups));
	u->groups[u->n_groups++] = gid;
}

static bool is_member(char *members, const char *user)
{
	char *save = NULL;

	for (char *m = strtok_r(members, ",", &save); m; m = strtok_r(NULL, ",", &save))
		if (streq(m, user))
			return true;
	return false;
}

static void add_memberships(struct spec_user *u, const char *text, const char *user)
{
	char *line = NULL, *f[FIELDS_MAX];
	uint32_t gid;
	int n;

	text = str_or_empty(text);
	while ((n = next_line(&text, &line, f)) >= 0)
		if (n >= 4 && to_id(f[2], &gid) && is_member(f[3], user))
			add_group(u, gid);
	free(line);
}

/* The user and group that are asked for: strings of names or numbers, "" not given. */
struct wanted {
	char *user, *group;
};

static struct wanted wanted_of(const struct image_config *image,
			       const Runtime__V1__LinuxContainerSecurityContext *sc)
{
	struct wanted w = {NULL, NULL};
	const char *colon;

	if (sc && sc->run_as_user)
		w.user = xasprintf("%lld", (long long)sc->run_as_user->value);
	else if (sc && !str_empty(sc->run_as_username))
		w.user = xstrdup(sc->run_as_username);
	if (!w.user) { /* the image's "user[:group]" */
		const char *s = str_or_empty(image->user);

		colon = strchr(s, ':');
		w.user = colon ? xstrndup(s, (size_t)(colon - s)) : xstrdup(s);
		w.group = colon ? xstrdup(colon + 1) : NULL;
	}
	if (sc && sc->run_as_group) {
		free(w.group);
		w.group = xasprintf("%lld", (long long)sc->run_as_group->value);
	}
	if (!*w.user) {
		free(w.user);
		w.user = xstrdup("0");
	}
	return w;
}

static int resolve(const struct image_config *image, const struct wanted *w, struct spec_user *u,
		   struct passwd_entry *pw, struct err *e)
{
	uint32_t uid;

	if (to_id(w->user, &uid)) {
		u->uid = uid;
		if (!passwd_find(image->passwd, NULL, uid, pw))
			u->gid = 0;
	} else if (!passwd_find(image->passwd, w->user, 0, pw)) {
		return err_invalid(e, "user \"%s\" is not in the image's /etc/passwd", w->user);
	} else {
		u->by_name = true;
	}
	if (pw->name) {
		u->uid = pw->uid;
		u->gid = pw->gid;
		u->home = TAKE_PTR(pw->home);
	}
	if (!str_empty(w->group) && !to_id(w->group, &u->gid) &&
	    !group_find(image->group, w->group, &u->gid))
		return err_invalid(e, "group \"%s\" is not in the image's /etc/group", w->group);
	return 0;
}

int spec_user_resolve(const struct image_config *image,
		      const Runtime__V1__LinuxContainerSecurityContext *sc, struct spec_user *ret,
		      struct err *e)
{
	struct wanted w = wanted_of(image, sc);
	struct passwd_entry pw = {0};
	struct spec_user u = {0};
	int r = resolve(image, &w, &u, &pw, e);

	if (r == 0) {
		add_group(&u, u.gid);
		for (size_t i = 0; sc && i < sc->n_supplemental_groups; i++)
			add_group(&u, (uint32_t)sc->supplemental_groups[i]);
		if (pw.name && (!sc || sc->supplemental_groups_policy ==
					       RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Merge))
			add_memberships(&u, image->group, pw.name);
		*ret = u;
	} else {
		spec_user_fini(&u);
	}
	free(pw.name);
	free(pw.home);
	free(w.user);
	free(w.group);
	return r;
}

int spec_user_check(const struct spec_user *u, const Runtime__V1__PodSandboxConfig *pod,
		    struct err *e)
{
	const Runtime__V1__UserNamespace *ns = spec_userns_of(pod);

	if (!ns)
		return 0;
	if (u->uid >= ns->uids[0]->length)
		return err_invalid(e,
				   "user %u is not in the user namespace of the pod, which has %u",
				   u->uid, ns->uids[0]->length);
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] >= ns->gids[0]->length)
			return err_invalid(e,
					   "group %u is not in the user namespace of the pod, "
					   "which has %u",
					   u->groups[i], ns->gids[0]->length);
	return 0;
}

void spec_user_fini(struct spec_user *u)
{
	free(u->groups);
	free(u->home);
	*u = (struct spec_user){0};
}
