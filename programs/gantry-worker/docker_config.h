/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file in the layout of Docker's config.json, as far as it says how to log in at registries:
 *
 *	auths		HOST or HOST/PATH: auth (base64 of user:password), username and password,
 *			identitytoken, registrytoken
 *	credHelpers	HOST or HOST/PATH: NAME of a program, docker-credential-NAME
 *	credsStore	NAME of the program for all others
 *
 * Of keys with a path the longest that the repository is below counts.  What the helper of a
 * registry has goes before what the store has, and that before `auths`, as Docker has it.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define DOCKER_CONFIG_MAX (1u << 20) /* bytes of the file */
#define DOCKER_HELPER_NAME_MAX 128

/* How to log in at a registry. Owned strings; NULL: none. */
struct credentials {
	char *username, *password;
	char *auth; /* "user:password" in base64 */
	char *identity_token, *registry_token;
};

void credentials_fini(struct credentials *c);

struct docker_entry {
	char *helper; /* NAME, NULL: none */
	char *server; /* what it is asked for */
	struct credentials own;
};

/* What the text of a file says about the repository `path` of `host`; all NULL where that is
 * nothing.  INVALID_ARGUMENT "FILE: ...". */
int docker_config_find(const char *text, size_t n, const char *file, const char *host,
		       const char *path, struct docker_entry *ret, struct err *e);
void docker_entry_fini(struct docker_entry *d);

/* What a helper printed for `get`. INVALID_ARGUMENT; no word of it is in the message. */
int docker_helper_answer(const char *text, size_t n, const char *helper, struct credentials *ret,
			 struct err *e);
