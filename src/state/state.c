/* SPDX-License-Identifier: Apache-2.0 */
/* The index in SQLite: see state.h. */
#include "state/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "state/vfs.h"

#define LOCK_TRIES 50	   /* a killed daemon's last child may hold it for an instant */
#define LOCK_PAUSE 10000   /* microseconds */
#define OPEN_BUSY_MS 10000 /* a fold that a killed daemon began may be at its end */
#define STATE_SCHEMA 1	   /* user_version; a newer one is refused, an older one migrated */

enum { PUT_POD, PUT_CTR, DEL_POD, DEL_CTR, N_STMTS };

struct state {
	sqlite3 *db;
	sqlite3_stmt *stmt[N_STMTS];
	size_t log_bytes;
	int lock_fd;
	struct strv owed[N_STMTS]; /* ids of rows that could not be removed: the disk was full */
};

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS pods (id TEXT PRIMARY KEY, config BLOB NOT NULL,"
	" handler TEXT NOT NULL, runtime TEXT NOT NULL, boot_id TEXT NOT NULL, ips TEXT NOT NULL,"
	" created_at INTEGER NOT NULL, state INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS containers (id TEXT PRIMARY KEY,"
	" pod_id TEXT NOT NULL REFERENCES pods(id) ON DELETE CASCADE, config BLOB NOT NULL,"
	" image_id TEXT NOT NULL, image_ref TEXT NOT NULL, runtime TEXT NOT NULL,"
	" cgroup TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, extra BLOB NOT NULL,"
	" created_at INTEGER NOT NULL, started_at INTEGER NOT NULL, finished_at INTEGER NOT NULL,"
	" state INTEGER NOT NULL, exit_code INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS containers_pod ON containers(pod_id);"
	"PRAGMA user_version = 1;";

static const char *const statements[N_STMTS] = {
	[PUT_POD] = "INSERT INTO pods VALUES (?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET"
		    " config=excluded.config, handler=excluded.handler, runtime=excluded.runtime,"
		    " boot_id=excluded.boot_id, ips=excluded.ips, created_at=excluded.created_at,"
		    " state=excluded.state",
	[PUT_CTR] = "INSERT OR REPLACE INTO containers VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
	[DEL_POD] = "DELETE FROM pods WHERE id = ?",
	[DEL_CTR] = "DELETE FROM containers WHERE id = ?",
};

static int fail(struct state *s, struct err *e, const char *what)
{
	return err_set(e, -EIO, GRPC_INTERNAL, "index: %s: %s", what, sqlite3_errmsg(s->db));
}

static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct state *s = arg;

	(void)db;
	(void)name;
	s->log_bytes = (size_t)pages * 4096;
	return SQLITE_OK;
}

static int exec(struct state *s, const char *sql)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL);
}

/* 0: it has been made just now. */
static int schema_version(struct state *s)
{
	sqlite3_stmt *q = NULL;
	int version = 0;

	if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
	    sqlite3_step(q) == SQLITE_ROW)
		version = sqlite3_column_int(q, 0);
	sqlite3_finalize(q);
	return version;
}

/* Damage is what the check says, not a failure of it. */
static int check(struct state *s)
{
	sqlite3_stmt *q = NULL;
	int r = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &q, NULL);

	if (r == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW) {
		const char *said = (const char *)sqlite3_column_text(q, 0);

		r = said && streq(said, "ok") ? SQLITE_OK : SQLITE_CORRUPT;
	} else if (r == SQLITE_OK) {
		r = sqlite3_errcode(s->db);
	}
	sqlite3_finalize(q);
	return r;
}

/* A new index reaches the disk before it is used: a power cut can then take rows, not the file. */
static int make_schema(struct state *s, int version)
{
	int r = exec(s, schema);

	if (r == SQLITE_OK && version == 0)
		r = exec(s, "PRAGMA synchronous=FULL; PRAGMA wal_checkpoint(TRUNCATE);"
			    "PRAGMA synchronous=OFF");
	return r;
}

/*
 * synchronous=OFF: nothing that the daemon does waits for a disk, not even the first commit of
 * a log that is begun anew (NORMAL syncs its head; vfs.c does what that is for).  Folding, in
 * its own process, syncs.
 */
static int open_db(struct state *s, const char *path)
{
	int version = 0,
	    r = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
				state_vfs());

	sqlite3_busy_timeout(s->db, OPEN_BUSY_MS);
	/* Closing would fold too, without a sync: the log stays for the next start. */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (r == SQLITE_OK)
		r = exec(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
			    "PRAGMA wal_autocheckpoint=0; PRAGMA foreign_keys=ON;"
			    "PRAGMA cache_size=-512; PRAGMA temp_store=MEMORY");
	if (r == SQLITE_OK)
		r = check(s);
	if (r == SQLITE_OK)
		version = schema_version(s);
	if (version > STATE_SCHEMA)
		return SQLITE_MISMATCH;
	if (r == SQLITE_OK)
		r = make_schema(s, version);
	for (int i = 0; r == SQLITE_OK && i < N_STMTS; i++)
		r = sqlite3_prepare_v3(s->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &s->stmt[i], NULL);
	if (r == SQLITE_OK)
		sqlite3_wal_hook(s->db, on_commit, s);
	sqlite3_busy_timeout(s->db, 0);
	return r & 0xff;
}

static void close_db(struct state *s)
{
	for (int i = 0; i < N_STMTS; i++) {
		sqlite3_finalize(s->stmt[i]);
		s->stmt[i] = NULL;
	}
	sqlite3_close(s->db);
	s->db = NULL;
}

struct state *state_close(struct state *s)
{
	if (!s)
		return NULL;
	close_db(s);
	fd_close(s->lock_fd);
	for (int i = 0; i < N_STMTS; i++)
		strv_fini(&s->owed[i]);
	free(s);
	return NULL;
}

/* One daemon an index: a lock that the kernel drops with the process. */
static int take_lock(struct state *s, const char *path, struct err *e)
{
	_cleanup_free_ char *name = xasprintf("%s.lock", path);

	s->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return err_errno(e, -errno, "open %s", name);
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		usleep(LOCK_PAUSE);
	}
	return err_precondition(e, "%s is in use: another gantryd runs on this directory", path);
}

/* Of several the newest is kept: the disk is not filled with them. */
static void remove_damaged(const char *path)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	_cleanup_free_ char *prefix = xasprintf("%s.damaged-", slash ? slash + 1 : dir);
	DIR *d;

	if (slash)
		slash[slash == dir] = '\0';
	d = opendir(slash ? dir : ".");
	for (struct dirent *f; d && (f = readdir(d));)
		if (str_has_prefix(f->d_name, prefix))
			unlinkat(dirfd(d), f->d_name, 0);
	if (d)
		closedir(d);
}

static void move_aside(const char *path, char **ret_moved)
{
	static const char *const tails[] = {"", "-wal", "-shm"};
	char *to = xasprintf("%s.damaged-%lld", path, (long long)(clock_wall_ns() / NSEC_PER_SEC));

	remove_damaged(path);
	for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
		_cleanup_free_ char *a = xasprintf("%s%s", path, tails[i]);
		_cleanup_free_ char *b = xasprintf("%s%s", to, tails[i]);

		rename(a, b);
	}
	*ret_moved = to;
}

int state_open(const char *path, struct state **ret, char **ret_moved, struct err *e)
{
	struct state *s = xcalloc(1, sizeof(*s));
	int r;

	*ret_moved = NULL;
	s->lock_fd = -EBADF;
	r = take_lock(s, path, e);
	if (r < 0) {
		state_close(s);
		return r;
	}
	r = open_db(s, path);
	if (r == SQLITE_CORRUPT || r == SQLITE_NOTADB) {
		close_db(s);
		move_aside(path, ret_moved);
		r = open_db(s, path);
	}
	if (r != SQLITE_OK) {
		if (r == SQLITE_MISMATCH)
			r = err_precondition(e, "%s was written by a newer gantry", path);
		else
			r = fail(s, e, path);
		state_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void bind_text(sqlite3_stmt *q, int i, const char *v)
{
	sqlite3_bind_text(q, i, v ? v : "", -1, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *q, int i, const void *p, size_t n)
{
	sqlite3_bind_blob64(q, i, p ? p : "", n, SQLITE_STATIC);
}

static int step(struct state *s, int which)
{
	int r = sqlite3_step(s->stmt[which]);

	sqlite3_reset(s->stmt[which]);
	sqlite3_clear_bindings(s->stmt[which]);
	return r;
}

static int run(struct state *s, int which, const char *what, struct err *e)
{
	return step(s, which) == SQLITE_DONE ? 0 : fail(s, e, what);
}

static int remove_row(struct state *s, int which, const char *id)
{
	bind_text(s->stmt[which], 1, id);
	return step(s, which);
}

/* Rows that could not be removed before; as long as it does not work, they stay owed. */
static void pay(struct state *s)
{
	static const int which[] = {DEL_CTR, DEL_POD};

	for (size_t i = 0; i < ARRAY_SIZE(which); i++) {
		struct strv *ids = &s->owed[which[i]];

		while (ids->n > 0 && remove_row(s, which[i], ids->v[ids->n - 1]) == SQLITE_DONE) {
			free(ids->v[--ids->n]);
			ids->v[ids->n] = NULL;
		}
	}
}

/* A full disk does not keep a row: it is removed in memory, and here once there is room. */
static int remove_or_owe(struct state *s, int which, const char *id, const char *what,
			 struct err *e)
{
	int r;

	pay(s);
	r = remove_row(s, which, id) & 0xff;
	if (r == SQLITE_FULL)
		strv_add(&s->owed[which], id);
	return r == SQLITE_DONE || r == SQLITE_FULL ? 0 : fail(s, e, what);
}

int state_put_pod(struct state *s, const struct state_pod *p, struct err *e)
{
	sqlite3_stmt *q = s->stmt[PUT_POD];

	pay(s);
	bind_text(q, 1, p->id);
	bind_blob(q, 2, p->config, p->config_len);
	bind_text(q, 3, p->handler);
	bind_text(q, 4, p->runtime);
	bind_text(q, 5, p->boot_id);
	bind_text(q, 6, p->ips);
	sqlite3_bind_int64(q, 7, p->created_at);
	sqlite3_bind_int(q, 8, p->state);
	return run(s, PUT_POD, "record pod", e);
}

int state_put_container(struct state *s, const struct state_container *c, struct err *e)
{
	sqlite3_stmt *q = s->stmt[PUT_CTR];

	pay(s);
	bind_text(q, 1, c->id);
	bind_text(q, 2, c->pod_id);
	bind_blob(q, 3, c->config, c->config_len);
	bind_text(q, 4, c->image_id);
	bind_text(q, 5, c->image_ref);
	bind_text(q, 6, c->runtime);
	bind_text(q, 7, c->cgroup);
	bind_text(q, 8, c->reason);
	bind_text(q, 9, c->message);
	bind_blob(q, 10, c->extra, c->extra_len);
	sqlite3_bind_int64(q, 11, c->created_at);
	sqlite3_bind_int64(q, 12, c->started_at);
	sqlite3_bind_int64(q, 13, c->finished_at);
	sqlite3_bind_int(q, 14, c->state);
	sqlite3_bind_int(q, 15, c->exit_code);
	return run(s, PUT_CTR, "record container", e);
}

int state_remove_pod(struct state *s, const char *id, struct err *e)
{
	return remove_or_owe(s, DEL_POD, id, "remove pod", e);
}

int state_remove_container(struct state *s, const char *id, struct err *e)
{
	return remove_or_owe(s, DEL_CTR, id, "remove container", e);
}

static const char *text(sqlite3_stmt *q, int i)
{
	const char *v = (const char *)sqlite3_column_text(q, i);

	return v ? v : "";
}

static int call_pod(sqlite3_stmt *q, state_pod_fn *fn, void *arg)
{
	struct state_pod p = {
		.id = text(q, 0),
		.config = sqlite3_column_blob(q, 1),
		.config_len = (size_t)sqlite3_column_bytes(q, 1),
		.handler = text(q, 2),
		.runtime = text(q, 3),
		.boot_id = text(q, 4),
		.ips = text(q, 5),
		.created_at = sqlite3_column_int64(q, 6),
		.state = sqlite3_column_int(q, 7),
	};

	return fn(arg, &p);
}

static int call_container(sqlite3_stmt *q, state_container_fn *fn, void *arg)
{
	struct state_container c = {
		.id = text(q, 0),
		.pod_id = text(q, 1),
		.config = sqlite3_column_blob(q, 2),
		.config_len = (size_t)sqlite3_column_bytes(q, 2),
		.image_id = text(q, 3),
		.image_ref = text(q, 4),
		.runtime = text(q, 5),
		.cgroup = text(q, 6),
		.reason = text(q, 7),
		.message = text(q, 8),
		.extra = sqlite3_column_blob(q, 9),
		.extra_len = (size_t)sqlite3_column_bytes(q, 9),
		.created_at = sqlite3_column_int64(q, 10),
		.started_at = sqlite3_column_int64(q, 11),
		.finished_at = sqlite3_column_int64(q, 12),
		.state = sqlite3_column_int(q, 13),
		.exit_code = sqlite3_column_int(q, 14),
	};

	return fn(arg, &c);
}

static int each(struct state *s, const char *sql, state_pod_fn *pod, state_container_fn *ctr,
		void *arg, struct err *e)
{
	sqlite3_stmt *q = NULL;
	int r, got;

	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
		return fail(s, e, "read");
	for (r = 0; r >= 0 && (got = sqlite3_step(q)) == SQLITE_ROW;)
		r = pod ? call_pod(q, pod, arg) : call_container(q, ctr, arg);
	if (r >= 0 && got != SQLITE_DONE)
		r = fail(s, e, "read");
	else if (r < 0)
		err_set(e, r, GRPC_INTERNAL, "index: a row could not be taken over");
	sqlite3_finalize(q);
	return r < 0 ? r : 0;
}

int state_each_pod(struct state *s, state_pod_fn *fn, void *arg, struct err *e)
{
	return each(s, "SELECT * FROM pods ORDER BY created_at, id", fn, NULL, arg, e);
}

int state_each_container(struct state *s, state_container_fn *fn, void *arg, struct err *e)
{
	return each(s, "SELECT * FROM containers ORDER BY created_at, id", NULL, fn, arg, e);
}

size_t state_log_bytes(const struct state *s)
{
	return s->log_bytes;
}

int state_checkpoint(const char *path, struct err *e)
{
	struct state s = {.lock_fd = -EBADF};
	int r = 0;

	if (sqlite3_open_v2(path, &s.db, SQLITE_OPEN_READWRITE, state_vfs()) != SQLITE_OK ||
	    exec(&s, "PRAGMA synchronous=FULL") != SQLITE_OK ||
	    sqlite3_wal_checkpoint_v2(s.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) !=
		    SQLITE_OK)
		r = fail(&s, e, "fold the log");
	sqlite3_close(s.db);
	return r;
}
