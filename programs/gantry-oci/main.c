/* SPDX-License-Identifier: Apache-2.0 */
/* gantry-oci: see oci.h. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "oci.h"
#include "wire/json.h"

#define DEFAULT_ROOT "/run/gantry-oci"
#define PROGRAM "gantry-oci"

/* Callers read the cause of a failure from there; formats are those of runc and crun. */
static void log_failure(const struct oci *o, const char *msg)
{
	_cleanup_close_ int fd = open(o->line.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	char when[CLOCK_RFC3339_LEN];
	struct jw w = JW_INIT(&b);

	if (fd < 0)
		return;
	clock_rfc3339(clock_wall_ns(), when);
	if (o->line.log_format && streq(o->line.log_format, "json")) {
		jw_object_begin(&w);
		jw_key_string(&w, "level", "error");
		jw_key_string(&w, "msg", msg);
		jw_key_string(&w, "time", when);
		jw_object_end(&w);
	} else {
		strbuf_addf(&b, "time=\"%s\" level=error msg=", when);
		jw_string(&w, msg);
	}
	strbuf_addc(&b, '\n');
	(void)fs_write_all(fd, b.s, b.len);
}

int oci_fail(const struct oci *o, const struct err *e)
{
	_cleanup_free_ char *line = xasprintf(PROGRAM ": %s\n", e->msg);
	_cleanup_free_ char *msg = xasprintf(PROGRAM ": %s", e->msg);
	bool exec = o->line.verb && streq(o->line.verb->name, "exec");

	(void)fs_write_all(STDERR_FILENO, line, strlen(line));
	if (o->line.log)
		log_failure(o, msg);
	return exec ? EXIT_EXEC_FAILED : EXIT_FAILED;
}

int oci_configure(struct oci *o, struct err *e)
{
	const char *env = getenv("GANTRY_CONFIG");
	struct config_flags flags = {.file = o->line.config   ? o->line.config
					     : str_empty(env) ? NULL
							      : env};
	int r = o->configured ? 0 : config_load(&flags, &o->config, e);

	o->configured |= r == 0;
	return r;
}

void oci_print(const struct strbuf *b)
{
	int r = b->len ? fs_write_all(STDOUT_FILENO, b->s, b->len) : 0;

	if (r < 0 && r != -EPIPE)
		fprintf(stderr, PROGRAM ": cannot write to standard output: %s\n", strerror(-r));
	if (r < 0)
		exit(EXIT_FAILED);
}

/* Where records are where the runtimes keep containers each at a place of its own. */
const char *oci_default_root(void)
{
	static char path[PATH_MAX];
	const char *user = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0 || str_empty(user))
		return DEFAULT_ROOT;
	snprintf(path, sizeof(path), "%s/gantry-oci", user);
	return path;
}

static int dispatch(struct oci *o, int argc, char **argv)
{
	const struct oci_verb *v = o->line.verb;

	if (v && v->kind == VERB_COMPLETE)
		return help_complete(argc, argv);
	if (o->line.version && !v)
		return help_version();
	if (o->line.help || (v && v->kind == VERB_HELP)) /* of that command, or all */
		return help_verb(o);
	if (!v) {
		(void)help_verb(o);
		return EXIT_FAILED;
	}
	switch (v->kind) {
	case VERB_MAKE:
		return make_command(o);
	case VERB_DELETE:
		return owner_delete(o);
	case VERB_LIST:
		return join_list(o);
	case VERB_FEATURES:
		return join_features(o);
	case VERB_COMPLETION:
		return help_completion(o);
	default:
		return owner_command(o);
	}
}

/* A record must not be opened as a standard stream.  The runtime gets those that were closed closed. */
static void open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	fd_close(fd);
}

int main(int argc, char **argv)
{
	struct oci o = {0};
	struct err e = ERR_NULL;
	int r;

	open_standard();
#ifdef GANTRY_TEST_HOOKS
	if (argc == 2 && streq(argv[1], "--fault-points"))
		return fault_print_points();
#endif
	r = cmdline_parse(argc, argv, &o.line, &e);
	o.root = o.line.root ? o.line.root : oci_default_root();
	r = r < 0 ? oci_fail(&o, &e) : dispatch(&o, argc, argv);
	if (o.configured)
		config_fini(&o.config);
	arena_fini(&o.arena);
	cmdline_fini(&o.line);
	return r;
}
