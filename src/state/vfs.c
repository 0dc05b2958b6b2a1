/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that is begun anew without a sync, and a power cut.
 *
 * SQLite begins a folded log anew by writing over it from its start.  Without a sync of the
 * new head a disk may keep the old head, frames of the old log behind it, and a new frame
 * anywhere: what is then read back of the old log are pages that are older than the database,
 * in a database that is newer, which is damage.  SQLite syncs the head for that reason, but for
 * synchronous=OFF, and here nothing may wait for a disk.
 *
 * A log that is emptied first has its new bytes in new blocks.  Until the file system has made
 * its new length last, the whole old log is there, and reading it back changes nothing; after
 * that, there is nothing of the old one, and the checksums end the log at the first frame that
 * did not reach the disk.
 */
#include "state/vfs.h"

#include <sqlite3.h>
#include <stddef.h>

static sqlite3_vfs *base, emptying;
static const sqlite3_io_methods *base_log;
static sqlite3_io_methods log_methods;

static int write_log(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int r = at == 0 ? base_log->xTruncate(f, 0) : SQLITE_OK;

	return r == SQLITE_OK ? base_log->xWrite(f, p, n, at) : r;
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	int r = base->xOpen(vfs, name, f, flags, ret_flags);

	if (r != SQLITE_OK || !(flags & SQLITE_OPEN_WAL))
		return r;
	base_log = f->pMethods; /* of all logs alike */
	log_methods = *base_log;
	log_methods.xWrite = write_log;
	f->pMethods = &log_methods;
	return r;
}

const char *state_vfs(void)
{
	if (base)
		return emptying.zName;
	base = sqlite3_vfs_find(NULL);
	if (!base)
		return NULL;
	emptying = *base;
	emptying.zName = "gantry";
	emptying.xOpen = open_file;
	if (sqlite3_vfs_register(&emptying, 0) == SQLITE_OK)
		return emptying.zName;
	base = NULL;
	return NULL;
}
