/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image's registry is reached: mirrors by a directory in containerd's layout, then
 * the registry itself.  For "host:5000" the first of these directories that exists counts:
 *
 *	HOSTS_DIR/host_5000_	HOSTS_DIR/host:5000	HOSTS_DIR/_default
 *
 * In it stands hosts.toml; without one, *.crt are further certificate authorities, and
 * X.cert with X.key is a client certificate, as Docker has them.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

#define HOSTS_FILE_MAX (256u << 10) /* bytes of a hosts.toml */
#define HOSTS_CA_MAX (4u << 20)	    /* bytes of certificates for one host */
#define HOSTS_MAX 64		    /* of one file */
#define HOSTS_HEADERS_MAX 64	    /* fields of one host */
#define HOSTS_NESTING_MAX 8	    /* lists in lists */

struct host {
	char *url; /* "https://mirror:5000/v2", no slash at the end */
	bool pull, resolve;
	bool skip_verify;
	bool override_path; /* the URL has no /v2 to be added */
	bool origin;	    /* the registry that the reference names: credentials go there only */
	unsigned dial_timeout_ms;	/* 0: none said */
	struct strv ca;			/* files */
	struct strbuf ca_pem;		/* their content: hosts_read_ca() */
	char *client_cert, *client_key; /* files; NULL none; key NULL: in the certificate's */
	struct strv headers;		/* "Name: value" */
};

struct hosts {
	struct host v[HOSTS_MAX + 2];
	size_t n;
};

/* For the registry "docker.io", "localhost:5000". INVALID_ARGUMENT "FILE:LINE: ..." */
int hosts_find(const char *dir, const char *registry, struct hosts *ret, struct err *e);
void hosts_fini(struct hosts *h);
/* "host:port" of a URL, or of what stands without a scheme. owned */
char *host_authority(const char *url);
/* The part for fuzzing and tests: one file's text, files in it not yet read. */
int hosts_parse(const char *text, const char *file, const char *registry, struct hosts *ret,
		struct err *e);
/* hosts_toml.c: the hosts of a file in its order, URLs as they stand there; what the top of
 * the file says goes into `server`. */
int hosts_toml(const char *text, const char *file, struct hosts *ret, struct host *server,
	       struct err *e);
