/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for fuzz targets that make files; it goes with the process. */
#pragma once

#include <fcntl.h>
#include <stdlib.h>

#include "base/fs.h"

static char fuzz_top[] = "/tmp/gantry-fuzz-XXXXXX";

static void fuzz_top_remove(void)
{
	fs_remove_tree(AT_FDCWD, fuzz_top);
}

/* Made; a descriptor of it. */
static int fuzz_top_make(void)
{
	if (!mkdtemp(fuzz_top))
		abort();
	atexit(fuzz_top_remove);
	return open(fuzz_top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}
