/* SPDX-License-Identifier: Apache-2.0 */
/* The annotations kubernetes.io/ingress-bandwidth and egress-bandwidth: bits a second, as a
 * resource quantity of Kubernetes from 1k to 1P. */
#pragma once

#include <stdint.h>

#include "api.pb-c.h"
#include "base/err.h"

/* 0 where an annotation is not there. INVALID_ARGUMENT with its name and value. */
int bandwidth_read(const Runtime__V1__PodSandboxConfig *c, uint64_t *ret_ingress,
		   uint64_t *ret_egress, struct err *e);
