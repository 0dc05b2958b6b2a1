/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image's registry is reached: mirrors by a directory in containerd's layout
 * (HOSTS_DIR/HOST/hosts.toml, HOST_PORT_ too, else _default), then the registry itself.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

#define HOSTS_FILE_MAX (256u << 10)
#define HOSTS_MAX 64 /* of one file */

struct host {
	char *url;	/* "https://mirror:5000/v2", no slash at the end */
	bool pull, resolve;
	bool skip_verify;
	bool origin;	/* the registry that the reference names: credentials go there only */
	struct strv ca; /* files */
	struct strv headers; /* "Name: value" */
};

struct hosts {
	struct host v[HOSTS_MAX + 2];
	size_t n;
};

/* For the registry "docker.io", "localhost:5000". INVALID_ARGUMENT "FILE:LINE: ..." */
int hosts_find(const char *dir, const char *registry, struct hosts *ret, struct err *e);
void hosts_fini(struct hosts *h);
/* The part for fuzzing and tests: one file's text. */
int hosts_parse(const char *text, const char *file, const char *registry, struct hosts *ret,
		struct err *e);
