/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark's containers run, and the peer's sandboxes: waits to be told to end. */
#include <signal.h>
#include <unistd.h>

static void end(int signo)
{
	(void)signo;
	_exit(0);
}

int main(void)
{
	signal(SIGTERM, end);
	signal(SIGINT, end);
	/* From here on it can be told: process 1 of a PID namespace ignores what it has no
	 * handler for. */
	if (write(STDOUT_FILENO, "up\n", 3) != 3)
		return 1;
	for (;;)
		pause();
}
