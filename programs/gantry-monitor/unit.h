/* SPDX-License-Identifier: Apache-2.0 */
/* Containers' units of systemd. */
#pragma once

#include "base/err.h"
#include "sys/cgroup.h"

/*
 * Tells systemd the limits that a runtime has written into the files of this scope (cgroup v2):
 * it writes again whatever it knows when the unit changes or it is reloaded, and not every
 * runtime tells it (crun 1.8 does not on an update).  Blocking: runs busctl(1).
 */
int unit_tell(const struct cgroup_host *h, const char *cgroup, struct err *e);
