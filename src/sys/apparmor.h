/* SPDX-License-Identifier: Apache-2.0 */
/* AppArmor profiles: what is loaded in the kernel, and the one that gantry brings along. */
#pragma once

#include <stdbool.h>

#include "base/str.h"

/*
 * 1 when a profile of that name is loaded, 0 when not, -errno where the kernel's list cannot
 * be read (securityfs is not mounted).
 */
int apparmor_loaded(const char *profile);

/*
 * The default profile under the given name, in the policy language (apparmor.d(5)); it needs
 * no other files.  Appended.
 */
void apparmor_print_default(const char *name, struct strbuf *ret);
