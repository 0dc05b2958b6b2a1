/* SPDX-License-Identifier: Apache-2.0 */
/* Which CDI devices a container asks for (Container Device Interface, SPEC.md). */
#pragma once

#include <stdbool.h>

#include "api.pb-c.h"
#include "base/str.h"

#define CDI_ANNOTATION "cdi.k8s.io/"
#define CDI_DEVICES_MAX 256 /* of one container */

/* VENDOR/CLASS=NAME */
bool spec_cdi_name_good(const char *s);

/* An annotation that asks for devices, by their names with commas between them. */
bool spec_cdi_is_annotation(const char *key);

/* What config.CDI_devices names, then what annotations do; each once, added. */
void spec_cdi_devices(const Runtime__V1__ContainerConfig *c, struct strv *to);
