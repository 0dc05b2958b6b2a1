/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods and containers by what people call them: the beginning of an id, NAME, POD/NAME,
 * NAMESPACE/POD/NAME (pods: NAME, NAMESPACE/NAME).
 *
 * A name goes before the beginning of an id.  Of several attempts of one container the
 * newest is meant.  What is still ambiguous is an error that lists the candidates.
 */
#pragma once

#include "cli.h"

enum { KIND_POD = 1, KIND_CONTAINER = 2 };

struct inventory {
	Runtime__V1__PodSandbox **pods;
	size_t n_pods;
	Runtime__V1__Container **containers;
	size_t n_containers;
};

struct object {
	int kind;
	const char *id;
	const Runtime__V1__PodSandbox *pod; /* of a container: the one it is in, or NULL */
	const Runtime__V1__Container *container;
};

/* All pods and containers, as they are now, newest first. In cli->arena. */
int inventory_load(struct cli *cli, struct inventory *ret, struct err *e);
const Runtime__V1__PodSandbox *inventory_pod(const struct inventory *v, const char *id);

/*
 * `kinds` says what may be found.  Where a pod and its only container share the name (`run`
 * makes them so), the kind `preferred` is meant.  NOT_FOUND, INVALID_ARGUMENT.
 */
int inventory_find(struct cli *cli, const struct inventory *v, const char *word, int kinds,
		   int preferred, struct object *ret, struct err *e);
/* The container with that name or id, which must run (FAILED_PRECONDITION). */
int inventory_find_running(struct cli *cli, const char *word, struct object *ret, struct err *e);

/* "container web (0123456789ab)", safe for a terminal; in cli->arena. */
const char *object_name(struct cli *cli, const struct object *o);

/* The value of a label or annotation, of any of the generated map types; NULL: none. */
const char *entry_get(const void *entries, size_t n, const char *key);
/* True when every "KEY=VALUE" or "KEY" of the option holds. */
bool labels_match(const struct args *a, const char *option, const void *entries, size_t n);
