/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of an image, as it stands in <root>/images/HEX.json: what the worker writes and
 * the daemon reads (docs/decisions/0004).  HEX is the digest of the image's configuration
 * (of an OCI artifact: its manifest), which is its identity.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define IMAGE_RECORD_MAX (4u << 20)	/* bytes of a record */
#define IMAGE_CONFIG_MAX (8u << 20)	/* bytes of an image's configuration, as it came */
#define IMAGE_ACCOUNTS_MAX (256u << 10) /* bytes kept of an image's /etc/passwd and group */
#define IMAGE_LAYERS_MAX 127		/* of one image; more do not fit an overlay mount */
#define IMAGE_NAMES_MAX 1024		/* tags, and digests, of one image */

/* What the image's configuration says about its containers (OCI image-spec, config.md). */
struct image_config {
	struct strv entrypoint, cmd, env;
	struct strv volumes;
	char *user, *working_dir, *stop_signal; /* never NULL */
	char *passwd, *group;			/* text of its /etc/passwd, /etc/group */
};

struct image_record {
	char *id;	     /* 64 hexadecimal digits */
	struct strv tags;    /* "docker.io/library/busybox:latest" */
	struct strv digests; /* "docker.io/library/busybox@sha256:..." */
	struct strv layers;  /* names of directories, topmost first */
	uint64_t size;	     /* bytes of its unpacked layers */
	int64_t pulled_at;   /* wall ns */
	int64_t tagged_at;   /* wall ns: when it last took a tag, which it has before older ones */
	char *artifact;	     /* type of an OCI artifact, which is no image to run; "": it is one */
	char *checkpoint; /* name of the container whose checkpoint it holds; "": it holds none */
	char *damaged;	  /* what was found to be wrong with it; "": nothing */
	struct image_config config;
};

void image_record_print(const struct image_record *r, struct strbuf *to);
/* INVALID_ARGUMENT for what is no record; `ret` is filled on success only. */
int image_record_parse(const char *json, size_t n, struct image_record *ret, struct err *e);
void image_record_fini(struct image_record *r);
