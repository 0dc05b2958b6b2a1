/* SPDX-License-Identifier: Apache-2.0 */
/* Which signal stops a container. */
#pragma once

#include "api.pb-c.h"
#include "image/store.h"

/* The request's, else the image's, else SIGTERM. */
int signal_to_stop(const Runtime__V1__ContainerConfig *c, const struct image_config *image);

/* A signal by its number as CRI has it; RUNTIME_DEFAULT for one that CRI does not know. */
Runtime__V1__Signal signal_to_cri(int number);
