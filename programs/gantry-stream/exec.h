/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session of remotecommand: the streams of a command, or of a container that the client is
 * attached to.  Kubernetes' streams: error, stdin, stdout, stderr, resize.
 */
#pragma once

#include "server.h"

/* Takes what STREAM_OPEN answered; sv->mux is there. */
void exec_begin(struct server *sv, const struct ipc_in *in);
