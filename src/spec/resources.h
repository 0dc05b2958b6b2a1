/* SPDX-License-Identifier: Apache-2.0 */
/* Private to spec/. */
#pragma once

#include "spec/spec.h"
#include "wire/json.h"

static inline const Runtime__V1__LinuxContainerSecurityContext *
spec_security(const struct spec_container *s)
{
	return s->config->linux ? s->config->linux->security_context : NULL;
}

static inline bool spec_privileged(const struct spec_container *s)
{
	return spec_security(s) && spec_security(s)->privileged;
}

/* It is in a user namespace. */
static inline bool spec_mapped(const struct spec_container *s)
{
	return !str_empty(s->userns);
}

/* Into an array that is open. */
static inline void spec_strings(struct jw *w, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		jw_string(w, v[i]);
}

/* `mounts`, into an object that is open; and what the root's propagation has to be (NULL: none), so
 * that those of mounts get through: mounts.c. */
void spec_mounts_print(const struct spec_container *s, struct jw *w);
const char *spec_root_propagation(const struct spec_container *s);
/* The same place, whatever slashes it is written with. */
bool spec_same_path(const char *a, const char *b);

/* `annotations`, into an object that is open: annotations.c. */
void spec_annotations_print(const struct spec_container *s, struct jw *w);

void spec_sandbox_annotations_print(const struct spec_sandbox *s, struct jw *w);

/* What files on the node add, into config.json and into its `linux`, which are open: edits.c. */
void spec_edits_print(const struct spec_container *s, struct jw *w);
void spec_edits_print_linux(const struct spec_container *s, struct jw *w);

/* Where the container finds gantry-env. static */
const char *spec_env_path(const struct spec_container *s);

/* process.env, into an object that is open: env.c. */
void spec_env_print(const struct spec_container *s, bool tty, struct jw *w);
/* Whether a value is no UTF-8, and what goes before the command then, into an open array. */
bool spec_env_needs_help(const struct spec_container *s);
void spec_env_print_help(const struct spec_container *s, struct jw *w);

/* The members of linux.resources that come from CRI, into an object that is open; `in_force` is
 * what they change, or NULL. */
void spec_resources_members(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			    const Runtime__V1__LinuxContainerResources *in_force,
			    const struct spec_host *host);
