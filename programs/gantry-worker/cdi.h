/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CDI: devices that vendors describe in files (Container Device Interface, versions to 1.1.0).
 *
 * A device is named VENDOR/CLASS=NAME.  A file (.json or .yaml) describes the devices of one
 * VENDOR/CLASS; directories that come later go before earlier ones.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "edits.h"
#include "wire/json.h"

/* The document describes devices of one kind, as its own version of CDI has it. INVALID_ARGUMENT
 * "WHAT: ...": the file is of no use. */
int cdi_check(const jv *doc, const char *what, struct err *e);

/* The edits of a document that has passed cdi_check(): for all of its devices (`device` NULL), or
 * for one alone.  NOT_FOUND where something of the node that they name is not there. */
int cdi_apply(const jv *doc, const char *device, const char *what, struct edits *to, struct err *e);

/*
 * Reads the directories and adds the edits of the devices in their order.  NOT_FOUND for a device
 * that no file describes, with what is wrong with files; FAILED_PRECONDITION for one that two files
 * of a directory describe.
 */
int cdi_collect(const struct strv *dirs, const struct strv *devices, struct edits *to,
		struct err *e);
