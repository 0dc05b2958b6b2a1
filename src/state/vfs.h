/* SPDX-License-Identifier: Apache-2.0 */
/* Private to state/: the file system that SQLite sees. */
#pragma once

/* The name, for sqlite3_open_v2(), of the default one, whose write-ahead logs are emptied before
 * they are begun anew: see vfs.c.  Static; NULL where SQLite has no memory. */
const char *state_vfs(void);
