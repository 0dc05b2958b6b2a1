/* SPDX-License-Identifier: Apache-2.0 */
/* Private to spec/. */
#pragma once

#include "spec/spec.h"
#include "wire/json.h"

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
