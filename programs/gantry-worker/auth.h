/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access to registries: Basic (RFC 7617) and Bearer tokens (distribution, token and OAuth2
 * authentication) out of CRI's AuthConfig, or of what the node itself has (credentials.h).
 *
 * AuthConfig's credentials go to the registry that the reference names, or to the server that
 * it says they belong to, never to a mirror; the node's to the host that they are for; neither
 * from https to a token server on http.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "hosts.h"
#include "http.h"

#define AUTH_TOKEN_MAX (64u << 10) /* bytes of a token server's answer */
#define AUTH_TOKEN_S 60		   /* seconds that it may take, of the registry itself */

/* AuthConfig; strings may be NULL. borrowed */
struct auth_config {
	const char *username, *password, *auth, *server, *identity_token, *registry_token;
};

struct auth {
	const struct auth_config *config;
	const char *registry, *repository; /* as in the reference; borrowed */
	struct http *http;
	unsigned mirror_wait_s; /* for a mirror's token server */
};

/* Whether AuthConfig has credentials for this host. */
bool auth_given(const struct auth *a, const struct host *h);
/* The field to send from the beginning, "Authorization: ..."; NULL none. owned */
char *auth_first(const struct auth_config *c);
/* After a 401 with this challenge: the field to try with, for what is in `c` (NULL: nobody).
 * owned; UNAUTHENTICATED */
int auth_answer(const struct auth *a, const struct host *h, const struct auth_config *c,
		const char *challenge, char **ret, struct err *e);
/* The parts for fuzzing and tests: a Bearer challenge's parameter (owned, NULL: none), and the
 * token in a token server's answer (owned). */
char *auth_parameter(const char *challenge, const char *name);
int auth_token(const char *text, size_t n, const char *realm, char **ret, struct err *e);
