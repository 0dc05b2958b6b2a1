/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of names: globs and regular expressions, for names that strangers choose.
 *
 * Both become a small program for the same machine, which goes through a name once and never
 * back: a match takes at most (bytes of the name) * pattern_cost() steps, and no memory but
 * the stack's (docs/decisions/0017).  A pattern fits a name as a whole.
 *
 * A glob: `*` any bytes, `?` one, `[a-z]` and `[!a-z]` one of a set, `\` takes the next byte as it
 * is.  In globs of images `*` and `?` stop at a slash, `**` does not.
 *
 * A regular expression begins with `~` (which is not part of it).  It is what POSIX calls extended,
 * without back references, collating and equivalence classes: . [] [^] [:alpha:] () | * + ? {m,n} and
 * `\` before what is no letter or digit; `^` at its beginning and `$` at its end say what is so anyway.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

#define PATTERN_MAX 512		/* bytes of a pattern */
#define PATTERN_PROGRAM_MAX 512 /* steps of a program */
#define PATTERN_SETS_MAX 64	/* different [...] of a pattern */
#define PATTERN_DEPTH_MAX 16	/* ( in ( */
#define PATTERN_REPEAT_MAX 255	/* {m,n} */
#define PATTERN_SUBJECT_MAX 512 /* bytes of a name; no pattern fits a longer one */

/* What of an image's reference a pattern is about. */
enum pattern_about {
	PATTERN_TEXT,	      /* no image, or all of the reference */
	PATTERN_NAME,	      /* host and repository: a glob without tag and digest */
	PATTERN_NAME_TAG,     /* and the tag: a glob with a tag */
	PATTERN_NAME_OR_TEXT, /* a regular expression: it fits either */
};

/*
 * The bytes that occur in a name, three at a time, as a small set.  A pattern knows some that each
 * name that it fits has: nearly all others are told apart without a look at the pattern.
 */
#define PATTERN_SIGNATURE_BITS 1024
#define PATTERN_REQUIRED 4
struct pattern_signature {
	uint64_t bits[PATTERN_SIGNATURE_BITS / 64];
};
struct pattern_required {
	uint16_t bit[PATTERN_REQUIRED]; /* 0: none, which every signature has */
};

struct pattern {
	const char *text; /* as it was written */
	enum pattern_about about;
	struct pattern_required required;
	/* the rest is the machine's */
	const char *prefix; /* bytes that each name begins with; all of it where `n` is 0 */
	const struct pattern_step *steps; /* after that */
	const uint64_t (*sets)[4];	  /* 256 bits each */
	uint16_t prefix_len, n;
};

/*
 * Compiles `text`; memory of `a`.  Of an image, a glob is completed as a reference is: "db-*" is
 * "docker.io/library/db-*", "org/db-*" is "docker.io/org/db-*"; a first component that has a dot or a
 * colon, or is "localhost" or "**", is the host; "*" alone fits every image.  INVALID_ARGUMENT says
 * what is wrong with it.
 */
int pattern_compile(struct arena *a, const char *text, bool image, struct pattern *ret,
		    struct err *e);
/* Whether it fits all of these `n` bytes. */
bool pattern_match(const struct pattern *p, const char *s, size_t n);
/* Whether it fits all of them, or the first `also`; in one go. */
bool pattern_match_either(const struct pattern *p, const char *s, size_t n, size_t also);
/* How many of its steps may have to be taken for one byte of a name. */
size_t pattern_cost(const struct pattern *p);

/* Adds a name to a signature, which may be that of several. */
void pattern_sign(struct pattern_signature *to, const char *s, size_t n);
/* False: it fits no name that was added. */
static inline bool pattern_may_fit(const struct pattern_required *r,
				   const struct pattern_signature *s)
{
	for (int i = 0; i < PATTERN_REQUIRED; i++)
		if (!(s->bits[r->bit[i] / 64] >> (r->bit[i] % 64) & 1))
			return false;
	return true;
}
