/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `gantry route test`: what is asked, and what must come out (docs/routing.md). */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "route/route.h"

#define ROUTE_CASES_MAX 10000		/* of a file */
#define ROUTE_CASES_FILE_MAX (4u << 20) /* bytes */
#define ROUTE_CASE_LIST_MAX 64		/* labels, annotations, runtimes of a case */

struct route_case {
	unsigned line;
	const char *name;					   /* NULL: none */
	const char *image, *handler, *namespace, *pod, *container; /* NULL: not said */
	struct route_pair *labels, *annotations;
	size_t n_labels, n_annotations;
	bool privileged, user_namespace;
	const char *const *unavailable; /* runtimes; NULL: none */
	const char *expect;		/* the runtime; NULL: refused */
	const char *refused;		/* words of the refusal; NULL: expect */
	const char *rule;		/* that decides; "" none; NULL: it is not looked at */
};

/* YAML, of which JSON is a part.  All in `a`.  INVALID_ARGUMENT "FILE:LINE: KEY: found ..., expected
 * ...". */
int route_cases_read(struct arena *a, const char *file, const struct strbuf *text,
		     struct route_case **ret, size_t *ret_n, struct err *e);
