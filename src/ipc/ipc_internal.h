/* SPDX-License-Identifier: Apache-2.0 */
/* What ipc.c and conn.c share. */
#pragma once

#include <sys/types.h>

#include "ipc/ipc.h"

#define IPC_MAGIC 0x47414e31u /* "GAN1": changes with the header, never with the fields */

struct ipc_header {
	uint32_t magic;
	uint32_t len; /* of the body */
	uint32_t seq;
	uint16_t type;
	uint16_t n_fds;
};

struct ipc_field_header {
	uint16_t tag;
	uint16_t reserved;
	uint32_t len;
};

/* Writes length and number of descriptors. -EMSGSIZE: too large, finished. */
int ipc_out_seal(struct ipc_out *o);
int ipc_header_check(const struct ipc_header *h);
/* One sendmsg/recvmsg from an offset; descriptors go with the first byte. -errno. */
ssize_t ipc_send_part(int fd, const struct ipc_out *o, size_t off, int flags);
ssize_t ipc_recv_part(int fd, void *p, size_t n, int flags, int *fds, unsigned *n_fds,
		      unsigned max);

/* A call that waits for its reply; woken once, by the reply or the end of the connection. */
struct ipc_pending {
	struct list link;
	uint32_t seq;
	bool done, lost;
	struct ipc_in in;
	void (*wake)(struct ipc_pending *p);
};
