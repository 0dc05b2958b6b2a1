/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of an image that is imported: instructions as a Dockerfile has them ("CMD
 * [\"sh\"]", "ENV A=B C=D"), and what is printed of them (OCI image-spec, config.md).
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#define CHANGES_MAX 1024       /* instructions of one image */
#define CHANGE_BYTES_MAX 65536 /* of one instruction */
#define CHANGE_PORTS_MAX 1024  /* of one image */
#define CHANGE_WORDS "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR"

/* Zeroed to begin with; what is NULL or empty is not said. */
struct changes {
	struct strv cmd, entrypoint, env; /* env: "NAME=VALUE", each name once */
	struct strv labels;		  /* in the same form */
	struct strv ports, volumes;	  /* "80/tcp"; each once */
	char *user, *working_dir, *stop_signal;
};

/* One instruction; a later one replaces what it is about. INVALID_ARGUMENT. */
int changes_apply(struct changes *c, const char *text, struct err *e);
void changes_fini(struct changes *c);

struct imported {
	const char *arch, *diff_id, *message;
	long long created; /* wall seconds */
};
/* The image's configuration. */
void changes_print(const struct changes *c, const struct imported *im, struct strbuf *to);
