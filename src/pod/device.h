/* SPDX-License-Identifier: Apache-2.0 */
/* Device nodes of this node, for containers. Private to pod/. */
#pragma once

#include "base/arena.h"
#include "spec/spec.h"

/*
 * The devices that the request asks for, all that are below a directory of them, and for a
 * privileged container all of /dev.  Arena.  INVALID_ARGUMENT for what is no device.
 */
int devices_collect(const Runtime__V1__ContainerConfig *c, bool all, struct arena *a,
		    struct spec_device **ret, size_t *ret_n, struct err *e);
