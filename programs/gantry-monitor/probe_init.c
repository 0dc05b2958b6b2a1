/* SPDX-License-Identifier: Apache-2.0 */
/* In sanitizer builds, whose monitor is not static: the first process of a runtime's probe, which ends,
 * and of pods' sandbox containers, which waits for ever. */
#include <string.h>
#include <unistd.h>

#include "runtime/trial.h"

int main(int argc, char **argv)
{
	while (argc > 1 && strcmp(argv[1], "--init") == 0)
		pause();
	return argc > 1 && strcmp(argv[1], TRIAL_FILTERED) == 0 ? trial_filtered() : 0;
}
