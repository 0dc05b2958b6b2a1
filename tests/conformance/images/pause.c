/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox process of the test images: sleeps until it is told to go,
 * and reaps what is left to it when it is process 1 of a shared PID namespace. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int sig) { (void)sig; _exit(0); }

static void reap(int sig)
{
	(void)sig;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction s = {.sa_handler = leave};
	if (sigaction(SIGINT, &s, NULL) < 0 || sigaction(SIGTERM, &s, NULL) < 0)
		return 1;
	s.sa_handler = reap;
	s.sa_flags = SA_NOCLDSTOP;
	if (sigaction(SIGCHLD, &s, NULL) < 0)
		return 1;
	for (;;)
		pause();
}
