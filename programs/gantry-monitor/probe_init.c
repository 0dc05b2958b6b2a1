/* SPDX-License-Identifier: Apache-2.0 */
/* In sanitizer builds, whose monitor is not static: the first process of a runtime's probe, which ends,
 * and of pods' sandbox containers, which waits for ever. */
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	while (argc > 1 && strcmp(argv[1], "--init") == 0)
		pause();
	return 0;
}
