/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What files on the node add to a container: edits of CDI devices, OCI hooks.  Collected here, they
 * go to the daemon as one JSON object, whose members are as OCI's configuration has them:
 *
 *	env [text]  devices [{path type major minor fileMode uid gid permissions}]
 *	mounts [{destination source type options}]  hooks {STAGE: [{path args env timeout}]}
 *	gids [number]  intelRdt {}  netDevices {NAME: {name}}
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "wire/json.h"

#define EDITS_MAX (256u << 10) /* bytes of the object */
#define EDITS_STAGES 6

/* Each a list that grows: values of JSON with commas between them. */
struct edits {
	struct strbuf env, devices, mounts, gids, net_devices;
	struct strbuf hooks[EDITS_STAGES];
	struct strbuf intel_rdt; /* one object; the last one counts */
};

/* A writer for the next value of a list. */
struct jw edits_next(struct strbuf *list);
/* Number of a hook's stage ("prestart", ...), -1 for what is none; and its name. static */
int edits_stage(const char *name);
/* The hook as OCI has it: path, args, env, timeout of `v`. */
void edits_add_hook(struct edits *to, int stage, const jv *v);
/* A list of strings as a member, where there is one. */
void edits_put_strings(struct jw *w, const char *key, const jv *list);
/* The object, appended.  RESOURCE_EXHAUSTED where it is too large. */
int edits_print(const struct edits *v, struct strbuf *to, struct err *e);
void edits_fini(struct edits *v);
