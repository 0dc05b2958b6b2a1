/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS of the client's connection, as a server; of OpenSSL this module alone knows.  Of its
 * two versions gantry-stream has one without TLS, gantry-stream-tls the other.  Everything is
 * read from files before the program gives its rights up; what comes later works in memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct tls_config {
	const char *cert; /* file: certificate chain, PEM. NULL: no TLS */
	const char *key;  /* file: private key, PEM */
	const char
		*client_ca; /* file: clients must have a certificate of these; NULL: any client */
	const char *min_version; /* "1.2" (also NULL) or "1.3" */
};

struct tls;

/* Reads the files and gets ready for a non-blocking socket. owned: tls_free() */
int tls_new(const struct tls_config *c, int fd, struct tls **ret, struct err *e);
struct tls *tls_free(struct tls *t); /* NULL */

/* As recv(2) and send(2), with the handshake: bytes, 0 at the end, -EAGAIN, -errno. */
ssize_t tls_read(struct tls *t, void *p, size_t n);
ssize_t tls_write(struct tls *t, const void *p, size_t n);
/* The last read or write waits for the socket to be writable. */
bool tls_wants_write(const struct tls *t);
/* Bytes have been read from the socket that tls_read() has not given yet. */
bool tls_pending(struct tls *t);
/* Tells the peer that nothing more comes. */
void tls_end(struct tls *t);
