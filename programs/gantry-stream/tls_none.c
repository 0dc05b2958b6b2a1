/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of gantry-stream, which has no TLS: it is what nearly every connection has, and OpenSSL would
 * make its memory four times as much.  gantry-stream-tls is the same program with it.
 */
#include "base/mem.h"
#include "tls.h"

int tls_new(const struct tls_config *c, int fd, struct tls **ret, struct err *e)
{
	return err_set(e, -EOPNOTSUPP, GRPC_INTERNAL, "gantry-stream-tls is the program with TLS");
}

struct tls *tls_free(struct tls *t)
{
	return NULL;
}

/* There is no struct tls that they could be called with. */

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
	abort();
}

ssize_t tls_write(struct tls *t, const void *p, size_t n)
{
	abort();
}

bool tls_wants_write(const struct tls *t)
{
	abort();
}

bool tls_pending(struct tls *t)
{
	abort();
}

void tls_end(struct tls *t)
{
	abort();
}
