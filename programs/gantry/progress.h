/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a pull is: on a terminal a block of lines that is drawn anew, one a layer;
 * otherwise one line whenever a layer's state changes.  Goes to standard error.
 */
#pragma once

#include "cli.h"

struct progress;

struct progress *progress_new(bool quiet);
void progress_update(struct progress *p, const Gantry__V1__ImageProgress *m);
/* Draws the last state, once; what follows begins on a line of its own. */
struct progress *progress_free(struct progress *p);
DEFINE_CLEANUP(struct progress *, progress_free);
#define _cleanup_progress_ _cleanup_(progress_freep)

/* One layer's line without its end: "0123456789ab  fetching  [==>   ]  1.0 MiB / 3.0 MiB".
 * For the test. */
void progress_line(const char *layer, const char *state, uint64_t done, uint64_t total,
		   size_t width, struct strbuf *to);

/* Pulls an image and shows how far it is. The id, in cli->arena. */
int pull_image(struct cli *cli, const char *reference, const char *username, const char *password,
	       bool quiet, const char **ret_id, struct err *e);
