/* SPDX-License-Identifier: Apache-2.0 */
/* TLS by OpenSSL: see tls.h. */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/mem.h"

struct tls {
	SSL *ssl;
	bool wants_write, failed;
};

static int fail(struct err *e, const char *what, const char *file)
{
	char text[256];
	unsigned long code = ERR_get_error();

	ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return err_set(e, -EINVAL, GRPC_INTERNAL, "%s %s: %s", what, file,
		       code ? text : "it cannot be read");
}

static int load(SSL_CTX *ctx, const struct tls_config *c, struct err *e)
{
	if (SSL_CTX_use_certificate_chain_file(ctx, c->cert) != 1)
		return fail(e, "TLS certificate", c->cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1)
		return fail(e, "TLS key", c->key);
	if (!c->client_ca)
		return 0;
	if (SSL_CTX_load_verify_locations(ctx, c->client_ca, NULL) != 1)
		return fail(e, "certificates of TLS clients' authorities", c->client_ca);
	SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(c->client_ca));
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

int tls_new(const struct tls_config *c, int fd, struct tls **ret, struct err *e)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	bool v13 = c->min_version && streq(c->min_version, "1.3");
	struct tls *t = xcalloc(1, sizeof(*t));
	int r = ctx ? load(ctx, c, e) : fail(e, "TLS", "cannot be set up");

	if (r == 0) {
		SSL_CTX_set_min_proto_version(ctx, v13 ? TLS1_3_VERSION : TLS1_2_VERSION);
		/* One connection: nothing is resumed, and idle buffers are given back. */
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_num_tickets(ctx, 0);
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
						 SSL_OP_NO_COMPRESSION);
		SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					      SSL_MODE_RELEASE_BUFFERS);
		t->ssl = SSL_new(ctx);
		if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1)
			r = fail(e, "TLS", "cannot be set up");
	}
	SSL_CTX_free(ctx); /* the connection holds it */
	if (r < 0) {
		tls_free(t);
		return r;
	}
	SSL_set_accept_state(t->ssl);
	*ret = t;
	return 0;
}

struct tls *tls_free(struct tls *t)
{
	if (t) {
		SSL_free(t->ssl);
		free(t);
	}
	return NULL;
}

/* After a failure nothing may be asked of the connection any more, its end not either. */
static ssize_t result(struct tls *t, int r)
{
	int why = SSL_get_error(t->ssl, r);

	t->wants_write = why == SSL_ERROR_WANT_WRITE;
	if (r > 0)
		return r;
	switch (why) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		t->failed = true;
		return errno ? -errno : -EPIPE;
	default:
		t->failed = true;
		return -EPROTO;
	}
}

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
	ERR_clear_error();
	errno = 0;
	return t->failed ? -EPIPE : result(t, SSL_read(t->ssl, p, (int)MIN(n, (size_t)INT32_MAX)));
}

ssize_t tls_write(struct tls *t, const void *p, size_t n)
{
	ssize_t r;

	ERR_clear_error();
	errno = 0;
	if (t->failed)
		return -EPIPE;
	r = result(t, SSL_write(t->ssl, p, (int)MIN(n, (size_t)INT32_MAX)));
	return r == 0 ? -EPIPE : r;
}

bool tls_wants_write(const struct tls *t)
{
	return t->wants_write;
}

bool tls_pending(struct tls *t)
{
	return !t->failed && SSL_has_pending(t->ssl);
}

void tls_end(struct tls *t)
{
	if (!t->failed && SSL_is_init_finished(t->ssl))
		SSL_shutdown(t->ssl);
	ERR_clear_error();
}
