/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to a Sec-WebSocket-Key.  SHA-1 (RFC 3174) keeps nothing secret here, it shows that the
 * key was read as one; libcrypto for it would cost each gantry-stream 0.5 MB and 3 ms.
 */
#include <string.h>

#include "base/str.h"
#include "wire/websocket.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define KEY_LEN 24				    /* 16 bytes in base64 */
#define TEXT_LEN (KEY_LEN + sizeof(GUID) - 1)
#define SHA1_SIZE 20
#define SHA1_BLOCK 64

static uint32_t rotate(uint32_t v, unsigned n)
{
	return v << n | v >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t block[SHA1_BLOCK])
{
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

	for (unsigned t = 0; t < 16; t++)
		w[t] = (uint32_t)block[t * 4] << 24 | (uint32_t)block[t * 4 + 1] << 16 |
		       (uint32_t)block[t * 4 + 2] << 8 | block[t * 4 + 3];
	for (unsigned t = 16; t < 80; t++)
		w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	for (unsigned t = 0; t < 80; t++) {
		uint32_t f = t < 20   ? ((b & c) | (~b & d)) + 0x5a827999
			     : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1
			     : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
				      : (b ^ c ^ d) + 0xca62c1d6,
			 next = rotate(a, 5) + f + e + w[t];

		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = next;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

/* Of a text of TEXT_LEN bytes, which with its padding makes two blocks. */
static void sha1(const char *text, uint8_t ret[SHA1_SIZE])
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	uint8_t blocks[2 * SHA1_BLOCK] = {0};

	_Static_assert(TEXT_LEN >= SHA1_BLOCK - 8 && TEXT_LEN < SHA1_BLOCK, "two blocks");
	memcpy(blocks, text, TEXT_LEN);
	blocks[TEXT_LEN] = 0x80;
	blocks[sizeof(blocks) - 2] = (uint8_t)(TEXT_LEN * 8 >> 8);
	blocks[sizeof(blocks) - 1] = (uint8_t)(TEXT_LEN * 8);
	sha1_block(h, blocks);
	sha1_block(h, blocks + SHA1_BLOCK);
	for (unsigned i = 0; i < SHA1_SIZE; i++)
		ret[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

static bool is_key(const char *key)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";

	return strnlen(key, WS_NONCE_MAX) == KEY_LEN && strspn(key, digits) == KEY_LEN - 2 &&
	       streq(key + KEY_LEN - 2, "==");
}

bool ws_accept(const char *key, char ret[WS_ACCEPT_MAX])
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char text[TEXT_LEN + 1];
	uint8_t sum[SHA1_SIZE];

	_Static_assert(WS_ACCEPT_MAX == (SHA1_SIZE + 2) / 3 * 4 + 1, "SHA-1 in base64");
	if (!is_key(key))
		return false;
	memcpy(text, key, KEY_LEN);
	memcpy(text + KEY_LEN, GUID, sizeof(GUID));
	sha1(text, sum);
	strbuf_add_base64(&b, sum, sizeof(sum));
	memcpy(ret, b.s, WS_ACCEPT_MAX);
	return true;
}
