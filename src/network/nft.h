/* SPDX-License-Identifier: Apache-2.0 */
/* The instance's nftables table "inet INSTANCE", by the nft command. */
#pragma once

#include "network/network_internal.h"

/* FAILED_PRECONDITION where there is no nft. */
int nft_available(struct err *e);
/* Runs a script, all or nothing. -EEXIST, -ENOENT: an element, set or table is there, is not. */
int nft_run(const char *script, int cancel_fd, struct err *e);
/* The commands that make the table's maps, sets and chains what they should be, whatever is
 * there; elements of the maps stay.  Appended. */
void nft_put_table(const struct network_config *c, struct strbuf *to);
