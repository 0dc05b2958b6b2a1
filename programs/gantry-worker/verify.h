/* SPDX-License-Identifier: Apache-2.0 */
/* What verifying images has for others: see verify.c. */
#pragma once

#include <sys/stat.h>

#include "store.h"

/* Reads the configuration as it came, and compares it with the image's id and with the record.
 * What is wrong, owned; or NULL, with both filled in; an artifact's is its manifest, alone. */
char *verify_image(const struct store *s, const struct image_record *rec, struct strbuf *ret_config,
		   struct image_info *ret);

/* What was found to be wrong with an image. */
struct damage {
	const char *image;   /* id */
	const char *layer;   /* name of the one that it is; NULL: it is no layer's */
	struct stat record;  /* that layer's, from before it was read; st_ino 0: it has none */
	const char *problem; /* of the layer, or of the image */
};
/* As if a verification had found it: marks, and puts records and a RESULT into the reply. */
int verify_found(struct store *s, const struct damage *d, struct ipc_out *reply, struct err *e);
