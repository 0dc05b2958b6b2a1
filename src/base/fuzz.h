/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz targets: a file fuzz-NAME.c beside the code that it feeds, with this one function.
 *
 *	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
 *	{
 *		...	what the code makes of these bytes; abort() where it breaks its contract
 *		return 0;
 *	}
 *
 * meson.build beside it, with everything else that it needs as dependencies:
 *
 *	if fuzzing
 *	  fuzz_targets += executable('fuzz-NAME', 'fuzz-NAME.c', dependencies: dep_x, kwargs: fuzz_kwargs)
 *	endif
 *
 * Seeds are files in tests/fuzz/seeds/NAME/, words of the format in tests/fuzz/NAME.dict; both may
 * be missing.  `tests/fuzz/run` builds and runs them; what it finds becomes a seed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* For a condition that no input may break. */
#define FUZZ_ASSERT(cond)                                                                          \
	do {                                                                                       \
		if (!(cond))                                                                       \
			__builtin_trap();                                                          \
	} while (0)
