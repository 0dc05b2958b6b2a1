/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a Sec-WebSocket-Key.  Of its own: the only place here that needs libcrypto. */
#include <openssl/evp.h>
#include <string.h>

#include "wire/websocket.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define KEY_LEN 24				    /* 16 bytes in base64 */
#define SHA1_SIZE 20

static bool is_key(const char *key)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";

	return strnlen(key, WS_NONCE_MAX) == KEY_LEN && strspn(key, digits) == KEY_LEN - 2 &&
	       streq(key + KEY_LEN - 2, "==");
}

bool ws_accept(const char *key, char ret[WS_ACCEPT_MAX])
{
	char text[KEY_LEN + sizeof(GUID)];
	uint8_t sum[SHA1_SIZE];

	_Static_assert(WS_ACCEPT_MAX == (SHA1_SIZE + 2) / 3 * 4 + 1, "SHA-1 in base64");
	if (!is_key(key))
		return false;
	memcpy(text, key, KEY_LEN);
	memcpy(text + KEY_LEN, GUID, sizeof(GUID));
	if (EVP_Digest(text, strlen(text), sum, NULL, EVP_sha1(), NULL) != 1)
		return false;
	EVP_EncodeBlock((unsigned char *)ret, sum, sizeof(sum));
	return true;
}
