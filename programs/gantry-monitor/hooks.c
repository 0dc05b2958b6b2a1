/* SPDX-License-Identifier: Apache-2.0 */
/* See hooks.h. */
#include "hooks.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/runtime.h"
#include "tree.h"
#include "wire/json.h"

#define OUTPUT_LOOK_MAX (1u << 20) /* bytes of what hooks print that are looked at */
#define CONFIG_MAX (32u << 20)	   /* bytes of a config.json */
#define UNMADE_ROUNDS 100	   /* of ending what forks meanwhile */
#define UNMADE_PAUSE 2000	   /* microseconds */
#define PROGRAMS_MAX 3		   /* that a message names */

static void add_programs(const jv *list, struct strbuf *b, unsigned *n)
{
	for (size_t i = 0; i < jv_len(list) && *n < PROGRAMS_MAX; i++, (*n)++)
		strbuf_addf(b, "%s%.120s", *n ? ", " : "", jv_string(jv_at(list, i), "path", "?"));
}

void hooks_begin(struct hooks *h, const char *dir)
{
	_cleanup_free_ char *output = xasprintf("%s/" HOOKS_OUTPUT, dir),
			    *config = xasprintf("%s/config.json", dir);
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL, programs = STRBUF_NULL;
	struct jv_iter it = JV_ITER_INIT;
	_cleanup_jv_ jv *doc = NULL;
	unsigned n = 0;

	*h = (struct hooks){.dir = dir};
	/* Most have none: that is seen without parsing. */
	if (fs_read(AT_FDCWD, config, CONFIG_MAX, &text) < 0 || !text.s ||
	    !strstr(text.s, "\"hooks\"") ||
	    jv_parse(text.s, text.len, CONFIG_MAX, "config.json", &doc, NULL) < 0)
		return;
	while (jv_next(jv_get(doc, "hooks"), &it))
		add_programs(it.value, &programs, &n);
	h->any = n > 0;
	h->first = strbuf_take(&programs);
	if (h->any)
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)unlink(output);
}

/* The last words of what hooks have printed, on one line, as text; owned, NULL: none. */
static char *words(const struct hooks *h)
{
	_cleanup_free_ char *path = xasprintf("%s/" HOOKS_OUTPUT, h->dir);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	char *s;

	if (size <= 0)
		return NULL;
	(void)lseek(fd, MAX(size - HOOKS_WORDS_MAX, 0), SEEK_SET);
	(void)fs_read_fd(fd, OUTPUT_LOOK_MAX, &b);
	while (b.len && isspace((unsigned char)b.s[b.len - 1]))
		b.s[--b.len] = '\0';
	if (!b.len)
		return NULL;
	b.s[MIN(b.len, HOOKS_WORDS_MAX)] = '\0';
	for (s = b.s; *s; s++)
		if (!isprint((unsigned char)*s))
			*s = ' ';
	return strbuf_take(&b);
}

static void done(struct hooks *h)
{
	free(h->first);
	*h = (struct hooks){0};
}

int hooks_end(struct hooks *h, int r, struct err *e)
{
	static const struct tree below = {0};
	_cleanup_free_ char *said = h->any && r < 0 ? words(h) : NULL;
	size_t len = e ? strlen(e->msg) : 0;

	if (h->any && r < 0)
		tree_kill(&below, NULL, NULL);
	if (e && said && !strstr(e->msg, said))
		snprintf(e->msg + len, sizeof(e->msg) - len, "; the hook said: %s", said);
	else if (e && h->any && r == -ETIMEDOUT)
		snprintf(e->msg + len, sizeof(e->msg) - len, "; it has hooks: %s", h->first);
	done(h);
	return r;
}

/* Those whose working directory that is, by what it is and not by its name. */
static unsigned kill_in(const struct stat *dir)
{
	DIR *d = opendir("/proc");
	const struct dirent *ent;
	unsigned found = 0;
	uint64_t pid;

	while (d && (ent = readdir(d))) {
		char path[48];
		struct stat st;

		if (!str_to_u64(ent->d_name, &pid) || pid >= INT32_MAX || (pid_t)pid == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
		if (stat(path, &st) == 0 && st.st_dev == dir->st_dev && st.st_ino == dir->st_ino &&
		    kill((pid_t)pid, SIGKILL) == 0)
			found++;
	}
	if (d)
		closedir(d);
	return found;
}

void hooks_end_unmade(const struct hooks *h)
{
	_cleanup_free_ char *made = xasprintf("%s/pid", h->dir); /* record_pid() */
	struct stat st;

	if (!h->any || fs_exists(AT_FDCWD, made) || stat(h->dir, &st) < 0)
		return;
	for (int i = 0; i < UNMADE_ROUNDS && kill_in(&st); i++)
		usleep(UNMADE_PAUSE);
}

void hooks_end_deleted(struct hooks *h, const char *id, const char *log, int r)
{
	static const struct tree below = {0};
	_cleanup_free_ char *said = h->any ? words(h) : NULL,
			    *message = h->any ? runtime_last_message(log) : NULL;

	if (h->any && r < 0)
		tree_kill(&below, NULL, NULL);
	log_init("gantry-monitor", LOG_LEVEL_INFO);
	if (message && strstr(message, "hook"))
		log_warn("container %s: poststop: %.600s%s%s", id, message,
			 said ? "; the hook said: " : "", said ? said : "");
	else if (r == -ETIMEDOUT && h->any)
		log_warn("container %s: it is removed without its poststop hooks' end; it has "
			 "hooks: "
			 "%s",
			 id, h->first);
	else if (said) /* crun does not say whether they have failed */
		log_info("container %s: its hooks said at its end: %s", id, said);
	done(h);
}
