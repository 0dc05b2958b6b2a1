/* SPDX-License-Identifier: Apache-2.0 */
/* The pieces of gRPC that are neither HTTP/2 nor protobuf: see grpc.h. */
#include "wire/grpc.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

#define TIMEOUT_DIGITS_MAX UINT64_C(99999999)

void grpc_put_prefix(uint8_t p[GRPC_PREFIX], uint32_t len)
{
	p[0] = 0;
	p[1] = (uint8_t)(len >> 24);
	p[2] = (uint8_t)(len >> 16);
	p[3] = (uint8_t)(len >> 8);
	p[4] = (uint8_t)len;
}

uint32_t grpc_get_length(const uint8_t p[GRPC_PREFIX])
{
	return (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
}

bool grpc_parse_timeout(const char *s, size_t n, uint64_t *ret_us)
{
	uint64_t v = 0;

	if (n < 2 || n > 9) /* at most 8 digits and the unit */
		return false;
	for (size_t i = 0; i < n - 1; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	switch (s[n - 1]) {
	case 'H':
		*ret_us = v * 3600 * USEC_PER_SEC;
		return true;
	case 'M':
		*ret_us = v * 60 * USEC_PER_SEC;
		return true;
	case 'S':
		*ret_us = v * USEC_PER_SEC;
		return true;
	case 'm':
		*ret_us = v * USEC_PER_MS;
		return true;
	case 'u':
		*ret_us = v;
		return true;
	case 'n':
		*ret_us = (v + 999) / 1000;
		return true;
	default:
		return false;
	}
}

char *grpc_format_timeout(uint64_t us, char buf[GRPC_TIMEOUT_LEN])
{
	static const struct {
		uint64_t us;
		char unit;
	} units[] = {{1, 'u'},
		     {USEC_PER_MS, 'm'},
		     {USEC_PER_SEC, 'S'},
		     {60 * USEC_PER_SEC, 'M'},
		     {3600 * USEC_PER_SEC, 'H'}};
	size_t i = 0;
	uint64_t v = us;

	while (v > TIMEOUT_DIGITS_MAX && ++i < ARRAY_SIZE(units))
		v = us / units[i].us + (us % units[i].us != 0);
	if (i == ARRAY_SIZE(units)) { /* eleven thousand years will do */
		v = TIMEOUT_DIGITS_MAX;
		i--;
	}
	snprintf(buf, GRPC_TIMEOUT_LEN, "%" PRIu64 "%c", v, units[i].unit);
	return buf;
}

void grpc_encode_message(const char *s, struct strbuf *to)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 0x20 && c <= 0x7e && c != '%')
			strbuf_addc(to, (char)c);
		else
			strbuf_addf(to, "%%%02X", c);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

void grpc_decode_message(const char *s, size_t n, struct strbuf *to)
{
	for (size_t i = 0; i < n; i++) {
		int hi = -1, lo = -1;

		if (s[i] == '%' && i + 2 < n) {
			hi = hex_digit(s[i + 1]);
			lo = hex_digit(s[i + 2]);
		}
		if (hi >= 0 && lo >= 0) {
			strbuf_addc(to, (char)(hi << 4 | lo));
			i += 2;
		} else {
			strbuf_addc(to, s[i]);
		}
	}
}
