/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmark's containers run, and the peer's sandboxes: waits to be told to end.
 * `pause lines N` writes N numbered lines of LINE bytes instead, in blocks, as stdio does to a
 * pipe, and ends.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 100
#define BLOCK 4096

static void end(int signo)
{
	(void)signo;
	_exit(0);
}

static int write_all(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(STDOUT_FILENO, p, n);

		if (w <= 0)
			return 1;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int lines(long n)
{
	char block[BLOCK + LINE + 1];
	size_t len = 0;

	for (long i = 0; i < n; i++) {
		int k = snprintf(block + len, LINE + 1, "%012ld ", i);

		memset(block + len + k, 'x', LINE - 1 - (size_t)k);
		block[len + LINE - 1] = '\n';
		len += LINE;
		if (len < BLOCK)
			continue;
		if (write_all(block, BLOCK) != 0)
			return 1;
		len -= BLOCK;
		memmove(block, block + BLOCK, len);
	}
	return write_all(block, len);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "lines") == 0)
		return lines(atol(argv[2]));
	signal(SIGTERM, end);
	signal(SIGINT, end);
	/* From here on it can be told: process 1 of a PID namespace ignores what it has no
	 * handler for. */
	if (write(STDOUT_FILENO, "up\n", 3) != 3)
		return 1;
	for (;;)
		pause();
}
