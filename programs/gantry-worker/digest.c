/* SPDX-License-Identifier: Apache-2.0 */
/* Digests and chain ids: see worker.h. */
#include <openssl/evp.h>
#include <string.h>

#include "base/id.h"
#include "base/mem.h"
#include "worker.h"

void digest_of(const void *p, size_t n, char ret[72])
{
	uint8_t hash[EVP_MAX_MD_SIZE];

	EVP_Digest(p, n, hash, NULL, EVP_sha256(), NULL);
	memcpy(ret, "sha256:", 7);
	hex_encode(hash, 32, ret + 7);
}

int digest_of_file(int fd, char ret[72])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	static uint8_t buf[64u << 10];
	uint8_t hash[EVP_MAX_MD_SIZE];
	ssize_t n;
	int r;

	if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		abort();
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		EVP_DigestUpdate(md, buf, (size_t)n);
	r = n < 0 ? -errno : 0;
	EVP_DigestFinal_ex(md, hash, NULL);
	EVP_MD_CTX_free(md);
	memcpy(ret, "sha256:", 7);
	hex_encode(hash, 32, ret + 7);
	return r;
}

int digest_check(const void *p, size_t n, const char *want, const char *what, struct err *e)
{
	char got[72];

	digest_of(p, n, got);
	if (streq(got, want))
		return 0;
	return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "%s: its digest is %s, expected %s", what, got,
		       want);
}

void chain_next(const char *parent, const char *diff_id, char ret[72])
{
	char both[160];

	if (str_empty(parent)) {
		snprintf(ret, 72, "%s", diff_id);
		return;
	}
	snprintf(both, sizeof(both), "%s %s", parent, diff_id);
	digest_of(both, strlen(both), ret);
}

void chain_name(const char *chain_id, char ret[33])
{
	snprintf(ret, 33, "%.32s", chain_id + strlen("sha256:"));
}
