/* SPDX-License-Identifier: Apache-2.0 */
/* The dictionary of SPDY's header compression. */
#pragma once

#define SPDY_DICTIONARY_SIZE 1423

extern const char spdy_dictionary[SPDY_DICTIONARY_SIZE + 1];
