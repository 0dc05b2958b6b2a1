/* SPDX-License-Identifier: Apache-2.0 */
/* Private to spec/. */
#pragma once

#include "spec/spec.h"
#include "wire/json.h"

/* The members of linux.resources that come from CRI, into an object that is open. */
void spec_resources_members(struct jw *w, const Runtime__V1__LinuxContainerResources *r,
			    const struct spec_host *host);
