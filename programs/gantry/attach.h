/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching to a container: of gantry attach and gantry run. */
#pragma once

#include "session.h"

/*
 * Asks for the streams that the session wants of the container, which was created at least, and
 * opens it.
 */
int attach_open(struct session *s, const char *id, struct err *e);
/* Tells the person that the container ("container web") goes on. */
void attach_say_detached(struct cli *cli, const char *name);
