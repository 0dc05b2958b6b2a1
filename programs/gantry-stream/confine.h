/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gantry-stream gives up before the client's first byte.  Whoever takes it over finds: no
 * capabilities and no new privileges, bounded memory, and of the kernel only the calls that move
 * bytes between descriptors that it has, or is given: no file can be opened, no socket made, no
 * program or process started, nothing of other processes touched.
 */
#pragma once

#include "base/err.h"

#define CONFINE_MEMORY (UINT64_C(192) << 20) /* address space, libraries included */
#define CONFINE_DESCRIPTORS 1024	     /* more than its streams can need */

int confine_stream(struct err *e);
