/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runtimes as objects: those of the configuration, and those that it has no longer but containers
 * were made with.  A container's row holds what its runtime is called with, so that it can be
 * removed and whatever else is asked of it also when the configuration knows nothing of that any
 * more.
 */
#pragma once

#include "pod/pod.h"

struct node_runtime *node_runtime_ref(struct node_runtime *rt);
struct node_runtime *node_runtime_unref(struct node_runtime *rt); /* NULL */

/* The one of that name in the configuration in force, or NULL. borrowed */
struct node_runtime *node_runtime_named(const struct node *n, const char *name);

/* Makes n->runtimes what n->config says.  One whose settings are as they were stays the object that
 * it was, with what its probe found; others have not been probed. */
void node_runtimes_configure(struct node *n);
void node_runtimes_drop(struct node *n);

/* What it is called with, as JSON without a line break; appended. */
void node_runtime_print(const struct node_runtime *rt, struct strbuf *to);
/*
 * The runtime that a row names, with the settings that node_runtime_print() made of it: that of the
 * configuration, where it is still the same, or one of its own.  A reference.  Without settings (the
 * row of an older gantry; NULL) the configuration's, or NULL where it has none of that name.
 */
struct node_runtime *node_runtime_restore(struct node *n, const char *name, const char *json);
