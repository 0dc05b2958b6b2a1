/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces pinned by a bind mount, as `ip netns` has them.  Blocking: for jobs of
 * the monitor.
 */
#pragma once

#include "base/err.h"

/* Pins the namespace behind `fd` at `path` (its directory is made). */
int netns_pin(int fd, const char *path, struct err *e);
/* A descriptor of the namespace that is pinned there, owned; -ENOENT where none is (also where
 * the file is left without its mount, as after a reboot). */
int netns_open(const char *path);
/* Unpins; what is not there is success. */
int netns_unpin(const char *path, struct err *e);
