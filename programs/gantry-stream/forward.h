/* SPDX-License-Identifier: Apache-2.0 */
/* A port-forward: pairs of streams, one of data and one of errors, each for a connection. */
#pragma once

#include "server.h"

/* Takes what STREAM_OPEN answered; `query`: ports that the request names itself. */
void forward_begin(struct server *sv, const struct ipc_in *in, const uint16_t *query,
		   unsigned n_query);
