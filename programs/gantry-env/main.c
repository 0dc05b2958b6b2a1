/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry-env KEY=VALUE... -- COMMAND [ARGUMENT]...
 *
 * Runs inside a container, before its command, where a variable's value is no UTF-8: an OCI
 * configuration is JSON, which cannot hold such a value (src/spec/env.c).  VALUE has every byte
 * that is not printable ASCII, and '%', as %XX.  Static, since the image may hold no library.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int hex(char c)
{
	const char *digits = "0123456789abcdef", *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* In place. */
static void decode(char *s)
{
	char *to = s;

	while (*s) {
		int high = *s == '%' ? hex(s[1]) : -1, low = high >= 0 ? hex(s[2]) : -1;

		if (low >= 0) {
			*to++ = (char)(high << 4 | low);
			s += 3;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

int main(int argc, char **argv)
{
	int i = 1;

	for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
		decode(argv[i]);
		if (putenv(argv[i]) != 0) {
			fprintf(stderr, "gantry-env: %s\n", strerror(errno));
			return 126;
		}
	}
	if (i + 1 >= argc) {
		fputs("gantry-env: is run by gantry, in containers\n", stderr);
		return 2;
	}
	execvp(argv[i + 1], argv + i + 1);
	fprintf(stderr, "%s: %s\n", argv[i + 1], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
